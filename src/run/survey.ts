// Host, Config → what the configuration wants of this machine, what is there, and the steps between. Changes nothing.
// `plan`, `status` and `reload` all stand on this, so that what `plan` shows is what `reload` does.

import { AgentError, CommandError, EXIT, UsageError } from '../base/errors.ts';
import { hostPart, type Network, parseCidr } from '../base/ipv4.ts';
import { PATHS } from '../base/paths.ts';
import { visible } from '../base/visible.ts';
import { type Config, uplinkOf } from '../config/config.ts';
import { WIDEST } from '../config/inside.ts';
import { parseForward } from '../dialects/chains.ts';
import { defaultsFile } from '../dialects/defaults.ts';
import { ifcfgRenderer } from '../dialects/ifcfg.ts';
import { parseWays } from '../dialects/iproute.ts';
import { parseNatRules } from '../dialects/iptables.ts';
import { keyfileRenderer } from '../dialects/keyfile.ts';
import { heldByMaps } from '../dialects/nft.ts';
import { MANAGER_FOLDER, UNMANAGED_PATH, unmanagedFiles } from '../dialects/unmanaged.ts';
import type { Engine } from '../engines/engine.ts';
import { engine } from '../engines/in-use.ts';
import { hearingOf } from '../machine/hearing.ts';
import type { Host } from '../machine/host.ts';
import { keptKeys } from '../machine/kept-keys.ts';
import { askManaged, canAsk } from '../machine/networkmanager.ts';
import {
  type Machine,
  observe,
  observeManaged,
  readMachine,
  readOwned,
  type Seen,
  withWholeJumps,
} from '../machine/observe.ts';
import { leftAlone, type Owned, type RecordedPlace, stillThere, withoutPending } from '../machine/recorded.ts';
import { addressWarnings, rivalWarnings } from '../machine/rivals.ts';
import { speaksOfIpv6 } from '../machine/sysctl-d.ts';
import { refuseTaken } from '../machine/taken-names.ts';
import {
  bindBridges,
  bridgeIds,
  bridgesOf,
  isSilent,
  isUnseenPort,
  portsOf,
  type WaitingNic,
  worksWarnings,
} from '../network/bridges.ts';
import { elasticAddresses } from '../network/elastic.ts';
import { isShiftedRange, type Translation } from '../network/filter.ts';
import { type FlowModel, type Former, waysOf } from '../network/flows.ts';
import { waitingForIpv6 } from '../network/ipv6.ts';
import { allowedOn } from '../network/kept.ts';
import { holds, managerOf } from '../network/kinds.ts';
import {
  type BoundNic,
  bindNics,
  ipLinkOf,
  isSayable,
  type LinkBefore,
  type NicBinding,
  usedNics,
} from '../network/nics.ts';
import { movedKey, type Observation, type ObservedAddress } from '../network/observation.ts';
import { forwardObstacles } from '../network/obstacles.ts';
import type { ProfileKeys } from '../network/profile-keys.ts';
import { noRenderer, type Renderer } from '../network/renderer.ts';
import {
  type Address,
  addressKey,
  type Bridge,
  type BridgeType,
  bridgeKey,
  chainKey,
  compare,
  type NetworkState,
  type Port,
  portKey,
  ROUTE_PROTOCOL,
  type Sysctl,
  type TableName,
} from '../network/state.ts';
import type { Step } from '../network/step.ts';
import { translationOf, type Ways } from '../network/translation.ts';
import { desiredAddresses, desiredState, onIpLink, type Surroundings } from '../planning/desired.ts';
import { planSteps } from '../planning/plan.ts';
import { ourRoutes } from '../planning/return.ts';

export type Survey = {
  machine: Machine;
  binding: NicBinding;
  /** NICs whose bridge has to wait for Open vSwitch. */
  waiting: WaitingNic[];
  /** False: NICs are left to what brings them up at boot. */
  whole: boolean;
  /** Addresses that initscripts are about to bring up. */
  left: Address[];
  /** What of it is ours once it is there. */
  owned: Owned;
  desired: NetworkState;
  observation: Observation;
  /** Empty: in sync. */
  steps: Step[];
  /** What works against the configuration, or is not there yet. */
  warnings: string[];
  /** Of what is somebody else's and goes by these steps. */
  going: string[];
  /** What profiles of ours keep beside addresses, by device. */
  keys: ReadonlyMap<string, ProfileKeys>;
  /** What of ours nobody can take away. */
  stuck: string[];
};

/**
 * `boot`: before the network is up. Where something else brings NICs up from files (NetworkManager, initscripts), links,
 * addresses and routes are left to it, and it is not asked anything.
 */
export type Scope = 'boot' | 'whole';

