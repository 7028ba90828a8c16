// Loggers: plain lines on a terminal, JSON lines otherwise, and JSON lines in the log file for what is kept.

import { mkdirSync } from 'node:fs';
import { dirname } from 'node:path';
import pino, { type Level, type Logger } from 'pino';

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

export function createLogger(options: LogOptions): Logger {
  const { level, terminal, file, stderr } = options;
  const streams: pino.StreamEntry[] = file === undefined ? [] : toFile(file, level, stderr);
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

function toFile(file: string, level: Level, stderr: (text: string) => void): pino.StreamEntry[] {
  try {
    mkdirSync(dirname(file), { recursive: true, mode: 0o750 });
    return [{ level, stream: pino.destination({ dest: file, sync: true, mode: 0o640 }) }];
  } catch (error) {
    stderr(`kylin-vr: the log ${file} cannot be written: ${error instanceof Error ? error.message : error}\n`);
    return [];
  }
}

function plain(line: string): string {
  const { level, msg } = JSON.parse(line) as { level: string; msg: string };
  return `${level}: ${msg}\n`;
}
