// Survey → a machine that is as desired, or as it was: apply, verify, and take back what could not be verified.

import { setTimeout as sleep } from 'node:timers/promises';
import { NOTHING } from './config/config.ts';
import { type Cut, joined, NO_CUT, spentOn, united, worldOf } from './cut.ts';
import { aged, foreignKey, foreignText, parseForeignAddresses, withWords } from './dialects/foreign.ts';
import { profileUuid, type Renderer } from './dialects/renderer.ts';
import { AgentError, EXIT, VerifyError } from './errors.ts';
import { settleLeft } from './left.ts';
import { applySteps, type Outcome } from './machine/apply.ts';
import { clonedMacError, clonedMacs } from './machine/cloned-macs.ts';
import { setAside } from './machine/damaged.ts';
import { type Answers, knowing } from './machine/early.ts';
import { type FlowRecord, hasNoFlows, readFlowRecord, waysInForce, writeFlowRecord } from './machine/flow-record.ts';
import { forgetForeign, readStanding } from './machine/foreign.ts';
import { readLastGood } from './machine/history.ts';
import type { Host } from './machine/host.ts';
import { askManaged, readManagers } from './machine/networkmanager.ts';
import {
  isOwnedDamaged,
  type Machine,
  observe,
  observeManaged,
  readLinks,
  readMachine,
  readOwned,
  recordOwned,
  type Seen,
  withWholeJumps,
} from './machine/observe.ts';
import { readConfig } from './machine/parsed.ts';
import { PATHS } from './machine/paths.ts';
import { uptimeOf } from './machine/pending.ts';
import { monotonicMs } from './machine/process.ts';
import { NOTHING_OWNED, type Owned, renumbered, stillThere, withComing } from './machine/recorded.ts';
import { countRemovals, forgetGone } from './machine/resisting.ts';
import { bridgesOf, deadPorts, isSilent } from './network/bridges.ts';
import type { FlowModel } from './network/flows.ts';
import { type BoundNic, usedNics } from './network/nics.ts';
import type { Observation } from './network/observation.ts';
import { planSteps } from './network/plan.ts';
import { type Left, ourRoutes, type Standing, settingsToReturn, toReturn, withStayed } from './network/return.ts';
import {
  type Address,
  addressKey,
  bridgeKey,
  compare,
  emptyState,
  isOurRoute,
  type NetworkState,
  type Port,
  type Profile,
  routeTargetKey,
  type Sysctl,
  type TableName,
} from './network/state.ts';
import { describe, deviceOf, isLate, type Step } from './network/step.ts';
import type { Ways } from './network/translation.ts';
import { type Others, readOthers, returnOthers, takenFrom, takesNothing } from './others.ts';
import {
  type Aim,
  chooseRenderer,
  flowModelOf,
  recordedWorld,
  refuseUnreadable,
  type Scope,
  type Survey,
  survey,
  translationIn,
  union,
} from './survey.ts';

export type Convergence = {
  result: 'unchanged' | 'changed' | 'rolled-back' | 'failed';
  /** False: NICs were left to what brings them up at boot, so the configuration is not proved yet. */
  whole: boolean;
  /** What was done, in order; of a run that was rolled back too. */
  steps: Step[];
  warnings: string[];
  /** Why it was rolled back or failed. */
  error?: Error;
  /** That was a file of the renderer, which cannot be written or removed. */
  isUnwritable?: boolean;
  /** Of one that was unchanged: what its flows are held against. */
  flowModel?: () => FlowModel;
  /** What is foreign, went, and could not be put back, and what of ours could not be taken away: the next run tries again. */
  lost?: string[];
  /** Of one that changed something: what is to come back where that is taken back. */
  found?: () => Promise<Checkpoint>;
};

/** `seen`: by the last look, where nothing was changed since. */
export type Return = Convergence & { seen?: Seen };