export const scopeOf = (command: string): Scope => (command === 'start' ? 'boot' : 'whole');

/** What a survey holds the machine against. */
export type Aim = {
  config: Config;
  renderer: Renderer;
  scope: Scope;
  ways: Ways;
  /** Files stay as they are. */
  leavesFiles?: true;
};

export async function survey(
  host: Host,
  { config, renderer, scope, ways, leavesFiles }: Aim,
  /** Nothing has been changed yet: addresses that are not as on our record are news, and may be NetworkManager's to bring. */
  isFirst = false,
  /** See readMachine. */
  seen?: Seen,
): Promise<Survey> {
  const record = readOwned(host);
  const asksNow = isFirst && scope === 'whole' && (await canAsk(host)) && hasNews(config, await record);
  // It answers while the rest is read and planned.
  let asked = asksNow ? askManaged(host) : undefined;
  const read = await readMachine(
    host,
    config.nics.some(({ bridge }) => bridge?.type === 'ovs'),
    record,
    seen,
  );
  const { binding, waiting } = bindBridges(bindNics(config.nics, read.links, linksBefore(read)), read, read.ownedPorts);
  const odd = binding.broken.flatMap((each) => (each.odd ? [each.nic] : []));
  const machine = withoutPending(read, [...binding.pending, ...odd]);
  const surroundings = await surroundingsOf(host, config, { machine, binding, ways });
  const pendingPorts = read.ownedPorts.filter((port) => !machine.ownedPorts.includes(port));
  const kept = keptKeys(machine.files, binding.bound, renderer);
  const wantedNow = desiredOf(config, binding, renderer, { surroundings, ways, keys: kept.keys });
  const heard = await hearingOf(host, machine, binding);
  const described = withSysctls(withStaying(withMtus(wantedNow, binding, machine.owned), pendingPorts), heard.sysctls);
  const endsIpv6 = scope === 'boot' && config.nics.length > 0 && (await mayEndIpv6(host, machine));
  const unheld = await withDropIns(host, endsIpv6 ? withoutIpv6(described) : described, {
    config,
    renderer,
    links: machine.links,
  });
  const held = new Set(binding.held.map(({ nic }) => nic.device));
  const seenNow = await observe(host, machine, usedNics(binding), unheld, renderer);
  let observation = withoutHeld({ ...seenNow, adopted: adoptedBridges(machine, unheld) }, held);
  const allHeld = holdNics(unheld, observation, held);
  const wanted = leavesFiles ? { ...allHeld, files: observation.state.files } : allHeld;
  const leaveNics = scope === 'boot' && (await bringsUpNics(host, renderer));
  const desired = leaveNics ? withoutNics(wanted, observation.state) : wanted;
  const left =
    leaveNics && (await hasInitscripts(host, renderer))
      ? compare(wanted.addresses, desired.addresses, addressKey).missing
      : [];
  refuseUnreadable(machine, desired);
  let steps = planSteps(desired, observation, engine);
  // A run that changes nothing calls no nmcli.
  if (!leaveNics && steps.some((step) => managerOf(step) !== 'nothing') && (await canAsk(host)))
    asked ??= askManaged(host);
  if (asked !== undefined) {
    observation = withoutHeld(await observeManaged(host, machine, observation, asked), held);
    if (observation.managers.size > 0) steps = planSteps(desired, observation, engine);
  }
  if (steps.some(({ kind }) => kind === 'remove-jump')) {
    observation = await withWholeJumps(host, observation);
    steps = planSteps(desired, observation, engine);
  }
  if (steps.some(({ kind }) => kind === 'remove-chain')) {
    const held = await chainsHeldByMaps(host);
    if (held.size > 0) {
      observation = withHolders(observation, held);
      steps = planSteps(desired, observation, engine);
    }
  }
  await refuseTaken(host, steps);
  const { staying, going } = await addressWarnings(host, machine.addresses, {
    left: leftTo(machine, observation, binding),
    removed: steps.flatMap((step) => (step.kind === 'remove-address' && step.foreign ? [step.address] : [])),
    leased: leasedAmong(machine, desired, observation),
  });
  const behind = steps.some((step) => holds(step, 'parts'))
    ? await (await import('./left-behind.ts')).leftBehind(host, desired, observation, steps)
    : [];
  const warnings = [
    ...nicWarnings(binding),
    ...profileWarnings(binding, renderer),
    ...passedOverWarnings(machine),
    ...waiting.map(({ reason }) => reason),
    ...silentWarnings(machine, binding, waiting),
    ...portWarnings(machine, binding, wanted),
    ...bridgeWarnings(wanted, observation),
    ...worksWarnings(binding.bound, machine),
    ...forwardObstacles(
      binding.bound,
      [parseForward(machine.printedRules)],
      (await host.info(PATHS.firewalldPolicy)) !== undefined,
    ),
    ...heldWarnings(desired, observation),
    ...unseenWarnings(observation),
    ...(await initscriptsWarnings(host, renderer, wanted)),
    ...(await rivalWarnings(host, binding.bound, machine.links)),
    ...(await stillManaged(host, unheld, machine)),
    ...waitingForIpv6(machine.lost, machine.links),
    ...staying,
  ];
  const ours = { ...ownedBy(unheld, binding, machine, steps), heard: heard.heard };
  const owned = leaveNics ? union(machine.owned, ours) : ours;
  return {
    machine,
    binding,
    waiting,
    owned,
    whole: !leaveNics,
    left,
    desired,
    observation,
    steps,
    warnings,
    going: [...going, ...kept.left, ...behind],
    keys: kept.keys,
    stuck: stuckOn(machine, config),
  };
}

