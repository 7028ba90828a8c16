// One run of a command that changes the network: which configuration, then converge, then the report. The order of the
// stages, on a screen.

import { basename, dirname } from 'node:path';
import { NO_NICS, NOTHING } from './config/config.ts';
import type { Issue } from './config/issue.ts';
import { giveUp, keep, pendingChange, reasonOf, takeBack } from './confirmation.ts';
import type { Checkpoint, Convergence } from './converge.ts';
import { AgentError, EXIT, type ExitStatus, isOfTheMoment, LockedError, NotNowError, UsageError } from './errors.ts';
import { hashOf, sameBytes, shortName } from './hash.ts';
import { readTrusted } from './machine/config-file.ts';
import { attentive } from './machine/conversation.ts';
import { putDamagedAside } from './machine/damaged.ts';
import { waysFor } from './machine/flow-record.ts';
import { forgetRefusal, promote, readLastGood, readRefusal, refuse, refuseForNow } from './machine/history.ts';
import type { Host } from './machine/host.ts';
import { PATHS } from './machine/paths.ts';
import {
  armTimer,
  beginPending,
  disarmTimer,
  hasLapsed,
  type PendingChange,
  pendingBytes,
  removePending,
  secondsLeft,
  startWaiting,
} from './machine/pending.ts';
import { monotonicMs } from './machine/process.ts';
import { removePushed, removeTemporaries } from './machine/temporaries.ts';
import { describe, type Step, type StepKind } from './network/step.ts';
import {
  chooseBack,
  chooseOrder,
  chooseWaiting,
  type Order,
  type RunRequest,
  rememberInvalid,
  targetOf,
} from './order.ts';
import { type Ahead, askAhead, cutQuietly, rememberQuiet } from './quiet.ts';
import type { Aim, Scope } from './survey.ts';
import { isAutomatic, type Trigger } from './trigger.ts';
import { newWays } from './upgrade.ts';

/** What a run did: printed by --json, kept as the last run, logged. Survives JSON. */
export type Report = {
  id: string;
  command: RunRequest['command'];
  trigger: Trigger;
  /** When it began, ISO 8601 UTC. */
  time: string;
  result: 'unchanged' | 'changed' | 'rolled-back' | 'failed';
  steps: { kind: StepKind; text: string }[];
  warnings: Issue[];
  errors: Issue[];
  durationMs: number;
  exitStatus: ExitStatus;
  /** The change waits for its confirmation. */
  pending?: { secondsLeft: number; deadline: string };
  /** What to do now. */
  advice?: string;
};

/**
 * Holds the lock already. Bugs are thrown, and what the command makes no sense for now (UsageError, NotNowError, LockedError), before
 * anything was done; everything else is in the report.
 */
export async function run(host: Host, request: RunRequest): Promise<Report> {
  const started = monotonicMs();
  const report: Report = {
    id: shortName(),
    command: request.command,
    trigger: request.trigger,
    time: new Date().toISOString(),
    result: 'failed',
    steps: [],
    warnings: [],
    errors: [],
    durationMs: 0,
    exitStatus: EXIT.ok,
  };
  try {
    // What a killed edit or push left; in that folder nothing else is ours.
    await removeTemporaries(host, dirname(request.configPath), basename(request.configPath));
    await removePushed(host, dirname(request.configPath));
    for (const folder of [PATHS.run, PATHS.lib, PATHS.backup, PATHS.backupOfBoot, PATHS.history])
      await removeTemporaries(host, folder);
    report.warnings.push(...(await putDamagedAside(host)).map((message) => ({ message })));
    const change = await changeUnderWay(host, request, report);
    if (request.command === 'confirm') await confirm(host, change, request.asked, report);
    else if (request.unconfirmed !== undefined && !(await isDue(host, change, request.unconfirmed)))
      report.result = 'unchanged';
    else await bringAbout(host, request, change, report);
  } catch (error) {
    if (
      !(error instanceof AgentError) ||
      error instanceof UsageError ||
      error instanceof NotNowError ||
      error instanceof LockedError
    )
      throw error;
    report.errors.push({ message: error.message });
    report.exitStatus = error.status;
  }
  if (report.exitStatus !== EXIT.ok && report.result !== 'rolled-back') report.result = 'failed';
  report.durationMs = Math.round(monotonicMs() - started);
  return report;
}

