// Which link of the machine is which NIC of the configuration. Pure.

import { hostPart } from '../base/ipv4.ts';
import { visible } from '../base/visible.ts';
import type { Nic } from '../config/config.ts';
import type { Address, Bridge } from './state.ts';

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
  /** It answers no ARP, nor asks. */
  noArp?: true;
  mtu: number;
  /** A port of a Linux bridge that does not forward: what its spanning tree has it do. */
  blocked?: string;
  /** Somebody has it take in what is for others; a bridge of the kernel's own does so without saying it here. */
  promiscuous?: true;
  /** The bridge or bond that the link is a port of. */
  master?: string;
};

export type BoundNic = Nic & {
  device: string;
  /** The bridge that it will be a port of; until then its addresses are on itself. */
  waitsFor?: string;
};

/**
 * Of which NIC something is, by its MAC; `index`: the kernel's number of the link that it is on, which that has also when it gets another
 * MAC or name, until the machine goes down; `device`: the name of a NIC then.
 */
export type NicPlace = { mac: string; index?: number; device?: string };

/** The link that a NIC's addresses and routes are on, and that rules name. */
export const ipLinkOf = ({ device, bridge }: BoundNic): string => bridge?.name ?? device;

/** What is asked whether its gateway answers. Survives JSON. */
export type OnBridge = Pick<BoundNic, 'mac' | 'device' | 'ipaddr'> & { gateway: string; bridge: Bridge };

/** Of NICs those on bridges, with a gateway, and with their address there. */
export const onBridges = (nics: readonly BoundNic[], addresses: readonly Address[]): OnBridge[] =>
  nics.flatMap(({ mac, device, ipaddr, gateway, bridge }) =>
    gateway !== undefined &&
    bridge !== undefined &&
    addresses.some((each) => each.device === bridge.name && hostPart(each.spec) === ipaddr)
      ? [{ mac, device, ipaddr, gateway, bridge }]
      : [],
  );

export type NicBinding = {
  bound: BoundNic[];
  /** Not there yet: not an error; their arrival finishes the work. */
  pending: Nic[];
  /** Cannot be used as they are, with the reason; `odd`: for the name of their link. */
  broken: { nic: Nic; reason: string; odd?: true }[];
  /** Bound as before, though other links have come that have its MAC, too. */
  doubled: { nic: BoundNic; others: string[] }[];
  /** Bound for their rules alone: nothing is added to their links, and what is there stays. */
  held: { nic: BoundNic; reason: string }[];
};

/** Those whose links are ours to set up. */
export const usedNics = ({ bound, held }: NicBinding): BoundNic[] =>
  bound.filter((nic) => !held.some((each) => each.nic === nic));

/** Those in error. */
export const faultyNics = ({ broken, held }: NicBinding): Nic[] => [...broken, ...held].map(({ nic }) => nic);

/**
 * Of the kinds that the kernel makes itself only veth counts as a NIC (containers have them): a bond, team, bridge,
 * VLAN, macvlan, ipvlan, dummy, tun or OVS-internal device often shares the MAC of the NIC below it.
 * The udev rule filters by the same list.
 */
export const isNic = (link: ObservedLink): boolean => isNicOfAnyName(link) && USABLE_NAME.test(link.device);

export const isNicOfAnyName = ({ ethernet, kind }: ObservedLink): boolean =>
  ethernet && (kind === undefined || kind === 'veth');

/**
 * The names that may stand in a command, a rule or a sourced file. The kernel allows more: quotes, for one, or a + at the
 * end, which iptables takes for every name that begins so.
 */
const USABLE_NAME = /^[A-Za-z0-9_][A-Za-z0-9_.@-]{0,14}$/;

/** Bytes that are no text are read as U+FFFD: no command can be given them. */
export const isSayable = (device: string): boolean => !device.includes('\ufffd');

/** The kernel's number of a link, in this boot, and its name. */
export type LinkBefore = { index: number | undefined; device: string | undefined };

/** `before`: of NICs, by their MAC, the link that each was on. */
export function bindNics(
  nics: readonly Nic[],
  links: readonly ObservedLink[],
  before: ReadonlyMap<string, LinkBefore> = new Map(),
): NicBinding {
  const candidates = links.filter(isNicOfAnyName);
  const binding: NicBinding = { bound: [], pending: [], broken: [], doubled: [], held: [] };
  for (const nic of nics) {
    const carrying = withoutLower(
      candidates.filter(({ mac, permanentMac }) => mac === nic.mac || permanentMac === nic.mac),
    );
    const matches = matching(nic.mac, carrying.filter(isNic));
    const [first, ...more] = matches;
    // Whoever comes with the MAC of a NIC that is at work takes nothing away from it.
    const chosen = more.length === 0 ? first : linkBefore(matches, before.get(nic.mac));
    const [named] = first === undefined ? matching(nic.mac, carrying) : [];
    if (named !== undefined) binding.broken.push({ nic, reason: oddName(named.device), odd: true });
    else if (first === undefined) binding.pending.push(nic);
    else if (chosen === undefined)
      binding.broken.push({
        nic,
        reason: `${matches.map((link) => link.device).join(' and ')} have the same MAC: give one of them another`,
      });
    else {
      const bound = { ...nic, device: chosen.device };
      binding.bound.push(bound);
      const others = matches.filter((link) => link !== chosen).map(({ device }) => device);
      if (others.length > 0) binding.doubled.push({ nic: bound, others });
    }
  }
  return binding;
}

/** In another boot links have other numbers, and mostly their names. */
const linkBefore = (links: readonly ObservedLink[], before: LinkBefore | undefined): ObservedLink | undefined =>
  links.find(({ index, device }) => (before?.index === undefined ? device === before?.device : index === before.index));

const oddName = (device: string): string =>
  `its name ${visible(device)} cannot stand in rules and files: letters, digits, _ . @ and - can, with a letter, a digit or _ ` +
  'in front; give it another: ip link set dev NAME name ANOTHER';

/** Of a pair for failover (net_failover, a VF below its synthetic NIC) the upper one is the NIC, whatever its name. */
export const withoutLower = (links: readonly ObservedLink[]): ObservedLink[] =>
  links.filter(({ master }) => !links.some(({ device }) => device === master));

/** The permanent address decides: the ports of a bond all carry the address of its first port. */
function matching(mac: string, candidates: readonly ObservedLink[]): ObservedLink[] {
  const permanent = candidates.filter((link) => (link.permanentMac ?? link.mac) === mac);
  return permanent.length > 0 ? permanent : candidates.filter((link) => link.mac === mac);
}
