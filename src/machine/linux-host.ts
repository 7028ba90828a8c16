// The machine that we run on: its commands, files and sysctls.

import { spawn } from 'node:child_process';
import {
  accessSync,
  chmodSync,
  closeSync,
  constants,
  copyFileSync,
  fchmodSync,
  fchownSync,
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
import { CommandError, HostError, UnreadableError, UnsupportedError } from '../base/errors.ts';
import { isTool, packageOf } from '../base/tools.ts';
import {
  type Encoding,
  type Ended,
  killGroup,
  OWN_GROUP,
  pipes,
  runCommand,
  standardFiles,
  streamCommand,
} from './command.ts';
import { infoOf, temporaryName } from './files.ts';
import { DAMAGED_SUFFIX, type Host, type ReadOptions } from './host.ts';
import { readRegular } from './regular-file.ts';

/** Up to 4.13 it refuses -json. */
const isOldIp = ({ exitCode, stdout, stderr }: Ended): boolean =>
  exitCode === 255 ? /^Option "-j(son)?" is unknown/.test(stderr) : exitCode === 0 && !isJson(stdout);

/**
 * Whether all of what `ip -json` printed is: up to 4.16 some is in words all the same, and some on many lines; up to 4.18.0 what kind a
 * route is has no name.
 */
export const isJson = (printed: string): boolean => !/^(?:[^[\n]|\[\{"\w+",)/m.test(printed);

const PATH = '/usr/sbin:/usr/bin:/sbin:/bin';
/** Of every command. */
export const ENVIRONMENT = { PATH, LC_ALL: 'C' } as const;
export const COMMAND_TIMEOUT_MS = 60_000;
/** An `ip -j addr` of 10,000 addresses prints 1.5 MB, `iptables-save` of their rules 3 MB. */
const MAX_OUTPUT = 256 * 1024 * 1024;

/**
 * The machine that we run on. Small files are read and written synchronously: a run reads a hundred, nearly all from memory (/proc,
 * /run), and each would go through Node's threads four times, 0.1 ms together; the first to do so waits 3 ms for them to start.
 * `environment` is added to that of every command that is waited for.
 */
export function linuxHost(environment: Readonly<Record<string, string>> = {}): Host {
  const env = { ...ENVIRONMENT, ...environment };
  /** Once `ip` has been seen to know no -json. */
  let isInWords = false;
  const inWords = async (...question: Parameters<Host['run']>) => {
    isInWords = true;
    return (await import('./old-ip.ts')).askInWords(host.run, ...question);
  };
  const host: Host = {
    async run(argv, options = {}) {
      const [command, ...args] = argv;
      const wantsJson = command === 'ip' && args.some((word) => word === '-json' || word === '-j');
      if (wantsJson && isInWords) return inWords(argv, options);
      const timeoutMs = options.timeoutMs ?? COMMAND_TIMEOUT_MS;
      const { input, encoding } = options;
      const streams = standardFiles(input, encoding) ?? pipes(input);
      const result =
        streams === undefined
          ? await runFed(command, args, { env, timeoutMs, input: input ?? '', encoding })
          : await runCommand(command, args, { env, timeoutMs, streams, encoding });
      if (wantsJson && isOldIp(result)) return inWords(argv, options);
      return { stdout: result.stdout, status: statusOf(argv, result, timeoutMs, options.accept) };
    },

    async stream(argv, onLine, options = {}) {
      const [command, ...args] = argv;
      const timeoutMs = options.timeoutMs ?? COMMAND_TIMEOUT_MS;
      const result = await streamCommand(command, args, onLine, { env, timeoutMs });
      return { status: statusOf(argv, result, timeoutMs, options.accept) };
    },

    async launch([command, ...args]) {
      // Not by execa: its options for this would be those of spawn.
      const child = spawn(command, args, { env: ENVIRONMENT, stdio: 'ignore', detached: true });
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

    async read(path, options) {
      // The kernel's files say that they have no size. Nobody but root makes one there, and this is Node's quickest way.
      if (isKernels(path)) return unlessUnreadable(options, () => orUndefined(path, () => readFileSync(path, 'utf8')));
      return readOr(path, options, (bytes) => bytes.toString());
    },

    async readBytes(path, options) {
      return readOr(path, options, (bytes) => bytes);
    },

    async list(folder) {
      return (orUndefined(folder, () => readdirSync(folder)) ?? []).sort();
    },

    async info(path) {
      const found = orUndefined(path, () => lstatSync(path, { throwIfNoEntry: false }));
      return found && infoOf(found);
    },

    async write(path, content, mode, gid) {
      if (isWritten(path, Buffer.from(content), mode)) return false;
      const temporary = temporaryFor(path);
      try {
        mkdirSync(dirname(path), { recursive: true, mode: 0o700 });
        const file = openSync(temporary, 'wx', mode);
        try {
          writeFileSync(file, content);
          if (gid !== undefined) fchownSync(file, process.getuid?.() ?? 0, gid);
          fchmodSync(file, mode);
          if (!isVolatile(path)) fsyncSync(file);
        } finally {
          closeSync(file);
        }
        renameOver(temporary, path);
        syncPath(dirname(path));
      } catch (cause) {
        discard(temporary);
        throw new HostError(`writing ${path}`, cause);
      }
      return true;
    },

    async setMode(path, mode) {
      try {
        const file = openSync(path, constants.O_RDONLY | constants.O_NOFOLLOW | constants.O_NONBLOCK);
        try {
          fchmodSync(file, mode);
        } finally {
          closeSync(file);
        }
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

    async copy(from, to) {
      try {
        copyTo(from, to);
      } catch (cause) {
        throw new HostError(`copying ${from} to ${to}`, cause);
      }
    },

    async move(from, to) {
      try {
        // Not a rename alone: the two may be on different file systems.
        copyTo(from, to);
        unlinkSync(from);
        syncPath(dirname(from));
      } catch (cause) {
        throw new HostError(`moving ${from} to ${to}`, cause);
      }
    },

    async putAside(path) {
      try {
        return setAside(path);
      } catch (cause) {
        throw new HostError(`putting ${path} aside`, cause);
      }
    },

    async remove(path) {
      const there = await host.info(path);
      if (there === undefined) return false;
      if (there.directory) return (await host.putAside(path)) !== undefined;
      try {
        unlinkSync(path);
        syncPath(dirname(path));
      } catch (cause) {
        throw new HostError(`removing ${path}`, cause);
      }
      return true;
    },

    async sysctl(key) {
      // Some cannot be read before they are set (stable_secret).
      return (await host.read(join('/proc/sys', key), { orNothing: true }))?.trim();
    },

    async setSysctl(key, value) {
      try {
        writeFileSync(join('/proc/sys', key), value);
      } catch (cause) {
        throw new HostError(`setting sysctl ${key.replaceAll('/', '.')} to ${value}`, cause);
      }
    },

    async inside(root) {
      return (await import('./image.ts')).filesInside(root);
    },
  };
  return host;
}

/** Throws where it did not end by itself, or with another status than 0 and those that are no failure. */
function statusOf(
  argv: readonly [string, ...string[]],
  { code, timedOut, exitCode, signal, stderr }: Omit<Ended, 'stdout'>,
  timeoutMs: number,
  accept: readonly number[] = [],
): number {
  if (code === 'ENOENT') throw missing(argv[0]);
  if (timedOut) throw new CommandError(argv, undefined, stderr, `no end after ${timeoutMs / 1000} s, killed`);
  if (exitCode === undefined) {
    const how = signal === undefined ? `did not start: ${code}` : `killed by ${signal}`;
    throw new CommandError(argv, undefined, stderr, how);
  }
  if (exitCode !== 0 && !accept.includes(exitCode))
    throw new CommandError(argv, exitCode, stderr, `status ${exitCode}`);
  return exitCode;
}

/** As runCommand, for one that is fed more than a pipe holds. */
export async function runFed(
  command: string,
  args: readonly string[],
  {
    env,
    timeoutMs,
    input,
    encoding = 'utf8',
  }: { env: NodeJS.ProcessEnv; timeoutMs: number; input: string; encoding?: Encoding | undefined },
): Promise<Ended> {
  const { execa } = await import('execa');
  const child = execa(command, args, {
    env,
    extendEnv: false,
    reject: false,
    stripFinalNewline: false,
    maxBuffer: MAX_OUTPUT,
    input: encoding === 'utf8' ? input : Buffer.from(input, encoding),
    encoding,
    ...OWN_GROUP,
  });
  let timedOut = false;
  const timer = setTimeout(() => {
    timedOut = true;
    killGroup(child.pid);
  }, timeoutMs);
  const { exitCode, signal, code, stdout, stderr } = await child;
  clearTimeout(timer);
  return {
    timedOut,
    stdout,
    stderr,
    ...(exitCode !== undefined && { exitCode }),
    ...(signal !== undefined && { signal: signal as NodeJS.Signals }),
    ...(code !== undefined && { code }),
  };
}

function missing(command: string): UnsupportedError {
  return new UnsupportedError(
    `${command} is not in ${PATH}${isTool(command) ? `: install ${packageOf(command)}` : ''}`,
  );
}

/** A file that is not there, or whose folder is not, or to which links lead in a ring, is undefined; every other failure is thrown. */
function orUndefined<T>(path: string, reading: () => T): T | undefined {
  try {
    return reading();
  } catch (error) {
    const code = error instanceof Error && 'code' in error ? error.code : undefined;
    if (code === 'ENOENT' || code === 'ENOTDIR' || code === 'ELOOP') return undefined;
    throw error instanceof UnreadableError ? error : new HostError(`reading ${path}`, error);
  }
}

function readOr<T>(path: string, options: ReadOptions = {}, as: (bytes: Buffer) => T): T | undefined {
  return unlessUnreadable(options, () => {
    const bytes = orUndefined(path, () => readRegular(path, options.most));
    return bytes && as(bytes);
  });
}

function unlessUnreadable<T>({ orNothing }: ReadOptions = {}, reading: () => T): T | undefined {
  try {
    return reading();
  } catch (error) {
    if (orNothing && error instanceof HostError) return undefined;
    throw error;
  }
}

const isKernels = (path: string): boolean => path.startsWith('/proc/') || path.startsWith('/sys/');

/** Whether the file is there with this content and mode; whatever else is there is replaced. */
function isWritten(path: string, content: Buffer, mode: number): boolean {
  const found = orUndefined(path, () => lstatSync(path, { throwIfNoEntry: false }));
  if (!found?.isFile() || (found.mode & 0o7777) !== mode || found.size !== content.length) return false;
  const there = readOr(path, { most: content.length, orNothing: true }, (bytes) => bytes);
  return there !== undefined && content.equals(there);
}

function copyTo(from: string, to: string): void {
  const temporary = temporaryFor(to);
  try {
    mkdirSync(dirname(to), { recursive: true, mode: 0o700 });
    copyFileSync(from, temporary, constants.COPYFILE_EXCL);
    syncPath(temporary);
    renameSync(temporary, to);
    syncPath(dirname(to));
  } catch (error) {
    discard(temporary);
    throw error;
  }
}

/** As rename, but a folder does not keep a file from its place. */
function renameOver(from: string, to: string): void {
  try {
    renameSync(from, to);
  } catch (error) {
    if (!(error instanceof Error && 'code' in error && error.code === 'EISDIR')) throw error;
    setAside(to);
    renameSync(from, to);
  }
}

/** Names in a folder of profiles that begin with a dot are nobody's. */
function setAside(path: string): string | undefined {
  const name = isProfileName(path) ? `.${basename(path)}` : basename(path);
  for (let number = 0; ; number++) {
    const aside = join(dirname(path), `${name}${DAMAGED_SUFFIX}${number === 0 ? '' : `.${number}`}`);
    const taken = lstatSync(aside, { throwIfNoEntry: false });
    // One is enough of what comes again and again, but a folder is not replaced.
    if (taken?.isDirectory()) continue;
    const found = lstatSync(path, { throwIfNoEntry: false });
    if (found === undefined) return undefined;
    if (taken !== undefined && found.isDirectory()) continue;
    renameSync(path, aside);
    syncPath(dirname(path));
    return aside;
  }
}

/** ifup of old systems takes each `ifcfg-…` for a profile. */
const isProfileName = (path: string): boolean => !path.startsWith('/var/') && !path.startsWith('/run/');

/** In the folder of the file itself: a rename does not cross file systems. The name is nobody's yet, nor to be guessed. */
const temporaryFor = (path: string): string => join(dirname(path), temporaryName(basename(path)));

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
