// The record of what is ours → what of it is where by now, whatever somebody has renamed or given another MAC. Pure.

import { type BridgeId, type BridgeView, bridgeIds, bridgesOf, isSilent, portsOf } from '../network/bridges.ts';
import type { Heard } from '../network/hearing.ts';
import { isNicOfAnyName, isSayable, type NicPlace, type ObservedLink, withoutLower } from '../network/nics.ts';
import {
  type Address,
  addressKey,
  type Bridge,
  type BridgeType,
  bridgeKey,
  type NetworkState,
  type Port,
  portKey,
  ROUTE_PROTOCOL,
  type Route,
  routeTargetKey,
} from '../network/state.ts';

/** `on`: the bridge that it is on then. */
export type RecordedPlace = NicPlace & { on?: string };

/** Without an id: of a version that recorded none, or about to be made. */
type KnownBridge = { name: string; type: BridgeType; id?: BridgeId };

/** What we put, or were about to put, on NICs. */
export type Owned = {
  addresses: (RecordedPlace & { spec: string })[];
  /** Without a metric: 0, or of a version that recorded none. */
  routes: (RecordedPlace & { dest: string; via: string; metric?: number })[];
  /** What a NIC's MTU was before the configuration named one: it has that again when it names none any more. */
  mtus: { mac: string; was: number }[];
  /** Bridges that were not there before us. `mac`: that they were made with. */
  bridges: (KnownBridge & { mac?: string })[];
  /** `id`: of the bridge. */
  ports: (NicPlace & { bridge: string; type: BridgeType; id?: BridgeId })[];
  /** What went to a bridge with a NIC, and does not tell by itself that it did: keys of movedKey. */
  moved: string[];
  heard: Heard[];
};

export const NOTHING_OWNED: Owned = {
  addresses: [],
  routes: [],
  mtus: [],
  bridges: [],
  ports: [],
  moved: [],
  heard: [],
};

/** What of the record is there, by the names of now, and can be named in commands. */
export type OwnedNow = {
  /** By addressKey. */
  ownedAddresses: ReadonlySet<string>;
  ownedBridges: readonly Bridge[];
  ownedPorts: readonly Port[];
};

/** A machine, with the record. */
type RecordedMachine = BridgeView & { owned: Owned };

export const ownedNow = (machine: RecordedMachine): OwnedNow => ({
  ownedAddresses: addressesOn(machine.owned.addresses, machine.links),
  ownedBridges: machine.owned.bridges.flatMap(bridgesAmong(machine)).filter(({ name }) => isSayable(name)),
  ownedPorts: machine.owned.ports.flatMap(portsAmong(machine)).filter(({ device }) => isSayable(device)),
});

/** In another boot links have other numbers, and bridges of Linux that are there were made by others. */
export function ofAnotherBoot(owned: Owned): Owned {
  const withoutIndex = <T extends { index?: number }>({ index: _, ...item }: T) => item;
  const stays = ({ type }: { type: BridgeType }) => type === 'ovs';
  return {
    ...owned,
    addresses: owned.addresses.map(withoutIndex),
    routes: owned.routes.map(withoutIndex),
    bridges: owned.bridges.filter(stays),
    ports: owned.ports.filter(stays).map(withoutIndex),
    // Such settings end with the boot.
    heard: [],
  };
}

/** NICs that hear no advertisements now, by the names of now. */
export const heardOn = ({ owned, links }: Pick<RecordedMachine, 'owned' | 'links'>) => {
  if (owned.heard.length === 0) return [];
  const devicesOf = placesAmong(links);
  return owned.heard.flatMap((item) =>
    devicesOf(item)
      .filter(isSayable)
      .map((device) => ({ ...item, device })),
  );
};

const addressesOn = (items: Owned['addresses'], links: readonly ObservedLink[]): Set<string> =>
  onDevices(items, links, ({ spec }, device) => addressKey({ device, spec }));

/** Keys of what is recorded, as far as what it is on is there, and commands can name it. */
export function onDevices<T extends RecordedPlace>(
  items: readonly T[],
  links: readonly ObservedLink[],
  keyOf: (item: T, device: string) => string,
): Set<string> {
  const devicesOf = placesAmong(links);
  const keys = new Set<string>();
  for (const item of items) for (const device of devicesOf(item)) if (isSayable(device)) keys.add(keyOf(item, device));
  return keys;
}

