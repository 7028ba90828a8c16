// Foreign IPv4 routes of a NIC that becomes a port of a bridge, or is none any more: which go along with it, in every table, which stay
// with an address of others, and which end with their source. Pure.

import { contains, formatNetwork, hostPart, type Network, parseCidr, parseIpv4 } from '../base/ipv4.ts';
import { bySomeOther, type Foreign, foreignKey, hopsOf, isByObject } from './foreign.ts';
import { movedKey, type Observation } from './observation.ts';
import {
  type Address,
  addressKey,
  bridgeKey,
  compare,
  type NetworkState,
  portKey,
  ROUTE_PROTOCOL,
  routeTargetKey,
  type SubnetRoute,
} from './state.ts';
import type { MoveStep } from './step.ts';

/** `isBack`: from a bridge. */
type Course = { port: string; from: string; to: string; isBack: boolean };

export type RouteMoves = {
  /** In this order: a gateway may be known by a route before it. */
  steps: MoveStep[];
  /** Their source goes. */
  ending: Foreign[];
  /** By an address of others, which stays. */
  staying: Foreign[];
};

/** `going`: addresses that are to be removed. Nothing moves where no IPv4 route was read. */
export function routeMoves(desired: NetworkState, observation: Observation, going: readonly Address[]): RouteMoves {
  const found: RouteMoves = { steps: [], ending: [], staying: [] };
  const ipv4 = observation.onBridges.filter(({ family }) => family === 4);
  const routes = ipv4.filter(({ kind }) => kind === 'route');
  if (routes.length === 0) return found;
  const gone = new Set(going.map(addressKey));
  const left = ipv4.flatMap((each) => (each.kind === 'address' ? [addressOf(each)] : []));
  const staying = left.filter((address) => !gone.has(addressKey(address)));
  const lost = hostsOf(going);
  for (const host of hostsOf([...staying, ...desired.addresses])) lost.delete(host);
  const known = new Set(routes.map(foreignKey));
  const { hosts } = observation;
  const coming = hostsOf(desired.addresses);
  // Its address went, which in tables of others takes none along: the kernel does not take such a one anew.
  const isOrphan = (foreign: Foreign) => {
    const source = sourceOf(foreign);
    return source !== undefined && hosts !== undefined && !hosts.has(source) && !coming.has(source);
  };
  const wanted = new Set(desired.routes.map(routeTargetKey));
  const begun = new Map<Foreign, number>();
  for (const course of coursesOf(desired, observation)) {
    const choose = chooser(course, { lost, routes, staying, desired, observation });
    const own = routes
      .filter((each) => isBy(course.from, each) && !isByObject(each))
      .filter((each) => !isOurs(each, observation) && !ofTheKernel(each));
    const [onLink, byGateway] = [own.filter((each) => !hasGateway(each)), own.filter(hasGateway)];
    for (const foreign of [...onLink, ...byGateway]) {
      if (lost.has(sourceOf(foreign) ?? '') || isOrphan(foreign)) {
        found.ending.push(foreign);
        continue;
      }
      const way = choose(foreign);
      if (way === undefined) {
        found.staying.push(foreign);
        continue;
      }
      const at = begun.get(foreign);
      const other = at === undefined ? undefined : found.steps[at]?.way;
      const there = other === undefined ? way.there : withHops(foreign, way.there, other.there);
      const isThere = known.has(foreignKey(there)) || wanted.has(there.target ?? '');
      if (isThere && way.endsByItself) continue;
      const isTold = way.isTold && other?.isTold !== false;
      begun.set(foreign, at ?? found.steps.length);
      found.steps[at ?? found.steps.length] = {
        kind: 'move-foreign',
        foreign,
        to: course.to,
        way: { ...way, there, isThere, isTold },
      };
    }
  }
  return found;
}

