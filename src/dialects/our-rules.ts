// How rules of iptables that lead to chains of ours are told from those of others. Pure.

import type { Observation } from '../network/observation.ts';
import { CHAIN_PREFIX, type Jump } from '../network/state.ts';

/** Whether a rule of a built-in chain leads into a chain of ours. */
export const isOurJump = (rule: string): boolean => OUR_JUMP.test(rule) && !rule.startsWith(ONLY_NFT);

/** Begins a rule of which iptables-save does not print all that it asks (dialects/nft.ts). Behind it stands the rule's handle. */
export const ONLY_NFT = '-m nft --handle ';

/** The target of such a rule where a map gives the verdict. */
export const NFT_VERDICT = 'NFT';

/** At the end, where iptables-save prints it: a foreign rule may speak of our chains in its comment. */
const OUR_JUMP = new RegExp(`(^| )-j ${CHAIN_PREFIX}[^ "]*$`);

/** The chain of ours that a rule of another chain leads to, by a jump or by a goto. */
export const leadsTo = (rule: string): string | undefined => OUR_TARGET.exec(rule)?.[1];

const OUR_TARGET = new RegExp(`(?:^| )-[jg] (${CHAIN_PREFIX}[^ "]*)$`);

export function jumpsIn(hooks: Observation['hooks']): Jump[] {
  return hooks.flatMap(({ table, hook, rules }) =>
    rules.flatMap((rule, index): Jump[] => {
      if (!isOurJump(rule)) return [];
      const place = index === 0 ? 'first' : index === rules.length - 1 ? 'last' : 'anywhere';
      return [{ table, hook, rule, place }];
    }),
  );
}
