// What was read of the machine → what of it is ours or under our rule: bridges and ports, addresses, and routes that are too many
// or too few. Pure.

import { formatNetwork, hostPart, parseCidr } from '../base/ipv4.ts';
import { type BridgeView, bridgesOf, isSilent, ovsBridges, portsOf } from './bridges.ts';
import { isLeased } from './foreign.ts';
import type { BoundNic } from './nics.ts';
import type { ObservedAddress, ObservedSubnetRoute } from './observation.ts';
import {
  type Address,
  addressKey,
  type Bridge,
  bridgeKey,
  compare,
  type NetworkState,
  type Port,
  portKey,
  type SubnetRoute,
} from './state.ts';

/** What is on the machine, and what of it is ours as recorded. */
type MachineView = BridgeView & {
  addresses: readonly ObservedAddress[];
  subnetRoutes: readonly ObservedSubnetRoute[];
  ownedBridges: readonly Bridge[];
  ownedPorts: readonly Port[];
};

type Bridged = Pick<NetworkState, 'bridges' | 'ports'> & { formerPorts: Port[]; emptied: Set<string> };

/** Bridges and ports that are wanted, or ours as recorded. */
export function observeBridges(
  { links, ovs, addresses, ownedBridges, ownedPorts }: Omit<MachineView, 'subnetRoutes'>,
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
export function isMoving(
  { addresses }: Pick<MachineView, 'addresses'>,
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
export function portRoutes(
  { addresses, subnetRoutes }: Pick<MachineView, 'addresses' | 'subnetRoutes'>,
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
export function cutOff(
  { addresses, links, subnetRoutes }: Pick<MachineView, 'addresses' | 'links' | 'subnetRoutes'>,
  wanted: readonly Address[],
): SubnetRoute[] {
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
export function ruledBy(bound: readonly BoundNic[], ports: readonly Port[]): Map<string, 'all' | 'its own'> {
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
export function underOurRule(
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
