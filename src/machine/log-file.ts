// What earlier runs wrote into the log file: one JSON line a run, beside lines about single events. Read piece by piece: what is in
// the folder may be of any size, and no line of ours.

import { constants } from 'node:fs';
import { type FileHandle, lstat, open, readdir } from 'node:fs/promises';
import { basename, dirname, join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { createGunzip } from 'node:zlib';
import { type Bounds, parseBounded } from '../base/bounded-json.ts';
import { HostError } from '../base/errors.ts';
import type { Issue } from '../config/issue.ts';
import { loggedRun } from './kept-shapes.ts';

export type LoggedRun = {
  time: string;
  /** That `status`, the journal and this log share. */
  id: string;
  command: string;
  trigger: string;
  result: string;
  durationMs: number;
  /** Of version 1.0 there is none. */
  exitStatus?: number;
  steps: { kind?: string; text: string }[];
  stepsLeftOut?: number;
  /** The steps in an operator's words, where those are others. */
  summary?: string[];
  warnings: Issue[];
  errors: Issue[];
};

/** Bytes. A line has 120 kB at most; of 1.0, which wrote every step, a megabyte at 4,000 EIPs. */
const LONGEST_LINE = 4 * 1024 * 1024;
/** A step has two values. */
const BOUNDS: Bounds = { depth: 8, values: 100_000 };
/** logrotate begins a new file at 10 MB. Of a larger one the end. */
const MOST_LOG = 16 * 1024 * 1024;
/** Of one that is packed the beginning: its end is not to be had without that. */
const MOST_UNPACKED = 4 * MOST_LOG;
/** Of all logs together. */
const MOST_READ = 16 * MOST_LOG;
/** What is in memory of them. */
const MOST_KEPT = 2 * MOST_LOG;
const PIECE = 256 * 1024;

/** What is passed over, in words. */
type Say = (sentence: string) => void;

/** The last runs, oldest first, from the logs that logrotate has put aside too. */
export async function readRuns(path: string, most: number, say: Say): Promise<LoggedRun[]> {
  let runs: LoggedRun[] = [];
  const left = { read: MOST_READ, kept: MOST_KEPT };
  for (const log of [path, ...(await rotatedLogs(path))]) {
    if (runs.length >= most) break;
    if (left.read <= 0 || left.kept <= 0) {
      say(`${log}, and what is older, is passed over: the logs are too large`);
      break;
    }
    const kept = newestOf(most - runs.length, left.kept);
    left.read -= await readLog(log, kept.add, say);
    const { runs: older, length, dropped } = kept.all();
    left.kept = dropped ? 0 : left.kept - length;
    if (dropped) say(`${log}: runs before ${older[0]?.time} are passed over: they are too large together`);
    runs = older.concat(runs);
  }
  return runs;
}

/** Keeps the last so many, of so many characters. `dropped`: there were more than that for their length alone. */
function newestOf(most: number, mostLength: number) {
  let kept: { run: LoggedRun; length: number }[] = [];
  let [first, total, dropped] = [0, 0, false];
  const drop = () => {
    total -= kept[first]?.length ?? 0;
    first++;
  };
  return {
    add(run: LoggedRun, length: number) {
      kept.push({ run, length });
      total += length;
      if (kept.length - first > most) drop();
      for (; total > mostLength && kept.length - first > 1; drop()) dropped = true;
      // Not each time: that would move all of them for each.
      if (first > 1000 && first > kept.length / 2) [kept, first] = [kept.slice(first), 0];
    },
    all: () => ({ runs: kept.slice(first).map(({ run }) => run), length: total, dropped }),
  };
}

/** Newest first: by number, or by date where logrotate.conf says so (EL). */
async function rotatedLogs(path: string): Promise<string[]> {
  const names = await readdir(dirname(path)).catch((): string[] => []);
  return names
    .flatMap((name) => {
      const [, number, date] = ROTATED.exec(name.slice(basename(path).length)) ?? [];
      if (!name.startsWith(basename(path)) || (number ?? date) === undefined) return [];
      return [{ path: join(dirname(path), name), age: number === undefined ? -Number(date) : Number(number) }];
    })
    .sort((a, b) => a.age - b.age)
    .map((log) => log.path);
}

const ROTATED = /^(?:\.(\d{1,4})|-(\d{8,14}))(?:\.gz)?$/;

const LOOK_MS = 300;

/** Runs as they are logged from now on; never ends. */
export async function* followRuns(path: string, say: Say): AsyncGenerator<LoggedRun> {
  let { ino, size: at } = await place(path);
  let found: LoggedRun[] = [];
  const begin = (within = false) => linesOf(path, (run) => found.push(run), say, within);
  let lines = begin();
  for (;;) {
    await sleep(LOOK_MS);
    const now = await place(path);
    // Rotated, or emptied in place.
    if (now.ino !== ino || now.size < at) [ino, at, lines] = [now.ino, 0, begin()];
    if (now.size - at > MOST_LOG) {
      say(`${path} has grown by ${now.size - at} bytes: only the last ${MOST_LOG} are read`);
      [at, lines] = [now.size - MOST_LOG, begin(true)];
    }
    for (; at < now.size; at = Math.min(at + PIECE, now.size)) {
      await readPieces(path, at, Math.min(at + PIECE, now.size), lines.add);
      const news = found;
      found = [];
      yield* news;
    }
    lines.tell();
  }
}

/** A line of a run that was killed while it wrote is no run, nor is one about a single event. */
function runIn(line: string): LoggedRun | undefined {
  try {
    const { run: id, steps, level: _, msg: __, ...rest } = loggedRun(parseBounded(line, BOUNDS));
    // 1.0 wrote their texts alone.
    const named = steps.map((step) => (typeof step === 'string' ? { text: step } : step));
    return { id, ...rest, steps: named } as LoggedRun;
  } catch {
    return undefined;
  }
}

/**
 * Bytes, as they come → runs. A line that is too long is not kept: it may have no end. `within`: the first bytes are the end of a line
 * that is not looked for.
 */
function linesOf(path: string, onRun: (run: LoggedRun, length: number) => void, say: Say, within: boolean) {
  let begun: Buffer[] = [];
  let [length, odd, isWhole] = [0, 0, !within];
  const more = (part: Buffer) => {
    length += part.length;
    if (length > LONGEST_LINE) begun = [];
    else begun.push(part);
  };
  const finish = () => {
    const line = Buffer.concat(begun).toString();
    const run = isWhole && line.includes('"result"') ? runIn(line) : undefined;
    if (run !== undefined) onRun(run, line.length);
    else if (isWhole && (length > LONGEST_LINE || line.includes('"result"'))) odd++;
    [begun, length, isWhole] = [[], 0, true];
  };
  return {
    add(piece: Buffer) {
      let from = 0;
      for (let to = piece.indexOf(LINE_FEED); to !== -1; from = to + 1, to = piece.indexOf(LINE_FEED, from)) {
        more(piece.subarray(from, to));
        finish();
      }
      if (from < piece.length) more(piece.subarray(from));
    },
    end: finish,
    /** What was passed over since it was told last. */
    tell() {
      if (odd > 0)
        say(`${path}: ${odd === 1 ? '1 line is' : `${odd} lines are`} passed over, cut off or as no run writes`);
      odd = 0;
    },
  };
}

const LINE_FEED = 0x0a;

/** Gives how many bytes it has read. */
async function readLog(path: string, onRun: (run: LoggedRun, length: number) => void, say: Say): Promise<number> {
  const { size } = await place(path);
  if (size === 0) return 0;
  const isPacked = path.endsWith('.gz');
  const lines = linesOf(path, onRun, say, !isPacked && size > MOST_LOG);
  try {
    if (isPacked) return await unpack(path, lines.add, say);
    if (size > MOST_LOG) say(`${path} has ${size} bytes: only the last ${MOST_LOG} are read`);
    await readPieces(path, Math.max(0, size - MOST_LOG), size, lines.add);
    return Math.min(size, MOST_LOG);
  } catch (error) {
    // Rotated just now.
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return 0;
    throw new HostError(`reading ${path}`, error);
  } finally {
    lines.end();
    lines.tell();
  }
}

/** What is before the place where it is cut short counts. */
async function unpack(path: string, onPiece: (piece: Buffer) => void, say: Say): Promise<number> {
  const file = await openLog(path);
  const packed = file.createReadStream({ autoClose: false, end: MOST_UNPACKED });
  const unpacking = createGunzip();
  packed.on('error', (error) => unpacking.destroy(error));
  let unpacked = 0;
  try {
    for await (const piece of packed.pipe(unpacking)) {
      unpacked += piece.length;
      onPiece(piece);
      if (unpacked < MOST_UNPACKED) continue;
      say(`${path}: only the first ${unpacked} bytes of what is packed in it are read`);
      break;
    }
  } catch (error) {
    const { code = '' } = error as NodeJS.ErrnoException;
    if (!code.startsWith('Z_')) throw error;
    say(`${path} is no gzip archive, or is cut off: the rest of it is passed over`);
  } finally {
    packed.destroy();
    await file.close();
  }
  return unpacked;
}

/** What is no file has no runs in it. */
async function place(path: string): Promise<{ ino: number; size: number }> {
  const found = await lstat(path).catch(() => undefined);
  return found?.isFile() ? found : { ino: 0, size: 0 };
}

/** Not waiting, should it have become a FIFO since. */
const openLog = (path: string): Promise<FileHandle> =>
  open(path, constants.O_RDONLY | constants.O_NOFOLLOW | constants.O_NONBLOCK);

async function readPieces(path: string, start: number, end: number, onPiece: (piece: Buffer) => void): Promise<void> {
  const file = await openLog(path);
  try {
    for (let at = start; at < end; ) {
      const { buffer, bytesRead } = await file.read(Buffer.alloc(Math.min(PIECE, end - at)), 0, null, at);
      if (bytesRead === 0) return;
      onPiece(buffer.subarray(0, bytesRead));
      at += bytesRead;
    }
  } finally {
    await file.close();
  }
}