/**
 * The device that something recorded is on: of the link that was its NIC in this boot, whatever its MAC and name are by now; once that
 * is gone of the only one with the MAC, or, as others came with that, of the one that has the name. With a bridge all that is on it
 * goes; one of its name that comes then is another.
 */
function placesAmong(links: readonly ObservedLink[]): (place: RecordedPlace) => string[] {
  const nics = links.filter(isNicOfAnyName);
  const byIndex = new Map(nics.map(({ index, device }) => [index, device]));
  const byMac = devicesByMac(links);
  const names = new Map(links.map(({ index, device }) => [index, device]));
  const devicesOf = ({ mac, on, index, device }: RecordedPlace): string[] => {
    if (on !== undefined) {
      const bridge = index === undefined ? on : names.get(index);
      return bridge === undefined ? [] : [bridge];
    }
    const numbered = index === undefined ? undefined : byIndex.get(index);
    if (numbered !== undefined) return [numbered];
    const named = byMac.get(mac) ?? [];
    return named.length === 1 ? named : named.filter((name) => name === device);
  };
  // What is recorded one after the other is mostly on one NIC.
  let last: RecordedPlace | undefined;
  let found: string[] = [];
  return (place) => {
    const { mac, on, index, device } = place;
    if (last?.mac !== mac || last.on !== on || last.index !== index || last.device !== device) found = devicesOf(place);
    last = place;
    return found;
  };
}

/**
 * Of what is recorded that which is there still, though nobody wants it there: the record shrinks by what was seen to go, only. It
 * goes with its link. What has no number is of a version before that, or of another boot,
 * and may be on any NIC once its own is not there; nor is anything forgotten where several may be its NIC.
 */
export function stillThere(
  machine: RecordedMachine & { addresses: readonly Address[]; routes: readonly Route[] },
  wanted: Pick<NetworkState, 'addresses' | 'routes'>,
): Pick<Owned, 'addresses' | 'routes'> {
  const { links, owned } = machine;
  const devicesOf = placesAmong(links);
  const byMac = devicesByMac(links);
  const nics = links.filter(isNicOfAnyName).map(({ device }) => device);
  const left = <T extends RecordedPlace>(items: readonly T[], isLeft: (item: T, device: string) => boolean) =>
    items.filter((item) => {
      const places = devicesOf(item);
      const unknown = places.length === 0 && item.on === undefined && (item.index === undefined || byMac.has(item.mac));
      return (unknown ? nics : places).some((device) => isLeft(item, device));
    });
  const [specsThere, specsWanted] = [specsByDevice(machine.addresses), specsByDevice(wanted.addresses)];
  const recorded = new Set(owned.routes.map(({ dest }) => dest));
  const routesThere = new Set(machine.routes.filter(({ dest }) => recorded.has(dest)).map(routeTargetKey));
  const routesWanted = new Set(wanted.routes.map(routeTargetKey));
  return {
    addresses: left(
      owned.addresses,
      ({ spec }, device) => has(specsThere, device, spec) && !has(specsWanted, device, spec),
    ),
    routes: left(owned.routes, (route, device) => {
      const key = recordedRouteKey(route, device);
      return routesThere.has(key) && !routesWanted.has(key);
    }),
  };
}

/** Keys of all would be made anew at each look. */
function specsByDevice(addresses: readonly Address[]): Map<string, Set<string>> {
  const found = new Map<string, Set<string>>();
  for (const { device, spec } of addresses) {
    const specs = found.get(device) ?? new Set();
    found.set(device, specs.add(spec));
  }
  return found;
}

const has = (specs: Map<string, Set<string>>, device: string, spec: string): boolean =>
  specs.get(device)?.has(spec) ?? false;

export const recordedRouteKey = ({ dest, via, metric = 0 }: Owned['routes'][number], device: string): string =>
  routeTargetKey({ dest, via, device, metric, protocol: ROUTE_PROTOCOL });

/**
 * What is on a NIC that the configuration names and that has another MAC now stays as it is: it may get its own again. As long as it is
 * a port, so does its bridge.
 */
