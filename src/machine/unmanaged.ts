// Whether NetworkManager goes on leaving alone what our file of its configuration says, and which file has it otherwise. Asked only
// where there is such a file, or is to be. Reads files only.

import { basename, dirname, join } from 'node:path';
import { visible } from '../base/visible.ts';
import { isUnmanagedBy, specsOf, UNMANAGED_PATH, unmanagedAfter } from '../dialects/unmanaged.ts';
import type { ObservedLink } from '../network/nics.ts';
import type { Host } from './host.ts';

const OURS = basename(UNMANAGED_PATH);

/**
 * `released`: what our file names. Those of /usr/lib and /run are read before all of /etc, whatever their names (NetworkManager 1.42,
 * test/bridge).
 */
export async function unmanagedWarnings(
  host: Host,
  released: readonly string[],
  links: readonly ObservedLink[],
): Promise<string[]> {
  if (released.length === 0) return [];
  const devices = released.map((device) => links.find((link) => link.device === device) ?? { device });
  const folder = dirname(UNMANAGED_PATH);
  const later = (await host.list(folder)).filter((name) => name.endsWith('.conf') && name > OURS);
  let specs: readonly string[] = specsOf(released);
  let lost: { path: string; names: string } | undefined;
  for (const path of later.sort().map((name) => join(folder, name))) {
    const now = unmanagedAfter(specs, (await host.read(path, { orNothing: true })) ?? '');
    const names = devices.flatMap((each) => (isUnmanagedBy(now, each) ? [] : [each.device])).join(' and ');
    if (names === '') lost = undefined;
    else if (now !== specs) lost = { path, names };
    specs = now;
  }
  if (lost === undefined) return [];
  return [
    `NetworkManager may take ${lost.names}, with what is on them, when it starts or reads its configuration, by unmanaged-devices in ` +
      `${visible(lost.path)}, which is read after ${OURS}: take that line out, or give the file a name that sorts before ${OURS}, ` +
      'then nmcli general reload and kylin-vr reload',
  ];
}
