// What a change and the way back have in common: rounds of steps until nothing is left to do, and what is left all the same.

import { AgentError } from '../base/errors.ts';
import { PATHS } from '../base/paths.ts';
import type { Host } from '../machine/host.ts';
import { recordOwned } from '../machine/observe.ts';
import type { Owned } from '../machine/recorded.ts';
import { foreignKey, foreignText } from '../network/foreign.ts';
import { describe } from '../network/kinds.ts';
import { isLate, type Step, type StepOf } from '../network/step.ts';
import type { Convergence } from './convergence.ts';

/**
 * What others did may call for other steps than those that were tried (NetworkManager stopped; a foreign route goes before its
 * own; an address is gone): then we go on from there, but not for ever. Two of them are for what waits (FilterPlan).
 */
export const MOST_ROUNDS = 7;
/** A NIC that comes or goes while we work changes what is desired. Many in a row have a round each: those count apart. */
export const MOST_ARRIVALS = 64;

/**
 * What waits is due when nothing else is left to do, but for what cannot be put back: then flows are cut first.
 */
export function dueOf(steps: readonly Step[]): readonly Step[] {
  const now = steps.filter((step) => !isLate(step));
  return now.every(({ kind }) => kind === 'put-back') ? steps : now;
}

/** Whether nothing is left of what was due, though it failed: others did it, or it was done all the same. */
export const isOnlyWhatWaited = (planned: readonly Step[], due: readonly Step[], left: readonly Step[]): boolean =>
  due.length < planned.length && isOther(left, due);

export const lostIn = (steps: readonly Step[]): StepOf<'put-back'>[] =>
  steps.filter((step) => step.kind === 'put-back');

export function withoutLost(
  done: readonly Step[],
  lost: readonly StepOf<'put-back'>[],
): Pick<Convergence, 'result' | 'steps'> {
  const failed = new Set(lost.map(({ foreign }) => foreignKey(foreign)));
  const steps = done.filter((step) => step.kind !== 'put-back' || !failed.has(foreignKey(step.foreign)));
  return { result: steps.length === 0 ? 'unchanged' : 'changed', steps };
}

export const cannotComeBack = ({ foreign }: StepOf<'put-back'>): string =>
  `${foreignText(foreign)} is not ours, went with a change, and cannot be put back as it was: add it by hand, or remove ` +
  `${PATHS.foreign} where nobody needs it; each run tries again`;

/** Whether none of these steps was among those that were tried. */
export function isOther(steps: readonly Step[], tried: readonly Step[]): boolean {
  const known = new Set(tried.map((step) => JSON.stringify(step)));
  return steps.every((step) => !known.has(JSON.stringify(step)));
}

export function shortList(steps: readonly Step[]): string {
  const more = steps.length > 5 ? ` and ${steps.length - 5} more` : '';
  return `${steps.slice(0, 5).map(describe).join('; ')}${more}`;
}

export const asError = (error: unknown): Error => (error instanceof Error ? error : new Error(String(error)));

/** Of a record that still names more than is ours the next run makes the best: no reason to call a good change a failure. */
export async function shrinkOwned(host: Host, owned: Owned, warnings: string[]): Promise<void> {
  await recordOwned(host, owned).catch((error: unknown) => {
    if (!(error instanceof AgentError)) throw error;
    warnings.push(error.message);
  });
}
