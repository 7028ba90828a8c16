// One writing run at a time. proper-lockfile's mkdir is the mutual exclusion; who holds it, and whether he lives, is
// judged here by pid, start time and boot id, never by a clock or an mtime (seen with 4.1.2: an mtime 11 s back let two in).
//
// INVARIANTS
//  1. Files:  lock/         there = somebody holds it, or is just taking or leaving it
//             lock/<owner>  the holder's record. The name alone says who and whether alive; the content is for people
//             dead/<owner>  a dead holder whose children may still be writing
//  2. In is who finds, after writing his own record, no other record in lock/. Of two that write, the second one sees the
//     first one's, so two are never in. A directory with a record in it cannot be removed, so it is the same directory.
//  3. A living owner's record is removed by himself only. A stopped one lives.
//  4. A dead owner's record is *moved* to dead/: one rename, which one breaker wins, which can hit no other owner's
//     record (names are unique), and after which a breaker may die at any point: what he knew is on disk.
//  5. rmdir of lock/ by anybody at any time is harmless: it succeeds only on an empty one, and the creator who had no
//     record in it yet learns it when he writes it (ENOENT, or invariant 2).
//  6. Work starts when no process carries the mark of an owner in dead/; only then are those files removed.
//  7. What nobody can move out of lock/ (immutable, a mount point), or lock/ itself where nobody can remove it, is passed over:
//     invariant 2 needs no mkdir. A dead owner's record among it counts for 6 as if it were in dead/.
//  8. A process that exits in the middle of its work keeps its record, on purpose: its children may still be writing,
//     and the record is what tells the successor (who is in within a poll) to end them.
//
// Synchronous file operations: a waiting process has nothing else to do, and nothing can come between mkdir and record.

