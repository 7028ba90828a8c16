// Host, NICs of ours → who else sets them up: it takes away what is ours, and puts there what we take away. Reads files only.

import { join } from 'node:path';
import type { BoundNic, ObservedLink } from '../network/nics.ts';
import type { ObservedAddress } from '../network/observation.ts';
import { type Address, addressKey } from '../network/state.ts';
import type { Host } from './host.ts';
import { MOST_REMOVALS } from './resisting.ts';

const INTERFACES = '/etc/network/interfaces';
/** By its own choice; EL and Debian leave it. */
const KEEPALIVED = '/run/keepalived.pid';
const IFSTATE = '/run/network/ifstate';

/** What each of them is told, to leave the NIC alone. */
export async function rivalWarnings(
  host: Host,
  bound: readonly BoundNic[],
  links: readonly ObservedLink[],
): Promise<string[]> {
  const devices = bound.map(({ device }) => device);
  const [byNetworkd, byIfupdown] = await Promise.all([networkdOn(host, devices, links), ifupdownOn(host, devices)]);
  return [
    ...byNetworkd.map(
      (device) =>
        `systemd-networkd sets up ${device} too, and takes away what is ours: write [Match] Name=${device} and [Link] Unmanaged=yes ` +
        `to /etc/systemd/network/00-${device}.network, then networkctl reload`,
    ),
    ...byIfupdown.map(
      ({ device, method, path }) =>
        `ifupdown sets up ${device} too (iface ${device} inet ${method} in ${path})` +
        `${method === 'dhcp' ? ', and its DHCP client flushes the NIC when a lease ends' : ''}: ` +
        `write manual for ${method} there${method === 'dhcp' ? ", and end its DHCP client (pgrep -a 'dhclient|udhcpc|dhcpcd')" : ''}`,
    ),
  ];
}

/**
 * Whose the addresses are that others put on NICs of ours, and what ends it. `left`: they come back each time; `leased`: ours, which
 * somebody gave a lease.
 */
export async function addressWarnings(
  host: Host,
  addresses: readonly ObservedAddress[],
  {
    left,
    removed,
    leased,
  }: { left: readonly ObservedAddress[]; removed: readonly Address[]; leased: readonly ObservedAddress[] },
): Promise<{ staying: string[]; going: string[] }> {
  if (left.length + removed.length + leased.length === 0) return { staying: [], going: [] };
  const going = new Set(removed.map(addressKey));
  const goes = addresses.filter((address) => going.has(addressKey(address)));
  const keepalived = await host.info(KEEPALIVED);
  const ownerOf = ({ dynamic, protocol }: ObservedAddress): Owner | undefined =>
    dynamic ? DHCP : keepalived !== undefined || protocol === 'keepalived' ? VRRP : undefined;
  return {
    going: [
      ...goes.flatMap((address) => {
        const owner = ownerOf(address);
        return owner === undefined
          ? []
          : [`${address.spec} on ${address.device} is not in the file, and goes: ${owner.is}; ${owner.cure(address)}`];
      }),
      ...leased.map(
        (address) => `${address.spec} on ${address.device} is ours, and leased: ${DHCP.is}; ${DHCP.cure(address)}`,
      ),
    ],
    staying: left.map((address) => {
      const { spec, device } = address;
      const owner = ownerOf(address);
      return (
        `${spec} on ${device} has come back after each of ${MOST_REMOVALS} removals, and is left there` +
        `${owner === undefined ? '' : `: ${owner.is}`}; ${(owner ?? ANYBODY).cure(address)}, then ip address del ${spec} dev ${device}`
      );
    }),
  };
}

type Owner = { is: string; cure: (address: ObservedAddress) => string };

const keeping = ({ spec }: ObservedAddress): string => `if it is to stay, give the NIC keep-addresses: [${spec}]`;

const DHCP: Owner = {
  is: 'a DHCP client put it there, which flushes the NIC when its lease ends',
  cure: ({ device }) => `end that client on ${device} (pgrep -a 'dhclient|udhcpc|dhcpcd')`,
};
const VRRP: Owner = {
  is: 'keepalived runs here',
  cure: (address) => `${keeping(address)}; else take it out of keepalived.conf`,
};
const ANYBODY: Owner = { is: '', cure: (address) => `${keeping(address)}; else end what puts it there` };

/** By what networkd says of each link that it has seen. */
async function networkdOn(host: Host, devices: readonly string[], links: readonly ObservedLink[]): Promise<string[]> {
  const states = await Promise.all(
    devices.map(async (device) => {
      const index = links.find((link) => link.device === device)?.index;
      const state = await host.read(`/run/systemd/netif/links/${index}`, { orNothing: true });
      return /^ADMIN_STATE=(configuring|configured)$/m.test(state ?? '') ? [device] : [];
    }),
  );
  return states.flat();
}

type Stanza = { device: string; method: string; path: string };

/** Stanzas of NICs that it has brought up in this boot. */
async function ifupdownOn(host: Host, devices: readonly string[]): Promise<Stanza[]> {
  const up = new Set(
    [...((await host.read(IFSTATE, { orNothing: true })) ?? '').matchAll(/^([^=\s]+)=/gm)].map(([, name]) => name),
  );
  const asked = devices.filter((device) => up.has(device));
  if (asked.length === 0) return [];
  const names = (await host.list(`${INTERFACES}.d`)).filter((name) => /^[\w-]+$/.test(name));
  const paths = [INTERFACES, ...names.map((name) => join(`${INTERFACES}.d`, name))];
  const found = await Promise.all(
    paths.map(async (path) =>
      stanzasIn((await host.read(path, { orNothing: true })) ?? '').map((stanza) => ({ ...stanza, path })),
    ),
  );
  return found.flat().filter(({ device }) => asked.includes(device));
}

const stanzasIn = (text: string): Omit<Stanza, 'path'>[] =>
  [...text.matchAll(/^[ \t]*iface[ \t]+(\S+)[ \t]+inet[ \t]+(dhcp|static)\b/gm)].map(
    ([, device = '', method = '']) => ({
      device,
      method,
    }),
  );