/** One that was confirmed, and cannot be made the last good configuration, keeps no machine that boots from what was that before. */
async function changeUnderWay(host: Host, request: RunRequest, report: Report): Promise<PendingChange | undefined> {
  try {
    return await pendingChange(host);
  } catch (error) {
    if (request.command !== 'start' || !(error instanceof AgentError)) throw error;
    fail(report, `${error.message}; the next run tries again`);
    return undefined;
  }
}

function fail(report: Report, message: string): void {
  report.errors.push({ message });
  report.exitStatus = EXIT.failed;
}

async function bringAbout(
  host: Host,
  request: RunRequest,
  change: PendingChange | undefined,
  report: Report,
): Promise<void> {
  const target = await targetOf(host, request, change);
  const waits = change !== undefined && !(await hasLapsed(host, change));
  if (waits && request.command !== 'rollback' && !isAutomatic(request.trigger))
    throw new LockedError(
      `a change waits for its confirmation, ${Math.ceil(await secondsLeft(host, change))} s left: ` +
        'kylin-vr confirm keeps it, kylin-vr rollback takes it back',
    );
  const ends = change !== undefined && (!waits || request.command === 'rollback');
  if (ends && !(await end(host, request, change, report))) return;
  if (request.command === 'rollback') return obey(host, request, await chooseBack(host, target), ends, report);
  if (waits) return obey(host, request, await chooseWaiting(host, change), ends, report);
  // After a change was taken back, what it did would be asked for.
  const ahead = ends ? undefined : await askAhead(host, request);
  try {
    await obey(host, request, await chooseOrder(host, request, ends, ahead), ends, report, ahead);
  } finally {
    await ahead?.answered;
  }
}

async function obey(
  host: Host,
  request: RunRequest,
  order: Order,
  ends: boolean,
  report: Report,
  ahead?: Ahead,
): Promise<void> {
  report.warnings = [...report.warnings, ...order.warnings];
  report.errors = [...report.errors, ...order.errors];
  if (order.errors.length > 0) report.exitStatus = EXIT.config;
  if (order.errors.length > 0 && request.settled) await rememberInvalid(host, request.settled);
  if (order.config !== undefined || order.quiet !== undefined) await carryOut(host, request, order, report, ahead);
  else if (ends && report.exitStatus === EXIT.ok) report.result = report.steps.length === 0 ? 'unchanged' : 'changed';
  if (request.command === 'rollback' && request.unconfirmed === undefined && report.exitStatus === EXIT.ok)
    await leaveFile(host, request, order, report);
}

async function confirm(
  host: Host,
  change: PendingChange | undefined,
  asked: number | undefined,
  report: Report,
): Promise<void> {
  if (change === undefined) {
    const refusal = await readRefusal(host);
    const last =
      refusal === undefined
        ? ': kylin-vr status shows what is in force'
        : `; the last change was taken back: ${refusal.why}; kylin-vr reload --confirm-within SECONDS tries it again`;
    throw new UsageError(`nothing waits for a confirmation${last}`);
  }
  const inTime = change.phase === 'waiting' && (await secondsLeft(host, change, asked)) > 0;
  if (!inTime || (await pendingBytes(host, change)) === undefined)
    throw new UsageError(
      `too late: ${await reasonOf(host, change, false)}; the change is being taken back, kylin-vr rollback does it now`,
    );
  await keep(host, change);
  report.result = 'unchanged';
  report.advice = `kept: the change of ${change.time} (run ${change.run}) is the last good configuration now`;
}

const isDue = async (host: Host, change: PendingChange | undefined, run: string): Promise<boolean> =>
  change?.run === run && (await hasLapsed(host, change));

