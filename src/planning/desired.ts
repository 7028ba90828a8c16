// Config and NICs of this machine → the network state that the configuration wants. Pure.

import { contains, ipv4, networkOf } from '../base/ipv4.ts';
import { type Config, uplinkOf } from '../config/config.ts';
import type { Abilities, Engine } from '../engines/engine.ts';
import { elasticAddresses } from '../network/elastic.ts';
import { type BoundNic, ipLinkOf, type NicBinding } from '../network/nics.ts';
import type { ProfileKeys } from '../network/profile-keys.ts';
import { profileUuid, type Renderer } from '../network/renderer.ts';
import {
  type Address,
  type Bridge,
  emptyState,
  type Link,
  type NetworkState,
  type Port,
  type Profile,
  ROUTE_PROTOCOL,
  type Route,
  type Sysctl,
} from '../network/state.ts';
import type { Ways } from '../network/translation.ts';
import { type Around, filterOf, translates } from '../network/wanted-filter.ts';

/** What makes the packet filter, what the machine can do, and what else is known of it. */
export type Surroundings = { engine: Engine; abilities: Abilities; around: Around };

/** Throws AgentError (65) where this machine cannot do what the configuration wants. */
export function desiredState(
  config: Config,
  binding: NicBinding,
  renderer: Renderer,
  { engine, abilities, around }: Surroundings,
  ways: Ways = 'today',
  /** What profiles say beside, by device. */
  keys: ReadonlyMap<string, ProfileKeys> = new Map(),
): NetworkState {
  const { bound } = binding;
  const ipLinks = bound.map(onIpLink);
  const filter = filterOf(config, ipLinks, uplinkAmong(ipLinks, config), ways, around);
  const { chains, jumps } = engine.build(filter, abilities);
  const addresses = desiredAddresses(config, bound);
  const routes = [...defaultRoutes(config, ipLinks), ...staticRoutes(config, ipLinks)];
  // A bridge and its port are brought up by us alone: no profile is for them.
  const alone = bound.filter(({ bridge, waitsFor }) => bridge === undefined && waitsFor === undefined);
  const released = bound.filter((nic) => !alone.includes(nic));
  const profiled = alone.filter(({ device }) => renderer.passesOver?.(device) === undefined);
  if (bound.length === 0) return { ...emptyState, filter, chains, jumps };
  return {
    sysctls: [
      ...sysctls(new Set([...bound, ...ipLinks].map(({ device }) => device))),
      ...(ways === 'today' && translates(filter) ? [LIBERAL] : []),
    ],
    links: [
      ...bound.map((nic): Link => ({ device: nic.device, up: true, ...(nic.mtu !== undefined && { mtu: nic.mtu }) })),
      ...bound.flatMap(({ bridge }): Link[] => (bridge === undefined ? [] : [{ device: bridge.name, up: true }])),
    ],
    bridges: bound.flatMap(({ bridge, mac }): Bridge[] => (bridge === undefined ? [] : [{ ...bridge, mac }])),
    ports: bound.flatMap(({ device, bridge }): Port[] =>
      bridge === undefined ? [] : [{ device, bridge: bridge.name, type: bridge.type }],
    ),
    released: [...new Set(released.flatMap((nic) => [nic.device, nic.waitsFor ?? ipLinkOf(nic)]))],
    addresses,
    routes,
    filter,
    chains,
    jumps,
    files: renderer.render({ nics: profiled, addresses, routes, keys }),
    profiles:
      renderer.name === 'none' ? [] : profiled.map(({ device, mac }): Profile => ({ device, uuid: profileUuid(mac) })),
  };
}

/** Each NIC as what its addresses are on. */
export const onIpLink = (nic: BoundNic): BoundNic => ({ ...nic, device: ipLinkOf(nic) });

function uplinkAmong(nics: readonly BoundNic[], config: Config): BoundNic | undefined {
  const mac = uplinkOf(config)?.mac;
  return nics.find((nic) => nic.mac === mac);
}

export function desiredAddresses(config: Config, bound: readonly BoundNic[]): Address[] {
  const uplink = uplinkAmong(bound, config);
  return bound.flatMap((nic) => addressesOf(onIpLink(nic), nic === uplink ? elasticAddresses(config, nic) : []));
}

function addressesOf(nic: BoundNic, elastic: readonly string[]): Address[] {
  const { device } = nic;
  return [`${nic.ipaddr}/${nic.prefix}`, ...elastic.map((address) => `${address}/32`)].map((spec) => ({
    device,
    spec,
  }));
}

/** Metric of the default route of the second uplink; those after it count on. */
const SECOND_UPLINK_METRIC = 1000;

function defaultRoutes(config: Config, bound: readonly BoundNic[]): Route[] {
  const uplinks = config.nics.filter((nic) => nic.gateway !== undefined).map(({ mac }) => mac);
  return bound.flatMap(({ mac, gateway, device }): Route[] => {
    if (gateway === undefined) return [];
    const rank = uplinks.indexOf(mac);
    const metric = rank === 0 ? 0 : SECOND_UPLINK_METRIC + rank - 1;
    return [{ dest: 'default', via: gateway, device, metric, protocol: ROUTE_PROTOCOL }];
  });
}

/** A route whose gateway is behind a pending NIC is pending with it. */
function staticRoutes(config: Config, bound: readonly BoundNic[]): Route[] {
  return config.routes.flatMap(({ dest, via }): Route[] => {
    const nic = bound.find(({ ipaddr, prefix }) => contains(networkOf(ipv4(ipaddr), prefix), ipv4(via)));
    if (nic === undefined) return [];
    return [
      { dest: dest === '0.0.0.0/0' ? 'default' : dest, via, device: nic.device, metric: 0, protocol: ROUTE_PROTOCOL },
    ];
  });
}

/** `default` is what NICs that come later start with. */
function sysctls(devices: ReadonlySet<string>): Sysctl[] {
  const perNic = ['default', ...devices].flatMap((name) =>
    NIC_SYSCTLS.map(([key, value]) => ({ key: `net/ipv4/conf/${name}/${key}`, value })),
  );
  return [
    { key: 'net/ipv4/ip_forward', value: '1' },
    // The kernel sends redirects where `all` or the NIC's own says so.
    { key: 'net/ipv4/conf/all/send_redirects', value: '0' },
    ...perNic,
  ];
}

/**
 * A segment out of its window is no INVALID one then, which NAT would leave alone, and which the router itself, to whose address it
 * goes, would answer by a reset: the end of a VM's connection (kubernetes#74839). Not by dropping what is INVALID there: the router's
 * own connections need the FIN and RST of a peer that conntrack has forgotten.
 */
const LIBERAL: Sysctl = { key: 'net/netfilter/nf_conntrack_tcp_be_liberal', value: '1' };

const NIC_SYSCTLS: readonly (readonly [string, string])[] = [
  ['forwarding', '1'],
  // Loose: strict drops what comes back by another NIC than the route to its sender.
  ['rp_filter', '2'],
  // Removing the first address of a network must not remove the later ones.
  ['promote_secondaries', '1'],
  // A VM that reaches another by its EIP must not be told the short way: only through the router it is translated.
  ['send_redirects', '0'],
  // ARP for, and with, the addresses of the NIC it goes out by only: subnets do not learn public addresses.
  ['arp_ignore', '1'],
  ['arp_announce', '2'],
  // Tell neighbours when the NIC comes up or its MAC changes.
  ['arp_notify', '1'],
];
