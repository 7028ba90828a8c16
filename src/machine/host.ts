// The one door to the machine: commands, files, sysctls.

import { spawn } from 'node:child_process';
import {
  accessSync,
  chmodSync,
  closeSync,
  constants,
  copyFileSync,
  fchmodSync,
  fsyncSync,
  lstatSync,
  mkdirSync,
  openSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  realpathSync,
  renameSync,
  rmdirSync,
  symlinkSync,
  unlinkSync,
  writeFileSync,
} from 'node:fs';
import { basename, dirname, join } from 'node:path';
import { crypto } from '../builtin.ts';
import { CommandError, HostError, UnsupportedError } from '../errors.ts';
import { killGroup, OWN_GROUP, pipes, runCommand, standardFiles } from './command.ts';

export type RunOptions = {
  input?: string;
  /** Milliseconds; the command is killed then. */
  timeoutMs?: number;
  /** Exit statuses that are no failure, beside 0. */
  accept?: readonly number[];
};

export type FileInfo = { uid: number; mode: number; directory: boolean; symlink: boolean };

export interface Host {
  /** Runs a command to its end. Throws CommandError on another status, a signal or a timeout, UnsupportedError where it is missing. */
  run(argv: readonly [string, ...string[]], options?: RunOptions): Promise<{ stdout: string; status: number }>;
  /** Starts a command and lets it be: nothing waits for it, nobody learns how it ended. */
  launch(argv: readonly [string, ...string[]]): Promise<void>;
  /** Whether a command is there; gives the file that it is in the end. */
  which(command: string): Promise<string | undefined>;
  read(path: string): Promise<string | undefined>;
  readBytes(path: string): Promise<Uint8Array | undefined>;
  /** Names in a folder, sorted; none where it does not exist. */
  list(folder: string): Promise<string[]>;
  /** Of the file itself, not of what a link leads to. */
  info(path: string): Promise<FileInfo | undefined>;
  /** Atomic and durable; makes the folder (0700). Gives whether anything changed. */
  write(path: string, content: string | Uint8Array, mode: number): Promise<boolean>;
  setMode(path: string, mode: number): Promise<void>;
  /** Where a symbolic link leads, as it is written; undefined where there is none. */
  readLink(path: string): Promise<string | undefined>;
  /** Makes a symbolic link, in place of what is there; atomic. */
  link(path: string, target: string): Promise<void>;
  /** One folder, in one that exists; whatever the umask. */
  makeFolder(path: string, mode: number): Promise<void>;
  /** Gives whether it is gone: a folder that something is in stays. */
  removeFolder(path: string): Promise<boolean>;
  move(from: string, to: string): Promise<void>;
  /** Gives whether there was anything to remove. */
  remove(path: string): Promise<boolean>;
  /** `key` is the path below /proc/sys; undefined where the kernel has none such. */
  sysctl(key: string): Promise<string | undefined>;
  setSysctl(key: string, value: string): Promise<void>;
}

/** Files that a killed run left half-written end so, and no reader takes them for profiles. */
export const TEMPORARY_SUFFIX = '.kylin-vr-new';

const PATH = '/usr/sbin:/usr/bin:/sbin:/bin';
const COMMAND_TIMEOUT_MS = 60_000;
/** An `ip -j addr` of 10,000 addresses prints 1.5 MB, `iptables-save` of their rules 3 MB. */
const MAX_OUTPUT = 256 * 1024 * 1024;

const PACKAGE_OF: Record<string, string> = {
  ip: 'iproute2 (iproute on RPM systems)',
  conntrack: 'conntrack (conntrack-tools on RPM systems)',
  arping: 'iputils-arping (iputils on RPM systems)',
  'iptables-save': 'iptables',
  'iptables-restore': 'iptables',
};

/**
 * The machine that we run on. Small files are read and written synchronously: a run reads a hundred, nearly all from memory (/proc,
 * /run), and each would go through Node's threads four times, 0.1 ms together; the first to do so waits 3 ms for them to start.
 * `environment` is added to that of every command that is waited for.
 */