/** Bridges that have the NIC already, though not by us: who knows by which MAC their neighbours know them. */
function adoptedBridges({ ownedPorts, links, ovs }: Machine, { ports }: NetworkState): Set<string> {
  if (ports.length === 0) return new Set();
  const there = new Set(portsOf({ links, ovs }).map(portKey));
  const ours = new Set(ownedPorts.map(portKey));
  const adopted = ports.filter((port) => there.has(portKey(port)) && !ours.has(portKey(port)));
  return new Set(adopted.map(({ bridge }) => bridge));
}

/** Of NICs that left the file; what is on one of the file stays, and is said. */
function stuckOn({ links, owned, addresses }: Machine, { nics }: Config): string[] {
  const odd = links.filter(
    ({ device, kind, mac, permanentMac = mac }) =>
      !isSayable(device) && (kind === 'bridge' || !nics.some((nic) => nic.mac === permanentMac)),
  );
  return odd.flatMap(({ device, index, mac, permanentMac = mac }) => {
    const isIts = (place: RecordedPlace) =>
      place.index === undefined ? place.on === undefined && place.mac === permanentMac : place.index === index;
    const ours = new Set(owned.addresses.filter(isIts).map(({ spec }) => spec));
    const there = addresses.flatMap((each) => (each.device === device && ours.has(each.spec) ? [each.spec] : []));
    if (there.length === 0) return [];
    return [
      `${there.join(', ')} stays on ${visible(device)}, whose name is no text that a command could be given: ` +
        `give it another: ip link set dev if${index} name ANOTHER, then run kylin-vr reload`,
    ];
  });
}

/** Wanted addresses that a DHCP client has put there as well. What NetworkManager has leased goes with its profile. */
function leasedAmong({ addresses }: Machine, desired: NetworkState, { managers }: Observation): ObservedAddress[] {
  const leases = addresses.filter(({ dynamic, device }) => dynamic && !managers.has(device));
  if (leases.length === 0) return [];
  const wanted = new Set(desired.addresses.filter(({ foreign }) => !foreign).map(addressKey));
  return leases.filter((address) => wanted.has(addressKey(address)));
}

/** What comes back each time, and what the file does not allow. */
function leftTo({ addresses, resisting }: Machine, { kept }: Observation, { bound }: NicBinding): ObservedAddress[] {
  if (kept.size === 0) return [];
  const isAllowed = allowedOn(bound);
  return addresses.filter((address) => {
    const key = addressKey(address);
    return kept.has(key) && resisting.has(key) && !isAllowed(address);
  });
}

/** What cannot be read cannot be changed; taking all of ours away works, by nft. */
export function refuseUnreadable(
  { unreadable }: Pick<Machine, 'unreadable'>,
  desired: Pick<NetworkState, 'chains'>,
  so = 'nothing was changed: ',
): void {
  const [first] = unreadable.filter(({ stray }) => !stray);
  if (first === undefined || desired.chains.length === 0) return;
  const { table, rules } = first;
  const shown = rules.length === 0 ? '' : ` (${rules.slice(0, 2).join('; ')})`;
  throw new AgentError(
    `${so}iptables cannot read the table ${table}, into which somebody put rules that only nft can say${shown}: ` +
      'put them into a table of their own (nft add table ip NAME), or take them away, then run kylin-vr reload',
    EXIT.failed,
  );
}

/**
 * Whether the configuration wants other addresses than it did when we last put them there, on NICs that were there then; on a bridge
 * or not.
 */
function hasNews(config: Config, { addresses }: Owned): boolean {
  const seen = new Set(addresses.map(({ mac }) => mac));
  const nics = config.nics.flatMap(({ bridge: _, ...nic }) => (seen.has(nic.mac) ? [{ ...nic, device: nic.mac }] : []));
  const wanted = desiredAddresses(config, nics).map(addressKey);
  const recorded = new Set(addresses.map(({ mac, spec }) => addressKey({ device: mac, spec })));
  return wanted.length !== recorded.size || wanted.some((key) => !recorded.has(key));
}

