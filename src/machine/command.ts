// One command that is given nothing on standard input, from its start to its end. Most runs only read, and loading execa
// takes them a third of what starting Node takes (12 ms of 35, with the code cache): it is for commands that are fed.

import { type ChildProcessByStdio, spawn } from 'node:child_process';
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
    let child: ChildProcessByStdio<null, Readable, Readable>;
    try {
      child = spawn(command, args, { env, stdio: ['ignore', 'pipe', 'pipe'], ...OWN_GROUP });
    } catch (error) {
      // Of the failures to start a process some come as an event, and some (ENOMEM, E2BIG) are thrown.
      resolve({ ...ended, code: (error as NodeJS.ErrnoException).code ?? 'UNKNOWN' });
      return;
    }
    const [stdout, stderr] = [collect(child.stdout), collect(child.stderr)];
    const timer = setTimeout(() => {
      ended.timedOut = true;
      killGroup(child.pid);
      // One that left the group may keep them open.
      child.stdout.destroy();
      child.stderr.destroy();
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

function collect(stream: Readable): () => string {
  const pieces: Buffer[] = [];
  stream.on('data', (piece: Buffer) => pieces.push(piece));
  return () => Buffer.concat(pieces).toString();
}
