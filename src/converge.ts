// Survey → a machine that is as desired, or as it was: apply, verify, and take back what could not be verified.

import { setTimeout as sleep } from 'node:timers/promises';
import type { Config } from './config/config.ts';
import { profileUuid, type Renderer } from './dialects/renderer.ts';
import { AgentError, EXIT } from './errors.ts';
import { applySteps } from './machine/apply.ts';
import { forgetForeign } from './machine/foreign.ts';
import type { Host } from './machine/host.ts';
import { askManaged, readManagers } from './machine/networkmanager.ts';
import { type Machine, type Owned, observe, observeManaged, readMachine } from './machine/observe.ts';
import { PATHS } from './machine/paths.ts';
import { deadPorts } from './network/bridges.ts';
import type { BoundNic } from './network/nics.ts';
import type { Observation } from './network/observation.ts';
import { planSteps } from './network/plan.ts';
import { addressKey, emptyState, type NetworkState, type Port, type Profile, type Sysctl } from './network/state.ts';
import { describe, type Step } from './network/step.ts';
import { chooseRenderer, type Scope, type Survey, survey, union } from './survey.ts';

export type Convergence = {
  result: 'unchanged' | 'changed' | 'rolled-back' | 'failed';
  /** False: NICs were left to what brings them up at boot, so the configuration is not proved yet. */
  whole: boolean;
  /** What was done, in order; of a run that was rolled back too. */
  steps: Step[];
  warnings: string[];
  /** Why it was rolled back or failed. */
  error?: Error;
};

/** What a run found before its first change: enough for another process to bring it back. Survives JSON. */
export type Checkpoint = { renderer: Renderer['name']; bound: BoundNic[]; state: NetworkState; owned: Owned };

/**
 * A NIC that comes or goes while we work changes what is desired, and what others did may call for other steps than those
 * that were tried (NetworkManager stopped; a foreign route goes before its own; an address is gone): then we go on from there,
 * but not for ever.
 */
const MOST_ROUNDS = 5;

/**
 * INVARIANTS
 * - What was observed before the first change is kept until the verification: it is the desired state of a rollback.
 * - The record of our addresses names everything that may be ours at any instant: it grows before the first change and
 *   shrinks after the last. A run that is killed leaves no address that the next one does not know.
 */
export async function converge(
  host: Host,
  config: Config,
  renderer: Renderer,
  scope: Scope,
  /** Called before the first change; where it throws, nothing is changed. */
  beforeChange?: (found: Checkpoint) => Promise<void>,
  /** Is asked for the first look. */
  asked = host,
): Promise<Convergence> {
  const look = () => survey(host, config, renderer, scope);
  const first = await survey(asked, config, renderer, scope, true);
  if (first.steps.length === 0) {
    await recordOwned(host, first.owned);
    await forgetForeign(host);
    return { result: 'unchanged', whole: first.whole, steps: [], warnings: first.warnings };
  }
  await beforeChange?.(checkpointOf(first, renderer));
  const done: Step[] = [];
  const warnings: string[] = [];
  let current = first;
  let failure: Error | undefined;
  for (let round = 0; round < MOST_ROUNDS; round++) {
    try {
      await recordOwned(host, union(current.machine.owned, current.owned));
    } catch (error) {
      if (round === 0) throw error instanceof AgentError ? nothingChanged(error) : error;
      failure = asError(error);
      break;
    }
    const outcome = await applySteps(host, current.steps);
    done.push(...outcome.done);
    let next: Survey;
    try {
      next = outcome.failed === undefined ? await settled(look, current.steps) : await look();
    } catch (error) {
      // What cannot be verified is taken back, too.
      failure = outcome.failed?.error ?? asError(error);
      break;
    } finally {
      await outcome.announced;
      warnings.push(...outcome.warnings);
    }
    const dead = scope === 'boot' ? [] : await deadAfter(current.steps, next, look);
    if (dead.length > 0) {
      failure = deadPortError(dead);
      break;
    }
    if (next.steps.length === 0) {
      await shrinkOwned(host, next.owned, warnings);
      if (outcome.failed !== undefined)
        warnings.push(`${outcome.failed.error.message} (the network is right all the same)`);
      return { result: 'changed', whole: first.whole, steps: done, warnings: [...warnings, ...next.warnings] };
    }
    failure = outcome.failed?.error ?? verifyError(next.steps);
    const goesOn =
      outcome.failed === undefined
        ? isOther(next.steps, current.steps) || (current.steps.some(preserves) && !next.steps.some(preserves))
        : tookAway(next.steps, current.steps);
    if (sameNics(current, next) && !goesOn) break;
    current = next;
  }
  return rollBack(host, renderer, first, { done, warnings, failure: failure ?? new Error('no failure') });
}

