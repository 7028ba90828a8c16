// What the packet filter is to do, in types: where a destination leads, what a source becomes, who forwards to whom, what may not pass.
// Which chains, maps or texts that becomes is an engine's matter, and comes back from it as these types. Pure.

import type { Network } from '../base/ipv4.ts';
import type { Eip, Forward, Snat } from '../config/config.ts';

/** A NIC with a gateway, by the link that its addresses are on. */
export type Gate = { device: string; ipaddr: string };

/** `to: uplink`: the address of the uplink that it leaves by. */
export type SourceRule = { network: Network; to: 'uplink' | Snat['to'] };

export type Translation = {
  /** The one that EIPs are on; undefined where it is not there. */
  uplink: Gate | undefined;
  /** The other NICs with a gateway. */
  others: readonly Gate[];
  /** What each EIP leads to. */
  eips: readonly Eip[];
  /** Those that are in force: a 1:1 mapping wins. */
  forwards: readonly Forward[];
  /** By the VM: two EIPs on one VM both lead there, the first is its source. */
  ownSource: ReadonlyMap<string, string>;
  /** What is inside; what is behind a subnet only where its NIC is there. */
  inside: readonly Network[];
  /** Of what leaves by an uplink, the narrowest first: the first that holds the source decides. */
  sources: readonly SourceRule[];
};

export type Filter = Translation & {
  /** Links that forward to each other, in the order of their names. */
  forwarding: readonly string[];
  /** What the file says is inside, whether its NIC is there or not. */
  networks: readonly Network[];
  hairpin: Hairpin;
  /** Addresses by which the router itself answers nothing new, but for ping. */
  guarded: readonly string[];
  /** Undefined: nothing is held up. */
  guard: Guard | undefined;
};

/** What is sent from inside, or by the router itself, to what is mapped gets a source that the answer comes back to. */
export type Hairpin = {
  /** `ours`: where the address that was asked for is mapped by the file; `any`: where anybody has translated it, as in 1.0. */
  of: 'ours' | 'any';
  /** Who is meant beside those inside: VMs with an EIP that are in no network of the file. */
  beside: readonly Network[];
};

/** What may not pass, whatever becomes of addresses. */
export type Guard = {
  /** NICs with a gateway, by the link that addresses are on. */
  gates: readonly { device: string; isLinuxBridge: boolean }[];
  /** Of what would leave by the gate that it came in by nothing passes, but from and to these, and from these sources. */
  bounce: { between: readonly Network[]; from: readonly Network[] };
  /** Whether anything may begin at a gate toward inside that was not translated. */
  entering: 'drop' | 'forward';
  /** Parts of what is inside that are led out by a gate: the longest prefix says whose a destination is. */
  outside: readonly Network[];
};

/** What rules say, as an engine reads them; a source that leaves by the uplink's address by that address. */
export type Mappings = { eips: readonly Eip[]; forwards: readonly Forward[]; sources: readonly SourceRule[] };

/**
 * Where the way of a packet is broken. `arrives`: what is sent to it from outside; `own`: what the router itself sends to it; `guarded`:
 * the router would answer in its stead; `forwarded`; `leaves`: by the source that it is to have; `hairpin`: from inside.
 */
export type Part = 'arrives' | 'own' | 'guarded' | 'forwarded' | 'leaves' | 'hairpin';

/** One that is wanted, as it is found. `since`: connections that were led by its rules since those were written, where they were counted. */
export type Found<Wanted> = Wanted & { broken: readonly Part[]; since?: number };

/** What is wanted, thing by thing, in the order of the filter. */
export type FilterFound = { eips: Found<Eip>[]; forwards: Found<Forward>[]; sources: Found<SourceRule>[] };

/** Whether its ports go to others, more than one. */
export const isShiftedRange = ({ port, endPort, vmPort }: Forward): boolean => port !== endPort && port !== vmPort;

export const forwardKey = ({ eip, protocol, port }: Pick<Forward, 'eip' | 'protocol' | 'port'>): string =>
  `${eip}:${port}/${protocol}`;
