// The way back: what was observed before a change is desired again. For a change that failed, and for one that waited for its
// confirmation (confirmation.ts).

import { setTimeout as sleep } from 'node:timers/promises';
import { AgentError, EXIT } from '../base/errors.ts';
import { PATHS } from '../base/paths.ts';
import { NOTHING } from '../config/config.ts';
import { parseForeignAddresses, withWords } from '../dialects/foreign.ts';
import { engine } from '../engines/in-use.ts';
import { applySteps, type Outcome } from '../machine/apply.ts';
import type { Checkpoint } from '../machine/checkpoint.ts';
import { type FlowRecord, readFlowRecord } from '../machine/flow-record.ts';
import { readStanding } from '../machine/foreign.ts';
import { readLastGood } from '../machine/history.ts';
import type { Host } from '../machine/host.ts';
import { readConfig } from '../machine/known/parsed.ts';
import { askManaged, readManagers } from '../machine/networkmanager.ts';
import {
  type Machine,
  observe,
  observeManaged,
  readLinks,
  readMachine,
  readOwned,
  recordOwned,
  type Seen,
  withWholeJumps,
} from '../machine/observe.ts';
import { uptimeOf } from '../machine/pending.ts';
import { NOTHING_OWNED, type Owned, renumbered, stillThere, withComing } from '../machine/recorded.ts';
import { bridgesOf, isSilent } from '../network/bridges.ts';
import { aged } from '../network/foreign.ts';
import { holds } from '../network/kinds.ts';
import type { Observation } from '../network/observation.ts';
import type { Renderer } from '../network/renderer.ts';
import {
  type Address,
  addressKey,
  bridgeKey,
  type Chain,
  compare,
  emptyState,
  isOurRoute,
  type NetworkState,
  type Port,
  portKey,
  type Sysctl,
  type TableName,
} from '../network/state.ts';
import { isLate, type Step } from '../network/step.ts';
import type { Ways } from '../network/translation.ts';
import { planSteps } from '../planning/plan.ts';
import { type Standing, settingsToReturn, toReturn } from '../planning/return.ts';
import type { Convergence, Return } from './convergence.ts';
import { type Cut, NO_CUT } from './cut.ts';
import { endFlows } from './flow-ends.ts';
import { returnOthers } from './others.ts';
import {
  asError,
  cannotComeBack,
  dueOf,
  isOnlyWhatWaited,
  lostIn,
  MOST_ROUNDS,
  shortList,
  shrinkOwned,
  withoutLost,
} from './rounds.ts';
import { settled } from './settle.ts';
import { type Aim, chooseRenderer, refuseUnreadable, type Survey, survey, union } from './survey.ts';

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

