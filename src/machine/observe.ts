// Host → what is on the machine, and, for one configuration, the Observation that planning compares with.
// Runs reading commands only, side by side.

import { basename, dirname, join } from 'node:path';
import { DEFAULTS_PATH } from '../dialects/defaults.ts';
import { type Foreign, isLeased } from '../dialects/foreign.ts';
import { ifcfgRenderer } from '../dialects/ifcfg.ts';
import {
  type ObservedAddress,
  type ObservedSubnetRoute,
  parseAddresses,
  parseNics,
  parseRoutes,
} from '../dialects/iproute.ts';
import {
  foreignChains,
  incompatible,
  parseSave,
  type SavedRules,
  TABLES,
  unreadableTables,
  withLookups,
} from '../dialects/iptables.ts';
import { keyfileRenderer, keyfilesOfBoot } from '../dialects/keyfile.ts';
import { handlesIn, parseLookups, parseNftTable } from '../dialects/nft.ts';
import type { ProfileFolder, Renderer } from '../dialects/renderer.ts';
import { UNMANAGED_PATH, unmanagedIn } from '../dialects/unmanaged.ts';
import { CommandError } from '../errors.ts';
import {
  bridgesOf,
  carriedOut,
  isSilent,
  mayHavePorts,
  type OpenVSwitch,
  ovsBridges,
  portsOf,
  withoutGiven,
} from '../network/bridges.ts';
import { formatNetwork, parseCidr } from '../network/ipv4.ts';
import { keptAmong } from '../network/kept.ts';
import type { BoundNic, ObservedLink } from '../network/nics.ts';
import type { Claim, Observation, Stray, Unreadable } from '../network/observation.ts';
import {
  type Address,
  addressKey,
  type Bridge,
  bridgeKey,
  CHAIN_PREFIX,
  chainKey,
  compare,
  type File,
  hostPart,
  isOurFile,
  isOurJump,
  type Jump,
  type NetworkState,
  type Port,
  portKey,
  type Route,
  type SubnetRoute,
  type TableName,
} from '../network/state.ts';
import { canShrink } from '../network/step.ts';
import { NICS_ASKED } from './early.ts';
import { readForeign, readLost, readNeighbours, readNexthops } from './foreign.ts';
import { readHearing, readOwnSettings } from './hearing.ts';
import { type Host, TEMPORARY_SUFFIX } from './host.ts';
import { fitting, owned as ownedShape } from './kept-shapes.ts';
import type { Asked } from './networkmanager.ts';
import { readOvs } from './ovs.ts';
import { PATHS } from './paths.ts';
import { bootOf } from './pending.ts';
import {
  NOTHING_OWNED,
  type Owned,
  type OwnedNow,
  ofAnotherBoot,
  onDevices,
  ownedNow,
  recordedRouteKey,
  renamedLinks,
} from './recorded.ts';
import { readResisting } from './resisting.ts';

/** What only the kernel knows; of fifty thousand routes a look takes as long as all the rest of a run. */
export type Seen = {
  links: ObservedLink[];
  addresses: ObservedAddress[];
  /** What they, and those of IPv6, were read from. */
  printedAddresses: string;
  routes: Route[];
  /** What they were read from. */
  printedRoutes: string;
  subnetRoutes: ObservedSubnetRoute[];
  rules: SavedRules;
  /** What they were read from. */
  printedRules: string;
};

/** What is on the machine, whatever the configuration. */
export type Machine = Seen & {
  strays: Stray[];
  unreadable: Unreadable[];
  files: File[];
  /** Profiles that are not read. */
  passedOver: string[];
  owned: Owned;
  lost: Foreign[];
  /** Keys of the addresses that come back each time. */
  resisting: ReadonlySet<string>;
  /** Undefined: nobody names a bridge of Open vSwitch. */
  ovs: OpenVSwitch | undefined;
} & OwnedNow;

/**
 * `asksOvs`: the configuration names a bridge of Open vSwitch; where our record does, or a NIC may be a port of one, it is asked all
 * the same. `seen`: a moment ago, with nothing changed since.
 */
