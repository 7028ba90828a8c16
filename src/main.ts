// The process: argv, streams, signals, exit status. The only process.exit, and the only place where a failure ends.

import { fstatSync, readFileSync, writeSync } from 'node:fs';
import { tty } from './base/builtin.ts';
import { BUNDLE } from './base/bundle.ts';
import { AgentError, EXIT, type ExitStatus, HostError } from './base/errors.ts';
import { PATHS } from './base/paths.ts';
import { TRIGGERS } from './base/trigger.ts';
import { type Shown, shown, shownLines } from './base/visible.ts';
import { type Context, DEFAULTS, failureReport, printJson } from './commands/context.ts';
import { translateLegacyArgs } from './commands/legacy-args.ts';
import { atPriority, leadsToJournal } from './machine/journal.ts';
import { createLogger, type LogOptions } from './machine/log.ts';

const args = translateLegacyArgs(process.argv.slice(2));

/** Whether a stream may still hold what was written. */
let streaming = false;

/** Whether standard output takes nothing more: what is printed for ever ends then. */
let unread = false;

let linuxHost: Context['host'] | undefined;

const context: Context = {
  ready: async () => {
    ({ linuxHost } = await import('./machine/linux-host.ts'));
  },
  askEarly: async () => {
    if (!context.isRoot) return undefined;
    const { askEarly } = await import('./machine/known/early.ts');
    return askEarly(context.host());
  },
  host: (environment) => {
    if (linuxHost === undefined) throw new Error('the host is asked for before it is ready');
    return linuxHost(environment);
  },
  stdout: writerTo('stdout'),
  stderr: writerTo('stderr'),
  unread: () => unread,
  isRoot: process.geteuid?.() === 0,
  terminal: isTerminal(2),
  colour: isTerminal(1) && !process.env.NO_COLOR && process.env.TERM !== 'dumb',
  // Asked without need, Node would load its streams.
  columns: () => (isTerminal(1) ? process.stdout.columns : undefined),
  journal: leadsToJournal(),
  logger: ({ logLevel, logFormat }, keep) =>
    createLogger({
      level: logLevel as LogOptions['level'],
      to: logFormat === 'json' ? 'json' : context.journal ? 'journal' : 'people',
      stderr: context.stderr,
      ...(keep === 'file' && { file: PATHS.log }),
    }),
  ...(BUNDLE && { program: BUNDLE.text }),
  byGuestAgent: async () => {
    try {
      return readFileSync(`/proc/${process.ppid}/comm`, 'utf8').trim() === 'qemu-ga';
    } catch {
      return false;
    }
  },
  unbroken: async (work, onSignal) => {
    const signals = ['SIGINT', 'SIGTERM', 'SIGHUP'] as const;
    for (const signal of signals) process.on(signal, onSignal);
    try {
      return await work();
    } finally {
      for (const signal of signals) process.off(signal, onSignal);
    }
  },
};

async function main(): Promise<ExitStatus> {
  try {
    const [first, folder] = args;
    if (first === '--save-code-cache' && folder !== undefined) {
      BUNDLE?.saveCode(folder);
      return EXIT.ok;
    }
    const status = await carryOut();
    if (status === EXIT.ok && keepsCode()) BUNDLE?.saveCode();
    return status;
  } catch (error) {
    return failed(error);
  }
}

function failed(error: unknown): ExitStatus {
  if (error instanceof AgentError) {
    complain(shown`kylin-vr: ${error.message}\n`);
    if (args.includes('--json')) printJson(context, failureReport([{ message: error.message }]));
    return error.status;
  }
  const stack = error instanceof Error ? error.stack : String(error);
  complain(shownLines(`kylin-vr: internal error, please report it:\n${stack}\n`));
  try {
    if (args.includes('--json')) printJson(context, failureReport([{ message: String(stack) }]));
  } catch {
    // Where that is what is broken, the words above are all there is.
  }
  return EXIT.internal;
}

const complain = (text: Shown): void => context.stderr(context.journal ? atPriority('error', text) : text);

/**
 * The command lines of units and hooks, and what people type most, are read without commander, since they
 * come once a minute.
 */
async function carryOut(): Promise<ExitStatus> {
  const [command, option, by] = args;
  const trigger = args.length === 3 && option === '--trigger' ? TRIGGERS.find((name) => name === by) : undefined;
  if ((command === 'start' || command === 'reload') && (args.length === 1 || trigger !== undefined)) {
    await context.ready?.();
    const early = await context.askEarly?.();
    const { reload } = await import('./commands/reload.ts');
    return reload(context, { ...DEFAULTS, ...(trigger !== undefined && { trigger }) }, command, early);
  }
  const { runCli } = await import('./cli.ts');
  return runCli(args, context);
}

/** Of root's runs on this machine, those that may write, where something had to be compiled. */
function keepsCode(): boolean {
  return (
    BUNDLE?.isFromCache() === false &&
    context.isRoot &&
    BUNDLE.triesToSave() &&
    args.some((word) => word === 'start' || word === 'reload' || word === 'install') &&
    !args.some((word) => word.startsWith('--root') || word === '--help' || word === '-h')
  );
}

function isTerminal(fd: number): boolean {
  try {
    return fstatSync(fd).isCharacterDevice() && tty().isatty(fd);
  } catch {
    return false;
  }
}

/**
 * What cannot be printed is no reason to stop in the middle of a change, and changes no exit status: a reader that closes early
 * (`kylin-vr plan | head`), a terminal that is gone, a disk that is full. Of the last one it is said once. Node's own stream, which
 * is slow to load, is for a pipe that is full and does not block.
 */
function writerTo(name: 'stdout' | 'stderr'): (text: Shown) => void {
  let stream: NodeJS.WriteStream | undefined;
  const lose = (error: unknown) => {
    if (name === 'stderr' || unread) return;
    unread = true;
    if ((error as NodeJS.ErrnoException).code === 'EPIPE') return;
    const { message } = new HostError('writing standard output', error);
    context.stderr(shown`kylin-vr: ${message}; not all was printed, and the exit status is that of the work\n`);
  };
  const useStream = () => {
    streaming = true;
    return process[name].on('error', lose);
  };
  return ({ shown: text }) => {
    if (name === 'stdout' && unread) return;
    let rest: Uint8Array = Buffer.from(text);
    try {
      while (stream === undefined && rest.length > 0) rest = rest.subarray(writeSync(name === 'stdout' ? 1 : 2, rest));
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== 'EAGAIN') return lose(error);
      stream = useStream();
    }
    stream?.write(rest);
  };
}

// What nobody waits for; Node itself would print it as it is.
process.on('uncaughtException', (error) => process.exit(failed(error)));

void main().then((status) => {
  process.exitCode = status;
  // Nothing is under way any more, and the heap need not be taken apart.
  if (!streaming) process.exit();
});
