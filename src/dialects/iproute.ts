// What `ip -json` prints → links, addresses, routes; steps → lines of `ip -batch`. Pure.

import { UnsupportedError } from '../base/errors.ts';
import { parseCidr } from '../base/ipv4.ts';
import {
  array,
  boolean,
  either,
  number,
  type Of,
  object,
  optional,
  type Shape,
  ShapeError,
  string,
} from '../base/shape.ts';
import type { Way } from '../network/flows.ts';
import type { Foreign } from '../network/foreign.ts';
import { linkOf, type StepBy } from '../network/kinds.ts';
import type { ObservedLink } from '../network/nics.ts';
import type { ObservedAddress, ObservedSubnetRoute } from '../network/observation.ts';
import type { Route } from '../network/state.ts';
import type { MoveStep } from '../network/step.ts';
import { foreignArguments, foreignLine, isWord } from './foreign.ts';
import { parsePrinted } from './json.ts';

const addressInfo = object({
  family: string,
  local: optional(string),
  address: optional(string),
  prefixlen: number,
  scope: string,
  dynamic: optional(boolean),
  noprefixroute: optional(boolean),
  protocol: optional(string),
});

const link = object({
  ifindex: optional(number),
  ifname: string,
  link_type: string,
  flags: array(string),
  mtu: number,
  address: optional(string),
  permaddr: optional(string),
  master: optional(string),
  linkinfo: optional(
    object({
      info_kind: optional(string),
      info_slave_kind: optional(string),
      info_slave_data: optional(object({ perm_hwaddr: optional(string), state: optional(either(string, number)) })),
    }),
  ),
  addr_info: optional(array(addressInfo)),
});

const route = object({
  dst: string,
  gateway: optional(string),
  dev: optional(string),
  protocol: optional(string),
  metric: optional(number),
  prefsrc: optional(string),
});

/** What `ip -json -b` prints → what `address show` prints and what `route show` does, each on a line. */
export function parseNics(text: string): { addresses: string; routes: string } {
  const [addresses, routes, ...more] = text.split(/\n(?=.)/);
  if (addresses === undefined || routes === undefined || more.length > 0)
    throw notUnderstood(new ShapeError(`is ${text.length} characters, and not two lines`));
  return { addresses, routes };
}

const groups = array(object({ ifname: optional(string), group: optional(string) }));

/** Of `ip -json address show`: the devices of each group of links. */
export function parseGroups(json: string): Map<string, string[]> {
  const found = new Map<string, string[]>();
  for (const { ifname = '', group = 'default' } of groups(JSON.parse(json)))
    found.set(group, [...(found.get(group) ?? []), ifname]);
  return found;
}

/** Reads `ip -json -details address show`. Addresses: IPv4 of global scope. Throws where it is not what ip prints. */
export function parseAddresses(json: string): { links: ObservedLink[]; addresses: ObservedAddress[] } {
  const links: ObservedLink[] = [];
  const addresses: ObservedAddress[] = [];
  // Where nothing matches, ip prints `[{}]` for lack of links, or nothing at all.
  for (const entry of parseList(json, link)) {
    const kind = entry.linkinfo?.info_kind;
    // Before Linux 5.6 only the bond knows the address that its port came with.
    const blocked = blockedAs(entry.linkinfo);
    const permanentMac = entry.permaddr ?? entry.linkinfo?.info_slave_data?.perm_hwaddr;
    links.push({
      device: entry.ifname,
      ...(entry.ifindex !== undefined && { index: entry.ifindex }),
      mac: (entry.address ?? '').toLowerCase(),
      ...(permanentMac !== undefined && { permanentMac: permanentMac.toLowerCase() }),
      ethernet: entry.link_type === 'ether',
      ...(kind !== undefined && { kind }),
      up: entry.flags.includes('UP'),
      ...(hasNoCarrier(entry.flags) && { noCarrier: true }),
      ...(entry.flags.includes('NOARP') && { noArp: true }),
      mtu: entry.mtu,
      ...(blocked !== undefined && { blocked }),
      ...(entry.flags.includes('PROMISC') && { promiscuous: true }),
      ...(entry.master !== undefined && { master: entry.master }),
    });
    for (const info of entry.addr_info ?? []) {
      if (info.family !== 'inet' || info.scope !== 'global' || info.local === undefined) continue;
      const peer = info.address === undefined ? '' : ` peer ${info.address}`;
      const spec = `${info.local}${peer}/${info.prefixlen}`;
      addresses.push({
        device: entry.ifname,
        spec,
        dynamic: info.dynamic ?? false,
        ...(info.noprefixroute && { noprefixroute: true }),
        ...(info.protocol !== undefined && { protocol: info.protocol }),
      });
    }
  }
  return { links, addresses };
}

