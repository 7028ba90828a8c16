// A laboratory with NetworkManager, and profiles for the router's uplink that are written by hand, not by the program: for
// tests of what NetworkManager does with them.

import assert from 'node:assert/strict';
import { once } from 'node:events';
import { createInterface } from 'node:readline';
import type { Readable } from 'node:stream';
import { setTimeout as sleep } from 'node:timers/promises';
import { createLab, type Lab, type LabOptions, NICS } from './lab.ts';
import type { RunResult } from './namespace.ts';
import { type NetworkManager, type NetworkManagerOptions, startNetworkManager } from './networkmanager.ts';

export type Profile = {
  name?: string;
  /** Needed by a keyfile; in an ifcfg file NetworkManager makes one from the path. */
  uuid?: string;
  mac?: string;
  /** The name of the device that the profile is for, beside the MAC. */
  device?: string;
  addresses?: readonly string[];
  gateway?: string | undefined;
  /** `DEST,VIA` or `DEST,VIA,METRIC`; keyfile only. */
  routes?: readonly string[];
  mtu?: number;
  dadTimeout?: number;
  priority?: number;
  /** ifcfg only: lines as they are. */
  lines?: readonly string[];
};

export const KEYFILES = '/etc/NetworkManager/system-connections';
export const IFCFGS = '/etc/sysconfig/network-scripts';
export const OURS = '11111111-1111-4111-8111-111111111111';
export const FOREIGN = '22222222-2222-4222-8222-222222222222';

export const OWN = '203.0.113.37/24';
export const EIP = '198.51.100.1/32';
const UPLINK = { mac: NICS.public.mac, gateway: '203.0.113.1', addresses: [OWN, EIP] } as const;

/** N addresses as EIPs are. */
export const eips = (count: number): string[] =>
  Array.from({ length: count }, (_, index) => `198.18.${index >> 8}.${index & 255}/32`);

/** For the uplink, with everything that is not said otherwise. */
export function keyfile(profile: Profile = {}): string {
  const {
    name = 'ours',
    uuid = OURS,
    mac,
    device,
    addresses,
    gateway,
    routes = [],
    mtu,
    dadTimeout,
    priority = 0,
  } = {
    ...UPLINK,
    ...profile,
  };
  const optional = (key: string, value: string | number | undefined) =>
    value === undefined ? [] : [`${key}=${value}`];
  return [
    '[connection]',
    `id=${name}`,
    `uuid=${uuid}`,
    'type=ethernet',
    `autoconnect-priority=${priority}`,
    ...optional('interface-name', device),
    '[ethernet]',
    `mac-address=${mac}`,
    ...optional('mtu', mtu),
    '[ipv4]',
    'method=manual',
    ...optional('dad-timeout', dadTimeout),
    ...optional('gateway', gateway),
    ...addresses.map((address, index) => `address${index + 1}=${address}`),
    ...routes.map((route, index) => `route${index + 1}=${route}`),
    '[ipv6]',
    'method=ignore',
    '',
  ].join('\n');
}

export function ifcfg(profile: Profile = {}): string {
  const { name = 'ours', uuid, mac, device, addresses, gateway, mtu, lines = [] } = { ...UPLINK, ...profile };
  return [
    'TYPE=Ethernet',
    `NAME=${name}`,
    ...(uuid === undefined ? [] : [`UUID=${uuid}`]),
    ...(device === undefined ? [] : [`DEVICE=${device}`]),
    `HWADDR=${mac}`,
    'ONBOOT=yes',
    'BOOTPROTO=none',
    'IPV6INIT=no',
    ...(gateway === undefined ? [] : [`GATEWAY=${gateway}`]),
    ...(mtu === undefined ? [] : [`MTU=${mtu}`]),
    ...addresses.flatMap((cidr, index) => {
      const [address, prefix] = cidr.split('/');
      return [`IPADDR${index || ''}=${address}`, `PREFIX${index || ''}=${prefix}`];
    }),
    ...lines,
    '',
  ].join('\n');
}

