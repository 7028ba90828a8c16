// Files that killed runs left half-written, under names that no reader takes for more. Only for the holder of the lock.

import { lstatSync } from 'node:fs';
import { join } from 'node:path';
import { AgentError } from '../base/errors.ts';
import { type Host, TEMPORARY_SUFFIX } from './host.ts';
import { tolerate } from './process.ts';

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

/** By the names of all versions: 1.0 gave eight digits, and mode 0666. */
const PUSHED = /^\.push-([0-9a-f]{16}-)?[0-9a-f]{8}\.yaml$/;
/** A push takes minutes; one that has its file taken away under it says so, and nothing is changed. */
const ABANDONED_MS = 3_600_000;

/** What a push from the hypervisor host that was killed left beside the configuration. */
export async function removePushed(host: Host, folder: string): Promise<void> {
  try {
    for (const name of await host.list(folder)) {
      if (!PUSHED.test(name)) continue;
      const written = tolerate(['ENOENT'], () => lstatSync(join(folder, name)).mtimeMs);
      if (written !== undefined && Date.now() - written > ABANDONED_MS) await host.remove(join(folder, name));
    }
  } catch (error) {
    if (!(error instanceof AgentError)) throw error;
  }
}
