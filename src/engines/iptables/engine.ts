// The packet filter by iptables, of both backends: chains of our own, and jumps to them.

import { parseNatRules } from '../../dialects/iptables.ts';
import type { FilterParts } from '../../network/state.ts';
import type { Engine, Trial } from '../engine.ts';
import { exemptions } from './foreign-nat.ts';
import { gateDevices } from './hold.ts';
import { planFilter } from './plan.ts';
import { filterRules } from './rules.ts';

const trial = (table: Trial['table'], rule: string, pattern: RegExp): Trial => ({
  table,
  rule,
  isShown: ({ chains }: Pick<FilterParts, 'chains'>) =>
    chains.some(({ rules }) => rules.some((each) => pattern.test(each))),
});

const RANGE = '-p tcp -m tcp --dport 1:2 -j DNAT --to-destination 192.0.2.1:3-4';

export const iptables: Engine = {
  name: 'iptables',
  build: filterRules,
  trials: {
    // Linux 4.18 and iptables 1.8. 1.4.21 reads a number as far as it goes and drops the rest in silence.
    shiftedRanges: { ...trial('nat', `${RANGE}/1`, /--to-destination \S+\/\d+$/), nonsense: `${RANGE}/x` },
    policy: trial('mangle', '-m policy --dir out --pol ipsec -j RETURN', /-m policy /),
    bridged: trial('mangle', '-m physdev --physdev-is-bridged -j RETURN', /-m physdev /),
  },
  exemptions: (hooks, printedRules) => {
    const postrouting = hooks.find(({ table, hook }) => table === 'nat' && hook === 'POSTROUTING')?.rules ?? [];
    return exemptions(postrouting, () => parseNatRules(printedRules));
  },
  plan: planFilter,
  gates: ({ chains }) => gateDevices(chains),
};
