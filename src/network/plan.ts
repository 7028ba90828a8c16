// desired, observed → the ordered steps between them. Pure; empty when the machine is in sync.

import { DEFAULTS_PATH } from '../dialects/defaults.ts';
import { byHop, bySomeOther, type Foreign, isByObject } from '../dialects/foreign.ts';
import { halfOf } from '../dialects/iptables.ts';
import { canGo } from '../dialects/nft.ts';
import { asManagerReads, profileUuid } from '../dialects/renderer.ts';
import { UNMANAGED_PATH, unmanagedFiles } from '../dialects/unmanaged.ts';
import { advertisedRoutes, isAdvertised } from './hearing.ts';
import { asLate, gateDevices, holdBack } from './hold.ts';
import { roomForIpv6 } from './ipv6.ts';
import { neighbourMoves } from './neighbour-moves.ts';
import { asksForAddress, nexthopMoves } from './nexthop-moves.ts';
import type { ObservedLink } from './nics.ts';
import { type Claim, movedKey, type Observation } from './observation.ts';
import { coursesOf, losesAll, routeMoves, routesBehind } from './route-moves.ts';
import {
  type Address,
  addressKey,
  type Bridge,
  bridgeKey,
  type Chain,
  chainKey,
  compare,
  type File,
  hostPart,
  isByProfile,
  isOurJump,
  isOurRoute,
  type Jump,
  jumpKey,
  type Link,
  metricOf,
  type NetworkState,
  type Port,
  portKey,
  ROUTE_PROTOCOL,
  type Route,
  routeKey,
  routeTargetKey,
  type Sysctl,
  sameList,
} from './state.ts';
import { canShrink, chainRemoval, type LateStep, type MoveStep, type Step } from './step.ts';

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
 * - Rules that guard what leaves, or give it a source, stay until it has gone: see hold.ts.
 */
export function planSteps(desired: NetworkState, seen: Observation): Step[] {
  const { released, observation } = release(desired, seen);
  const observed = observation.state;
  const addresses = compare(desired.addresses, observed.addresses, addressKey);
  const moves = planPorts(desired, observation);
  const { early, late } = splitRemovals(addresses.extra, desired, observation);
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
  const carriers = carriersOf([...removals, ...changes], desired, observation);
  const carried = (by: Carrier, steps: readonly Step[]) => steps.filter((step) => carriers.get(step) === by);
  const byManager = planManaged(desired, observation, files, carried('networkmanager', [...removals, ...changes]));
  const rules = [...planChains(desired.chains, observed.chains), ...planJumps(desired.jumps, observation.hooks)];
  const isMoving = moves.before.length + moves.ports.length > 0;
  const held = holdBack(rules, desired, observation, isMoving);
  const [now, afterwards] =
    byManager.length === 0 && !isMoving ? [held.now, []] : keepGuards(held.now, observed.chains);
  // One more call of iptables-restore comes anyhow.
  const [then, rest] = held.late.length === 0 ? [afterwards, []] : [[], [...afterwards.map(asLate), ...held.late]];
  const [heardThen, settings] = parted(planSysctls(settable(desired, observed), observed.sysctls), ({ key }) =>
    returns.some(({ device }) => key.startsWith(`net/ipv6/conf/${device}/`)),
  );
  // A subnet that comes where the uplink goes has no rule that gives it a source.
  const [opening, last] = held.isEnd
    ? [[], [...settings.filter(opensWay).map(asLate), ...rest]]
    : [settings.filter(opensWay), rest];
  const [filesNow, filesThen] =
    returns.length === 0 ? [files, []] : keepReturning(files, desired, observed, returns, waiting);

  return [
    ...settings.filter((step) => !opensWay(step)),
    ...filesNow,
    ...released,
    ...carried('ip', removals),
    ...now,
    ...observation.strays.map((stray): Step => ({ kind: 'remove-stray-rules', stray })),
    ...observation.unreadable
      .filter(canGo)
      .map((unreadable): Step => ({ kind: 'remove-unreadable-rules', unreadable })),
    ...opening,
    ...carried('ip', atOnce),
    ...byManager,
    ...carried('ip, afterwards', atOnce),
    ...returns.flatMap(({ device }) => heardBefore(device, observation)),
    ...returns,
    ...heardThen,
    ...waiting,
    ...planConfiguration(files, [...released, ...byManager, ...returns], observation),
    ...filesThen,
    ...then,
    ...observation.lost.filter(hasPlace(desired, observation)).map((foreign): Step => ({ kind: 'put-back', foreign })),
    ...planQuestions(moves.asks, [...heardThen, ...settings]),
    ...planAnnouncements(addresses.missing, desired, observation),
    ...last,
  ];
}

