// Asks the kernel, for `status`, what keeps packets from a router that is as its file says. Nothing is said of what cannot be asked.

import { AgentError } from '../base/errors.ts';
import { ShapeError } from '../base/shape.ts';
import type { Config } from '../config/config.ts';
import { parseForward, parseNftForward } from '../dialects/chains.ts';
import {
  type AroundChains,
  canStop,
  devicesOfChains,
  isBuiltIn,
  isDormant,
  isOfIptables,
  isOnDevices,
  type NftTable,
  parseNftChains,
  parseNftFilters,
  parseNftTables,
  parseSavedFilters,
  tablesInWords,
} from '../dialects/filters.ts';
import { parseGroups } from '../dialects/iproute.ts';
import { FIREWALLD_POLICY } from '../installation/tree.ts';
import { ipLinkOf, type NicBinding } from '../network/nics.ts';
import {
  arpObstacles,
  type ForeignFilter,
  filterObstacles,
  forwardObstacles,
  nicObstacles,
  spanOfHost,
  spansOf,
} from '../network/obstacles.ts';
import { type Probe, stopOf, type Walk } from '../network/walk.ts';
import type { Host } from './host.ts';
import type { Machine } from './observe.ts';

type Bound = { binding: NicBinding; machine: Machine };

export async function findObstacles(
  host: Host,
  config: Config,
  { binding, machine }: Bound,
  arpIgnore: string | undefined,
): Promise<string[]> {
  const { bound } = binding;
  if (bound.length === 0) return [];
  const { dormant, filters, walks } = await readBeside(host, machine);
  const policy = (await host.info(FIREWALLD_POLICY)) !== undefined;
  return [
    ...nicObstacles(bound, machine.links),
    ...arpObstacles(arpIgnore),
    ...dormant.map(asleep),
    ...forwardObstacles(bound, walks, policy),
    ...filterObstacles(spansOf(config), bound, [...parseSavedFilters(machine.printedRules), ...filters]),
  ];
}

/** What stops a packet of a new connection on its way through the router, from a NIC to another. */
export async function findStops(
  host: Host,
  { binding, machine }: Bound,
  probe: Probe,
  addresses: readonly string[],
): Promise<string[]> {
  const bound = binding.bound.filter((nic) => [probe.in, probe.out].includes(ipLinkOf(nic)));
  const { dormant, filters, walks } = await readBeside(host, machine);
  return [
    ...nicObstacles(bound, machine.links),
    ...arpObstacles(await host.sysctl('net/ipv4/conf/all/arp_ignore')),
    ...dormant.map(asleep),
    ...[parseForward(machine.printedRules), ...walks].flatMap((walk) => {
      const by = stopOf(walk, probe);
      return by === undefined ? [] : [`${walk.where} stops it: ${by}`];
    }),
    ...filterObstacles(addresses.map(spanOfHost), bound, [...parseSavedFilters(machine.printedRules), ...filters]),
  ];
}

const asleep = (name: string): string =>
  `the table ip ${name} is dormant, so nothing in it has an effect: nft add table ip ${name} wakes it`;

type Beside = { dormant: string[]; filters: ForeignFilter[]; walks: Walk[] };

/** What the kernel asks beside the tables of our iptables. */
async function readBeside(host: Host, machine: Machine): Promise<Beside> {
  const [nft, legacy] = await Promise.all([readNft(host, machine), readLegacy(host, machine)]);
  return { ...nft, filters: [...nft.filters, ...legacy.filters], walks: [...nft.walks, ...legacy.walks] };
}

const LEGACY = 'iptables-legacy';

