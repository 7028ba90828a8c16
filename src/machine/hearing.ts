// What of advertisements links hear: the settings of the kernel, and the question to routers that brings the next one.

import { parsePrinted } from '../dialects/json.ts';
import {
  ACCEPTS,
  DISABLED,
  FORWARDS,
  hearers,
  hearing,
  hears,
  type Settings,
  settingKey,
  TAKEN_OVER,
} from '../network/hearing.ts';
import { type NicBinding, usedNics } from '../network/nics.ts';
import { bridgeKey, type Port, type Sysctl } from '../network/state.ts';
import type { Host } from './host.ts';
import { heardOn, type OwnedNow } from './recorded.ts';

type HearingRecord = Parameters<typeof heardOn>[0];

/** Of each link that is there. */
async function readSettings(host: Host, devices: ReadonlySet<string>): Promise<Map<string, Settings>> {
  const found = await Promise.all([...devices].map((device) => settingsOf(host, device, [...TAKEN_OVER, FORWARDS])));
  return new Map([...devices].map((device, n) => [device, found[n] ?? new Map()]));
}

async function settingsOf(host: Host, device: string, names: readonly string[]): Promise<Settings> {
  const values = await Promise.all(names.map((name) => host.sysctl(settingKey(device, name))));
  return new Map(
    names.flatMap((name, n): [string, string][] => {
      const value = values[n];
      return value === undefined ? [] : [[name, value]];
    }),
  );
}

/** What of IPv6 a bridge hears in its port's stead. Nothing is asked where there is no such bridge, nor was. */
export async function hearingOf(
  host: Host,
  machine: HearingRecord & Pick<OwnedNow, 'ownedBridges'>,
  binding: NicBinding,
): Promise<ReturnType<typeof hearing>> {
  const nics = usedNics(binding);
  const recorded = heardOn(machine);
  const links = new Set(machine.links.map(({ device }) => device));
  const asked = [...hearers(nics, recorded)].filter((device) => device === 'default' || links.has(device));
  if (asked.length === 0) return { sysctls: [], heard: [] };
  const settings = await readSettings(host, new Set(asked));
  const known = new Set(recorded.map(({ device }) => device));
  const isDeaf = (device: string) => !known.has(device) && !hears(settings.get(device) ?? new Map());
  const deaf = nics.flatMap(({ device, bridge }) => (bridge !== undefined && isDeaf(device) ? [device] : []));
  const numbers = new Map(machine.links.map(({ device, index }) => [device, index]));
  return hearing({
    nics,
    recorded,
    waiting: new Set([...binding.pending, ...binding.broken.map(({ nic }) => nic)].map(({ mac }) => mac)),
    settings,
    byProgram: await heardByPrograms(host, deaf),
    ours: new Set(machine.ownedBridges.map(bridgeKey)),
    placeOf: ({ mac, device }) => {
      const index = numbers.get(device);
      return { mac, device, ...(index !== undefined && { index }) };
    },
  });
}

/** Of these devices. Programs mark their routes as the kernel does. */
async function heardByPrograms(host: Host, devices: readonly string[]): Promise<Set<string>> {
  if (devices.length === 0) return new Set();
  const argv = ['ip', '-6', '-oneline', 'route', 'show', 'proto', 'ra'] as const;
  const { stdout } = await host.run(argv, { accept: REFUSED });
  return new Set(devices.filter((device) => stdout.includes(` dev ${device} `)));
}

/** Ports, and their bridges, where the one or the other hears, or the port did before it was one. */
export async function readHearing(
  host: Host,
  ports: readonly Port[],
  machine: HearingRecord,
  wanted: readonly Sysctl[],
): Promise<Set<string>> {
  const before = new Map(heardOn(machine).map(({ device, was, stead = was }) => [device, stead]));
  const willHear = (bridge: string) =>
    wanted.some(({ key, value }) => key === settingKey(bridge, ACCEPTS) && value === '2');
  const found = new Set<string>();
  for (const { device, bridge } of ports) {
    const [port, there] = await Promise.all(
      [device, bridge].map((each) => settingsOf(host, each, [DISABLED, ACCEPTS, FORWARDS])),
    );
    const was = before.get(device);
    const own = was === undefined ? port : new Map([...(port ?? []), [ACCEPTS, was]]);
    if ([own, there].some((settings) => settings && hears(settings)) || willHear(bridge)) found.add(device).add(bridge);
  }
  return found;
}

/** Of a bridge, where they are other than those that one begins with: for the way back to it. */
export async function readOwnSettings(host: Host, bridges: readonly string[]): Promise<Sysctl[]> {
  if (bridges.length === 0) return [];
  const settings = await readSettings(host, new Set([...bridges, 'default']));
  const first = settings.get('default');
  return bridges.flatMap((bridge) =>
    TAKEN_OVER.flatMap((name): Sysctl[] => {
      const value = settings.get(bridge)?.get(name);
      return value === undefined || value === first?.get(name) ? [] : [{ key: settingKey(bridge, name), value }];
    }),
  );
}

/**
 * With a token the kernel asks for the next advertisement, and nothing else makes it do so on a link that is up. `like`: the bridge makes
 * its address of the same one. Where nobody answers, the next one comes by itself.
 */
export async function askRouters(host: Host, { device, like }: { device: string; like?: string }): Promise<void> {
  const { stdout } = await host.run(['ip', '-json', 'token', 'list'], { accept: REFUSED });
  const tokens = parsePrinted(stdout.trim() || '[]') as { token?: string; ifname?: string }[];
  const of = (name: string | undefined) => tokens.find(({ ifname }) => ifname === name)?.token ?? NONE;
  const own = [of(device), of(like)].find((token) => token !== NONE);
  const lines = (own === undefined ? ['::1', NONE] : [own]).map((token) =>
    ['token', 'set', token, 'dev', device].join(' '),
  );
  await host.run(['ip', '-force', '-batch', '-'], { input: `${lines.join('\n')}\n`, accept: REFUSED });
}

const NONE = '::';
const REFUSED = [1, 2, 255];
