// desired, observed → the ordered steps between them. Pure; empty when the machine is in sync.

import { flowCuts } from './flows.ts';
import type { Observation } from './observation.ts';
import {
  type Address,
  addressKey,
  type Chain,
  chainKey,
  compare,
  type File,
  isOurJump,
  type Jump,
  jumpKey,
  type Link,
  type NetworkState,
  ROUTE_PROTOCOL,
  type Route,
  routeKey,
  routeTargetKey,
  type Sysctl,
} from './state.ts';
import type { Step } from './step.ts';

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
 * - Flows are cut when no rule can make them again.
 */
export function planSteps(desired: NetworkState, observation: Observation): Step[] {
  const observed = observation.state;
  const addresses = compare(desired.addresses, observed.addresses, addressKey);
  const { early, late } = splitRemovals(addresses.extra, desired.addresses, observation);
  const routes = planRoutes(desired.routes, observation, early);
  const removeAddress = (address: Address): Step => ({
    kind: 'remove-address',
    address,
    foreign: !observation.owned.has(addressKey(address)),
  });
  const files = planFiles(desired.files, observation);
  const removals = [
    ...routes.early.map((route): Step => ({ kind: 'remove-route', route })),
    ...early.map(removeAddress),
  ];
  const changes = [
    ...planLinks(desired.links, observed.links),
    ...addresses.missing.map((address): Step => ({ kind: 'add-address', address })),
    ...routes.missing.map((route): Step => ({ kind: 'add-route', route })),
    ...routes.late.map((route): Step => ({ kind: 'remove-route', route })),
    ...late.map(removeAddress),
  ];
  const byManager = planManaged(desired, observation, files, [...removals, ...changes]);
  const byIp = (step: Step) => !isOnManaged(step, observation);
  const rules = [...planChains(desired.chains, observed.chains), ...planJumps(desired.jumps, observation.hooks)];
  const [now, afterwards] = byManager.length === 0 ? [rules, []] : keepGuards(rules);

  return [
    ...planSysctls(desired.sysctls, observed.sysctls),
    ...files,
    ...removals.filter(byIp),
    ...now,
    ...observation.strays.map((stray): Step => ({ kind: 'remove-stray-rules', stray })),
    ...changes.filter(byIp),
    ...byManager,
    ...afterwards,
    ...planAnnouncements(addresses.missing, observation),
    ...planCuts(desired, observation, addresses.extra),
  ];
}

/** The device whose link, address or route a step changes. */
function deviceOf(step: Step): string | undefined {
  switch (step.kind) {
    case 'set-link-up':
    case 'set-link-down':
    case 'set-mtu':
      return step.device;
    case 'add-address':
    case 'remove-address':
      return step.address.device;
    case 'add-route':
    case 'remove-route':
      return step.route.device;
    default:
      return undefined;
  }
}

/**
 * Where NetworkManager manages the NIC it owns the addresses and the routes that are in the profile. The MTU is set by `ip`
 * too (a profile that no longer names one leaves it), and routes with our protocol number it does not know.
 */
function isOnManaged(step: Step, { managers }: Observation): boolean {
  const device = deviceOf(step);
  if (device === undefined || !managers.has(device) || step.kind === 'set-mtu') return false;
  return !(step.kind === 'remove-route' && step.route.protocol === ROUTE_PROTOCOL);
}

/**
 * One profile at a time; the NIC that gives an address up before the one that gets it. Steps that it carries out are listed
 * before it, one each, like those of `ip`.
 */
