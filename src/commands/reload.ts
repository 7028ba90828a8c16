// `reload` and `start`: make this machine what the file says, in turn with every other run. How a run is waited for, logged
// and shown is here for `confirm` and `rollback` too.

import { resolve } from 'node:path';
import { count } from '../base/count.ts';
import { EXIT, type ExitStatus, UsageError } from '../base/errors.ts';
import { PATHS } from '../base/paths.ts';
import { anything, each, type Shape } from '../base/shape.ts';
import { isAutomatic, TRIGGERS, type Trigger } from '../base/trigger.ts';
import { joined, type Shown, shown } from '../base/visible.ts';
import type { Issue } from '../config/issue.ts';
import { firstOf } from '../config/issue.ts';
import type { Host } from '../machine/host.ts';
import { fitting, report as reportShape } from '../machine/kept-shapes.ts';
import type { Early } from '../machine/known/early.ts';
import { describeHolder } from '../machine/lock.ts';
import type { Logger } from '../machine/log.ts';
import { takeTurn } from '../machine/turn.ts';
import { settle } from '../run/order.ts';
import { run } from '../run/reconcile.ts';
import { type Report, summaryOf } from '../run/report.ts';
import {
  commandOf,
  type ReloadRequest,
  type RunCommand,
  type RunRequest,
  type StartRequest,
  settledOf,
  withinOf,
} from '../run/request.ts';
import {
  type Context,
  type GlobalOptions,
  issueText,
  needRoot,
  painter,
  paintStep,
  printJson,
  problem,
} from './context.ts';
import { progressLine, watched } from './progress.ts';

export async function reload(
  context: Context,
  options: GlobalOptions & { confirmWithin?: number },
  command: 'start' | 'reload',
  early?: Early,
): Promise<ExitStatus> {
  needRoot(context, command);
  const trigger = await triggerOf(context, options, command);
  const found = command === 'reload' && !isAutomatic(trigger) ? await lookedAnew(context, options) : undefined;
  const request: StartRequest | ReloadRequest = {
    command,
    trigger,
    configPath: options.config,
    ...(options.renderer !== undefined && { renderer: options.renderer }),
    ...(isAutomatic(trigger) && trigger !== 'boot' && { settled: await settle(context.host(), options.config) }),
    ...confirmationOf(options, trigger),
    // What was asked before the bus was looked at is old.
    ...(early && !found?.looked && { early }),
  };
  return runInTurn(context, options, request, undefined, found?.warnings);
}

/** Elsewhere a NIC that is plugged is seen, and no module is loaded for this. */
async function lookedAnew(
  context: Context,
  { config }: GlobalOptions,
): Promise<{ looked: boolean; warnings: string[] } | undefined> {
  if (process.arch !== 'arm64') return undefined;
  const { rescan } = await import('../run/rescan.ts');
  return rescan(context.host(), config);
}

/** That part of a request: what `--confirm-within` asks for. */
export function confirmationOf(
  options: GlobalOptions & { confirmWithin?: number },
  trigger: Trigger,
): Pick<ReloadRequest, 'confirmWithin'> {
  const { confirmWithin } = options;
  if (confirmWithin === undefined) return {};
  if (isAutomatic(trigger)) throw new UsageError(`--confirm-within is for people: nobody confirms a run by ${trigger}`);
  return { confirmWithin: { seconds: confirmWithin, takeBack: (run) => takeBackCommand(options, run) } };
}

/** Waits for its turn, runs, and says how that ended: in the log, and to who asked. */
export async function runInTurn(
  context: Context,
  options: GlobalOptions,
  request: RunRequest,
  carryOut: (host: Host) => Promise<Report> = (host) => run(host, request),
  warnings: readonly string[] = [],
): Promise<ExitStatus> {
  // Once the event loop comes round, so pino loads while the first commands run, and not before them.
  const logger = new Promise(setImmediate).then(() => context.logger(options, 'file'));
  const line = progressLine(context);
  const left = new Map<string, Error>();
  const {
    result: report,
    coalesced,
    unrecorded,
  } = await takeTurn<Report>(
    {
      dir: context.lockFolder ?? PATHS.run,
      command: commandOf(request),
      trigger: request.trigger,
      timeoutMs: options.lockTimeout * 1000,
      onWait: (holder, waitedMs) =>
        context.stderr(shown`waiting for ${Math.round(waitedMs / 1000)} s: ${describeHolder(holder)}\n`),
      onLeft: (path, why) => left.set(path, why),
      key: keyOf(request),
      servedBy: servedBy(request),
      shape: reportShape as Shape<Report>,
    },
    ({ marker }) =>
      context.unbroken(
        () => carryOut(watched(context.host(marker), line)).finally(line.end),
        (signal) => line.say(`${signal}: the change that has begun is finished first`),
      ),
  );
  const unit =
    isAutomatic(request.trigger) || request.command !== 'reload' ? undefined : await unitFaultOf(context.host());
  if (unit !== undefined) report.warnings.push({ message: unit });
  report.warnings.push(...warnings.map((message) => ({ message })));
  for (const [path, why] of left) report.warnings.push({ message: `${path} is in the way, and stays: ${why.message}` });
  if (unrecorded !== undefined) report.warnings.push({ message: unrecorded.message });
  const show = await issuePrinter(context, options, report);
  if (!coalesced) logReport(await logger, report, show);
  const { summary: _, ...told } = report;
  if (options.json) printJson(context, { ...told, coalesced });
  else printReport(context, report, coalesced, options.verbose);
  if (options.logFormat === 'text' && !context.journal) {
    for (const issue of saidWarnings(report)) context.stderr(shown`${problem(context, 'warning')}: ${show(issue)}\n`);
    for (const issue of firstOf(report.errors)) context.stderr(shown`${problem(context, 'error')}: ${show(issue)}\n`);
  }
  return report.exitStatus;
}

