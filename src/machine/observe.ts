// Host → what is on the machine, and, for one configuration, the Observation that planning compares with.
// Runs reading commands only, side by side.

import { basename, dirname, join } from 'node:path';
import type { Foreign } from '../dialects/foreign.ts';
import { ifcfgRenderer } from '../dialects/ifcfg.ts';
import { type ObservedAddress, parseAddresses, parseRoutes } from '../dialects/iproute.ts';
import { parseSave, type SavedRules } from '../dialects/iptables.ts';
import { keyfileRenderer } from '../dialects/keyfile.ts';
import type { Renderer } from '../dialects/renderer.ts';
import type { BoundNic, ObservedLink } from '../network/nics.ts';
import type { Claim, Observation, Stray } from '../network/observation.ts';
import {
  type Address,
  addressKey,
  type File,
  isOurFile,
  isOurJump,
  type Jump,
  type NetworkState,
  type Route,
  routeTargetKey,
  type TableName,
} from '../network/state.ts';
import { canShrink } from '../network/step.ts';
import { array, number, object, optional, string } from '../shape.ts';
import { readForeign, readLost } from './foreign.ts';
import { type Host, TEMPORARY_SUFFIX } from './host.ts';
import { PATHS } from './paths.ts';

/** What is on the machine, whatever the configuration. */
export type Machine = {
  links: ObservedLink[];
  addresses: ObservedAddress[];
  routes: Route[];
  rules: SavedRules;
  strays: Stray[];
  files: File[];
  owned: Owned;
  lost: Foreign[];
};

/** What we put, or were about to put, on NICs, each by its MAC. */
export type Owned = {
  addresses: { mac: string; spec: string }[];
  routes: { mac: string; dest: string; via: string }[];
  /** What a NIC's MTU was before the configuration named one: it has that again when it names none any more. */
  mtus: { mac: string; was: number }[];
};

const ownedRecord = object({
  addresses: array(object({ mac: string, spec: string })),
  routes: array(object({ mac: string, dest: string, via: string })),
  mtus: optional(array(object({ mac: string, was: number }))),
});

export async function readMachine(host: Host): Promise<Machine> {
  const save = async (table: TableName) => (await host.run(['iptables-save', '-t', table])).stdout;
  const [addresses, routes, filter, nat, strays, files, owned, lost] = await Promise.all([
    host.run(['ip', '-json', '-details', 'address', 'show']),
    host.run(['ip', '-json', '-4', 'route', 'show', 'table', 'main']),
    save('filter'),
    save('nat'),
    readStrays(host),
    readProfiles(host),
    readOwned(host),
    readLost(host),
  ]);
  return {
    ...parseAddresses(addresses.stdout),
    routes: parseRoutes(routes.stdout),
    rules: parseSave(filter + nat),
    strays,
    files,
    owned,
    lost,
  };
}

/** What is recorded as ours; nothing where the record is missing or is none (then addresses of NICs that left stay). */
async function readOwned(host: Host): Promise<Owned> {
  const text = await host.read(PATHS.owned);
  try {
    if (text !== undefined) {
      const { addresses, routes, mtus = [] } = ownedRecord(JSON.parse(text), PATHS.owned);
      return { addresses, routes, mtus };
    }
  } catch {}
  return { addresses: [], routes: [], mtus: [] };
}

async function readProfiles(host: Host): Promise<File[]> {
  return (await Promise.all([ifcfgRenderer, keyfileRenderer].map((renderer) => readFolder(host, renderer)))).flat();
}

async function readFolder(host: Host, renderer: Renderer): Promise<File[]> {
  const { folder } = renderer;
  if (folder === undefined) return [];
  const names = (await host.list(folder)).filter((name) => renderer.isProfile(name) || name.endsWith(TEMPORARY_SUFFIX));
  const files = await Promise.all(
    names.map(async (name): Promise<File[]> => {
      const path = join(folder, name);
      const [content, info] = await Promise.all([host.read(path), host.info(path)]);
      return content === undefined || info === undefined || info.directory ? [] : [{ path, content, mode: info.mode }];
    }),
  );
  return files.flat();
}

/**
 * Our chains in the backend that `iptables-restore` is not: left there when the guest's default was switched.
 * The legacy tables are looked at only where the kernel has them: asking for them would load them.
 */
async function readStrays(host: Host): Promise<Stray[]> {
  const restore = await host.which('iptables-restore');
  // Where it is missing, nothing tells which backend is not in use; what has to run it says so.
  if (restore === undefined) return [];
  const inUse = basename(restore);
  const other = inUse.includes('nft') ? 'iptables-legacy' : 'iptables-nft';
  if (other === 'iptables-legacy' && !((await host.read('/proc/net/ip_tables_names')) ?? '').trim()) return [];
  if ((await host.which(`${other}-save`)) === undefined) return [];
  const { stdout } = await host.run([`${other}-save`]);
  const { ours, hooks } = parseSave(stdout);
  const chains = ours.filter(canShrink);
  return chains.length === 0 ? [] : [{ restore: `${other}-restore`, chains, hooks }];
}

