// One command, from its start to its end. Its standard streams are files where that can be, and pipes where not. One that a pipe
// has to be fed to bit by bit is for execa, which is not loaded for anything else (docs/speed.md).

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

/** Of what goes in and comes out; in latin1 each character is one byte, whatever it is. */
export type Encoding = 'utf8' | 'latin1';

/**
 * Closes the files. A status is for the caller to judge. What a command that its timeout killed has left open is not waited for.
 */
export async function runCommand(
  command: string,
  args: readonly string[],
  { streams, encoding = 'utf8', ...limits }: Limits & { streams: Streams; encoding?: Encoding | undefined },
): Promise<Ended> {
  const { files, input } = streams;
  const stdio = files ?? ([input === undefined ? 'ignore' : 'pipe', 'pipe', 'pipe'] as const);
  const { child, ended, closed } = begin(command, args, { ...limits, stdio });
  // One that ends without reading it says so by its status.
  child?.stdin?.on('error', () => {}).end(input, encoding);
  const printed = files
    ? () => ({ stdout: contentOf(files[1], encoding), stderr: contentOf(files[2], 'utf8') })
    : collected(child?.stdout, child?.stderr, encoding);
  await closed;
  try {
    return child === undefined ? ended : { ...ended, ...printed() };
  } finally {
    closeAll(files);
  }
}

/**
 * As runCommand, for one that prints more than should be in memory at once: each line goes to `onLine` as it comes, in latin1, and
 * `stdout` stays empty. What `onLine` throws ends the command, and is thrown.
 */
export async function streamCommand(
  command: string,
  args: readonly string[],
  onLine: (line: string) => void,
  limits: Limits,
): Promise<Ended> {
  const { child, ended, closed, end } = begin(command, args, { ...limits, stdio: ['ignore', 'pipe', 'pipe'] });
  const lines = lineSplitter(onLine);
  let thrown: { error: unknown } | undefined;
  const pass = (piece?: Buffer) => {
    if (thrown !== undefined) return;
    try {
      lines(piece);
    } catch (error) {
      thrown = { error };
      end();
    }
  };
  child?.stdout?.on('data', pass).on('end', () => pass());
  child?.stderr?.on('data', (piece: Buffer) => {
    if (ended.stderr.length < MOST_COMPLAINT) ended.stderr += piece.toString();
  });
  await closed;
  if (thrown !== undefined) throw thrown.error;
  return ended;
}

type Limits = { env: NodeJS.ProcessEnv; timeoutMs: number };

type Begun = {
  /** Undefined where it has not even begun: then it is closed, and its end has a code. */
  child: ChildProcess | undefined;
  /** Filled in until it is closed. */
  ended: Ended;
  closed: Promise<void>;
  end(): void;
};

/** In time it is ended, with all that it has started. */
function begin(
  command: string,
  args: readonly string[],
  { env, timeoutMs, stdio }: Limits & { stdio: readonly (number | 'ignore' | 'pipe')[] },
): Begun {
  const ended: Ended = { timedOut: false, stdout: '', stderr: '' };
  let child: ChildProcess;
  try {
    child = spawn(command, args, { env, stdio: [...stdio], ...OWN_GROUP });
  } catch (error) {
    // Of the failures to start a process some come as an event, and some (ENOMEM, E2BIG) are thrown.
    ended.code = (error as NodeJS.ErrnoException).code ?? 'UNKNOWN';
    return { child: undefined, ended, closed: Promise.resolve(), end() {} };
  }
  const end = () => {
    killGroup(child.pid);
    // One that left the group may keep them open.
    child.stdout?.destroy();
    child.stderr?.destroy();
  };
  const timer = setTimeout(() => {
    ended.timedOut = true;
    end();
  }, timeoutMs);
  child.on('error', ({ code = 'UNKNOWN' }: NodeJS.ErrnoException) => {
    ended.code = code;
  });
  const closed = new Promise<void>((resolve) => {
    child.on('close', (status, signal) => {
      clearTimeout(timer);
      if (status !== null && status >= 0) ended.exitCode = status;
      if (signal !== null) ended.signal = signal;
      resolve();
    });
  });
  return { child, ended, closed, end };
}

const MOST_COMPLAINT = 65_536;
/** Bytes; what is longer is no line of a table, and handed on in pieces. */
const LONGEST_LINE = 65_536;

/**
 * A line that lies in several pieces is copied once, at its end. Each line is a string of its own, which keeps nothing of its piece in
 * memory. The last one may lack its line feed: no piece is the end.
 */
export function lineSplitter(onLine: (line: string) => void): (piece?: Buffer) => void {
  let begun: Buffer[] = [];
  let length = 0;
  const finish = () => {
    const whole = Buffer.concat(begun);
    begun = [];
    length = 0;
    onLine(whole.toString('latin1'));
  };
  return (piece) => {
    if (piece === undefined) {
      if (length > 0) finish();
      return;
    }
    let from = 0;
    for (let to = piece.indexOf(LINE_FEED); to !== -1; from = to + 1, to = piece.indexOf(LINE_FEED, from)) {
      if (length === 0) onLine(piece.toString('latin1', from, to));
      else {
        begun.push(piece.subarray(from, to));
        finish();
      }
    }
    if (from === piece.length) return;
    begun.push(piece.subarray(from));
    length += piece.length - from;
    if (length > LONGEST_LINE) finish();
  };
}

const LINE_FEED = 0x0a;

/**
 * In memory, without a name, gone when they are closed. Three commands that print into files instead of pipes save a fifth of what
 * starting Node takes, in Node's streams; and one that prints more than a pipe holds (64 KiB) goes on while this process is busy.
 * Undefined where there can be none (not root, little room: what is cut off may look whole), and with SELinux, which may not let
 * a command use a file of ours.
 */
export function standardFiles(input: string | undefined, encoding: Encoding = 'utf8'): Streams | undefined {
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
    return { files: [input === undefined ? 'ignore' : filled(open(), Buffer.from(input, encoding)), open(), open()] };
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

function contentOf(file: number, encoding: Encoding): string {
  const bytes = Buffer.allocUnsafe(fstatSync(file).size);
  return bytes.subarray(0, readSync(file, bytes, 0, bytes.length, 0)).toString(encoding);
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

function collected(
  stdout: Readable | null | undefined,
  stderr: Readable | null | undefined,
  encoding: Encoding,
): () => Pick<Ended, 'stdout' | 'stderr'> {
  const [printed, complained] = [stdout, stderr].map((stream) => {
    const list: Buffer[] = [];
    stream?.on('data', (piece: Buffer) => list.push(piece));
    return list;
  });
  return () => ({
    stdout: Buffer.concat(printed ?? []).toString(encoding),
    stderr: Buffer.concat(complained ?? []).toString(),
  });
}
