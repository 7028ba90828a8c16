// What makes a packet filter of what is wanted in types (network/filter.ts), and types of what is found. Everybody else goes by the
// types: what stands in an engine's parts is its own matter.

import type { Filter, FilterFound, Mappings } from '../network/filter.ts';
import type { ForeignNat, NatRules } from '../network/flows.ts';
import type { FilterStep } from '../network/kinds.ts';
import type { Observation } from '../network/observation.ts';
import type { FilterParts, NetworkState, TableName } from '../network/state.ts';
import type { LateStep, Step } from '../network/step.ts';

/** What this machine's packet filter can tell apart. */
export type Abilities = {
  /** Whether one rule can map a range of ports to another range, port by port. */
  shiftedRanges: boolean;
  /** Packets with an IPsec policy. */
  policy: boolean;
  /** Bridged frames, and that there are any: br_netfilter is at work. */
  bridged: boolean;
  exemptions: Exemptions;
};

/** What somebody else keeps from being translated, in the engine's words. `all`: nothing else is. */
export type Exemptions = { exempt: string[]; all: boolean };

/**
 * An ability that is asked of the machine, where no part of ours shows it. `nonsense`: a rule that who takes `rule` for what it says
 * refuses.
 */
export type Trial = {
  isShown: (parts: Pick<FilterParts, 'chains'>) => boolean;
  table: TableName;
  rule: string;
  nonsense?: string;
};

/** What a run needs of an engine. */
export type Engine = {
  name: 'iptables';
  /** Throws AgentError (65) where this machine cannot do what is wanted. */
  build(filter: Filter, abilities: Abilities): FilterParts;
  trials: { readonly [Ability in 'shiftedRanges' | 'policy' | 'bridged']: Trial };
  exemptions(hooks: Observation['hooks'], printedRules: string): Exemptions;
  /** The steps between what is wanted and what is there, which may both be what a machine had once. */
  plan(desired: NetworkState, observation: Observation, how: How): FilterPlan;
  /** The links that somebody leaves by. */
  gates(parts: Pick<FilterParts, 'chains'>): string[];
};

export type How = {
  /** The uplink's addresses go from a NIC to its bridge, or back. */
  isMoving: boolean;
  /** Addresses come and go in one go. */
  isAtOnce: boolean;
};

/** `now`: before addresses come; `then`: when they have gone; `last`: when all else is done, and flows are cut. */
export type FilterPlan = {
  now: Step[];
  then: Step[];
  last: LateStep[];
  /** Nobody is to leave any more. */
  isEnd: boolean;
};

/** For `status`. */
export type Reader = {
  /** What is wanted, as it is found. `counted`: what `counting` printed. */
  read(filter: Filter, parts: { wanted: FilterParts; found: FilterParts; counted?: string }, paths: Paths): FilterFound;
  /** The command that prints how often rules were used. */
  counting: readonly [command: string, ...args: string[]];
};

/** Where packets go by themselves. `deviceTo`: undefined: nothing leads there now. */
export type Paths = { deviceTo: (address: number) => string | undefined };

/** For an operator: what is said by the parts that these steps touch, before and after them. */
export type Words = (steps: readonly FilterStep[], found: Pick<FilterParts, 'chains'>) => Changes;

/** `rest`: how many parts of which kind have no words of their own; `2 chains`. */
export type Changes = { was: Mappings; is: Mappings; rest: (isSaid: boolean) => readonly string[] };

/** For flows. */
export type NatReader = (rules: NatRules, isLocal: (address: number) => boolean) => ForeignNat;
