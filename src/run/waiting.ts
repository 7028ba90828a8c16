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
import type { InLine, Return } from './convergence.ts';
import { failed, type Heading, type ReportPart, type Said } from './report.ts';
import type { ChangeRequest, ConfirmWithin } from './request.ts';
import { chooseRenderer, scopeOf } from './survey.ts';

export async function confirm(
  host: Host,
  change: PendingChange | undefined,
  asked: number | undefined,
): Promise<ReportPart> {
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
  const advice = `kept: the change of ${change.time} (run ${change.run}) is the last good configuration now`;
  return { result: 'unchanged', advice };
}

/** Whether the run goes on. `seen`: the machine, by the last look, where nothing was changed since. */
type TakenBack = { goesOn: boolean; seen?: Return['seen'] };

export async function* takeBackChange(host: Host, request: ChangeRequest, change: PendingChange): Said<TakenBack> {
  const why = await reasonOf(host, change, request.command === 'rollback');
  const renderer = await chooseRenderer(host, request.renderer);
  const back = await takeBack(host, change, renderer, scopeOf(request.command), why);
  const { steps, chains, error } = back;
  yield { steps, chains, warnings: back.warnings.map((message) => ({ message })) };
  if (error === undefined) {
    yield { warnings: [{ message: `the change of ${change.time} (run ${change.run}) was taken back: ${why}` }] };
    return { goesOn: true, seen: back.seen };
  }
  // Who says what he wants must not be kept from it.
  if (request.command === 'reload' && !isAutomatic(request.trigger)) {
    yield { warnings: [{ message: `${error.message}: it is left as it is` }] };
    yield await forget(host, change);
    return { goesOn: true };
  }
  if (!(error instanceof AgentError)) throw error;
  const isBack = back.result !== 'failed';
  if (request.command !== 'start' || isBack) {
    yield failed(`${error.message}; the next run tries again`);
    return { goesOn: request.command === 'start' };
  }
  // What cannot be taken back now cannot be at the next boot either, and a machine that boots has to become a router.
  yield failed(
    `the change of ${change.time} (run ${change.run}) could not be taken back (${why}): ${error.message}; the last good configuration ` +
      'is brought up all the same',
  );
  yield await forget(host, change);
  return { goesOn: true };
}

const forget = async (host: Host, change: PendingChange): Promise<ReportPart> => ({
  warnings: (await giveUp(host, change)).map((message) => ({ message })),
});

/** The change that will wait for its confirmation; undefined where the last good one is repaired. */
export async function beginChange(
  host: Host,
  { seconds, takeBack }: ConfirmWithin,
  bytes: Uint8Array,
  { id, time, trigger }: Heading,
  found: Checkpoint,
): Promise<PendingChange | undefined> {
  const lastGood = await readLastGood(host);
  if (lastGood !== undefined && sameBytes(lastGood, bytes)) return undefined;
  const change = await beginPending(host, { run: id, time, trigger, hash: hashOf(bytes), seconds }, bytes, found);
  await armTimer(host, change, takeBack(id));
  return change;
}

export async function wait(host: Host, change: PendingChange, { found }: Pick<InLine, 'found'>): Promise<ReportPart> {
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
  const advice = `within ${seconds} s (until ${deadline}): kylin-vr confirm keeps it; else it is taken back`;
  return { pending: { secondsLeft: seconds, deadline }, advice };
}
