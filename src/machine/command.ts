// One command, from its start to its end. Its standard streams are files where that can be, and pipes where not. One that a pipe
// has to be fed to bit by bit is for execa, which takes a third of what starting Node takes to load (12 ms, with the code cache).

import { type ChildProcess, spawn } from 'node:child_process';
import { closeSync, constants, existsSync, fstatSync, openSync, readSync, statfsSync, writeSync } from 'node:fs';
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

/** Standard input, output and error: files, or pipes, with what goes into the first. */
export type Streams = {
  files?: readonly [stdin: number | 'ignore', stdout: number, stderr: number];
  input?: string | undefined;
};

/**
 * Closes the files. A status is for the caller to judge. What a command that its timeout killed has left open is not waited for.
 */
export function runCommand(
  command: string,
  args: readonly string[],
  { env, timeoutMs, streams }: { env: NodeJS.ProcessEnv; timeoutMs: number; streams: Streams },
): Promise<Ended> {
  return new Promise((resolve) => {
    const ended: Ended = { timedOut: false, stdout: '', stderr: '' };
    const { files, input } = streams;
    let child: ChildProcess;
    try {
      const stdio = files ?? ([input === undefined ? 'ignore' : 'pipe', 'pipe', 'pipe'] as const);
      child = spawn(command, args, { env, stdio: [...stdio], ...OWN_GROUP });
    } catch (error) {
      closeAll(files);
      // Of the failures to start a process some come as an event, and some (ENOMEM, E2BIG) are thrown.
      resolve({ ...ended, code: (error as NodeJS.ErrnoException).code ?? 'UNKNOWN' });
      return;
    }
    // One that ends without reading it says so by its status.
    child.stdin?.on('error', () => {}).end(input);
    const printed = files
      ? () => ({ stdout: contentOf(files[1]), stderr: contentOf(files[2]) })
      : collected(child.stdout, child.stderr);
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
      resolve({ ...ended, ...printed() });
      closeAll(files);
    });
  });
}

/**
 * In memory, without a name, gone when they are closed. Three commands that print into files instead of pipes save a fifth of what
 * starting Node takes, in Node's streams; and one that prints more than a pipe holds (64 KiB) goes on while this process is busy.
 * Undefined where there can be none (not root, little room: what is cut off may look whole), and with SELinux, which may not let
 * a command use a file of ours.
 */
export function standardFiles(input: string | undefined): Streams | undefined {
  if (existsSync('/sys/fs/selinux/enforce')) return undefined;
  const opened: number[] = [];
  const open = () => {
    const file = openSync('/run', O_TMPFILE | constants.O_RDWR, 0o600);
    opened.push(file);
    return file;
  };
  try {
    const { bavail, bsize } = statfsSync('/run');
    if (bavail * bsize < ROOM) return undefined;
    return { files: [input === undefined ? 'ignore' : filled(open(), Buffer.from(input)), open(), open()] };
  } catch {
    closeAll(opened);
    return undefined;
  }
}

/** Bytes: of 10,000 EIPs ip and iptables-save print 8 MB together. */
const ROOM = 16 * 1024 * 1024;

/** Undefined where the input may be more than a pipe takes at once (POSIX: 4,096 bytes at least). */
export const pipes = (input: string | undefined): Streams | undefined =>
  input === undefined || Buffer.byteLength(input) <= 4096 ? { input } : undefined;

/** open(2): __O_TMPFILE, which Node does not name, with O_DIRECTORY, which is another one on arm64. */
const O_TMPFILE = 0o20000000 | constants.O_DIRECTORY;

/** Is read from its beginning. */
function filled(file: number, bytes: Buffer): number {
  for (let at = 0; at < bytes.length; ) at += writeSync(file, bytes, at, bytes.length - at, at);
  return file;
}

function contentOf(file: number): string {
  const bytes = Buffer.allocUnsafe(fstatSync(file).size);
  return bytes.subarray(0, readSync(file, bytes, 0, bytes.length, 0)).toString();
}

function closeAll(files: readonly (number | 'ignore')[] = []): void {
  for (const file of files) if (file !== 'ignore') closeSync(file);
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

function collected(...streams: (Readable | null)[]): () => Pick<Ended, 'stdout' | 'stderr'> {
  const pieces = streams.map((stream) => {
    const list: Buffer[] = [];
    stream?.on('data', (piece: Buffer) => list.push(piece));
    return list;
  });
  return () => {
    const [stdout = '', stderr = ''] = pieces.map((list) => Buffer.concat(list).toString());
    return { stdout, stderr };
  };
}
