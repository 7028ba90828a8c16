// A router between the outside and two subnets, for the tests of the pure modules. eth0 is the uplink, eth1 and eth2 are
// subnets A and B, eth3 is a second uplink where a test gives it a gateway. Documentation addresses only.

import { type Config, type Forward, type Nic, uplinkOf } from '../../src/config/config.ts';
import type { Abilities } from '../../src/engines/engine.ts';
import { engine } from '../../src/engines/in-use.ts';
import { bindNics, type ObservedLink } from '../../src/network/nics.ts';
import type { ProfileKeys } from '../../src/network/profile-keys.ts';
import { noRenderer, type Renderer } from '../../src/network/renderer.ts';
import type { NetworkState } from '../../src/network/state.ts';
import type { Ways } from '../../src/network/translation.ts';
import type { Around } from '../../src/network/wanted-filter.ts';
import { desiredState } from '../../src/planning/desired.ts';

export const UPLINK: Nic = { mac: '02:00:00:00:00:00', ipaddr: '203.0.113.10', prefix: 24, gateway: '203.0.113.1' };
export const SUBNET_A: Nic = { mac: '02:00:00:00:00:01', ipaddr: '192.0.2.1', prefix: 26 };
export const SUBNET_B: Nic = { mac: '02:00:00:00:00:02', ipaddr: '192.0.2.65', prefix: 26 };
export const SECOND_UPLINK: Nic = {
  mac: '02:00:00:00:00:03',
  ipaddr: '192.0.2.129',
  prefix: 26,
  gateway: '192.0.2.190',
};

export const link = (device: string, change: Partial<ObservedLink> = {}): ObservedLink => ({
  device,
  mac: `02:00:00:00:00:0${device.at(-1)}`,
  ethernet: true,
  up: true,
  mtu: 1500,
  ...change,
});

/** `eth0` to `eth3`, the NICs above in this order. */
export const LINKS: readonly ObservedLink[] = ['eth0', 'eth1', 'eth2', 'eth3'].map((device) => link(device));

/** The machine without one of its NICs. */
export const without = (device: string): ObservedLink[] => LINKS.filter((there) => there.device !== device);

export const config = (change: Partial<Config> = {}): Config => ({
  nics: [UPLINK, SUBNET_A, SUBNET_B],
  eips: [],
  forwards: [],
  routes: [],
  snats: undefined,
  fromUplink: 'forward',
  ...change,
});

/** `tcp 203.0.113.80:80-82 → 192.0.2.5:8080` */
export function forward(text: string): Forward {
  const match = /^(tcp|udp) ([\d.]+):(\d+)(?:-(\d+))? → ([\d.]+):(\d+)$/.exec(text);
  if (match === null) throw new Error(`not a forward: ${text}`);
  const [, protocol, eip = '', port, endPort = port, vmIp = '', vmPort] = match;
  return {
    eip,
    protocol: protocol === 'udp' ? 'udp' : 'tcp',
    port: Number(port),
    endPort: Number(endPort),
    vmPort: Number(vmPort),
    vmIp,
  };
}

/** What a machine can tell apart, and what is around on it. */
type Guarding = Omit<Abilities, 'shiftedRanges'> & Around;

/** As a machine can that has no br_netfilter. */
const GUARDING: Guarding = {
  policy: true,
  bridged: false,
  exemptions: { exempt: [], all: true },
  elsewhere: [],
  exposed: [],
};

export function desired(
  wanted: Config,
  {
    links = LINKS,
    renderer = noRenderer,
    shiftedRanges = true,
    guarding = GUARDING,
    ways = 'today',
    keys = new Map(),
  }: DesiredOptions = {},
): NetworkState {
  const { elsewhere, exposed, ...abilities } = guarding;
  const surroundings = { engine, abilities: { ...abilities, shiftedRanges }, around: { elsewhere, exposed } };
  return desiredState(wanted, bindNics(wanted.nics, links), renderer, surroundings, ways, keys);
}

type DesiredOptions = {
  links?: readonly ObservedLink[];
  renderer?: Renderer;
  shiftedRanges?: boolean;
  guarding?: Guarding;
  ways?: Ways;
  keys?: ReadonlyMap<string, ProfileKeys>;
};

/** The NICs of a configuration on this machine, and the uplink among them. */
export function bind(wanted: Config, links: readonly ObservedLink[] = LINKS) {
  const { bound } = bindNics(wanted.nics, links);
  return { bound, uplink: bound.find(({ mac }) => mac === uplinkOf(wanted)?.mac) };
}
