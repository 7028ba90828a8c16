// What is there, what is wanted → the changes that `install` makes, and the record from which `uninstall` takes them back.
// Pure.

import { createHash } from 'node:crypto';
import { closeCalls, LARGEST_QEMU_GA_FILE, QEMU_GA_FILES } from '../dialects/qemu-ga.ts';
import { ABSENT, contentOf, type TreeEntry, textOf, type Wanted } from './tree.ts';

export type Change = { path: string; from: TreeEntry; to: TreeEntry; text: string; forGood?: true };

/** One path that `install` changed; `left` is the digest of what it made of it. */
export type Recorded = { path: string; before: TreeEntry; left: string };

export type Observed = ReadonlyMap<string, TreeEntry>;

export const digest = (entry: TreeEntry): string => createHash('sha256').update(JSON.stringify(entry)).digest('hex');

const at = (observed: Observed, path: string): TreeEntry => observed.get(path) ?? ABSENT;

/** A folder that is there serves, unless it is open to others and must not be: 0.1 made /etc/kylin-vr so. */
const isAs = (now: TreeEntry, wanted: TreeEntry): boolean =>
  wanted.kind === 'folder'
    ? now.kind === 'folder' && ((wanted.mode & 0o077) !== 0 || (now.mode & 0o077) === 0)
    : digest(now) === digest(wanted);

export function planInstall(wanted: readonly Wanted[], observed: Observed): Change[] {
  return wanted
    .filter(({ path, entry }) => !isAs(at(observed, path), entry))
    .map(({ path, entry, reason, forGood }) => ({
      ...changeTo(path, at(observed, path), entry, reason),
      ...(forGood && { forGood }),
    }));
}

/** Why a change cannot be made, or could not be taken back; undefined where nothing is in the way. */
export function obstacleOf({ path, from, to }: Change): string | undefined {
  if (from.kind === 'other') return `${path} ${from.what}: take it away`;
  if (to.kind === 'folder' && from.kind !== 'absent' && from.kind !== 'folder')
    return `${path} is a ${from.kind}${from.kind === 'link' ? ` to ${from.target}, which leads to no folder there` : ''}: it must be a folder`;
  if (to.kind !== 'folder' && from.kind === 'folder') return `${path} is a folder: take it away`;
  return undefined;
}

/** Of what was changed before, the first state stays: `uninstall` goes back to it. */
export function recordOf(changes: readonly Change[], record: readonly Recorded[]): Recorded[] {
  const merged = new Map(record.map((entry) => [entry.path, entry]));
  for (const { path, from, to, forGood } of changes) {
    if (forGood) {
      merged.delete(path);
      continue;
    }
    const before = merged.get(path)?.before ?? from;
    merged.set(path, { path, before, left: digest(to) });
  }
  return [...merged.values()];
}

/** The way back, last change first. What somebody changed since stays, and is said; the guest agent's calls are closed all the same. */
export function planUninstall(
  record: readonly Recorded[],
  observed: Observed,
  keep: readonly string[],
): { changes: Change[]; kept: string[] } {
  const changes: Change[] = [];
  const kept: string[] = [];
  for (const { path, before, left } of [...record].reverse()) {
    const now = at(observed, path);
    if (digest(now) === digest(before)) continue;
    // Of a folder that was there before us only the mode may be ours.
    if (before.kind === 'folder' && now.kind === 'folder' && digest(now) !== left) continue;
    if (now.kind === 'folder' || digest(now) === left) changes.push(changeTo(path, now, before));
    else if (
      now.kind === 'file' &&
      before.kind === 'file' &&
      before.content.length <= LARGEST_QEMU_GA_FILE &&
      QEMU_GA_FILES.some((file) => file === path)
    ) {
      const content = contentOf(closeCalls(textOf(now.content), textOf(before.content)));
      if (content !== now.content) changes.push(changeTo(path, now, { ...now, content }));
    } else if (!keep.includes(path))
      kept.push(`${path} was changed since it was installed: left as it is, remove it if nobody needs it`);
  }
  return { changes, kept };
}

function changeTo(path: string, from: TreeEntry, to: TreeEntry, reason?: string): Change {
  const sign = from.kind === 'absent' ? '+' : to.kind === 'absent' ? '-' : '~';
  const thing = to.kind === 'absent' ? from : to;
  const target =
    thing.kind === 'link'
      ? ` → ${thing.target}`
      : from.kind === 'folder' && to.kind === 'folder'
        ? `: mode ${octal(from.mode)} → ${octal(to.mode)}`
        : '';
  return {
    path,
    from,
    to,
    text: `${sign} ${thing.kind} ${path}${target}${reason === undefined ? '' : ` (${reason})`}`,
  };
}

const octal = (mode: number): string => mode.toString(8).padStart(4, '0');

/** `make-folder`, `write-file`, … */
export function kindOf({ from, to }: Change): string {
  if (to.kind === 'absent') return `remove-${from.kind}`;
  if (from.kind === 'folder' && to.kind === 'folder') return 'set-mode';
  return to.kind === 'folder' ? 'make-folder' : to.kind === 'link' ? 'make-link' : 'write-file';
}
