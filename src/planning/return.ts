// What a change found, and the machine as it is → what of it comes back where the change is taken back. Pure.

import { hostPart } from '../base/ipv4.ts';
import { parseForeignNeighbours, parseForeignRoutes } from '../dialects/foreign.ts';
import { type Foreign, foreignKey, foreignPlace, hopDevices } from '../network/foreign.ts';
import {
  type Address,
  addressKey,
  isOurRoute,
  type NetworkState,
  ROUTE_PROTOCOL,
  type Route,
} from '../network/state.ts';

export type Returning = {
  state: NetworkState;
  /** Keys of the same foreign addresses as in `state` on other devices, or with another prefix length. */
  stayed?: readonly string[];
};

/** Links and settings of the kernel as a change leaves them. */
export type Left = Pick<NetworkState, 'links' | 'sysctls'>;

/** What `ip` prints of routes of IPv4, by lines, and of neighbours that somebody entered, in JSON. */
export type Standing = { routes: readonly string[]; neighbours: string };

/** What is ours, as recorded: addressKey, routeTargetKey. */
type OursRecorded = { owned: ReadonlySet<string>; ownedRoutes: ReadonlySet<string> };

/** A state that is to come back. */
export function withStayed(state: NetworkState, there: readonly Address[], ours: OursRecorded): Returning {
  const hosts = new Set(state.addresses.flatMap(({ spec, foreign }) => (foreign ? [hostPart(spec)] : [])));
  const going = new Set(state.addresses.map(addressKey));
  const elsewhere = foreignAddresses(there, ours).filter(({ spec }) => hosts.has(hostPart(spec)));
  const stayed = elsewhere.map(addressKey).filter((key) => !going.has(key));
  return { state, stayed };
}

/**
 * Of what is foreign only what the change took away: what is there still is not our matter, and others may change it while the
 * change waits. Nor is an address that they have put on another device by now, or with another prefix length.
 */
export function toReturn<T extends Returning>(found: T, there: readonly Address[], ours: OursRecorded): T {
  const { state, stayed = [] } = found;
  const known = new Set([...stayed, ...state.addresses.map(addressKey)]);
  const foreign = foreignAddresses(there, ours);
  const now = new Set(foreign.map(addressKey));
  const moved = new Set(foreign.filter((address) => !known.has(addressKey(address))).map(({ spec }) => hostPart(spec)));
  const addresses = state.addresses.filter(
    (address) => !address.foreign || !(now.has(addressKey(address)) || moved.has(hostPart(address.spec))),
  );
  return { ...found, ...withStayed({ ...state, addresses }, there, ours) };
}

/**
 * Of MTUs and settings of the kernel what the change made other than it was, and is so still: the rest is as others have it.
 * `left`: unknown to a version before.
 */
export function settingsToReturn(state: NetworkState, left: Left | undefined, now: Left): NetworkState {
  if (left === undefined) return state;
  const [mtuLeft, mtuNow] = [left, now].map(({ links }) => new Map(links.map(({ device, mtu }) => [device, mtu])));
  const [valueLeft, valueNow] = [left, now].map(
    ({ sysctls }) => new Map(sysctls.map(({ key, value }) => [key, value])),
  );
  // A bridge that is made anew begins with other values.
  const there = new Set(now.links.map(({ device }) => device));
  const coming = state.bridges.filter(({ name }) => !there.has(name)).map(({ name }) => `net/ipv6/conf/${name}/`);
  const isOurs = <T>(was: T, made: T, is: T) => made !== undefined && made !== was && made === is;
  return {
    ...state,
    links: state.links.map(({ mtu, ...link }) =>
      isOurs(mtu, mtuLeft?.get(link.device), mtuNow?.get(link.device)) && mtu !== undefined ? { ...link, mtu } : link,
    ),
    sysctls: state.sysctls.filter(
      ({ key, value }) =>
        isOurs(value, valueLeft?.get(key), valueNow?.get(key)) || coming.some((of) => key.startsWith(of)),
    ),
  };
}

/**
 * What was there of others on these devices, or with a source of ours, and is not any more, nor anything else in its place. Of fifty
 * thousand routes nearly all are the same lines: only the others are read. `orMoved`: what is there by another device as well.
 */
export function goneSince(
  before: Standing,
  now: Standing,
  devices: readonly string[],
  ours: OursRecorded,
  orMoved = false,
): Foreign[] {
  const asked = new Set(devices);
  const went = [...parsed(without(before.routes, now.routes)), ...parseForeignNeighbours(before.neighbours, asked)];
  const came = [...parsed(without(now.routes, before.routes)), ...parseForeignNeighbours(now.neighbours, asked)];
  const known = new Set(went.map(foreignKey));
  const there = new Set(came.map(foreignKey));
  const moved = new Set(orMoved ? went.map(wayKey) : []);
  const isNew = (each: Foreign) => !known.has(foreignKey(each)) && !moved.has(wayKey(each));
  const news = came.filter((each) => isNew(each) && isForeign(each, ours));
  const replaced = new Set(news.map(foreignPlace));
  const sources = new Set([...ours.owned].map((key) => hostPart(key.slice(key.indexOf(' ') + 1))));
  const hasOurSource = ({ words }: Foreign) => sources.has(/ src (\S+)/.exec(words)?.[1] ?? '');
  return went.filter(
    (each) =>
      (hopDevices(each).some((device) => asked.has(device)) || hasOurSource(each)) &&
      isForeign(each, ours) &&
      !there.has(foreignKey(each)) &&
      !replaced.has(foreignPlace(each)),
  );
}

/** The same for a route and for that by another device. */
export const wayKey = (foreign: Foreign): string => withoutDevices(foreignKey(foreign));

export const withoutDevices = (key: string): string => key.replace(/ dev \S+/g, '');

function without(lines: readonly string[], others: readonly string[]): string[] {
  if (lines.length === others.length && lines.every((line, n) => line === others[n])) return [];
  const known = new Set(others);
  return lines.filter((line) => !known.has(line));
}

const parsed = (lines: readonly string[]): Foreign[] => parseForeignRoutes(lines.join('\n'), 4);

export const ourRoutes = (routes: readonly Route[], { ownedRoutes }: Pick<OursRecorded, 'ownedRoutes'>): Route[] =>
  routes.filter((route) => isOurRoute(route, ownedRoutes));

const isForeign = (each: Foreign, { ownedRoutes }: OursRecorded): boolean => {
  const { kind, protocol, target = '' } = each;
  return kind === 'neighbour' || !(ofTheKernel(each) || protocol === ROUTE_PROTOCOL || ownedRoutes.has(target));
};

/** They come and go with addresses. Some give theirs the kernel's name, but those lead by a gateway, or have no source. */
const ofTheKernel = ({ protocol, words }: Foreign): boolean =>
  protocol === 'kernel' && / src /.test(words) && !/ (via|table) /.test(words);

const foreignAddresses = (addresses: readonly Address[], { owned }: OursRecorded): Address[] =>
  addresses.filter((address) => !owned.has(addressKey(address)));