/** Where links change often the kernel says NO-CARRIER up to a second late; LOWER_UP goes at once. */
const hasNoCarrier = (flags: readonly string[]): boolean =>
  flags.includes('NO-CARRIER') || (flags.includes('UP') && !flags.includes('LOWER_UP'));

/** Of a port of a Linux bridge; one whose link is down is disabled, and that is said of the link. */
function blockedAs(info: Of<typeof link>['linkinfo']): string | undefined {
  const state = info?.info_slave_kind === 'bridge' ? info.info_slave_data?.state : undefined;
  return typeof state === 'string' && /^(listening|learning|blocking)$/.test(state) ? state : undefined;
}

/**
 * Reads `ip -json -details route show table main`: the routes through one gateway, best first within a destination, and those to
 * networks on a link itself.
 */
export function parseRoutes(json: string): { routes: Route[]; subnetRoutes: ObservedSubnetRoute[] } {
  const routes: Route[] = [];
  const subnetRoutes: ObservedSubnetRoute[] = [];
  for (const { dst, gateway, dev: device, protocol = 'boot', metric = 0, prefsrc: source } of parseList(json, route)) {
    if (device === undefined) continue;
    const dest = withPrefix(dst);
    if (gateway === undefined) subnetRoutes.push({ device, dest, protocol });
    else routes.push({ dest, via: gateway, device, metric, protocol, ...(source !== undefined && { source }) });
  }
  return { routes, subnetRoutes };
}

/** Reads the same: where the kernel would send a packet. Of several hops, or none, there is no one device. */
export function parseWays(json: string): Way[] {
  return parseList(json, route).flatMap(({ dst, dev, metric = 0 }): Way[] => {
    const network = parseCidr(dst === 'default' ? '0.0.0.0/0' : withPrefix(dst));
    // An unreachable destination comes with its kind before it.
    return network === undefined ? [] : [{ network, metric, ...(dev !== undefined && { device: dev }) }];
  });
}

const withPrefix = (dest: string): string => (dest === 'default' || dest.includes('/') ? dest : `${dest}/32`);

const led = object({
  dst: string,
  type: optional(string),
  from: optional(string),
  dev: optional(string),
  iif: optional(string),
  gateway: optional(string),
});

/** Reads what `ip -json -batch` prints for several `route get … from … iif …`: of each that led somewhere, where to. */
export const parseLed = (text: string): Of<typeof led>[] => text.split('\n').flatMap((line) => parseList(line, led));

function parseList<T>(json: string, item: Shape<T>): T[] {
  const text = json.trim();
  if (text === '') return [];
  try {
    const list = parsePrinted(text);
    if (!Array.isArray(list)) throw new ShapeError('must be an array');
    return array(item)(list.filter((entry) => !isEmptyObject(entry)));
  } catch (cause) {
    throw notUnderstood(cause);
  }
}

function notUnderstood(cause: unknown): UnsupportedError {
  const words = cause instanceof Error ? cause.message : String(cause);
  const message = `ip printed something that is not understood (${words}): please report it, with ip -V`;
  return new UnsupportedError(message, { cause });
}

const isEmptyObject = (value: unknown): boolean =>
  typeof value === 'object' && value !== null && Object.keys(value).length === 0;

/** Of bridges: of Linux ones. */
export type IpStep = StepBy<'ip'>;

/**
 * The arguments of `ip` for what no line of `ip -batch` can say: the label of a foreign address may be anything, and so may the name of a
 * link, but for spaces, on which something of ours is.
 */
export function argumentsOf(step: IpStep): string[] | undefined {
  if (step.kind === 'move-foreign') return undefined;
  const found = step.kind === 'add-address' ? step.address.found : undefined;
  if (found !== undefined) return foreignLine(found) === undefined ? foreignArguments(found) : undefined;
  const device = linkOf(step);
  return device === undefined || isWord(device) ? undefined : batchLine(step).split(' ');
}