export async function readMachine(
  host: Host,
  asksOvs = false,
  record = readOwned(host),
  seen?: Seen,
): Promise<Machine> {
  const nics = seen ?? readNics(host);
  // What takes longest first: the start of each command holds up the next by 3 ms.
  const [rules, onNics, { strays, unreadable }, profiles, owned, lost, resisting, ovs] = await Promise.all([
    seen ?? readWholeRules(host),
    nics,
    readStrays(host),
    readAllProfiles(host),
    record,
    readLost(host),
    readResisting(host),
    Promise.all([record, asksOvs || nics]).then(([known, found]) =>
      found === true || namesOvs(known) || mayHavePorts(found.links)
        ? readOvs(host, async () => (await nics).links)
        : undefined,
    ),
  ]);
  const { links, addresses, printedAddresses, routes, printedRoutes, subnetRoutes } = onNics;
  const unread = await Promise.all(unreadableTables(rules.printedRules).map((table) => readByNft(host, table)));
  const view = { links, ovs: ovs && carriedOut(ovs, links, renamedLinks(owned, links)) };
  return {
    links,
    addresses,
    printedAddresses,
    routes,
    printedRoutes,
    subnetRoutes,
    rules: rules.rules,
    printedRules: rules.printedRules,
    strays,
    unreadable: [...unread, ...unreadable],
    ...profiles,
    owned,
    ...ownedNow({ ...view, owned }),
    lost,
    resisting,
    ovs: view.ovs,
  };
}

/** Every link of the machine, where nothing else of it is asked for. */
export const readLinks = async (host: Host): Promise<ObservedLink[]> =>
  parseAddresses((await host.run(['ip', '-json', '-details', 'address', 'show'])).stdout).links;

async function readNics(host: Host): Promise<Omit<Seen, 'rules' | 'printedRules'>> {
  const { addresses, routes } = parseNics((await host.run(...NICS_ASKED)).stdout);
  return { ...parseAddresses(addresses), printedAddresses: addresses, ...parseRoutes(routes), printedRoutes: routes };
}

/**
 * All tables at once: one by one takes twice the time, since iptables-nft-save lists them all for each. Where that fails for a
 * foreign table, or for want of any (an old iptables-legacy-save without /proc/net/ip_tables_names), ours one by one.
 */
async function readRules(host: Host, tool = 'iptables-save'): Promise<string> {
  try {
    return (await host.run([tool])).stdout;
  } catch (error) {
    if (!(error instanceof CommandError) || error.exitCode === undefined) throw error;
    const byNft =
      tool === 'iptables-save'
        ? (await usesNft(host)) && (await host.which('nft')) !== undefined
        : tool === 'iptables-nft-save';
    const save = async (table: string) => (await host.run([tool, '-t', table])).stdout;
    let saved = '';
    for (const table of TABLES)
      saved += await save(table).catch((failure: unknown) => {
        // It cannot say a rule of somebody else's: 1.8 ends 3, for `ip dscp` or `meta mark set`.
        if (byNft && failure instanceof CommandError && failure.exitCode === CANNOT_SAY) return incompatible(table);
        throw failure;
      });
    return saved;
  }
}

/** Of iptables-nft-save: "Parsing nftables rule failed". */
const CANNOT_SAY = 3;

export const usesNft = async (host: Host): Promise<boolean> =>
  basename((await host.which('iptables-restore')) ?? '').includes('nft');

/** With what iptables-save leaves out of rules that are not ours, and whom of our chains they lead to: nft is asked where there are any. */
async function readWholeRules(host: Host, orJumps = false): Promise<Pick<Seen, 'rules' | 'printedRules'>> {
  const saved = await readRules(host);
  const { rules, ...known } = (await usesNft(host))
    ? await completed(host, saved, orJumps)
    : { rules: saved, ...NOTHING_MORE };
  return { rules: withKnown(parseSave(rules), known), printedRules: rules };
}

