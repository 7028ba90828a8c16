// Survey → a machine that is as desired, or as it was: apply, verify, and take back what could not be verified.

import { AgentError, VerifyError } from '../base/errors.ts';
import { PATHS } from '../base/paths.ts';
import { applySteps } from '../machine/apply.ts';
import type { Checkpoint } from '../machine/checkpoint.ts';
import { clonedMacError, clonedMacs } from '../machine/cloned-macs.ts';
import { setAside } from '../machine/damaged.ts';
import { type FlowRecord, readFlowRecord, waysInForce } from '../machine/flow-record.ts';
import { forgetForeign } from '../machine/foreign.ts';
import type { Host } from '../machine/host.ts';
import { type Answers, knowing } from '../machine/known/early.ts';
import { isOwnedDamaged, recordOwned, type Seen } from '../machine/observe.ts';
import { uptimeOf } from '../machine/pending.ts';
import type { Owned } from '../machine/recorded.ts';
import { countRemovals, forgetGone } from '../machine/resisting.ts';
import { foreignKey } from '../network/foreign.ts';
import { holds, toolOf } from '../network/kinds.ts';
import { onBridges, usedNics } from '../network/nics.ts';
import { type Address, addressKey } from '../network/state.ts';
import { isLate, type Step } from '../network/step.ts';
import { toReturn } from '../planning/return.ts';
import { checkpointOf, leftBy } from './checkpoint.ts';
import type { Convergence } from './convergence.ts';
import { type Cut, joined } from './cut.ts';
import { beginFlows, endFlows } from './flow-ends.ts';
import { settleLeft } from './left.ts';
import { readOthers, takenFrom } from './others.ts';
import {
  asError,
  cannotComeBack,
  dueOf,
  isOnlyWhatWaited,
  isOther,
  lostIn,
  MOST_ARRIVALS,
  MOST_ROUNDS,
  shortList,
  shrinkOwned,
  withoutLost,
} from './rounds.ts';
import { deadAfter, deadPortError, devicesAsked, followed, indexOf, settled } from './settle.ts';
import { type Aim, flowModelOf, type Scope, type Survey, survey, union } from './survey.ts';

export type ConvergeOptions = {
  /** Called before the first change; where it throws, nothing is changed. */
  beforeChange?: (found: Checkpoint) => Promise<void>;
  /** Is asked for the first look. */
  asked?: Host;
  /** A moment ago: enough to find nothing to do. */
  seen?: Seen | undefined;
  /** Somebody asked for this run: flows are held against the file where nothing else is to do, too. */
  isAsked?: boolean;
  /** Keeps what is in force: taken back it would be made again, and again cut off, a minute later. */
  keeps?: () => Promise<boolean>;
};

/**
 * INVARIANTS
 * - What was observed before the first change is kept until the verification: it is the desired state of a rollback.
 * - The record of our addresses names everything that may be ours at any instant: it grows before the first change and
 *   shrinks after the last. A run that is killed leaves no address that the next one does not know.
 */
