// What the next runs learn of this one: the last good configuration, a change that waits for its confirmation, a file that is refused.

import { AgentError, EXIT, isOfTheMoment } from '../base/errors.ts';
import { hashOf, sameBytes } from '../base/hash.ts';
import { PATHS } from '../base/paths.ts';
import { readTrusted } from '../machine/config-file.ts';
import { forgetRefusal, promote, refuse, refuseForNow } from '../machine/history.ts';
import type { Host } from '../machine/host.ts';
import { disarmTimer, removePending } from '../machine/pending.ts';
import type { InLine } from './convergence.ts';
import type { NoOrder, Order } from './order.ts';
import { failed, type Heading, type ReportPart } from './report.ts';
import { type BackRequest, type ChangeRequest, isBack, settledOf, withinOf } from './request.ts';

export async function learn(
  host: Host,
  request: ChangeRequest,
  order: Exclude<Order, NoOrder>,
  inLine: InLine,
  { id, time, trigger }: Heading,
): Promise<ReportPart> {
  const { change } = inLine;
  if (inLine.error !== undefined) return learnFailure(host, request, order, inLine, inLine.error);
  if (change !== undefined) return (await import('./waiting.ts')).wait(host, change, inLine);
  if (order.kind === 'stand-in' || !inLine.whole) return {};
  try {
    await promote(host, order.bytes, { time, trigger, run: id });
    if (order.kind === 'file' || order.kind === 'quiet') await forgetRefusal(host);
  } catch (error) {
    if (!(error instanceof AgentError)) throw error;
    const message = `the network is as the configuration wants it, but that could not be kept: ${error.message}; then run kylin-vr reload`;
    throw new AgentError(message, EXIT.failed, { cause: error });
  }
  if (withinOf(request) === undefined) return {};
  const how =
    inLine.result === 'unchanged' ? 'the network is as it was' : 'this was the last good configuration before';
  return { advice: `${how}: there is nothing to confirm` };
}

/** Of what failed, how the network is now. */
const ENDS: Readonly<Record<InLine['result'], string>> = {
  'rolled-back': 'the network is as it was before',
  failed: 'the network could not be put back whole',
  changed: 'the network is up without it',
  unchanged: 'the network is up without it',
};

async function learnFailure(
  host: Host,
  request: ChangeRequest,
  order: Order,
  { result, change }: InLine,
  error: Error,
): Promise<ReportPart> {
  if (change !== undefined) {
    await removePending(host);
    await disarmTimer(host, change);
  }
  const advised = order.kind === 'file' ? await refuseFile(host, request, order.bytes, error) : {};
  if (!(error instanceof AgentError)) throw error;
  const mend = isBack(request) ? 'run kylin-vr rollback again' : 'run kylin-vr reload';
  return { ...advised, ...failed(`${error.message}; ${ENDS[result]}; mend the cause and ${mend}`) };
}

/** A change that was to be confirmed is not made when nobody is there to do so. */
async function refuseFile(host: Host, request: ChangeRequest, bytes: Uint8Array, error: Error): Promise<ReportPart> {
  const [hash, why] = [hashOf(bytes), 'it could not be applied'];
  if (withinOf(request) !== undefined || !isOfTheMoment(error)) {
    await refuse(host, { hash, why });
    return {};
  }
  const pause = await refuseForNow(host, hash, why);
  const advice = `what failed may be of the moment: the timer tries it again in ${pause} s, and then with growing pauses`;
  return { advice };
}

/** The file is the host's: it stays, and automatic runs leave it alone until it changes. */
export async function leaveFile(host: Host, request: BackRequest, order: Order): Promise<ReportPart> {
  const file = await readTrusted(host, request.configPath, 'look');
  if (!('bytes' in file)) return {};
  if (sameBytes(file.bytes, order.kind === 'none' ? new Uint8Array() : order.bytes)) {
    await forgetRefusal(host);
    return {};
  }
  await refuse(host, { hash: hashOf(file.bytes), why: 'kylin-vr rollback took it back' });
  const make = order.kind === 'none' ? '' : `cp ${PATHS.lastGood} ${request.configPath} makes this permanent, `;
  const advice =
    `${request.configPath} stays as it is, and is not in force until it changes: ${make}` +
    'kylin-vr reload tries it again';
  return { advice };
}

/**
 * So that every automatic run need not wait for the file to settle. Only a hint, in /run. Not of an empty file: the guest
 * agent begins every write with one.
 */
export async function rememberInvalid(host: Host, request: ChangeRequest): Promise<void> {
  const hash = settledOf(request);
  if (!hash || hash === hashOf(new Uint8Array())) return;
  await host.write(PATHS.invalid, hash, 0o600).catch((error: unknown) => {
    if (!(error instanceof AgentError)) throw error;
  });
}
