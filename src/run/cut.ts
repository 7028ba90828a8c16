// What was cut of the table of flows, and what is known of flows by the configuration that they were made by. Apart from the cutting
// (stale.ts), which is loaded where there are flows. Pure.

import { ipv4, type Network, withinAny } from '../base/ipv4.ts';
import type { Translation } from '../network/filter.ts';
import { type Former, outerAddresses } from '../network/flows.ts';
import type { StepOf } from '../network/step.ts';

export type Cut = {
  steps: StepOf<'cut-flows'>[];
  warnings: string[];
  /** All that had to go is gone. */
  clean: boolean;
  /** It is not, and the next run may go on: there was no time for more, or it did not work this time. */
  goesOn: boolean;
  tookMs: number;
};

export const NO_CUT: Cut = { steps: [], warnings: [], clean: true, goesOn: false, tookMs: 0 };

/** Of one run. What the last one leaves, and has to say, counts: the others were made by rules that were still held back. */
export function joined(cuts: readonly Cut[]): Cut {
  const { warnings, clean, goesOn } = cuts.at(-1) ?? NO_CUT;
  const counts = new Map<string, number>();
  for (const { of, count } of cuts.flatMap(({ steps }) => steps)) counts.set(of, (counts.get(of) ?? 0) + count);
  return {
    steps: [...counts].map(([of, count]) => ({ kind: 'cut-flows', of, count })),
    warnings,
    clean,
    goesOn,
    tookMs: spentOn(cuts),
  };
}

export const spentOn = (cuts: readonly Cut[]): number => cuts.reduce((sum, { tookMs }) => sum + tookMs, 0);

/** What a configuration has as its own: entries of it are known by that when it has gone. */
export function worldOf(model: Omit<Translation, 'ownSource'>): Former {
  const networks = [...model.inside, ...model.sources.map(({ network }) => network)];
  const isKnown = withinAny(networks);
  const alone = [...model.eips, ...model.forwards]
    .map(({ vmIp }) => ipv4(vmIp))
    .filter((address) => !isKnown(address))
    .map((base): Network => ({ base, prefix: 32 }));
  return united({ addresses: outerAddresses(model), networks: [...networks, ...alone] });
}

export function united(...worlds: readonly Former[]): Former {
  const networks = worlds.flatMap((world) => world.networks);
  return {
    addresses: [...new Set(worlds.flatMap(({ addresses }) => addresses))],
    networks: [...new Map(networks.map((each) => [`${each.base}/${each.prefix}`, each])).values()],
  };
}