/** Where ours are in nft. Tables that the kernel does not have are not asked for: that would load them. */
async function readLegacy(host: Host, { printedRules }: Machine): Promise<Omit<Beside, 'dormant'>> {
  const none = { filters: [], walks: [] };
  if (!printedRules.includes('(nf_tables)')) return none;
  if (!((await host.read('/proc/net/ip_tables_names')) ?? '').trim()) return none;
  if ((await host.which(`${LEGACY}-save`)) === undefined) return none;
  return orNothing(none, async () => {
    const { stdout } = await host.run([`${LEGACY}-save`]);
    const filters = parseSavedFilters(stdout).map((filter) => ({ ...filter, where: `${filter.where} of ${LEGACY}` }));
    return { filters, walks: [parseForward(stdout, LEGACY)] };
  });
}

/** Where nft has nothing to say it is not asked: that would load nf_tables. */
async function readNft(host: Host, { printedRules: rules, printedAddresses }: Machine): Promise<Beside> {
  const found: Beside = { dormant: [], filters: [], walks: [] };
  const isThere = rules.includes('(nf_tables)') || /^nf_tables /m.test((await host.read('/proc/modules')) ?? '');
  if (!isThere || (await host.which('nft')) === undefined) return found;
  const tables = await orNothing([], () => readTables(host));
  const known = tables.some(isOfIptables) ? await orNothing(undefined, () => knownChains(host, rules)) : undefined;
  const groups = await orNothing(new Map(), async () => parseGroups(printedAddresses));
  for (const table of tables) await orNothing(undefined, () => lookInto(host, table, { known, groups }, found));
  return found;
}

/** Somebody's table has just gone, or it is another nft. */
async function orNothing<T>(nothing: T, ask: () => Promise<T>): Promise<T> {
  try {
    return await ask();
  } catch (error) {
    if (!(error instanceof AgentError || error instanceof SyntaxError || error instanceof ShapeError)) throw error;
    return nothing;
  }
}

async function readTables(host: Host): Promise<NftTable[]> {
  try {
    return parseNftTables((await host.run(['nft', '-j', 'list', 'tables'])).stdout);
  } catch (error) {
    if (!(error instanceof SyntaxError)) throw error;
    return tablesInWords((await host.run(['nft', 'list', 'tables'])).stdout);
  }
}

/** Of the tables that iptables has in nft: which chains others have there, and what iptables-save has said. */
type KnownChains = {
  others: ReadonlySet<string>;
  isKnown: (table: string) => (...chain: [string, string, number]) => boolean;
};

async function knownChains(host: Host, rules: string): Promise<KnownChains> {
  const isRead = (table: string) => rules.includes('(nf_tables)') && rules.includes(`\n*${table}\n`);
  const isKnown = (table: string) => (name: string, hook: string, priority: number) =>
    isRead(table) && isBuiltIn({ table, name, hook, priority });
  const chains = parseNftChains((await host.run(['nft', '-j', 'list', 'chains'])).stdout);
  const others = chains.filter(
    ({ family, table, name, hook, priority = 0 }) =>
      hook !== undefined && isOfIptables({ family, name: table }) && !isKnown(table)(name, hook, priority),
  );
  return { others: new Set(others.map(({ table }) => table)), isKnown };
}

async function lookInto(
  host: Host,
  table: NftTable,
  { known, groups }: { known: KnownChains | undefined; groups: ReadonlyMap<string, readonly string[]> },
  found: Beside,
): Promise<void> {
  // Without the elements of named sets: a blocklist has a hundred thousand.
  const list = async (...options: string[]) =>
    (await host.run(['nft', ...options, '-t', 'list', 'table', table.family, table.name])).stdout;
  const shared = isOfIptables(table);
  const sleeps = table.flagged && isDormant(await list());
  if (shared && sleeps) found.dormant.push(table.name);
  if (sleeps || !canStop(table) || (shared && !known?.others.has(table.name))) return;
  const listing = await list('-j');
  const around: AroundChains = {
    groups,
    isKnown: shared ? known?.isKnown(table.name) : undefined,
    ...(isOnDevices(table) && listing.includes('gress"') && { devicesOf: devicesOfChains(await list()) }),
  };
  found.filters.push(...parseNftFilters(table, listing, around));
  if (table.family === 'ip' || table.family === 'inet') found.walks.push(...parseNftForward(table, listing, around));
}