/** Before jumps go: what looks like one of ours may be half of somebody's. */
export async function withWholeJumps(host: Host, observation: Observation): Promise<Observation> {
  if (!(await usesNft(host)) || (await host.which('nft')) === undefined) return observation;
  const { ours: chains, hooks } = (await readWholeRules(host, true)).rules;
  return { ...observation, hooks, state: { ...observation.state, chains, jumps: jumpsIn(hooks) } };
}

/** By chainKey: the foreign chain that holds one of ours; the handles of the rules of a foreign one that holds any. */
type Known = { held: Map<string, string>; handles: Map<string, number[]> };

const NOTHING_MORE: Known = { held: new Map(), handles: new Map() };

async function completed(host: Host, rules: string, orJumps = false): Promise<{ rules: string } & Known> {
  const held = new Map<string, string>();
  const handles = new Map<string, number[]>();
  const chains = foreignChains(rules, orJumps);
  if (chains.size === 0 || (await host.which('nft')) === undefined) return { rules, ...NOTHING_MORE };
  const found = await Promise.all(
    [...chains].map(async ([key, count]): Promise<[string, ReturnType<typeof parseLookups>]> => {
      const [table = '', chain = ''] = key.split(' ');
      // nft would read more than a name in another.
      if (!/^[\w.-]+$/.test(chain)) return [key, []];
      const { stdout } = await host.run(['nft', '-j', 'list', 'chain', 'ip', table, chain], { accept: [1] });
      const lookups = parseLookups(stdout);
      // Others are at work on it: the next look sees it whole.
      if (lookups.length !== count) return [key, []];
      if (lookups.some((lookup) => lookup !== undefined && lookup.leadsTo.length > 0))
        handles.set(key, handlesIn(stdout));
      return [key, lookups];
    }),
  );
  for (const [key, lookups] of found) {
    const [table, chain = ''] = key.split(' ');
    for (const lookup of lookups) for (const ours of lookup?.leadsTo ?? []) held.set(`${table} ${ours}`, chain);
  }
  const hasAny = found.some(([, lookups]) => lookups.some((lookup) => lookup !== undefined));
  return { rules: hasAny ? withLookups(rules, new Map(found)) : rules, held, handles };
}

const withKnown = ({ ours, hooks }: SavedRules, { held, handles }: Known): SavedRules => ({
  ours: ours.map((chain) => {
    const heldBy = chain.heldBy ?? held.get(chainKey(chain));
    return heldBy === undefined ? chain : { ...chain, heldBy };
  }),
  hooks: hooks.map((hook) => {
    const known = handles.get(`${hook.table} ${hook.hook}`);
    return known === undefined ? hook : { ...hook, handles: known };
  }),
});

const namesOvs = ({ bridges, ports }: Owned): boolean => [...bridges, ...ports].some(({ type }) => type === 'ovs');

/** What is recorded as ours; nothing where the record is missing or is damaged (then addresses of NICs that left stay). */
export async function readOwned(host: Host): Promise<Owned> {
  const text = await host.read(PATHS.owned, { orNothing: true });
  const recorded = text === undefined ? undefined : fitting(ownedShape, text);
  if (recorded === undefined) return NOTHING_OWNED;
  const { boot, ...found } = recorded;
  const owned = { ...NOTHING_OWNED, ...(found as Partial<Owned>) };
  // One that names no boot has no numbers.
  return boot === undefined || boot === (await bootOf(host)) ? owned : ofAnotherBoot(owned);
}

/** Whether there is a record that says nothing. For the holder of the lock. */
export const isOwnedDamaged = async (host: Host, { owned }: Machine): Promise<boolean> =>
  owned === NOTHING_OWNED && (await host.info(PATHS.owned)) !== undefined;

export async function recordOwned(host: Host, owned: Owned): Promise<void> {
  await host.write(PATHS.owned, `${JSON.stringify({ ...owned, boot: await bootOf(host) })}\n`, 0o600);
}

