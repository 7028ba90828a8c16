// Files of ours that something was at: put aside under NAME.damaged, and said, so that no run fails by them. For the holder of the lock.

import { join } from 'node:path';
import { AgentError } from '../base/errors.ts';
import { PATHS } from '../base/paths.ts';
import { readEntryOf, readHistory } from './history.ts';
import type { Host } from './host.ts';
import { readPending } from './pending.ts';

/** What is no file, and a record of a change that waits that says nothing. Other records are looked at when they are needed. */
export async function putDamagedAside(host: Host): Promise<string[]> {
  const warnings: string[] = [];
  for (const path of FOLDERS)
    if ((await host.info(path)) !== undefined && !(await host.info(`${path}/`))?.directory)
      warnings.push(...(await setAside(host, path, 'it is no folder, nor leads to one')));
  const there = new Set((await Promise.all([PATHS.lib, PATHS.run].map((folder) => pathsIn(host, folder)))).flat());
  for (const path of FILES.filter((each) => there.has(each))) {
    const found = await host.info(path);
    if (found !== undefined && !found.regular) warnings.push(...(await setAside(host, path, 'it is no file')));
    if (found !== undefined && path === PATHS.lastGood) await mendLastGood(host);
  }
  if (
    there.has(PATHS.pending) &&
    (await host.info(PATHS.pending)) !== undefined &&
    (await readPending(host)) === undefined
  )
    warnings.push(...(await setAside(host, PATHS.pending, 'whether a change waits for its confirmation is not known')));
  return warnings;
}

/** Two folders are read sooner than fifteen files are asked for of which most are not there. */
const pathsIn = async (host: Host, folder: string): Promise<string[]> =>
  (await host.list(folder)).map((name) => join(folder, name));

/** What it was is the newest of the history, too. */
async function mendLastGood(host: Host): Promise<void> {
  if ((await host.info(PATHS.lastGood)) !== undefined) return;
  for (const { path } of await readHistory(host)) {
    const bytes = await readEntryOf(host, path);
    if (bytes === undefined) continue;
    await host.write(PATHS.lastGood, bytes, 0o600).catch((error: unknown) => {
      // It is found in the history all the same.
      if (!(error instanceof AgentError)) throw error;
    });
    return;
  }
}

/** Where a disk is small the first may be elsewhere. Other folders in /run are the lock's (process.ts). */
const FOLDERS = [PATHS.lib, PATHS.history, PATHS.backup, PATHS.backupOfBoot];

const FILES = [
  PATHS.lastGood,
  PATHS.owned,
  PATHS.refused,
  PATHS.edited,
  PATHS.pending,
  PATHS.pendingConfig,
  PATHS.checkpoint,
  PATHS.foreign,
  PATHS.invalid,
  PATHS.parsed,
  PATHS.flows,
  PATHS.removed,
  PATHS.rescanned,
  PATHS.left,
  PATHS.quiet,
  `${PATHS.run}/last-run.json`,
];

/** Gives what to say. */
export async function setAside(host: Host, path: string, meaning: string): Promise<string[]> {
  try {
    const aside = await host.putAside(path);
    return aside === undefined ? [] : [`${path} is damaged, and put aside as ${aside}: ${meaning}`];
  } catch (error) {
    if (!(error instanceof AgentError)) throw error;
    return [`${path} is damaged (${meaning}), and in the way: ${error.message}`];
  }
}
