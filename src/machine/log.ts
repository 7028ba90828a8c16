// Loggers: JSON lines in the log file for what is kept; the journal; JSON lines on standard error for who asks for them.

import { closeSync, constants, fchmodSync, fstatSync, mkdirSync, openSync, type Stats, writeFileSync } from 'node:fs';
import { basename, dirname } from 'node:path';
import type { Level, Logger, StreamEntry } from 'pino';
import { HostError } from '../base/errors.ts';
import { type Shown, shown, shownJson, shownLines } from '../base/visible.ts';
import { journalWriter } from './journal.ts';

export type { Logger } from 'pino';

const { O_RDONLY, O_WRONLY, O_APPEND, O_CREAT, O_DIRECTORY, O_NOFOLLOW, O_NONBLOCK } = constants;

const LOG_MODE = 0o640;

export const LOG_LEVELS = ['trace', 'debug', 'info', 'warn', 'error', 'fatal'] as const satisfies readonly Level[];

export const LOG_FORMATS = ['text', 'json'] as const;
export type LogFormat = (typeof LOG_FORMATS)[number];

export type LogOptions = {
  level: Level;
  /** What standard error gets. People are told by the command itself what was wrong: theirs is only debugging, as plain lines. */
  to: 'people' | 'journal' | 'json';
  /** Kept there too. Where it cannot be written, that is said once and the log goes on without it. */
  file?: string;
  stderr: (text: Shown) => void;
};

/** Loads pino, which `--version`, `check` and the like do without. */
export async function createLogger(options: LogOptions): Promise<Logger> {
  const { default: pino } = await import('pino');
  const { level, to, file, stderr } = options;
  const streams: StreamEntry[] = file === undefined ? [] : toFile(file, level, stderr);
  if (to === 'json') streams.push({ level, stream: { write: (line) => stderr(shownJson(line)) } });
  else if (to === 'journal') streams.push({ level, stream: { write: journalWriter(stderr) } });
  else if (level === 'debug' || level === 'trace')
    streams.push({ level, stream: { write: (line) => stderr(plain(line)) } });
  return pino(
    {
      base: null,
      level,
      // What is logged says when its run began.
      timestamp: false,
      formatters: { level: (label) => ({ level: label }) },
    },
    pino.multistream(streams),
  );
}

function toFile(file: string, level: Level, stderr: (text: Shown) => void): StreamEntry[] {
  const refused = (error: unknown) =>
    stderr(
      shown`kylin-vr: ${new HostError(`the log ${file} cannot be written`, error).message}; the run goes on without it\n`,
    );
  try {
    const opened = openLog(file);
    let full = false;
    // A disk that is full shows itself only here.
    const write = (line: string) => {
      try {
        if (!full) writeFileSync(opened, shownJson(line).shown);
      } catch (error) {
        full = true;
        refused(error);
      }
    };
    return [{ level, stream: { write } }];
  } catch (error) {
    refused(error);
    return [];
  }
}

/**
 * No symbolic link is followed, neither its own nor its folder's: where /var/log is writable by a group, as rsyslog's is on Ubuntu,
 * others may put one there, or another folder.
 */
function openLog(file: string): number {
  const folder = dirname(file);
  mkdirSync(folder, { recursive: true, mode: 0o750 });
  const opened = open(folder, folder, O_RDONLY | O_DIRECTORY, folder);
  try {
    const { uid, mode } = fstatSync(opened);
    if (uid !== 0 || (mode & 0o022) !== 0)
      throw new Error(`others than root can write ${folder}: chown root ${folder} && chmod 0750 ${folder}`);
    return checked(file, open(file, `/proc/self/fd/${opened}/${basename(file)}`, FLAGS, 'it'));
  } finally {
    closeSync(opened);
  }
}

const FLAGS = O_WRONLY | O_APPEND | O_CREAT | O_NONBLOCK;

/** Closed where it is none to write to. */
function checked(file: string, log: number): number {
  try {
    const stat = fstatSync(log);
    const odd = oddityOf(file, stat);
    if (odd !== undefined) throw new Error(odd);
    // A new one, whatever the umask.
    if (stat.size === 0 && (stat.mode & 0o777) !== LOG_MODE) fchmodSync(log, LOG_MODE);
    return log;
  } catch (error) {
    closeSync(log);
    throw error;
  }
}

/** By another name it may be any file of root's; what others can write they can have written. */
function oddityOf(file: string, stat: Stats): string | undefined {
  if (!stat.isFile()) return 'it is no regular file: remove it';
  if (stat.nlink > 1) return `it has ${stat.nlink} names (hard links): remove it`;
  if (stat.uid !== 0) return `it is not root's: remove it, or chown root ${file}`;
  if ((stat.mode & 0o022) !== 0) return `it can be written by others than root: remove it, or chmod 0640 ${file}`;
  return undefined;
}

/** With words for what is in the place of a file or folder of ours, `what`. */
function open(named: string, path: string, flags: number, what: string): number {
  try {
    return openSync(path, flags | O_NOFOLLOW, LOG_MODE);
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    if (code === 'ELOOP' || code === 'ENOTDIR')
      throw new Error(`${what} is a symbolic link, which is not followed: remove it`);
    if (code === 'EISDIR' || code === 'ENXIO') throw new Error(`${what} is no regular file: remove it`);
    if (error instanceof Error) error.message = error.message.replace(path, named);
    throw error;
  }
}

function plain(line: string): Shown {
  const { level, msg } = JSON.parse(line) as { level: string; msg: string };
  return shownLines(`${level}: ${msg}\n`);
}