/** What a run found before its first change: enough for another process to bring it back. Survives JSON. */
export type Checkpoint = {
  renderer: Renderer['name'];
  bound: BoundNic[];
  state: NetworkState;
  /** See Found. */
  stayed?: readonly string[];
  /** Seconds since boot. */
  at?: number;
  /** As it is to leave them, and, once it is verified, as it left them. */
  left?: Left;
  owned: Owned;
  /** Undefined: by a 1.0. */
  others?: Others;
  ways?: Ways;
};

export type ConvergeOptions = {
  /** Called before the first change; where it throws, nothing is changed. */
  beforeChange?: (found: Checkpoint) => Promise<void>;
  /** Is asked for the first look. */
  asked?: Host;
  /** A moment ago: enough to find nothing to do. */
  seen?: Seen | undefined;
  /** Somebody asked for this run: flows are held against the file where nothing else is to do, too. */
  isAsked?: boolean;
};

/**
 * What others did may call for other steps than those that were tried (NetworkManager stopped; a foreign route goes before its
 * own; an address is gone): then we go on from there, but not for ever. Two of them are for what waits (hold.ts).
 */
const MOST_ROUNDS = 7;
/** A NIC that comes or goes while we work changes what is desired. Many in a row have a round each: those count apart. */
const MOST_ARRIVALS = 64;

/**
 * INVARIANTS
 * - What was observed before the first change is kept until the verification: it is the desired state of a rollback.
 * - The record of our addresses names everything that may be ours at any instant: it grows before the first change and
 *   shrinks after the last. A run that is killed leaves no address that the next one does not know.
 */