/** A route by several NICs that move at once: each hop as its own move has it. */
function withHops(route: Foreign, one: Foreign, other: Foreign): Foreign {
  const [was, hops, others] = [route, one, other].map(({ words }) => words.split(' nexthop '));
  const words = hops?.map((hop, n) => (hop === was?.[n] ? (others?.[n] ?? hop) : hop)).join(' nexthop ') ?? one.words;
  return { ...one, device: hopsOf({ ...one, words })[0]?.device ?? one.device, words };
}

/** From where to where all goes: also where a run that was killed has taken the port out of its bridge already. */
export function coursesOf(desired: NetworkState, { state, formerPorts = [], links }: Observation): Course[] {
  const masters = new Map(links.map(({ device, master }) => [device, master]));
  const former = formerPorts.filter(({ device }) => masters.get(device) === undefined);
  const { extra } = compare(desired.ports, [...state.ports, ...former], portKey);
  return [
    ...extra.map(({ device, bridge }) => ({
      port: device,
      from: bridge,
      to: desired.ports.find((port) => port.device === device)?.bridge ?? device,
      isBack: true,
    })),
    ...desired.ports.map(({ device, bridge }) => ({ port: device, from: device, to: bridge, isBack: false })),
  ].filter(({ from, to }) => from !== to);
}

type KnownMoves = {
  lost: ReadonlySet<string>;
  routes: readonly Foreign[];
  staying: readonly Address[];
  desired: NetworkState;
  observation: Observation;
};

/** How a route goes from one device to the other; undefined: it stays. */
function chooser(
  { from, to, isBack }: Course,
  { lost, routes, staying, desired, observation }: KnownMoves,
): (foreign: Foreign) => Omit<MoveStep['way'] & object, 'isThere'> | undefined {
  const { state, emptied, moved } = observation;
  const ends = compare(desired.bridges, state.bridges, bridgeKey).extra.some(
    (bridge) => bridge.name === from && emptied.has(bridgeKey(bridge)),
  );
  const stay = ends ? [] : staying.filter(({ device }) => device === from);
  const come = [...desired.addresses, ...staying].filter(({ device }) => device === to);
  const [hostsThere, hostsHere] = [hostsOf(come), hostsOf(stay)];
  const [there, here] = [networksOf(come), networksOf(stay)];
  // On the link itself, for one gateway often.
  const beside = routes
    .filter((each) => (isBy(from, each) || isBy(to, each)) && !hasGateway(each) && !ofTheKernel(each))
    .filter((each) => !lost.has(sourceOf(each) ?? ''));
  const networksBeside = (table: string) =>
    beside.filter((each) => ['', table].includes(tableOf(each))).flatMap((each) => destOf(each) ?? []);
  const known = new Map<string, boolean>();
  // The kernel looks for a gateway in the table of the route first, and then wherever its rules lead.
  const isFar = (table: string) => (via: string) => {
    const key = `${table} ${via}`;
    const found = known.get(key) ?? !isIn([...there, ...networksBeside(table)], via);
    known.set(key, found);
    return found;
  };
  return (foreign) => {
    const source = sourceOf(foreign) ?? '';
    const gateways = hopsOf(foreign).flatMap(({ device, via }) => (device === from && via !== undefined ? [via] : []));
    if (hostsHere.has(source) && !hostsThere.has(source)) return undefined;
    const isTold = hostsThere.has(source) || gateways.some((via) => isIn(there, via));
    if (!isTold && gateways.some((via) => isIn(here, via))) return undefined;
    if (!isTold && isBack && stay.length > 0 && !moved.has(movedKey(foreign))) return undefined;
    return {
      from,
      there: bySomeOther(foreign, from, to, isFar(tableOf(foreign))),
      isTold,
      // The kernel takes them away with the last address of a device. A hop of another one stays.
      endsByItself: stay.length === 0 && hopsOf(foreign).every(({ device }) => device === from),
    };
  };
}

