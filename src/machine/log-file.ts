// What earlier runs wrote into the log file: one JSON line a run, beside lines about single events.

import { open, readFile, stat } from 'node:fs/promises';
import { setTimeout as sleep } from 'node:timers/promises';
import type { Issue } from '../config/issue.ts';
import { HostError } from '../errors.ts';

export type LoggedRun = {
  time: string;
  /** The id that `status`, the journal and this log share. */
  run: string;
  command: string;
  trigger: string;
  result: string;
  durationMs: number;
  steps: string[];
  stepsLeftOut?: number;
  warnings: Issue[];
  errors: Issue[];
};

/** The last runs, oldest first; logrotate leaves the log before this one unpacked beside it. */
export async function readRuns(path: string, most: number): Promise<LoggedRun[]> {
  const runs = parseRuns(await readLog(path));
  if (runs.length < most) runs.unshift(...parseRuns(await readLog(`${path}.1`)));
  return runs.slice(-most);
}

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
    const lines = (rest + (await readFrom(path, at, now.size))).split('\n');
    at = now.size;
    rest = lines.pop() ?? '';
    yield* parseRuns(lines.join('\n'));
  }
}

function parseRuns(text: string): LoggedRun[] {
  return text.split('\n').flatMap((line) => {
    // A line of a run that was killed while it wrote is no run.
    try {
      const logged = JSON.parse(line) as Partial<LoggedRun>;
      return logged.run !== undefined && logged.result !== undefined ? [logged as LoggedRun] : [];
    } catch {
      return [];
    }
  });
}

async function readLog(path: string): Promise<string> {
  try {
    return await readFile(path, 'utf8');
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return '';
    throw new HostError(`reading ${path}`, error);
  }
}

async function place(path: string): Promise<{ ino: number; size: number }> {
  return stat(path).catch(() => ({ ino: 0, size: 0 }));
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
