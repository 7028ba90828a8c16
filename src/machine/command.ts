// One command that is given nothing on standard input, from its start to its end. Most runs only read, and loading execa
// takes them a third of what starting Node takes (12 ms of 35, with the code cache): it is for commands that are fed.

import { type ChildProcess, spawn } from 'node:child_process';
import { closeSync, constants, existsSync, fstatSync, openSync, readSync } from 'node:fs';
import type { Readable } from 'node:stream';

/** How it ended: with a status, by a signal, or, with a `code`, not even begun. */
export type Ended = {
  exitCode?: number;
  signal?: NodeJS.Signals;
  code?: string;
  timedOut: boolean;
  stdout: string;
  stderr: string;
};

/** A status is for the caller to judge. What a command that its timeout killed has left open is not waited for. */
export function runUnfed(
  command: string,
  args: readonly string[],
  { env, timeoutMs }: { env: NodeJS.ProcessEnv; timeoutMs: number },
): Promise<Ended> {
  return new Promise((resolve) => {
    const ended: Ended = { timedOut: false, stdout: '', stderr: '' };
    const files = outputFiles();
    let child: ChildProcess;
    try {
      child = spawn(command, args, { env, stdio: ['ignore', ...(files ?? (['pipe', 'pipe'] as const))], ...OWN_GROUP });
    } catch (error) {
      for (const file of files ?? []) closeSync(file);
      // Of the failures to start a process some come as an event, and some (ENOMEM, E2BIG) are thrown.
      resolve({ ...ended, code: (error as NodeJS.ErrnoException).code ?? 'UNKNOWN' });
      return;
    }
    const [stdout, stderr] = files
      ? [contentOf(files[0]), contentOf(files[1])]
      : [collect(child.stdout), collect(child.stderr)];
    const timer = setTimeout(() => {
      ended.timedOut = true;
      killGroup(child.pid);
      // One that left the group may keep them open.
      child.stdout?.destroy();
      child.stderr?.destroy();
    }, timeoutMs);
    child.on('error', ({ code = 'UNKNOWN' }: NodeJS.ErrnoException) => {
      ended.code = code;
    });
    child.on('close', (status, signal) => {
      clearTimeout(timer);
      if (status !== null && status >= 0) ended.exitCode = status;
      if (signal !== null) ended.signal = signal;
      resolve({ ...ended, stdout: stdout(), stderr: stderr() });
    });
  });
}

/**
 * For spawn: a session of its own. Ctrl-C and the end of a terminal reach all that is in the terminal's, and would break off
 * what is to be finished; and a command can be killed together with what it started.
 */
export const OWN_GROUP = { detached: true } as const;

/** Kills a process that was started with OWN_GROUP, and its children. */
export function killGroup(pid: number | undefined): void {
  if (pid === undefined) return;
  try {
    process.kill(-pid, 'SIGKILL');
  } catch {
    // It has ended.
  }
}

/**
 * For what it prints, in memory and without a name; gone when they are closed. Three commands that print into files instead of
 * pipes save a fifth of what starting Node takes, in Node's streams, and one that prints more than a pipe holds (64 KiB) goes on
 * while this process is busy. Undefined where there can be none (not root), and with SELinux, where a command may run in a domain
 * that must not write to a file of ours.
 */
function outputFiles(): [number, number] | undefined {
  if (existsSync('/sys/fs/selinux/enforce')) return undefined;
  const files: number[] = [];
  try {
    for (let n = 0; n < 2; n++) files.push(openSync('/run', O_TMPFILE | constants.O_RDWR, 0o600));
    return files as [number, number];
  } catch {
    for (const file of files) closeSync(file);
    return undefined;
  }
}

/** open(2): __O_TMPFILE, which Node does not name, with O_DIRECTORY, which is another one on arm64. */
const O_TMPFILE = 0o20000000 | constants.O_DIRECTORY;

const contentOf = (file: number) => (): string => {
  const bytes = Buffer.allocUnsafe(fstatSync(file).size);
  const size = readSync(file, bytes, 0, bytes.length, 0);
  closeSync(file);
  return bytes.subarray(0, size).toString();
};

function collect(stream: Readable | null): () => string {
  const pieces: Buffer[] = [];
  stream?.on('data', (piece: Buffer) => pieces.push(piece));
  return () => Buffer.concat(pieces).toString();
}