import {
  lstatSync,
  mkdirSync,
  readdirSync,
  realpathSync,
  renameSync,
  rmdirSync,
  statSync,
  unlinkSync,
  utimesSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import { lockSync } from 'proper-lockfile';
import { timers } from '../base/builtin.ts';
import { HostError, LockedError } from '../base/errors.ts';
import { number, object, type Shape, string } from '../base/shape.ts';
import { fitting } from './kept-shapes.ts';
import {
  hasEnded,
  isOwnerId,
  livingOwner,
  makeFolder,
  makeRoomForFolder,
  monotonicMs,
  newOwnerId,
  type ProcessStat,
  processesWith,
  removeFile,
  stateInWords,
  tolerate,
  uptime,
} from './process.ts';
import { readRegular } from './regular-file.ts';

export type LockOptions<T> = {
  /** `/run/kylin-vr`; made, for this user only, when it is not there. */
  dir: string;
  /** What this run is, for those who wait for it: `kylin-vr reload`, `udev`. */
  command: string;
  trigger: string;
  timeoutMs: number;
  /** Called after a second of waiting, then every ten. */
  onWait?: (holder: Holder, waitedMs: number) => void;
  /** Called, more than once, for what is in the way and can neither be moved nor removed: the lock is held without. */
  onLeft?: (path: string, why: Error) => void;
  /** An answer that makes work needless; asked before every attempt and again inside. Once it has one, it keeps it. */
  instead?: () => T | undefined;
};

export type Holder = {
  pid: number;
  command: string;
  trigger: string;
  /** ISO 8601, by the clock as it was then. */
  since: string;
  heldMs: number;
  /** `running`, `sleeping`, `stopped`, … */
  state: string;
};

export type Held = {
  /**
   * Belongs in the environment of every child that writes, and of no process that is meant to outlive the run:
   * if this process is killed, its successor ends every process that carries it.
   */
  marker: Readonly<Record<string, string>>;
};

type OwnerRecord = Pick<Holder, 'pid' | 'command' | 'trigger' | 'since'> & { startedUptime: number };

const ownerRecord = object({ pid: number, command: string, trigger: string, since: string, startedUptime: number });

/** Do not change: after an upgrade the children of the old version's dead holder would not be found. */
const MARKER = 'KYLIN_VR_HOLDER';
const OWNERLESS_MS = 1_000;
const POLL_MIN_MS = 25;
const POLL_MAX_MS = 200;
const FIRST_WORD_MS = 1_000;
const NEXT_WORD_MS = 10_000;
/** Who has not ended this long after a SIGKILL hangs in the kernel. */
const CHILDREN_END_MS = 10_000;
/** Of two scans, so that a child that was being started when its parent was killed has come to its exec. */
const RESCAN_MS = 10;

/**
 * Runs work while no other process is in a withLock of the same directory. Work has to wait for its children before it
 * ends. Throws LockedError when another one holds the lock for longer than timeoutMs.
 */
export async function withLock<T>(options: LockOptions<T>, work: (held: Held) => Promise<T>): Promise<T> {
  const id = newOwnerId();
  const leave = await getIn(options, id).catch((error: unknown) => {
    throw lockError(options.dir, error);
  });
  try {
    const answer = options.instead?.();
    if (answer !== undefined) return answer;
    await endChildrenOfDead(options);
    try {
      return await work({ marker: { [MARKER]: id } });
    } finally {
      leaveTrace(options.dir);
    }
  } finally {
    leave();
  }
}

/** For whoever asked the machine before this run ended (early.ts), also where it left no result. Takes no room. */
function leaveTrace(dir: string): void {
  const now = new Date();
  tolerate(['ENOENT', 'ELOOP', 'EPERM', 'EROFS'], () => utimesSync(deadOf(dir), now, now));
}

/** Who holds the lock now; undefined when nobody does. */
export function readHolder(dir: string): Holder | undefined {
  for (const name of list(lockOf(dir)) ?? []) {
    const owner = livingOwner(name);
    const record = owner && readJson(join(lockOf(dir), name), ownerRecord);
    if (owner && record) {
      const { startedUptime, ...rest } = record;
      return {
        ...rest,
        heldMs: Math.max(0, Math.round((uptime() - startedUptime) * 1000)),
        state: stateInWords(owner),
      };
    }
  }
  return undefined;
}

/** `pid 4711, kylin-vr reload (udev), since 2024-05-01T10:00:00.000Z (12 s), sleeping` */
export function describeHolder(holder: Holder): string {
  const { pid, command, trigger, since, heldMs, state } = holder;
  return `pid ${pid}, ${command} (${trigger}), since ${since} (${inSeconds(heldMs)}), ${state}`;
}

/** The parsed content of a JSON file; undefined when it is not there, not complete yet, or no such thing. */
export function readJson<T>(path: string, shape: Shape<T>): T | undefined {
  try {
    const text = readRegular(path)?.toString();
    return text === undefined ? undefined : fitting(shape, text);
  } catch {
    return undefined;
  }
}

/** Where the lock cannot be written the operator can mend that; every other failure stays what it is. */
function lockError(dir: string, error: unknown): unknown {
  const isOfSystem = error instanceof Error && 'syscall' in error;
  return isOfSystem ? new HostError(`nothing was changed: taking the lock in ${dir}`, error) : error;
}

/** Waits for the lock, or for an answer instead; gives the function that leaves it. */
async function getIn<T>(options: LockOptions<T>, id: string): Promise<() => void> {
  const { dir, timeoutMs, onWait, onLeft, instead } = options;
  const started = monotonicMs();
  const clearOwnerless = ownerlessWatch(options);
  let nextWordMs = FIRST_WORD_MS;
  for (;;) {
    if (instead?.() !== undefined) return () => {};
    makeFolder(dir);
    leaving(deadOf(dir), onLeft, () => makeFolder(deadOf(dir)));
    makeRoomForFolder(lockOf(dir));
    const { records, stuck } = clearDead(options);
    const stays = clearOwnerless(records) || (stuck.length > 0 && records?.length === stuck.length);
    const leave = records === undefined || stays ? enter(options, id, stays ? stuck : undefined) : undefined;
    if (leave) return leave;

    const waitedMs = monotonicMs() - started;
    if (waitedMs >= timeoutMs) throw new LockedError(lockedMessage(dir, waitedMs));
    const holder = waitedMs < nextWordMs ? undefined : readHolder(dir);
    if (holder) {
      onWait?.(holder, waitedMs);
      nextWordMs = waitedMs + NEXT_WORD_MS;
    }
    // Longer polls for long waits: fifty processes that wait cost a quarter of one core, instead of all of it.
    const poll = Math.min(POLL_MIN_MS + waitedMs / 10, POLL_MAX_MS) * (0.5 + Math.random() / 2);
    await timers().setTimeout(Math.min(poll, timeoutMs - waitedMs));
  }
}

/** Given all of node:fs it would make a copy, and with that load `fs.promises`. */
const FILE_OPERATIONS = { mkdirSync, realpathSync, rmdirSync, statSync, utimesSync };

/** ENOENT: the new directory was empty when somebody removed it (invariant 5). */
const makeLock = (dir: string): (() => void) | undefined =>
  tolerate(['ELOCKED', 'ENOENT'], () =>
    lockSync(dir, {
      lockfilePath: lockOf(dir),
      realpath: false,
      fs: FILE_OPERATIONS,
      // Never stale by time. The timer that would look after the mtime comes after the longest run, in 24 days; not
      // Infinity, which setTimeout takes for 1 ms.
      stale: Number.POSITIVE_INFINITY,
      update: 2 ** 31 - 1,
      onCompromised: () => {},
    }),
  );

/**
 * One attempt (invariant 2); gives the function that leaves the lock, or undefined when another one was quicker. `stuck`: the lock is
 * there, and stays, with these in it (invariant 7).
 */
function enter(
  { dir, command, trigger }: LockOptions<unknown>,
  id: string,
  stuck?: readonly string[],
): (() => void) | undefined {
  const unlock = stuck === undefined ? makeLock(dir) : () => {};
  if (!unlock) return undefined;

  // ENOTEMPTY: the record of one who came too late and is about to take it away, or died: whoever waits clears it.
  const removeLock = () => tolerate(['ENOTEMPTY'], unlock);
  const own = join(lockOf(dir), id);
  const since = new Date().toISOString();
  const record: OwnerRecord = { pid: process.pid, command, trigger, since, startedUptime: uptime() };
  let alone: boolean | undefined = false;
  try {
    alone = tolerate(['ENOENT'], () => {
      writeFileSync(own, JSON.stringify(record), { flag: 'wx', mode: 0o600 });
      const others = readdirSync(lockOf(dir)).filter((name) => name !== id);
      return others.every((name) => stuck?.includes(name));
    });
  } finally {
    if (!alone) {
      removeFile(own);
      removeLock();
    }
  }
  if (!alone) return undefined;
  return () => {
    unlinkSync(own);
    removeLock();
  };
}

/**
 * Moves the records of dead owners out of the way (invariant 4), and with the last one the lock itself. What is nobody's record is
 * removed. Gives the records that are left, undefined when there is no lock; and those of them that cannot be moved.
 */
function clearDead({ dir, onLeft }: LockOptions<unknown>): { records: string[] | undefined; stuck: string[] } {
  const names = list(lockOf(dir));
  const dead = names?.filter((name) => livingOwner(name) === undefined) ?? [];
  if (dead.length === 0) return { records: names, stuck: [] };
  const stuck = dead.filter((name) => !leaving(join(lockOf(dir), name), onLeft, () => putAway(dir, name)));
  if (stuck.length === 0) removeIfEmpty(lockOf(dir));
  return { records: list(lockOf(dir)), stuck };
}

function putAway(dir: string, name: string): void {
  const [record, moved] = [join(lockOf(dir), name), join(deadOf(dir), name)];
  try {
    if (isOwnerId(name)) tolerate(['ENOENT'], () => renameSync(record, moved));
    else removeFile(record, dir);
  } catch (error) {
    // Something else is there under its name, which is all that is asked for.
    if (!isOwnerId(name) || lstatSync(moved, { throwIfNoEntry: false }) === undefined) throw error;
    removeFile(record, dir);
  }
}

/** Whether it was done; where the system refuses, what is at the path stays, and that is said. */
export function leaving(path: string, onLeft: LockOptions<unknown>['onLeft'], operation: () => void): boolean {
  try {
    operation();
    return true;
  } catch (error) {
    if (!(error instanceof Error && 'syscall' in error)) throw error;
    onLeft?.(path, error);
    return false;
  }
}

/**
 * A function that removes a lock whose creator was killed before he could write his record: one that is empty, and the
 * same one, each time this is called for a second. A creator who was only paused there finds out (invariant 5). Gives whether it is
 * such a one, and stays (invariant 7).
 */
function ownerlessWatch({ dir, onLeft }: LockOptions<unknown>): (records: string[] | undefined) => boolean {
  let seen = { identity: '', since: 0 };
  return (records) => {
    const identity = records?.length === 0 ? identityOf(lockOf(dir)) : '';
    if (identity !== seen.identity) seen = { identity, since: monotonicMs() };
    if (identity === '' || monotonicMs() - seen.since < OWNERLESS_MS) return false;
    return !leaving(lockOf(dir), onLeft, () => removeIfEmpty(lockOf(dir)));
  };
}

/** Inode numbers are used again; with the time of the last change, compared for equality only, they tell two apart. */
function identityOf(path: string): string {
  const stat = statSync(path, { bigint: true, throwIfNoEntry: false });
  return stat ? `${stat.ino} ${stat.ctimeNs}` : '';
}

/** Ends, and sees the end of, every process that a dead holder started (invariant 6). */
async function endChildrenOfDead({ dir, onLeft }: LockOptions<unknown>): Promise<void> {
  const moved = list(deadOf(dir)) ?? [];
  const stuck = (list(lockOf(dir)) ?? []).filter((name) => isOwnerId(name) && livingOwner(name) === undefined);
  const owners = [...moved.filter(isOwnerId), ...stuck];
  const marks = owners.map((owner) => `${MARKER}=${owner}`);
  const started = monotonicMs();
  let ending: ProcessStat[] = [];
  for (let clean = owners.length > 0 ? 0 : 2; clean < 2; ) {
    const found = processesWith(marks);
    for (const child of found) tolerate(['ESRCH'], () => process.kill(child.pid, 'SIGKILL'));
    ending = [...ending, ...found].filter((child) => !hasEnded(child));
    clean = found.length + ending.length > 0 ? 0 : clean + 1;
    if (monotonicMs() - started > CHILDREN_END_MS) {
      const names = ending.map(({ pid, name }) => `pid ${pid} (${name})`).join(', ');
      throw new LockedError(
        `nothing was changed: children of a run that was killed do not end, although killed themselves: ${names}; ` +
          'see what each waits for with cat /proc/PID/stack; try again when they are gone, or reboot',
      );
    }
    await timers().setTimeout(RESCAN_MS);
  }
  for (const name of moved) {
    const path = join(deadOf(dir), name);
    leaving(path, onLeft, () => removeFile(path, dir));
  }
}

function lockedMessage(dir: string, waitedMs: number): string {
  const holder = readHolder(dir);
  const waited = `gave up after ${inSeconds(waitedMs)}`;
  if (!holder) return `another run has just taken the lock ${lockOf(dir)}; ${waited}: try again`;
  const cure = holder.state.startsWith('stopped')
    ? `let it go on with kill -CONT ${holder.pid}, or end it with kill -KILL ${holder.pid}`
    : 'try again when it is done';
  return `another run holds the lock: ${describeHolder(holder)}; ${waited}: ${cure}`;
}

function inSeconds(ms: number): string {
  return `${Math.round(ms / 1000)} s`;
}

function list(dir: string): string[] | undefined {
  return tolerate(['ENOENT', 'ENOTDIR', 'ELOOP'], () => readdirSync(dir));
}

function removeIfEmpty(dir: string): void {
  tolerate(['ENOENT', 'ENOTEMPTY'], () => rmdirSync(dir));
}

function lockOf(dir: string): string {
  return join(dir, 'lock');
}

function deadOf(dir: string): string {
  return join(dir, 'dead');
}
