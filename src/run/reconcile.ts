// One run of a command that changes the network: which configuration, then converge, then the report. The order of the
// stages, on a screen.

import { basename, dirname } from 'node:path';
import { AgentError, EXIT, isOfTheMoment, LockedError, NotNowError, UsageError } from '../base/errors.ts';
import { hashOf, sameBytes, shortName } from '../base/hash.ts';
import { PATHS } from '../base/paths.ts';
import { isAutomatic } from '../base/trigger.ts';
import type { Checkpoint } from '../machine/checkpoint.ts';
import { readTrusted } from '../machine/config-file.ts';
import { putDamagedAside } from '../machine/damaged.ts';
import { forgetRefusal, promote, refuse, refuseForNow } from '../machine/history.ts';
import type { Host } from '../machine/host.ts';
import {
  disarmTimer,
  hasLapsed,
  type PendingChange,
  readPending,
  removePending,
  secondsLeft,
} from '../machine/pending.ts';
import { monotonicMs } from '../machine/process.ts';
import { removePushed, removeTemporaries } from '../machine/temporaries.ts';
import type { Chain } from '../network/state.ts';
import type { Known } from './bring-in-line.ts';
import type { Convergence } from './convergence.ts';
import {
  chooseBack,
  chooseOrder,
  chooseWaiting,
  type FileOrder,
  type Order,
  type ReadOrder,
  rememberInvalid,
  targetOf,
} from './order.ts';
import { askAhead, cutQuietly } from './quiet.ts';
import { addSteps, fail, GOES_ON, type Report } from './report.ts';
import {
  type BackRequest,
  type ChangeRequest,
  commandOf,
  isBack,
  type RunRequest,
  settledOf,
  withinOf,
} from './request.ts';

/**
 * Holds the lock already. Bugs are thrown, and what the command makes no sense for now (UsageError, NotNowError, LockedError), before
 * anything was done; everything else is in the report.
 */
export async function run(host: Host, request: RunRequest): Promise<Report> {
  const started = monotonicMs();
  const report: Report = {
    id: shortName(),
    command: commandOf(request),
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
    for (const folder of [PATHS.run, PATHS.lib, PATHS.backup, PATHS.backupOfBoot, PATHS.history, PATHS.managerDropIns])
      await removeTemporaries(host, folder);
    report.warnings.push(...(await putDamagedAside(host)).map((message) => ({ message })));
    const change = await changeUnderWay(host, request, report);
    if (request.command === 'confirm')
      await (await import('./waiting.ts')).confirm(host, change, request.asked, report);
    else if (request.command === 'lapse' && !(await isDue(host, change, request.run))) report.result = 'unchanged';
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
  const change = await readPending(host);
  if (change?.phase !== 'confirmed') return change;
  try {
    return await (await import('./confirmation.ts')).pendingChange(host);
  } catch (error) {
    if (request.command !== 'start' || !(error instanceof AgentError)) throw error;
    fail(report, `${error.message}; the next run tries again`);
    return undefined;
  }
}

async function bringAbout(
  host: Host,
  request: ChangeRequest,
  change: PendingChange | undefined,
  report: Report,
): Promise<void> {
  const target = await targetOf(host, request, change);
  const waits = change !== undefined && !(await hasLapsed(host, change));
  if (waits && !isBack(request) && !isAutomatic(request.trigger))
    throw new LockedError(
      `a change waits for its confirmation, ${Math.ceil(await secondsLeft(host, change))} s left: ` +
        'kylin-vr confirm keeps it, kylin-vr rollback takes it back',
    );
  const ends = change !== undefined && (!waits || isBack(request));
  const { goesOn, seen } = ends ? await (await import('./waiting.ts')).end(host, request, change, report) : GOES_ON;
  if (!goesOn) return;
  if (isBack(request)) return obey(host, request, await chooseBack(host, target), ends, report, { seen });
  if (waits) return obey(host, request, await chooseWaiting(host, change), ends, report);
  // After a change was taken back, what it did would be asked for.
  const ahead = ends ? undefined : await askAhead(host, request);
  try {
    await obey(host, request, await chooseOrder(host, request, ends, ahead), ends, report, { ahead, seen });
  } finally {
    await ahead?.answered;
  }
}

async function obey(
  host: Host,
  request: ChangeRequest,
  order: Order,
  ends: boolean,
  report: Report,
  known?: Known,
): Promise<void> {
  report.warnings = [...report.warnings, ...order.warnings];
  report.errors = [...report.errors, ...order.errors];
  if (order.errors.length > 0) report.exitStatus = EXIT.config;
  const settled = settledOf(request);
  if (order.errors.length > 0 && settled) await rememberInvalid(host, settled);
  if (order.kind !== 'none') await carryOut(host, request, order, report, known);
  else if (ends && report.exitStatus === EXIT.ok) report.result = report.steps.length === 0 ? 'unchanged' : 'changed';
  if (request.command === 'rollback' && report.exitStatus === EXIT.ok) await leaveFile(host, request, order, report);
}

const isDue = async (host: Host, change: PendingChange | undefined, run: string): Promise<boolean> =>
  change?.run === run && (await hasLapsed(host, change));

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
  request: ChangeRequest,
  { bytes }: FileOrder,
  error: Error,
  report: Report,
): Promise<void> {
  const [hash, why] = [hashOf(bytes), 'it could not be applied'];
  if (withinOf(request) !== undefined || !isOfTheMoment(error)) return refuse(host, { hash, why });
  const pause = await refuseForNow(host, hash, why);
  report.advice = `what failed may be of the moment: the timer tries it again in ${pause} s, and then with growing pauses`;
}