/**
 * A port and its bridge are nothing for NetworkManager: let alone, they keep all that is on them, and the rest is `ip`'s.
 * Before a bridge is made or gets its port NetworkManager is told so again: one that a killed run told of the NIC only would
 * take the new bridge for its own, and what is on it away (test/bridge/killed.ts).
 */
function release(desired: NetworkState, seen: Observation): { released: Step[]; observation: Observation } {
  const managers = new Map(seen.managers);
  const managed = desired.released.filter((device) => managers.delete(device));
  const isMoving =
    compare(desired.bridges, seen.state.bridges, bridgeKey).missing.length +
      compare(desired.ports, seen.state.ports, portKey).missing.length >
    0;
  const again = seen.managers.size > 0 && managed.length === 0 && isMoving;
  const released = again ? desired.ports.map(({ device }) => device) : managed;
  return {
    released: released.map((device): Step => ({ kind: 'release-device', device })),
    observation: managed.length === 0 ? seen : { ...seen, managers },
  };
}

type Return = Extract<Step, { kind: 'return-device' }>;

/** NICs that NetworkManager is to have again: it finds them set up, and takes nothing away. */
function planReturns(desired: NetworkState, { state, managers }: Observation, moved: readonly MoveStep[]): Return[] {
  if (managers.size === 0) return [];
  return compare(desired.released, state.released, String).extra.flatMap((device): Return[] => {
    const profile = desired.profiles.find((each) => each.device === device);
    if (profile === undefined || managers.has(device)) return [];
    const keep = moved.flatMap(({ to, way }) => (to === device && way !== undefined ? [way.there] : []));
    return [{ kind: 'return-device', device, uuid: profile.uuid, ...keeping(keep) }];
  });
}

/**
 * NetworkManager does not find our profile on a NIC that has IPv6, which that leaves alone: it makes one of its own, and goes by that. The
 * bridge that it comes from goes behind it.
 */
function waitsFor(returns: readonly Return[], changes: readonly Step[]): (step: Step) => boolean {
  const returned = new Set(returns.map(({ device }) => device));
  const isOfIpv6 = (step: Step) =>
    step.kind === 'move-foreign' &&
    step.foreign.family === 6 &&
    step.foreign.kind !== 'nexthop' &&
    returned.has(step.to);
  const waits = changes.some(isOfIpv6);
  return (step) => isOfIpv6(step) || (waits && step.kind === 'remove-bridge');
}

/** What the NIC heard before it was a port is there until it expires. */
const heardBefore = (device: string, { onBridges, hearing }: Observation): Step[] =>
  onBridges
    .filter((each) => each.device === device && hearing.has(device) && each.kind === 'address' && isAdvertised(each))
    .map((foreign): Step => ({ kind: 'remove-advertised', foreign, to: device }));

/**
 * What NetworkManager leaves alone has to be out of our file before it takes it back, and known until it has done so: by the
 * network alone the next run after one that was killed would not see that something is left to do.
 */
function keepReturning(
  files: readonly Step[],
  desired: NetworkState,
  observed: NetworkState,
  returns: readonly Return[],
  waiting: readonly Step[],
): [now: Step[], then: Step[]] {
  const bridges = waiting.flatMap((step) => (step.kind === 'move-foreign' ? [step.foreign.device] : []));
  const meanwhile = unmanagedFiles(
    [...new Set([...desired.released, ...bridges])],
    returns.map(({ device }) => device),
  ).filter((file) => !observed.files.some(({ path, content }) => path === file.path && content === file.content));
  return [
    [
      ...files.filter((step) => !isAboutUnmanaged(step)),
      ...meanwhile.map((file): Step => ({ kind: 'write-file', file, was: 'different' })),
    ],
    files.filter(isAboutUnmanaged),
  ];
}

