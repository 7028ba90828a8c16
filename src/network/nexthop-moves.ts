// Objects of next hops (`ip nexthop`) by a NIC that becomes a port of a bridge, or is none any more: they go along with it, and so do the
// routes by them and by groups of them, of which nothing else changes. Pure.

import { bySomeOther, type Foreign, hopsOf } from './foreign.ts';
import { advertisedRoutes } from './hearing.ts';
import { movedKey, type Observation } from './observation.ts';
import { addressOf, coursesOf, isIn, networksOf } from './route-moves.ts';
import { type Address, addressKey, bridgeKey, compare, type NetworkState } from './state.ts';
import type { MoveStep } from './step.ts';

export type NexthopMoves = {
  /** While the NIC is a port still: with its last port a Linux bridge has no carrier, and the kernel drops them. */
  before: MoveStep[];
  /** When it is one: before it has a carrier the kernel takes none. */
  after: MoveStep[];
  /** By an address of others, which stays, or in a network of IPv6 that nothing leads to in time. */
  staying: Foreign[];
};

/** `going`: addresses that are to be removed. */
export function nexthopMoves(desired: NetworkState, observation: Observation, going: readonly Address[]): NexthopMoves {
  const { onBridges, state, emptied, moved, hearing } = observation;
  const found: NexthopMoves = { before: [], after: [], staying: [] };
  const nexthops = onBridges.filter(({ kind }) => kind === 'nexthop');
  if (nexthops.length === 0) return found;
  const gone = new Set(going.map(addressKey));
  const there = onBridges.filter(({ kind, family }) => kind === 'address' && family === 4).map(addressOf);
  const staying = there.filter((address) => !gone.has(addressKey(address)));
  const ending = compare(desired.bridges, state.bridges, bridgeKey).extra.filter((bridge) =>
    emptied.has(bridgeKey(bridge)),
  );
  const networksOn = (device: string) =>
    networksOf([...desired.addresses, ...staying].filter((address) => address.device === device));
  for (const { port, from, to, isBack } of coursesOf(desired, observation)) {
    const ends = ending.some(({ name }) => name === from);
    const here = networksOf(ends ? [] : staying.filter(({ device }) => device === from));
    const isHeard =
      hearing.has(from) &&
      advertisedRoutes(onBridges.filter(({ device }) => device === from)).some(
        ({ words }) => !words.startsWith('default '),
      );
    const move = (foreign: Foreign, on: string, isTold: boolean): MoveStep => {
      const networks = networksOn(on);
      const other = bySomeOther(foreign, foreign.device, on, (via) => !isIn(networks, via));
      return {
        kind: 'move-foreign',
        foreign,
        to: on,
        way: { from: foreign.device, there: other, isThere: false, endsByItself: true, isTold },
      };
    };
    for (const foreign of nexthops.filter(({ device }) => device === from)) {
      const [{ via = '' } = {}] = hopsOf(foreign);
      const isTold = isIn(networksOn(to), via);
      const isTheirs = isIn(here, via) || (isBack && !ends && !moved.has(movedKey(foreign)));
      // The kernel asks for what leads there.
      const isUnknown = (isHeard || (isBack && (to !== port || observation.managers.size > 0))) && isGlobal6(via);
      if (!isTold && (isTheirs || isUnknown)) {
        found.staying.push(foreign);
        continue;
      }
      const first = isBack ? move(foreign, port, isTold) : undefined;
      if (first !== undefined) found.before.push(first);
      if (to !== port) found.after.push(move(first?.way?.there ?? foreign, to, isTold));
    }
  }
  return found;
}

/** What the kernel takes of them only behind the address that their gateways are known by. */
export const asksForAddress = ({ foreign: { words } }: MoveStep): boolean =>
  isGlobal6(/ via (\S+)/.exec(words)?.[1] ?? '');

const isGlobal6 = (via: string): boolean => via.includes(':') && !via.startsWith('fe80:');
