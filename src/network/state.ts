import type { Filter } from './filter.ts';
import type { Foreign } from './foreign.ts';
// The network state: one shape for what the configuration wants (desired) and for what the machine has (observed).
// Each thing has one key; every comparison goes through it.

/** A NIC on this machine. In a desired state only what the configuration wants of it is set. */
export type Link = { device: string; up?: boolean; mtu?: number };

/**
 * `spec` is what `ip address` takes: `192.0.2.1/24`, for a foreign point-to-point address `192.0.2.1 peer 192.0.2.2/32`.
 * `foreign`: found there, and not ours; `found`: in what words, where it is to come back.
 */
export type Address = { device: string; spec: string; foreign?: true; found?: Foreign };

/** A unicast route through a gateway, in the main table. `protocol` is what `ip route` prints; `source` where it names one. */
export type Route = {
  dest: string;
  via: string;
  device: string;
  metric: number;
  protocol: string;
  source?: string | undefined;
};

/** To the network of an address, which is on the link itself. `source` is that address. */
export type SubnetRoute = { dest: string; device: string; source: string };

/** A bridge that NICs are ports of. `mac`: the address that it is to be made with. */
export type Bridge = { name: string; type: BridgeType; mac?: string };

export type BridgeType = 'ovs' | 'linux';

/** A NIC that is a port of a bridge. */
export type Port = { device: string; bridge: string; type: BridgeType };

/** `key` is the path below /proc/sys, so that a dot in a device's name stays one: `net/ipv4/conf/eth0.5/rp_filter`. */
export type Sysctl = { key: string; value: string };

export type TableName = 'mangle' | 'filter' | 'nat';

/** One of our chains. Rules are in the form in which iptables-save prints them, without `-A NAME`. */
export type Chain = {
  table: TableName;
  name: string;
  rules: readonly string[];
  /** Whether the order of the rules means something. Where each packet matches one rule at most, it does not. */
  ordered: boolean;
  /** Desired: rules at its end while a change is made, until flows are cut. */
  meanwhile?: readonly string[];
  /** Observed: the foreign chain that leads to it. The kernel refuses to remove it then; it can be emptied. */
  heldBy?: string;
};

/** A rule in a built-in chain that leads into ours. */
export type Jump = {
  table: TableName;
  hook: string;
  rule: string;
  /** Where it has to stand. `anywhere`: put first when it is missing, left where it is otherwise. */
  place: 'first' | 'last' | 'anywhere';
};

/** What an engine makes of what the packet filter is to do, in its own words. Survives JSON. */
export type FilterParts = Pick<NetworkState, 'chains' | 'jumps'>;

/** A file that is ours, whole. `mode` in the low nine bits; `device` where it is a part of that NIC's profile. */
export type File = { path: string; content: string; mode: number; device?: string };

/** The NetworkManager profile that has to be active on a NIC, where NetworkManager manages it. */
export type Profile = { device: string; uuid: string };

export type NetworkState = {
  /** Desired by a configuration: what the chains and jumps are to do. What a machine has an engine reads. */
  filter?: Filter | undefined;
  sysctls: readonly Sysctl[];
  links: readonly Link[];
  bridges: readonly Bridge[];
  ports: readonly Port[];
  /** Devices that NetworkManager is to leave alone. */
  released: readonly string[];
  addresses: readonly Address[];
  routes: readonly Route[];
  chains: readonly Chain[];
  jumps: readonly Jump[];
  files: readonly File[];
  profiles: readonly Profile[];
};

export const emptyState: NetworkState = {
  sysctls: [],
  links: [],
  bridges: [],
  ports: [],
  released: [],
  addresses: [],
  routes: [],
  chains: [],
  jumps: [],
  files: [],
  profiles: [],
};

/** Marks our routes on the machine. Do not change: an upgrade would leave the old ones behind. */
export const ROUTE_PROTOCOL = '175';

/** Every chain of ours starts so, hyphen included. Do not change: an upgrade would leave the old ones behind. */
export const CHAIN_PREFIX = 'KYLIN-VR-';

/** The first words of every file of ours. Do not change: an upgrade would leave the old ones behind. */
export const FILE_MARK = '# Made by kylin-vr';

export const addressKey = (address: Address): string => `${address.device} ${address.spec}`;

export const routeKey = (route: Route): string =>
  `${route.dest} via ${route.via} dev ${route.device} metric ${route.metric} proto ${route.protocol}`;

export const bridgeKey = ({ type, name }: Bridge): string => `${type} ${name}`;

export const portKey = ({ device, bridge, type }: Port): string => `${device} ${type} ${bridge}`;

/** Where a route leads, and by which metric, whoever made it. */
export const routeTargetKey = (route: Route): string =>
  `${route.dest} via ${route.via} dev ${route.device} metric ${metricOf(route)}`;

/** NetworkManager adds 20000 to the metric of a default route as long as its own check of connectivity fails. */
export const metricOf = ({ dest, metric, protocol }: Route): number =>
  dest === 'default' && protocol === 'static' ? metric % 20_000 : metric;

/**
 * Who carries out what our profiles ask for: NetworkManager marks its routes as static, initscripts leave the mark that `ip` gives.
 * A route with a source is not of them: it goes with that address.
 */
export const isByProfile = ({ protocol, source }: Pick<Route, 'protocol' | 'source'>): boolean =>
  (protocol === 'static' || protocol === 'boot') && source === undefined;

/** By our mark, or because we asked for it, as recorded (routeTargetKey), and somebody carried it out. */
export const isOurRoute = (route: Route, recorded: ReadonlySet<string>): boolean =>
  route.protocol === ROUTE_PROTOCOL || (isByProfile(route) && recorded.has(routeTargetKey(route)));

export const chainKey = (chain: { table: TableName; name: string }): string => `${chain.table} ${chain.name}`;

export const jumpKey = (jump: { table: TableName; hook: string; rule: string }): string =>
  `${jump.table} ${jump.hook} ${jump.rule}`;

export const isOurFile = (content: string): boolean => content.startsWith(FILE_MARK);

export type Difference<T> = { missing: T[]; extra: T[]; common: { desired: T; observed: T }[] };

/** Compares two lists by key. Order of the results follows the lists. */
export function compare<T>(desired: readonly T[], observed: readonly T[], key: (item: T) => string): Difference<T> {
  const observedKeys = observed.map(key);
  const observedByKey = new Map(observed.map((item, n) => [observedKeys[n], item]));
  const desiredKeys = new Set<string | undefined>();
  const difference: Difference<T> = { missing: [], extra: [], common: [] };
  for (const item of desired) {
    const itemKey = key(item);
    desiredKeys.add(itemKey);
    const match = observedByKey.get(itemKey);
    if (match === undefined) difference.missing.push(item);
    else difference.common.push({ desired: item, observed: match });
  }
  difference.extra = observed.filter((_, n) => !desiredKeys.has(observedKeys[n]));
  return difference;
}

export const sameList = (a: readonly string[], b: readonly string[]): boolean =>
  a.length === b.length && a.every((item, index) => item === b[index]);