/** What is made before addresses, what then decides which link is used, and what goes in the end. */
function planPorts(desired: NetworkState, observation: Observation) {
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
function hasPlace({ links: wanted }: NetworkState, { links }: Observation): (foreign: Foreign) => boolean {
  const hasRoom = roomForIpv6(links, wanted);
  return ({ family, device }) => family === 4 || hasRoom(device);
}

/** With an address of a link the kernel takes the routes of the table main that have it as their source, by whatever link. */
function goesWithSource({ words }: Foreign, going: readonly Address[]): boolean {
  const source = / table /.test(words) ? undefined : / src (\S+)/.exec(words)?.[1];
  return going.some(({ spec }) => hostPart(spec) === source);
}

/** Before the address comes that its gateway is known by. */
function onLink(step: MoveStep): MoveStep {
  const { to, way } = step;
  if (way === undefined || step.foreign.kind !== 'route') return step;
  return { ...step, way: { ...way, there: bySomeOther(way.there, to, to, () => true) } };
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

/** One that comes neither with an address nor with the link. */
const isGiven = ({ kind, protocol }: Foreign): boolean => kind === 'route' && protocol !== 'kernel';

/** Perhaps in a network that a router advertises, which nothing leads to yet where it is heard anew. */
const hasFarGateway = ({ kind, words }: Foreign): boolean => kind === 'route' && / via (?!fe80:)/.test(words);

const rankOf = ({ kind, words }: Foreign): number => (kind !== 'route' ? 0 : / via /.test(words) ? 2 : 1);

/** A bridge that is still to be made starts with the values of `default`. */
function settable(desired: NetworkState, observed: NetworkState): Sysctl[] {
  const coming = compare(desired.bridges, observed.bridges, bridgeKey).missing.map(({ name }) => `/conf/${name}/`);
  return desired.sysctls.filter(({ key }) => !coming.some((name) => key.includes(name)));
}

type NicStep = Extract<
  Step,
  { kind: 'add-address' | 'remove-address' | 'add-route' | 'remove-route' | 'add-subnet-route' }
>;

function isNicStep(step: Step): step is NicStep {
  return /^(add|remove)-(address|route)$|^add-subnet-route$/.test(step.kind);
}

const deviceOf = (step: NicStep): string => ('address' in step ? step.address.device : step.route.device);

type Carrier = 'ip' | 'networkmanager' | 'ip, afterwards';

function carriersOf(steps: readonly Step[], desired: NetworkState, observation: Observation): Map<Step, Carrier> {
  const { managers, state } = observation;
  const there = new Set(managers.size === 0 ? [] : state.routes.map(routeTargetKey));
  return new Map(steps.map((step) => [step, carrierOf(step, desired, observation, there)]));
}

/**
 * NetworkManager owns the addresses and routes of a NIC on which it is to have a profile of ours, or lets go of one.
 * Links are `ip`'s everywhere: a profile that no longer names an MTU leaves it, and reapplied on a link that is down it
 * leaves that too. So are routes with our protocol number, or of initscripts, which NetworkManager does not know; one of ours is
 * needed even beside its own where a foreign route goes before that.
 */
function carrierOf(step: Step, desired: NetworkState, observation: Observation, there: ReadonlySet<string>): Carrier {
  if (!isNicStep(step)) return 'ip';
  const device = deviceOf(step);
  const manager = observation.managers.get(device);
  if (manager === undefined) return 'ip';
  if (step.kind === 'remove-route' && step.route.protocol !== 'static') return 'ip';
  if (step.kind === 'add-route' && there.has(routeTargetKey(step.route))) return 'ip';
  const profile = desired.profiles.find((each) => each.device === device);
  // Taking a change back brings foreign addresses back, which are in no profile of ours, and need not be in one of theirs.
  const isOurs = profile?.uuid === ourProfile(device, observation);
  if (step.kind === 'add-address' && step.address.foreign && (isOurs || step.address.found !== undefined))
    return 'ip, afterwards';
  if (profile !== undefined) return 'networkmanager';
  if (!hasOurProfile(device, observation)) return 'ip';
  return step.kind === 'remove-address' || step.kind === 'remove-route' ? 'networkmanager' : 'ip, afterwards';
}

function hasOurProfile(device: string, observation: Observation): boolean {
  const profile = observation.managers.get(device)?.profile;
  return profile !== undefined && profile === ourProfile(device, observation);
}

function ourProfile(device: string, { links }: Observation): string | undefined {
  const link = links.find((each) => each.device === device);
  return link && profileUuid(link.permanentMac ?? link.mac);
}

/**
 * First NetworkManager reads all files that are new or gone, in one go: one profile may be in two of them (a NIC that was
 * renamed, a change of the format), and which one it takes else depends on their order. Then it brings one NIC after the
 * other in line, the one that gives an address up before the one that gets it. Foreign profiles are forgotten last: a NIC
 * whose active profile is forgotten loses its addresses.
 * Steps that it carries out are listed before it, one each, like those of `ip`.
 */
function planManaged(
  desired: NetworkState,
  observation: Observation,
  all: readonly Step[],
  changes: readonly Step[],
): Step[] {
  const { managers, claims, state } = observation;
  if (managers.size === 0) return [];
  const own = changes.filter(isNicStep);
  const added = new Set(own.flatMap((step) => (step.kind === 'add-address' ? [step.address.spec] : [])));
  const files = all.filter((step) => !isAboutUnmanaged(step) && pathOf(step) !== DEFAULTS_PATH);
  const written = new Map(files.flatMap((step) => (step.kind === 'write-file' ? [[step.file.path, step.file]] : [])));
  const sense = ({ content, mode }: File) => `${mode} ${asManagerReads(content)}`;
  const known = new Map(observation.state.files.map((file) => [file.path, sense(file)]));
  const news = [...written.values()].filter((file) => known.get(file.path) !== sense(file));
  const gone = files.flatMap((step) => (step.kind === 'remove-file' ? [step.path] : []));
  const aside = files.flatMap((step) => (step.kind === 'back-up-file' && !written.has(step.path) ? [step.path] : []));
  const applied = desired.profiles.flatMap(({ device, uuid }) => {
    const manager = managers.get(device);
    if (manager === undefined) return [];
    const steps = own.filter((step) => deviceOf(step) === device);
    const active = manager.active && manager.profile === uuid;
    const rewritten = news.some((file) => file.device === device);
    const foreign = manager.profile !== undefined && manager.profile !== uuid;
    if (steps.length === 0 && !rewritten && !foreign) return [];
    const gives = steps.some((step) => step.kind === 'remove-address' && added.has(step.address.spec));
    const preserves = active && steps.length > 0 && steps.every((step) => isNews(step, observation));
    // Without a profile, or by one that NetworkManager made up, `connection up` would take it all away first.
    const standing =
      !manager.active && (manager.external || state.addresses.some((address) => address.device === device));
    return [{ device, uuid, active, preserves, standing, steps, gives }];
  });
  const left = own.filter((step) => !applied.some(({ device }) => device === deviceOf(step)));
  // A copy of our profile in a foreign file, as `nmcli connection modify` or `migrate` makes it.
  const copies = aside.filter((path) =>
    applied.some(({ uuid }) => claims.some((claim) => claim.path === path && claim.content.includes(uuid))),
  );
  const read = [
    ...gone,
    ...copies,
    ...new Set([
      ...news.map(({ path }) => path),
      ...desired.files.flatMap(({ path, device }) => (applied.some((each) => each.device === device) ? [path] : [])),
    ]),
  ];
  const letGo = [...managers.keys()].filter(
    (device) => hasOurProfile(device, observation) && !desired.profiles.some((profile) => profile.device === device),
  );
  const foreignOn = (device: string) => foreignThings(device, desired, observation);
  const forgotten = aside.filter((path) => !copies.includes(path));
  const byManager = (step: NicStep): Step => ({ ...step, by: 'networkmanager' });
  // A run that was killed may have taken away the file of a profile that is active still: then all files are read anew.
  const paths = left.length === 0 ? read : [];
  return [
    ...(read.length + left.length === 0
      ? []
      : [{ kind: 'load-profiles', paths, ...keeping(letGo.flatMap(foreignOn)) } as const]),
    ...left.map(byManager),
    ...[...applied.filter(({ gives }) => gives), ...applied.filter(({ gives }) => !gives)].flatMap(
      ({ steps, device, uuid, active, preserves, standing }): Step[] => [
        ...steps.map(byManager),
        {
          kind: 'apply-profile',
          device,
          uuid,
          active,
          ...(preserves && { preserves }),
          ...(standing && { standing }),
          ...keeping(foreignOn(device)),
        },
      ],
    ),
    ...(forgotten.length === 0 ? [] : [{ kind: 'forget-profiles', paths: forgotten } as const]),
  ];
}

/**
 * Whether NetworkManager carries it out where it preserves what it did not bring: an address that we never put there, or one of
 * ours that goes. What others have taken away it believes to be there still.
 */
function isNews(step: NicStep, { owned }: Observation): boolean {
  if (step.kind === 'add-address') return !owned.has(addressKey(step.address));
  return step.kind === 'remove-address' && !step.foreign;
}

/** Not a profile. */
const isAboutUnmanaged = (step: Step): boolean => pathOf(step) === UNMANAGED_PATH;

const pathOf = (step: Step): string | undefined =>
  step.kind === 'write-file' ? step.file.path : 'path' in step ? step.path : undefined;

/**
 * What is activated from then on has the defaults of our file, and what is active already is not touched. Where a device is let alone
 * or had again, or a profile activated, it is read with that, at its time.
 */
function planConfiguration(files: readonly Step[], others: readonly Step[], { managers }: Observation): Step[] {
  const isRead = others.some((step) => (step.kind === 'apply-profile' ? !step.active : /-device$/.test(step.kind)));
  const isNew = files.some((step) => pathOf(step) === DEFAULTS_PATH);
  return managers.size > 0 && isNew && !isRead ? [{ kind: 'load-configuration' }] : [];
}

function parted<T>(items: readonly T[], isFirst: (item: T) => boolean): [T[], T[]] {
  const first = new Set(items.filter(isFirst));
  return [[...first], items.filter((item) => !first.has(item))];
}

const keeping = (keep: readonly Foreign[]) => (keep.length === 0 ? {} : { keep });

/**
 * What NetworkManager would take away from a NIC with its own. All of IPv6; of IPv4 what DESIGN lets stand on a NIC of ours
 * or on one that is none any more; routes that neither we nor a profile made. A route that leads where one of ours does is not
 * needed beside it.
 */
function foreignThings(device: string, desired: NetworkState, observation: Observation): Foreign[] {
  const { owned, kept, ownedRoutes, managers, onManaged } = observation;
  const isLeft = !desired.profiles.some((profile) => profile.device === device);
  const profile = managers.get(device)?.profile;
  const byForeignProfile = profile !== undefined && !hasOurProfile(device, observation);
  const wanted = new Set(desired.routes.filter(({ protocol }) => protocol === ROUTE_PROTOCOL).map(routeTargetKey));
  const canStay = hasPlace(desired, observation);
  return onManaged.filter((each) => {
    if (each.device !== device) return false;
    if (each.family === 6) return canStay(each);
    if (each.kind === 'address') {
      const [spec = ''] = each.words.split(' dev ', 1);
      const key = addressKey({ device, spec });
      return !each.global || kept.has(key) || (isLeft && !owned.has(key));
    }
    const { target = '', protocol = '' } = each;
    if (protocol === 'kernel' || protocol === ROUTE_PROTOCOL || wanted.has(target)) return false;
    if (ownedRoutes.has(target)) return false;
    return !(byForeignProfile && (protocol === 'static' || protocol === 'dhcp'));
  });
}

/**
 * NetworkManager adds and removes addresses in one go, so the rules that keep the router itself from answering on an EIP
 * have to be there before it and to go after it.
 */
function keepGuards(rules: readonly Step[], observed: readonly Chain[]): [now: Step[], afterwards: LateStep[]] {
  const now: Step[] = [];
  const afterwards: LateStep[] = [];
  // Of equal rules iptables removes the first: a jump that only changes its place must go before it comes.
  const moved = new Set(rules.flatMap((step) => (step.kind === 'add-jump' ? [jumpKey(step.jump)] : [])));
  for (const step of rules) {
    if (step.kind === 'edit-chain' && step.table === 'filter') {
      if (step.add.length > 0) now.push({ ...step, remove: [] });
      if (step.remove.length > 0) afterwards.push({ ...step, add: [] });
    } else if (step.kind === 'replace-chain' && step.chain.table === 'filter' && !step.chain.ordered) {
      const found = observed.find((chain) => chainKey(chain) === chainKey(step.chain))?.rules ?? [];
      now.push({ ...step, chain: { ...step.chain, rules: [...new Set([...step.chain.rules, ...found])] } });
      afterwards.push(step);
    } else if (step.kind === 'remove-chain' && step.table === 'filter') afterwards.push(step);
    else if (step.kind === 'remove-jump' && step.jump.table === 'filter' && !moved.has(jumpKey(step.jump)))
      afterwards.push(step);
    else now.push(step);
  }
  return [now, afterwards];
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

type SysctlStep = Extract<Step, { kind: 'set-sysctl' }>;

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

/**
 * Early: EIPs (while another address keeps the NIC's routes), what moves to another NIC, and, where nobody is to leave any more, all that
 * leads out: who comes meanwhile would leave by it. Where nobody could leave until now, a subnet that goes: nothing gives it a source, and
 * what came from it while the uplink was there already was seen to leave as it was. Late: the rest, and foreign ones.
 */
function splitRemovals(extra: readonly Address[], desired: NetworkState, { state, owned }: Observation) {
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
  const leadsOut = new Set(gateDevices(desired.chains).length > 0 ? [] : gateDevices(state.chains));
  const opens = gateDevices(desired.chains).length > 0 && gateDevices(state.chains).length === 0;
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
function planRoutes(desired: NetworkState, observation: Observation, leaving: readonly Address[]) {
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

function planChains(desired: readonly Chain[], observed: readonly Chain[]): Step[] {
  const chains = compare(desired, observed, chainKey);
  return [
    ...chains.missing.map((chain): Step => ({ kind: 'add-chain', chain })),
    ...chains.common.flatMap(({ desired: wanted, observed: found }) => changeChain(wanted, found.rules)),
    ...chains.extra.filter(canShrink).map(chainRemoval),
  ];
}

/** Where order means nothing, single rules change: the others keep their counters, and the restore stays small. */
function changeChain(chain: Chain, found: readonly string[]): Step[] {
  if (sameList(chain.rules, found)) return [];
  if (chain.ordered) return [{ kind: 'replace-chain', chain }];
  const surplus = new Map<string, number>();
  for (const rule of found) surplus.set(rule, (surplus.get(rule) ?? 0) + 1);
  const add: string[] = [];
  for (const rule of chain.rules) {
    const left = surplus.get(rule) ?? 0;
    if (left === 0) add.push(rule);
    else surplus.set(rule, left - 1);
  }
  const remove = [...surplus].flatMap(([rule, times]) => Array<string>(times).fill(rule));
  if (add.length + remove.length === 0) return [];
  if (add.length + remove.length > chain.rules.length) return [{ kind: 'replace-chain', chain }];
  return [{ kind: 'edit-chain', table: chain.table, name: chain.name, remove, add }];
}

function planJumps(desired: readonly Jump[], hooks: Observation['hooks']): Step[] {
  const wanted = new Map(desired.map((jump) => [jumpKey(jump), jump]));
  const remove: Extract<Step, { kind: 'remove-jump' }>[] = [];
  const settled = new Set<string>();
  // iptables removes the first of equal rules: where there are two, both go, and one comes where it belongs.
  for (const { table, hook, rules, handles = [] } of hooks) {
    const halves = new Set(handles.length === 0 ? [] : rules.map(halfOf));
    for (const [index, rule] of rules.entries()) {
      if (!isOurJump(rule)) continue;
      const found: Jump = { table, hook, rule, place: 'anywhere' };
      const key = jumpKey(found);
      const jump = wanted.get(key);
      const alone = rules.indexOf(rule) === rules.lastIndexOf(rule);
      if (jump !== undefined && alone && inPlace(jump, index, rules.length)) settled.add(key);
      else {
        const handle = halves.has(rule) ? handles[index] : undefined;
        remove.push({ kind: 'remove-jump', jump: found, ...(handle !== undefined && { handle }) });
      }
    }
  }
  return [
    ...remove.filter(({ handle }) => handle === undefined),
    ...[...wanted].filter(([key]) => !settled.has(key)).map(([, jump]): Step => ({ kind: 'add-jump', jump })),
    // Not by the same command: the other way round there would be none for a moment.
    ...remove.filter(({ handle }) => handle !== undefined),
  ];
}

function inPlace(jump: Jump, index: number, length: number): boolean {
  return jump.place === 'anywhere' || (jump.place === 'first' ? index === 0 : index === length - 1);
}

/**
 * Of addresses that come, and of those that are on a bridge which gets or loses a port, or has had one from somebody else: it may have
 * another MAC by that, or be somewhere else.
 */
function planAnnouncements(
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
