// What is wanted of the packet filter → chains and jumps of iptables: what happens to every packet of DESIGN's traffic table. Pure.
//
//   nat PREROUTING, OUTPUT ─▶ DNAT ─▶ by destination ─▶ the VM, or the ports of a forwarded EIP
//   nat POSTROUTING ─▶ POSTROUTING ─▶ OUTBOUND (leaves by the uplink) ─▶ SOURCE (the sender's own EIP), else the source rules
//                                 ├─▶ OUTBOUND-OTHER (leaves by another NIC with a gateway) ─▶ the source rules
//                                 └─▶ HAIRPIN (sent from inside to an EIP) ─▶ TRANSLATED (by us) ─▶ HAIRPIN-SOURCE ─▶ SOURCE, else
//                                                                             the uplink's address
//   filter INPUT ─▶ INPUT ─▶ by destination ─▶ drop: the router itself answers nothing new on an EIP
//   filter FORWARD ─▶ FORWARD ─▶ accept between NICs of if_list             (what may not pass: see guard.ts)
//
// DNAT is not limited to the uplink: VMs reach EIPs too. Which packets get a new source is decided by their source
// address, since POSTROUTING knows no input device: packets from outside match nothing and keep theirs.

import { formatNetwork, ipv4, networkOf } from '../../base/ipv4.ts';
import type { Filter, Gate, SourceRule } from '../../network/filter.ts';
import { CHAIN_PREFIX, type Chain, type FilterParts } from '../../network/state.ts';
import type { Abilities } from '../engine.ts';
import { dispatchChains, LAST_LEVEL, type Leaf } from './dispatch.ts';
import { guardRules } from './guard.ts';
import { portChains, portsChainName, withSupportedForwards } from './ports.ts';

const DNAT = `${CHAIN_PREFIX}DNAT`;
const POSTROUTING = `${CHAIN_PREFIX}POSTROUTING`;
const OUTBOUND = `${CHAIN_PREFIX}OUTBOUND`;
const OUTBOUND_OTHER = `${CHAIN_PREFIX}OUTBOUND-OTHER`;
const HAIRPIN = `${CHAIN_PREFIX}HAIRPIN`;
const TRANSLATED = `${CHAIN_PREFIX}TRANSLATED`;
const HAIRPIN_SOURCE = `${CHAIN_PREFIX}HAIRPIN-SOURCE`;
const SOURCE = `${CHAIN_PREFIX}SOURCE`;
const INPUT = `${CHAIN_PREFIX}INPUT`;
const FORWARD = `${CHAIN_PREFIX}FORWARD`;
const FORWARD_TO = `${CHAIN_PREFIX}FORWARD-TO`;

/** Throws AgentError (65) where this machine cannot do what is wanted. */
export function filterRules(wanted: Filter, abilities: Abilities): FilterParts {
  const filter = withSupportedForwards(wanted, abilities);
  const parts = filter.forwarding.length === 0 ? [] : [forwardRules(filter)];
  if (filter.guard !== undefined) parts.push(guardRules(filter, filter.guard, abilities));
  if (filter.uplink !== undefined) parts.push(natRules(filter, filter.uplink));
  else if (filter.others.length > 0) parts.push(othersAlone(filter));
  if (filter.uplink !== undefined || filter.guarded.length > 0) parts.push(inputRules(filter));
  return { chains: parts.flatMap(({ chains }) => chains), jumps: parts.flatMap(({ jumps }) => jumps) };
}

/** Last in FORWARD, so that a foreign block still blocks; names our NICs only, so that nothing else is let through. */
function forwardRules({ forwarding }: Filter): FilterParts {
  return {
    chains: [
      chain(
        'filter',
        FORWARD,
        forwarding.map((device) => `-i ${device} -j ${FORWARD_TO}`),
      ),
      chain(
        'filter',
        FORWARD_TO,
        forwarding.map((device) => `-o ${device} -j ACCEPT`),
      ),
    ],
    jumps: [{ table: 'filter', hook: 'FORWARD', rule: `-j ${FORWARD}`, place: 'last' }],
  };
}

function natRules(filter: Filter, uplink: Gate): FilterParts {
  const { eips, others, sources } = filter;
  const forwards = groupBy(filter.forwards, ({ eip }) => eip);
  const destinations: Leaf[] = [
    ...eips.map(({ eip, vmIp }) => ({ address: ipv4(eip), verdict: `-j DNAT --to-destination ${vmIp}` })),
    ...[...forwards.keys()].map((eip) => ({ address: ipv4(eip), verdict: `-j ${portsChainName(eip)}` })),
  ];
  const leaving = [
    `-o ${uplink.device} -j ${OUTBOUND}`,
    ...others.map(({ device }) => `-o ${device} -j ${OUTBOUND_OTHER}`),
  ];
  return {
    chains: [
      ...dispatchChains({ table: 'nat', root: DNAT, letter: 'D', match: '-d' }, destinations),
      ...[...forwards].flatMap(([eip, list]) => portChains(eip, list)),
      ...dispatchChains({ table: 'nat', root: SOURCE, letter: 'S', match: '-s' }, sourceLeaves(filter)),
      ordered('nat', POSTROUTING, [...leaving, `-m conntrack --ctstate DNAT -j ${HAIRPIN}`]),
      ordered('nat', OUTBOUND, [`-j ${SOURCE}`, ...sourceVerdicts(sources, toAddress(uplink.ipaddr))]),
      ...(others.length > 0 ? [outboundOther(filter)] : []),
      ...hairpinChains(filter, uplink.ipaddr, destinations),
    ],
    jumps: [
      { table: 'nat', hook: 'PREROUTING', rule: `-j ${DNAT}`, place: 'anywhere' },
      { table: 'nat', hook: 'OUTPUT', rule: `-j ${DNAT}`, place: 'anywhere' },
      { table: 'nat', hook: 'POSTROUTING', rule: `-j ${POSTROUTING}`, place: 'anywhere' },
    ],
  };
}