/** Whichever of them we write ourselves: a stale keyfile would beat an ifcfg file of ours. */
const PROFILES: readonly ProfileFolder[] = [ifcfgRenderer, keyfileRenderer, keyfilesOfBoot];

export const readProfiles = async (host: Host): Promise<File[]> => (await readAllProfiles(host)).files;

/** `passedOver`: files that are not read, since those before them are too large together. */
async function readAllProfiles(host: Host): Promise<{ files: File[]; passedOver: string[] }> {
  const folders = await Promise.all(PROFILES.map((each) => profilePaths(host, each)));
  const paths = [...folders.flat(), ...DROP_INS];
  const found = new Map((await Promise.all(paths.map((path) => host.info(path)))).map((info, n) => [paths[n], info]));
  const rank = (path: string) => (mayBeOurs(path) ? 0 : MOST_OF_PROFILES) + (found.get(path)?.size ?? 0);
  const [files, passedOver] = [new Map<string, File>(), [] as string[]];
  let left = MOST_OF_PROFILES;
  for (const path of [...paths].sort((one, other) => rank(one) - rank(other))) {
    const info = found.get(path);
    const most = Math.min(left, LONGEST_PROFILE);
    const content = most > 0 ? await host.read(path, { most, orNothing: true }) : undefined;
    if (info === undefined || info.directory) continue;
    if (content !== undefined) files.set(path, { path, content, mode: info.mode });
    else if (most < LONGEST_PROFILE) passedOver.push(path);
    left -= content?.length ?? 0;
  }
  return { files: paths.flatMap((path) => files.get(path) ?? []), passedOver };
}

async function profilePaths(host: Host, { folder, isProfile }: ProfileFolder): Promise<string[]> {
  if (folder === undefined) return [];
  const names = (await host.list(folder)).filter((name) => isProfile(name) || name.endsWith(TEMPORARY_SUFFIX));
  return names.map((name) => join(folder, name));
}

/** Of NetworkManager's configuration. */
const DROP_INS: readonly string[] = [DEFAULTS_PATH, UNMANAGED_PATH];

/** By its name: `kylin-vr-eth0.nmconnection`, `ifcfg-eth0`, `route-eth0`. */
const mayBeOurs = (path: string): boolean =>
  DROP_INS.includes(path) || /^(kylin-vr-[^/]{1,15}\.nmconnection|(ifcfg|route)-[^/]{1,15})$/.test(basename(path));

/** Bytes, of all of them: a machine of 300 NICs has 4 MB. */
const MOST_OF_PROFILES = 32 * 1024 * 1024;

/** Bytes. One of ours with 40,000 EIPs has 1.2 MB; of what is none (a folder, a FIFO, a link to /dev/null) NetworkManager reads nothing either. */
const LONGEST_PROFILE = 4 * 1024 * 1024;

/**
 * Our chains in the backend that `iptables-restore` is not: left there when the guest's default was switched.
 * The legacy tables are looked at only where the kernel has them: asking for them would load them.
 */
async function readStrays(host: Host): Promise<{ strays: Stray[]; unreadable: Unreadable[] }> {
  const none = { strays: [], unreadable: [] };
  const restore = await host.which('iptables-restore');
  // Where it is missing, nothing tells which backend is not in use; what has to run it says so.
  if (restore === undefined) return none;
  const inUse = basename(restore);
  const other = inUse.includes('nft') ? 'iptables-legacy' : 'iptables-nft';
  if (other === 'iptables-legacy' && !((await host.read('/proc/net/ip_tables_names')) ?? '').trim()) return none;
  if ((await host.which(`${other}-save`)) === undefined) return none;
  const saved = await readRules(host, `${other}-save`);
  const isWhole = other === 'iptables-legacy' || !saved.includes(`:${CHAIN_PREFIX}`);
  const { rules, ...known } = isWhole ? { rules: saved, ...NOTHING_MORE } : await completed(host, saved);
  const { ours, hooks } = withKnown(parseSave(rules), known);
  const chains = ours.filter(canShrink);
  const unread = await Promise.all(unreadableTables(saved).map((table) => readByNft(host, table)));
  return {
    strays: chains.length === 0 ? [] : [{ restore: `${other}-restore`, chains, hooks }],
    unreadable: unread.map((table) => ({ ...table, stray: true })),
  };
}