export async function converge(host: Host, aim: Aim, options: ConvergeOptions = {}): Promise<Convergence> {
  const { renderer, scope } = aim;
  const { beforeChange, asked = host, isAsked = false, keeps = async () => false } = options;
  const look = async (rules?: Answers) => told(await survey(rules === undefined ? host : knowing(host, rules), aim));
  const seen = options.seen && (await survey(asked, aim, true, options.seen));
  const first = seen?.steps.length === 0 ? seen : await survey(asked, aim, true);
  const warnings = (await isOwnedDamaged(host, first.machine))
    ? await setAside(host, PATHS.owned, 'addresses and routes of ours on NICs that left the file stay')
    : [];
  if (isAsked) await forgetGone(host, first.machine.addresses);
  const record = await readFlowRecord(asked);
  const before = await waysInForce(asked);
  if (first.steps.length === 0) {
    const unchanged = await nothingToDo(host, aim, { first, record, isAsked, warnings });
    return withAlso(unchanged, await settleLeft(host, first, []));
  }
  const moving = mayCutOff(first) ? (await import('./gateways.ts')).askGateways(host, first) : undefined;
  const others = await readOthers(host, first);
  const checkpoint = { ...checkpointOf(first, renderer, before), at: await uptimeOf(host), others };
  await beforeChange?.(checkpoint);
  const begun = await beginFlows(host, aim, first, record);
  let unproved = await moving;
  const done: Step[] = [];
  const cuts: Cut[] = [];
  let current = first;
  let failure: Error | undefined;
  let failed: Survey | undefined;
  let isUnwritable = false;
  let arrivals = 0;
  const triedBack = new Set<string>();
  const mayBeOurs: Owned[] = [];
  for (let round = 0; round - arrivals < MOST_ROUNDS; round++) {
    try {
      const ours = union(current.machine.owned, current.owned);
      mayBeOurs.push(ours);
      const unrecorded = await recordOrSay(host, ours, scope);
      if (round === 0) warnings.push(...unrecorded);
    } catch (error) {
      if (round === 0) throw error instanceof AgentError ? nothingChanged(error) : error;
      failure = asError(error);
      break;
    }
    const due = dueOf(current.steps);
    if (due.some(isLate)) {
      const cut = await endFlows(host, aim, current, begun, { done, cuts });
      cuts.push(cut);
      // What guards stays with what it guards against: the next run goes on.
      if (cut.goesOn) return finished(current);
    }
    const outcome = await applySteps(host, due);
    for (const step of outcome.done) done.push(step);
    isUnwritable = outcome.failed?.steps.every(isOfFile) ?? false;
    let next: Survey;
    try {
      next =
        outcome.failed === undefined
          ? await followed(due, await settled(look, due, current.machine.links, outcome.rules), look)
          : await look();
    } catch (error) {
      // What cannot be verified is taken back, too.
      failure = outcome.failed?.error ?? asError(error);
      break;
    } finally {
      await outcome.announced;
      warnings.push(...outcome.warnings);
    }
    const dead = scope === 'boot' ? [] : await deadAfter(due, next, look);
    if (dead.length > 0) {
      failure = deadPortError(dead);
      break;
    }
    if (unproved !== undefined && !next.steps.some((step) => holds(step, 'mayLead'))) {
      try {
        next = await proved(unproved, due, next);
      } catch (error) {
        failure = asError(error);
        break;
      }
      unproved = undefined;
    }
    // Of one that has no other it is not the NIC any more, and the next round would take all of it for gone.
    const [cloned] =
      devicesAsked(due).length > 0 ? clonedMacs(current.binding.bound, current.machine.links, next.machine.links) : [];
    if (cloned !== undefined) {
      failure = await clonedMacError(host, cloned);
      break;
    }
    const lost = lostIn(next.steps);
    for (const { foreign } of lostIn(due)) triedBack.add(foreignKey(foreign));
    // It went with what was done just now, or has only now a place to come back to.
    const isTried = lost.every(({ foreign }) => triedBack.has(foreignKey(foreign)));
    if (next.steps.length === lost.length && !isTried && outcome.failed === undefined) {
      current = next;
      continue;
    }
    if (next.steps.length === lost.length) {
      if (outcome.failed !== undefined) warnings.push(rightAllTheSame(outcome.failed.error));
      cuts.push(await endFlows(host, aim, next, begun, { done, cuts }));
      return finished(next);
    }
    // NetworkManager takes routes along with its own.
    const isDone = isOnlyWhatWaited(current.steps, due, next.steps);
    if (outcome.failed !== undefined && isDone && sameNics(current, next)) {
      warnings.push(rightAllTheSame(outcome.failed.error));
      current = next;
      continue;
    }
    failure = outcome.failed?.error ?? verifyError(next.steps);
    const goesOn =
      outcome.failed === undefined
        ? isOther(next.steps, due) ||
          (due.some(preserves) && !next.steps.some(preserves)) ||
          (!due.some(isLate) && dueOf(next.steps).some(isLate))
        : tookAway(next.steps, due);
    const isSame = sameNics(current, next);
    if (isSame && !goesOn) {
      failed = next;
      break;
    }
    if (!isSame && arrivals < MOST_ARRIVALS) arrivals++;
    current = next;
  }
  const { rollBack } = await import('./take-back.ts');
  const changed = { ...checkpoint, made: mayBeOurs.reduce(union) };
  const rolledBack = await rollBack(host, renderer, first, changed, {
    done,
    warnings,
    failure: failure ?? new Error('no failure'),
    failed,
  });
  return { ...rolledBack, isUnwritable };

  /** Before flows are cut, which nobody can take back. */
  async function proved(
    moved: Awaited<NonNullable<typeof moving>>,
    due: readonly Step[],
    next: Survey,
  ): Promise<Survey> {
    const { judge } = await import('./gateways.ts');
    const isBoot = scope === 'boot';
    const { said, waited } = await judge(
      host,
      moved.filter(({ answered }) => answered || !isBoot),
      await keeps(),
    );
    warnings.push(...said);
    if (!waited) return next;
    // What was announced while nothing passed nobody has heard.
    const { announced } = await applySteps(host, due.filter(isAnnouncement));
    await announced;
    return look();
  }

  async function finished(found: Survey): Promise<Convergence> {
    const lost = lostIn(found.steps);
    if (!isAsked) await countRemovals(host, done.flatMap(foreignRemoved));
    if (!warnings.some(isUnrecorded)) await shrinkOwned(host, found.owned, warnings);
    warnings.push(...first.going, ...found.warnings);
    const convergence = withAlso(
      {
        ...withoutLost(done, lost),
        whole: first.whole,
        warnings,
        ...(lost.length + found.stuck.length > 0 && { lost: [...lost.map(cannotComeBack), ...found.stuck] }),
        found: async () => ({
          ...toReturn(checkpoint, found.machine.addresses, found.observation),
          ...(warnings.some(isUnrecorded) && { made: found.owned }),
          left: leftBy(found.observation.state),
          others: await takenFrom(host, others, found.observation),
        }),
      },
      joined(cuts),
    );
    return withAlso(convergence, await settleLeft(host, found, done));
  }
}

