// Config, packet → what happens to the first packet of such a connection, in words. Says in prose what filter.ts says in types;
// foreign rules are not in the file, and so not in here. Pure.

import { contains, formatNetwork, ipv4, type Network, networkOf, parseCidr } from '../base/ipv4.ts';
import { type Config, type Nic, uplinkOf } from '../config/config.ts';
import type { Filter } from './filter.ts';
import { sourceRuleFor } from './translation.ts';
import { filterOf } from './wanted-filter.ts';

/** `port` for tcp and udp. */
export type Packet = { from: string; to: string; protocol: 'tcp' | 'udp' | 'icmp'; port?: number };

export type Explanation = {
  /**
   * `delivered`: to a machine behind a NIC; `router`: to the router itself; `dropped`: closed; `direct`: it does not come to
   * the router; `no-route`: the router knows no way.
   */
  fate: 'delivered' | 'router' | 'dropped' | 'direct' | 'no-route';
  /** The destination that it has in the end, and the source that the machine there sees. */
  to: string;
  port?: number;
  source: string;
  /** MAC of the NIC that it comes in by, and leaves by. */
  enters?: string;
  leaves?: string;
  /** The gateway that it leaves to. */
  via?: string;
  /** One act each, in order. */
  lines: string[];
};

/** Where an address is, seen from the router. */
type Whereabouts =
  | { kind: 'router'; nic: Nic }
  | { kind: 'elastic' }
  | { kind: 'link'; nic: Nic }
  | { kind: 'behind'; nic: Nic; dest: string; via: string; what: string }
  | { kind: 'nowhere' };

/** Where a network is that a NIC or route_list leads to. */
export type WayInside = { network: Network; place: Extract<Whereabouts, { kind: 'link' | 'behind' }> };

export function explain(config: Config, packet: Packet, nameOf: (nic: Nic) => string): Explanation {
  const { from, to, port } = packet;
  const filter = filterWhole(config);
  const sender = locate(config, filter, from);
  const lines: string[] = [];
  const enters = 'nic' in sender && sender.kind !== 'router' ? sender.nic : undefined;
  const end = (fate: Explanation['fate'], rest: Partial<Explanation> = {}): Explanation => ({
    fate,
    to,
    ...(port !== undefined && { port }),
    source: from,
    ...(enters !== undefined && { enters: enters.mac }),
    lines,
    ...rest,
  });

  lines.push(whereFrom(from, sender, nameOf));
  if (sender.kind === 'nowhere') return end('no-route');
  const translated = destinationNat(filter, packet);
  if (translated !== undefined) lines.push(translated.line);
  const target = translated?.to ?? to;
  const there = locate(config, filter, target);

  if (translated === undefined) {
    if (there.kind === 'router') {
      lines.push(
        `${to} is the router's own address on ${nameOf(there.nic)}: the router's services answer, as foreign INPUT rules let them`,
      );
      return end('router');
    }
    if (there.kind === 'elastic') return end(...closed(filter, packet, lines));
    if (there.kind === 'link' && enters !== undefined && sender.kind === 'link' && enters.mac === there.nic.mac) {
      lines.push(`${to} is in the same network: the packet goes there directly and does not come to the router`);
      return end('direct');
    }
  }
  if (there.kind !== 'link' && there.kind !== 'behind') {
    lines.push(
      `${target}: ${there.kind === 'nowhere' ? 'the router has no route there' : 'that is the router itself'}`,
    );
    return end(there.kind === 'nowhere' ? 'no-route' : 'router', { to: target });
  }
  lines.push(
    `it leaves by ${nameOf(there.nic)} ${there.kind === 'link' ? `to ${target} itself` : `to ${there.via}, ${there.what}`}`,
  );
  const bar = translated === undefined ? barred(filter, { from, to: target }, enters, there.nic) : undefined;
  if (bar !== undefined) {
    lines.push(`dropped: ${bar}`);
    return end('dropped');
  }
  const source = sourceNat(filter, packet, {
    by: there.nic,
    translated: translated !== undefined,
    local: sender.kind === 'router' || sender.kind === 'elastic',
  });
  lines.push(source.line);
  lines.push(
    `${target} sees ${source.address}${source.address === from ? ', the sender itself' : ''}` +
      `${translated === undefined ? '' : `; the sender hears its answers from ${to}`}`,
  );
  const arrival = translated?.port ?? port;
  return end('delivered', {
    to: target,
    ...(arrival !== undefined && { port: arrival }),
    source: source.address,
    leaves: there.nic.mac,
    ...(there.kind === 'behind' && { via: there.via }),
  });
}

/** As it is where all NICs are there; each by its MAC. */
function filterWhole(config: Config): Filter {
  const bound = config.nics.map((nic) => ({ ...nic, device: nic.mac }));
  const uplink = bound.find(({ mac }) => mac === uplinkOf(config)?.mac);
  return filterOf(config, bound, uplink, 'today', { elsewhere: [], exposed: [] });
}

function whereFrom(from: string, place: Whereabouts, nameOf: (nic: Nic) => string): string {
  switch (place.kind) {
    case 'router':
      return `${from} is the router itself`;
    case 'elastic':
      return `${from} is an address of the router's uplink: the router itself sends`;
    case 'link':
      return `${from} is in the network of ${nameOf(place.nic)}: the packet comes in there`;
    case 'behind':
      return `${from} is behind ${place.via}, ${place.what}: the packet comes in by ${nameOf(place.nic)}`;
    case 'nowhere':
      return `${from}: the router has no route there, so that no answer would arrive`;
  }
}

