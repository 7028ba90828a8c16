// Config, packet → what happens to the first packet of such a connection, in words. Says in prose what nat.ts says in rules;
// foreign rules are not in the file, and so not in here. Pure.

import { type Config, type Nic, type Snat, uplinkOf } from '../config/config.ts';
import { contains, ipv4, networkOf, parseCidr } from './ipv4.ts';
import { elasticAddresses } from './nat.ts';

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
  /** One act each, in order. */
  lines: string[];
};

/** Where an address is, seen from the router. */
type Place =
  | { kind: 'router'; nic: Nic }
  | { kind: 'elastic' }
  | { kind: 'link'; nic: Nic }
  | { kind: 'behind'; nic: Nic; via: string; what: string }
  | { kind: 'nowhere' };

export function explain(config: Config, packet: Packet, nameOf: (nic: Nic) => string): Explanation {
  const { from, to, port } = packet;
  const uplink = uplinkOf(config);
  const sender = locate(config, from);
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
  const translated = uplink === undefined ? undefined : destinationNat(config, packet);
  if (translated !== undefined) lines.push(translated.line);
  const target = translated?.to ?? to;
  const there = locate(config, target);

  if (translated === undefined) {
    if (there.kind === 'router') {
      lines.push(
        `${to} is the router's own address on ${nameOf(there.nic)}: the router's services answer, as foreign INPUT rules let them`,
      );
      return end('router');
    }
    if (there.kind === 'elastic') return end(...closed(config, packet, lines));
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
  const source = sourceNat(config, packet, {
    byUplink: there.nic.mac === uplink?.mac,
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
  });
}

function whereFrom(from: string, place: Place, nameOf: (nic: Nic) => string): string {
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

function locate(config: Config, address: string): Place {
  const own = config.nics.find(({ ipaddr }) => ipaddr === address);
  if (own !== undefined) return { kind: 'router', nic: own };
  const uplink = uplinkOf(config);
  if (uplink !== undefined && elasticAddresses(config, uplink).includes(address)) return { kind: 'elastic' };
  const ways = [
    ...config.nics.map((nic) => ({
      network: networkOf(ipv4(nic.ipaddr), nic.prefix),
      place: { kind: 'link', nic } as const,
    })),
    ...config.routes.flatMap(({ dest, via }) => {
      const nic = nicTo(config, via);
      const network = parseCidr(dest);
      const place = { kind: 'behind', nic, via, what: `the gateway of ${dest} in route_list` } as const;
      return nic === undefined || network === undefined ? [] : [{ network, place: { ...place, nic } }];
    }),
  ].filter(({ network }) => contains(network, ipv4(address)));
  // The longest prefix decides; of equal ones the network of the NIC itself, which is first.
  const [best] = ways.sort((a, b) => b.network.prefix - a.network.prefix);
  if (best !== undefined) return best.place;
  if (uplink?.gateway === undefined) return { kind: 'nowhere' };
  return { kind: 'behind', nic: uplink, via: uplink.gateway, what: 'the gateway to the outside' };
}

const nicTo = (config: Config, address: string): Nic | undefined =>
  config.nics.find(({ ipaddr, prefix }) => contains(networkOf(ipv4(ipaddr), prefix), ipv4(address)));

function destinationNat(
  config: Config,
  { to, protocol, port }: Packet,
): { to: string; port?: number; line: string } | undefined {
  const mapped = config.eips.find(({ eip }) => eip === to);
  if (mapped !== undefined)
    return { to: mapped.vmIp, line: `${to} is the elastic IP of ${mapped.vmIp}: it goes there (eip_list)` };
  const forward = config.forwards.find(
    (each) =>
      each.eip === to && each.protocol === protocol && port !== undefined && each.port <= port && port <= each.endPort,
  );
  if (forward === undefined || port === undefined) return undefined;
  const arrival = forward.vmPort + port - forward.port;
  const line = `port ${port}/${protocol} of ${to} is forwarded: it goes to ${forward.vmIp}, port ${arrival} (port_forward_list)`;
  return { to: forward.vmIp, port: arrival, line };
}

/** An address that the uplink carries for others, where nothing is forwarded. */
function closed(config: Config, { to, protocol, port }: Packet, lines: string[]): [Explanation['fate']] {
  if (protocol === 'icmp') {
    lines.push(`${to} is an address of the uplink that belongs to no VM: the router itself answers ping`);
    return ['router'];
  }
  const forwarded = config.forwards.filter(({ eip }) => eip === to);
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

type Way = { byUplink: boolean; translated: boolean; local: boolean };

function sourceNat(
  config: Config,
  { from }: Packet,
  { byUplink, translated, local }: Way,
): { address: string; line: string } {
  const uplink = uplinkOf(config);
  const kept = { address: from, line: 'its source is kept' };
  if (uplink === undefined || (!byUplink && !translated)) return kept;
  const to = (address: string, why: string) => ({ address, line: `its source becomes ${address}: ${why}` });
  const own = config.eips.find(({ vmIp }) => vmIp === from);
  if (own !== undefined) return to(own.eip, `the elastic IP of ${from}`);
  if (byUplink) {
    const rule = narrowest(config, from);
    if (rule?.snat?.to === 'none')
      return { address: from, line: `its source is kept: snat_list says none for ${rule.source}` };
    if (rule?.snat !== undefined && typeof rule.snat.to === 'object')
      return to(rule.snat.to.address, `snat_list says so for ${rule.source}`);
    if (rule !== undefined)
      return to(
        uplink.ipaddr,
        rule.snat === undefined
          ? `the uplink's address, for the subnet ${rule.source}`
          : `the uplink's address: snat_list says masquerade for ${rule.source}`,
      );
  }
  if (!translated) return kept;
  if (local) return to(uplink.ipaddr, "the uplink's address, for what the router itself sends to an EIP");
  if (
    config.nics.some(
      (nic) => nic.gateway === undefined && contains(networkOf(ipv4(nic.ipaddr), nic.prefix), ipv4(from)),
    )
  )
    return to(uplink.ipaddr, "the uplink's address, so that the answer comes back through the router");
  return kept;
}

/** What holds for a source that leaves by the uplink: an entry of snat_list, or the default for its subnet. */
function narrowest(config: Config, from: string): { source: string; snat?: Snat } | undefined {
  const { snats } = config;
  const defaults =
    snats !== undefined && snats.length === 0 ? [] : config.nics.filter(({ gateway }) => gateway === undefined);
  const rules = [
    ...(snats ?? []).map((snat) => ({ network: parseCidr(snat.source), source: snat.source, snat })),
    ...defaults.map((nic) => {
      const network = networkOf(ipv4(nic.ipaddr), nic.prefix);
      return { network, source: `${nic.ipaddr}/${nic.prefix}` };
    }),
  ].filter(({ network }) => network !== undefined && contains(network, ipv4(from)));
  return rules.sort((a, b) => (b.network?.prefix ?? 0) - (a.network?.prefix ?? 0))[0];
}
