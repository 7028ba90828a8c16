// Files that killed runs left half-written, under names that no reader takes for more. Only for the holder of the lock.

import { join } from 'node:path';
import { AgentError } from '../errors.ts';
import { type Host, TEMPORARY_SUFFIX } from './host.ts';

/** All of a folder, or those that were to become `of`. Where nothing can be written, what is in sync is so all the same. */
export async function removeTemporaries(host: Host, folder: string, of?: string): Promise<void> {
  const start = of === undefined ? '' : `.${of}.`;
  try {
    for (const name of await host.list(folder))
      if (name.startsWith(start) && name.endsWith(TEMPORARY_SUFFIX)) await host.remove(join(folder, name));
  } catch (error) {
    if (!(error instanceof AgentError)) throw error;
  }
}