export function linuxHost(environment: Readonly<Record<string, string>> = {}): Host {
  const env = { PATH, LC_ALL: 'C', ...environment };
  const host: Host = {
    async run(argv, options = {}) {
      const [command, ...args] = argv;
      const timeout = options.timeoutMs ?? COMMAND_TIMEOUT_MS;
      const { input } = options;
      const streams = standardFiles(input) ?? pipes(input);
      const result =
        streams === undefined
          ? await runFed(command, args, { env, timeoutMs: timeout, input: input ?? '' })
          : await runCommand(command, args, { env, timeoutMs: timeout, streams });
      if (result.code === 'ENOENT') throw missing(command);
      if (result.timedOut)
        throw new CommandError(argv, undefined, result.stderr, `no end after ${timeout / 1000} s, killed`);
      const status = result.exitCode;
      if (status === undefined)
        throw new CommandError(
          argv,
          undefined,
          result.stderr,
          result.signal === undefined ? `did not start: ${result.code}` : `killed by ${result.signal}`,
        );
      if (status !== 0 && !options.accept?.includes(status))
        throw new CommandError(argv, status, result.stderr, `status ${status}`);
      return { stdout: result.stdout, status };
    },

    async launch([command, ...args]) {
      // Not by execa: its options for this would be those of spawn.
      const child = spawn(command, args, { env: { PATH, LC_ALL: 'C' }, stdio: 'ignore', detached: true });
      child.on('error', () => {});
      child.unref();
    },

    async which(command) {
      for (const folder of PATH.split(':')) {
        const path = join(folder, command);
        try {
          accessSync(path, constants.X_OK);
        } catch {
          continue;
        }
        return realpathSync(path);
      }
      return undefined;
    },

    async read(path) {
      return orUndefined(path, () => readFileSync(path, 'utf8'));
    },

    async readBytes(path) {
      return orUndefined(path, () => readFileSync(path));
    },

    async list(folder) {
      return (orUndefined(folder, () => readdirSync(folder)) ?? []).sort();
    },

    async info(path) {
      const found = orUndefined(path, () => lstatSync(path, { throwIfNoEntry: false }));
      return (
        found && {
          uid: found.uid,
          mode: found.mode & 0o7777,
          directory: found.isDirectory(),
          symlink: found.isSymbolicLink(),
        }
      );
    },

    async write(path, content, mode) {
      const existing = await host.readBytes(path);
      if (existing !== undefined && Buffer.from(content).equals(existing) && (await host.info(path))?.mode === mode)
        return false;
      const temporary = temporaryFor(path);
      try {
        mkdirSync(dirname(path), { recursive: true, mode: 0o700 });
        const file = openSync(temporary, 'wx', mode);
        try {
          writeFileSync(file, content);
          fchmodSync(file, mode);
          if (!isVolatile(path)) fsyncSync(file);
        } finally {
          closeSync(file);
        }
        renameSync(temporary, path);
        syncPath(dirname(path));
      } catch (cause) {
        discard(temporary);
        throw new HostError(`writing ${path}`, cause);
      }
      return true;
    },

    async setMode(path, mode) {
      try {
        chmodSync(path, mode);
      } catch (cause) {
        throw new HostError(`setting the mode of ${path}`, cause);
      }
    },

    async readLink(path) {
      return (await host.info(path))?.symlink ? orUndefined(path, () => readlinkSync(path)) : undefined;
    },

    async link(path, target) {
      const temporary = temporaryFor(path);
      try {
        symlinkSync(target, temporary);
        renameSync(temporary, path);
        syncPath(dirname(path));
      } catch (cause) {
        discard(temporary);
        throw new HostError(`linking ${path} to ${target}`, cause);
      }
    },

    async makeFolder(path, mode) {
      try {
        mkdirSync(path);
        chmodSync(path, mode);
        syncPath(dirname(path));
      } catch (cause) {
        throw new HostError(`making the folder ${path}`, cause);
      }
    },

    async removeFolder(path) {
      try {
        rmdirSync(path);
        syncPath(dirname(path));
      } catch (cause) {
        const code = cause instanceof Error && 'code' in cause ? cause.code : undefined;
        if (code === 'ENOENT') return true;
        if (code === 'ENOTEMPTY' || code === 'EEXIST') return false;
        throw new HostError(`removing the folder ${path}`, cause);
      }
      return true;
    },

    async move(from, to) {
      const temporary = temporaryFor(to);
      try {
        mkdirSync(dirname(to), { recursive: true, mode: 0o700 });
        // Not a rename alone: the two may be on different file systems.
        copyFileSync(from, temporary, constants.COPYFILE_EXCL);
        syncPath(temporary);
        renameSync(temporary, to);
        syncPath(dirname(to));
        unlinkSync(from);
        syncPath(dirname(from));
      } catch (cause) {
        discard(temporary);
        throw new HostError(`moving ${from} to ${to}`, cause);
      }
    },

    async remove(path) {
      if ((await host.info(path)) === undefined) return false;
      try {
        unlinkSync(path);
        syncPath(dirname(path));
      } catch (cause) {
        throw new HostError(`removing ${path}`, cause);
      }
      return true;
    },

    async sysctl(key) {
      return (await host.read(join('/proc/sys', key)))?.trim();
    },

    async setSysctl(key, value) {
      try {
        writeFileSync(join('/proc/sys', key), value);
      } catch (cause) {
        throw new HostError(`setting sysctl ${key.replaceAll('/', '.')} to ${value}`, cause);
      }
    },
  };
  return host;
}