async function carryOut(
  host: Host,
  request: ChangeRequest,
  order: Exclude<Order, { kind: 'none' }>,
  report: Report,
  known?: Known,
): Promise<void> {
  let change: PendingChange | undefined;
  let chains: readonly Chain[] | undefined;
  const begin = async (read: ReadOrder, found: Checkpoint): Promise<void> => {
    chains = found.state.chains;
    if (withinOf(request) === undefined) return;
    change = await (await import('./waiting.ts')).begun(host, request, read, report, found);
  };
  const convergence = await (order.kind !== 'quiet'
    ? (await import('./bring-in-line.ts')).bringInLine(host, request, order, (found) => begin(order, found), known)
    : isAutomatic(request.trigger)
      ? order.quiet
      : cutQuietly(host, order.quiet));
  await addSteps(report, convergence.steps, chains);
  report.result = convergence.result === 'unchanged' && report.steps.length > 0 ? 'changed' : convergence.result;
  report.warnings.push(...convergence.warnings.map((message) => ({ message })));
  const { error } = convergence;
  if (error !== undefined) {
    if (change !== undefined) {
      await removePending(host);
      await disarmTimer(host, change);
    }
    if (order.kind === 'file') await refuseFile(host, request, order, error, report);
    if (!(error instanceof AgentError)) throw error;
    const mend = isBack(request) ? 'run kylin-vr rollback again' : 'run kylin-vr reload';
    report.errors.push({ message: `${error.message}; ${ENDS[convergence.result]}; mend the cause and ${mend}` });
    report.exitStatus = EXIT.failed;
  } else if (change !== undefined) await (await import('./waiting.ts')).wait(host, change, convergence, report);
  else if (order.kind !== 'stand-in' && convergence.whole) {
    try {
      await promote(host, order.bytes, { time: report.time, trigger: report.trigger, run: report.id });
      if (order.kind === 'file' || order.kind === 'quiet') await forgetRefusal(host);
    } catch (error) {
      if (!(error instanceof AgentError)) throw error;
      const message = `the network is as the configuration wants it, but that could not be kept: ${error.message}; then run kylin-vr reload`;
      throw new AgentError(message, EXIT.failed, { cause: error });
    }
    if (withinOf(request) !== undefined)
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

/** The file is the host's: it stays, and automatic runs leave it alone until it changes. */
async function leaveFile(host: Host, request: BackRequest, order: Order, report: Report): Promise<void> {
  const file = await readTrusted(host, request.configPath, 'look');
  if (!('bytes' in file)) return;
  if (sameBytes(file.bytes, order.kind === 'none' ? new Uint8Array() : order.bytes)) {
    await forgetRefusal(host);
    return;
  }
  await refuse(host, { hash: hashOf(file.bytes), why: 'kylin-vr rollback took it back' });
  const make = order.kind === 'none' ? '' : `cp ${PATHS.lastGood} ${request.configPath} makes this permanent, `;
  report.advice =
    `${request.configPath} stays as it is, and is not in force until it changes: ${make}` +
    'kylin-vr reload tries it again';
}
