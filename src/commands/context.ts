// What the commands are given: the machine, where to print, and the options that all of them share.

import type { Issue } from '../config/issue.ts';
import { formatIssue } from '../config/issue.ts';
import { type AgentError, NotRootError } from '../errors.ts';
import type { Host } from '../machine/host.ts';
import type { Logger } from '../machine/log.ts';
import { PATHS } from '../machine/paths.ts';

export type GlobalOptions = {
  config: string;
  json: boolean;
  /** Seconds. */
  lockTimeout: number;
  logLevel: Logger['level'];
  renderer?: string;
  trigger?: string;
};

/** As the options are where none is given. */
export const DEFAULTS: GlobalOptions = { config: PATHS.config, json: false, lockTimeout: 60, logLevel: 'info' };

export type Context = {
  /** Called before a command, and neither for --help nor for --version: loads the host, which takes 9 ms. */
  ready?: () => Promise<void>;
  /** `environment` is added to that of every command the host runs. */
  host: (environment?: Readonly<Record<string, string>>) => Host;
  stdout: (text: string) => void;
  stderr: (text: string) => void;
  isRoot: boolean;
  /** Standard error is a terminal: people read it; otherwise it carries the log. */
  terminal: boolean;
  /** Standard output is a terminal that takes colours. */
  colour: boolean;
  /** `file`: keep it in the log file too. */
  logger: (options: GlobalOptions, keep: 'file' | 'stderr only') => Promise<Logger>;
  /** This program as one file, in ISO 8859-1; undefined where it runs from the sources. */
  program?: () => string;
  /** The process that started us is the QEMU guest agent. */
  byGuestAgent: () => Promise<boolean>;
  /** Calls `work` with SIGINT and SIGTERM put off until it ends; `onSignal` says so to whoever sent one. */
  unbroken: <T>(work: () => Promise<T>, onSignal: (signal: string) => void) => Promise<T>;
};

export function needRoot(context: Context, command: string): void {
  if (!context.isRoot) throw new NotRootError(command);
}

/** An issue as an operator reads it: with place, line and caret where the file's text is given. */
export function issueText(file: string, text: string | undefined, issue: Issue): string {
  if (text !== undefined && issue.line !== undefined) return formatIssue(file, text, issue);
  return [issue.path, issue.message].filter((part) => part !== undefined).join(': ');
}

/** For --json: a failure that ended a command before it had a result of its own. */
export function failureReport(error: AgentError): object {
  return { result: 'failed', steps: [], warnings: [], errors: [{ message: error.message }], durationMs: 0 };
}

export const printJson = (context: Context, value: object): void =>
  context.stdout(`${JSON.stringify(value, null, 2)}\n`);

export type Painter = (text: string, colour: 'red' | 'green' | 'yellow' | 'dim') => string;

export function painter(context: Context): Painter {
  const codes = { red: 31, green: 32, yellow: 33, dim: 2 } as const;
  return (text, colour) => (context.colour ? `\u001b[${codes[colour]}m${text}\u001b[0m` : text);
}

/** A step's line in the colour of a diff. */
export function paintStep(paint: Painter, text: string): string {
  if (text.startsWith('+')) return paint(text, 'green');
  if (text.startsWith('-')) return paint(text, 'red');
  return paint(text, 'yellow');
}

/** On standard error, in colour where standard output has it too. */
export function problem(context: Context, kind: 'warning' | 'error'): string {
  return painter({ ...context, colour: context.colour && context.terminal })(kind, kind === 'error' ? 'red' : 'yellow');
}

/** `1 step`, `2 steps` */
export const count = (n: number, noun: string): string => `${n} ${noun}${n === 1 ? '' : 's'}`;