const foreignRemoved = (step: Step): Address[] =>
  step.kind === 'remove-address' && step.foreign ? [step.address] : [];

async function nothingToDo(
  host: Host,
  aim: Aim,
  {
    first,
    record,
    isAsked,
    warnings,
  }: { first: Survey; record: FlowRecord | undefined; isAsked: boolean; warnings: readonly string[] },
): Promise<Convergence> {
  const unrecorded = await recordOrSay(host, first.owned, aim.scope);
  const asking = onBridges(usedNics(first.binding), first.machine.addresses);
  // The rest waits for IPv6.
  if (first.machine.lost.length === 0) await forgetForeign(host);
  const unchanged: Convergence = {
    result: 'unchanged',
    whole: first.whole,
    steps: [],
    warnings: [...first.warnings, ...warnings, ...unrecorded],
    ...(first.stuck.length > 0 && { lost: first.stuck }),
    ...(asking.length > 0 && { onBridges: asking }),
    flowModel: () => flowModelOf(aim, first, record?.former),
  };
  if (isAsked) return withAlso(unchanged, await endFlows(host, aim, first, record));
  if (record?.clean !== false) return unchanged;
  // It has been said when they changed.
  const cut = await endFlows(host, aim, first, record);
  return cut.steps.length === 0 ? unchanged : withAlso(unchanged, cut);
}

const isAnnouncement = ({ kind }: Step): boolean => kind === 'announce-addresses';

/** Whether a NIC goes to a bridge or back, or its address does. */
const mayCutOff = ({ steps, desired }: Survey): boolean =>
  steps.some(
    (step) =>
      step.kind === 'add-port' ||
      step.kind === 'remove-port' ||
      (step.kind === 'add-address' &&
        !step.address.spec.endsWith('/32') &&
        desired.bridges.some(({ name }) => name === step.address.device)),
  );

/** Neighbours need not be told again what nothing has changed of since. */
const told = (found: Survey): Survey =>
  found.steps.every((step) => isAnnouncement(step) || !holds(step, 'mayLead'))
    ? { ...found, steps: found.steps.filter((step) => !isAnnouncement(step)) }
    : found;

const isOfFile = (step: Step): boolean => toolOf(step) === 'files';

const rightAllTheSame = ({ message }: Error): string => `${message} (the network is right all the same)`;

type Also = { steps: readonly Step[]; warnings: readonly string[] };

const withAlso = (convergence: Convergence, { steps, warnings }: Also): Convergence => ({
  ...convergence,
  result: steps.length > 0 ? 'changed' : convergence.result,
  steps: [...convergence.steps, ...steps],
  warnings: [...convergence.warnings, ...warnings],
});

/** Addresses that NetworkManager did not bring then it brings when it is asked again: they are on record now, and no news. */
const preserves = (step: Step): boolean => step.kind === 'apply-profile' && step.preserves === true;

const verifyError = (remaining: readonly Step[]): VerifyError =>
  new VerifyError(`the network is not as it should be after the change; still to do: ${shortList(remaining)}`);

/**
 * Whether an address that was there when these steps were planned has gone meanwhile: NetworkManager takes those of a NIC that was
 * renamed or set down when it gets to that, and what failed for want of one works with it.
 */
function tookAway(steps: readonly Step[], tried: readonly Step[]): boolean {
  const added = (of: readonly Step[]) =>
    of.flatMap((step) => (step.kind === 'add-address' ? [addressKey(step.address)] : []));
  // By the address alone: without NetworkManager the same one is to be added by ip.
  const known = new Set(added(tried));
  return added(steps).some((address) => !known.has(address));
}

const sameNics = (a: Survey, b: Survey): boolean => JSON.stringify(nicsOf(a)) === JSON.stringify(nicsOf(b));

const nicsOf = ({ binding, machine }: Survey) =>
  binding.bound.map(({ mac, device }) => [mac, device, indexOf(machine.links, device)]);

const nothingChanged = (error: AgentError): AgentError =>
  new AgentError(`nothing was changed: ${error.message}`, error.status, { cause: error });

/**
 * Gives what to say. A machine that boots becomes a router without a record, and nobody is kept from what he asks for by one that no
 * run will ever replace: a mount point, or made immutable. Without room there may be some soon.
 */
async function recordOrSay(host: Host, owned: Owned, scope: Scope): Promise<string[]> {
  try {
    await recordOwned(host, owned);
    return [];
  } catch (error) {
    if (!(error instanceof AgentError) || !(scope === 'boot' || isForGood(error))) throw error;
    return [`${error.message}; ${UNRECORDED}`];
  }
}

const UNRECORDED = 'addresses and routes of ours stay on a NIC that leaves the file before that is mended';

const isUnrecorded = (warning: string): boolean => warning.endsWith(UNRECORDED);

const isForGood = ({ cause }: AgentError): boolean =>
  cause instanceof Error && 'code' in cause && (cause.code === 'EBUSY' || cause.code === 'EPERM');
