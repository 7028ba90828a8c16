// Survey → a machine that is as desired, or as it was: apply, verify, and take back what could not be verified.

import { setTimeout as sleep } from 'node:timers/promises';
import type { Config } from './config/config.ts';
import { profileUuid, type Renderer } from './dialects/renderer.ts';
import { AgentError, EXIT } from './errors.ts';
import { applySteps } from './machine/apply.ts';
import type { Host } from './machine/host.ts';
import { readManagers } from './machine/networkmanager.ts';
import { type Owned, observe, readMachine } from './machine/observe.ts';
import { PATHS } from './machine/paths.ts';
import { planSteps } from './network/plan.ts';
import type { NetworkState, Profile } from './network/state.ts';
import { describe, type Step } from './network/step.ts';
import { type Scope, type Survey, survey, union } from './survey.ts';

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

/**
 * A NIC that comes or goes while we work changes what is desired, and what NetworkManager did may call for other steps than
 * those that were tried (it stopped; a foreign route goes before its own): then we go on from there, but not for ever.
 */
const MOST_ROUNDS = 5;

/**
 * INVARIANTS
 * - What was observed before the first change is kept until the verification: it is the desired state of a rollback.
 * - The record of our addresses names everything that may be ours at any instant: it grows before the first change and
 *   shrinks after the last. A run that is killed leaves no address that the next one does not know.
 */
export async function converge(host: Host, config: Config, renderer: Renderer, scope: Scope): Promise<Convergence> {
  const look = () => survey(host, config, renderer, scope);
  const first = await look();
  if (first.steps.length === 0) {
    await recordOwned(host, first.owned);
    return { result: 'unchanged', whole: first.whole, steps: [], warnings: first.warnings };
  }
  const done: Step[] = [];
  const warnings: string[] = [];
  let current = first;
  let failure: Error | undefined;
  for (let round = 0; round < MOST_ROUNDS; round++) {
    await recordOwned(host, union(current.machine.owned, current.owned));
    const outcome = await applySteps(host, current.steps);
    done.push(...outcome.done);
    warnings.push(...outcome.warnings);
    let next: Survey;
    try {
      next = outcome.failed === undefined ? await settled(look, current.steps) : await look();
    } catch (error) {
      // What cannot be verified is taken back, too.
      failure = outcome.failed?.error ?? asError(error);
      break;
    }
    if (next.steps.length === 0) {
      await recordOwned(host, next.owned);
      if (outcome.failed !== undefined)
        warnings.push(`${outcome.failed.error.message} (the network is right all the same)`);
      return { result: 'changed', whole: first.whole, steps: done, warnings: [...warnings, ...next.warnings] };
    }
    failure = outcome.failed?.error ?? verifyError(next.steps);
    if (sameNics(current, next) && (outcome.failed !== undefined || !isOther(next.steps, current.steps))) break;
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
  if (!steps.some(({ kind }) => /^(load|apply|forget)-profiles?$/.test(kind))) return found;
  for (let waited = 0; found.steps.length > 0 && waited < SETTLE_MS; waited += LOOK_MS) {
    await sleep(LOOK_MS);
    const before = found.steps.length;
    found = await look();
    if (found.steps.length < before) waited = 0;
  }
  return found;
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

const sameNics = (a: Survey, b: Survey): boolean =>
  JSON.stringify(a.binding.bound.map(({ mac, device }) => [mac, device])) ===
  JSON.stringify(b.binding.bound.map(({ mac, device }) => [mac, device]));

async function rollBack(
  host: Host,
  renderer: Renderer,
  first: Survey,
  attempt: { done: Step[]; warnings: string[]; failure: Error },
): Promise<Convergence> {
  const { done, warnings, failure } = attempt;
  const before = stateBefore(first);
  try {
    const look = lookBack(host, renderer, first, before);
    const { steps } = await look();
    const outcome = await applySteps(host, steps);
    warnings.push(...outcome.warnings);
    const { steps: remaining } = outcome.failed === undefined ? await settled(look, steps) : await look();
    if (remaining.length === 0) {
      await recordOwned(host, first.machine.owned);
      return { result: 'rolled-back', whole: first.whole, steps: done, warnings, error: failure };
    }
    if (outcome.failed !== undefined) warnings.push(`taking it back: ${outcome.failed.error.message}`);
    warnings.push(`not taken back: ${remaining.map(describe).join('; ')}; the next reload tries again`);
  } catch (error) {
    warnings.push(`taking it back: ${asError(error).message}; the next reload tries again`);
  }
  return { result: 'failed', whole: first.whole, steps: done, warnings, error: failure };
}

const asError = (error: unknown): Error => (error instanceof Error ? error : new Error(String(error)));

/** Plans the way back. Where NetworkManager does not answer any more, what is not its matter is taken back all the same. */
function lookBack(host: Host, renderer: Renderer, first: Survey, before: NetworkState) {
  let { managers } = first.observation;
  let answers = true;
  return async (): Promise<{ steps: Step[] }> => {
    if (answers)
      managers = await readManagers(host).catch(() => {
        answers = false;
        return managers;
      });
    const machine = await readMachine(host);
    return { steps: planSteps(before, await observe(host, machine, first.binding.bound, before, renderer, managers)) };
  };
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

async function recordOwned(host: Host, owned: Owned): Promise<void> {
  await host.write(PATHS.owned, `${JSON.stringify(owned)}\n`, 0o600);
}