export type Bed = {
  lab: Lab;
  manager: NetworkManager;
  /** Runs in the router; what a shell would say. */
  sh(script: string): Promise<string>;
  nmcli(...args: string[]): Promise<RunResult>;
  /** Writes a profile with the right owner and mode, and makes it known. */
  load(path: string, text: string): Promise<RunResult>;
  /** `STATE CONNECTION UUID` of a device. */
  device(name?: string): Promise<string>;
  /** IPv4 addresses of a device in the kernel, in its order. */
  addresses(device?: string): Promise<string[]>;
  /** IPv4 routes of the main table. */
  routes(): Promise<string[]>;
};

const LAB: LabOptions = { networkScripts: true };

/** One laboratory for one test; it is gone when the test ends, however that was. */
export async function withNetworkManager(
  { manager: managerOptions = {}, ...labOptions }: LabOptions & { manager?: NetworkManagerOptions },
  test: (bed: Bed) => Promise<void>,
  before: (lab: Lab) => Promise<void> = async () => {},
): Promise<void> {
  const lab = await createLab({ ...LAB, ...labOptions });
  try {
    await before(lab);
    const manager = await startNetworkManager(lab.router, managerOptions);
    await test(bedOf(lab, manager));
  } finally {
    await lab.close();
  }
}

function bedOf(lab: Lab, manager: NetworkManager): Bed {
  const { router } = lab;
  const sh = async (script: string) => (await router.run(['sh', '-c', script], { check: true })).stdout;
  const nmcli = (...args: string[]) => router.run(['nmcli', ...args]);
  return {
    lab,
    manager,
    sh,
    nmcli,
    async load(path, text) {
      await router.write(path, text, path.startsWith(KEYFILES) ? 0o600 : 0o644);
      return nmcli('connection', 'load', path);
    },
    async device(name = NICS.public.device) {
      const { stdout } = await nmcli('--terse', '--fields', 'DEVICE,STATE,CONNECTION,CON-UUID', 'device');
      const line = stdout.split('\n').find((line) => line.startsWith(`${name}:`)) ?? '';
      return line.split(':').slice(1).join(' ').trim();
    },
    async addresses(device = NICS.public.device) {
      const { stdout } = await router.run(['ip', '-4', '-o', 'address', 'show', 'dev', device]);
      return [...stdout.matchAll(/ inet (\S+)/g)].map(([, address = '']) => address);
    },
    async routes() {
      return (await sh('ip -4 route')).split('\n').flatMap((line) => line.trim() || []);
    },
  };
}

/** Long enough to be sure that nothing comes of it any more. */
export const A_WHILE_MS = 700;

export type Watch = {
  /** What the kernel did since the last call, as `+ 198.51.100.1/32` or `- default via 203.0.113.1 …`; waits for so many. */
  taken(atLeast?: number): Promise<string[]>;
};

/** Watches addresses and routes of the router; not the local routes that an address brings with it. */
export async function watchKernel({ lab, sh }: Pick<Bed, 'lab' | 'sh'>): Promise<Watch> {
  const monitor = lab.router.spawn(['ip', '-4', '-o', 'monitor', 'address', 'route']);
  const lines: string[] = [];
  createInterface({ input: monitor.stdout as Readable }).on('line', (line) => lines.push(line));
  const ended = once(monitor, 'exit');
  // A mark on the loopback device: when it is seen, so is all that came before.
  let marks = 0;
  const mark = async () => {
    const address = `127.9.9.${++marks}/32`;
    for (let waited = 0; !lines.some((line) => line.includes(address)); waited++) {
      if (waited % 50 === 0)
        await sh(`ip address add ${address} dev lo 2> /dev/null || ip address delete ${address} dev lo`);
      await Promise.race([sleep(10), ended.then(() => assert.fail('ip monitor ended'))]);
    }
  };
  await mark();
  lines.length = 0;
  return {
    async taken(atLeast = 0) {
      const seen = () => lines.flatMap(kernelChange);
      for (let waited = 0; waited < 15_000 && seen().length < atLeast; waited += 50) await sleep(50);
      // What comes too much comes now.
      await sleep(A_WHILE_MS);
      await mark();
      return lines.splice(0).flatMap(kernelChange);
    },
  };
}

function kernelChange(line: string): string[] {
  if (/\b127\.|^(Deleted )?(local|broadcast) /.test(line)) return [];
  const sign = line.startsWith('Deleted ') ? '-' : '+';
  const address = / inet (\S+)/.exec(line)?.[1];
  return [`${sign} ${address ?? line.replace(/^Deleted /, '').trim()}`];
}