export async function rollBack(
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
  const back = await bringBack(host, renderer, there, { managers: new Map(), unread: [] });
  const { whole, steps, warnings, seen, chains } = back;
  warnings.push(...(await cutAfterwards(host, renderer, checkpoint, seen)).warnings);
  if (unrecorded !== undefined) warnings.push(unrecorded.message);
  if (whole) {
    const result = steps.length === 0 ? 'unchanged' : 'changed';
    return { result, whole, steps, warnings, ...(seen !== undefined && { seen }), ...(chains && { chains }) };
  }
  const error = new AgentError('the network could not be brought back to what it was before', EXIT.failed);
  return { result: 'failed', whole, steps, warnings, error, ...(chains && { chains }) };
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
  const comes = (key: string) => ports.some(({ bridge }) => key.includes(`/conf/${bridge}/`));
  for (const sysctl of state.sysctls)
    if (comes(sysctl.key) || (await host.sysctl(sysctl.key)) !== undefined) sysctls.push(sysctl);
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
export type Before = { managers: Observation['managers']; unread: Machine['unreadable']; seen?: Seen };

/** Gives the steps that were done, and whether all is as it was; what is not is in the warnings. */
async function bringBack(
  host: Host,
  renderer: Renderer,
  checkpoint: Checkpoint,
  { managers, unread, seen }: Before,
): Promise<Pick<Return, 'whole' | 'steps' | 'warnings' | 'seen' | 'chains'>> {
  const warnings: string[] = [];
  let done: Step[] = [];
  let chains: readonly Chain[] | undefined;
  try {
    const look = lookBack(host, renderer, checkpoint, { managers, unread });
    // Side by side with a look it costs no time.
    const [found, standing] = await Promise.all([look(seen), seen === undefined ? readStanding(host) : undefined]);
    let before: Standing | undefined;
    ({ chains } = found.ours.state);
    let { steps: remaining, machine } = found;
    await recordComing(host, checkpoint, machine);
    let failed: Outcome['failed'];
    const tried: Step[] = [];
    for (let round = 0, goesOn = true; goesOn && round < MOST_ROUNDS; round++) {
      const planned = remaining;
      const due = dueOf(planned);
      // Of its warnings those of the last cut are said.
      if (due.some(isLate) && (await cutAfterwards(host, renderer, checkpoint, machine)).goesOn) break;
      if (due.some((step) => holds(step, 'mayTake'))) before ??= standing ?? (await readStanding(host));
      const outcome = await applySteps(host, settingsLast(due));
      failed = outcome.failed;
      for (const step of outcome.done) tried.push(step);
      await outcome.announced;
      warnings.push(...outcome.warnings);
      ({ steps: remaining, machine } =
        failed === undefined ? await settled(() => look(), due, machine.links) : await look());
      // What is foreign may have gone with what was taken back just now.
      const goesAlong = (step: Step) => holds(step, 'goesAlong');
      const wentAlong = !due.every(goesAlong) && remaining.every(goesAlong);
      const isNext =
        failed === undefined ? due.length < planned.length || wentAlong : isOnlyWhatWaited(planned, due, remaining);
      goesOn = remaining.length > 0 && isNext;
    }
    const theirs = await returnOthers(host, checkpoint.others, before, {
      ours: found.ours,
      linksBefore: found.machine.links,
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
    const hidden = hiddenPorts(checkpoint, machine);
    warnings.push(...hidden.map((port) => mayBeThere(port, machine)));
    if (remaining.length === 0 && gone.length === 0 && hidden.length === 0) {
      const left = { ...NOTHING_OWNED, ...stillThere(machine, checkpoint.state) };
      await shrinkOwned(host, renumbered(union(checkpoint.owned, left), machine), warnings);
      return { whole: true, steps: done, warnings, chains, ...last };
    }
    if (failed !== undefined) warnings.push(`taking it back: ${failed.error.message}`);
    if (remaining.length > 0) warnings.push(`not taken back: ${shortList(remaining)}; the next reload tries again`);
  } catch (error) {
    warnings.push(`taking it back: ${asError(error).message}; the next reload tries again`);
  }
  return { whole: false, steps: done, warnings, ...(chains && { chains }) };
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

/**
 * A foreign address that comes back beside one of ours in its subnet goes with it where promote_secondaries is already what it
 * was before (test/confirm).
 */
const settingsLast = (steps: readonly Step[]): Step[] => [
  ...steps.filter((step) => !isPromotion(step)),
  ...steps.filter(isPromotion),
];

const isPromotion = (step: Step): boolean => step.kind === 'set-sysctl' && step.key.endsWith('/promote_secondaries');

/** Open vSwitch may be slow, or on its way back. */
const MORE_LOOKS = 2;
const PAUSE_MS = 1000;

/** Ports of the change that Open vSwitch, which is silent, may have still. */
function hiddenPorts({ state }: Checkpoint, { ovs, ownedPorts }: Machine): Port[] {
  const before = new Set(state.ports.map(portKey));
  return isSilent(ovs) ? ownedPorts.filter((port) => port.type === 'ovs' && !before.has(portKey(port))) : [];
}

const mayBeThere = ({ device, bridge }: Port, { ovs }: Machine): string => {
  const why = ovs !== undefined && 'silent' in ovs ? ovs.silent : '';
  return `${device} may be a port of ${bridge} still: Open vSwitch is silent: ${why}; the next reload tries again`;
};

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
    const asksOvs = checkpoint.state.bridges.some(({ type }) => type === 'ovs');
    let machine = await readMachine(host, asksOvs, readOurs(host, checkpoint), seen);
    for (let more = MORE_LOOKS; more > 0 && hiddenPorts(checkpoint, machine).length > 0; more--) {
      await sleep(PAUSE_MS);
      machine = await readMachine(host, asksOvs, readOurs(host, checkpoint));
    }
    const known = new Set(first.unread.map(({ table }) => table));
    refuseUnreadable({ unreadable: machine.unreadable.filter(({ table }) => !known.has(table)) }, checkpoint.state, '');
    // What is left there was there: it stays.
    const observation = { ...(await observe(host, machine, bound, checkpoint.state, renderer)), unreadable: [] };
    back ??= await stateBack(host, checkpoint, machine, observation);
    const asked = managers.size > 0 ? askManaged(host, Promise.resolve(managers)) : undefined;
    const managed = asked ? await observeManaged(host, machine, observation, asked) : observation;
    const steps = planSteps(back, managed, engine);
    const isWhole = !steps.some(({ kind }) => kind === 'remove-jump');
    return {
      steps: isWhole ? steps : planSteps(back, await withWholeJumps(host, managed), engine),
      machine,
      ours: observation,
    };
  };
}

/** Where there is no record, or none that is read, what the change made is ours all the same. */
async function readOurs(host: Host, { made }: Checkpoint): Promise<Owned> {
  const owned = await readOwned(host);
  return made === undefined ? owned : union(owned, made);
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
