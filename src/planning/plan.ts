// desired, observed → the ordered steps between them. Pure; empty when the machine is in sync.

import type { Engine } from '../engines/engine.ts';
import { neighbourMoves } from '../network/neighbour-moves.ts';
import { asksForAddress, nexthopMoves } from '../network/nexthop-moves.ts';
import type { Claim, Observation } from '../network/observation.ts';
import { losesAll, routeMoves, routesBehind } from '../network/route-moves.ts';
import {
  type Address,
  addressKey,
  bridgeKey,
  compare,
  type File,
  type Link,
  type NetworkState,
  type Sysctl,
} from '../network/state.ts';
import { asLate, type Step, type StepOf } from '../network/step.ts';
import { goesWithSource, onLink, planAnnouncements, planRoutes, splitRemovals } from './plan-addresses.ts';
import {
  type Doer,
  doersOf,
  heardBefore,
  keepReturning,
  planConfiguration,
  planManaged,
  planReturns,
  release,
  waitsFor,
} from './plan-managed.ts';
import { hasPlace, planPorts } from './plan-ports.ts';

/**
 * The order never cuts what stays:
 * - An EIP that goes loses its address before its rules: the other way round the router itself would answer on it for a
 *   moment. Packets of its flows are translated before they are routed, so nothing depends on the address.
 * - Rules come before new addresses, for the same reason.
 * - On each NIC additions come before removals: a NIC that loses its last address loses every route through it, and the
 *   operator his SSH session. Within one subnet that needs promote_secondaries, hence sysctls first: without it the kernel
 *   removes, with the first address of a subnet, every later one.
 * - An address that moves to another NIC goes first and comes then. It may be the last one of its NIC, and take the routes
 *   through it along, which could not be removed any more: those that have to go go before it.
 * - Nothing is forwarded before the rules are there: a flow that began without one would be without it for good. What stops
 *   forwarding goes before they go.
 * - A NIC that becomes a port of a bridge: the bridge and its addresses first, then the port, then the routes, and then only
 *   do the addresses leave the NIC; the way back likewise. Of a Linux bridge all of that is one `ip -batch`.
 * - Rules that guard what leaves, or give it a source, stay until it has gone: the engine says which.
 */
export function planSteps(desired: NetworkState, seen: Observation, engine: Engine): Step[] {
  const { released, observation } = release(desired, seen);
  const observed = observation.state;
  const addresses = compare(desired.addresses, observed.addresses, addressKey);
  const moves = planPorts(desired, observation);
  const { early, late } = splitRemovals(addresses.extra, desired, observation, engine);
  const routes = planRoutes(desired, observation, early);
  const nexthops = nexthopMoves(desired, observation, addresses.extra);
  const asking = new Set(nexthops.before.filter(asksForAddress).map(({ foreign }) => foreign.device));
  const [addressesAhead, ports] = parted(
    moves.ports,
    (step) => step.kind === 'move-foreign' && step.foreign.kind === 'address' && asking.has(step.foreign.device),
  );
  const moved = [
    ...neighbourMoves(desired, observation, addresses.extra),
    ...routeMoves(desired, observation, addresses.extra).steps,
  ];
  // They would go with the last address, and be lost with a run that is killed then.
  const [hasty, inTurn] = parted(moved, ({ to, way }) => {
    const isThere = observation.links.some(({ device }) => device === to);
    return isThere && way !== undefined && !goesWithSource(way.there, early) && losesAll(way.from, observation, early);
  });
  const removeAddress = (address: Address): Step => ({
    kind: 'remove-address',
    address,
    foreign: !observation.owned.has(addressKey(address)),
  });
  const files = planFiles(desired.files, observation);
  const removals = [
    ...hasty.map((step) => (addresses.missing.some(({ device }) => device === step.to) ? onLink(step) : step)),
    ...routes.early.map((route): Step => ({ kind: 'remove-route', route })),
    ...early.map(removeAddress),
  ];
  const links = planLinks(desired.links, observed.links);
  const changes = [
    ...moves.before,
    ...links.filter(({ kind }) => kind !== 'set-link-down'),
    ...addresses.missing.map((address): Step => ({ kind: 'add-address', address })),
    ...addressesAhead,
    ...nexthops.before,
    ...ports,
    ...nexthops.after,
    ...[
      ...observation.cutOff.filter(({ device }) => desired.links.some((link) => link.device === device)),
      ...routesBehind(addresses.missing, addresses.extra, desired, observation),
    ].map((route): Step => ({ kind: 'add-subnet-route', route })),
    ...routes.missing.map((route): Step => ({ kind: 'add-route', route })),
    ...routes.late.map((route): Step => ({ kind: 'remove-route', route })),
    ...inTurn,
    ...late.map(removeAddress),
    ...moves.after,
    // It takes routes along, which then cannot be removed.
    ...links.filter(({ kind }) => kind === 'set-link-down'),
  ];
  const returns = planReturns(desired, observation, moved);
  const [waiting, atOnce] = parted(changes, waitsFor(returns, changes));
  const doers = doersOf([...removals, ...changes], desired, observation);
  const doneBy = (doer: Doer, steps: readonly Step[]) => steps.filter((step) => doers.get(step) === doer);
  const byManager = planManaged(desired, observation, files, doneBy('networkmanager', [...removals, ...changes]));
  const isMoving = moves.before.length + moves.ports.length > 0;
  const filter = engine.plan(desired, observation, { isMoving, isAtOnce: byManager.length > 0 || isMoving });
  const [heardThen, settings] = parted(planSysctls(settable(desired, observed), observed.sysctls), ({ key }) =>
    returns.some(({ device }) => key.startsWith(`net/ipv6/conf/${device}/`)),
  );
  // A subnet that comes where the uplink goes has no rule that gives it a source.
  const [opening, last] = filter.isEnd
    ? [[], [...settings.filter(opensWay).map(asLate), ...filter.last]]
    : [settings.filter(opensWay), filter.last];
  const [filesNow, filesThen] =
    returns.length === 0 ? [files, []] : keepReturning(files, desired, observed, returns, waiting);

  return [
    ...settings.filter((step) => !opensWay(step)),
    ...filesNow,
    ...released,
    ...doneBy('ip', removals),
    ...filter.now,
    ...opening,
    ...doneBy('ip', atOnce),
    ...byManager,
    ...doneBy('ip, afterwards', atOnce),
    ...returns.flatMap(({ device }) => heardBefore(device, observation)),
    ...returns,
    ...heardThen,
    ...waiting,
    ...planConfiguration(files, [...released, ...byManager, ...returns], observation),
    ...filesThen,
    ...filter.then,
    ...observation.lost.filter(hasPlace(desired, observation)).map((foreign): Step => ({ kind: 'put-back', foreign })),
    ...planQuestions(moves.asks, [...heardThen, ...settings]),
    ...planAnnouncements(addresses.missing, desired, observation),
    ...last,
  ];
}

