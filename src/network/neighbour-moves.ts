// Neighbours that somebody entered on a NIC that becomes a port of a bridge, or is none any more: they go along with it, as its foreign
// routes do. The kernel drops those of IPv4 with the last address of a link, and on a port none is looked for. Pure.

import { type Foreign, foreignPlace } from './foreign.ts';
import { roomForIpv6 } from './ipv6.ts';
import { movedKey, type Observation } from './observation.ts';
import { addressOf, coursesOf, isIn, networksOf } from './route-moves.ts';
import { type Address, addressKey, bridgeKey, compare, type NetworkState } from './state.ts';
import type { MoveStep } from './step.ts';

/** `going`: addresses that are to be removed. Nothing moves where no neighbour was read. */
export function neighbourMoves(desired: NetworkState, observation: Observation, going: readonly Address[]): MoveStep[] {
  const { onBridges, state, emptied, moved } = observation;
  const hasRoom = roomForIpv6(observation.links, desired.links);
  const neighbours = onBridges.filter(
    ({ kind, family, device }) => kind === 'neighbour' && (family === 4 || hasRoom(device)),
  );
  if (neighbours.length === 0) return [];
  const gone = new Set(going.map(addressKey));
  const ipv4 = onBridges.filter(({ kind, family }) => kind === 'address' && family === 4).map(addressOf);
  const staying = ipv4.filter((address) => !gone.has(addressKey(address)));
  const places = new Set(neighbours.map(foreignPlace));
  const ending = compare(desired.bridges, state.bridges, bridgeKey).extra.filter((bridge) =>
    emptied.has(bridgeKey(bridge)),
  );
  return coursesOf(desired, observation).flatMap(({ from, to, isBack }) => {
    const ends = ending.some(({ name }) => name === from);
    const stay = ends ? [] : staying.filter(({ device }) => device === from);
    const [here, there] = [stay, desired.addresses.filter(({ device }) => device === to)].map(networksOf);
    return neighbours
      .filter(({ device }) => device === from)
      .flatMap((foreign): MoveStep[] => {
        const { family, words } = foreign;
        const host = words.replace(/^proxy /, '').split(' ', 1)[0] ?? '';
        const isTold = isIn(there ?? [], host);
        const isTheirs = isIn(here ?? [], host) || (isBack && !ends && !moved.has(movedKey(foreign)));
        if (!isTold && isTheirs) return [];
        const other: Foreign = { ...foreign, device: to, words: words.replace(` dev ${from}`, () => ` dev ${to}`) };
        const endsByItself = family === 4 && stay.length === 0;
        const isThere = places.has(foreignPlace(other));
        if (isThere && endsByItself) return [];
        return [{ kind: 'move-foreign', foreign, to, way: { from, there: other, isThere, endsByItself, isTold } }];
      });
  });
}
