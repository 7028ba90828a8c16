// Files, links and folders below a root, which is this machine's or that of an image: as they are, and one change at a time.

import { dirname, join } from 'node:path';
import * as z from 'zod/mini';
import { UsageError } from '../errors.ts';
import type { Change, Recorded } from '../installation/plan.ts';
import { ABSENT, bytesOf, contentOf, type Entry } from '../installation/tree.ts';
import type { Host } from './host.ts';
import { PATHS } from './paths.ts';

export async function readEntry(host: Host, root: string, path: string): Promise<Entry> {
  await stayBelow(host, root, path);
  const place = join(root, path);
  const info = await host.info(place);
  if (info === undefined) return ABSENT;
  if (info.directory) return { kind: 'folder', mode: info.mode };
  if (info.symlink) return { kind: 'link', target: (await host.readLink(place)) ?? '' };
  return { kind: 'file', content: contentOf((await host.readBytes(place)) ?? ''), mode: info.mode };
}

/** Gives false where nothing was done: a folder that something else is in. */
export async function carryOut(host: Host, root: string, { path, from, to }: Change): Promise<boolean> {
  const place = join(root, path);
  if (to.kind === 'folder') await host.makeFolder(place, to.mode);
  else if (to.kind === 'link') await host.link(place, to.target);
  else if (to.kind === 'file') await host.write(place, bytesOf(to.content), to.mode);
  else if (from.kind === 'folder') return host.removeFolder(place);
  else await host.remove(place);
  return true;
}

/** In an image an absolute link would lead to the machine that the image is made on. */
async function stayBelow(host: Host, root: string, path: string): Promise<void> {
  if (root === '/') return;
  for (let folder = dirname(path); folder !== '/'; folder = dirname(folder)) {
    const target = await host.readLink(join(root, folder));
    if (target?.startsWith('/'))
      throw new UsageError(`${join(root, folder)} is a link to ${target}, out of the image: make it a relative one`);
  }
}

const entry = z.union([
  z.object({ kind: z.literal('absent') }),
  z.object({ kind: z.literal('file'), content: z.string(), mode: z.number() }),
  z.object({ kind: z.literal('link'), target: z.string() }),
  z.object({ kind: z.literal('folder'), mode: z.number() }),
]);
const recordFile = z.object({ changes: z.array(z.object({ path: z.string(), before: entry, left: z.string() })) });

/** Undefined where nothing was installed. */
export async function readRecord(host: Host, root: string): Promise<Recorded[] | undefined> {
  const path = join(root, PATHS.installed);
  const text = await host.read(path);
  if (text === undefined) return undefined;
  try {
    return z.parse(recordFile, JSON.parse(text)).changes;
  } catch (error) {
    throw new UsageError(
      `${path} is no record of an installation (${error instanceof Error ? error.message : error}): remove it`,
    );
  }
}

export async function writeRecord(host: Host, root: string, changes: readonly Recorded[]): Promise<void> {
  await host.write(join(root, PATHS.installed), `${JSON.stringify({ changes }, null, 1)}\n`, 0o600);
}
