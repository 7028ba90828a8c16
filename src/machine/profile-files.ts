// Host → the files of NICs' profiles, ours and those of others, and where one of others that claims a NIC of ours is put aside. Changes
// nothing.

import { basename, dirname, join } from 'node:path';
import { PATHS } from '../base/paths.ts';
import { DEFAULTS_PATH } from '../dialects/defaults.ts';
import { ifcfgRenderer } from '../dialects/ifcfg.ts';
import { keyfileRenderer, keyfilesOfBoot } from '../dialects/keyfile.ts';
import { UNMANAGED_PATH } from '../dialects/unmanaged.ts';
import type { BoundNic } from '../network/nics.ts';
import type { Claim } from '../network/observation.ts';
import type { ProfileFolder } from '../network/renderer.ts';
import { type File, isOurFile } from '../network/state.ts';
import { type Host, TEMPORARY_SUFFIX } from './host.ts';

/** Whichever of them we write ourselves: a stale keyfile would beat an ifcfg file of ours. */
const PROFILES: readonly ProfileFolder[] = [ifcfgRenderer, keyfileRenderer, keyfilesOfBoot];

export const readProfiles = async (host: Host): Promise<File[]> => (await readAllProfiles(host)).files;

/** `passedOver`: files that are not read, since those before them are too large together. */
export async function readAllProfiles(host: Host): Promise<{ files: File[]; passedOver: string[] }> {
  const folders = await Promise.all(PROFILES.map((each) => profilePaths(host, each)));
  const paths = [...folders.flat(), ...DROP_INS];
  const found = new Map((await Promise.all(paths.map((path) => host.info(path)))).map((info, n) => [paths[n], info]));
  const rank = (path: string) => (mayBeOurs(path) ? 0 : MOST_OF_PROFILES) + (found.get(path)?.size ?? 0);
  const [files, passedOver] = [new Map<string, File>(), [] as string[]];
  let left = MOST_OF_PROFILES;
  for (const path of [...paths].sort((one, other) => rank(one) - rank(other))) {
    const info = found.get(path);
    const most = Math.min(left, LONGEST_PROFILE);
    const content = most > 0 ? await host.read(path, { most, orNothing: true }) : undefined;
    if (info === undefined || info.directory) continue;
    if (content !== undefined) files.set(path, { path, content, mode: info.mode });
    else if (most < LONGEST_PROFILE) passedOver.push(path);
    left -= content?.length ?? 0;
  }
  return { files: paths.flatMap((path) => files.get(path) ?? []), passedOver };
}

async function profilePaths(host: Host, { folder, isProfile }: ProfileFolder): Promise<string[]> {
  if (folder === undefined) return [];
  const names = (await host.list(folder)).filter((name) => isProfile(name) || name.endsWith(TEMPORARY_SUFFIX));
  return names.map((name) => join(folder, name));
}

/** Of NetworkManager's configuration. */
const DROP_INS: readonly string[] = [DEFAULTS_PATH, UNMANAGED_PATH];

/** By its name: `kylin-vr-eth0.nmconnection`, `ifcfg-eth0`, `route-eth0`. */
const mayBeOurs = (path: string): boolean =>
  DROP_INS.includes(path) || /^(kylin-vr-[^/]{1,15}\.nmconnection|(ifcfg|route)-[^/]{1,15})$/.test(basename(path));

/** Bytes, of all of them: a machine of 300 NICs has 4 MB. */
const MOST_OF_PROFILES = 32 * 1024 * 1024;

/** Bytes. One of ours with 40,000 EIPs has 1.2 MB; of what is none (a folder, a FIFO, a link to /dev/null) NetworkManager reads nothing either. */
const LONGEST_PROFILE = 4 * 1024 * 1024;

/** A temporary file of a killed run counts as ours. */
export function splitFiles(files: readonly File[]): { ours: File[]; foreign: File[] } {
  const isOurs = (file: File) =>
    isOurFile(file.content) || file.path.endsWith(TEMPORARY_SUFFIX) || (mayBeOurs(file.path) && isOursByUuid(file));
  return { ours: files.filter(isOurs), foreign: files.filter((file) => !isOurs(file)) };
}

const isOursByUuid = ({ path, content }: File): boolean => folderOf(path)?.isOurs(content) ?? false;

/** Whose format a profile has. */
export const folderOf = (path: string): ProfileFolder | undefined =>
  PROFILES.find(({ folder }) => folder === dirname(path));

/** Foreign profiles of our NICs, and foreign files that stand where ours has to be. */
export async function claimOn(
  host: Host,
  bound: readonly BoundNic[],
  file: File,
  desired: readonly File[],
): Promise<Claim[]> {
  const reason = claimReason(bound, file, desired);
  if (reason === undefined) return [];
  return [{ ...file, to: await backupPath(host, file), reason }];
}

/** One that another tool writes again and again is kept once; nothing that is kept is overwritten. */
async function backupPath(host: Host, { path: from, content }: File): Promise<string> {
  const [folder, name] = [dirname(from) === keyfilesOfBoot.folder ? PATHS.backupOfBoot : PATHS.backup, basename(from)];
  for (let number = 0; ; number++) {
    const path = join(folder, number === 0 ? name : `${name}.${number}`);
    const kept = await host.read(path, { most: LONGEST_PROFILE, orNothing: true });
    if (kept === content || (kept === undefined && (await host.info(path)) === undefined)) return path;
  }
}

/** The NIC that a profile is for. */
export function claimedBy({ path, content }: File, bound: readonly BoundNic[]): BoundNic | undefined {
  const claim = folderOf(path)?.claim(basename(path), content);
  return (
    claim && bound.find(({ mac, device }) => (claim.mac === undefined ? claim.device === device : claim.mac === mac))
  );
}

function claimReason(bound: readonly BoundNic[], file: File, desired: readonly File[]): string | undefined {
  const nic = claimedBy(file, bound);
  if (nic !== undefined) return `a foreign profile of ${nic.device}`;
  return desired.some(({ path }) => path === file.path) ? 'a foreign file where ours has to be' : undefined;
}