/**
 * To networks of ours on a NIC that is no port any more: behind an address of others that stayed there the kernel takes one of ours for
 * a second one of the same network, and makes no route, and that of theirs went with the move there.
 */
export function routesBehind(
  coming: readonly Address[],
  going: readonly Address[],
  desired: NetworkState,
  observation: Observation,
): SubnetRoute[] {
  const back = new Set(coursesOf(desired, observation).flatMap(({ to, isBack }) => (isBack ? [to] : [])));
  if (back.size === 0) return [];
  const gone = new Set(going.map(addressKey));
  const ipv4 = observation.onBridges.filter(({ family }) => family === 4);
  const staying = ipv4.flatMap((each) => (each.kind === 'address' ? [addressOf(each)] : []));
  const behind = new Set(staying.filter((address) => !gone.has(addressKey(address))).map(networkKey));
  const led = new Set(ipv4.filter((each) => each.kind === 'route' && tableOf(each) === '').map(destKey));
  return coming.flatMap((address) => {
    const { device, spec } = address;
    const [network] = spec.endsWith('/32') ? [] : networksOf([address]);
    const key = networkKey(address);
    if (network === undefined || !back.has(device) || !behind.has(key) || led.has(key)) return [];
    return [{ dest: formatNetwork(network), device, source: hostPart(spec) }];
  });
}

const networkKey = (address: Address): string =>
  networksOf([address])
    .map((network) => `${formatNetwork(network)} dev ${address.device}`)
    .join();

function destKey(route: Foreign): string {
  const network = hasGateway(route) ? undefined : destOf(route);
  return network === undefined ? '' : `${formatNetwork(network)} dev ${route.device}`;
}

/** Whether the last IPv4 address of the device is among these. */
export function losesAll(device: string, { onBridges }: Observation, going: readonly Address[]): boolean {
  const keys = new Set(going.map(addressKey));
  const there = onBridges.filter((each) => each.kind === 'address' && each.family === 4 && each.device === device);
  return there.length > 0 && there.every((each) => keys.has(addressKey(addressOf(each))));
}

export const addressOf = ({ device, words }: Foreign): Address => ({
  device,
  spec: words.split(' dev ', 1)[0] ?? words,
});

const hostsOf = (addresses: readonly Address[]): Set<string> => new Set(addresses.map(({ spec }) => hostPart(spec)));

/** Of one with a peer the peer's. */
export const networksOf = (addresses: readonly Address[]): Network[] =>
  addresses.flatMap(({ spec }) => parseCidr(spec.slice(spec.lastIndexOf(' ') + 1)) ?? []);

export function isIn(networks: readonly Network[], address: string): boolean {
  const number = parseIpv4(address);
  return number !== undefined && networks.some((network) => contains(network, number));
}

function destOf({ words }: Foreign): Network | undefined {
  const [, dest = ''] = /^(?:unicast )?(\S+)/.exec(words) ?? [];
  return parseCidr(dest.includes('/') ? dest : `${dest}/32`);
}

const isBy = (device: string, foreign: Foreign): boolean => hopsOf(foreign).some((hop) => hop.device === device);

const hasGateway = ({ words }: Foreign): boolean => / via /.test(words);

const tableOf = ({ words }: Foreign): string => / table (\S+)/.exec(words)?.[1] ?? '';

/** What it is wrapped into may have one as well. */
const sourceOf = ({ words }: Foreign): string | undefined =>
  / src (\S+)/.exec(words.replace(/ encap .*?(?= (?:via|dev) )/, ''))?.[1];

const isOurs = ({ protocol, target = '' }: Foreign, { ownedRoutes }: Observation): boolean =>
  protocol === ROUTE_PROTOCOL || ownedRoutes.has(target);

/** They come with addresses, and go with them. In other tables the kernel makes none for a NIC of ours. */
const ofTheKernel = ({ protocol, words }: Foreign): boolean =>
  protocol === 'kernel' && / src /.test(words) && !/ (via|table) /.test(words);
