// Processes as /proc shows them: which one it is, whether it lives, which ones carry a mark in their environment.
// Synchronous, because /proc answers from memory: a scan of 300 processes takes milliseconds, with promises many times that.

import { lstatSync, mkdirSync, readdirSync, readFileSync, renameSync, rmdirSync, unlinkSync } from 'node:fs';
import { basename, dirname, join } from 'node:path';
import { sha1Of, shortName } from '../base/hash.ts';

export type ProcessStat = { pid: number; name: string; state: string; threads: number; startTime: string };

/** Milliseconds by a clock that nobody sets. performance.now() is in a module of Node's that a run need not load. */
export const monotonicMs = (): number => process.uptime() * 1000;

/** Seconds since the machine booted. Of node:os a run needs no more. */
export const uptime = (): number => Number.parseFloat(readFileSync('/proc/uptime', 'latin1'));

/** The process as it is now; undefined when there is none with this pid. */
export function readProcess(pid: number): ProcessStat | undefined {
  const stat = readProc(`/proc/${pid}/stat`);
  if (stat === undefined) return undefined;
  // proc(5): the second field is the name, in parentheses, and may itself hold spaces and parentheses.
  const nameEnd = stat.lastIndexOf(')');
  const fields = stat.slice(nameEnd + 2).split(' ');
  return {
    pid,
    name: stat.slice(stat.indexOf('(') + 1, nameEnd),
    state: fields[0] ?? '',
    threads: Number(fields[17]),
    startTime: fields[19] ?? '',
  };
}

/** True when nothing of the process runs any more. */
export function hasEnded(process: ProcessStat): boolean {
  const now = readProcess(process.pid);
  return now === undefined || now.startTime !== process.startTime || isZombie(now);
}

/** A zombie has ended, unless it is the first thread of several: another one may still be in the middle of a write. */
function isZombie({ state, threads }: ProcessStat): boolean {
  return (state === 'Z' || state === 'X') && threads <= 1;
}

const STATES: Record<string, string> = {
  R: 'running',
  S: 'sleeping',
  D: 'waiting for a device',
  T: 'stopped',
  t: 'stopped by a debugger',
};

export function stateInWords(process: ProcessStat): string {
  return STATES[process.state] ?? `in state ${process.state}`;
}

/**
 * A name that no other claim ever had or will have, and from which everybody can tell whether the claimant lives:
 * a pid is used again, a pid with its start time (in ticks since boot, not by any clock) in one boot is not.
 */
export function newOwnerId(): string {
  return `${process.pid}-${readProcess(process.pid)?.startTime}-${bootId()}-${shortName()}`;
}

const OWNER = /^(\d+)-(\d+)-([0-9a-f]{8})-[0-9a-f]{8}$/;

/** Whether a name is one of newOwnerId's, whoever lives. */
export const isOwnerId = (name: string): boolean => OWNER.test(name);

/** The process that made this id with newOwnerId; undefined when it has ended, or the text is no such id. */
export function livingOwner(id: string): ProcessStat | undefined {
  const [, pid, startTime, boot] = OWNER.exec(id) ?? [];
  if (boot === undefined || boot !== bootId()) return undefined;
  const owner = readProcess(Number(pid));
  return owner && owner.startTime === startTime && !isZombie(owner) ? owner : undefined;
}

/** A name for this process that only who knows the id of the boot can tell from another: a guest may see it. */
export const ownMark = (): string => markOf(readProcess(process.pid));

/** Those of all processes there are. */
export function livingMarks(): Set<string> {
  const pids = readdirSync('/proc').map(Number);
  return new Set(pids.filter((pid) => pid > 0).map((pid) => markOf(readProcess(pid))));
}

function markOf(found: ProcessStat | undefined): string {
  const boot = readFileSync(BOOT_ID, 'utf8');
  return sha1Of(`${boot} ${found?.pid} ${found?.startTime}`).toString('hex').slice(0, 16);
}

/** The processes, other than this one, that were started with one of these variables (`NAME=value`) in their environment. */
export function processesWith(variables: readonly string[]): ProcessStat[] {
  return readdirSync('/proc')
    .map(Number)
    .filter((pid) => pid > 0 && pid !== process.pid)
    .filter((pid) => {
      const environment = readProc(`/proc/${pid}/environ`)?.split('\0') ?? [];
      return variables.some((variable) => environment.includes(variable));
    })
    .map(readProcess)
    .filter((found) => found !== undefined);
}

/** Runs a file operation; undefined when it fails with one of these codes, which the caller expects. */
export function tolerate<T>(codes: readonly string[], operation: () => T): T | undefined {
  try {
    return operation();
  } catch (error) {
    if (codes.includes((error as NodeJS.ErrnoException).code ?? '')) return undefined;
    throw error;
  }
}

/**
 * Where it is there: a read-only file system refuses to remove what is not. A folder goes too; one that something is in is moved to
 * `aside`, since what is in it may be mounted there, and somebody else's.
 */
export function removeFile(path: string, aside: string = dirname(path)): void {
  const there = lstatSync(path, { throwIfNoEntry: false });
  if (there?.isDirectory()) removeFolder(path, aside);
  else if (there !== undefined) tolerate(['ENOENT'], () => unlinkSync(path));
}

function removeFolder(path: string, aside: string): void {
  const isGone = tolerate(['ENOENT', 'ENOTEMPTY'], () => {
    rmdirSync(path);
    return true;
  });
  if (isGone) return;
  tolerate(['ENOENT'], () => renameSync(path, join(aside, `${basename(path)}.${shortName()}.damaged`)));
}

/** A folder of ours, made where it is not there, for this user only. */
export function makeFolder(path: string): void {
  makeRoomForFolder(path);
  mkdirSync(path, { recursive: true, mode: 0o700 });
}

/**
 * Takes away what is where a folder of ours belongs and is none. Of a symbolic link, too: whatever is in the folder that it leads to
 * would be moved and removed as ours.
 */
export function makeRoomForFolder(path: string): void {
  if (lstatSync(path, { throwIfNoEntry: false })?.isDirectory() === false)
    // Another process was quicker, and has made the folder.
    tolerate(['ENOENT', 'EISDIR', 'EPERM'], () => unlinkSync(path));
}

function bootId(): string {
  return readFileSync(BOOT_ID, 'utf8').slice(0, 8);
}

const BOOT_ID = '/proc/sys/kernel/random/boot_id';

/**
 * As UTF-8, which Node reads without buffers of its own. Undefined when the process ended, even between
 * open and read (ESRCH), or is another user's (EACCES; never for root).
 */
function readProc(path: string): string | undefined {
  return tolerate(['ENOENT', 'ESRCH', 'EACCES'], () => readFileSync(path, 'utf8'));
}