/** Who begins to hear on a link that is up asks, rather than wait for the next advertisement. */
function planQuestions(asks: readonly string[][], settings: readonly SysctlStep[]): Step[] {
  const known = new Map(asks.map(([device = '', like]) => [device, like]));
  for (const { key, value } of settings) {
    const [, device] = /^net\/ipv6\/conf\/(.+)\/accept_ra$/.exec(key) ?? [];
    if (device !== undefined && value !== '0' && !known.has(device)) known.set(device, undefined);
  }
  return [...known].map(
    ([device, like]): Step => ({ kind: 'ask-routers', device, ...(like !== undefined && { like }) }),
  );
}

/** A bridge that is still to be made starts with the values of `default`. */
function settable(desired: NetworkState, observed: NetworkState): Sysctl[] {
  const coming = compare(desired.bridges, observed.bridges, bridgeKey).missing.map(({ name }) => `/conf/${name}/`);
  return desired.sysctls.filter(({ key }) => !coming.some((name) => key.includes(name)));
}

function parted<T>(items: readonly T[], isFirst: (item: T) => boolean): [T[], T[]] {
  const first = new Set(items.filter(isFirst));
  return [[...first], items.filter((item) => !first.has(item))];
}

/** What the kernel does not have has no value: conntrack's settings are there from its first rule on. */
function planSysctls(desired: readonly Sysctl[], observed: readonly Sysctl[]): SysctlStep[] {
  return compare(desired, observed, ({ key }) => key).common.flatMap(
    ({ desired: wanted, observed: found }): SysctlStep[] =>
      wanted.value === found.value || wanted.value === '' ? [] : [{ kind: 'set-sysctl', ...wanted, was: found.value }],
  );
}

/** What makes the kernel forward, and what it has only when rules have brought conntrack. */
const opensWay = ({ key, value }: SysctlStep): boolean =>
  key.startsWith('net/netfilter/') || (/\/(ip_forward|forwarding)$/.test(key) && value !== '0');

type SysctlStep = StepOf<'set-sysctl'>;

function planFiles(desired: readonly File[], observation: Observation): Step[] {
  // Foreign profiles that are wanted as they are: a rollback has put them back.
  const back = observation.claims.filter(({ path, content, mode }) =>
    desired.some((file) => file.path === path && file.content === content && file.mode === mode),
  );
  const aside = observation.claims.filter((claim) => !back.includes(claim));
  const files = compare(desired, [...observation.state.files, ...back], ({ path }) => path);
  const changed = files.common.filter(
    ({ desired: wanted, observed: found }) => wanted.content !== found.content || wanted.mode !== found.mode,
  );
  // Ours say what theirs said beside addresses: a run that is killed in between leaves the one or the other.
  const ours = new Set(files.missing.map(({ path }) => path));
  const backUp = ({ path, to, reason }: Claim): Step => ({
    kind: 'back-up-file',
    path,
    to,
    reason,
    ...(ours.has(path) && { replaced: true }),
  });
  return [
    ...aside.filter(({ path }) => ours.has(path)).map(backUp),
    ...files.missing.map((file): Step => ({ kind: 'write-file', file, was: 'absent' })),
    ...changed.map(({ desired: file }): Step => ({ kind: 'write-file', file, was: 'different' })),
    ...aside.filter(({ path }) => !ours.has(path)).map(backUp),
    ...files.extra.map(({ path }): Step => ({ kind: 'remove-file', path })),
  ];
}

function planLinks(desired: readonly Link[], observed: readonly Link[]): Step[] {
  return compare(desired, observed, ({ device }) => device).common.flatMap(({ desired: wanted, observed: found }) => {
    const { device } = wanted;
    const steps: Step[] = [];
    if (wanted.mtu !== undefined && wanted.mtu !== found.mtu)
      steps.push({ kind: 'set-mtu', device, mtu: wanted.mtu, was: found.mtu ?? 0 });
    if (wanted.up !== undefined && wanted.up !== found.up)
      steps.push({ kind: wanted.up ? 'set-link-up' : 'set-link-down', device });
    return steps;
  });
}