/** Takes the change back. Gives whether to go on. */
async function end(host: Host, request: RunRequest, change: PendingChange, report: Report): Promise<boolean> {
  const asked = request.command === 'rollback' && request.unconfirmed === undefined;
  const why = await reasonOf(host, change, asked);
  const { chooseRenderer } = await import('./survey.ts');
  const renderer = await chooseRenderer(host, request.renderer);
  const back = await takeBack(host, change, renderer, scopeOf(request), why);
  addSteps(report, back.steps);
  report.warnings.push(...back.warnings.map((message) => ({ message })));
  if (back.error === undefined) {
    report.warnings.push({ message: `the change of ${change.time} (run ${change.run}) was taken back: ${why}` });
    return true;
  }
  const { message } = back.error;
  // Who says what he wants must not be kept from it.
  if (request.command === 'reload' && !isAutomatic(request.trigger)) {
    report.warnings.push({ message: `${message}: it is left as it is` });
    await forget(host, change, report);
    return true;
  }
  if (!(back.error instanceof AgentError)) throw back.error;
  const isBack = back.result !== 'failed';
  if (request.command !== 'start' || isBack) {
    fail(report, `${message}; the next run tries again`);
    return request.command === 'start';
  }
  // What cannot be taken back now cannot be at the next boot either, and a machine that boots has to become a router.
  fail(
    report,
    `the change of ${change.time} (run ${change.run}) could not be taken back (${why}): ${message}; the last good configuration is ` +
      'brought up all the same',
  );
  await forget(host, change, report);
  return true;
}

async function forget(host: Host, change: PendingChange, report: Report): Promise<void> {
  report.warnings.push(...(await giveUp(host, change)).map((message) => ({ message })));
}

const scopeOf = ({ command }: RunRequest): Scope => (command === 'start' ? 'boot' : 'whole');

function addSteps(report: Report, steps: readonly Step[]): void {
  for (const step of steps) report.steps.push({ kind: step.kind, text: describe(step) });
}

/** Of what failed, how the network is now. */
const ENDS: Readonly<Record<Convergence['result'], string>> = {
  'rolled-back': 'the network is as it was before',
  failed: 'the network could not be put back whole',
  changed: 'the network is up without it',
  unchanged: 'the network is up without it',
};

/** A change that was to be confirmed is not made when nobody is there to do so. */
async function refuseFile(
  host: Host,
  { confirmWithin }: RunRequest,
  { bytes }: Order,
  error: Error,
  report: Report,
): Promise<void> {
  const [hash, why] = [hashOf(bytes), 'it could not be applied'];
  if (confirmWithin !== undefined || !isOfTheMoment(error)) return refuse(host, { hash, why });
  const pause = await refuseForNow(host, hash, why);
  report.advice = `what failed may be of the moment: the timer tries it again in ${pause} s, and then with growing pauses`;
}

async function carryOut(host: Host, request: RunRequest, order: Order, report: Report, ahead?: Ahead): Promise<void> {
  let change: PendingChange | undefined;
  const begin = async (found: Checkpoint): Promise<void> => {
    change = await begun(host, request, order, report, found);
  };
  const convergence = await (order.quiet === undefined
    ? bringInLine(host, request, order, begin, ahead)
    : isAutomatic(request.trigger)
      ? order.quiet
      : cutQuietly(host, order.quiet));
  addSteps(report, convergence.steps);
  report.result = convergence.result === 'unchanged' && report.steps.length > 0 ? 'changed' : convergence.result;
  report.warnings.push(...convergence.warnings.map((message) => ({ message })));
  const { error } = convergence;
  if (error !== undefined) {
    if (change !== undefined) {
      await removePending(host);
      await disarmTimer(host, change);
    }
    if (order.source === 'file') await refuseFile(host, request, order, error, report);
    if (!(error instanceof AgentError)) throw error;
    const mend = request.command === 'rollback' ? 'run kylin-vr rollback again' : 'run kylin-vr reload';
    report.errors.push({ message: `${error.message}; ${ENDS[convergence.result]}; mend the cause and ${mend}` });
    report.exitStatus = EXIT.failed;
  } else if (change !== undefined) await wait(host, change, convergence, report);
  else if (order.source !== 'stand-in' && convergence.whole) {
    try {
      await promote(host, order.bytes, { time: report.time, trigger: report.trigger, run: report.id });
      if (order.source === 'file') await forgetRefusal(host);
    } catch (error) {
      if (!(error instanceof AgentError)) throw error;
      const message = `the network is as the configuration wants it, but that could not be kept: ${error.message}; then run kylin-vr reload`;
      throw new AgentError(message, EXIT.failed, { cause: error });
    }
    if (request.confirmWithin !== undefined)
      report.advice = `${convergence.result === 'unchanged' ? 'the network is as it was' : 'this was the last good configuration before'}: there is nothing to confirm`;
  }
  sayLost(convergence, report);
}

