// What goes with IPv6 where an MTU becomes too small for it: recorded, for the run that makes it large again. A bridge takes the smallest
// of its ports, whoever made it.

import { LEAST_OF_IPV6 } from '../base/ipv4.ts';
import type { Foreign } from '../network/foreign.ts';
import { staysAway } from '../network/ipv6.ts';
import type { Step } from '../network/step.ts';
import {
  ipv6Switch,
  keepLost,
  readForeign,
  readNeighbours,
  readRecord,
  recordForeign,
  showLinks,
  smallLinks,
} from './foreign.ts';
import type { Host } from './host.ts';

/** Carries these steps out. Other links go along: a bridge with its port, a VLAN with its link. Gives what keepLost does. */
export async function keepingIpv6(
  host: Host,
  steps: readonly Step[],
  carryOut: () => Promise<unknown>,
): Promise<Foreign[]> {
  const mtus = steps.flatMap((step) => (step.kind === 'set-mtu' ? [step] : []));
  const has = (kind: Step['kind']) => steps.some((step) => step.kind === kind);
  const ends =
    mtus.some(({ mtu, was }) => mtu < LEAST_OF_IPV6 && was >= LEAST_OF_IPV6) ||
    (has('add-port') && (await smallLinks(host)).size > 0);
  const begins = mtus.some(({ mtu, was }) => mtu >= LEAST_OF_IPV6 && was < LEAST_OF_IPV6) || has('remove-port');
  const going = ends ? await standing(host) : [];
  const without = begins ? await withoutIpv6(host) : [];
  // Before: this run may be killed.
  if (going.length > 0) await recordForeign(host, going);
  await carryOut();
  // It begins with the values of `default`; there was some before.
  for (const device of without)
    if ((await host.sysctl(ipv6Switch(device))) === '1') await host.setSysctl(ipv6Switch(device), '0');
  if (going.length === 0) return [];
  const small = await smallLinks(host);
  return keepLost(
    host,
    going,
    going.filter(({ device }) => small.has(device)),
  );
}

async function standing(host: Host): Promise<Foreign[]> {
  // The kernel has none at all.
  if ((await host.sysctl(ipv6Switch('all'))) === undefined) return [];
  const devices = new Set((await showLinks(host)).map(({ device }) => device));
  const neighbours = await readNeighbours(host, devices);
  return [
    ...(await readForeign(host, devices, { families: [6], duplicates: true })),
    ...neighbours.filter(({ family }) => family === 6),
  ].filter(staysAway);
}

/** Devices of what is on record. */
async function withoutIpv6(host: Host): Promise<string[]> {
  const recorded = new Set((await readRecord(host)).flatMap(({ family, device }) => (family === 6 ? [device] : [])));
  const without: string[] = [];
  for (const device of recorded) if ((await host.sysctl(ipv6Switch(device))) === undefined) without.push(device);
  return without;
}
