// What profiles say beside addresses (zone, DNS), and where ours have it from: the one of ours that is there, or the foreign one that it
// replaces. Nothing of it is kept elsewhere: who takes a line out of our file has it out.

import { basename, dirname } from 'node:path';
import type { BoundNic } from '../network/nics.ts';
import { type FoundKeys, keysText, nothingKept, type ProfileKeys } from '../network/profile-keys.ts';
import type { Renderer } from '../network/renderer.ts';
import type { File } from '../network/state.ts';
import { TEMPORARY_SUFFIX } from './host.ts';
import { claimedBy, folderOf, splitFiles } from './profile-files.ts';

/** By device. `left`: what is not carried over, and from where. */
export type KeptKeys = { keys: ReadonlyMap<string, ProfileKeys>; left: string[] };

export function keptKeys(files: readonly File[], bound: readonly BoundNic[], renderer: Renderer): KeptKeys {
  const keys = new Map<string, ProfileKeys>();
  const left: string[] = [];
  if (renderer.name === 'none') return { keys, left };
  const { ours, foreign } = splitFiles(files);
  const [ownFiles, theirFiles] = [byNic(ours, bound), byNic(foreign, bound)];
  for (const nic of bound) {
    const [own] = (ownFiles.get(nic) ?? []).sort(
      (one, other) => distance(one, nic, renderer) - distance(other, nic, renderer),
    );
    const sources = own === undefined ? byPriority(theirFiles.get(nic) ?? []) : [own];
    const found = sources.map((file) => ({ file, ...keysIn(file, nic, renderer) }));
    const source = found.find((each) => hasAny(each.keys)) ?? found.find((each) => each.left.length > 0);
    if (source === undefined) continue;
    if (hasAny(source.keys)) keys.set(nic.device, source.keys);
    if (source.left.length > 0) left.push(leftText(source, nic.device));
  }
  return { keys, left };
}

const hasAny = (keys: ProfileKeys): boolean => keysText(keys) !== '';

function byNic(files: readonly File[], bound: readonly BoundNic[]): Map<BoundNic, File[]> {
  const known = new Map<BoundNic, File[]>();
  for (const file of files) {
    const nic = isKeyless(file.path) ? undefined : claimedBy(file, bound);
    if (nic !== undefined) known.set(nic, [...(known.get(nic) ?? []), file]);
  }
  return known;
}

const isKeyless = (path: string): boolean => path.endsWith(TEMPORARY_SUFFIX) || basename(path).startsWith('route-');

/** Of several of ours (the NIC was renamed, the format is another) the one that we write comes first. */
function distance({ path }: File, { device }: BoundNic, { folder }: Renderer): number {
  return (
    (dirname(path) === folder ? 0 : 2) + (basename(path).replace('.nmconnection', '').endsWith(`-${device}`) ? 0 : 1)
  );
}

const byPriority = (files: readonly File[]): File[] => {
  const of = ({ path, content }: File) => folderOf(path)?.priority(content) ?? 0;
  return [...files].sort((one, other) => of(other) - of(one));
};

function keysIn({ path, content }: File, nic: BoundNic, renderer: Renderer): FoundKeys {
  const found = folderOf(path)?.keys(content) ?? { keys: {}, left: [] };
  const hasProfile = nic.bridge === undefined && nic.waitsFor === undefined && !renderer.passesOver?.(nic.device);
  if (!hasProfile) return nothingKept(found);
  return renderer.keepable?.(found) ?? found;
}

const leftText = ({ file: { path }, left }: { file: File; left: readonly string[] }, device: string): string =>
  `${path} says ${left.join(', ')}, which the profile of ${device} cannot keep: see to it elsewhere where it is needed`;
