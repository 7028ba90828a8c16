// One run of a command that changes the network, from its request to its report: tidy → take back → choose → bring in line → learn.
// Each stage is given values and gives values. What it says is yielded at once, and stands where a later one fails.

import { basename, dirname } from 'node:path';
import { AgentError, EXIT, LockedError, NotNowError, UsageError } from '../base/errors.ts';
import { PATHS } from '../base/paths.ts';
import { isAutomatic } from '../base/trigger.ts';
import { putDamagedAside } from '../machine/damaged.ts';
import type { Host } from '../machine/host.ts';
import { hasLapsed, type PendingChange, readPending, secondsLeft } from '../machine/pending.ts';
import { removePushed, removeTemporaries } from '../machine/temporaries.ts';
import { learn, leaveFile, rememberInvalid } from './learn.ts';
import { chooseBack, chooseOrder, chooseWaiting, targetOf } from './order.ts';
import { askAhead, endQuietly } from './quiet.ts';
import { failed, type Heading, headingOf, type Report, type ReportPart, reportOf, type Said } from './report.ts';
import { type ChangeRequest, isBack, type RunRequest } from './request.ts';

/**
 * Holds the lock already. Bugs are thrown, and what the command makes no sense for now (UsageError, NotNowError, LockedError), before
 * anything was done; everything else is in the report.
 */
export async function run(host: Host, request: RunRequest): Promise<Report> {
  const heading = headingOf(request);
  const parts: ReportPart[] = [];
  try {
    for await (const part of stages(host, request, heading)) parts.push(part);
  } catch (error) {
    const isThrown = [UsageError, NotNowError, LockedError].some((kind) => error instanceof kind);
    if (!(error instanceof AgentError) || isThrown) throw error;
    parts.push(failed(error.message, error.status));
  }
  return reportOf(heading, parts);
}

async function* stages(host: Host, request: RunRequest, heading: Heading): Said {
  yield await tidy(host, request);
  const change = yield* changeUnderWay(host, request);
  if (request.command === 'confirm') yield await (await import('./waiting.ts')).confirm(host, change, request.asked);
  else if (request.command === 'lapse' && !(change?.run === request.run && (await hasLapsed(host, change))))
    yield { result: 'unchanged' };
  else yield* changeStages(host, request, change, heading);
}

/** Of what may change the network. */
async function* changeStages(
  host: Host,
  request: ChangeRequest,
  change: PendingChange | undefined,
  heading: Heading,
): Said {
  const target = await targetOf(host, request, change);
  const waits = change !== undefined && !(await hasLapsed(host, change)) ? change : undefined;
  if (waits !== undefined && !isBack(request) && !isAutomatic(request.trigger))
    throw new LockedError(
      `a change waits for its confirmation, ${Math.ceil(await secondsLeft(host, waits))} s left: ` +
        'kylin-vr confirm keeps it, kylin-vr rollback takes it back',
    );
  const ended = waits === undefined || isBack(request) ? change : undefined;
  const { goesOn, seen } =
    ended === undefined ? { goesOn: true } : yield* (await import('./waiting.ts')).takeBackChange(host, request, ended);
  if (!goesOn) return;
  // After a change was taken back, what it did would be asked for.
  const ahead = isBack(request) || change !== undefined ? undefined : await askAhead(host, request);
  try {
    const order = isBack(request)
      ? await chooseBack(host, target)
      : waits !== undefined
        ? await chooseWaiting(host, waits)
        : await chooseOrder(host, request, ended !== undefined, ahead);
    const { warnings, errors } = order;
    yield { warnings, errors, ...(errors.length > 0 && { exitStatus: EXIT.config }) };
    if (errors.length > 0) await rememberInvalid(host, request);
    let isInForce = errors.length === 0;
    if (order.kind !== 'none') {
      const inLine =
        order.kind === 'quiet'
          ? await endQuietly(host, request, order.quiet)
          : await (await import('./bring-in-line.ts')).bringInLine(host, request, order, heading, { ahead, seen });
      const { result, steps, chains, error, lost = [] } = inLine;
      yield { result, steps, chains, warnings: inLine.warnings.map((message) => ({ message })) };
      yield await learn(host, request, order, inLine, heading);
      // What is not ours and could not be put back: the change stands.
      if (lost.length > 0) yield { errors: lost.map((message) => ({ message })), exitStatus: EXIT.failed };
      isInForce &&= error === undefined && lost.length === 0;
    } else if (ended !== undefined) yield { result: 'unchanged' };
    if (request.command === 'rollback' && isInForce) yield await leaveFile(host, request, order);
  } finally {
    await ahead?.answered;
  }
}

/** Puts away what a killed edit, push or run left, and what something was at. */
async function tidy(host: Host, { configPath }: RunRequest): Promise<ReportPart> {
  // In that folder nothing else is ours.
  await removeTemporaries(host, dirname(configPath), basename(configPath));
  await removePushed(host, dirname(configPath));
  for (const folder of [PATHS.run, PATHS.lib, PATHS.backup, PATHS.backupOfBoot, PATHS.history, PATHS.managerDropIns])
    await removeTemporaries(host, folder);
  return { warnings: (await putDamagedAside(host)).map((message) => ({ message })) };
}

/** One that was confirmed, and cannot be made the last good configuration, keeps no machine that boots from what was that before. */
async function* changeUnderWay(host: Host, request: RunRequest): Said<PendingChange | undefined> {
  const change = await readPending(host);
  if (change?.phase !== 'confirmed') return change;
  try {
    return await (await import('./confirmation.ts')).pendingChange(host);
  } catch (error) {
    if (request.command !== 'start' || !(error instanceof AgentError)) throw error;
    yield failed(`${error.message}; the next run tries again`);
    return undefined;
  }
}