/** What is to be done in `ip -batch`, a line each. Additions may be repeated. */
export function batchLine(step: IpStep): string {
  switch (step.kind) {
    case 'set-link-up':
      return `link set dev ${step.device} up`;
    case 'set-link-down':
      return `link set dev ${step.device} down`;
    case 'set-mtu':
      return `link set dev ${step.device} mtu ${step.mtu}`;
    case 'add-bridge': {
      const { name, mac } = step.bridge;
      // Without STP and its delay a port forwards from the first packet on.
      return `link add name ${name}${mac === undefined ? '' : ` address ${mac}`} type bridge stp_state 0 forward_delay 0`;
    }
    case 'remove-bridge':
      return `link delete dev ${step.bridge.name}`;
    case 'add-port':
      return `link set dev ${step.port.device} master ${step.port.bridge}`;
    case 'remove-port':
      return `link set dev ${step.port.device} nomaster`;
    case 'remove-port-route':
      return `route delete ${step.dest} dev ${step.device} proto kernel`;
    case 'move-foreign':
      return step.way === undefined ? moveLines(step) : moveRouteLines(step.foreign, step.way);
    case 'add-address':
      return (
        (step.address.found && foreignLine(step.address.found)) ??
        `address replace ${step.address.spec} dev ${step.address.device}`
      );
    case 'remove-address':
      return `address delete ${step.address.spec} dev ${step.address.device}`;
    case 'add-route':
      // prepend: among routes of one metric the first is used; `replace` would overwrite a foreign one.
      return `route prepend ${routeWords(step.route)}`;
    case 'add-subnet-route':
      // append: another NIC may have a route to the same network, which `replace` would overwrite.
      return `route append ${step.route.dest} dev ${step.route.device} proto kernel scope link src ${step.route.source}`;
    case 'remove-route':
      return `route delete ${routeWords(step.route)}`;
  }
}

/** There before it is gone here, under the NIC's own words. */
function moveLines({ foreign, to, there: isThere, onlink }: Extract<IpStep, { kind: 'move-foreign' }>): string {
  const { kind, device, words } = foreign;
  const here = kind === 'address' ? words.split(' dev ', 1)[0] : routeStart(words);
  const there = routeStart(words).replace(` dev ${device}`, ` dev ${to}`);
  // Without -6 only the address tells `ip` the family, and `default` is none.
  if (kind === 'address') return `address replace ${there}\naddress delete ${here} dev ${device}`;
  const gone = `route delete ${inet6(here ?? '')}`;
  const far = onlink && !/ onlink\b/.test(there) ? ' onlink' : '';
  return isThere ? gone : `route append ${inet6(there)}${far}\n${gone}`;
}

/** One that is there already, from a run that was killed, the kernel does not take a second time. */
function moveRouteLines(foreign: Foreign, { there, isThere, endsByItself }: NonNullable<MoveStep['way']>): string {
  const come = isThere ? [] : [foreignArguments(there).join(' ')];
  // Its metrics are compared as well, and are not always taken as they are printed.
  const gone = endsByItself ? [] : [goneLine(foreign)];
  return [...come, ...gone]
    .map((line) => line.replace(/^(route \w+ (?:unicast )?)default\b/, '$10.0.0.0/0'))
    .join('\n');
}

function goneLine({ kind, words }: Foreign): string {
  if (kind !== 'neighbour') return `route delete ${words.replace(METRICS, '')}`;
  return `neighbour delete ${/^(?:proxy )?\S+/.exec(words)?.[0]} ${/ ?(dev \S+)/.exec(words)?.[1]}`;
}

const METRICS =
  / (?:mtu|advmss|window|rtt|rttvar|rto_min|ssthresh|cwnd|initcwnd|initrwnd|reordering|hoplimit|quickack|congctl|features)(?: lock)? \S+/g;

const routeStart = (words: string): string => words.replace(/^unicast /, '');

const inet6 = (route: string): string => route.replace(/^default\b/, '::/0');

function routeWords({ dest, via, device, metric, protocol }: Route): string {
  return `${dest} via ${via} dev ${device} proto ${protocol}${metric === 0 ? '' : ` metric ${metric}`}`;
}
