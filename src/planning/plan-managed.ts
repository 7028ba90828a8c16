// What NetworkManager carries out of a plan, and what it is asked for that: profiles read, applied and forgotten, devices left alone and had
// again. Pure.

import { DEFAULTS_PATH } from '../dialects/defaults.ts';
import { UNMANAGED_PATH, unmanagedFiles } from '../dialects/unmanaged.ts';
import type { Foreign } from '../network/foreign.ts';
import { isAdvertised } from '../network/hearing.ts';
import { linkOf, managerOf, type StepWith } from '../network/kinds.ts';
import type { Observation } from '../network/observation.ts';
import { asManagerReads, profileUuid } from '../network/renderer.ts';
import {
  addressKey,
  bridgeKey,
  compare,
  type File,
  type NetworkState,
  portKey,
  ROUTE_PROTOCOL,
  routeTargetKey,
} from '../network/state.ts';
import type { MoveStep, Step, StepOf } from '../network/step.ts';
import { hasPlace } from './plan-ports.ts';

/**
 * A port and its bridge are nothing for NetworkManager: let alone, they keep all that is on them, and the rest is `ip`'s.
 * Before a bridge is made or gets its port NetworkManager is told so again: one that a killed run told of the NIC only would
 * take the new bridge for its own, and what is on it away (test/bridge/killed.ts).
 */
export function release(desired: NetworkState, seen: Observation): { released: Step[]; observation: Observation } {
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

/** NICs that NetworkManager is to have again: it finds them set up, and takes nothing away. */
export function planReturns(
  desired: NetworkState,
  { state, managers }: Observation,
  moved: readonly MoveStep[],
): StepOf<'return-device'>[] {
  if (managers.size === 0) return [];
  return compare(desired.released, state.released, String).extra.flatMap((device): StepOf<'return-device'>[] => {
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
export function waitsFor(
  returns: readonly StepOf<'return-device'>[],
  changes: readonly Step[],
): (step: Step) => boolean {
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
export const heardBefore = (device: string, { onBridges, hearing }: Observation): Step[] =>
  onBridges
    .filter((each) => each.device === device && hearing.has(device) && each.kind === 'address' && isAdvertised(each))
    .map((foreign): Step => ({ kind: 'remove-advertised', foreign, to: device }));

/**
 * What NetworkManager leaves alone has to be out of our file before it takes it back, and known until it has done so: by the
 * network alone the next run after one that was killed would not see that something is left to do.
 */
export function keepReturning(
  files: readonly Step[],
  desired: NetworkState,
  observed: NetworkState,
  returns: readonly StepOf<'return-device'>[],
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

/** NetworkManager's, where it manages the link. */
type NicStep = StepWith<'manager', 'carries-out'>;

const isNicStep = (step: Step): step is NicStep => managerOf(step) === 'carries-out';

export type Doer = 'ip' | 'networkmanager' | 'ip, afterwards';

export function doersOf(steps: readonly Step[], desired: NetworkState, observation: Observation): Map<Step, Doer> {
  const { managers, state } = observation;
  const there = new Set(managers.size === 0 ? [] : state.routes.map(routeTargetKey));
  return new Map(steps.map((step) => [step, doerOf(step, desired, observation, there)]));
}

/**
 * NetworkManager owns the addresses and routes of a NIC on which it is to have a profile of ours, or lets go of one.
 * Links are `ip`'s everywhere: a profile that no longer names an MTU leaves it, and reapplied on a link that is down it
 * leaves that too. So are routes with our protocol number, or of initscripts, which NetworkManager does not know; one of ours is
 * needed even beside its own where a foreign route goes before that.
 */
function doerOf(step: Step, desired: NetworkState, observation: Observation, there: ReadonlySet<string>): Doer {
  const device = isNicStep(step) ? linkOf(step) : undefined;
  if (device === undefined || !observation.managers.has(device)) return 'ip';
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
export function planManaged(
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
    const steps = own.filter((step) => linkOf(step) === device);
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
  const left = own.filter((step) => !applied.some(({ device }) => device === linkOf(step)));
  // A copy of our profile in a foreign file, as `nmcli connection modify` or `migrate` makes it.
  const copies = aside.filter((path) =>
    applied.some(({ uuid }) => claims.some((claim) => claim.path === path && claim.content.includes(uuid))),
  );
  const read = [
    ...gone,
    ...copies,
    ...new Set([
      ...news.map(({ path }) => path),
      // A run that was killed may have written one that nobody has read. What a change found does not say whose its files are.
      ...desired.files.flatMap(({ path, device, content }) =>
        applied.some((each) => each.device === device || content.includes(each.uuid)) ? [path] : [],
      ),
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
export function planConfiguration(files: readonly Step[], others: readonly Step[], { managers }: Observation): Step[] {
  const isRead = others.some(
    (step) =>
      step.kind === 'release-device' ||
      step.kind === 'return-device' ||
      (step.kind === 'apply-profile' && !step.active),
  );
  const isNew = files.some((step) => pathOf(step) === DEFAULTS_PATH);
  return managers.size > 0 && isNew && !isRead ? [{ kind: 'load-configuration' }] : [];
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
