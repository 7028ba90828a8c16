// The process: argv, streams, signals, exit status. The only process.exit, and the only place where a failure ends.

import { readFile } from 'node:fs/promises';
import { runCli } from './cli.ts';
import { type Context, failureReport, printJson } from './commands/context.ts';
import { AgentError, EXIT, type ExitStatus } from './errors.ts';
import { translateLegacyArgs } from './legacy-args.ts';
import { linuxHost } from './machine/host.ts';
import { createLogger } from './machine/log.ts';
import { PATHS } from './machine/paths.ts';

const args = translateLegacyArgs(process.argv.slice(2));

const context: Context = {
  host: linuxHost,
  stdout: (text) => void process.stdout.write(text),
  stderr: (text) => void process.stderr.write(text),
  isRoot: process.geteuid?.() === 0,
  terminal: process.stderr.isTTY === true,
  colour: process.stdout.isTTY === true && !process.env.NO_COLOR && process.env.TERM !== 'dumb',
  logger: ({ logLevel }, keep) =>
    createLogger({
      level: logLevel as Parameters<typeof createLogger>[0]['level'],
      terminal: context.terminal,
      stderr: context.stderr,
      ...(keep === 'file' && { file: PATHS.log }),
    }),
  ...(process.argv[1]?.endsWith('.ts') ? {} : { program: process.argv[1] ?? '' }),
  byGuestAgent: async () => (await readFile(`/proc/${process.ppid}/comm`, 'utf8').catch(() => '')).trim() === 'qemu-ga',
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
    return await runCli(args, context);
  } catch (error) {
    if (error instanceof AgentError) {
      context.stderr(`kylin-vr: ${error.message}\n`);
      if (args.includes('--json')) printJson(context, failureReport(error));
      return error.status;
    }
    const stack = error instanceof Error ? error.stack : String(error);
    context.stderr(`kylin-vr: internal error, please report it:\n${stack}\n`);
    return EXIT.internal;
  }
}

// A reader that closes early (`kylin-vr plan | head`) is no failure.
process.stdout.on('error', (error: NodeJS.ErrnoException) => {
  if (error.code !== 'EPIPE') throw error;
});
void main().then((status) => {
  process.exitCode = status;
});
