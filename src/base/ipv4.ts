// IPv4 addresses and networks as unsigned 32-bit numbers. Pure arithmetic; no I/O.

/** A network in canonical form (no host bits), or any block of addresses. */
export type Network = { base: number; prefix: number };

/** Reads strict dotted quad (four decimal numbers, no leading zeros); undefined for anything else. */
export function parseIpv4(text: string): number | undefined {
  // By character, which is quicker than a regular expression: 1,000 EIPs are some 10,000 calls.
  let value = 0;
  let octet = 0;
  let digits = 0;
  let dots = 0;
  for (let at = 0; at < text.length; at++) {
    const digit = text.charCodeAt(at) - ZERO;
    if (digit >= 0 && digit <= 9) {
      if (digits === 1 && octet === 0) return undefined;
      octet = octet * 10 + digit;
      digits++;
      if (octet > 255) return undefined;
    } else if (text[at] === '.' && digits > 0 && dots < 3) {
      value = value * 256 + octet;
      octet = digits = 0;
      dots++;
    } else return undefined;
  }
  return dots === 3 && digits > 0 ? value * 256 + octet : undefined;
}

const ZERO = '0'.charCodeAt(0);

/** As parseIpv4, for text that a schema has already accepted; throws otherwise. */
export function ipv4(text: string): number {
  const value = parseIpv4(text);
  if (value === undefined) throw new Error(`not an IPv4 address: ${text}`);
  return value;
}

export function formatIpv4(value: number): string {
  return `${value >>> 24}.${(value >>> 16) & 255}.${(value >>> 8) & 255}.${value & 255}`;
}

/** The network mask of a prefix length from 0 to 32. */
export function mask(prefix: number): number {
  return prefix === 0 ? 0 : (0xffffffff << (32 - prefix)) >>> 0;
}

/** The network of that prefix length in which the address lies. */
export function networkOf(address: number, prefix: number): Network {
  return { base: (address & mask(prefix)) >>> 0, prefix };
}

/** The last address of a network: its broadcast address where the prefix is 30 or shorter. */
export function lastOf(network: Network): number {
  return (network.base | ~mask(network.prefix)) >>> 0;
}

export function contains(network: Network, address: number): boolean {
  return (address & mask(network.prefix)) >>> 0 === network.base;
}

export function overlap(a: Network, b: Network): boolean {
  return a.prefix <= b.prefix ? contains(a, b.base) : contains(b, a.base);
}

/** `192.0.2.0/24` → network; undefined when it is no CIDR. Host bits are kept out: see `hasHostBits`. */
export function parseCidr(text: string): Network | undefined {
  const match = /^([\d.]+)\/(\d|[12]\d|3[0-2])$/.exec(text);
  if (match === null) return undefined;
  const address = parseIpv4(match[1] ?? '');
  return address === undefined ? undefined : networkOf(address, Number(match[2]));
}

/** Whether the address part of a CIDR has bits set beyond its prefix. */
export function hasHostBits(cidr: string): boolean {
  const network = parseCidr(cidr);
  return network !== undefined && parseIpv4(cidr.split('/')[0] ?? '') !== network.base;
}

export function formatNetwork(network: Network): string {
  return `${formatIpv4(network.base)}/${network.prefix}`;
}

/** "This" network, loopback, and everything from multicast up (RFC 6890). */
const NOT_UNICAST: readonly Network[] = [
  { base: 0, prefix: 8 },
  { base: ipv4('127.0.0.0'), prefix: 8 },
  { base: ipv4('224.0.0.0'), prefix: 3 },
];

/** Whether machines can have the network's addresses; a network wider than the reserved blocks, such as 0.0.0.0/0, passes. */
export function isUnicast(network: Network): boolean {
  return !NOT_UNICAST.some((block) => block.prefix <= network.prefix && contains(block, network.base));
}

/** The fewest networks that hold just these addresses; in their order. */
export function coverOf(addresses: readonly number[]): Network[] {
  const cover: Network[] = [];
  for (const base of [...new Set(addresses)].sort((a, b) => a - b)) {
    let last: Network = { base, prefix: 32 };
    // Two halves of a network, side by side, are that network.
    for (let before = cover.at(-1); before !== undefined; before = cover.at(-1)) {
      const both = networkOf(last.base, last.prefix - 1);
      if (before.prefix !== last.prefix || before.base !== both.base || last.base === both.base) break;
      cover.pop();
      last = both;
    }
    cover.push(last);
  }
  return cover;
}

/** Whether an address lies in one of the networks; asking costs as much as there are different prefix lengths. */
export function withinAny(networks: Iterable<Network>): (address: number) => boolean {
  const basesOf = new Map<number, Set<number>>();
  for (const { base, prefix } of networks) basesOf.set(prefix, (basesOf.get(prefix) ?? new Set()).add(base));
  const known = [...basesOf].map(([prefix, bases]) => ({ prefix, bases }));
  return (address) => known.some(({ prefix, bases }) => bases.has(networkOf(address, prefix).base));
}

/** `203.0.113.37/24` → `203.0.113.37` */
export function hostPart(spec: string): string {
  const end = spec.search(/[/ ]/);
  return end === -1 ? spec : spec.slice(0, end);
}

/** IPV6_MIN_MTU: with less the kernel takes all of IPv6 away from a link. */
export const LEAST_OF_IPV6 = 1280;