function locate(config: Config, { guarded }: Filter, address: string): Whereabouts {
  const own = config.nics.find(({ ipaddr }) => ipaddr === address);
  if (own !== undefined) return { kind: 'router', nic: own };
  if (guarded.includes(address)) return { kind: 'elastic' };
  const best = waysInside(config).find(({ network }) => contains(network, ipv4(address)));
  if (best !== undefined) return best.place;
  const uplink = uplinkOf(config);
  if (uplink?.gateway === undefined) return { kind: 'nowhere' };
  return { kind: 'behind', nic: uplink, dest: 'default', via: uplink.gateway, what: 'the gateway to the outside' };
}

/** The first that holds an address decides: the longest prefix; of equal ones the network of the NIC itself. */
export function waysInside(config: Config): WayInside[] {
  const ways: WayInside[] = [
    ...config.nics.map(
      (nic): WayInside => ({
        network: networkOf(ipv4(nic.ipaddr), nic.prefix),
        place: { kind: 'link', nic },
      }),
    ),
    ...config.routes.flatMap(({ dest, via }): WayInside[] => {
      const nic = nicTo(config, via);
      const network = parseCidr(dest);
      if (nic === undefined || network === undefined) return [];
      return [{ network, place: { kind: 'behind', nic, dest, via, what: `the gateway of ${dest} in route_list` } }];
    }),
  ];
  return ways.sort((a, b) => b.network.prefix - a.network.prefix);
}

const nicTo = (config: Config, address: string): Nic | undefined =>
  config.nics.find(({ ipaddr, prefix }) => contains(networkOf(ipv4(ipaddr), prefix), ipv4(address)));

function destinationNat(
  filter: Filter,
  { to, protocol, port }: Packet,
): { to: string; port?: number; line: string } | undefined {
  const mapped = filter.eips.find(({ eip }) => eip === to);
  if (mapped !== undefined)
    return { to: mapped.vmIp, line: `${to} is the elastic IP of ${mapped.vmIp}: it goes there (eip_list)` };
  const forward = filter.forwards.find(
    (each) =>
      each.eip === to && each.protocol === protocol && port !== undefined && each.port <= port && port <= each.endPort,
  );
  if (forward === undefined || port === undefined) return undefined;
  const arrival = forward.vmPort + port - forward.port;
  const line = `port ${port}/${protocol} of ${to} is forwarded: it goes to ${forward.vmIp}, port ${arrival} (port_forward_list)`;
  return { to: forward.vmIp, port: arrival, line };
}

/** An address that the uplink carries for others, where nothing is forwarded. */
function closed(filter: Filter, { to, protocol, port }: Packet, lines: string[]): [Explanation['fate']] {
  if (protocol === 'icmp') {
    lines.push(`${to} is an address of the uplink that belongs to no VM: the router itself answers ping`);
    return ['router'];
  }
  const forwarded = filter.forwards.filter(({ eip }) => eip === to);
  const ports = forwarded.map(
    (each) => `${each.port}${each.endPort === each.port ? '' : `-${each.endPort}`}/${each.protocol}`,
  );
  const what =
    ports.length === 0
      ? 'is only a source address'
      : `forwards ${ports.slice(0, 8).join(', ')}${ports.length > 8 ? ', …' : ''}`;
  lines.push(`${to} ${what}; port ${port ?? '?'}/${protocol} is closed: dropped`);
  return ['dropped'];
}

/** `by`: the NIC that it leaves by. */
type WayOut = { by: Nic; translated: boolean; local: boolean };

function sourceNat(
  { uplink, ownSource, sources, networks }: Filter,
  { from }: Packet,
  { by, translated, local }: WayOut,
): { address: string; line: string } {
  const kept = { address: from, line: 'its source is kept' };
  const to = (address: string, why: string) => ({ address, line: `its source becomes ${address}: ${why}` });
  const own = ownSource.get(from);
  const isUplink = by.mac === uplink?.device;
  if (own !== undefined && uplink !== undefined && (isUplink || (translated && by.gateway === undefined)))
    return to(own, `the elastic IP of ${from}`);
  if (by.gateway !== undefined) {
    const rule = sourceRuleFor(sources, ipv4(from));
    if (rule === undefined) return kept;
    const network = formatNetwork(rule.network);
    if (rule.to === 'none') return { address: from, line: `its source is kept: snat_list says none for ${network}` };
    if (typeof rule.to === 'object') return to(rule.to.address, `snat_list says so for ${network}`);
    const whose = isUplink ? "the uplink's address" : 'the address of the NIC that it leaves by';
    return to(
      by.ipaddr,
      rule.to === 'uplink'
        ? `${whose}, for what is in ${network}`
        : `${whose}: snat_list says masquerade for ${network}`,
    );
  }
  if (!translated || uplink === undefined) return kept;
  if (local) return to(uplink.ipaddr, "the uplink's address, for what the router itself sends to an EIP");
  if (isOn(networks, from))
    return to(uplink.ipaddr, "the uplink's address, so that the answer comes back through the router");
  return kept;
}

const isOn = (networks: readonly Network[], address: string): boolean =>
  networks.some((network) => contains(network, ipv4(address)));

/** Why it goes nowhere though there is a way. */
function barred(
  { guard, networks }: Filter,
  { from, to }: { from: string; to: string },
  enters: Nic | undefined,
  leaves: Nic,
): string | undefined {
  if (enters?.gateway === undefined || guard === undefined) return undefined;
  if (enters.mac === leaves.mac) {
    const { between } = guard.bounce;
    const mayPass = isOn(between, from) || isOn(between, to) || isOn(guard.bounce.from, from);
    return mayPass ? undefined : 'it would leave by the uplink that it came in by';
  }
  if (guard.entering === 'forward') return undefined;
  return isOn(networks, to) || leaves.gateway !== undefined ? 'from-uplink says drop' : undefined;
}
