// When kylin-vr goes: none of its profiles is left for the next boot, and what they had replaced is there again. The running network
// stays: NetworkManager and initscripts read files when they are told to, or start.

import { join } from 'node:path';
import { PATHS } from '../base/paths.ts';
import { ifcfgRenderer } from '../dialects/ifcfg.ts';
import { keyfileRenderer, keyfilesOfBoot } from '../dialects/keyfile.ts';
import type { Host } from './host.ts';
import { readProfiles, splitFiles } from './profile-files.ts';

/** `said`: for each file, when it is done. */
export async function takeProfilesBack(
  host: Host,
  said: (kind: 'remove-file' | 'write-file', path: string) => void,
): Promise<void> {
  for (const { path } of splitFiles(await readProfiles(host)).ours)
    if (await host.remove(path)) said('remove-file', path);
  for (const { name, from, folder } of [
    ...(await keptIn(host, PATHS.backup, placeOf)),
    ...(await keptIn(host, PATHS.backupOfBoot, () => keyfilesOfBoot.folder ?? '')),
  ]) {
    const [content, kept] = [await host.readBytes(from, { orNothing: true }), await host.info(from)];
    if (content === undefined || kept === undefined || !(await host.info(folder))?.directory) continue;
    const path = join(folder, name);
    // Whoever has made another since knows better.
    if ((await host.info(path)) !== undefined) continue;
    await host.write(path, content, kept.mode);
    await host.remove(from);
    said('write-file', path);
  }
}

/** What is to be put back from a folder, and where. */
const keptIn = async (host: Host, backup: string, placeOf: (name: string) => string) =>
  newest(await host.list(backup)).map(({ name, version }) => ({
    name,
    from: join(backup, version),
    folder: placeOf(name),
  }));

/** Of a file that was put aside again and again, with other content, the last: `ifcfg-eth0`, `ifcfg-eth0.1`, … */
function newest(names: readonly string[]): { name: string; version: string }[] {
  const versions = new Map<string, { name: string; number: number }>();
  for (const name of names.filter((each) => !each.endsWith('.damaged'))) {
    const [, first = '', number] = /^(.*)\.(\d+)$/s.exec(name) ?? [];
    const [of, version] = names.includes(first) ? [first, Number(number)] : [name, 0];
    if (version >= (versions.get(of)?.number ?? 0)) versions.set(of, { name, number: version });
  }
  return [...versions].map(([name, version]) => ({ name, version: version.name }));
}

const placeOf = (name: string): string =>
  (ifcfgRenderer.isProfile(name) ? ifcfgRenderer : keyfileRenderer).folder ?? '';