/** What is not ours and could not be put back: the change stands. */
function sayLost({ lost = [] }: { lost?: readonly string[] }, report: Report): void {
  if (lost.length === 0) return;
  report.errors.push(...lost.map((message) => ({ message })));
  report.exitStatus = EXIT.failed;
}

async function bringInLine(
  host: Host,
  request: RunRequest,
  { config = NOTHING, configWarnings, bytes }: Order,
  begin: (found: Checkpoint) => Promise<void>,
  ahead: Ahead | undefined,
): Promise<Convergence> {
  const [{ chooseRenderer }, { converge }] = [await import('./survey.ts'), await import('./converge.ts')];
  const { host: asked, heard } = attentive(host, ahead?.answers);
  const warnings: string[] = [];
  const renderer = await chooseRenderer(asked, request.renderer);
  const aim = { config, renderer, scope: scopeOf(request), ways: await waysFor(asked, request.trigger) };
  if (request.command === 'start' && config.nics.length === 0) warnings.push(NO_NICS);
  const isAsked = !isAutomatic(request.trigger);
  if (isAsked) warnings.push(...(await newWays(asked, config)));
  const tried = await converge(host, aim, { beforeChange: begin, asked, isAsked });
  const convergence =
    request.command === 'start' && tried.isUnwritable === true ? await bringUpWithoutFiles(host, aim, tried) : tried;
  if (configWarnings !== undefined) await rememberQuiet(host, request, { bytes, configWarnings, convergence, heard });
  return { ...convergence, warnings: [...warnings, ...convergence.warnings] };
}

/** At boot, what cannot be written keeps no router from being one. */
async function bringUpWithoutFiles(host: Host, aim: Aim, tried: Convergence): Promise<Convergence> {
  const [{ chooseRenderer }, { converge }] = [await import('./survey.ts'), await import('./converge.ts')];
  const renderer = await chooseRenderer(host, 'none');
  const { result, steps, warnings, error = tried.error } = await converge(host, { ...aim, renderer });
  return {
    ...tried,
    result,
    steps: [...tried.steps, ...steps],
    warnings: [...tried.warnings, ...warnings],
    ...(error && { error }),
  };
}

/** The change that will wait for its confirmation; undefined where none was asked for, or the last good one is repaired. */
async function begun(
  host: Host,
  { confirmWithin }: RunRequest,
  { bytes }: Order,
  { id, time, trigger }: Report,
  found: Checkpoint,
): Promise<PendingChange | undefined> {
  const lastGood = await readLastGood(host);
  if (confirmWithin === undefined || (lastGood !== undefined && sameBytes(lastGood, bytes))) return undefined;
  const { seconds } = confirmWithin;
  const change = await beginPending(host, { run: id, time, trigger, hash: hashOf(bytes), seconds }, bytes, found);
  await armTimer(host, change, confirmWithin.takeBack(id));
  return change;
}

async function wait(
  host: Host,
  change: PendingChange,
  { found }: Pick<Convergence, 'found'>,
  report: Report,
): Promise<void> {
  try {
    await startWaiting(host, change, await found?.());
  } catch (error) {
    if (!(error instanceof AgentError)) throw error;
    const end =
      'the change cannot wait for its confirmation, and the next run takes it back: kylin-vr rollback does it now';
    throw new AgentError(`${error.message}; ${end}`, EXIT.failed);
  }
  const { seconds } = change;
  const deadline = new Date(Date.now() + seconds * 1000).toISOString();
  report.pending = { secondsLeft: seconds, deadline };
  report.advice = `within ${seconds} s (until ${deadline}): kylin-vr confirm keeps it; else it is taken back`;
}

/** The file is the host's: it stays, and automatic runs leave it alone until it changes. */
async function leaveFile(host: Host, request: RunRequest, order: Order, report: Report): Promise<void> {
  const file = await readTrusted(host, request.configPath, 'look');
  if (!('bytes' in file)) return;
  if (sameBytes(file.bytes, order.bytes)) {
    await forgetRefusal(host);
    return;
  }
  await refuse(host, { hash: hashOf(file.bytes), why: 'kylin-vr rollback took it back' });
  const make = order.config === undefined ? '' : `cp ${PATHS.lastGood} ${request.configPath} makes this permanent, `;
  report.advice =
    `${request.configPath} stays as it is, and is not in force until it changes: ${make}` +
    'kylin-vr reload tries it again';
}