function planManaged(
  desired: NetworkState,
  observation: Observation,
  files: readonly Step[],
  changes: readonly Step[],
): Step[] {
  const { managers } = observation;
  if (managers.size === 0) return [];
  const added = new Set(changes.flatMap((step) => (step.kind === 'add-address' ? [step.address.spec] : [])));
  const written = files.flatMap((step) => (step.kind === 'write-file' ? [step.file.device] : []));
  const applied = desired.profiles.flatMap(({ device, uuid }): { gives: boolean; steps: Step[] }[] => {
    const manager = managers.get(device);
    if (manager === undefined) return [];
    const own = changes.filter((step) => deviceOf(step) === device && isOnManaged(step, observation));
    const active = manager.active && manager.profile === uuid;
    if (own.length === 0 && active && !written.includes(device)) return [];
    const paths = desired.files.filter((file) => file.device === device).map(({ path }) => path);
    const gives = own.some((step) => step.kind === 'remove-address' && added.has(step.address.spec));
    const steps = own.map((step): Step => ({ ...step, by: 'networkmanager' }) as Step);
    return [{ gives, steps: [...steps, { kind: 'apply-profile', device, uuid, paths, active }] }];
  });
  const gone = files.flatMap((step) =>
    step.kind === 'remove-file' || step.kind === 'back-up-file' ? [step.path] : [],
  );
  const left = changes.filter((step) => {
    const device = deviceOf(step) ?? '';
    return isOnManaged(step, observation) && !desired.profiles.some((profile) => profile.device === device);
  });
  return [
    ...applied.filter(({ gives }) => gives).flatMap(({ steps }) => steps),
    ...applied.filter(({ gives }) => !gives).flatMap(({ steps }) => steps),
    ...left.map((step): Step => ({ ...step, by: 'networkmanager' }) as Step),
    ...(gone.length === 0 ? [] : [{ kind: 'forget-profiles', paths: gone } as const]),
  ];
}

/**
 * NetworkManager adds and removes addresses in one go, so the rules that keep the router itself from answering on an EIP
 * have to be there before it and to go after it.
 */
function keepGuards(rules: readonly Step[]): [Step[], Step[]] {
  const now: Step[] = [];
  const afterwards: Step[] = [];
  for (const step of rules) {
    if (step.kind === 'edit-chain' && step.table === 'filter' && step.add.length > 0) {
      now.push({ ...step, remove: [] });
      if (step.remove.length > 0) afterwards.push({ ...step, add: [] });
    } else if (isGuardRemoval(step)) afterwards.push(step);
    else now.push(step);
  }
  return [now, afterwards];
}

function isGuardRemoval(step: Step): boolean {
  switch (step.kind) {
    case 'edit-chain':
    case 'remove-chain':
      return step.table === 'filter';
    case 'remove-jump':
      return step.jump.table === 'filter';
    default:
      return false;
  }
}

function planSysctls(desired: readonly Sysctl[], observed: readonly Sysctl[]): Step[] {
  return compare(desired, observed, ({ key }) => key).common.flatMap(({ desired: wanted, observed: found }): Step[] =>
    wanted.value === found.value ? [] : [{ kind: 'set-sysctl', ...wanted, was: found.value }],
  );
}

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
  return [
    ...aside.map(({ path, to, reason }): Step => ({ kind: 'back-up-file', path, to, reason })),
    ...files.missing.map((file): Step => ({ kind: 'write-file', file, was: 'absent' })),
    ...changed.map(({ desired: file }): Step => ({ kind: 'write-file', file, was: 'different' })),
    ...files.extra.map(({ path }): Step => ({ kind: 'remove-file', path })),
  ];
}

/** Early: EIPs (while another address keeps the NIC's routes) and what moves to another NIC. Late: the rest, and foreign ones. */
function splitRemovals(extra: readonly Address[], desired: readonly Address[], { state, owned }: Observation) {
  const wanted = new Set(desired.map(({ spec }) => spec));
  const rooted = new Set(state.addresses.filter(({ spec }) => !isHostAddress(spec)).map(({ device }) => device));
  const isEip = (address: Address) => isHostAddress(address.spec) && owned.has(addressKey(address));
  const isEarly = (address: Address) => wanted.has(address.spec) || (isEip(address) && rooted.has(address.device));
  return { early: extra.filter(isEarly), late: extra.filter((address) => !isEarly(address)) };
}