/** The machine as seen by a configuration whose NICs are `bound`: the state under our rule, and what planning must know. */
export async function observe(
  host: Host,
  machine: Machine,
  bound: readonly BoundNic[],
  desired: Pick<NetworkState, 'sysctls' | 'addresses' | 'files'>,
  renderer: Renderer,
  managers: Observation['managers'],
): Promise<Observation> {
  const deviceOf = new Map(machine.links.map(({ mac, permanentMac, device }) => [permanentMac ?? mac, device]));
  const onDevice = <T extends { mac: string }>(items: readonly T[], key: (item: T & { device: string }) => string) =>
    new Set(
      items.flatMap((item) => {
        const device = deviceOf.get(item.mac);
        return device === undefined ? [] : [key({ ...item, device })];
      }),
    );
  const owned = onDevice(machine.owned.addresses, addressKey);
  const devices = new Set(bound.map(({ device }) => device));
  const sysctls = await Promise.all(
    desired.sysctls.map(async ({ key }) => ({ key, value: (await host.sysctl(key)) ?? '' })),
  );
  const { ours, foreign } = splitFiles(machine.files);
  return {
    links: machine.links,
    state: {
      sysctls,
      links: machine.links
        .filter(({ device }) => devices.has(device))
        .map(({ device, up, mtu }) => ({ device, up, mtu })),
      addresses: underOurRule(machine.addresses, devices, owned, desired.addresses),
      routes: machine.routes,
      chains: machine.rules.ours,
      jumps: jumpsIn(machine.rules.hooks),
      files: ours,
      profiles: [...managers].flatMap(([device, { profile }]) =>
        profile === undefined ? [] : [{ device, uuid: profile }],
      ),
    },
    hooks: machine.rules.hooks,
    owned,
    ownedRoutes: onDevice(machine.owned.routes, routeTargetKey),
    managers,
    claims:
      renderer.name === 'none'
        ? []
        : (await Promise.all(foreign.map((file) => claimOn(host, bound, file, desired.files)))).flat(),
    strays: machine.strays,
    onManaged: await readForeign(host, new Set(managers.keys())),
    lost: machine.lost,
  };
}

/** A wanted address that a DHCP lease would take away again counts as missing, and as nothing that we remove. */
function underOurRule(
  addresses: readonly ObservedAddress[],
  devices: ReadonlySet<string>,
  owned: ReadonlySet<string>,
  desired: readonly Address[],
): Address[] {
  const wanted = new Set(desired.map(addressKey));
  return addresses
    .filter((address) => devices.has(address.device) || owned.has(addressKey(address)))
    .filter((address) => !(address.dynamic && wanted.has(addressKey(address))))
    .map(({ device, spec }) => ({ device, spec, ...(!owned.has(addressKey({ device, spec })) && { foreign: true }) }));
}

function jumpsIn(hooks: Observation['hooks']): Jump[] {
  return hooks.flatMap(({ table, hook, rules }) =>
    rules.flatMap((rule, index): Jump[] => {
      if (!isOurJump(rule)) return [];
      const place = index === 0 ? 'first' : index === rules.length - 1 ? 'last' : 'anywhere';
      return [{ table, hook, rule, place }];
    }),
  );
}

/** A temporary file of a killed run counts as ours. */
function splitFiles(files: readonly File[]): { ours: File[]; foreign: File[] } {
  const isOurs = ({ path, content }: File) => isOurFile(content) || path.endsWith(TEMPORARY_SUFFIX);
  return { ours: files.filter(isOurs), foreign: files.filter((file) => !isOurs(file)) };
}

/**
 * Foreign profiles of our NICs, and foreign files that stand where ours has to be. A stale keyfile would beat an ifcfg file
 * of ours, so every format is looked at.
 */
async function claimOn(host: Host, bound: readonly BoundNic[], file: File, desired: readonly File[]): Promise<Claim[]> {
  const reason = claimReason(bound, file, desired);
  if (reason === undefined) return [];
  return [{ ...file, to: await backupPath(host, basename(file.path), file.content), reason }];
}

/** One that another tool writes again and again is kept once; nothing that is kept is overwritten. */
async function backupPath(host: Host, name: string, content: string): Promise<string> {
  for (let number = 0; ; number++) {
    const path = join(PATHS.backup, number === 0 ? name : `${name}.${number}`);
    const kept = await host.read(path);
    if (kept === undefined || kept === content) return path;
  }
}

function claimReason(bound: readonly BoundNic[], file: File, desired: readonly File[]): string | undefined {
  const claim = [ifcfgRenderer, keyfileRenderer]
    .find(({ folder }) => folder === dirname(file.path))
    ?.claim(basename(file.path), file.content);
  const nic =
    claim && bound.find(({ mac, device }) => (claim.mac === undefined ? claim.device === device : claim.mac === mac));
  if (nic !== undefined) return `a foreign profile of ${nic.device}`;
  return desired.some(({ path }) => path === file.path) ? 'a foreign file where ours has to be' : undefined;
}
