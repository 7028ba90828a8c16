// The one door to the machine: commands, files, sysctls.

import type { Encoding } from './command.ts';

export type RunOptions = {
  input?: string;
  /** Milliseconds; the command is killed then. */
  timeoutMs?: number;
  /** Exit statuses that are no failure, beside 0. */
  accept?: readonly number[];
  /** Of `input` and of what is printed; utf8 where it is not said. */
  encoding?: Encoding;
};

export type StreamOptions = Pick<RunOptions, 'timeoutMs' | 'accept'>;

export type ReadOptions = {
  /** Bytes; MOST_READ where it is not said. */
  most?: number;
  /** What cannot be read counts as not there. */
  orNothing?: true;
};

export type FileInfo = {
  uid: number;
  gid: number;
  mode: number;
  directory: boolean;
  symlink: boolean;
  /** Neither folder, link, device, FIFO nor socket. */
  regular: boolean;
  size: number;
};

export interface Host {
  /** Runs a command to its end. Throws CommandError on another status, a signal or a timeout, UnsupportedError where it is missing. */
  run(argv: readonly [string, ...string[]], options?: RunOptions): Promise<{ stdout: string; status: number }>;
  /** As `run`, but hands on each line as it comes (in latin1), and keeps none. */
  stream(
    argv: readonly [string, ...string[]],
    onLine: (line: string) => void,
    options?: StreamOptions,
  ): Promise<{ status: number }>;
  /** Starts a command and lets it be: nothing waits for it, nobody learns how it ended. */
  launch(argv: readonly [string, ...string[]]): Promise<void>;
  /** Whether a command is there; gives the file that it is in the end. */
  which(command: string): Promise<string | undefined>;
  /** Throws UnreadableError where there is something else than a file, or one that is too large. */
  read(path: string, options?: ReadOptions): Promise<string | undefined>;
  readBytes(path: string, options?: ReadOptions): Promise<Uint8Array | undefined>;
  /** Names in a folder, sorted; none where it does not exist. */
  list(folder: string): Promise<string[]>;
  /** Of the file itself, not of what a link leads to; with a slash at the end of the path of that, as lstat(2) has it. */
  info(path: string): Promise<FileInfo | undefined>;
  /**
   * Atomic and durable; makes the folder (0700). A folder in its place is put aside. Gives whether anything changed. `gid`: the group of
   * what is written, where it is not ours.
   */
  write(path: string, content: string | Uint8Array, mode: number, gid?: number): Promise<boolean>;
  /** Of a file; a symbolic link is refused. */
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
  copy(from: string, to: string): Promise<void>;
  /** Renames what is damaged to NAME.damaged, whatever it is. Gives the new path; undefined where there is nothing. */
  putAside(path: string): Promise<string | undefined>;
  /** Gives whether there was anything to remove. */
  remove(path: string): Promise<boolean>;
  /** `key` is the path below /proc/sys; undefined where the kernel has none such. */
  sysctl(key: string): Promise<string | undefined>;
  setSysctl(key: string, value: string): Promise<void>;
  /** The files below a folder, out of which nothing leads that is in it (image.ts). */
  inside(root: string): Promise<Files>;
}

/** What `install` needs of a machine, or of an image. */
export type Files = Pick<
  Host,
  'read' | 'readBytes' | 'info' | 'setMode' | 'readLink' | 'write' | 'link' | 'makeFolder' | 'removeFolder' | 'remove'
>;

/** No file that is read in an image, or that `install` replaces, is as large: our program has 1 MiB. */
export const LARGEST_FILE = 4 * 2 ** 20;

/** Files that a killed run left half-written end so, and no reader takes them for profiles. */
export const TEMPORARY_SUFFIX = '.kylin-vr-new';

export const DAMAGED_SUFFIX = '.damaged';
