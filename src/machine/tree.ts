// Files, links and folders below a root, which is this machine's or that of an image: as they are, and one change at a time.

import { basename, dirname, join } from 'node:path';
import * as z from 'zod/mini';
import { NotNowError } from '../base/errors.ts';
import { PATHS } from '../base/paths.ts';
import { LARGEST_QEMU_GA_FILE, QEMU_GA_FILES } from '../dialects/qemu-ga.ts';
import type { Change, Recorded } from '../installation/plan.ts';
import { OLD_SETTINGS } from '../installation/settings.ts';
import {
  ABSENT,
  bytesOf,
  contentOf,
  enablingLinks,
  FILES,
  FIREWALLD_POLICY,
  LEFTOVERS,
  PROGRAM,
  type TreeEntry,
  textOf,
  UNIT_FOLDER,
} from '../installation/tree.ts';
import { FOLDERS } from '../installation/units.ts';
import { type Files, type Host, LARGEST_FILE } from './host.ts';
import { payload } from './payload.ts';

/** This machine's own, or those of an image. */
export type Tree = Files & { root: string };

export async function treeOf(host: Host, root: string): Promise<Tree> {
  return { ...(root === '/' ? host : await host.inside(root)), root };
}

export async function readEntry(tree: Tree, path: string): Promise<TreeEntry> {
  const info = await tree.info(path);
  if (info === undefined) return ABSENT;
  if (info.directory) return { kind: 'folder', mode: plainMode(info.mode) };
  if (info.symlink) return { kind: 'link', target: (await tree.readLink(path)) ?? '' };
  if (!info.regular) return { kind: 'other', what: 'is neither a file, a link nor a folder' };
  const ofAgent = QEMU_GA_FILES.some((file) => file === path);
  const largest = ofAgent ? LARGEST_QEMU_GA_FILE : LARGEST_FILE;
  const tooLarge: TreeEntry = {
    kind: 'other',
    what: `is larger than ${ofAgent ? '64 KiB' : `${LARGEST_FILE / 2 ** 20} MiB`}`,
  };
  if (info.size > largest) return tooLarge;
  const bytes = (await tree.readBytes(path)) ?? '';
  // Who made an image may have put another there meanwhile.
  return bytes.length > largest ? tooLarge : { kind: 'file', content: contentOf(bytes), mode: plainMode(info.mode) };
}

/** Where a folder is wanted, a link to one serves. */
export async function readFolder(tree: Tree, path: string): Promise<TreeEntry> {
  const entry = await readEntry(tree, path);
  const leadsTo = entry.kind === 'link' ? await tree.info(`${path}/`) : undefined;
  return leadsTo?.directory ? { kind: 'folder', mode: plainMode(leadsTo.mode) } : entry;
}

/** Gives false where nothing was done: a folder that something else is in. */
export async function carryOut(tree: Tree, { path, from, to }: Change): Promise<boolean> {
  if (to.kind === 'folder' && from.kind === 'folder') await tree.setMode(path, plainMode(to.mode));
  else if (to.kind === 'folder') await tree.makeFolder(path, plainMode(to.mode));
  else if (to.kind === 'link') await tree.link(path, to.target);
  else if (to.kind === 'file') await tree.write(path, bytesOf(to.content), plainMode(to.mode));
  else if (from.kind === 'folder') return tree.removeFolder(path);
  else await tree.remove(path);
  return true;
}

/** What we write is root's: with the set-user-ID bit of a file of others, which we edit or put back, it would run as root. */
const plainMode = (mode: number): number => mode & 0o777;

const mode = z.number().check(z.int(), z.gte(0), z.lte(0o7777));
const entry = z.union([
  z.object({ kind: z.literal('absent') }),
  z.object({ kind: z.literal('file'), content: z.string(), mode }),
  z.object({ kind: z.literal('link'), target: z.string().check(z.regex(/^[^\0]{1,4095}$/)) }),
  z.object({ kind: z.literal('folder'), mode }),
]);
/** It holds what was there before us, which is small. 8 MiB of JSON that means harm took 800 MiB of memory. */
const LARGEST_RECORD = 2 ** 20;

/** How many there are comes first: of millions each would be an issue with words of its own. */
function parseRecord(json: unknown): Recorded[] {
  const known = places();
  const { changes } = z.parse(z.object({ changes: z.array(z.unknown()).check(z.maxLength(known.size)) }), json);
  const change = z.object({
    // Each once.
    path: z.string().check(z.refine((path) => known.delete(path))),
    before: entry,
    left: z.string().check(z.regex(/^[0-9a-f]{64}$/)),
  });
  return z.parse(z.array(change), changes);
}

/** Every path that `install` ever changed, and the folders that they are in. Whoever made an image made its record. */
export function places(): Set<string> {
  const units = FILES.filter(({ path }) => dirname(path) === UNIT_FOLDER);
  const links = enablingLinks(Object.fromEntries(units.map(({ path, source }) => [basename(path), payload[source]])));
  const paths = [...FILES, ...LEFTOVERS, ...links].map(({ path }) => path);
  const all = new Set<string>([
    ...paths,
    ...OLD_SETTINGS,
    ...QEMU_GA_FILES,
    PROGRAM,
    PATHS.config,
    PATHS.installed,
    FIREWALLD_POLICY,
    ...FOLDERS.map(([path]) => path),
  ]);
  for (const path of all) if (dirname(path) !== '/') all.add(dirname(path));
  all.delete(PATHS.installed);
  return all;
}

/** Undefined where nothing was installed. */
export async function readRecord(tree: Tree): Promise<Recorded[] | undefined> {
  const found = await readEntry(tree, PATHS.installed);
  if (found.kind === 'absent') return undefined;
  const refused = (why: string) =>
    new NotNowError(`${join(tree.root, PATHS.installed)} is no record of an installation (${why}): remove it`);
  if (found.kind === 'file' && found.content.length > LARGEST_RECORD)
    throw refused(`it is larger than ${LARGEST_RECORD / 2 ** 20} MiB`);
  if (found.kind !== 'file') throw refused(found.kind === 'other' ? `it ${found.what}` : `it is a ${found.kind}`);
  try {
    return parseRecord(JSON.parse(textOf(found.content)));
  } catch (error) {
    throw refused(error instanceof SyntaxError ? 'it is not JSON' : 'it says what no version of kylin-vr writes');
  }
}

export async function writeRecord(tree: Tree, changes: readonly Recorded[]): Promise<void> {
  const text = `${JSON.stringify({ changes }, null, 1)}\n`;
  if (text.length > LARGEST_RECORD)
    throw new NotNowError(
      `${join(tree.root, PATHS.installed)} would be larger than ${LARGEST_RECORD / 2 ** 20} MiB with what is there: nothing was installed`,
    );
  await tree.write(PATHS.installed, text, 0o600);
}