export function withoutPending<M extends RecordedMachine & OwnedNow>(
  machine: M,
  pending: readonly { mac: string }[],
): M {
  const { links, owned } = machine;
  const macs = new Set(pending.map(({ mac }) => mac));
  const isIts = ({ mac }: { mac: string }) => macs.has(mac);
  if (!owned.addresses.some(isIts) && !owned.ports.some(isIts)) return machine;
  const devicesOf = placesAmong(links);
  const there = new Set(portsOf(machine).map(portKey));
  const ofNic = portsAmong(machine);
  const ports = owned.ports.filter((port) => isIts(port) && devicesOf(port).length > 0);
  const held = ports.flatMap((port) => ofNic(port).map((now) => ({ ...now, mac: port.mac })));
  const staying = held.filter((port) => there.has(portKey(port)));
  const onPort = new Set(staying.map(({ mac }) => mac));
  const stays = (place: RecordedPlace) => isIts(place) && (place.on === undefined || onPort.has(place.mac));
  const [portKeys, bridgeKeys] = [new Set(staying.map(portKey)), new Set(staying.map(bridgeKeyOf))];
  return {
    ...machine,
    ownedAddresses: addressesOn(
      owned.addresses.filter((place) => !stays(place)),
      links,
    ),
    ownedBridges: machine.ownedBridges.filter((bridge) => !bridgeKeys.has(bridgeKey(bridge))),
    ownedPorts: machine.ownedPorts.filter((port) => !portKeys.has(portKey(port))),
  };
}

const bridgeKeyOf = ({ bridge, type }: Port): string => bridgeKey({ name: bridge, type });

/**
 * Of the record what is there and is not to be touched: of NICs that are pending, or with a name that no command could be given. A bridge
 * that others use is theirs once the file names it no more; `named`: those that it names for NICs which are not there.
 */
export function leftAlone(
  machine: RecordedMachine & OwnedNow,
  named: readonly Bridge[],
): Pick<Owned, 'bridges' | 'ports'> {
  const { owned, ownedBridges, ownedPorts } = machine;
  const wanted = new Set(named.map(bridgeKey));
  const bridges = new Set(ownedBridges.map(bridgeKey).filter((key) => !wanted.has(key)));
  const ports = new Set(ownedPorts.map(portKey));
  const there = new Set(portsOf(machine).map(portKey));
  const [bridgeOf, portOf] = [bridgesAmong(machine), portsAmong(machine)];
  return {
    bridges: owned.bridges.filter((item) => bridgeOf(item).some((bridge) => !bridges.has(bridgeKey(bridge)))),
    ports: owned.ports.filter((item) =>
      portOf(item).some((port) => there.has(portKey(port)) && !ports.has(portKey(port))),
    ),
  };
}

/** The bridge that is recorded, by whatever name; none or one. */
function knownAmong(view: BridgeView): (known: KnownBridge) => Bridge[] {
  const ids = bridgeIds(view);
  const there = bridgesOf(view);
  return ({ name, type, id }) =>
    there.filter((bridge) => {
      const its = ids.get(bridgeKey(bridge));
      return bridge.type === type && (id === undefined || its === undefined ? bridge.name === name : its === id);
    });
}

/**
 * Those that we made. The kernel gives a number again where somebody asks for it, and in a container that boots again: whoever has it
 * then has nothing else of ours.
 */
function bridgesAmong(machine: RecordedMachine): (item: Owned['bridges'][number]) => Bridge[] {
  const knownOf = knownAmong(machine);
  const macs = new Map(machine.links.map(({ device, mac }) => [device, mac]));
  const there = new Set(portsOf(machine).map(portKey));
  const ours = machine.owned.ports.flatMap(portsAmong(machine)).filter((port) => there.has(portKey(port)));
  const ofOurs = new Set(ours.map(bridgeKeyOf));
  return (item) =>
    knownOf(item).filter(
      (bridge) =>
        bridge.type === 'ovs' ||
        bridge.name === item.name ||
        macs.get(bridge.name) === item.mac ||
        ofOurs.has(bridgeKey(bridge)),
    );
}