/** Computed once a run, as long as the NICs are the same. */
const known = new WeakMap<Config, { asked: string; desired: NetworkState }>();

function desiredOf(
  config: Config,
  binding: NicBinding,
  renderer: Renderer,
  { surroundings, ways, keys }: { surroundings: Surroundings; ways: Ways; keys: ReadonlyMap<string, ProfileKeys> },
): NetworkState {
  const { engine: used, ...rest } = surroundings;
  const asked = JSON.stringify([binding, renderer.name, rest, used.name, ways, [...keys]]);
  const before = known.get(config);
  if (before?.asked === asked) return before.desired;
  const desired = desiredState(config, binding, renderer, surroundings, ways, keys);
  known.set(config, { asked, desired });
  return desired;
}

/** Whether NetworkManager or initscripts brings NICs up at boot from the files that we render. */
async function bringsUpNics(host: Host, renderer: Renderer): Promise<boolean> {
  if (renderer.folder === undefined) return false;
  if ((await host.which('NetworkManager')) !== undefined) return true;
  return hasInitscripts(host, renderer);
}

const hasInitscripts = async (host: Host, { name, folder }: Renderer): Promise<boolean> =>
  name === 'ifcfg' && (await host.info(`${folder}/ifup-eth`)) !== undefined;

/** Before the first link is up: later somebody may be logged in over it. Who says in sysctl.d what is to be has it so. */
async function mayEndIpv6(host: Host, { links }: Machine): Promise<boolean> {
  if (links.some(({ device, up }) => up && device !== 'lo')) return false;
  return (await host.sysctl('net/ipv6/conf/all/disable_ipv6')) !== undefined && !(await speaksOfIpv6(host));
}

const withoutIpv6 = (wanted: NetworkState): NetworkState => ({
  ...wanted,
  sysctls: [
    ...wanted.sysctls,
    ...['all', 'default'].map((name) => ({ key: `net/ipv6/conf/${name}/disable_ipv6`, value: '1' })),
  ],
});

const withSysctls = (wanted: NetworkState, sysctls: readonly Sysctl[]): NetworkState =>
  sysctls.length === 0 ? wanted : { ...wanted, sysctls: [...wanted.sysctls, ...sysctls] };

/** NetworkManager goes on leaving alone what is left alone. */
const withStaying = (wanted: NetworkState, staying: readonly Port[]): NetworkState =>
  staying.length === 0
    ? wanted
    : { ...wanted, released: [...wanted.released, ...staying.flatMap(({ device, bridge }) => [device, bridge])] };

/** With files of NetworkManager's configuration, where it is installed. */
async function withDropIns(
  host: Host,
  wanted: NetworkState,
  { config: { nics }, renderer, links }: Pick<Aim, 'config' | 'renderer'> & Pick<Machine, 'links'>,
): Promise<NetworkState> {
  if (nics.length === 0 || renderer.name === 'none') return wanted;
  if ((await host.info(MANAGER_FOLDER)) === undefined) return wanted;
  const veths = new Set(links.flatMap(({ device, kind }) => (kind === 'veth' ? [device] : [])));
  const named = wanted.profiles.map(({ device }) => device).filter((device) => veths.has(device));
  return { ...wanted, files: [...wanted.files, defaultsFile(nics, named), ...unmanagedFiles(wanted.released)] };
}

/** Where our drop-in has nothing to say nobody has it say otherwise. */
async function stillManaged(host: Host, { files, released }: NetworkState, { links }: Machine): Promise<string[]> {
  if (!files.some(({ path }) => path === UNMANAGED_PATH)) return [];
  const { unmanagedWarnings } = await import('../machine/unmanaged.ts');
  return unmanagedWarnings(host, released, links);
}

/** Bridges, what is on them, and NICs whose name no profile can have: nobody else brings them up. */
function withoutNics(desired: NetworkState, observed: NetworkState): NetworkState {
  const profiled = new Set(desired.profiles.map(({ device }) => device));
  const bridged = new Set([
    ...desired.released,
    ...desired.links.flatMap(({ device }) => (profiled.has(device) ? [] : [device])),
  ]);
  const isBridged = ({ device }: { device: string }) => bridged.has(device);
  const mixed = <T extends { device: string }>(wanted: readonly T[], found: readonly T[]) => [
    ...wanted.filter(isBridged),
    ...found.filter((item) => !isBridged(item)),
  ];
  // Part by part: of a new one its author says whether somebody else brings it up.
  const { sysctls, bridges, ports, released, filter, chains, jumps, files, profiles } = desired;
  return {
    ...{ sysctls, bridges, ports, released, filter, chains, jumps, files, profiles },
    links: desired.links.filter(isBridged),
    addresses: mixed(desired.addresses, observed.addresses),
    routes: mixed(desired.routes, observed.routes),
  };
}

