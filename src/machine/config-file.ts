// The configuration file → bytes that may be trusted, or why not.

import { dirname } from 'node:path';
import { timers } from '../base/builtin.ts';
import { AgentError, UnreadableError } from '../base/errors.ts';
import { hashOf, sameBytes } from '../base/hash.ts';
import { type Issue, inFile } from '../config/issue.ts';
import { LARGEST } from '../config/position.ts';
import type { FileInfo, Host } from './host.ts';

export type ConfigFile = { bytes: Uint8Array; warnings: Issue[] };

/**
 * Reads a configuration that root will act on. Gives issues where it is missing or where others could have written it.
 * `mend`: tighten a mode that is too open but does no harm.
 */
export async function readTrusted(
  host: Host,
  path: string,
  mend: 'mend' | 'look',
): Promise<ConfigFile | { errors: Issue[] }> {
  try {
    return await readIfTrusted(host, path, mend);
  } catch (error) {
    // A disk that fails there keeps no run from the last good configuration.
    if (!(error instanceof AgentError)) throw error;
    return { errors: [{ message: error.message }] };
  }
}

async function readIfTrusted(
  host: Host,
  path: string,
  mend: 'mend' | 'look',
): Promise<ConfigFile | { errors: Issue[] }> {
  const [file, folder] = await Promise.all([host.info(path), host.info(dirname(path))]);
  const refuse = (fault: string) => ({ errors: inFile(path, [{ message: fault }]) });
  if (file === undefined || folder === undefined)
    return refuse('does not exist: write it, or give another with --config');
  if (file.directory) return refuse('is a folder: remove it and write a file there, or give another with --config');
  if (file.symlink) return refuse('is a symbolic link: put the file itself there');
  if (!file.regular) return refuse('is a FIFO, a device or a socket: remove it and write a file there');
  const warnings: Issue[] = [];
  if (file.uid !== 0) return refuse(`belongs to uid ${file.uid}: it must be root's (chown root ${path})`);
  if (folder.uid !== 0)
    return refuse(`is in a folder of uid ${folder.uid}: it must be root's (chown root ${dirname(path)})`);
  const sticky = (folder.mode & 0o1000) !== 0;
  if (writableByOthers(folder.mode) && !sticky)
    return refuse(`is in a folder that others can write: chmod 0700 ${dirname(path)}`);
  if (writableByOthers(file.mode)) {
    // The guest agent makes new files with mode 0666; in a folder that keeps others out nobody could use that.
    if ((folder.mode & 0o011) !== 0) return refuse(`can be written by others than root: chmod 0600 ${path}`);
    const mode = file.mode.toString(8).padStart(4, '0');
    const mended = mend === 'mend' ? await tighten(host, path) : 'reload tightens it to 0600';
    warnings.push(...inFile(path, [{ message: `mode ${mode} is too open, ${mended}` }]));
  }
  const bytes = await host.readBytes(path, { most: LARGEST });
  if (bytes === undefined) return refuse('does not exist: write it, or give another with --config');
  return { bytes, warnings };
}

/** Of a file that is only looked at: whoever may have written it. `cure`: where there is none. */
export async function readAnyones(
  host: Host,
  path: string,
  cure = 'write it, or give another with --config',
): Promise<{ bytes: Uint8Array } | { errors: Issue[] }> {
  try {
    const bytes = await host.readBytes(path, { most: LARGEST });
    if (bytes !== undefined) return { bytes };
    const isLink = (await host.info(path))?.symlink;
    const message = isLink
      ? 'is a symbolic link that leads to no file: put the file itself there'
      : `does not exist: ${cure}`;
    return { errors: inFile(path, [{ message }]) };
  } catch (error) {
    // One that may not be read, or not just now, is no wrong file.
    if (!(error instanceof UnreadableError)) throw error;
    return { errors: [{ message: error.message }] };
  }
}

/** Its folder keeps others out: where the mode cannot be changed, that is no reason to leave the file. */
async function tighten(host: Host, path: string): Promise<string> {
  try {
    await host.setMode(path, 0o600);
    return 'tightened to 0600';
  } catch (error) {
    if (!(error instanceof AgentError)) throw error;
    return `and stays so: ${error.message}`;
  }
}

const writableByOthers = (mode: number): boolean => (mode & 0o022) !== 0;

/** Nobody else could have written it. */
const isRootsAlone = ({ uid, mode }: FileInfo): boolean => uid === 0 && !writableByOthers(mode);

/** What we keep as a hint; undefined where there is none, where others than root could have written it, and where `parse` throws. */
export async function readKept<T>(host: Host, path: string, parse: (text: string) => T): Promise<T | undefined> {
  const [file, folder] = [await host.info(path), await host.info(dirname(path))];
  if (!file?.regular || !isRootsAlone(file)) return undefined;
  if (folder === undefined || !isRootsAlone(folder)) return undefined;
  try {
    return parse((await host.read(path)) ?? '');
  } catch {
    return undefined;
  }
}

/** Between two equal reads lies this much: longer than the guest agent pauses between two pieces of a file. */
const SETTLE_MS = 2000;
const SETTLE_TRIES = 5;

/**
 * As `readTrusted`, for a run that nobody asked for: bytes of none of the `known` hashes may be half of a file that is being written, so
 * they count only when two reads two seconds apart are equal. Gives `unsettled` when they go on changing.
 */
export async function readSettled(
  host: Host,
  path: string,
  known: readonly (string | undefined)[],
): Promise<ConfigFile | { errors: Issue[] } | 'unsettled'> {
  let before = await readTrusted(host, path, 'mend');
  for (let tries = 0; tries < SETTLE_TRIES; tries++) {
    if ('bytes' in before && known.includes(hashOf(before.bytes))) return before;
    await timers().setTimeout(SETTLE_MS);
    const now = await readTrusted(host, path, 'mend');
    if (sameRead(before, now)) return now;
    before = now;
  }
  return 'unsettled';
}

function sameRead(a: ConfigFile | { errors: Issue[] }, b: ConfigFile | { errors: Issue[] }): boolean {
  return 'bytes' in a && 'bytes' in b ? sameBytes(a.bytes, b.bytes) : 'errors' in a && 'errors' in b;
}
