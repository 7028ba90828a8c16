// Which link of the machine is which NIC of the configuration. Pure.

import type { Nic } from '../config/config.ts';

/** What `ip -d link` says of one link, as far as we need it. */
export type ObservedLink = {
  device: string;
  /** The kernel's number: one that went and came back under its name has another. */
  index?: number;
  /** Lower case; the address in use. */
  mac: string;
  /** Lower case; the address the hardware came with, where it differs from the one in use. */
  permanentMac?: string;
  ethernet: boolean;
  /** The kernel's kind of a virtual link (`bridge`, `veth`, …); NICs on a bus have none. */
  kind?: string;
  up: boolean;
  /** It is up, and there is no signal on its wire. */
  noCarrier?: true;
  mtu: number;
  /** The bridge or bond that the link is a port of. */
  master?: string;
};

export type BoundNic = Nic & {
  device: string;
  /** The bridge that it will be a port of; until then its addresses are on itself. */
  waitsFor?: string;
};

/** The link that a NIC's addresses and routes are on, and that rules name. */
export const carrierOf = ({ device, bridge }: BoundNic): string => bridge?.name ?? device;

export type NicBinding = {
  bound: BoundNic[];
  /** Not there yet: not an error; their arrival finishes the work. */
  pending: Nic[];
  /** Cannot be used as they are, with the reason. */
  broken: { nic: Nic; reason: string }[];
};

/**
 * Of the kinds that the kernel makes itself only veth counts as a NIC (containers have them): a bond, team, bridge,
 * VLAN, macvlan, ipvlan, dummy, tun or OVS-internal device often shares the MAC of the NIC below it.
 * The udev rule filters by the same list.
 */
export function isNic(link: ObservedLink): boolean {
  return link.ethernet && (link.kind === undefined || link.kind === 'veth') && USABLE_NAME.test(link.device);
}

/**
 * The names that may stand in a command, a rule or a sourced file. The kernel allows more: quotes, for one, or a + at the
 * end, which iptables takes for every name that begins so.
 */
const USABLE_NAME = /^[A-Za-z0-9_][A-Za-z0-9_.@-]{0,14}$/;

export function bindNics(nics: readonly Nic[], links: readonly ObservedLink[]): NicBinding {
  const candidates = links.filter(isNic);
  const binding: NicBinding = { bound: [], pending: [], broken: [] };
  for (const nic of nics) {
    const matches = matching(nic.mac, candidates);
    const [first] = matches;
    if (first === undefined) binding.pending.push(nic);
    else if (matches.length > 1)
      binding.broken.push({
        nic,
        reason: `${matches.map((link) => link.device).join(' and ')} have the same MAC: give one of them another`,
      });
    else binding.bound.push({ ...nic, device: first.device });
  }
  return binding;
}

/** The permanent address decides: the ports of a bond all carry the address of its first port. */
function matching(mac: string, candidates: readonly ObservedLink[]): ObservedLink[] {
  const permanent = candidates.filter((link) => (link.permanentMac ?? link.mac) === mac);
  return permanent.length > 0 ? permanent : candidates.filter((link) => link.mac === mac);
}