/** Without nft nothing is known of it. */
async function readByNft(host: Host, table: TableName): Promise<Unreadable> {
  if ((await host.which('nft')) === undefined) return { table, chains: [], jumps: [], rules: [], unseen: true };
  const [json, text] = await Promise.all([
    host.run(['nft', '-j', '-a', 'list', 'table', 'ip', table]),
    host.run(['nft', '-a', 'list', 'table', 'ip', table]),
  ]);
  return parseNftTable(table, json.stdout, text.stdout);
}

/**
 * The machine as seen by a configuration whose NICs are `bound`: the state under our rule, and what planning must know. Of
 * NetworkManager nothing: observeManaged adds that.
 */
export async function observe(
  host: Host,
  machine: Machine,
  bound: readonly BoundNic[],
  desired: Pick<NetworkState, 'sysctls' | 'addresses' | 'files' | 'bridges' | 'ports'>,
  renderer: Renderer,
): Promise<Observation> {
  const owned = machine.ownedAddresses;
  const devices = new Set(bound.map(({ device }) => device));
  const bridged = observeBridges(machine, desired, owned);
  const renamed = new Map(
    ovsBridges(machine.ovs).flatMap(({ name, link }) => (link === undefined ? [] : [[link, name]])),
  );
  const onPorts = new Set([
    ...[...desired.ports, ...bridged.ports, ...bridged.formerPorts].flatMap(({ device, bridge }) => [device, bridge]),
    ...bridged.bridges.map(({ name }) => name),
    ...renamed.keys(),
  ]);
  const sysctls = await Promise.all(
    desired.sysctls.map(async ({ key }) => ({ key, value: (await host.sysctl(key)) ?? '' })),
  );
  const leaving = compare(desired.ports, bridged.ports, portKey).extra.map(({ bridge }) => bridge);
  const ofBridges = await readOwnSettings(host, [...new Set(leaving)]);
  const { ours, foreign } = splitFiles(machine.files);
  const kept = keptAmong(machine.addresses, bound, {
    resisting: machine.resisting,
    ours: owned,
    wanted: desired.addresses,
  });
  const moves = isMoving(machine, desired, bridged);
  const families = moves ? ([4, 6] as const) : ([6] as const);
  const [routed, neighbours, nexthops] = await Promise.all([
    readForeign(host, onPorts, { addresses: machine.printedAddresses, families }),
    moves ? readNeighbours(host, onPorts) : [],
    moves ? readNexthops(host, onPorts) : [],
  ]);
  const onBridges = [...routed, ...neighbours, ...nexthops];
  const hearing = await readHearing(
    host,
    [...desired.ports, ...bridged.ports, ...bridged.formerPorts],
    machine,
    desired.sysctls,
  );
  const moved = new Set(machine.owned.moved);
  const onRenamed = onBridges.flatMap((each) => {
    const device = renamed.get(each.device);
    return device === undefined ? [] : [{ ...each, device }];
  });
  return {
    links: machine.links,
    state: {
      sysctls: [...sysctls, ...ofBridges],
      links: machine.links
        .filter(({ device }) => devices.has(device) || desired.bridges.some(({ name }) => name === device))
        .map(({ device, up, mtu }) => ({ device, up, mtu })),
      bridges: bridged.bridges,
      ports: bridged.ports,
      released: ours.filter(({ path }) => path === UNMANAGED_PATH).flatMap(({ content }) => unmanagedIn(content)),
      addresses: underOurRule(
        machine.addresses.filter((address) => !kept.has(addressKey(address))),
        ruledBy(bound, bridged.ports),
        owned,
        desired.addresses,
      ),
      routes: machine.routes,
      chains: machine.rules.ours,
      jumps: jumpsIn(machine.rules.hooks),
      files: ours,
      profiles: [],
    },
    hooks: machine.rules.hooks,
    kept,
    owned,
    ownedRoutes: onDevices(machine.owned.routes, machine.links, recordedRouteKey),
    managers: new Map(),
    adopted: new Set(),
    // What is on a link that has not its bridge's name moves nowhere.
    emptied: withoutGiven(withoutGiven(bridged.emptied, onBridges, moved), onRenamed, new Set()),
    portRoutes: portRoutes(machine, desired, owned),
    cutOff: cutOff(machine, desired.addresses),
    onBridges,
    ...(moves && { hosts: hostsIn(machine.printedAddresses) }),
    formerPorts: bridged.formerPorts,
    moved,
    hearing,
    claims:
      renderer.name === 'none'
        ? []
        : (await Promise.all(foreign.map((file) => claimOn(host, bound, file, desired.files)))).flat(),
    strays: machine.strays,
    unreadable: machine.unreadable,
    onManaged: [],
    lost: machine.lost,
  };
}

