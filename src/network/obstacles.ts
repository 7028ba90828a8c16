// What keeps packets from a router that is as its file says: for `status`. Only what stops all of a NIC or an address is one; a rule
// that asks for more, or that comes after one which lets something pass, is somebody's policy, and his to judge. Pure.

import { ipv4, lastOf, type Network, networkOf } from '../base/ipv4.ts';
import type { Config } from '../config/config.ts';
import { insideNetworks } from '../config/inside.ts';
import { type BoundNic, ipLinkOf, type ObservedLink } from './nics.ts';
import { mayStop, type Probe, stopOf, type Walk } from './walk.ts';

/** From one address to another. */
export type Span = { from: number; to: number };

/** A chain of others that the kernel asks, as far as it goes by devices and addresses. */
export type ForeignFilter = {
  where: string;
  drops: boolean;
  rules: readonly FilterRule[];
  /** `links`: it sees what NICs and bridges take in or send; `ports`: what bridges do. Undefined: what is routed, and ARP. */
  at?: 'links' | 'ports';
  /** It is asked for these alone. */
  devices?: readonly string[];
};

export type FilterRule = {
  /** In the words of the tool, or where to find it. */
  text: string;
  /** `stop`: dropped, rejected, or not tracked, so that it is not translated. `other`: it is not known what becomes of it. */
  verdict: 'stop' | 'go on' | 'other';
  /** It asks for more than devices and one address. */
  narrow: boolean;
  /** One of these; undefined: whatever. */
  devices?: readonly string[];
  addresses?: readonly Span[];
};

type OurSpans = { devices: ReadonlySet<string>; addresses: readonly Span[] };

/** What the file speaks of. */
export const spansOf = (config: Config): Span[] => [
  ...[...config.eips, ...config.forwards].map(({ eip }) => spanOfHost(eip)),
  ...insideNetworks(config).map(({ network }) => spanOf(network)),
];

export const spanOfHost = (address: string): Span => spanOf(networkOf(ipv4(address), 32));

export function filterObstacles(
  addresses: readonly Span[],
  bound: readonly BoundNic[],
  filters: readonly ForeignFilter[],
): string[] {
  const ipLinks = bound.map(ipLinkOf);
  const onBridges = bound.filter(({ bridge }) => bridge?.type === 'linux').map(({ device }) => device);
  const devices = {
    routed: new Set(ipLinks),
    links: new Set([...ipLinks, ...bound.map(({ device }) => device)]),
    ports: new Set(onBridges),
  };
  return filters.flatMap((filter) => {
    const what = stopIn(filter, { devices: devices[filter.at ?? 'routed'], addresses });
    return what === undefined ? [] : [`rules of others stop packets that are for us: ${filter.where}: ${what}`];
  });
}

/** Of chains of others, those that let nothing begin between some of our NICs. `policy`: firewalld was given ours. */
export function forwardObstacles(bound: readonly BoundNic[], walks: readonly Walk[], policy: boolean): string[] {
  const stopping = walks.filter(mayStop);
  const pairs = stopping.length === 0 ? [] : pairsOf(bound);
  return stopping.flatMap((walk) => {
    const stops = pairs.flatMap((pair) => {
      const [by, ...more] = pair.probes.map((probe) => stopOf(walk, probe));
      return by === undefined || more.includes(undefined) ? [] : [{ ...pair, by }];
    });
    const [first] = stops;
    if (first === undefined) return [];
    const whole = stops.length === pairs.length;
    const between = `between ${bound.map(ipLinkOf).join(', ')}`;
    const some = `from ${listed(stops.map(({ from, to }) => `${from} to ${to}`))}`;
    if (isOfFirewalld(walk))
      return [
        `firewalld is running and lets nothing be forwarded ${whole ? between : some} (${walk.where}: ${first.by}): ` +
          (policy
            ? 'firewall-cmd --reload takes up our policy'
            : 'kylin-vr install --firewalld makes a policy that does'),
      ];
    return [
      `a foreign rule in ${walk.where} blocks ${whole ? 'everything' : 'what begins'} (${first.by}): nothing is forwarded ${whole ? between : some}; ` +
        'let their traffic through before it, or take it away',
    ];
  });
}

/** From a NIC with a gateway comes what was translated. */
function pairsOf(bound: readonly BoundNic[]): { from: string; to: string; probes: Probe[] }[] {
  return bound.flatMap((entry) =>
    bound
      .filter((exit) => exit !== entry)
      .map((exit) => {
        const [from, to] = [ipLinkOf(entry), ipLinkOf(exit)];
        const translated = entry.gateway !== undefined;
        const probes = (['tcp', 'udp'] as const).map((protocol) => ({ in: from, out: to, protocol, translated }));
        return { from, to, probes };
      }),
  );
}

const MOST_LISTED = 4;

const listed = (items: readonly string[]): string =>
  items.length <= MOST_LISTED
    ? items.join(', ')
    : `${items.slice(0, MOST_LISTED).join(', ')} and ${items.length - MOST_LISTED} more`;

/** Its table, or the chains that it makes with iptables. */
const isOfFirewalld = ({ where, chains }: Walk): boolean =>
  / firewalld, chain /.test(where) || chains.has('FORWARD_direct');

export const spanOf = (network: Network): Span => ({ from: network.base, to: lastOf(network) });

function stopIn({ drops, rules, devices }: ForeignFilter, ours: OurSpans): string | undefined {
  if (ours.devices.size === 0 || devices?.some((device) => ours.devices.has(device)) === false) return undefined;
  for (const rule of rules) {
    if (rule.verdict === 'other') return undefined;
    if (rule.verdict === 'stop' && !rule.narrow && concerns(rule, ours)) return rule.text;
  }
  return drops ? 'its policy is drop, and no rule lets anything pass' : undefined;
}

const concerns = ({ devices, addresses }: FilterRule, ours: OurSpans): boolean =>
  (devices?.some((device) => ours.devices.has(device)) ?? true) &&
  (addresses?.some(({ from, to }) => ours.addresses.some((each) => from <= each.to && each.from <= to)) ?? true);

/** A NIC whose link answers nobody, or has no signal. */
export function nicObstacles(bound: readonly BoundNic[], links: readonly ObservedLink[]): string[] {
  const ipLinks = new Set(bound.map(ipLinkOf));
  const devices = new Set(bound.map(({ device }) => device));
  return links.flatMap(({ device, noArp, noCarrier }) => [
    ...(ipLinks.has(device) && noArp
      ? [`${device} answers no ARP, so nobody finds what is on it: turn that on with ip link set dev ${device} arp on`]
      : []),
    ...(devices.has(device) && noCarrier
      ? [`${device} has no carrier, so nothing comes or goes by it: see its cable, or virsh domif-getlink on the host`]
      : []),
  ]);
}

/** A value of arp_ignore. */
export const ANSWERS_NOBODY = '8';

/** Of `all` and a NIC's own, which is ours, the larger counts. Seen: with 2 EIPs are answered for all the same, in any network. */
export const arpObstacles = (ignore: string | undefined): string[] =>
  ignore === ANSWERS_NOBODY
    ? [
        'net.ipv4.conf.all.arp_ignore is 8: no NIC answers ARP, so nobody finds what is on them: sysctl -w net.ipv4.conf.all.arp_ignore=1',
      ]
    : [];