export async function converge(host: Host, aim: Aim, options: ConvergeOptions = {}): Promise<Convergence> {
  const { renderer, scope } = aim;
  const { beforeChange, asked = host, isAsked = false } = options;
  const look = (rules?: Answers) => survey(rules === undefined ? host : knowing(host, rules), aim);
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
  const others = await readOthers(host, first);
  const checkpoint = { ...checkpointOf(first, renderer, before), at: await uptimeOf(host), others };
  await beforeChange?.(checkpoint);
  const begun = await beginFlows(host, aim, first, record);
  const done: Step[] = [];
  const cuts: Cut[] = [];
  let current = first;
  let failure: Error | undefined;
  let failed: Survey | undefined;
  let isUnwritable = false;
  let arrivals = 0;
  for (let round = 0; round - arrivals < MOST_ROUNDS; round++) {
    try {
      const unrecorded = await recordOrSay(host, union(current.machine.owned, current.owned), scope);
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
        outcome.failed === undefined ? await settled(look, due, current.machine.links, outcome.rules) : await look();
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
    // Of one that has no other it is not the NIC any more, and the next round would take all of it for gone.
    const [cloned] =
      devicesAsked(due).length > 0 ? clonedMacs(current.binding.bound, current.machine.links, next.machine.links) : [];
    if (cloned !== undefined) {
      failure = await clonedMacError(host, cloned);
      break;
    }
    if (next.steps.length === lostIn(next.steps).length) {
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
  const rolledBack = await rollBack(host, renderer, first, checkpoint, {
    done,
    warnings,
    failure: failure ?? new Error('no failure'),
    failed,
  });
  return { ...rolledBack, isUnwritable };

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
  // The rest waits for IPv6.
  if (first.machine.lost.length === 0) await forgetForeign(host);
  const unchanged: Convergence = {
    result: 'unchanged',
    whole: first.whole,
    steps: [],
    warnings: [...first.warnings, ...warnings, ...unrecorded],
    ...(first.stuck.length > 0 && { lost: first.stuck }),
    flowModel: () => flowModelOf(aim, first, record?.former),
  };
  if (isAsked) return withAlso(unchanged, await endFlows(host, aim, first, record));
  if (record?.clean !== false) return unchanged;
  // It has been said when they changed.
  const cut = await endFlows(host, aim, first, record);
  return cut.steps.length === 0 ? unchanged : withAlso(unchanged, cut);
}

const isOfFile = ({ kind }: Step): boolean => /^(write|remove|back-up)-file$/.test(kind);

const rightAllTheSame = ({ message }: Error): string => `${message} (the network is right all the same)`;

/**
 * What waits is due when nothing else is left to do, but for what cannot be put back: then flows are cut first.
 */
function dueOf(steps: readonly Step[]): readonly Step[] {
  const now = steps.filter((step) => !isLate(step));
  return now.every(({ kind }) => kind === 'put-back') ? steps : now;
}

/** Whether nothing is left of what was due, though it failed: others did it, or it was done all the same. */
const isOnlyWhatWaited = (planned: readonly Step[], due: readonly Step[], left: readonly Step[]): boolean =>
  due.length < planned.length && isOther(left, due);

type PutBack = Extract<Step, { kind: 'put-back' }>;

const lostIn = (steps: readonly Step[]): PutBack[] => steps.filter((step) => step.kind === 'put-back');

function withoutLost(done: readonly Step[], lost: readonly PutBack[]): Pick<Convergence, 'result' | 'steps'> {
  const failed = new Set(lost.map(({ foreign }) => foreignKey(foreign)));
  const steps = done.filter((step) => step.kind !== 'put-back' || !failed.has(foreignKey(step.foreign)));
  return { result: steps.length === 0 ? 'unchanged' : 'changed', steps };
}

const cannotComeBack = ({ foreign }: PutBack): string =>
  `${foreignText(foreign)} is not ours, went with a change, and cannot be put back as it was: add it by hand, or remove ` +
  `${PATHS.foreign} where nobody needs it; each run tries again`;

/** Before the first change: entries are not known to be right from here on, whoever ends this run. */
async function beginFlows(host: Host, aim: Aim, first: Survey, record: FlowRecord | undefined): Promise<FlowRecord> {
  const former = record?.former ?? recordedWorld(first.machine);
  const begun = { clean: false, ways: aim.ways, former: united(former, worldOf(translationIn(aim, first))) };
  await writeFlowRecord(host, begun);
  return begun;
}

/** When the network is as it should be. */
async function endFlows(
  host: Host,
  aim: Aim,
  found: Survey,
  record: FlowRecord | undefined,
  { done = [], cuts = [] }: { done?: readonly Step[]; cuts?: readonly Cut[] } = {},
): Promise<Cut> {
  const cut =
    !done.some(takesAway) && (await hasNoFlows(host))
      ? NO_CUT
      : await (await import('./stale.ts')).cutStale(host, flowModelOf(aim, found, record?.former), spentOn(cuts));
  if (record === undefined && cut.steps.length === 0) return cut;
  const world = worldOf(translationIn(aim, found));
  const former = cut.clean ? world : united(record?.former ?? recordedWorld(found.machine), world);
  const unwritten = await writeFlowRecord(host, { clean: cut.clean, ways: aim.ways, former });
  return unwritten === undefined ? cut : { ...cut, warnings: [...cut.warnings, unwritten] };
}

/** What goes is looked for, whatever the kernel counts: who cannot look is told. */
const takesAway = (step: Step): boolean =>
  (step.kind === 'remove-address' && !step.foreign) ||
  step.kind === 'remove-chain' ||
  (step.kind === 'edit-chain' && step.remove.length > 0);

type Also = { steps: readonly Step[]; warnings: readonly string[] };

const withAlso = (convergence: Convergence, { steps, warnings }: Also): Convergence => ({
  ...convergence,
  result: steps.length > 0 ? 'changed' : convergence.result,
  steps: [...convergence.steps, ...steps],
  warnings: [...convergence.warnings, ...warnings],
});

/** When a change was taken back: what is in force then is the last good configuration, or nothing of ours. */
async function endFlowsOfBefore(
  host: Host,
  renderer: Renderer,
  ways: Ways,
  record: FlowRecord,
  seen: Seen | undefined,
): Promise<Cut> {
  const bytes = await readLastGood(host);
  const parsed = bytes && (await readConfig(host, PATHS.lastGood, bytes, 'look'));
  const aim: Aim = { config: parsed?.ok ? parsed.config : NOTHING, renderer, scope: 'whole', ways };
  return endFlows(host, aim, await survey(host, aim, false, seen), record);
}

/**
 * NetworkManager goes on working after nmcli has returned: on 1,000 new addresses half a second, on their removal three. By the clock:
 * a look at many addresses takes longer than the pause before it.
 */
const SETTLE_MS = 8000;
const LOOK_MS = 100;

/**
 * Looks again until there is nothing left of what NetworkManager was asked for by these steps, for NICs as they were then, or it has made
 * no headway for a while. What is left to others, or is of a NIC that came meanwhile, does not come by waiting.
 */
async function settled<T extends Looked>(
  look: (rules?: Answers) => Promise<T>,
  steps: readonly Step[],
  links: Links,
  rules?: Answers,
): Promise<T> {
  const asked = new Map(devicesAsked(steps).map((device) => [device, indexOf(links, device)]));
  const isAsked = (device: string | undefined, { links }: Looked['machine']) =>
    asked.has(device) && asked.get(device) === indexOf(links, device);
  const leftOf = ({ steps, machine }: T) => devicesAsked(steps).filter((device) => isAsked(device, machine)).length;
  let found = await look(rules);
  for (let left = leftOf(found), since = monotonicMs(); left > 0 && monotonicMs() - since < SETTLE_MS; ) {
    await sleep(LOOK_MS);
    found = await look();
    const before = left;
    left = leftOf(found);
    if (left < before) since = monotonicMs();
  }
  return found;
}

type Links = Machine['links'];
type Looked = { steps: Step[]; machine: Pick<Machine, 'links'> };

/** By the kernel's number: a NIC that went and came back meanwhile has the same name, and nothing of what it had. */
const indexOf = (links: Links, device: string | undefined): number | undefined =>
  links.find((link) => link.device === device)?.index;

/** Addresses that NetworkManager did not bring then it brings when it is asked again: they are on record now, and no news. */
const preserves = (step: Step): boolean => step.kind === 'apply-profile' && step.preserves === true;

/** One for each step that NetworkManager carries out on a device: profiles are loaded and forgotten when it has answered. */
const devicesAsked = (steps: readonly Step[]): (string | undefined)[] =>
  steps.flatMap((step) =>
    step.kind === 'apply-profile' || ('by' in step && step.by !== undefined) ? [deviceOf(step)] : [],
  );

/** A NIC that was just brought up takes a moment to find its carrier. */
const CARRIER_MS = 5000;

/** Ports that these steps added and whose wire carries nothing: their network would be cut off, and was not before. */
async function deadAfter(steps: readonly Step[], found: Survey, look: () => Promise<Survey>): Promise<Port[]> {
  const added = steps.flatMap((step) => (step.kind === 'add-port' ? [step.port] : []));
  let dead = deadPorts(added, found.machine.links);
  const since = monotonicMs();
  while (dead.length > 0 && monotonicMs() - since < CARRIER_MS) {
    await sleep(LOOK_MS);
    dead = deadPorts(added, (await look()).machine.links);
  }
  return dead;
}

function deadPortError([port]: readonly Port[]): AgentError {
  return new AgentError(
    `${port?.device}, now a port of ${port?.bridge}, has no carrier: plug it in, or take bridge away`,
    EXIT.failed,
  );
}

/** Whether none of these steps was among those that were tried. */
function isOther(steps: readonly Step[], tried: readonly Step[]): boolean {
  const known = new Set(tried.map((step) => JSON.stringify(step)));
  return steps.every((step) => !known.has(JSON.stringify(step)));
}

const verifyError = (remaining: readonly Step[]): VerifyError =>
  new VerifyError(`the network is not as it should be after the change; still to do: ${shortList(remaining)}`);

function shortList(steps: readonly Step[]): string {
  const more = steps.length > 5 ? ` and ${steps.length - 5} more` : '';
  return `${steps.slice(0, 5).map(describe).join('; ')}${more}`;
}

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

async function rollBack(
  host: Host,
  renderer: Renderer,
  first: Survey,
  checkpoint: Checkpoint,
  attempt: { done: Step[]; warnings: string[]; failure: Error; failed: Survey | undefined },
): Promise<Convergence> {
  const { done, warnings, failure, failed } = attempt;
  const { managers } = first.observation;
  // Nobody else had time to change anything.
  const { left: _, ...all } = checkpoint;
  const back = await bringBack(host, renderer, all, {
    managers,
    unread: first.machine.unreadable.filter(({ stray }) => !stray),
    // NetworkManager goes on working.
    ...(managers.size === 0 && failed !== undefined && { seen: failed.machine }),
  });
  warnings.push(...back.warnings, ...(await cutAfterwards(host, renderer, checkpoint, back.seen)).warnings);
  const result = back.whole ? 'rolled-back' : 'failed';
  return { result, whole: first.whole, steps: done, warnings, error: failure };
}

/** Brings back what another run found, as far as its NICs are there still. */
export async function restore(host: Host, checkpoint: Checkpoint): Promise<Return> {
  const [links, owned] = await Promise.all([readLinks(host), readOwned(host)]);
  const there = await withoutGone(host, checkpoint, links);
  // Without a place to write it down the network comes back all the same.
  const unrecorded = await recordOwned(host, union(owned, checkpoint.owned)).catch(asError);
  const renderer = await chooseRenderer(host, checkpoint.renderer);
  const { whole, steps, warnings, seen } = await bringBack(host, renderer, there, { managers: new Map(), unread: [] });
  warnings.push(...(await cutAfterwards(host, renderer, checkpoint, seen)).warnings);
  if (unrecorded !== undefined) warnings.push(unrecorded.message);
  if (whole) {
    const result = steps.length === 0 ? 'unchanged' : 'changed';
    return { result, whole, steps, warnings, ...(seen !== undefined && { seen }) };
  }
  const error = new AgentError('the network could not be brought back to what it was before', EXIT.failed);
  return { result: 'failed', whole, steps, warnings, error };
}

/** What cannot be looked at now is left to the next run. */
async function cutAfterwards(host: Host, renderer: Renderer, { ways }: Checkpoint, seen?: Seen): Promise<Cut> {
  const record = await readFlowRecord(host);
  if (record === undefined) return NO_CUT;
  try {
    return await endFlowsOfBefore(host, renderer, ways ?? 'as in 1.0', record, seen);
  } catch (error) {
    if (!(error instanceof AgentError)) throw error;
    return NO_CUT;
  }
}

async function withoutGone(host: Host, checkpoint: Checkpoint, links: Machine['links']): Promise<Checkpoint> {
  const { bound } = checkpoint;
  // Of a version without bridges it names none.
  const state = { ...emptyState, ...checkpoint.state };
  const devices = new Set(links.map(({ device }) => device));
  const isLink = (device: string) => devices.has(device);
  const ports = state.ports.filter(({ device }) => isLink(device));
  // A bridge comes back with its port.
  const isThere = ({ device }: { device: string }) => isLink(device) || ports.some(({ bridge }) => bridge === device);
  const sysctls: Sysctl[] = [];
  for (const sysctl of state.sysctls) if ((await host.sysctl(sysctl.key)) !== undefined) sysctls.push(sysctl);
  return {
    ...checkpoint,
    bound: bound.filter(({ device, mac }) =>
      links.some((link) => link.device === device && (link.permanentMac ?? link.mac) === mac),
    ),
    state: {
      ...state,
      sysctls,
      links: state.links.filter(isThere),
      bridges: state.bridges.filter(({ name }) => isThere({ device: name })),
      ports,
      addresses: state.addresses.filter(isThere),
      routes: state.routes.filter(isThere),
      profiles: state.profiles.filter(isThere),
    },
  };
}

/** `unread`: tables that could not be read before the change either. `seen`: when it failed. */
type Before = { managers: Observation['managers']; unread: Machine['unreadable']; seen?: Seen };

/** Gives the steps that were done, and whether all is as it was; what is not is in the warnings. */
async function bringBack(
  host: Host,
  renderer: Renderer,
  checkpoint: Checkpoint,
  { managers, unread, seen }: Before,
): Promise<Pick<Return, 'whole' | 'steps' | 'warnings' | 'seen'>> {
  const warnings: string[] = [];
  let done: Step[] = [];
  try {
    const look = lookBack(host, renderer, checkpoint, { managers, unread });
    // Side by side with a look it costs no time.
    const [found, standing] = await Promise.all([look(seen), seen === undefined ? readStanding(host) : undefined]);
    let before: Standing | undefined;
    let { steps: remaining, machine } = found;
    await recordComing(host, checkpoint, machine);
    let failed: Outcome['failed'];
    const tried: Step[] = [];
    for (let round = 0, goesOn = true; goesOn && round < MOST_ROUNDS; round++) {
      const planned = remaining;
      const due = dueOf(planned);
      // Of its warnings those of the last cut are said.
      if (due.some(isLate) && (await cutAfterwards(host, renderer, checkpoint, machine)).goesOn) break;
      if (!due.every(takesNothing)) before ??= standing ?? (await readStanding(host));
      const outcome = await applySteps(host, settingsLast(due));
      failed = outcome.failed;
      for (const step of outcome.done) tried.push(step);
      await outcome.announced;
      warnings.push(...outcome.warnings);
      ({ steps: remaining, machine } =
        failed === undefined ? await settled(() => look(), due, machine.links) : await look());
      // What is foreign may have gone with what was taken back just now.
      const bringsOthers = !due.every(bringsForeign) && remaining.every(bringsForeign);
      const isNext =
        failed === undefined ? due.length < planned.length || bringsOthers : isOnlyWhatWaited(planned, due, remaining);
      goesOn = remaining.length > 0 && isNext;
    }
    const theirs = await returnOthers(host, checkpoint.others, before, {
      ours: found.ours,
      links: machine.links,
      sameMain: machine.printedRoutes === found.machine.printedRoutes,
    });
    const last = theirs.touched ? {} : { seen: machine };
    const lost = [...lostIn(remaining), ...theirs.lost];
    done = [...withoutLost(tried, lost).steps, ...theirs.back];
    warnings.push(...theirs.warnings, ...lost.map(cannotComeBack));
    // What still waits the next run does.
    remaining = remaining.filter((step) => step.kind !== 'put-back' && !isLate(step));
    const gone = unread.filter(({ table, chains }) => chains.length > 0 && isBare(table, machine));
    warnings.push(...gone.map(cannotBeWritten));
    if (remaining.length === 0 && gone.length === 0) {
      const left = { ...NOTHING_OWNED, ...stillThere(machine, checkpoint.state) };
      await shrinkOwned(host, renumbered(union(checkpoint.owned, left), machine), warnings);
      return { whole: true, steps: done, warnings, ...last };
    }
    if (failed !== undefined) warnings.push(`taking it back: ${failed.error.message}`);
    if (remaining.length > 0) warnings.push(`not taken back: ${shortList(remaining)}; the next reload tries again`);
  } catch (error) {
    warnings.push(`taking it back: ${asError(error).message}; the next reload tries again`);
  }
  return { whole: false, steps: done, warnings };
}

/** Bridges that are made anew have other numbers. Without a place to write it down the network comes back all the same. */
async function recordComing(host: Host, { owned, state }: Checkpoint, machine: Machine): Promise<void> {
  const coming = compare(state.bridges, bridgesOf(machine), bridgeKey).missing.filter(
    ({ type }) => type === 'linux' || !isSilent(machine.ovs),
  );
  if (coming.length === 0) return;
  await recordOwned(host, union(machine.owned, withComing(owned, coming))).catch((error: unknown) => {
    if (!(error instanceof AgentError)) throw error;
  });
}

/** Whether nothing of ours is in it any more. */
const isBare = (table: TableName, { unreadable, rules }: Machine): boolean =>
  ![...unreadable.flatMap((each) => each.chains.map(() => each)), ...rules.ours].some((each) => each.table === table);

const cannotBeWritten = ({ table }: Machine['unreadable'][number]): string =>
  `our chains in ${table} are gone, and iptables cannot write them as long as others have rules there that only nft can say`;

const bringsForeign = (step: Step): boolean =>
  step.kind === 'add-route' ||
  step.kind === 'announce-addresses' ||
  (step.kind === 'add-address' && step.address.foreign === true);

/**
 * A foreign address that comes back beside one of ours in its subnet goes with it where promote_secondaries is already what it
 * was before (test/confirm).
 */
const settingsLast = (steps: readonly Step[]): Step[] => [
  ...steps.filter((step) => !isPromotion(step)),
  ...steps.filter(isPromotion),
];

const isPromotion = (step: Step): boolean => step.kind === 'set-sysctl' && step.key.endsWith('/promote_secondaries');

const nothingChanged = (error: AgentError): AgentError =>
  new AgentError(`nothing was changed: ${error.message}`, error.status, { cause: error });

const asError = (error: unknown): Error => (error instanceof Error ? error : new Error(String(error)));

/** Plans the way back. Where NetworkManager does not answer any more, what is not its matter is taken back all the same. */
function lookBack(host: Host, renderer: Renderer, checkpoint: Checkpoint, first: Before) {
  const { bound } = checkpoint;
  let { managers } = first;
  let answers = true;
  let back: NetworkState | undefined;
  return async (seen?: Seen): Promise<{ steps: Step[]; machine: Machine; ours: Observation }> => {
    if (answers)
      managers = await readManagers(host).catch(() => {
        answers = false;
        return managers;
      });
    const machine = await readMachine(
      host,
      checkpoint.state.bridges.some(({ type }) => type === 'ovs'),
      undefined,
      seen,
    );
    const known = new Set(first.unread.map(({ table }) => table));
    refuseUnreadable({ unreadable: machine.unreadable.filter(({ table }) => !known.has(table)) }, checkpoint.state, '');
    // What is left there was there: it stays.
    const observation = { ...(await observe(host, machine, bound, checkpoint.state, renderer)), unreadable: [] };
    back ??= await stateBack(host, checkpoint, machine, observation);
    const asked = managers.size > 0 ? askManaged(host, Promise.resolve(managers)) : undefined;
    const managed = asked ? await observeManaged(host, machine, observation, asked) : observation;
    const steps = planSteps(back, managed);
    const isWhole = !steps.some(({ kind }) => kind === 'remove-jump');
    return {
      steps: isWhole ? steps : planSteps(back, await withWholeJumps(host, managed)),
      machine,
      ours: observation,
    };
  };
}

async function stateBack(
  host: Host,
  checkpoint: Checkpoint,
  machine: Machine,
  observation: Observation,
): Promise<NetworkState> {
  const { state } = toReturn(withAge(checkpoint, await uptimeOf(host)), machine.addresses, observation);
  const settled = settingsToReturn(state, checkpoint.left, observation.state);
  const back = checkpoint.left === undefined ? settled : withoutDowns(settled, usedByOthers(machine, observation));
  return withForeign(back, observation, machine);
}

/**
 * Links that somebody else uses: what is on them he may have put there while the change waited. With a link that goes down the kernel
 * takes its IPv6 and its routes away.
 */
function usedByOthers({ links, printedAddresses, routes }: Machine, { owned, ownedRoutes }: Observation): Set<string> {
  const up = new Set(links.flatMap(({ device, up }) => (up ? [device] : [])));
  // What a router's advertisements bring came with the link.
  const addresses = parseForeignAddresses(printedAddresses, up, owned).filter(
    ({ global, family, words }) => global && (family === 4 || !/ valid_lft \d/.test(words)),
  );
  const foreign = routes.filter((route) => !isOurRoute(route, ownedRoutes));
  return new Set([...addresses, ...foreign].map(({ device }) => device));
}

const withoutDowns = (state: NetworkState, used: ReadonlySet<string>): NetworkState => ({
  ...state,
  links: state.links.map(({ up, ...link }) =>
    up === false && used.has(link.device) ? link : { ...link, ...(up !== undefined && { up }) },
  ),
});

/** With the foreign addresses that are there when the return begins, and that it might take along. */
function withForeign(
  state: NetworkState,
  { state: { addresses: there } }: Observation,
  { printedAddresses }: Machine,
): NetworkState {
  const known = new Set(state.addresses.map(addressKey));
  const foreign = there.filter((address) => address.foreign && !known.has(addressKey(address)));
  return { ...state, addresses: [...state.addresses, ...withWords(foreign, printedAddresses)] };
}

/** A lease has gone on meanwhile. */
function withAge(checkpoint: Checkpoint, now: number): Checkpoint {
  const { at, state } = checkpoint;
  const passed = Math.max(0, Math.floor(now - (at ?? now))) || 0;
  const addresses = state.addresses.flatMap((address): Address[] => {
    if (address.found === undefined) return [address];
    const found = aged(address.found, passed);
    return found === undefined ? [] : [{ ...address, found }];
  });
  return { ...checkpoint, state: { ...state, addresses } };
}

function checkpointOf(first: Survey, renderer: Renderer, ways: Ways): Checkpoint {
  const { binding, machine } = first;
  return {
    renderer: renderer.name,
    bound: usedNics(binding),
    ...withStayed(stateBefore(first), machine.addresses, first.observation),
    left: leftBy(first.desired),
    owned: machine.owned,
    ways,
  };
}

const leftBy = ({ links, sysctls }: NetworkState): Left => ({ links, sysctls });

/** What was there, foreign profiles that were put aside included. */
function stateBefore({ machine, observation, binding, desired }: Survey): NetworkState {
  const { state, claims, managers } = observation;
  const files = [...state.files, ...claims.map(({ path, content, mode }) => ({ path, content, mode }))];
  const profiles = usedNics(binding).flatMap(({ device, mac }): Profile[] => {
    if (!managers.has(device)) return [];
    const ours = profileUuid(mac);
    const uuid =
      managers.get(device)?.profile ?? (files.some(({ content }) => content.includes(ours)) ? ours : undefined);
    return uuid === undefined ? [] : [{ device, uuid }];
  });
  // Those of others are no part of it, see Others; but one of a foreign profile that leads where one of ours is about to is ours by then.
  const ownedRoutes = new Set([...observation.ownedRoutes, ...desired.routes.map(routeTargetKey)]);
  const addresses = withWords(
    [...state.addresses, ...takenOver(machine, desired, observation)],
    machine.printedAddresses,
  );
  return { ...state, files, profiles, addresses, routes: ourRoutes(state.routes, { ownedRoutes }) };
}

/** Leases that are to be addresses of ours for good. NetworkManager gets its own again by its profile. */
function takenOver({ addresses }: Machine, desired: NetworkState, { owned, managers }: Observation): Address[] {
  if (!addresses.some(({ dynamic }) => dynamic)) return [];
  const wanted = new Set(desired.addresses.map(addressKey));
  return addresses
    .filter(({ dynamic, device }) => dynamic && !managers.has(device))
    .filter((address) => wanted.has(addressKey(address)) && !owned.has(addressKey(address)))
    .map(({ device, spec }) => ({ device, spec, foreign: true }));
}

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

/** Of a record that still names more than is ours the next run makes the best: no reason to call a good change a failure. */
async function shrinkOwned(host: Host, owned: Owned, warnings: string[]): Promise<void> {
  await recordOwned(host, owned).catch((error: unknown) => {
    if (!(error instanceof AgentError)) throw error;
    warnings.push(error.message);
  });
}
