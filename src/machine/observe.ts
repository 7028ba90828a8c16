// Host → what is on the machine, and, for one configuration, the Observation that planning compares with.
// Runs reading commands only, side by side.

import { basename } from 'node:path';
import { CommandError } from '../base/errors.ts';
import { PATHS } from '../base/paths.ts';
import { parseAddresses, parseNics, parseRoutes } from '../dialects/iproute.ts';
import {
  foreignChains,
  incompatible,
  parseSave,
  type SavedRules,
  TABLES,
  unreadableTables,
  withLookups,
} from '../dialects/iptables.ts';
import { handlesIn, parseLookups, parseNftTable } from '../dialects/nft.ts';
import { jumpsIn } from '../dialects/our-rules.ts';
import { UNMANAGED_PATH, unmanagedIn } from '../dialects/unmanaged.ts';
import { carriedOut, mayHavePorts, type OpenVSwitch, ovsBridges, withoutGiven } from '../network/bridges.ts';
import type { Foreign } from '../network/foreign.ts';
import { keptAmong } from '../network/kept.ts';
import type { BoundNic, ObservedLink } from '../network/nics.ts';
import type { Observation, ObservedAddress, ObservedSubnetRoute, Stray, Unreadable } from '../network/observation.ts';
import { cutOff, isMoving, observeBridges, portRoutes, ruledBy, underOurRule } from '../network/observed.ts';
import type { Renderer } from '../network/renderer.ts';
import {
  addressKey,
  CHAIN_PREFIX,
  chainKey,
  compare,
  type File,
  type NetworkState,
  portKey,
  type Route,
  type TableName,
} from '../network/state.ts';
import { canShrink } from '../network/step.ts';
import { readForeign, readLost, readNeighbours, readNexthops } from './foreign.ts';
import { readHearing, readOwnSettings } from './hearing.ts';
import type { Host } from './host.ts';
import { fitting, owned as ownedShape } from './kept-shapes.ts';
import { NICS_ASKED } from './known/early.ts';
import type { Asked } from './networkmanager.ts';
import { readOvs } from './ovs.ts';
import { bootOf } from './pending.ts';
import { claimOn, readAllProfiles, splitFiles } from './profile-files.ts';
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
  // What takes longest first: the start of each command holds up the next.
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
type NftHolds = { held: Map<string, string>; handles: Map<string, number[]> };

const NOTHING_MORE: NftHolds = { held: new Map(), handles: new Map() };

async function completed(host: Host, rules: string, orJumps = false): Promise<{ rules: string } & NftHolds> {
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

const withKnown = ({ ours, hooks }: SavedRules, { held, handles }: NftHolds): SavedRules => ({
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
  // An older record has what a key is without.
  const moved = new Set(machine.owned.moved.map((key) => key.replace(/ pref medium\b/, '')));
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