/** On links of NICs that are held all stays as it is, and in their files. */
function holdNics(desired: NetworkState, observation: Observation, held: ReadonlySet<string>): NetworkState {
  if (held.size === 0) return desired;
  const observed = observation.state;
  const isHeld = ({ device }: { device?: string }) => device !== undefined && held.has(device);
  const kept = <T extends { device: string }>(wanted: readonly T[], found: readonly T[]) => [
    ...wanted.filter((item) => !isHeld(item)),
    ...found.filter(isHeld),
  ];
  const files = new Map(observed.files.map((file) => [file.path, file]));
  const { sysctls, bridges, ports, released, filter, chains, jumps } = desired;
  return {
    ...{ sysctls, bridges, ports, released, filter, chains, jumps },
    links: desired.links.filter((link) => !isHeld(link)),
    addresses: kept(desired.addresses, observed.addresses),
    routes: kept(desired.routes, ourRoutes(observed.routes, observation)),
    files: desired.files.flatMap((file) => (isHeld(file) ? (files.get(file.path) ?? []) : [file])),
    profiles: desired.profiles.filter((profile) => !isHeld(profile)),
  };
}

/** Nobody is asked to do anything on them. */
function withoutHeld(observation: Observation, held: ReadonlySet<string>): Observation {
  if (held.size === 0) return observation;
  return {
    ...observation,
    cutOff: observation.cutOff.filter(({ device }) => !held.has(device)),
    managers: new Map([...observation.managers].filter(([device]) => !held.has(device))),
  };
}

/** A NIC whose MTU is no longer named has the one that it had before. */
function withMtus(desired: NetworkState, { bound }: NicBinding, { mtus }: Owned): NetworkState {
  const before = new Map(
    bound.flatMap(({ device, mac }) => mtus.flatMap(({ mac: of, was }) => (of === mac ? [[device, was]] : []))),
  );
  return {
    ...desired,
    links: desired.links.map((link) => {
      const mtu = link.mtu ?? before.get(link.device);
      return mtu === undefined ? link : { ...link, mtu };
    }),
  };
}

/** What conntrack's entries are held against: the machine as it is, and as it will be. */
export function flowModelOf(aim: Aim, found: Survey, former: Former | undefined): FlowModel {
  const { machine, desired } = found;
  const { ownSource: _, ...translation } = translationIn(aim, found);
  const spec = ({ device, spec }: Address) => ({ device, address: hostPart(spec) });
  const addresses = [...machine.addresses, ...desired.addresses].map(spec);
  return {
    ...translation,
    addresses: [...new Map(addresses.map((each) => [`${each.device} ${each.address}`, each])).values()],
    ways: [...parseWays(machine.printedRoutes), ...waysOf(desired)],
    natRules: parseNatRules(machine.printedRules),
    former: former ?? recordedWorld(machine),
  };
}

/** What the configuration does with addresses, by the NICs that are there. */
export const translationIn = ({ config, ways }: Aim, { binding }: Survey): Translation =>
  translationOf(config, binding.bound.map(onIpLink), uplinkOf(config)?.mac, ways);

/** By the record of our addresses: a 1.0 keeps no other. */
export function recordedWorld({ ownedAddresses }: Machine): Former {
  const specs = [...ownedAddresses].map((key) => key.slice(key.indexOf(' ') + 1));
  return {
    addresses: specs.map(hostPart),
    networks: specs.flatMap((spec) => {
      const network = parseCidr(spec);
      return network === undefined || network.prefix === 32 ? [] : [network];
    }),
  };
}

/** What may be ours while one state of things gives way to another. */
export function union(a: Owned, b: Owned): Owned {
  const merge = <T>(one: readonly T[], other: readonly T[]): T[] => [
    ...new Map([...one, ...other].map((item) => [JSON.stringify(item), item])).values(),
  ];
  return {
    addresses: merge(a.addresses, b.addresses),
    routes: merge(a.routes, b.routes),
    mtus: merge(a.mtus, b.mtus),
    bridges: merge(a.bridges, b.bridges),
    ports: merge(a.ports, b.ports),
    moved: merge(a.moved, b.moved),
    heard: uniqueBy(({ mac }) => mac, [...a.heard, ...b.heard]),
  };
}