const isHostAddress = (spec: string): boolean => spec.endsWith('/32');

/**
 * A route of ours is needed unless a foreign one to the same gateway is the best of the others: NetworkManager makes its
 * own from our profile, and leaves them when it stops. Removed are routes with our protocol number, and those that
 * NetworkManager made from a profile of ours, as recorded.
 */
function planRoutes(desired: readonly Route[], observation: Observation, leaving: readonly Address[]) {
  const observed = observation.state.routes;
  const best = new Map<string, Route>();
  for (const route of observed) {
    if (route.protocol === ROUTE_PROTOCOL) continue;
    const rival = best.get(route.dest);
    if (rival === undefined || route.metric < rival.metric) best.set(route.dest, route);
  }
  const needed = desired.filter((route) => {
    const there = best.get(route.dest);
    return there === undefined || routeTargetKey(there) !== routeTargetKey(route);
  });
  const { missing, extra } = compare(needed, observed, routeKey);
  const wanted = new Set(desired.map(routeTargetKey));
  const isOurs = (route: Route) =>
    route.protocol === ROUTE_PROTOCOL ||
    (route.protocol === 'static' &&
      observation.ownedRoutes.has(routeTargetKey(route)) &&
      !wanted.has(routeTargetKey(route)));
  const ours = extra.filter(isOurs);
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
    ...chains.extra.map(({ table, name }): Step => ({ kind: 'remove-chain', table, name })),
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

const sameList = (a: readonly string[], b: readonly string[]): boolean =>
  a.length === b.length && a.every((item, index) => item === b[index]);

function planJumps(desired: readonly Jump[], hooks: Observation['hooks']): Step[] {
  const wanted = new Map(desired.map((jump) => [jumpKey(jump), jump]));
  const remove: Jump[] = [];
  const settled = new Set<string>();
  // iptables removes the first of equal rules: where there are two, both go, and one comes where it belongs.
  for (const { table, hook, rules } of hooks) {
    for (const [index, rule] of rules.entries()) {
      if (!isOurJump(rule)) continue;
      const found: Jump = { table, hook, rule, place: 'anywhere' };
      const key = jumpKey(found);
      const jump = wanted.get(key);
      const alone = rules.indexOf(rule) === rules.lastIndexOf(rule);
      if (jump !== undefined && alone && inPlace(jump, index, rules.length)) settled.add(key);
      else remove.push(found);
    }
  }
  return [
    ...remove.map((jump): Step => ({ kind: 'remove-jump', jump })),
    ...[...wanted].filter(([key]) => !settled.has(key)).map(([, jump]): Step => ({ kind: 'add-jump', jump })),
  ];
}

function inPlace(jump: Jump, index: number, length: number): boolean {
  return jump.place === 'anywhere' || (jump.place === 'first' ? index === 0 : index === length - 1);
}

function planAnnouncements(added: readonly Address[], observation: Observation): Step[] {
  return observation.links.flatMap(({ device, mac }): Step[] => {
    const addresses = added.filter((address) => address.device === device).map(({ spec }) => hostPart(spec));
    return addresses.length === 0 ? [] : [{ kind: 'announce-addresses', device, mac, addresses }];
  });
}

function planCuts(desired: NetworkState, observation: Observation, removed: readonly Address[]): Step[] {
  const { state, owned } = observation;
  const kept = new Set(desired.addresses.map(({ spec }) => hostPart(spec)));
  const gone = removed
    .filter((address) => owned.has(addressKey(address)))
    .map(({ spec }) => hostPart(spec))
    .filter((address) => !kept.has(address));
  const present = new Set(state.addresses.map(({ spec }) => hostPart(spec)));
  return flowCuts(desired.chains, state.chains, gone, present).map((cut) => ({ kind: 'cut-flows', ...cut }));
}

const hostPart = (spec: string): string => spec.split(/[/ ]/, 1)[0] ?? spec;
