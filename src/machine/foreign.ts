// What is not ours on NICs of NetworkManager: read before it applies or forgets a profile there, and put back where it took
// that away. Reapply keeps it when a flag says so, but only from NetworkManager 1.42 on, and nmcli has no option for it; and
// no flag is there for activating and forgetting.

import { AgentError } from '../base/errors.ts';
import { LEAST_OF_IPV6 } from '../base/ipv4.ts';
import { PATHS } from '../base/paths.ts';
import {
  foreignArguments,
  foreignLine,
  parseForeignAddresses,
  parseForeignNeighbours,
  parseForeignNexthops,
  parseForeignRoutes,
  withHops,
} from '../dialects/foreign.ts';
import { parsePrinted } from '../dialects/json.ts';
import { byNumbers } from '../dialects/route-numbers.ts';
import { type Foreign, foreignKey, foreignPlace, hopDevices } from '../network/foreign.ts';
import { ROUTE_PROTOCOL } from '../network/state.ts';
import type { Standing } from '../planning/return.ts';
import type { Host } from './host.ts';
import { fitting, lost as lostShape } from './kept-shapes.ts';

const FAMILIES = [4, 6] as const;
type Families = readonly Foreign['family'][];

type ForeignReading = {
  families?: Families;
  /** What `ip -json -details address show` printed, where that is known. */
  addresses?: string;
  /** What showRoutes gives for these families, where that is asked already. */
  routes?: Promise<string[]>;
  /** Addresses that are not looked for, by addressKey. */
  ours?: ReadonlySet<string>;
  /** With addresses that a neighbour has as well. */
  duplicates?: boolean;
};

/** Every address and route of these devices. */
export async function readForeign(
  host: Host,
  devices: ReadonlySet<string>,
  { families = FAMILIES, addresses, routes, ours, duplicates }: ForeignReading = {},
): Promise<Foreign[]> {
  if (devices.size === 0) return [];
  const only = families.length === 1 ? families.map((family) => `-${family}`) : [];
  const [printed, printedRoutes] = await Promise.all([
    addresses ?? host.run(['ip', ...only, '-json', '-details', 'address', 'show']).then(({ stdout }) => stdout),
    routes ?? showRoutes(host, families),
  ]);
  return [
    ...parseForeignAddresses(printed, devices, ours, duplicates),
    ...families
      .flatMap((family, n) => parseForeignRoutes(printedRoutes[n] ?? '', family))
      .filter((each) => hopDevices(each).some((device) => devices.has(device))),
  ];
}

/** What `ip` prints of the routes of each family. */
export function showRoutes(host: Host, families: Families = FAMILIES): Promise<string[]> {
  return Promise.all(
    families.map(async (family) => {
      const argv = ['ip', `-${family}`, '-details', '-oneline', 'route', 'show', 'table', 'all'] as const;
      // Without IPv6 in the kernel ip fails, or says nothing.
      return withHops((await host.run(argv, { accept: [1, 2, 255] })).stdout);
    }),
  );
}

/** Every object of a next hop by these devices; none where `ip` or the kernel knows of no such thing. */
export async function readNexthops(host: Host, devices: ReadonlySet<string>): Promise<Foreign[]> {
  const printed = await Promise.all(
    FAMILIES.map((family) =>
      host.run(['ip', `-${family}`, '-details', '-oneline', 'nexthop', 'show'], { accept: [1, 2, 255] }),
    ),
  );
  return FAMILIES.flatMap((family, n) => parseForeignNexthops(printed[n]?.stdout ?? '', family, devices));
}

/** Every neighbour that somebody entered on these devices: they go with the last address, and with a link that goes down. */
export async function readNeighbours(host: Host, devices: ReadonlySet<string>): Promise<Foreign[]> {
  return parseForeignNeighbours(await printNeighbours(host), devices);
}

async function printNeighbours(host: Host): Promise<string> {
  const input = 'neighbour show nud permanent nud noarp\nneighbour show proxy\n';
  return (await host.run(['ip', '-j', '-b', '-'], { input })).stdout;
}

/** Gives what the kernel does not take back. What is there is left as it is. */
export async function putBack(host: Host, foreign: readonly Lost[]): Promise<Foreign[]> {
  let lost = await missing(host, foreign);
  await withIpv6(host, lost);
  for (const onlink of [false, true])
    for (const family of FAMILIES) {
      const ofFamily = inOrder(lost.filter((each) => each.family === family));
      if (ofFamily.length === 0) continue;
      await put(host, ofFamily, onlink);
      lost = await missing(host, lost);
    }
  return lost;
}

/** A gateway is known by an address, or by a route that is on the link itself. */
function inOrder(foreign: readonly Lost[]): Lost[] {
  const rank = ({ kind, words }: Lost) => (kind !== 'route' ? 0 : / via /.test(words) ? 2 : 1);
  return [0, 1, 2].flatMap((wanted) => foreign.filter((each) => rank(each) === wanted));
}

