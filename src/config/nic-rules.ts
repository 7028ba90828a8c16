// What is wrong between NICs.

import { contains, formatNetwork, hostPart, ipv4, LEAST_OF_IPV6, lastOf } from '../base/ipv4.ts';
import type { Nic } from './config.ts';
import {
  type Draft,
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
import type { Place } from './issue.ts';

export const NIC_RULES: readonly Rule[] = [
  { severity: 'errors', find: macTwice },
  { severity: 'errors', find: nicAddressTwice },
  { severity: 'errors', find: bridgeTwice },
  { severity: 'errors', find: networksOverlap },
  { severity: 'errors', find: gatewayUnreachable },
  { severity: 'errors', find: keptIsOurs },
  { severity: 'warnings', find: nicAddressIsNoHost },
  { severity: 'warnings', find: furtherGateway },
  { severity: 'warnings', find: bridgeTypeAlone },
  { severity: 'warnings', find: mtuEndsIpv6 },
];

function* macTwice({ nics }: Draft) {
  for (const [nic, first] of repeats(nics, ({ mac }) => mac)) yield usedBefore(nic, 'mac', nic.value.mac, first);
}

function* nicAddressTwice({ nics }: Draft) {
  for (const [nic, first] of repeats(nics, ({ ipaddr }) => ipaddr))
    yield usedBefore(nic, 'ipaddr', nic.value.ipaddr, first);
}

function* bridgeTwice({ nics }: Draft) {
  const bridged = nics.filter((nic) => nic.value.bridge !== undefined);
  for (const [nic, first] of repeats(bridged, ({ bridge }) => bridge?.name)) {
    yield usedBefore(nic, 'bridge', nic.value.bridge?.name ?? '', first);
  }
}

function* networksOverlap({ nics }: Draft) {
  const spans = nics.map((nic) => ({ entry: nic, first: own(nic.value).base, last: lastOf(own(nic.value)) }));
  for (const [nic, other] of overlaps(spans)) {
    if (nic.value.ipaddr === other.value.ipaddr) continue;
    const [mine, its] = [nic, other].map(({ value }) => formatNetwork(own(value)));
    yield issue(nic.at('ipaddr'), `network ${mine} overlaps ${its} of ${named(other.at())}`);
  }
}

function* gatewayUnreachable({ nics }: Draft) {
  for (const nic of nics) {
    const fault = faultOfGateway(nic.value);
    if (fault !== undefined) yield issue(nic.at(fault.key), fault.message);
  }
}

export function faultOfGateway(nic: Nic): Fault | undefined {
  const { gateway, ipaddr } = nic;
  if (gateway === undefined) return undefined;
  const network = own(nic);
  if (gateway === ipaddr)
    return { key: 'gateway', message: `must be another machine, is ${gateway}, the NIC's own address` };
  if (contains(network, ipv4(gateway))) return undefined;
  return { key: 'gateway', message: `must be in the NIC's network ${formatNetwork(network)}, is ${gateway}` };
}

/** What is ours is not somebody else's. */
function* keptIsOurs({ nics, eips, forwards, snats }: Draft) {
  const ours = new Map<string, Place>();
  const add = (address: string, place: () => Place) => ours.has(address) || ours.set(address, place());
  if (nics.every(({ value }) => value.keepAddresses === undefined)) return;
  for (const nic of nics) add(nic.value.ipaddr, () => nic.at('ipaddr'));
  for (const entry of [...eips, ...forwards]) add(entry.value.eip, () => entry.at('eip'));
  for (const { value, at } of snats ?? []) if (typeof value.to === 'object') add(value.to.address, () => at('to'));
  for (const nic of nics) {
    for (const [index, kept] of (nic.value.keepAddresses ?? []).entries()) {
      const place = ours.get(hostPart(kept));
      if (place !== undefined)
        yield issue(
          nic.at('keep-addresses', index),
          `must be an address of others, is ${kept}, ours by ${named(place)}`,
        );
    }
  }
}

function* nicAddressIsNoHost({ nics }: Draft) {
  for (const nic of nics) {
    const network = own(nic.value);
    const { ipaddr } = nic.value;
    const what = reservedIn(network).get(ipaddr);
    if (what !== undefined)
      yield issue(nic.at('ipaddr'), `${ipaddr} is the ${what} address of ${formatNetwork(network)}`);
  }
}

function* furtherGateway({ nics }: Draft) {
  const [uplink, ...others] = nics.filter((nic) => nic.value.gateway !== undefined);
  for (const nic of others) {
    if (uplink === undefined) return;
    yield issue(
      nic.at('gateway'),
      `the uplink is ${named(uplink.at())}: the default route by ${nic.value.gateway} only stands in for its own`,
    );
  }
}

function* bridgeTypeAlone({ nics }: Draft) {
  for (const nic of nics) {
    if (nic.has('bridge-type') && !nic.has('bridge'))
      yield issue(nic.at('bridge-type'), 'means nothing without bridge');
  }
}

function* mtuEndsIpv6({ nics }: Draft) {
  for (const nic of nics) {
    const { mtu } = nic.value;
    if (mtu !== undefined && mtu < LEAST_OF_IPV6)
      yield issue(
        nic.at('mtu'),
        `below ${LEAST_OF_IPV6} the kernel takes IPv6 away from the NIC, with its addresses and routes, until it is larger again`,
      );
  }
}
