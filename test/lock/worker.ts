// A process that takes the lock or a turn, as one run of kylin-vr does, and says on stdout how far it is.
// It checks with a file of its own, outside of what is tested, that it is alone inside.

import { spawn } from 'node:child_process';
import fs from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { describeHolder, type Held, withLock } from '../../src/machine/lock.ts';
import { readProcess } from '../../src/machine/process.ts';
import { takeTurn } from '../../src/machine/turn.ts';

export type Task = {
  dir: string;
  timeoutMs?: number;
  workMs?: number;
  /** Start a child that writes to the log after this long, and say its pid. */
  childMs?: number;
  /** How work ends: well; by throwing; by process.exit; by throwing, or never, if the file of that name can be removed. */
  end?: 'throw' | 'exit' | 'fail-once' | 'hang-once';
  /** Take a turn with this key: `explicit` serves all, every other key its own kind. */
  key?: string;
  /** Stop (SIGSTOP) before the first call of this function that touches lock/ or kills a process. */
  stopBefore?: 'writeFileSync' | 'renameSync' | 'rmdirSync' | 'kill';
};

const task: Task = JSON.parse(process.argv[2] ?? '');
const log = (line: string) => fs.appendFileSync(join(task.dir, 'log'), `${line}\n`);

async function work({ marker }: Held): Promise<{ by: number }> {
  claimInside();
  const hangs = task.end === 'hang-once' && removed(join(task.dir, 'hang-once'));
  log(`in ${process.pid}`);
  if (task.childMs !== undefined) startChild(marker, task.childMs);
  process.stdout.write('in\n');
  await sleep(hangs ? 60_000 : (task.workMs ?? 0));
  if (task.end === 'exit') process.exit(0);
  log(`out ${process.pid}`);
  fs.unlinkSync(join(task.dir, 'inside'));
  if (task.end === 'throw' || (task.end === 'fail-once' && removed(join(task.dir, 'fail-once'))))
    throw new Error('work');
  return { by: process.pid };
}

function claimInside(): void {
  const inside = join(task.dir, 'inside');
  try {
    fs.writeFileSync(inside, String(process.pid), { flag: 'wx' });
  } catch {
    const other = Number(fs.readFileSync(inside, 'utf8'));
    const state = readProcess(other)?.state ?? 'gone';
    if (!['gone', 'Z', 'X'].includes(state)) log(`OVERLAP ${process.pid} ${other} ${state}`);
    fs.writeFileSync(inside, String(process.pid));
  }
}

function startChild(marker: Held['marker'], delayMs: number): void {
  const script = `sleep ${delayMs / 1000}; echo child >> ${join(task.dir, 'log')}`;
  const child = spawn('/bin/sh', ['-c', script], { env: { ...process.env, ...marker }, stdio: 'ignore' });
  process.stdout.write(`child ${child.pid}\n`);
}

function removed(path: string): boolean {
  if (!fs.existsSync(path)) return false;
  fs.unlinkSync(path);
  return true;
}

/** The instant between two system calls at which a process is paused or killed, made long enough to be hit. */
function stopBefore(name: NonNullable<Task['stopBefore']>): void {
  const place = (name === 'kill' ? process : fs) as unknown as Record<string, (...args: unknown[]) => unknown>;
  const original = place[name] as (...args: unknown[]) => unknown;
  const { kill } = process;
  place[name] = (...args) => {
    if (name === 'kill' || String(args[0]).includes('/lock')) {
      place[name] = original;
      kill.call(process, process.pid, 'SIGSTOP');
    }
    return original.apply(place, args);
  };
}

async function main(): Promise<void> {
  if (task.stopBefore) stopBefore(task.stopBefore);
  const options = {
    dir: task.dir,
    command: 'kylin-vr reload',
    trigger: 'operator',
    timeoutMs: task.timeoutMs ?? 60_000,
    onWait: (holder: Parameters<typeof describeHolder>[0], waitedMs: number) =>
      process.stdout.write(`waiting ${Math.round(waitedMs)} ${describeHolder(holder)}\n`),
  };
  const { key } = task;
  const result =
    key === undefined
      ? await withLock(options, work)
      : await takeTurn(
          {
            ...options,
            key,
            shape: (value) => value as object,
            servedBy: (other) => other === 'explicit' || key === other,
          },
          work,
        );
  process.stdout.write(`result ${JSON.stringify(result)}\n`);
}

main().catch((error) => {
  process.stderr.write(`${error.message}\n`);
  process.exitCode = error.status ?? 1;
});
