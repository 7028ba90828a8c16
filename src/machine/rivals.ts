// Host, NICs of ours → who else sets them up: it takes away what is ours, and puts there what we take away. Reads files only.

import { join } from 'node:path';
import type { BoundNic, ObservedLink } from '../network/nics.ts';
import type { Host } from './host.ts';

const INTERFACES = '/etc/network/interfaces';
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
