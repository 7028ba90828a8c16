// The commands, their options and what they are for. Knows no network.

import { Command, CommanderError, InvalidArgumentError, Option } from 'commander';
import type { Context, GlobalOptions } from './commands/context.ts';
import { EXIT, type ExitStatus } from './errors.ts';
import { LOG_LEVELS } from './machine/log.ts';
import { PATHS } from './machine/paths.ts';
import { TRIGGERS } from './reconcile.ts';

const EXIT_STATUSES = `
Exit status:
   0  done, or in sync
   1  internal error: please report it
   2  not in sync (status, plan --exit-code)
  64  the command line is wrong
  65  the configuration is wrong; nothing was changed
  69  applying or verifying failed; taken back
  75  another run holds the lock; try again
  77  needs root`;

/** Carries out one command line (without node and script). Gives the exit status; throws AgentError and bugs. */
export async function runCli(args: readonly string[], context: Context): Promise<ExitStatus> {
  let status: ExitStatus = EXIT.ok;
  const program = createProgram(context, (ended) => {
    status = ended;
  });
  try {
    await program.parseAsync(args, { from: 'user' });
  } catch (error) {
    if (!(error instanceof CommanderError)) throw error;
    // Commander has printed what is wrong already. Help and version were asked for.
    return error.exitCode === 0 ? EXIT.ok : EXIT.usage;
  }
  return status;
}

export function createProgram(context: Context, end: (status: ExitStatus) => void): Command {
  const program = new Command('kylin-vr')
    .description('Makes this machine the VPC router that one YAML file describes.')
    .version(VERSION)
    .option('--config <file>', 'the configuration', PATHS.config)
    .option('--json', 'print one JSON object', false)
    .option('--lock-timeout <seconds>', 'how long to wait for another run', seconds, 60)
    .addOption(new Option('--log-level <level>', 'what is logged').choices(LOG_LEVELS).default('info'))
    .addOption(
      new Option('--renderer <name>', 'persistent files to write (default: what this guest uses)').choices([
        'ifcfg',
        'keyfile',
        'none',
      ]),
    )
    .addOption(new Option('--trigger <name>', 'who asks').choices(TRIGGERS).hideHelp())
    .addHelpText('after', EXIT_STATUSES)
    .configureOutput({ writeOut: context.stdout, writeErr: context.stderr })
    .configureHelp({ showGlobalOptions: true })
    .showHelpAfterError('(kylin-vr --help shows the commands and options)')
    .exitOverride();

  const options = (command: Command) => command.optsWithGlobals<GlobalOptions>();

  program
    .command('start')
    .description('at boot: files, sysctls and rules before the network is up; a bad file: the last good one')
    .action(async (_, command: Command) => {
      const { reload } = await import('./commands/reload.ts');
      end(await reload(context, options(command), 'start'));
    });
  program
    .command('reload')
    .description('change what differs from the file, verify it, take it back when that fails')
    .action(async (_, command: Command) => {
      const { reload } = await import('./commands/reload.ts');
      end(await reload(context, options(command), 'reload'));
    });
  program
    .command('check')
    .description('is the file right? touches nothing, needs no root')
    .argument('[file]', 'the file (default: that of --config)')
    .option('--strict', 'warnings are errors', false)
    .action(async (file: string | undefined, own: { strict: boolean }, command: Command) => {
      const { check } = await import('./commands/check.ts');
      end(await check(context, { ...options(command), ...own }, file));
    });
  program
    .command('plan')
    .description('what reload would do, step by step; touches nothing')
    .option('--exit-code', 'end with status 2 when there is something to do', false)
    .action(async (own: { exitCode: boolean }, command: Command) => {
      const { plan } = await import('./commands/plan.ts');
      end(await plan(context, { ...options(command), ...own }));
    });
  program
    .command('status')
    .description('desired against observed, per NIC, EIP and forward; the last run')
    .action(async (_, command: Command) => {
      const { status } = await import('./commands/status.ts');
      end(await status(context, options(command)));
    });
  program
    .command('install')
    .description('put units, udev rule and settings on this guest, open the guest agent; the network stays as it is')
    .option('--root <dir>', 'prepare the image in this folder instead')
    .option('--firewalld', 'admit what we forward to firewalld', false)
    .option('--now', 'start it too', false)
    .action(async (own: { root?: string; firewalld: boolean; now: boolean }, command: Command) => {
      const { install } = await import('./commands/install.ts');
      end(await install(context, { ...options(command), ...own }));
    });
  program
    .command('uninstall')
    .description('take back what install did; the configuration stays, and the running network')
    .option('--flush', 'take the running network down too', false)
    .option('--root <dir>', 'in the image in this folder instead')
    .action(async (own: { root?: string; flush: boolean }, command: Command) => {
      const { uninstall } = await import('./commands/uninstall.ts');
      end(await uninstall(context, { ...options(command), ...own }));
    });
  for (const command of program.commands) command.copyInheritedSettings(program);
  return program;
}

/** Set when the program is built; `npm run` from the sources has none. */
declare const KYLIN_VR_VERSION: string | undefined;
const VERSION = typeof KYLIN_VR_VERSION === 'string' ? KYLIN_VR_VERSION : '0.0.0-source';

function seconds(text: string): number {
  const value = Number(text);
  if (!/^\d+(\.\d+)?$/.test(text) || !Number.isFinite(value))
    throw new InvalidArgumentError('must be a number of seconds.');
  return value;
}
