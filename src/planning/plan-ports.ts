// Bridges and ports as they are to be, and as they are → the steps between, and what of others goes along. Pure.

import { byHop, type Foreign, isByObject } from '../network/foreign.ts';
import { advertisedRoutes, isAdvertised } from '../network/hearing.ts';
import { roomForIpv6 } from '../network/ipv6.ts';
import { movedKey, type Observation } from '../network/observation.ts';
import { coursesOf } from '../network/route-moves.ts';
import { type Bridge, bridgeKey, compare, type NetworkState, type Port, portKey } from '../network/state.ts';
import type { Step } from '../network/step.ts';

/** What is made before addresses, what then decides which link is used, and what goes in the end. */
export function planPorts(desired: NetworkState, observation: Observation) {
  const { state, emptied, portRoutes, moved, hearing } = observation;
  const onBridges = observation.onBridges.flatMap(byHop);
  const bridges = compare(desired.bridges, state.bridges, bridgeKey);
  const ports = compare(desired.ports, state.ports, portKey);
  const canStay = hasPlace(desired, observation);
  const on = (device: string) => onBridges.filter((each) => each.device === device);
  const foreign = (device: string) =>
    on(device)
      .filter((each) => each.family === 6 && (each.global || isGiven(each)) && !isByObject(each))
      .filter((each) => !(hearing.has(device) && isAdvertised(each)))
      .filter(canStay);
  const withoutAdvertised = (from: string, to: string): Step[] =>
    hearing.has(from)
      ? advertisedRoutes(on(from)).map((each): Step => ({ kind: 'remove-advertised', foreign: each, to }))
      : [];
  const isFar = (each: Foreign) =>
    hasFarGateway(each) &&
    hearing.has(each.device) &&
    advertisedRoutes(on(each.device)).some(({ words }) => !words.startsWith('default '));
  const holderOf = ({ device }: Port) => desired.ports.find((port) => port.device === device)?.bridge ?? device;
  const goes = (bridge: Bridge) => emptied.has(bridgeKey(bridge));
  const move = (to: string, things: readonly Foreign[]): Step[] =>
    // A gateway is known by the network of an address, or by a route that is on the link itself.
    [0, 1, 2]
      .flatMap((wanted) => things.filter((each) => rankOf(each) === wanted))
      .map(
        (each): Step => ({
          kind: 'move-foreign',
          foreign: each,
          to,
          ...(each.kind === 'route' && on(to).some((other) => sameNextHop(each, other)) && { there: true }),
          ...(isFar(each) && { onlink: true }),
        }),
      );
  const courses = [
    ...coursesOf(desired, observation)
      .filter(({ isBack }) => isBack)
      .map(({ from, to }) => {
        const ends = bridges.extra.some((bridge) => bridge.name === from && goes(bridge));
        const things = foreign(from).filter((each) => moved.has(movedKey(each)) || (ends && each.kind === 'route'));
        return { from, to, things, ends };
      }),
    ...desired.ports.map(({ device, bridge }) => ({ from: device, to: bridge, things: foreign(device), ends: false })),
  ];
  return {
    before: bridges.missing.flatMap((bridge): Step[] => [
      { kind: 'add-bridge', bridge },
      // As long as it is down it hears none with other settings.
      ...desired.sysctls
        .filter(({ key }) => key.startsWith(`net/ipv6/conf/${bridge.name}/`))
        .map((sysctl): Step => ({ kind: 'set-sysctl', ...sysctl, was: '' })),
      { kind: 'set-link-up', device: bridge.name },
    ]),
    ports: [
      ...ports.extra.map((port): Step => ({ kind: 'remove-port', port })),
      ...ports.missing.map((port): Step => ({ kind: 'add-port', port })),
      ...courses.flatMap(({ to, things }) =>
        move(
          to,
          things.filter((each) => !isFar(each)),
        ),
      ),
    ],
    after: [
      ...courses.flatMap(({ from, to, things, ends }) =>
        ends && !things.some(isFar) ? [] : withoutAdvertised(from, to),
      ),
      // The kernel takes none by a gateway that something leads to elsewhere.
      ...courses.flatMap(({ to, things }) => move(to, things.filter(isFar))),
      ...portRoutes.map((route): Step => ({ kind: 'remove-port-route', ...route })),
      ...bridges.extra.filter(goes).map((bridge): Step => ({ kind: 'remove-bridge', bridge })),
    ],
    asks: [
      ...ports.missing.filter(({ device }) => hearing.has(device)).map(({ device, bridge }) => [bridge, device]),
      ...ports.extra
        .filter(({ device }) => hearing.has(device))
        .flatMap((port) => [
          ...(holderOf(port) === port.device ? [[port.device]] : []),
          ...(goes({ name: port.bridge, type: port.type }) ? [] : [[port.bridge]]),
        ]),
    ],
  };
}

/** With a smaller MTU it goes, and is on record by then. */
export function hasPlace({ links: wanted }: NetworkState, { links }: Observation): (foreign: Foreign) => boolean {
  const hasRoom = roomForIpv6(links, wanted);
  return ({ family, device }) => family === 4 || hasRoom(device);
}

/** One more of that the kernel does not take: "File exists". */
function sameNextHop(one: Foreign, other: Foreign): boolean {
  const of = ({ words }: Foreign) => {
    const [, dest] = /^(?:unicast )?(\S+)/.exec(words) ?? [];
    return [dest, ...['via', 'table', 'metric'].map((name) => new RegExp(` ${name} (\\S+)`).exec(words)?.[1])].join(
      ' ',
    );
  };
  return other.kind === 'route' && other.family === one.family && of(one) === of(other);
}

/** One that comes neither with an address nor with the link. */
const isGiven = ({ kind, protocol }: Foreign): boolean => kind === 'route' && protocol !== 'kernel';

/** Perhaps in a network that a router advertises, which nothing leads to yet where it is heard anew. */
const hasFarGateway = ({ kind, words }: Foreign): boolean => kind === 'route' && / via (?!fe80:)/.test(words);

const rankOf = ({ kind, words }: Foreign): number => (kind !== 'route' ? 0 : / via /.test(words) ? 2 : 1);