/** NetworkManager goes on working after nmcli has returned: on 1,000 new addresses half a second, on their removal three. */
const SETTLE_MS = 5000;
const LOOK_MS = 100;

/** Looks again until there is nothing left to do or, where NetworkManager is at work, it has made no headway for a while. */
async function settled<T extends { steps: Step[] }>(look: () => Promise<T>, steps: readonly Step[]): Promise<T> {
  let found = await look();
  if (!steps.some(isManagers)) return found;
  // What is left to others than NetworkManager does not come by waiting.
  for (let waited = 0; found.steps.some(isManagers) && waited < SETTLE_MS; waited += LOOK_MS) {
    await sleep(LOOK_MS);
    const before = found.steps.length;
    found = await look();
    if (found.steps.length < before) waited = 0;
  }
  return found;
}

/** Addresses that NetworkManager did not bring then it brings when it is asked again: they are on record now, and no news. */
const preserves = (step: Step): boolean => step.kind === 'apply-profile' && step.preserves === true;

const isManagers = (step: Step): boolean => /^(load|apply|forget)-profiles?$/.test(step.kind);

/** A NIC that was just brought up takes a moment to find its carrier. */
const CARRIER_MS = 3000;

/** Ports that these steps added and whose wire carries nothing: their network would be cut off, and was not before. */
async function deadAfter(steps: readonly Step[], found: Survey, look: () => Promise<Survey>): Promise<Port[]> {
  const added = steps.flatMap((step) => (step.kind === 'add-port' ? [step.port] : []));
  let dead = deadPorts(added, found.machine.links);
  for (let waited = 0; dead.length > 0 && waited < CARRIER_MS; waited += LOOK_MS) {
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

function verifyError(remaining: readonly Step[]): AgentError {
  const shown = remaining.slice(0, 5).map(describe).join('; ');
  const more = remaining.length > 5 ? ` and ${remaining.length - 5} more` : '';
  return new AgentError(
    `the network is not as it should be after the change; still to do: ${shown}${more}`,
    EXIT.failed,
  );
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

/** By the kernel's number too: a NIC that went and came back meanwhile has the same name, and nothing of what it had. */
const sameNics = (a: Survey, b: Survey): boolean => JSON.stringify(nicsOf(a)) === JSON.stringify(nicsOf(b));

const nicsOf = ({ binding, machine }: Survey) =>
  binding.bound.map(({ mac, device }) => [mac, device, machine.links.find((link) => link.device === device)?.index]);

async function rollBack(
  host: Host,
  renderer: Renderer,
  first: Survey,
  attempt: { done: Step[]; warnings: string[]; failure: Error },
): Promise<Convergence> {
  const { done, warnings, failure } = attempt;
  const back = await bringBack(host, renderer, checkpointOf(first, renderer), first.observation.managers);
  warnings.push(...back.warnings);
  const result = back.whole ? 'rolled-back' : 'failed';
  return { result, whole: first.whole, steps: done, warnings, error: failure };
}

/** Brings back what another run found, as far as its NICs are there still. */
export async function restore(host: Host, checkpoint: Checkpoint): Promise<Convergence> {
  const machine = await readMachine(
    host,
    checkpoint.state.bridges?.some(({ type }) => type === 'ovs'),
  );
  const there = await withoutGone(host, checkpoint, machine.links);
  // Without a place to write it down the network comes back all the same.
  const unrecorded = await recordOwned(host, union(machine.owned, checkpoint.owned)).catch(asError);
  const renderer = await chooseRenderer(host, checkpoint.renderer);
  const { whole, steps, warnings } = await bringBack(host, renderer, there, new Map());
  if (unrecorded !== undefined) warnings.push(unrecorded.message);
  if (whole) return { result: steps.length === 0 ? 'unchanged' : 'changed', whole, steps, warnings };
  const error = new AgentError('the network could not be brought back to what it was before', EXIT.failed);
  return { result: 'failed', whole, steps, warnings, error };
}

async function withoutGone(host: Host, checkpoint: Checkpoint, links: Machine['links']): Promise<Checkpoint> {
  const { bound } = checkpoint;
  // Of a version without bridges it names none.
  const state = { ...emptyState, ...checkpoint.state };
  const isLink = (device: string) => links.some((link) => link.device === device);
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

/** Gives the steps that were done, and whether all is as it was; what is not is in the warnings. */
async function bringBack(
  host: Host,
  renderer: Renderer,
  checkpoint: Checkpoint,
  managers: Observation['managers'],
): Promise<{ whole: boolean; steps: Step[]; warnings: string[] }> {
  const warnings: string[] = [];
  let done: Step[] = [];
  try {
    const look = lookBack(host, renderer, checkpoint, managers);
    const { steps } = await look();
    const outcome = await applySteps(host, settingsLast(steps));
    done = outcome.done;
    await outcome.announced;
    warnings.push(...outcome.warnings);
    const { steps: remaining } = outcome.failed === undefined ? await settled(look, steps) : await look();
    if (remaining.length === 0) {
      await shrinkOwned(host, checkpoint.owned, warnings);
      return { whole: true, steps: done, warnings };
    }
    if (outcome.failed !== undefined) warnings.push(`taking it back: ${outcome.failed.error.message}`);
    warnings.push(`not taken back: ${remaining.map(describe).join('; ')}; the next reload tries again`);
  } catch (error) {
    warnings.push(`taking it back: ${asError(error).message}; the next reload tries again`);
  }
  return { whole: false, steps: done, warnings };
}

/**
 * A foreign address that comes back beside one of ours in its subnet goes with it where promote_secondaries is already what it
 * was before (test/confirm).
 */
const settingsLast = (steps: readonly Step[]): Step[] => [
  ...steps.filter(({ kind }) => kind !== 'set-sysctl'),
  ...steps.filter(({ kind }) => kind === 'set-sysctl'),
];

const nothingChanged = (error: AgentError): AgentError =>
  new AgentError(`nothing was changed: ${error.message}`, error.status, { cause: error });

const asError = (error: unknown): Error => (error instanceof Error ? error : new Error(String(error)));

/** Plans the way back. Where NetworkManager does not answer any more, what is not its matter is taken back all the same. */
function lookBack(host: Host, renderer: Renderer, { bound, state }: Checkpoint, first: Observation['managers']) {
  let managers = first;
  let answers = true;
  return async (): Promise<{ steps: Step[] }> => {
    if (answers)
      managers = await readManagers(host).catch(() => {
        answers = false;
        return managers;
      });
    const machine = await readMachine(
      host,
      state.bridges.some(({ type }) => type === 'ovs'),
    );
    const observation = await observe(host, machine, bound, state, renderer);
    const asked = managers.size > 0 ? askManaged(host, Promise.resolve(managers)) : undefined;
    return { steps: planSteps(state, asked ? await observeManaged(host, machine, observation, asked) : observation) };
  };
}

function checkpointOf(first: Survey, renderer: Renderer): Checkpoint {
  const { binding, machine } = first;
  return { renderer: renderer.name, bound: binding.bound, state: stateBefore(first), owned: machine.owned };
}

/** What was there, foreign profiles that were put aside included. */
function stateBefore({ observation, binding }: Survey): NetworkState {
  const { state, claims, managers } = observation;
  const files = [...state.files, ...claims.map(({ path, content, mode }) => ({ path, content, mode }))];
  const profiles = binding.bound.flatMap(({ device, mac }): Profile[] => {
    if (!managers.has(device)) return [];
    const ours = profileUuid(mac);
    const uuid =
      managers.get(device)?.profile ?? (files.some(({ content }) => content.includes(ours)) ? ours : undefined);
    return uuid === undefined ? [] : [{ device, uuid }];
  });
  return { ...state, files, profiles };
}

/** Of a record that still names more than is ours the next run makes the best: no reason to call a good change a failure. */
async function shrinkOwned(host: Host, owned: Owned, warnings: string[]): Promise<void> {
  await recordOwned(host, owned).catch((error: unknown) => {
    if (!(error instanceof AgentError)) throw error;
    warnings.push(error.message);
  });
}

async function recordOwned(host: Host, owned: Owned): Promise<void> {
  await host.write(PATHS.owned, `${JSON.stringify(owned)}\n`, 0o600);
}