/**
 * NetworkManager now and then leaves IPv6 switched off on a NIC that it activates (1.42, after another NIC had its MAC), whatever the
 * profile says. What was tried already stays away: it may be an operator who wants no IPv6 by now.
 */
async function withIpv6(host: Host, lost: readonly Lost[]): Promise<void> {
  const devices = new Set(
    lost.flatMap(({ family, device, beside }) => (family === 6 && beside === undefined ? [device] : [])),
  );
  for (const device of devices)
    if ((await host.sysctl(ipv6Switch(device))) === '1') await host.setSysctl(ipv6Switch(device), '0');
}

export const ipv6Switch = (device: string): string => `net/ipv6/conf/${device}/disable_ipv6`;

/** It goes on behind a line that the kernel refuses, and ends 1; but not behind one that ip itself does not understand. */
const REFUSED = 1;
const NOT_UNDERSTOOD = [2, 255];

/** All by one command; where it stops at a line, each half by its own: what can be put back is, whatever stands before it. */
async function put(host: Host, foreign: readonly Foreign[], onlink: boolean): Promise<void> {
  const [first] = foreign;
  if (first === undefined) return;
  const ip = ['ip', `-${first.family}`] as const;
  const lines = foreign.map((each) => {
    const line = foreignLine(each, onlink);
    return line && byNumbers(line);
  });
  if (!lines.includes(undefined)) {
    const input = `${lines.join('\n')}\n`;
    const { status } = await host.run([...ip, '-force', '-batch', '-'], {
      input,
      accept: [REFUSED, ...NOT_UNDERSTOOD],
    });
    if (!NOT_UNDERSTOOD.includes(status)) return;
  }
  if (foreign.length === 1) {
    await host.run([...ip, ...foreignArguments(first, onlink)], { accept: [REFUSED, ...NOT_UNDERSTOOD] });
    return;
  }
  const half = Math.ceil(foreign.length / 2);
  await put(host, foreign.slice(0, half), onlink);
  await put(host, foreign.slice(half), onlink);
}

/** The kernel keeps no IPv4 route on a device without an IPv4 address: one that cannot be is not missing. */
async function missing<T extends Foreign>(host: Host, foreign: readonly T[]): Promise<T[]> {
  if (foreign.length === 0) return [];
  const devices = new Set(foreign.map(({ device }) => device));
  // Often only the address that the kernel gives a NIC, of IPv6: to read 1,000 of IPv4 for that takes half of starting Node.
  const families = FAMILIES.filter((family) => foreign.some((each) => each.family === family));
  // One of IPv6 that a neighbour has got by now does not come back, however often it is asked for.
  const there = await readForeign(host, devices, { families, duplicates: true });
  if (foreign.some(({ kind }) => kind === 'neighbour')) there.push(...(await readNeighbours(host, devices)));
  const keys = new Set(there.map(foreignKey));
  const comes = foreign.filter((each) => !keys.has(foreignKey(each)));
  const rooted = new Set([...there, ...comes].flatMap((each) => (isIpv4Address(each) ? [each.device] : [])));
  return comes.filter(
    ({ kind, family, device }) => family === 6 || kind !== 'route' || device === '' || rooted.has(device),
  );
}

const isIpv4Address = ({ kind, family }: Foreign): boolean => kind === 'address' && family === 4;

/** `beside`: keys (foreignKey) of what was in its place when it could not be put back; undefined: it was not tried yet. */
export type Lost = Foreign & { beside?: string[] };

/** What a run that was killed, or that NetworkManager left in the lurch, took upon itself to put back; and is not there. */
export async function readLost(host: Host): Promise<Foreign[]> {
  const recorded = await readRecord(host);
  if (recorded.length === 0) return [];
  return stillMissing(host, recorded, await showLinks(host));
}

/** What others have put in the place of something that could not be put back is there instead. */
async function withoutReplaced(host: Host, lost: readonly Lost[]): Promise<Lost[]> {
  if (lost.every(({ beside }) => beside === undefined)) return [...lost];
  const there = await inPlaces(host, lost);
  return lost.filter(
    ({ beside, ...each }) =>
      beside === undefined || (there.get(foreignPlace(each)) ?? []).every((key) => beside.includes(key)),
  );
}

/** Keys of what is where these were, on whatever device; routes of ours stand beside others. */
async function inPlaces(host: Host, foreign: readonly Foreign[]): Promise<Map<string, string[]>> {
  const places = new Map(foreign.map((each) => [foreignPlace(each), [] as string[]]));
  const routes = await showRoutes(host);
  const there = [
    ...FAMILIES.flatMap((family, n) => parseForeignRoutes(routes[n] ?? '', family)),
    ...(await readNeighbours(host, new Set(foreign.map(({ device }) => device)))),
  ];
  for (const each of there)
    if (each.protocol !== ROUTE_PROTOCOL) places.get(foreignPlace(each))?.push(foreignKey(each));
  return places;
}

