// What is wrong between elastic IPs, port forwards, source NAT, and the NICs and VMs they are for.

import { contains, formatNetwork, ipv4, withinAny } from '../base/ipv4.ts';
import type { Eip, Forward, Snat } from './config.ts';
import {
  byAddress,
  type Draft,
  destOf,
  type Entry,
  type Fault,
  issue,
  named,
  overlaps,
  own,
  type Rule,
  repeats,
  reservedIn,
  usedBefore,
} from './draft.ts';
import type { ListName } from './schema.ts';

export const NAT_RULES: readonly Rule[] = [
  { severity: 'errors', find: eipTwice },
  { severity: 'errors', find: eipIsNicAddress },
  { severity: 'errors', find: outerAddressIsOtherNic },
  { severity: 'errors', find: outerAddressIsGateway },
  { severity: 'warnings', find: outerAddressIsNoHost },
  { severity: 'warnings', find: outerAddressInSubnet },
  { severity: 'warnings', find: vmWithTwoEips },
  { severity: 'warnings', find: vmIsRouter },
  { severity: 'warnings', needsWhole: true, find: vmOutOfReach },
  { severity: 'errors', find: rangeImpossible },
  { severity: 'errors', find: forwardsOverlap },
  { severity: 'warnings', find: forwardOfMappedEip },
  { severity: 'errors', find: sourceTwice },
  { severity: 'warnings', needsWhole: true, find: listWithoutUplink },
];

function* eipTwice({ eips }: Draft) {
  for (const [eip, first] of repeats(eips, ({ eip }) => eip)) yield usedBefore(eip, 'eip', eip.value.eip, first);
}

function* eipIsNicAddress({ nics, eips }: Draft) {
  const owners = byAddress(nics);
  for (const eip of eips) {
    const owner = owners.get(eip.value.eip);
    if (owner !== undefined) yield usedBefore(eip, 'eip', eip.value.eip, owner, 'ipaddr');
  }
}

/** The uplink's own address may be forwarded from, and is what source NAT takes anyway. */
function* outerAddressIsOtherNic({ nics, forwards, snats }: Draft) {
  const owners = byAddress(nics);
  const uplink = nics.find((nic) => nic.value.gateway !== undefined);
  for (const { entry, key, address } of outerAddresses([], forwards, snats)) {
    const owner = owners.get(address);
    if (owner !== undefined && owner !== uplink) yield usedBefore(entry, key, address, owner, 'ipaddr');
  }
}

function* outerAddressIsGateway({ nics, eips, forwards, snats }: Draft) {
  const gateways = new Map(nics.map((nic) => [nic.value.gateway, nic]));
  for (const { entry, key, address } of outerAddresses(eips, forwards, snats)) {
    const nic = gateways.get(address);
    if (nic !== undefined) yield usedBefore(entry, key, address, nic, 'gateway');
  }
}

function* outerAddressIsNoHost({ nics, eips, forwards, snats }: Draft) {
  const uplinks = nics.filter((nic) => nic.value.gateway !== undefined);
  const reserved = new Map(
    uplinks.flatMap((nic) => [...reservedIn(own(nic.value))].map(([address, what]) => [address, { what, nic }])),
  );
  for (const { ipaddr } of nics.map((nic) => nic.value)) reserved.delete(ipaddr);
  for (const { entry, key, address } of outerAddresses(eips, forwards, snats)) {
    const found = reserved.get(address);
    if (found === undefined) continue;
    // Forwards share an address: it is said once.
    reserved.delete(address);
    const network = `${formatNetwork(own(found.nic.value))}, the network of ${named(found.nic.at())}`;
    yield issue(entry.at(key), `${address} is the ${found.what} address of ${network}: no neighbour will send to it`);
  }
}

function* outerAddressInSubnet({ nics, eips, forwards, snats }: Draft) {
  const subnets = nics.filter((nic) => nic.value.gateway === undefined);
  const isInside = withinAny(subnets.map((nic) => own(nic.value)));
  const said = new Set(byAddress(nics).keys());
  for (const { entry, key, address } of outerAddresses(eips, forwards, snats)) {
    if (!isInside(ipv4(address)) || said.has(address)) continue;
    said.add(address);
    const nic = subnets.find(({ value }) => contains(own(value), ipv4(address)));
    if (nic === undefined) continue;
    const where = `in the network of ${named(nic.at())}, a subnet`;
    yield issue(entry.at(key), `${address} is ${where}: it takes that address away from a VM there`);
  }
}