/** Asked by people only: its module need not be there for runs by themselves. */
async function unitFaultOf(host: Host): Promise<string | undefined> {
  const { unitFault } = await import('../machine/units.ts');
  return unitFault(host);
}

/** This program again, as it was started, when the time to confirm is over. */
function takeBackCommand({ config, renderer }: GlobalOptions, run: string): [string, ...string[]] {
  const program = [...process.execArgv, process.argv[1] ?? ''];
  const chosen = renderer === undefined ? [] : ['--renderer', renderer];
  return [process.execPath, ...program, '--config', resolve(config), ...chosen, 'rollback', '--unconfirmed', run];
}

export async function triggerOf(context: Context, options: GlobalOptions, command: RunCommand): Promise<Trigger> {
  const { trigger } = options;
  if (trigger !== undefined) {
    const known = TRIGGERS.find((name) => name === trigger);
    if (known === undefined) throw new UsageError(`--trigger must be one of ${TRIGGERS.join(', ')}, is ${trigger}`);
    return known;
  }
  if (command === 'start') return 'boot';
  return (await context.byGuestAgent()) ? 'agent' : 'operator';
}

/** Two requests with one key want the same. An explicit reload also does what an automatic one of the file wants. */
function keyOf(request: RunRequest): string {
  const { trigger, configPath, renderer } = request;
  const [command, settled, within] = [commandOf(request), settledOf(request), withinOf(request)?.seconds];
  return JSON.stringify({ command, explicit: !isAutomatic(trigger), configPath, renderer, settled, within });
}

function servedBy(request: RunRequest): (key: string) => boolean {
  // What is confirmed, taken back or edited once is so: the second who asks must learn that it was not his doing.
  if (request.command !== 'start' && request.command !== 'reload') return () => false;
  const own = keyOf(request);
  return (key) => {
    const { settled, explicit, ...done } = fitting(each(anything), key) ?? {};
    const { settled: _settled, explicit: _explicit, ...wanted } = JSON.parse(own) as Record<string, unknown>;
    return key === own || (explicit === true && JSON.stringify(done) === JSON.stringify(wanted));
  };
}

/** Shows issues with the file's text, which is read only where one has a place in it. */
async function issuePrinter(
  context: Context,
  options: GlobalOptions,
  report: Report,
): Promise<(issue: Issue) => Shown> {
  const placed = [...report.errors, ...report.warnings].some(({ line }) => line !== undefined);
  const bytes = placed ? await context.host().readBytes(options.config, { orNothing: true }) : undefined;
  const text = bytes && new TextDecoder().decode(bytes);
  return (issue) => issueText(text, issue);
}

/** A run of every minute with nothing to do repeats none of them; who asks hears them each time. */
const saidWarnings = ({ result, trigger, warnings }: Report): Issue[] =>
  result === 'unchanged' && isAutomatic(trigger) && trigger !== 'boot' ? [] : firstOf(warnings);

/** A first apply of 1,000 EIPs has 1,250 steps, 100 kB of them. */
const MOST_LOGGED_STEPS = 200;

/** One line for a run without a fault; what was wrong has lines of its own, for those who search for it. */
function logReport(log: Logger, report: Report, show: (issue: Issue) => Shown): void {
  const { id, time, command, trigger, result, durationMs, steps, summary, exitStatus, pending } = report;
  const [warnings, errors] = [firstOf(report.warnings), firstOf(report.errors)];
  const fields = {
    time,
    run: id,
    command,
    trigger,
    result,
    durationMs,
    exitStatus,
    steps: steps.slice(0, MOST_LOGGED_STEPS),
    ...(steps.length > MOST_LOGGED_STEPS && { stepsLeftOut: steps.length - MOST_LOGGED_STEPS }),
    ...(summary !== undefined && { summary: summary.slice(0, MOST_LOGGED_STEPS) }),
    warnings,
    errors,
    ...(pending !== undefined && { pending }),
  };
  const place = ({ message: _, ...rest }: Issue) => ({ time, run: id, command, trigger, ...rest });
  for (const issue of errors) log.error(place(issue), show(issue).shown);
  for (const issue of saidWarnings(report)) log.warn(place(issue), show(issue).shown);
  const text = `${command}: ${result}, ${count(steps.length, 'step')} in ${durationMs} ms`;
  if (exitStatus !== EXIT.ok) log.error(fields, text);
  else if (result === 'unchanged' && trigger === 'timer') log.debug(fields, text);
  else log.info(fields, text);
}

function printReport(context: Context, report: Report, coalesced: boolean, isVerbose = false): void {
  const paint = painter(context);
  // In one piece: a first apply of 1,000 EIPs has 1,250 steps.
  const lines = isVerbose ? report.steps.map(({ text }) => text) : summaryOf(report);
  context.stdout(joined(lines.map((line: string) => shown`${paintStep(paint, line)}\n`)));
  const { command, result, steps, durationMs, exitStatus } = report;
  const colour = exitStatus === EXIT.ok ? 'green' : 'red';
  const by = coalesced ? ', by the run that was waited for' : '';
  const undone = result === 'rolled-back' ? ' done and undone' : '';
  // A change that is kept is no step: `0 steps` would read as if nothing had happened.
  if (command !== 'confirm' || exitStatus !== EXIT.ok)
    context.stdout(
      shown`${command}: ${paint(result, colour)}, ${count(steps.length, 'step')}${undone} in ${durationMs} ms${by}\n`,
    );
  if (report.advice !== undefined) context.stdout(shown`${report.advice}\n`);
}