export async function showLinks(host: Host): Promise<{ device: string; mtu: number }[]> {
  const { stdout } = await host.run(['ip', '-json', 'link', 'show']);
  const links = parsePrinted(stdout.trim() || '[]') as { ifname?: string; mtu?: number }[];
  return links.map(({ ifname: device = '', mtu = LEAST_OF_IPV6 }) => ({ device, mtu }));
}

/** On them the kernel has no IPv6. */
export const smallLinks = async (host: Host): Promise<Set<string>> =>
  new Set((await showLinks(host)).flatMap(({ device, mtu }) => (mtu < LEAST_OF_IPV6 ? [device] : [])));

export async function readRecord(host: Host): Promise<Lost[]> {
  const text = await host.read(PATHS.foreign, { orNothing: true });
  return text === undefined ? [] : ((fitting(lostShape, text) ?? []) as Lost[]);
}

/** Adds to the record. What is in it already is as it was before the first change. */
export async function recordForeign(host: Host, foreign: readonly Foreign[]): Promise<void> {
  const recorded = await readRecord(host);
  const known = new Set(recorded.map(foreignKey));
  const all = [...recorded, ...foreign.filter((each) => !known.has(foreignKey(each)))];
  if (all.length > recorded.length) await host.write(PATHS.foreign, `${JSON.stringify(all)}\n`, 0o600);
}

/**
 * What stays on the record for the next run to try again: what could not be put back of `tried`, and of what was recorded before.
 * Gives what can never come again: its source is no address of ours any more, or its NIC has no IPv6, but for want of a larger MTU.
 */
export async function keepLost(host: Host, tried: readonly Foreign[], lost: readonly Foreign[]): Promise<Foreign[]> {
  const known = new Set(tried.map(foreignKey));
  const before = (await readRecord(host)).filter((each) => !known.has(foreignKey(each)));
  const all: Lost[] = [...(await missing(host, before)), ...lost];
  const orphans = all.length === 0 ? [] : await orphansOf(host, all);
  const kept = all.filter((each) => !orphans.includes(each));
  if (kept.length === 0) await forgetForeign(host);
  else await host.write(PATHS.foreign, `${JSON.stringify(await withBeside(host, kept))}\n`, 0o600);
  return orphans;
}

/** Of what is not there; who puts something in its place later has decided. */
export async function withBeside(host: Host, lost: readonly Lost[]): Promise<Lost[]> {
  if (lost.length === 0) return [];
  const there = await inPlaces(host, lost);
  return lost.map((each) => ({ ...each, beside: each.beside ?? there.get(foreignPlace(each)) ?? [] }));
}

/** Of fifty thousand routes, as a routing daemon has them, most are never looked into: see goneSince. */
export async function readStanding(host: Host): Promise<Standing> {
  const [[routes = ''], neighbours] = await Promise.all([showRoutes(host, [4]), printNeighbours(host)]);
  return { routes: routes.split('\n').filter((line) => !line.includes(' table local ')), neighbours };
}

/** `sameMain`: the routes of the table main are as they were; often there are no others. */
export async function readStandingAgain(host: Host, before: Standing, sameMain: boolean): Promise<Standing> {
  const isKnown = sameMain && before.routes.every((line) => line === '' || line.includes(' table main '));
  return isKnown ? { ...before, neighbours: await printNeighbours(host) } : readStanding(host);
}

/** Of what is not there, but for what others have put in its place; nor is any of it on a device that is not there. */
export async function stillMissing(
  host: Host,
  lost: readonly Lost[],
  links: readonly { device: string }[],
): Promise<Lost[]> {
  const devices = new Set(['', ...links.map(({ device }) => device)]);
  return withoutReplaced(
    host,
    await missing(
      host,
      lost.filter(({ device }) => devices.has(device)),
    ),
  );
}

async function orphansOf(host: Host, lost: readonly Foreign[]): Promise<Foreign[]> {
  const { stdout } = await host.run(['ip', '-4', '-oneline', 'address', 'show']);
  const addresses = new Set([...stdout.matchAll(/ inet ([\d.]+)/g)].map(([, address]) => address));
  const withoutIpv6 = new Set<string>();
  const small = lost.some(({ family }) => family === 6) ? await smallLinks(host) : new Set();
  for (const { family, device } of lost)
    if (family === 6 && !small.has(device) && (await host.sysctl(ipv6Switch(device))) !== '0') withoutIpv6.add(device);
  return lost.filter(({ kind, family, device, words }) => {
    const [, source] = / src (\S+)/.exec(words) ?? [];
    if (family === 6) return withoutIpv6.has(device);
    return kind === 'route' && source !== undefined && !addresses.has(source);
  });
}

/** Where it cannot go, what is on it is looked for once more by each run. */
export async function forgetForeign(host: Host): Promise<void> {
  await host.remove(PATHS.foreign).catch((error: unknown) => {
    if (!(error instanceof AgentError)) throw error;
  });
}