const hostsIn = (printed: string): Set<string> =>
  new Set([...printed.matchAll(/"local":\s*"([^"]+)"/g)].map(([, host = '']) => host));

/** With the devices that NetworkManager manages, and what is foreign. */
export async function observeManaged(
  host: Host,
  { links, printedAddresses, ownedAddresses }: Machine,
  observation: Observation,
  { managers, routes }: Asked,
): Promise<Observation> {
  const options = { addresses: printedAddresses, routes, ours: ownedAddresses };
  // nmcli takes longest to answer.
  const onManaged = await readForeign(host, new Set(links.map(({ device }) => device)), options);
  const known = await managers;
  const profiles = [...known].flatMap(([device, { profile }]) =>
    profile === undefined ? [] : [{ device, uuid: profile }],
  );
  return { ...observation, state: { ...observation.state, profiles }, managers: known, onManaged };
}

type Bridged = Pick<NetworkState, 'bridges' | 'ports'> & { formerPorts: Port[]; emptied: Set<string> };

/** Bridges and ports that are wanted, or ours as recorded. */
function observeBridges(
  { links, ovs, addresses, ownedBridges, ownedPorts }: Machine,
  desired: Pick<NetworkState, 'bridges' | 'ports'>,
  owned: ReadonlySet<string>,
): Bridged {
  const ourBridges = new Set(ownedBridges.map(bridgeKey));
  const ours = new Set([...ownedPorts, ...desired.ports].map(portKey));
  const known = new Set([...ourBridges, ...desired.bridges.map(bridgeKey)]);
  const all = portsOf({ links, ovs });
  const bridges = bridgesOf({ links, ovs }).filter((bridge) => known.has(bridgeKey(bridge)));
  const ports = all.filter((port) => ours.has(portKey(port)));
  // What cannot be seen is as it was.
  if (ovs !== undefined && 'silent' in ovs) {
    bridges.push(...desired.bridges.filter(({ type }) => type === 'ovs'));
    ports.push(...desired.ports.filter(({ type }) => type === 'ovs'));
  }
  const renamed = new Map(ovsBridges(ovs).map(({ name, link }) => [name, link]));
  const isBusy = ({ name, type }: Bridge) => {
    const link = type === 'ovs' ? (renamed.get(name) ?? name) : name;
    return (
      all.some((port) => port.bridge === name && port.type === type && !ports.includes(port)) ||
      addresses.some((address) => address.device === link && !owned.has(addressKey(address)))
    );
  };
  const emptied = new Set(
    bridges.filter((bridge) => ourBridges.has(bridgeKey(bridge)) && !isBusy(bridge)).map(bridgeKey),
  );
  const there = new Set(ports.map(portKey));
  const formerPorts = ownedPorts.filter((port) => !there.has(portKey(port)) && !(port.type === 'ovs' && isSilent(ovs)));
  return { bridges, ports, formerPorts, emptied };
}

/** Whether a NIC is to become a port, or none, or a run that was killed left that half done: its own address is on the port still. */
function isMoving(
  { addresses }: Machine,
  desired: Pick<NetworkState, 'addresses' | 'ports'>,
  { ports, formerPorts }: Bridged,
): boolean {
  const { missing, extra } = compare(desired.ports, ports, portKey);
  if (missing.length + extra.length + formerPorts.length > 0) return true;
  const devices = new Set(desired.ports.map(({ device }) => device));
  const there = addresses.filter(({ device }) => devices.has(device));
  if (there.length === 0) return false;
  const hosts = new Set(desired.addresses.map(({ spec }) => hostPart(spec)));
  return there.some(({ spec }) => hosts.has(hostPart(spec)));
}

/** A foreign address on a NIC that is to be a port has no network there: the bridge has. */
function portRoutes(
  { addresses, subnetRoutes }: Machine,
  desired: Pick<NetworkState, 'addresses' | 'ports'>,
  owned: ReadonlySet<string>,
): ObservedSubnetRoute[] {
  return desired.ports.flatMap(({ device, bridge }) => {
    const wanted = desired.addresses.filter((address) => address.device === bridge).map(({ spec }) => spec);
    const hosts = new Set(wanted.map(hostPart));
    const networks = new Set(wanted.map(networkText));
    const staying = addresses
      .filter((address) => address.device === device && !owned.has(addressKey(address)))
      .filter(({ spec }) => !hosts.has(hostPart(spec)));
    const theirs = new Set(staying.map(({ spec }) => networkText(spec)));
    return subnetRoutes.filter(
      ({ dest, protocol, ...route }) =>
        route.device === device && protocol === 'kernel' && networks.has(dest) && theirs.has(dest),
    );
  });
}

/**
 * Networks of wanted addresses that are there, and that no route leads to. When a link comes up the kernel brings such routes back,
 * but not those of addresses with noprefixroute: that is NetworkManager's matter, and it may be stopped.
 */
function cutOff({ addresses, links, subnetRoutes }: Machine, wanted: readonly Address[]): SubnetRoute[] {
  const hasNetwork = ({ spec }: Address) => !spec.endsWith('/32');
  const ours = new Set(wanted.filter((address) => hasNetwork(address) && !address.foreign).map(addressKey));
  const there = addresses.filter((each) => hasNetwork(each) && !each.dynamic && ours.has(addressKey(each)));
  return there.flatMap(({ device, spec, noprefixroute }): SubnetRoute[] => {
    const dest = networkText(spec);
    const comesBack = !noprefixroute && links.some((link) => link.device === device && !link.up);
    if (comesBack || subnetRoutes.some((route) => route.device === device && route.dest === dest)) return [];
    return [{ dest, device, source: hostPart(spec) }];
  });
}

/** `203.0.113.37/24` → `203.0.113.0/24`; as it is where it has no network. */
function networkText(spec: string): string {
  const network = /^[\d.]+\/\d+$/.test(spec) ? parseCidr(spec) : undefined;
  return network === undefined ? spec : formatNetwork(network);
}

/**
 * Of which addresses on a device we say whether they may be: all of them on a NIC; on one that is a port or is to be one, and
 * on its bridge, only those that belong to the NIC.
 */
function ruledBy(bound: readonly BoundNic[], ports: readonly Port[]): Map<string, 'all' | 'its own'> {
  const ruled = new Map<string, 'all' | 'its own'>(ports.map(({ bridge }) => [bridge, 'its own']));
  for (const { device, bridge, waitsFor } of bound) {
    ruled.set(device, bridge === undefined && waitsFor === undefined ? 'all' : 'its own');
    if (bridge !== undefined) ruled.set(bridge.name, 'its own');
  }
  return ruled;
}

/**
 * A wanted address that a DHCP lease would take away again counts as missing, and as nothing that we remove. So does one that is a lease
 * again when a change is taken back, and that we made one for good.
 */
function underOurRule(
  addresses: readonly ObservedAddress[],
  ruled: ReadonlyMap<string, 'all' | 'its own'>,
  owned: ReadonlySet<string>,
  desired: readonly Address[],
): Address[] {
  const wanted = new Set(
    addresses.some(({ dynamic }) => dynamic) ? desired.filter(({ foreign }) => !foreign).map(addressKey) : [],
  );
  const leased = new Set(desired.filter(({ found }) => found && isLeased(found)).map(addressKey));
  const mixed = [...ruled.values()].includes('its own');
  const hosts = new Set(mixed ? desired.map(({ spec }) => hostPart(spec)) : []);
  return addresses.flatMap((address): Address[] => {
    const { device, spec, dynamic } = address;
    const key = addressKey(address);
    const isOwned = owned.has(key);
    const rule = ruled.get(device);
    if (!isOwned && rule !== 'all' && !(rule === 'its own' && hosts.has(hostPart(spec)))) return [];
    if (dynamic ? wanted.has(key) : isOwned && leased.has(key)) return [];
    return [isOwned ? { device, spec } : { device, spec, foreign: true }];
  });
}

function jumpsIn(hooks: Observation['hooks']): Jump[] {
  return hooks.flatMap(({ table, hook, rules }) =>
    rules.flatMap((rule, index): Jump[] => {
      if (!isOurJump(rule)) return [];
      const place = index === 0 ? 'first' : index === rules.length - 1 ? 'last' : 'anywhere';
      return [{ table, hook, rule, place }];
    }),
  );
}

/** A temporary file of a killed run counts as ours. */
export function splitFiles(files: readonly File[]): { ours: File[]; foreign: File[] } {
  const isOurs = (file: File) =>
    isOurFile(file.content) || file.path.endsWith(TEMPORARY_SUFFIX) || (mayBeOurs(file.path) && isOursByUuid(file));
  return { ours: files.filter(isOurs), foreign: files.filter((file) => !isOurs(file)) };
}

const isOursByUuid = ({ path, content }: File): boolean => folderOf(path)?.isOurs(content) ?? false;

/** Whose format a profile has. */
export const folderOf = (path: string): ProfileFolder | undefined =>
  PROFILES.find(({ folder }) => folder === dirname(path));

/** Foreign profiles of our NICs, and foreign files that stand where ours has to be. */
async function claimOn(host: Host, bound: readonly BoundNic[], file: File, desired: readonly File[]): Promise<Claim[]> {
  const reason = claimReason(bound, file, desired);
  if (reason === undefined) return [];
  return [{ ...file, to: await backupPath(host, file), reason }];
}

/** One that another tool writes again and again is kept once; nothing that is kept is overwritten. */
async function backupPath(host: Host, { path: from, content }: File): Promise<string> {
  const [folder, name] = [dirname(from) === keyfilesOfBoot.folder ? PATHS.backupOfBoot : PATHS.backup, basename(from)];
  for (let number = 0; ; number++) {
    const path = join(folder, number === 0 ? name : `${name}.${number}`);
    const kept = await host.read(path, { most: LONGEST_PROFILE, orNothing: true });
    if (kept === content || (kept === undefined && (await host.info(path)) === undefined)) return path;
  }
}

/** The NIC that a profile is for. */
export function claimedBy({ path, content }: File, bound: readonly BoundNic[]): BoundNic | undefined {
  const claim = folderOf(path)?.claim(basename(path), content);
  return (
    claim && bound.find(({ mac, device }) => (claim.mac === undefined ? claim.device === device : claim.mac === mac))
  );
}

function claimReason(bound: readonly BoundNic[], file: File, desired: readonly File[]): string | undefined {
  const nic = claimedBy(file, bound);
  if (nic !== undefined) return `a foreign profile of ${nic.device}`;
  return desired.some(({ path }) => path === file.path) ? 'a foreign file where ours has to be' : undefined;
}