/** As runCommand, for one that is fed more than a pipe holds. */
export async function runFed(
  command: string,
  args: readonly string[],
  { env, timeoutMs, input }: { env: NodeJS.ProcessEnv; timeoutMs: number; input: string },
) {
  const { execa } = await import('execa');
  const child = execa(command, args, {
    env,
    extendEnv: false,
    reject: false,
    stripFinalNewline: false,
    maxBuffer: MAX_OUTPUT,
    input,
    ...OWN_GROUP,
  });
  let timedOut = false;
  const timer = setTimeout(() => {
    timedOut = true;
    killGroup(child.pid);
  }, timeoutMs);
  const result = await child;
  clearTimeout(timer);
  return { ...result, timedOut };
}

function missing(command: string): UnsupportedError {
  const name = PACKAGE_OF[command];
  return new UnsupportedError(`${command} is not in ${PATH}${name === undefined ? '' : `: install ${name}`}`);
}

/** A file that is not there, or whose folder is not, is undefined; every other failure is thrown. */
function orUndefined<T>(path: string, reading: () => T): T | undefined {
  try {
    return reading();
  } catch (error) {
    const code = error instanceof Error && 'code' in error ? error.code : undefined;
    if (code === 'ENOENT' || code === 'ENOTDIR') return undefined;
    throw new HostError(`reading ${path}`, error);
  }
}

/** In the folder of the file itself: a rename does not cross file systems. The name is nobody's yet, nor to be guessed. */
const temporaryFor = (path: string): string =>
  join(dirname(path), `.${basename(path)}.${secretName()}${TEMPORARY_SUFFIX}`);

const UUID = '/proc/sys/kernel/random/uuid';

/** Eight hexadecimal digits that nobody can guess: the kernel's. Each run that writes needs some, and crypto takes 3 ms to load. */
function secretName(): string {
  const uuid = orUndefined(UUID, () => readFileSync(UUID, 'utf8'));
  // `install` in a chroot may have no /proc.
  return uuid?.slice(0, 8) ?? crypto().randomBytes(4).toString('hex');
}

/** A temporary file that was to become another; the reason why it did not is thrown already. */
function discard(temporary: string): void {
  try {
    unlinkSync(temporary);
  } catch {}
}

/** Makes a file's content, or a rename in a folder, last through a power cut. */
function syncPath(path: string): void {
  if (isVolatile(path)) return;
  const opened = openSync(path, 'r');
  try {
    fsyncSync(opened);
  } finally {
    closeSync(opened);
  }
}

/** In memory: no disk has to have it. */
const isVolatile = (path: string): boolean => path.startsWith('/run/');
