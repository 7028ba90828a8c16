// The commands, their options and what they are for. Knows no network.

import { Argument, Command, CommanderError, InvalidArgumentError, Option } from 'commander';
import { EXIT, type ExitStatus } from './base/errors.ts';
import { STATUS_WORDS } from './base/statuses.ts';
import { TRIGGERS } from './base/trigger.ts';
import { own, type Shown, shown, shownLines } from './base/visible.ts';
import type { Shell } from './commands/completion.ts';
import { type Context, DEFAULTS, failureReport, type GlobalOptions, printJson } from './commands/context.ts';
import type { EditFlags } from './commands/edit.ts';
import { NOUN_FORMS, type NounName } from './config/nouns.ts';
import { LOG_FORMATS, LOG_LEVELS } from './machine/log.ts';

const EXIT_STATUSES = `\nExit status:\n${Object.entries(EXIT)
  .map(
    ([name, status]) =>
      `  ${String(status).padStart(2)}  ${STATUS_WORDS[name as keyof typeof EXIT].replaceAll('`', '')}`,
  )
  .join('\n')}`;

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
    if (error.exitCode === 0) return EXIT.ok;
    // Without a command it has printed the help, and its own message names a function.
    const message = error.code === 'commander.help' ? NO_COMMAND : error.message;
    if (args.includes('--json')) printJson(context, failureReport([{ message }]));
    return EXIT.usage;
  }
  return status;
}

const NO_COMMAND = 'needs a command: kylin-vr --help shows them';