function inputRules({ guarded }: Filter): FilterParts {
  const leaves = guarded.map((address) => ({ address: ipv4(address), verdict: '-j DROP' }));
  return {
    chains: dispatchChains({ table: 'filter', root: INPUT, letter: 'I', match: '-d' }, leaves),
    jumps: [
      // First, because behind a foreign `--dport 22 -j ACCEPT` it would come too late. New connections only: replies to the
      // router's own traffic come in by the same addresses. INVALID too: NAT leaves such packets alone, and the
      // router's reset would end a connection that is the VM's.
      {
        table: 'filter',
        hook: 'INPUT',
        rule: `! -p icmp -m conntrack --ctstate INVALID,NEW -j ${INPUT}`,
        place: 'first',
      },
    ],
  };
}

/** Without the uplink: nothing is mapped, and nothing leaves untranslated. */
function othersAlone(filter: Filter): FilterParts {
  const leaving = filter.others.map(({ device }) => `-o ${device} -j ${OUTBOUND_OTHER}`);
  return {
    chains: [ordered('nat', POSTROUTING, leaving), outboundOther(filter)],
    jumps: [{ table: 'nat', hook: 'POSTROUTING', rule: `-j ${POSTROUTING}`, place: 'anywhere' }],
  };
}

/**
 * By MASQUERADE: such a flow ends by itself when it begins to leave by another device, which no run of ours sees. No EIPs: they are
 * the uplink's.
 */
const outboundOther = ({ sources }: Filter): Chain =>
  ordered('nat', OUTBOUND_OTHER, sourceVerdicts(sources, '-j MASQUERADE'));

/**
 * What came from inside, or from the router itself, to an address that is ours and leads back inside. By the address that was asked
 * for: what an operator's own DNAT leads somewhere is not ours to translate.
 */
function hairpinChains({ inside, hairpin }: Filter, ipaddr: string, destinations: readonly Leaf[]): Chain[] {
  const networks = inside.map(formatNetwork);
  // The router's own packets to an EIP: their source would be that EIP.
  const local = '-m addrtype --src-type LOCAL';
  const sources = [
    `-j ${SOURCE}`,
    ...networks.map((network) => `-s ${network} ${toAddress(ipaddr)}`),
    `${local} ${toAddress(ipaddr)}`,
  ];
  if (hairpin.of === 'any') return [ordered('nat', HAIRPIN, sources)];
  return [
    ordered('nat', HAIRPIN, [
      ...[...networks, ...hairpin.beside.map(formatNetwork)].map((source) => `-s ${source} -j ${TRANSLATED}`),
      `${local} -j ${TRANSLATED}`,
    ]),
    ...dispatchChains(
      { table: 'nat', root: TRANSLATED, letter: 'H', match: '-m conntrack --ctorigdst' },
      wholeBlocks(destinations).map((block) => ({ ...block, verdict: `-j ${HAIRPIN_SOURCE}` })),
    ),
    ordered('nat', HAIRPIN_SOURCE, sources),
  ];
}

/** A block of the last level is one leaf where all of it is there. Not a wider one: one address more or less would change many rules. */
function wholeBlocks(leaves: readonly Leaf[]): { address: number; prefix: number }[] {
  const blocks = groupBy(
    [...new Set(leaves.map(({ address }) => address))],
    (address) => networkOf(address, LAST_LEVEL).base,
  );
  return [...blocks].flatMap(([base, addresses]) =>
    addresses.length === 2 ** (32 - LAST_LEVEL)
      ? [{ address: base, prefix: LAST_LEVEL }]
      : addresses.map((address) => ({ address, prefix: 32 })),
  );
}

const sourceLeaves = ({ ownSource }: Filter): Leaf[] =>
  [...ownSource].map(([vmIp, eip]) => ({ address: ipv4(vmIp), verdict: toAddress(eip) }));

/** `byUplink`: of what leaves by the address of the uplink that it leaves by. */
function sourceVerdicts(sources: readonly SourceRule[], byUplink: string): string[] {
  return sources.map(({ network, to }) => {
    const verdict = to === 'uplink' ? byUplink : sourceVerdict(to);
    return network.prefix === 0 ? verdict : `-s ${formatNetwork(network)} ${verdict}`;
  });
}

function sourceVerdict(to: Exclude<SourceRule['to'], 'uplink'>): string {
  if (to === 'masquerade') return '-j MASQUERADE';
  if (to === 'none') return '-j RETURN';
  return toAddress(to.address);
}

const toAddress = (address: string): string => `-j SNAT --to-source ${address}`;

function groupBy<T, Key>(items: readonly T[], keyOf: (item: T) => Key): Map<Key, T[]> {
  const groups = new Map<Key, T[]>();
  for (const item of items) {
    const group = groups.get(keyOf(item));
    if (group === undefined) groups.set(keyOf(item), [item]);
    else group.push(item);
  }
  return groups;
}

const chain = (table: Chain['table'], name: string, rules: string[]): Chain => ({ table, name, rules, ordered: false });
const ordered = (table: Chain['table'], name: string, rules: string[]): Chain => ({
  table,
  name,
  rules,
  ordered: true,
});