function ownedBy(
  wanted: NetworkState,
  { bound, pending, broken }: NicBinding,
  machine: Machine,
  steps: readonly Step[],
): Omit<Owned, 'heard'> {
  const macOf = new Map(bound.flatMap((nic) => [nic.device, ipLinkOf(nic)].map((device) => [device, nic.mac])));
  const indexOf = new Map(machine.links.map(({ device, index }) => [device, index]));
  const placeOf = (device: string) => {
    const [mac, index] = [macOf.get(device) ?? '', indexOf.get(device)];
    if (wanted.bridges.some(({ name }) => name === device))
      return { mac, on: device, ...(index !== undefined && { index }) };
    return index === undefined ? { mac } : { mac, index, device };
  };
  const places = new Map(machine.links.map(({ device }) => [device, placeOf(device)]));
  const place = (device: string) => places.get(device) ?? placeOf(device);
  const absent = [...pending, ...broken.map(({ nic }) => nic)];
  const named = absent.flatMap(({ bridge }) => bridge ?? []);
  const left = { ...stillThere(machine, wanted), ...leftAlone(machine, named) };
  const known = new Set(machine.ownedBridges.map(bridgeKey));
  const there = new Set(bridgesOf(machine).map(bridgeKey));
  const ids = bridgeIds(machine);
  const withId = <T extends Bridge>(bridge: T) => {
    const id = ids.get(bridgeKey(bridge));
    return id === undefined ? {} : { id };
  };
  /** Of what cannot be seen the record stays. */
  const isSeen = ({ type }: { type: BridgeType }) => type === 'linux' || !isSilent(machine.ovs);
  const unseen = <T extends { type: BridgeType }>(items: readonly T[]) => items.filter((item) => !isSeen(item));
  const mtuOf = (nic: BoundNic) =>
    machine.owned.mtus.find(({ mac }) => mac === nic.mac)?.was ??
    machine.links.find(({ device }) => device === nic.device)?.mtu;
  return {
    addresses: [...wanted.addresses.map(({ device, spec }) => ({ ...place(device), spec })), ...left.addresses],
    routes: [
      ...wanted.routes.map(({ device, dest, via, metric }) => ({
        ...place(device),
        dest,
        via,
        ...(metric !== 0 && { metric }),
      })),
      ...left.routes,
    ],
    mtus: [
      ...bound.flatMap((nic) => {
        const was = nic.mtu === undefined ? undefined : mtuOf(nic);
        return was === undefined ? [] : [{ mac: nic.mac, was }];
      }),
      ...machine.owned.mtus.filter(({ mac }) => pending.some((nic) => nic.mac === mac)),
    ],
    bridges: uniqueBy(JSON.stringify, [
      ...wanted.bridges
        .filter(isSeen)
        .filter((bridge) => known.has(bridgeKey(bridge)) || !there.has(bridgeKey(bridge)))
        .map(({ name, type, mac }) => ({ name, type, ...withId({ name, type }), ...(mac !== undefined && { mac }) })),
      ...left.bridges,
      ...unseen(machine.owned.bridges),
    ]),
    ports: uniqueBy(JSON.stringify, [
      ...wanted.ports
        .filter(isSeen)
        .map(({ device, bridge, type }) => ({ ...place(device), bridge, type, ...withId({ name: bridge, type }) })),
      ...left.ports,
      ...unseen(machine.owned.ports),
    ]),
    moved:
      wanted.ports.length + left.ports.length === 0
        ? []
        : uniqueBy(String, [
            ...machine.owned.moved,
            ...steps.flatMap((step) =>
              step.kind === 'move-foreign' && !step.way?.isTold ? [movedKey(step.foreign)] : [],
            ),
          ]),
  };
}

const uniqueBy = <T>(key: (item: T) => string, items: readonly T[]): T[] => [
  ...new Map(items.map((item) => [key(item), item])).values(),
];

/** By the record of addresses and ports, which has the numbers of this boot alone. */
export function linksBefore({ owned }: Machine): Map<string, LinkBefore> {
  const found = new Map<string, LinkBefore>();
  const add = ({ mac, index, device }: RecordedPlace) => {
    const before = found.get(mac);
    if (before === undefined || before.index !== index || before.device !== device) found.set(mac, { index, device });
  };
  owned.ports.forEach(add);
  for (const address of owned.addresses) if (address.on === undefined) add(address);
  return found;
}

/** Where nothing else says why it does not say whose ports they are. */
function silentWarnings(machine: Machine, { held }: NicBinding, waiting: readonly WaitingNic[]): string[] {
  const { ovs } = machine;
  if (ovs === undefined || !('silent' in ovs) || waiting.length > 0) return [];
  return held.some(({ nic }) => isUnseenPort(nic.device, machine)) ? [`Open vSwitch is silent: ${ovs.silent}`] : [];
}