export function createProgram(context: Context, end: (status: ExitStatus) => void): Command {
  const program = new Command('kylin-vr')
    .description('Makes this machine the VPC router that one YAML file describes.')
    .version(VERSION)
    .option('--config <file>', 'the configuration', path, DEFAULTS.config)
    .option('--json', 'print one JSON object', DEFAULTS.json)
    .option('--verbose', 'name chains and rules, too')
    .option('--lock-timeout <seconds>', 'how long to wait for another run', seconds, DEFAULTS.lockTimeout)
    .addOption(new Option('--log-level <level>', 'what is logged').choices(LOG_LEVELS).default(DEFAULTS.logLevel))
    .addOption(
      new Option('--log-format <name>', 'on standard error: words, or the log as JSON lines')
        .choices(LOG_FORMATS)
        .default(DEFAULTS.logFormat),
    )
    .addOption(
      new Option('--renderer <name>', 'persistent files to write (default: what this guest uses)').choices([
        'ifcfg',
        'keyfile',
        'none',
      ]),
    )
    .addOption(new Option('--trigger <name>', 'who asks').choices(TRIGGERS).hideHelp())
    .addHelpText('after', EXIT_STATUSES)
    .configureOutput({
      writeOut: (text) => context.stdout(shownLines(text)),
      writeErr: (text) => context.stderr(shownLines(text)),
      outputError: (text) => context.stderr(usageError(text)),
      // Asked without need, Node would load its streams.
      getOutHelpWidth: () => (context.colour ? process.stdout.columns : 80),
      getErrHelpWidth: () => (context.terminal ? process.stderr.columns : 80),
      getOutHasColors: () => context.colour,
      getErrHasColors: () => context.terminal,
    })
    .configureHelp({ showGlobalOptions: true })
    .showHelpAfterError('(kylin-vr --help shows the commands and options)')
    .exitOverride()
    .hook('preAction', () => context.ready?.());

  const options = (command: Command) => command.optsWithGlobals<GlobalOptions>();

  program
    .command('start')
    .description('at boot: files, sysctls and rules before the network is up; a bad file: the last good one')
    .action(async (_, command: Command) => {
      const early = await context.askEarly?.();
      const { reload } = await import('./commands/reload.ts');
      end(await reload(context, options(command), 'start', early));
    });
  program
    .command('reload')
    .description('change what differs from the file, verify it, take it back when that fails')
    .option('--confirm-within <seconds>', 'take it back then, unless kylin-vr confirm comes before', confirmSeconds)
    .action(async (own: { confirmWithin?: number }, command: Command) => {
      const early = await context.askEarly?.();
      const { reload } = await import('./commands/reload.ts');
      end(await reload(context, { ...options(command), ...own }, 'reload', early));
    });
  program
    .command('check')
    .description('is the file right? touches nothing, needs no root')
    .argument('[file]', 'the file (default: that of --config)', path)
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
    .description('desired against observed, per NIC, EIP and forward; the last run, and the time left to confirm')
    .option('--counters', 'also the connections of each EIP, forward and source', false)
    .option('--watch [seconds]', 'again and again, every 2 seconds or so many', watchSeconds)
    .addOption(
      new Option('--format <name>', 'for people, or for node_exporter').choices(['text', 'prometheus']).default('text'),
    )
    .action(
      async (own: { counters: boolean; watch?: number | true; format: 'text' | 'prometheus' }, command: Command) => {
        const { status } = await import('./commands/status.ts');
        const { watch, ...rest } = own;
        const every = watch === undefined ? {} : { watch: watch === true ? 2 : watch };
        const { watch: _, ...global } = options(command) as GlobalOptions & { watch?: unknown };
        end(await status(context, { ...global, ...rest, ...every }));
      },
    );
  program
    .command('confirm')
    .description('keep the change that reload --confirm-within made')
    .action(async (_, command: Command) => {
      const { confirm } = await import('./commands/confirm.ts');
      end(await confirm(context, options(command)));
    });
  program
    .command('rollback')
    .description('take the last change back; the file stays as it is, and out of force until it changes')
    .option('--to <number>', 'go to this one of the configurations that --list shows', wholeNumber)
    .option('--list', 'show the last 10 configurations that were applied; 1 is the newest', false)
    .addOption(new Option('--unconfirmed <run>', 'when its time is over, and only then').hideHelp())
    .action(async (own: { to?: number; list: boolean; unconfirmed?: string }, command: Command) => {
      const { rollback } = await import('./commands/rollback.ts');
      end(await rollback(context, { ...options(command), ...own }));
    });
  for (const [noun, { form, name, what }] of Object.entries(NOUN_FORMS)) {
    const group = program.command(noun).description(`${what} of the file: list, add, remove; then reload`);
    group
      .command('list')
      .description(`one a line, as add takes them: ${form}`)
      .action(async (_, command: Command) => {
        const { list } = await import('./commands/edit.ts');
        end(await list(context, options(command), noun as NounName));
      });
    for (const [verb, argument] of [
      ['add', form],
      ['remove', name],
    ] as const)
      group
        .command(verb)
        .description(
          verb === 'add'
            ? 'what is there already is left as it is, and named'
            : 'what is not there is named, and no error',
        )
        .argument('<entry...>', argument)
        .option('--no-reload', 'change the file only')
        .option('--all', 'apply what else the file holds and is not in force as well', false)
        .option('--confirm-within <seconds>', 'take it back then, unless kylin-vr confirm comes before', confirmSeconds)
        .action(async (args: string[], own: EditFlags, command: Command) => {
          const { edit } = await import('./commands/edit.ts');
          end(await edit(context, { ...options(command), ...own }, { noun: noun as NounName, verb, args }));
        });
  }
  program
    .command('push')
    .description(
      "on the hypervisor host: put the file into guests through their agent, reload there, show the guest's report",
    )
    .argument('<file>', 'the configuration; --config is its place in the guest', path)
    .option('--domain <name>', 'a libvirt domain; may be given again', repeatable, [])
    .option('--socket <path>', "the socket of a guest's agent, without libvirt; may be given again", repeatable, [])
    .option('--dry-run', 'show what reload would do in the guest, change nothing', false)
    .option('--timeout <seconds>', 'how long the reload in the guest may take', seconds, 300)
    .action(
      async (
        file: string,
        own: { domain: string[]; socket: string[]; dryRun: boolean; timeout: number },
        command: Command,
      ) => {
        const { push } = await import('./commands/push.ts');
        end(await push(context, { ...options(command), ...own }, file));
      },
    );
  program
    .command('log')
    .description('the last runs: who asked, what was done, what was wrong')
    .option('-n, --number <runs>', 'how many', runs, 10)
    .option('-f, --follow', 'go on with those that come', false)
    .action(async (own: { number: number; follow: boolean }, command: Command) => {
      const { log } = await import('./commands/log.ts');
      end(await log(context, { ...options(command), ...own }));
    });
  program
    .command('explain')
    .description('what happens to a packet, in words: by which NIC, which NAT, what the other side sees')
    .requiredOption('--from <address>', 'who sends')
    .requiredOption('--to <address[:port/protocol]>', 'to whom; without a port, a ping')
    .option('--live', 'ask the kernel, too; status 2 where it disagrees', false)
    .action(async (own: { from: string; to: string; live: boolean }, command: Command) => {
      const { explain } = await import('./commands/explain.ts');
      end(await explain(context, { ...options(command), ...own }));
    });
  program
    .command('schema')
    .description('JSON Schema of the file, for editors')
    .action(async () => {
      const { schema } = await import('./commands/schema.ts');
      end(schema(context));
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
    .description('take back what install did, and our profiles; the configuration and the running network stay')
    .option('--flush', 'take the running network down too', false)
    .option('--root <dir>', 'in the image in this folder instead')
    .action(async (own: { root?: string; flush: boolean }, command: Command) => {
      const { uninstall } = await import('./commands/uninstall.ts');
      end(await uninstall(context, { ...options(command), ...own }));
    });
  program
    .command('completion')
    .description('print what a shell needs to complete kylin-vr')
    .addArgument(new Argument('<shell>', 'which one').choices(['bash', 'zsh', 'fish']))
    .action(async (shell: Shell) => {
      const { completionScript } = await import('./commands/completion.ts');
      context.stdout(own(completionScript(shell, program)));
    });
  for (const command of program.commands)
    for (const each of [command, ...command.commands]) each.copyInheritedSettings(program);
  return program;
}

/** Of the line feeds in commander's words two are its own: before what was probably meant, and at the end. */
function usageError(text: string): Shown {
  const message = text.replace(/\n$/, '');
  const meant = /\n\(Did you mean [^\n]*\?\)$/.exec(message)?.[0] ?? '';
  return shown`${message.slice(0, message.length - meant.length)}${shownLines(meant)}\n`;
}

/** Set when the program is built; `npm run` from the sources has none. */
declare const KYLIN_VR_VERSION: string | undefined;
const VERSION = typeof KYLIN_VR_VERSION === 'string' ? KYLIN_VR_VERSION : '0.0.0-source';

/** Nothing can be said of a file without a name. */
function path(text: string): string {
  if (text === '') throw new InvalidArgumentError('must be the path of a file.');
  return text;
}

function seconds(text: string): number {
  const value = Number(text);
  if (!/^\d+(\.\d+)?$/.test(text) || value > MOST_SECONDS)
    throw new InvalidArgumentError(`must be a number of seconds, ${MOST_SECONDS} at most.`);
  return value;
}

/** A day: longer than anybody waits, short enough for every timer. */
const MOST_SECONDS = 86_400;
/** More often, a terminal is flooded. */
const LEAST_WATCH_SECONDS = 0.1;

function watchSeconds(text: string): number {
  const value = seconds(text);
  if (value < LEAST_WATCH_SECONDS)
    throw new InvalidArgumentError(`must be a number of seconds from ${LEAST_WATCH_SECONDS} to ${MOST_SECONDS}.`);
  return value;
}

function confirmSeconds(text: string): number {
  const value = Number(text);
  if (!/^\d+$/.test(text) || value < 1 || value > MOST_SECONDS)
    throw new InvalidArgumentError(`must be a whole number of seconds from 1 to ${MOST_SECONDS}.`);
  return value;
}

function wholeNumber(text: string): number {
  if (!/^[1-9]\d{0,8}$/.test(text)) throw new InvalidArgumentError('must be a whole number from 1 up.');
  return Number(text);
}

function runs(text: string): number {
  if (!/^[1-9]\d{0,5}$/.test(text)) throw new InvalidArgumentError('must be a number of runs.');
  return Number(text);
}

const repeatable = (value: string, earlier: string[]): string[] => [...earlier, value];
