// What somebody has said in sysctl.d(5), whoever it was.

import { join } from 'node:path';
import { AgentError } from '../base/errors.ts';
import type { Host } from './host.ts';

/** A file hides those of the same name in the folders after its own. */
const FOLDERS = ['/etc/sysctl.d', '/run/sysctl.d', '/usr/local/lib/sysctl.d', '/usr/lib/sysctl.d', '/lib/sysctl.d'];

const DISABLES_IPV6 = /^[ \t]*-?net[./]ipv6[./]conf[./][^=\n]*\bdisable_ipv6[ \t]*=/m;

/** Whether it says of any link, or of all, whether that has IPv6. */
export async function speaksOfIpv6(host: Host): Promise<boolean> {
  const read = async (path: string) => DISABLES_IPV6.test((await host.read(path, { orNothing: true })) ?? '');
  const seen = new Set<string>();
  for (const folder of FOLDERS)
    for (const name of await namesIn(host, folder)) {
      if (!name.endsWith('.conf') || seen.has(name)) continue;
      seen.add(name);
      if (await read(join(folder, name))) return true;
    }
  return read('/etc/sysctl.conf');
}

/** A folder that cannot be read says nothing. */
const namesIn = (host: Host, folder: string): Promise<string[]> =>
  host.list(folder).catch((error: unknown) => {
    if (!(error instanceof AgentError)) throw error;
    return [];
  });