function passedOverWarnings({ passedOver }: Machine): string[] {
  if (passedOver.length === 0) return [];
  const shown = passedOver.slice(0, 3).join(', ');
  const more = passedOver.length > 3 ? ` and ${passedOver.length - 3} more` : '';
  return [
    `${shown}${more}: not looked at, since the profiles before have 32 MiB together; whether one is for a NIC of the file is not known: remove what is no profile`,
  ];
}

/** Foreign addresses are left where they are. */
function portWarnings({ addresses, ownedAddresses }: Machine, { bound }: NicBinding, wanted: NetworkState): string[] {
  const bridged = bound.flatMap(({ device, bridge }) => (bridge === undefined ? [] : [{ device, bridge }]));
  const ours = new Set(bridged.length === 0 ? [] : wanted.addresses.map(({ spec }) => hostPart(spec)));
  return bridged.flatMap(({ device, bridge }) =>
    addresses
      .filter(
        (address) =>
          address.device === device && !ours.has(hostPart(address.spec)) && !ownedAddresses.has(addressKey(address)),
      )
      .map(
        ({ spec }) =>
          `the address ${spec} stays on ${device} and does not work there, on a port of ${bridge.name}: ` +
          `take it away, or move it to ${bridge.name}`,
      ),
  );
}

/** A bridge that is not wanted any more. */
function bridgeWarnings(wanted: NetworkState, { state, emptied }: Observation): string[] {
  return compare(wanted.bridges, state.bridges, bridgeKey).extra.flatMap((bridge) =>
    emptied.has(bridgeKey(bridge))
      ? []
      : [`the bridge ${bridge.name} stays: it has other ports, or addresses that are not ours`],
  );
}

function nicWarnings(binding: NicBinding): string[] {
  return [
    ...binding.pending.map(
      ({ mac, name }) => `NIC ${mac}${name === undefined ? '' : ` (${name})`} is not there yet: pending`,
    ),
    ...binding.broken.map(({ nic, reason }) => `NIC ${nic.mac} is not used: ${reason}`),
    ...binding.held.map(({ nic: { mac, device }, reason }) => `NIC ${mac} (${device}) is left as it is: ${reason}`),
    ...binding.doubled.map(
      ({ nic: { mac, device }, others }) =>
        `${others.join(' and ')} ${others.length === 1 ? 'has' : 'have'} the MAC of ${device} too (${mac}), which is used as before: ` +
        'give it another',
    ),
  ];
}

function profileWarnings({ bound }: NicBinding, { passesOver = () => undefined }: Renderer): string[] {
  return bound.flatMap(({ device, bridge, waitsFor }) => {
    const fileName = bridge === undefined && waitsFor === undefined ? passesOver(device) : undefined;
    if (fileName === undefined) return [];
    return [
      `${device} has no profile: a file named ${fileName} is passed over as a backup, so kylin-vr alone sets it up; ` +
        `give it another name: ip link set dev ${device} name ANOTHER`,
    ];
  });
}

/** The kernel removes no chain that a rule leads to. Foreign rules are never changed. */
function heldWarnings(desired: NetworkState, { state, unreadable }: Observation): string[] {
  const extra = [
    ...compare(desired.chains, state.chains, chainKey).extra,
    ...unreadable.flatMap(({ table, chains }) => chains.map((chain) => ({ table, ...chain }))),
  ];
  return extra.flatMap(({ table, name, heldBy }) =>
    heldBy === undefined
      ? []
      : [
          `the chain ${name} stays in ${table}, empty: ${/^map /.test(heldBy) ? 'an element of the foreign' : 'a rule of the foreign chain'} ${heldBy} leads to it; take that away`,
        ],
  );
}

function unseenWarnings({ unreadable }: Observation): string[] {
  return unreadable.flatMap(({ table, stray, unseen }) =>
    stray && unseen
      ? [
          `the other iptables backend cannot read its table ${table}, where rules of ours may be left: install nft, which can (nftables)`,
        ]
      : [],
  );
}

/** `ifup-eth` counts to 255. */
const INITSCRIPTS_ADDRESSES = 256;

async function initscriptsWarnings(host: Host, renderer: Renderer, wanted: NetworkState): Promise<string[]> {
  if (renderer.name !== 'ifcfg') return [];
  const crowded = wanted.links.filter(
    ({ device }) => wanted.addresses.filter((address) => address.device === device).length > INITSCRIPTS_ADDRESSES,
  );
  if (crowded.length === 0 || !(await hasInitscripts(host, renderer))) return [];
  return crowded.map(
    ({ device }) =>
      `${device} has more than ${INITSCRIPTS_ADDRESSES} addresses: initscripts bring up the first ${INITSCRIPTS_ADDRESSES} ` +
      'of them at boot, the next kylin-vr reload adds the rest',
  );
}

