// Loggers: plain lines on a terminal, JSON lines otherwise, and JSON lines in the log file for what is kept.

import { mkdirSync } from 'node:fs';
import { dirname } from 'node:path';
import type { DestinationStream, Level, Logger, StreamEntry } from 'pino';
import { HostError } from '../errors.ts';

export type { Logger } from 'pino';

export const LOG_LEVELS = ['trace', 'debug', 'info', 'warn', 'error', 'fatal'] as const satisfies readonly Level[];

export type LogOptions = {
  level: Level;
  /** Standard error is a terminal: the command prints its report there itself, so only debugging goes there, as plain lines. */
  terminal: boolean;
  /** Kept there too. Where it cannot be written, that is said once and the log goes on without it. */
  file?: string;
  stderr: (text: string) => void;
};

/** Loads pino, which `--version`, `check` and the like do without. */
export async function createLogger(options: LogOptions): Promise<Logger> {
  const { default: pino } = await import('pino');
  const { level, terminal, file, stderr } = options;
  const destination = (dest: string) => pino.destination({ dest, sync: true, mode: 0o640 });
  const streams: StreamEntry[] = file === undefined ? [] : toFile(file, level, destination, stderr);
  if (!terminal) streams.push({ level, stream: { write: stderr } });
  else if (level === 'debug' || level === 'trace')
    streams.push({ level, stream: { write: (line) => stderr(plain(line)) } });
  return pino(
    {
      base: null,
      level,
      timestamp: pino.stdTimeFunctions.isoTime,
      formatters: { level: (label) => ({ level: label }) },
    },
    pino.multistream(streams),
  );
}

function toFile(
  file: string,
  level: Level,
  destination: (file: string) => DestinationStream,
  stderr: (text: string) => void,
): StreamEntry[] {
  const refused = (error: unknown) =>
    stderr(
      `kylin-vr: ${new HostError(`the log ${file} cannot be written`, error).message}; the run goes on without it\n`,
    );
  try {
    mkdirSync(dirname(file), { recursive: true, mode: 0o750 });
    const opened = destination(file);
    let full = false;
    // A disk that is full shows itself only here.
    const write = (line: string) => {
      try {
        if (!full) opened.write(line);
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

function plain(line: string): string {
  const { level, msg } = JSON.parse(line) as { level: string; msg: string };
  return `${level}: ${msg}\n`;
}
