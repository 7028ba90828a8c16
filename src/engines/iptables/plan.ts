// Chains and jumps as they are to be, and as they are → the steps between, which never leave what stays without its rules. Pure.

import { halfOf } from '../../dialects/iptables.ts';
import { canGo } from '../../dialects/nft.ts';
import { isOurJump } from '../../dialects/our-rules.ts';
import type { Observation } from '../../network/observation.ts';
import { type Chain, chainKey, compare, type Jump, jumpKey, type NetworkState, sameList } from '../../network/state.ts';
import { asLate, canShrink, chainRemoval, type LateStep, type Step, type StepOf } from '../../network/step.ts';
import type { FilterPlan, How } from '../engine.ts';
import { holdBack } from './hold.ts';

export function planFilter(desired: NetworkState, observation: Observation, { isMoving, isAtOnce }: How): FilterPlan {
  const observed = observation.state;
  const rules = [...planChains(desired.chains, observed.chains), ...planJumps(desired.jumps, observation.hooks)];
  const held = holdBack(rules, desired, observation, isMoving);
  const [now, afterwards] = isAtOnce ? keepGuards(held.now, observed.chains) : [held.now, []];
  // One more call of iptables-restore comes anyhow.
  const [then, last] = held.late.length === 0 ? [afterwards, []] : [[], [...afterwards.map(asLate), ...held.late]];
  return {
    now: [
      ...now,
      ...observation.strays.map((stray): Step => ({ kind: 'remove-stray-rules', stray })),
      ...observation.unreadable
        .filter(canGo)
        .map((unreadable): Step => ({ kind: 'remove-unreadable-rules', unreadable })),
    ],
    then,
    last,
    isEnd: held.isEnd,
  };
}

/**
 * NetworkManager adds and removes addresses in one go, so the rules that keep the router itself from answering on an EIP
 * have to be there before it and to go after it.
 */
function keepGuards(rules: readonly Step[], observed: readonly Chain[]): [now: Step[], afterwards: LateStep[]] {
  const now: Step[] = [];
  const afterwards: LateStep[] = [];
  // Of equal rules iptables removes the first: a jump that only changes its place must go before it comes.
  const moved = new Set(rules.flatMap((step) => (step.kind === 'add-jump' ? [jumpKey(step.jump)] : [])));
  for (const step of rules) {
    if (step.kind === 'edit-chain' && step.table === 'filter') {
      if (step.add.length > 0) now.push({ ...step, remove: [] });
      if (step.remove.length > 0) afterwards.push({ ...step, add: [] });
    } else if (step.kind === 'replace-chain' && step.chain.table === 'filter' && !step.chain.ordered) {
      const found = observed.find((chain) => chainKey(chain) === chainKey(step.chain))?.rules ?? [];
      now.push({ ...step, chain: { ...step.chain, rules: [...new Set([...step.chain.rules, ...found])] } });
      afterwards.push(step);
    } else if (step.kind === 'remove-chain' && step.table === 'filter') afterwards.push(step);
    else if (step.kind === 'remove-jump' && step.jump.table === 'filter' && !moved.has(jumpKey(step.jump)))
      afterwards.push(step);
    else now.push(step);
  }
  return [now, afterwards];
}

export function planChains(desired: readonly Chain[], observed: readonly Chain[]): Step[] {
  const chains = compare(desired, observed, chainKey);
  return [
    ...chains.missing.map((chain): Step => ({ kind: 'add-chain', chain })),
    ...chains.common.flatMap(({ desired: wanted, observed: found }) => changeChain(wanted, found.rules)),
    ...chains.extra.filter(canShrink).map(chainRemoval),
  ];
}

/** Where order means nothing, single rules change: the others keep their counters, and the restore stays small. */
function changeChain(chain: Chain, found: readonly string[]): Step[] {
  if (sameList(chain.rules, found)) return [];
  if (chain.ordered) return [{ kind: 'replace-chain', chain }];
  const surplus = new Map<string, number>();
  for (const rule of found) surplus.set(rule, (surplus.get(rule) ?? 0) + 1);
  const add: string[] = [];
  for (const rule of chain.rules) {
    const left = surplus.get(rule) ?? 0;
    if (left === 0) add.push(rule);
    else surplus.set(rule, left - 1);
  }
  const remove = [...surplus].flatMap(([rule, times]) => Array<string>(times).fill(rule));
  if (add.length + remove.length === 0) return [];
  if (add.length + remove.length > chain.rules.length) return [{ kind: 'replace-chain', chain }];
  return [{ kind: 'edit-chain', table: chain.table, name: chain.name, remove, add }];
}

export function planJumps(desired: readonly Jump[], hooks: Observation['hooks']): Step[] {
  const wanted = new Map(desired.map((jump) => [jumpKey(jump), jump]));
  const remove: StepOf<'remove-jump'>[] = [];
  const settled = new Set<string>();
  // iptables removes the first of equal rules: where there are two, both go, and one comes where it belongs.
  for (const { table, hook, rules, handles = [] } of hooks) {
    const halves = new Set(handles.length === 0 ? [] : rules.map(halfOf));
    for (const [index, rule] of rules.entries()) {
      if (!isOurJump(rule)) continue;
      const found: Jump = { table, hook, rule, place: 'anywhere' };
      const key = jumpKey(found);
      const jump = wanted.get(key);
      const alone = rules.indexOf(rule) === rules.lastIndexOf(rule);
      if (jump !== undefined && alone && inPlace(jump, index, rules.length)) settled.add(key);
      else {
        const handle = halves.has(rule) ? handles[index] : undefined;
        remove.push({ kind: 'remove-jump', jump: found, ...(handle !== undefined && { handle }) });
      }
    }
  }
  return [
    ...remove.filter(({ handle }) => handle === undefined),
    ...[...wanted].filter(([key]) => !settled.has(key)).map(([, jump]): Step => ({ kind: 'add-jump', jump })),
    // Not by the same command: the other way round there would be none for a moment.
    ...remove.filter(({ handle }) => handle !== undefined),
  ];
}

function inPlace(jump: Jump, index: number, length: number): boolean {
  return jump.place === 'anywhere' || (jump.place === 'first' ? index === 0 : index === length - 1);
}
