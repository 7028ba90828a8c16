// Addresses that go, and routes as they are to be and as they are → what goes early and late, what comes, and what is announced. Pure.

import { hostPart } from '../base/ipv4.ts';
import type { Engine } from '../engines/engine.ts';
import { bySomeOther, type Foreign } from '../network/foreign.ts';
import type { ObservedLink } from '../network/nics.ts';
import type { Observation } from '../network/observation.ts';
import {
  type Address,
  addressKey,
  compare,
  isByProfile,
  isOurRoute,
  metricOf,
  type NetworkState,
  portKey,
  ROUTE_PROTOCOL,
  type Route,
  routeKey,
  routeTargetKey,
} from '../network/state.ts';
import type { MoveStep, Step } from '../network/step.ts';

/** With an address of a link the kernel takes the routes of the table main that have it as their source, by whatever link. */
export function goesWithSource({ words }: Foreign, going: readonly Address[]): boolean {
  const source = / table /.test(words) ? undefined : / src (\S+)/.exec(words)?.[1];
  return going.some(({ spec }) => hostPart(spec) === source);
}

/** Before the address comes that its gateway is known by. */
export function onLink(step: MoveStep): MoveStep {
  const { to, way } = step;
  if (way === undefined || step.foreign.kind !== 'route') return step;
  return { ...step, way: { ...way, there: bySomeOther(way.there, to, to, () => true) } };
}

/**
 * Early: EIPs (while another address keeps the NIC's routes), what moves to another NIC, and, where nobody is to leave any more, all that
 * leads out: who comes meanwhile would leave by it. Where nobody could leave until now, a subnet that goes: nothing gives it a source, and
 * what came from it while the uplink was there already was seen to leave as it was. Late: the rest, and foreign ones.
 */
export function splitRemovals(
  extra: readonly Address[],
  desired: NetworkState,
  { state, owned }: Observation,
  engine: Engine,
): { early: Address[]; late: Address[] } {
  // Mostly none goes, of thousands that stay.
  if (extra.length === 0) return { early: [], late: [] };
  const wanted = new Set(desired.addresses.map(({ spec }) => spec));
  const wantedOn = new Set(desired.addresses.map(addressKey));
  // Between a NIC and its bridge an address may be on both for a moment: they are one segment.
  const pairs = [...desired.ports, ...state.ports].flatMap(({ device, bridge }) => [
    [device, bridge],
    [bridge, device],
  ]);
  const moves = ({ device, spec }: Address) =>
    pairs.some(([from, to = '']) => from === device && wantedOn.has(addressKey({ device: to, spec })));
  const rooted = new Set(state.addresses.filter(({ spec }) => !isHostAddress(spec)).map(({ device }) => device));
  const isEip = (address: Address) => isHostAddress(address.spec) && owned.has(addressKey(address));
  // What stayed on a port did not work there; behind it, the NIC's own address would come back as a secondary, without its
  // network's route.
  const freed = new Set(
    state.ports
      .filter((port) => !desired.ports.some(({ device }) => device === port.device))
      .map(({ device }) => device),
  );
  const [wantedGates, gates] = [engine.gates(desired), engine.gates(state)];
  const leadsOut = new Set(wantedGates.length > 0 ? [] : gates);
  const opens = wantedGates.length > 0 && gates.length === 0;
  const used = new Set(desired.addresses.map(({ device }) => device));
  const isLeaving = (address: Address) => !used.has(address.device) && owned.has(addressKey(address));
  const isEarly = (address: Address) =>
    !moves(address) &&
    (wanted.has(address.spec) ||
      (opens && isLeaving(address)) ||
      (isEip(address) && rooted.has(address.device)) ||
      freed.has(address.device) ||
      (leadsOut.has(address.device) && owned.has(addressKey(address))));
  return { early: extra.filter(isEarly), late: extra.filter((address) => !isEarly(address)) };
}

const isHostAddress = (spec: string): boolean => spec.endsWith('/32');

/**
 * A route of ours is there as long as it is wanted, whatever else leads there. Where a profile of ours asks for it too, NetworkManager
 * or initscripts make the same one, and leave it when they stop: that does its work, as long as it is the best.
 */
export function planRoutes(desired: NetworkState, observation: Observation, leaving: readonly Address[]) {
  const { ownedRoutes, state } = observation;
  const destinations = new Set(desired.routes.map(({ dest }) => dest));
  const profiled = new Set(desired.profiles.map(({ device }) => device));
  // A routing daemon may have put fifty thousand there: most are nothing to us, and none is looked for among all.
  const observed = state.routes.filter((route) => destinations.has(route.dest) || isOurRoute(route, ownedRoutes));
  const best = new Map<string, Route>();
  const made = new Map<string, Route>();
  for (const route of observed) {
    if (route.protocol === ROUTE_PROTOCOL) continue;
    const rival = best.get(route.dest);
    if (rival === undefined || metricOf(route) < metricOf(rival)) best.set(route.dest, route);
    const key = routeTargetKey(route);
    if (isByProfile(route) && !made.has(key)) made.set(key, route);
  }
  const doneBy = (route: Route): Route | undefined => {
    const found = profiled.has(route.device) ? made.get(routeTargetKey(route)) : undefined;
    return route.metric === 0 && best.get(route.dest) !== found ? undefined : found;
  };
  const needed = desired.routes.filter((route) => doneBy(route) === undefined);
  const { missing, extra } = compare(needed, observed, routeKey);
  const wanted = new Set(desired.routes.map(routeTargetKey));
  const ours = extra.filter(
    (route) =>
      isOurRoute(route, ownedRoutes) && (route.protocol === ROUTE_PROTOCOL || !wanted.has(routeTargetKey(route))),
  );
  const bared = new Set(leaving.filter(({ spec }) => !isHostAddress(spec)).map(({ device }) => device));
  return {
    missing,
    early: ours.filter(({ device }) => bared.has(device)),
    late: ours.filter(({ device }) => !bared.has(device)),
  };
}

/**
 * Of addresses that come, and of those that are on a bridge which gets or loses a port, or has had one from somebody else: it may have
 * another MAC by that, or be somewhere else.
 */
export function planAnnouncements(
  added: readonly Address[],
  desired: NetworkState,
  { links, state, adopted }: Observation,
): Step[] {
  const coming = desired.bridges
    .filter(({ name }) => !links.some(({ device }) => device === name))
    .map(({ name, mac = '' }) => ({ device: name, mac }));
  const ports = compare(desired.ports, state.ports, portKey);
  const changed = new Set([...ports.missing, ...ports.extra].map(({ bridge }) => bridge));
  const isChanged = ({ device }: Address) => changed.has(device) || adopted.has(device);
  const told = new Set([...added, ...desired.addresses.filter(isChanged)]);
  return [...links, ...coming].flatMap((link): Step[] => {
    const { device } = link;
    const addresses = [...told].filter((address) => address.device === device).map(({ spec }) => hostPart(spec));
    if (addresses.length === 0) return [];
    const mac = changed.has(device) && links.includes(link as ObservedLink) ? undefined : link.mac;
    return [
      { kind: 'announce-addresses', device, addresses: [...new Set(addresses)], ...(mac !== undefined && { mac }) },
    ];
  });
}
