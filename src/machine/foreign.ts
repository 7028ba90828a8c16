// What is not ours on NICs of NetworkManager: read before it applies or forgets a profile there, and put back where it took
// that away. Reapply keeps it when a flag says so, but only from NetworkManager 1.42 on, and nmcli has no option for it; and
// no flag is there for activating and forgetting.

import {
  type Foreign,
  foreignKey,
  foreignLine,
  parseForeignAddresses,
  parseForeignRoutes,
} from '../dialects/foreign.ts';
import { array, boolean, number, object, optional, string } from '../shape.ts';
import type { Host } from './host.ts';
import { PATHS } from './paths.ts';

const FAMILIES = [4, 6] as const;
type Families = readonly Foreign['family'][];

type ReadOptions = {
  families?: Families;
  /** What `ip -json -details address show` printed, where that is known. */
  addresses?: string;
  /** What showRoutes gives for these families, where that is asked already. */
  routes?: Promise<string[]>;
  /** Addresses that are not looked for, by addressKey. */
  ours?: ReadonlySet<string>;
};

/** Every address and route of these devices. */
export async function readForeign(
  host: Host,
  devices: ReadonlySet<string>,
  { families = FAMILIES, addresses, routes, ours }: ReadOptions = {},
): Promise<Foreign[]> {
  if (devices.size === 0) return [];
  const only = families.length === 1 ? families.map((family) => `-${family}`) : [];
  const [printed, printedRoutes] = await Promise.all([
    addresses ?? host.run(['ip', ...only, '-json', '-details', 'address', 'show']).then(({ stdout }) => stdout),
    routes ?? showRoutes(host, families),
  ]);
  return [
    ...parseForeignAddresses(printed, devices, ours),
    ...families
      .flatMap((family, n) => parseForeignRoutes(printedRoutes[n] ?? '', family))
      .filter(({ device }) => devices.has(device)),
  ];
}

/** What `ip` prints of the routes of each family. */
export function showRoutes(host: Host, families: Families = FAMILIES): Promise<string[]> {
  return Promise.all(
    families.map(async (family) => {
      const argv = ['ip', `-${family}`, '-details', '-oneline', 'route', 'show', 'table', 'all'] as const;
      // Without IPv6 in the kernel ip fails, or says nothing.
      return (await host.run(argv, { accept: [1, 2, 255] })).stdout;
    }),
  );
}

/** Gives what the kernel does not take back. What is there is left as it is. */
export async function putBack(host: Host, foreign: readonly Foreign[]): Promise<Foreign[]> {
  let lost = await missing(host, foreign);
  for (const onlink of [false, true])
    for (const family of FAMILIES) {
      const lines = lost.filter((each) => each.family === family).map((each) => foreignLine(each, onlink));
      if (lines.length === 0) continue;
      // It goes on behind a line that fails, and ends 1.
      await host.run(['ip', `-${family}`, '-force', '-batch', '-'], { input: `${lines.join('\n')}\n`, accept: [1] });
      lost = await missing(host, lost);
    }
  return lost;
}

/** The kernel keeps no IPv4 route on a device without an IPv4 address: one that cannot be is not missing. */
async function missing(host: Host, foreign: readonly Foreign[]): Promise<Foreign[]> {
  if (foreign.length === 0) return [];
  const devices = new Set(foreign.map(({ device }) => device));
  // Often only the address that the kernel gives a NIC, of IPv6: to read 1,000 of IPv4 for that takes half of starting Node.
  const families = FAMILIES.filter((family) => foreign.some((each) => each.family === family));
  const there = await readForeign(host, devices, { families });
  const keys = new Set(there.map(foreignKey));
  const comes = foreign.filter((each) => !keys.has(foreignKey(each)));
  const rooted = new Set([...there, ...comes].flatMap((each) => (isIpv4Address(each) ? [each.device] : [])));
  return comes.filter((each) => each.family === 6 || each.kind === 'address' || rooted.has(each.device));
}

const isIpv4Address = ({ kind, family }: Foreign): boolean => kind === 'address' && family === 4;

const record = array(
  object({
    kind: string,
    family: number,
    device: string,
    words: string,
    global: optional(boolean),
    target: optional(string),
    protocol: optional(string),
  }),
);

/** What a run that was killed, or that NetworkManager left in the lurch, took upon itself to put back; and is not there. */
export async function readLost(host: Host): Promise<Foreign[]> {
  const recorded = await readRecord(host);
  if (recorded.length === 0) return [];
  const { stdout } = await host.run(['ip', '-json', '-details', 'address', 'show']);
  const devices = new Set((JSON.parse(stdout) as { ifname?: string }[]).map(({ ifname }) => ifname));
  return missing(
    host,
    recorded.filter(({ device }) => devices.has(device)),
  );
}

async function readRecord(host: Host): Promise<Foreign[]> {
  const text = await host.read(PATHS.foreign);
  try {
    if (text !== undefined) return record(JSON.parse(text)) as Foreign[];
  } catch {}
  return [];
}

/** Adds to the record. What is in it already is as it was before the first change. */
export async function recordForeign(host: Host, foreign: readonly Foreign[]): Promise<void> {
  const recorded = await readRecord(host);
  const known = new Set(recorded.map(foreignKey));
  const all = [...recorded, ...foreign.filter((each) => !known.has(foreignKey(each)))];
  if (all.length > recorded.length) await host.write(PATHS.foreign, `${JSON.stringify(all)}\n`, 0o600);
}

export async function forgetForeign(host: Host): Promise<void> {
  await host.remove(PATHS.foreign);
}
