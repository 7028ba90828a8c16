// A temporary directory with a lock in it, and real processes that compete for it.

import { type ChildProcess, spawn } from 'node:child_process';
import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { TestContext } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { buildSync } from 'esbuild';
import { readProcess } from '../../src/machine/process.ts';
import type { Task } from './worker.ts';

export type Ended = { code: number | null; signal: NodeJS.Signals | null; stdout: string; stderr: string };

export type Worker = {
  process: ChildProcess;
  pid: number;
  /** Waits for a line on stdout that begins so, and gives it. */
  says: (start: string) => Promise<string>;
  ended: Promise<Ended>;
};

export type Lab = {
  dir: string;
  /** Works in `dir` unless the task names another one. */
  start: (task?: Partial<Task>) => Worker;
  log: () => string[];
  /** What is in one of the directories beneath; empty also when it is not there. */
  files: (name: string) => string[];
};

const built = mkdtempSync(join(tmpdir(), 'kylin-vr-worker-'));
/** `node workerFile TASK`: what start starts. */
export const workerFile = join(built, 'worker.cjs');
// Plain JavaScript in one file: fifty processes that each start tsx would take a minute.
buildSync({
  entryPoints: [fileURLToPath(new URL('worker.ts', import.meta.url))],
  outfile: workerFile,
  bundle: true,
  platform: 'node',
  logLevel: 'error',
});
process.on('exit', () => rmSync(built, { recursive: true }));

/** Everything in it, processes too, ends with the test. */
export function openLab(t: TestContext): Lab {
  const dir = mkdtempSync(join(tmpdir(), 'kylin-vr-lock-'));
  const workers: Worker[] = [];
  t.after(async () => {
    for (const worker of workers) worker.process.kill('SIGKILL');
    await Promise.all(workers.map((worker) => worker.ended));
    rmSync(dir, { recursive: true });
  });
  return {
    dir,
    start: (task) => {
      const worker = startWorker({ dir, ...task });
      workers.push(worker);
      return worker;
    },
    log: () => (existsSync(join(dir, 'log')) ? readFileSync(join(dir, 'log'), 'utf8').trim().split('\n') : []),
    files: (name) => (existsSync(join(dir, name)) ? readdirSync(join(dir, name)) : []),
  };
}

function startWorker(task: Task): Worker {
  const child = spawn(process.execPath, [workerFile, JSON.stringify(task)], { stdio: ['ignore', 'pipe', 'pipe'] });
  let stdout = '';
  let stderr = '';
  child.stdout.on('data', (data) => {
    stdout += data;
  });
  child.stderr.on('data', (data) => {
    stderr += data;
  });
  const line = (start: string) => stdout.split('\n').find((text) => text.startsWith(start));
  return {
    process: child,
    pid: child.pid ?? 0,
    says: async (start) => {
      await until(`"${start}" from ${child.pid}; stderr: ${stderr}`, () => line(start) !== undefined);
      return line(start) ?? '';
    },
    ended: new Promise((resolve) => {
      child.on('close', (code, signal) => resolve({ code, signal, stdout, stderr }));
    }),
  };
}

export async function until(what: string, condition: () => boolean, limitMs = 30_000): Promise<void> {
  const started = performance.now();
  while (!condition()) {
    if (performance.now() - started > limitMs) throw new Error(`waited ${limitMs} ms in vain for ${what}`);
    await sleep(5);
  }
}

export function isStopped(pid: number): boolean {
  return readProcess(pid)?.state === 'T';
}

export function isGone(pid: number): boolean {
  return ['gone', 'Z', 'X'].includes(readProcess(pid)?.state ?? 'gone');
}
