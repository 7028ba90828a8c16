// What a run does about a change that waits for its confirmation: begins one, keeps it, takes it back.

import { AgentError, EXIT, UsageError } from '../base/errors.ts';
import { hashOf, sameBytes } from '../base/hash.ts';
import { isAutomatic } from '../base/trigger.ts';
import type { Checkpoint } from '../machine/checkpoint.ts';
import { readLastGood, readRefusal } from '../machine/history.ts';
import type { Host } from '../machine/host.ts';
import {
  armTimer,
  beginPending,
  type PendingChange,
  pendingBytes,
  secondsLeft,
  startWaiting,
} from '../machine/pending.ts';
import { giveUp, keep, reasonOf, takeBack } from './confirmation.ts';
import type { Convergence } from './convergence.ts';
import type { ReadOrder } from './order.ts';
import { addSteps, type End, fail, GOES_ON, type Report } from './report.ts';
import { type ChangeRequest, withinOf } from './request.ts';
import { chooseRenderer, scopeOf } from './survey.ts';

export async function confirm(
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

/** Takes the change back. Gives whether to go on. */
export async function end(host: Host, request: ChangeRequest, change: PendingChange, report: Report): Promise<End> {
  const why = await reasonOf(host, change, request.command === 'rollback');
  const renderer = await chooseRenderer(host, request.renderer);
  const back = await takeBack(host, change, renderer, scopeOf(request.command), why);
  await addSteps(report, back.steps, back.chains);
  report.warnings.push(...back.warnings.map((message) => ({ message })));
  if (back.error === undefined) {
    report.warnings.push({ message: `the change of ${change.time} (run ${change.run}) was taken back: ${why}` });
    return { ...GOES_ON, seen: back.seen };
  }
  const { message } = back.error;
  // Who says what he wants must not be kept from it.
  if (request.command === 'reload' && !isAutomatic(request.trigger)) {
    report.warnings.push({ message: `${message}: it is left as it is` });
    await forget(host, change, report);
    return GOES_ON;
  }
  if (!(back.error instanceof AgentError)) throw back.error;
  const isBack = back.result !== 'failed';
  if (request.command !== 'start' || isBack) {
    fail(report, `${message}; the next run tries again`);
    return { goesOn: request.command === 'start' };
  }
  // What cannot be taken back now cannot be at the next boot either, and a machine that boots has to become a router.
  fail(
    report,
    `the change of ${change.time} (run ${change.run}) could not be taken back (${why}): ${message}; the last good configuration is ` +
      'brought up all the same',
  );
  await forget(host, change, report);
  return GOES_ON;
}

async function forget(host: Host, change: PendingChange, report: Report): Promise<void> {
  report.warnings.push(...(await giveUp(host, change)).map((message) => ({ message })));
}

/** The change that will wait for its confirmation; undefined where none was asked for, or the last good one is repaired. */
export async function begun(
  host: Host,
  request: ChangeRequest,
  { bytes }: ReadOrder,
  { id, time, trigger }: Report,
  found: Checkpoint,
): Promise<PendingChange | undefined> {
  const confirmWithin = withinOf(request);
  const lastGood = await readLastGood(host);
  if (confirmWithin === undefined || (lastGood !== undefined && sameBytes(lastGood, bytes))) return undefined;
  const { seconds } = confirmWithin;
  const change = await beginPending(host, { run: id, time, trigger, hash: hashOf(bytes), seconds }, bytes, found);
  await armTimer(host, change, confirmWithin.takeBack(id));
  return change;
}

export async function wait(
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