/** Open vSwitch knows a port by the name that its NIC had. What cannot be seen is as it was. */
function portsAmong({ links, ovs }: Pick<RecordedMachine, 'links' | 'ovs'>): (item: Owned['ports'][number]) => Port[] {
  const devicesOf = placesAmong(links);
  const knownOf = knownAmong({ links, ovs });
  return (item) => {
    const { bridge: name, type, id, device } = item;
    const isOvs = type === 'ovs';
    const known: KnownBridge[] =
      isOvs && (ovs === undefined || isSilent(ovs)) ? [{ name, type }] : knownOf({ name, type, ...(id && { id }) });
    const devices = new Set([...devicesOf(item), ...(isOvs && device !== undefined ? [device] : [])]);
    return known.flatMap((bridge) => [...devices].map((each): Port => ({ device: each, bridge: bridge.name, type })));
  };
}

/** With bridges that are about to be made anew: by their names until they are there. */
export function withComing(owned: Owned, coming: readonly Bridge[]): Owned {
  const keys = new Set(coming.map(bridgeKey));
  const names = new Set(coming.map(({ name }) => name));
  const onComing = <T extends RecordedPlace>(items: readonly T[]) =>
    items.flatMap(({ index: _, ...item }) => (item.on !== undefined && names.has(item.on) ? [item as T] : []));
  const unknown = <T extends { id?: BridgeId }>({ id: _, ...item }: T) => item;
  return {
    ...owned,
    addresses: [...owned.addresses, ...onComing(owned.addresses)],
    routes: [...owned.routes, ...onComing(owned.routes)],
    bridges: [...owned.bridges, ...owned.bridges.filter((item) => keys.has(bridgeKey(item))).map(unknown)],
    ports: [
      ...owned.ports,
      ...owned.ports.filter(({ bridge: name, type }) => keys.has(bridgeKey({ name, type }))).map(unknown),
    ],
  };
}

/** Bridges that were made anew, and what is on them, with the numbers that they have now. `machine`: with the record of withComing. */
export function renumbered(owned: Owned, machine: RecordedMachine & OwnedNow): Owned {
  const ids = bridgeIds(machine);
  const known = new Set(ids.values());
  const numbers = new Map(machine.links.map(({ index, device }) => [device, index]));
  const there = new Set(numbers.values());
  const place = <T extends RecordedPlace>(item: T, isOurs: (device: string) => boolean): T => {
    const { on, index } = item;
    const now = on === undefined ? undefined : numbers.get(on);
    const isGone = index === undefined || !there.has(index);
    return on !== undefined && now !== undefined && isGone && isOurs(on) ? { ...item, index: now } : item;
  };
  const ours = new Map(machine.ownedBridges.map((bridge) => [bridgeKey(bridge), ids.get(bridgeKey(bridge))]));
  const bridge = <T extends { id?: BridgeId }>(item: T, key: string): T => {
    const now = ours.get(key);
    return now !== undefined && (item.id === undefined || !known.has(item.id)) ? { ...item, id: now } : item;
  };
  return {
    ...owned,
    addresses: owned.addresses.map((item) =>
      place(item, (device) => machine.ownedAddresses.has(addressKey({ device, spec: item.spec }))),
    ),
    routes: owned.routes.map((item) => place(item, () => true)),
    bridges: owned.bridges.map((item) => bridge(item, bridgeKey(item))),
    ports: owned.ports.map((item) => bridge(item, bridgeKey({ name: item.bridge, type: item.type }))),
  };
}

/** The name that somebody gave to the link of a bridge, by that of the bridge. */
export function renamedLinks(
  { addresses }: Pick<Owned, 'addresses'>,
  links: readonly ObservedLink[],
): Map<string, string> {
  const names = new Map(
    links.flatMap(({ index, device, kind }) => (kind === 'bridge' ? [] : [[index, device] as const])),
  );
  return new Map(
    addresses.flatMap(({ on, index }) => {
      const device = on === undefined || index === undefined ? undefined : names.get(index);
      return on === undefined || device === undefined || device === on ? [] : [[on, device] as const];
    }),
  );
}

/** The devices of each NIC: a bridge often has the MAC of its port. More than one where others came with it. */
export function devicesByMac(links: readonly ObservedLink[]): Map<string, string[]> {
  const known = new Map<string, ObservedLink[]>();
  for (const link of links.filter(isNicOfAnyName)) {
    const mac = link.permanentMac ?? link.mac;
    known.set(mac, [...(known.get(mac) ?? []), link]);
  }
  return new Map([...known].map(([mac, all]) => [mac, withoutLower(all).map(({ device }) => device)]));
}
