// What the commands are given: the machine, where to print, and the options that all of them share.

import { EXIT, type ExitStatus, NotRootError } from '../base/errors.ts';
import { PATHS } from '../base/paths.ts';
import { joined, own, type Shown, shown, shownJson, shownLines } from '../base/visible.ts';
import type { Issue } from '../config/issue.ts';
import { firstOf, formatIssue } from '../config/issue.ts';
import type { Host } from '../machine/host.ts';
import type { Early } from '../machine/known/early.ts';
import type { LogFormat, Logger } from '../machine/log.ts';

export type GlobalOptions = {
  config: string;
  json: boolean;
  /** Chains and rules, where words would do. */
  verbose?: boolean;
  /** Seconds. */
  lockTimeout: number;
  logLevel: Logger['level'];
  logFormat: LogFormat;
  renderer?: string;
  trigger?: string;
};

/** As the options are where none is given. */
export const DEFAULTS: GlobalOptions = {
  config: PATHS.config,
  json: false,
  lockTimeout: 60,
  logLevel: 'info',
  logFormat: 'text',
};

export type Context = {
  /** Called before a command, and neither for --help nor for --version: loads the host. */
  ready?: () => Promise<void>;
  /** Of a command that changes the network: what it asks first, before it is loaded. */
  askEarly?: () => Promise<Early | undefined>;
  /** `environment` is added to that of every command the host runs. */
  host: (environment?: Readonly<Record<string, string>>) => Host;
  /** In which runs take turns; `/run/kylin-vr` where it is not said. */
  lockFolder?: string;
  /** The compiler sees to it that all that is printed is visible. */
  stdout: (text: Shown) => void;
  stderr: (text: Shown) => void;
  /** Whether standard output takes nothing more. */
  unread?: () => boolean;
  isRoot: boolean;
  /** Standard error is a terminal. */
  terminal: boolean;
  /** Standard error leads to the journal, which has from the logger what was wrong. */
  journal: boolean;
  /** Standard output is a terminal that takes colours. */
  colour: boolean;
  /** Of the terminal on standard output; undefined where that is none. */
  columns?: () => number | undefined;
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

/** An issue as an operator reads it: with line and caret where the file's text is given. */
export const issueText = (text: string | undefined, issue: Issue): Shown => shownLines(formatIssue(text, issue));

/** For --json: a failure that ended a command before it had a result of its own. */
export function failureReport(errors: readonly Issue[], warnings: readonly Issue[] = []): object {
  return { result: 'failed', steps: [], warnings, errors, durationMs: 0 };
}

/** That the file which a command only reads has mistakes. `bytes`: where it could be read. */
export function refuseFile(
  context: Context,
  { json }: GlobalOptions,
  { bytes, errors, warnings = [] }: { bytes?: Uint8Array; errors: readonly Issue[]; warnings?: readonly Issue[] },
): ExitStatus {
  const text = bytes && new TextDecoder().decode(bytes);
  for (const issue of firstOf(errors)) context.stderr(shown`${problem(context, 'error')}: ${issueText(text, issue)}\n`);
  if (json) printJson(context, failureReport(errors, warnings));
  return EXIT.config;
}

export const printJson = (context: Context, value: object): void =>
  context.stdout(shownJson(`${JSON.stringify(value, null, 2)}\n`));

export type Painter = (text: string | Shown, colour: 'red' | 'green' | 'yellow' | 'dim') => Shown;

export function painter(context: Context): Painter {
  const codes = { red: 31, green: 32, yellow: 33, dim: 2 } as const;
  return (text, colour) =>
    context.colour ? joined([own(`\u001b[${codes[colour]}m`), shown`${text}`, own('\u001b[0m')]) : shown`${text}`;
}

/** A step's line in the colour of a diff. */
export function paintStep(paint: Painter, text: string | Shown): Shown {
  const [sign] = typeof text === 'string' ? text : text.shown;
  if (sign === '+') return paint(text, 'green');
  if (sign === '-') return paint(text, 'red');
  return paint(text, 'yellow');
}

/** On standard error, in colour where standard output has it too. */
export function problem(context: Context, kind: 'warning' | 'error'): Shown {
  return painter({ ...context, colour: context.colour && context.terminal })(kind, kind === 'error' ? 'red' : 'yellow');
}
