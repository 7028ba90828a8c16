// What earlier runs wrote into the log file: one JSON line a run, beside lines about single events.

import { lstat, open, readdir, readFile } from 'node:fs/promises';
import { basename, dirname, join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { gunzipSync } from 'node:zlib';
import type { Issue } from '../config/issue.ts';
import { HostError } from '../errors.ts';
import { fitting, loggedRun } from './kept-shapes.ts';

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
  warnings: Issue[];
  errors: Issue[];
};

/** The last runs, oldest first, from the logs that logrotate has put aside too. */
export async function readRuns(path: string, most: number): Promise<LoggedRun[]> {
  const runs = parseRuns(await readLog(path));
  for (const rotated of await rotatedLogs(path)) {
    if (runs.length >= most) break;
    runs.unshift(...parseRuns(await readLog(rotated)));
  }
  return runs.slice(-most);
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
export async function* followRuns(path: string): AsyncGenerator<LoggedRun> {
  let { ino, size: at } = await place(path);
  let rest = '';
  for (;;) {
    await sleep(LOOK_MS);
    const now = await place(path);
    // Rotated, or emptied in place.
    if (now.ino !== ino || now.size < at) [ino, at, rest] = [now.ino, 0, ''];
    if (now.size === at) continue;
    const lines = (rest + (await readFrom(path, Math.max(at, now.size - MOST_LOG), now.size))).split('\n');
    at = now.size;
    rest = lines.pop() ?? '';
    yield* parseRuns(lines.join('\n'));
  }
}

function parseRuns(text: string): LoggedRun[] {
  return text.split('\n').flatMap((line) => {
    // A line of a run that was killed while it wrote is no run, nor is one about a single event.
    if (!line.includes('"result"')) return [];
    const logged = fitting(loggedRun, line);
    if (logged === undefined) return [];
    const { run: id, steps, level: _, msg: __, ...rest } = logged;
    // 1.0 wrote their texts alone.
    const named = steps.map((step) => (typeof step === 'string' ? { text: step } : step));
    return [{ id, ...rest, steps: named } as LoggedRun];
  });
}

/** A line has 120 kB at most; logrotate begins a new file at 10 MB. Of a larger one the end. */
const MOST_LOG = 16 * 1024 * 1024;
const MOST_UNPACKED = 4 * MOST_LOG;

async function readLog(path: string): Promise<string> {
  const { size } = await place(path);
  if (size === 0) return '';
  try {
    if (!path.endsWith('.gz')) return await readFrom(path, Math.max(0, size - MOST_LOG), size);
    return gunzipSync(await readFile(path), { maxOutputLength: MOST_UNPACKED }).toString();
  } catch (error) {
    // Rotated just now; cut short, or no such archive; larger than any log of ours.
    const { code = '' } = error as NodeJS.ErrnoException;
    if (code === 'ENOENT' || /^Z_|^ERR_BUFFER_TOO_LARGE$/.test(code)) return '';
    throw new HostError(`reading ${path}`, error);
  }
}

/** What is no file has no runs in it. */
async function place(path: string): Promise<{ ino: number; size: number }> {
  const found = await lstat(path).catch(() => undefined);
  return found?.isFile() ? found : { ino: 0, size: 0 };
}

async function readFrom(path: string, start: number, end: number): Promise<string> {
  const file = await open(path);
  try {
    const { buffer, bytesRead } = await file.read(Buffer.alloc(end - start), 0, end - start, start);
    return buffer.toString('utf8', 0, bytesRead);
  } finally {
    await file.close();
  }
}