function* vmWithTwoEips({ eips }: Draft) {
  for (const [eip, first] of repeats(eips, ({ vmIp }) => vmIp)) {
    const { vmIp } = eip.value;
    yield issue(
      eip.at('vm-ip'),
      `${vmIp} has the EIP ${first.value.eip} of ${named(first.at())} already: both reach it, the first is its source address`,
    );
  }
}

function* vmIsRouter({ nics, eips, forwards }: Draft) {
  const owners = byAddress(nics);
  for (const entry of [...eips, ...forwards]) {
    const { vmIp } = entry.value;
    const owner = owners.get(vmIp);
    if (owner !== undefined)
      yield issue(entry.at('vm-ip'), `${vmIp} is the router's own address, ${named(owner.at('ipaddr'))}`);
  }
}

function* vmOutOfReach({ nics, eips, forwards, routes }: Draft) {
  const owners = byAddress(nics);
  const subnets = nics.filter((nic) => nic.value.gateway === undefined).map((nic) => own(nic.value));
  const reached = withinAny([...subnets, ...routes.map((route) => destOf(route.value))]);
  for (const entry of [...eips, ...forwards]) {
    const { vmIp } = entry.value;
    if (owners.has(vmIp) || reached(ipv4(vmIp))) continue;
    yield issue(entry.at('vm-ip'), `${vmIp} is in no subnet of if_list and behind no route of route_list`);
  }
}

function* rangeImpossible({ forwards }: Draft) {
  for (const forward of forwards) {
    const fault = faultOfRange(forward.value);
    if (fault !== undefined) yield issue(forward.at(fault.key), fault.message);
  }
}

export function faultOfRange({ port, endPort, vmPort }: Forward): Fault | undefined {
  if (endPort < port) return { key: 'end_port', message: `must not be less than port ${port}, is ${endPort}` };
  const last = vmPort + endPort - port;
  if (last <= 65535) return undefined;
  return { key: 'vm-port', message: `must leave room for the range: ${vmPort}..${last} ends past 65535` };
}

function* forwardsOverlap({ forwards }: Draft) {
  const groups = new Map<string, Entry<Forward>[]>();
  for (const forward of forwards) {
    const key = `${forward.value.protocol} ${forward.value.eip}`;
    const group = groups.get(key);
    if (group === undefined) groups.set(key, [forward]);
    else group.push(forward);
  }
  for (const group of groups.values()) {
    const spans = group.map((entry) => ({ entry, first: entry.value.port, last: entry.value.endPort }));
    for (const [forward, other] of overlaps(spans.filter(({ first, last }) => first <= last))) {
      const { eip, protocol } = forward.value;
      yield issue(
        forward.at('port'),
        `${protocol} ${portsOf(forward)} of ${eip} overlaps ${portsOf(other)} of ${named(other.at())}`,
      );
    }
  }
}

function* forwardOfMappedEip({ eips, forwards }: Draft) {
  const mapped = new Map(eips.map((eip) => [eip.value.eip, eip]));
  for (const forward of forwards) {
    const eip = mapped.get(forward.value.eip);
    if (eip === undefined) continue;
    yield issue(
      forward.at('eip'),
      `${eip.value.eip} is mapped 1:1 by ${named(eip.at())}, which wins: this forward has no effect`,
    );
  }
}

function* sourceTwice({ snats = [] }: Draft) {
  for (const [snat, first] of repeats(snats, ({ source }) => source))
    yield usedBefore(snat, 'source', snat.value.source, first);
}

function* listWithoutUplink({ nics, eips, forwards, snats = [], at }: Draft) {
  if (nics.some((nic) => nic.value.gateway !== undefined)) return;
  const lists = { eip_list: eips, port_forward_list: forwards, snat_list: snats };
  for (const [name, entries] of Object.entries(lists) as [ListName, readonly unknown[]][]) {
    if (entries.length > 0)
      yield issue(at(name), 'needs an uplink, a NIC with a gateway: without one it has no effect');
  }
}

function* outerAddresses(
  eips: readonly Entry<Eip>[],
  forwards: readonly Entry<Forward>[],
  snats: readonly Entry<Snat>[] = [],
) {
  for (const entry of [...eips, ...forwards]) yield { entry, key: 'eip', address: entry.value.eip };
  for (const entry of snats) {
    if (typeof entry.value.to === 'object') yield { entry, key: 'to', address: entry.value.to.address };
  }
}

function portsOf({ value: { port, endPort } }: Entry<Forward>): string {
  return port === endPort ? `${port}` : `${port}..${endPort}`;
}