/** The guest's own persistent format, or the one asked for. */
export async function chooseRenderer(host: Host, name: string | undefined): Promise<Renderer> {
  if (name === 'none') return noRenderer;
  if (name === 'ifcfg') return ifcfgRenderer;
  if (name === 'keyfile') return keyfileRenderer;
  if (name !== undefined) throw new UsageError(`--renderer must be ifcfg, keyfile or none, is ${name}`);
  for (const renderer of [ifcfgRenderer, keyfileRenderer]) {
    const folder = renderer.folder === undefined ? undefined : await host.info(renderer.folder);
    if (folder?.directory) return renderer;
  }
  return noRenderer;
}

/** Asked of the real thing, and only where a configuration needs it and no part of ours shows it. */
async function surroundingsOf(
  host: Host,
  config: Config,
  { machine, binding, ways }: { machine: Machine; binding: NicBinding; ways: Ways },
): Promise<Surroundings> {
  const { rules, printedRules } = machine;
  const can = async (ability: keyof Engine['trials']) => {
    const { isShown, table, rule, nonsense } = engine.trials[ability];
    if (isShown({ chains: rules.ours })) return true;
    const takes = (each: string) => takesRule(host, table, each);
    const [known, fooled] = await Promise.all([takes(rule), nonsense !== undefined && takes(nonsense)]);
    return known && !fooled;
  };
  const { nics, forwards } = config;
  const hasGate = ways === 'today' && nics.some(({ gateway }) => gateway !== undefined);
  const onBridge = hasGate && nics.some(({ gateway, bridge }) => gateway !== undefined && bridge?.type === 'linux');
  return {
    engine,
    abilities: {
      shiftedRanges: !forwards.some(isShiftedRange) || (await can('shiftedRanges')),
      policy: hasGate && (await can('policy')),
      // Naming physdev loads br_netfilter, which then hands every bridge's frames to the packet filter: only where it is.
      bridged:
        onBridge && (await host.sysctl('net/bridge/bridge-nf-call-iptables')) !== undefined && (await can('bridged')),
      exemptions: hasGate ? engine.exemptions(rules.hooks, printedRules) : { exempt: [], all: true },
    },
    around: {
      elsewhere: hasGate ? routesElsewhere(machine, binding) : [],
      exposed: exposedAddresses(config, machine, binding),
    },
  };
}

async function chainsHeldByMaps(host: Host): Promise<Map<string, string>> {
  if ((await host.which('nft')) === undefined) return new Map();
  return heldByMaps((await host.run(['nft', 'list', 'maps'], { accept: [1] })).stdout);
}

const withHolders = (observation: Observation, held: ReadonlyMap<string, string>): Observation => ({
  ...observation,
  state: {
    ...observation.state,
    chains: observation.state.chains.map((chain) => {
      const heldBy = held.get(chainKey(chain));
      return heldBy === undefined ? chain : { ...chain, heldBy };
    }),
  },
});

/** Addresses of NICs that are not used, and that nobody takes away: of the file and of our record. */
function exposedAddresses(
  config: Config,
  { addresses, owned, ownedAddresses }: Machine,
  { pending, broken }: NicBinding,
): string[] {
  if (pending.length + broken.length === 0) return [];
  const known = new Set([
    ...elasticAddresses(config),
    ...owned.addresses
      .map(({ spec }) => spec)
      .filter(isHostSpec)
      .map(hostPart),
  ]);
  return addresses.flatMap((address) => {
    const host = hostPart(address.spec);
    return isHostSpec(address.spec) && known.has(host) && !ownedAddresses.has(addressKey(address)) ? [host] : [];
  });
}

const isHostSpec = (spec: string): boolean => spec.endsWith('/32');

/** What others lead by a NIC with a gateway, the way that everything goes apart. */
function routesElsewhere({ routes }: Machine, { bound }: NicBinding): Network[] {
  const gates = new Set(bound.filter(({ gateway }) => gateway !== undefined).map(ipLinkOf));
  return routes.flatMap(({ dest, device, protocol }) => {
    const network = gates.has(device) && protocol !== ROUTE_PROTOCOL ? parseCidr(dest) : undefined;
    return network === undefined || network.prefix < WIDEST ? [] : [network];
  });
}

function takesRule(host: Host, table: TableName, rule: string): Promise<boolean> {
  const input = [`*${table}`, ':KYLIN-VR-PROBE - [0:0]', `-A KYLIN-VR-PROBE ${rule}`, 'COMMIT\n'].join('\n');
  return host.run(['iptables-restore', '--test', '--noflush'], { input }).then(
    () => true,
    (error: unknown) => {
      if (error instanceof CommandError) return false;
      throw error;
    },
  );
}
