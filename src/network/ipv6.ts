// Links whose MTU is too small for IPv6: what is foreign there waits for a larger one. Pure.

import { LEAST_OF_IPV6 } from '../base/ipv4.ts';
import { type Foreign, foreignText, isLeased } from './foreign.ts';
import type { ObservedLink } from './nics.ts';
import type { Link } from './state.ts';

/** Whether a device has room for IPv6 once these links are as desired. The MTU of a bridge follows the smallest of its ports. */
export function roomForIpv6(
  links: readonly ObservedLink[],
  desired: readonly Link[] = [],
): (device: string) => boolean {
  const wanted = new Map(desired.map(({ device, mtu }) => [device, mtu]));
  const mtuOf = ({ device, mtu }: ObservedLink) => wanted.get(device) ?? mtu;
  return (device) => {
    const link = links.find((each) => each.device === device);
    if (link === undefined || mtuOf(link) >= LEAST_OF_IPV6) return true;
    const ports = link.kind === 'bridge' ? links.filter(({ master }) => master === device) : [];
    return ports.length > 0 && ports.every((port) => mtuOf(port) >= LEAST_OF_IPV6);
  };
}

/** Of each device what waits there. */
export function waitingForIpv6(lost: readonly Foreign[], links: readonly ObservedLink[]): string[] {
  const hasRoom = roomForIpv6(links);
  const waiting = lost.filter(({ family, device }) => family === 6 && !hasRoom(device));
  return [...new Set(waiting.map(({ device }) => device))].map((device) => {
    const texts = waiting.filter((each) => each.device === device).map(foreignText);
    const more = texts.length > 3 ? ` and ${texts.length - 3} more` : '';
    return `${texts.slice(0, 3).join(', ')}${more}: not ours, went with an MTU below ${LEAST_OF_IPV6}, and comes back with a larger one of ${device}`;
  });
}

/** Without what comes again by itself with IPv6, and what has an end of its own. */
export function staysAway(foreign: Foreign): boolean {
  const { kind, protocol, words } = foreign;
  if (kind === 'address') return !(protocol?.startsWith('kernel') || isLeased(foreign) || OF_A_MAC.test(words));
  return kind === 'neighbour' || !(protocol === 'kernel' || protocol === 'ra' || / expires \d/.test(words));
}

/** Before Linux 5.18 nothing else tells whose it is. */
const OF_A_MAC = /^fe80::[\da-f:]*ff:fe[\da-f]{2}:[\da-f]{1,4}\/64 /;
