// Config and NICs → the rules of the packet filter: what happens to every packet of DESIGN's traffic table. Pure.
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

import { coverOf, formatNetwork, ipv4, networkOf, withinAny } from '../../base/ipv4.ts';
import type { Config } from '../../config/config.ts';
import { insideNetworks } from '../../config/inside.ts';
import { elasticAddresses } from '../../network/elastic.ts';
import type { BoundNic } from '../../network/nics.ts';
import { CHAIN_PREFIX, type Chain, type FilterRules } from '../../network/state.ts';
import { type SourceRule, type Translation, translationOf, type Ways } from '../../network/translation.ts';
import { dispatchChains, LAST_LEVEL, type Leaf } from './dispatch.ts';
import { type Guarding, guardRules } from './guard.ts';
import { portChains, portsChainName } from './ports.ts';

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

/**
 * Rules for the NICs that are there. Where the configuration has no uplink, or it is pending, nothing is mapped; what leaves by
 * another NIC with a gateway is translated all the same.
 */
export function filterRules(
  config: Config,
  bound: readonly BoundNic[],
  uplink: BoundNic | undefined,
  ways: Ways = 'today',
  guarding: Guarding = {
    policy: true,
    bridged: true,
    exemptions: { exempt: [], all: true },
    elsewhere: [],
    exposed: [],
  },
): FilterRules {
  const translation = translationOf(config, bound, uplink?.mac, ways);
  const parts = bound.length === 0 ? [] : [forwardRules(bound)];
  if (ways === 'today') parts.push(guardRules(config, bound, translation, guarding));
  if (uplink !== undefined) parts.push(natRules(config, translation, uplink, ways));
  else if (translation.others.length > 0) parts.push(othersAlone(translation));
  if (uplink !== undefined || guarding.exposed.length > 0)
    parts.push(inputRules([...(uplink === undefined ? [] : elasticAddresses(config, uplink)), ...guarding.exposed]));
  return { chains: parts.flatMap(({ chains }) => chains), jumps: parts.flatMap(({ jumps }) => jumps) };
}

/** Last in FORWARD, so that a foreign block still blocks; names our NICs only, so that nothing else is let through. */
function forwardRules(bound: readonly BoundNic[]): FilterRules {
  const devices = bound.map((nic) => nic.device).sort();
  return {
    chains: [
      chain(
        'filter',
        FORWARD,
        devices.map((device) => `-i ${device} -j ${FORWARD_TO}`),
      ),
      chain(
        'filter',
        FORWARD_TO,
        devices.map((device) => `-o ${device} -j ACCEPT`),
      ),
    ],
    jumps: [{ table: 'filter', hook: 'FORWARD', rule: `-j ${FORWARD}`, place: 'last' }],
  };
}

function natRules(config: Config, translation: Translation, uplink: BoundNic, ways: Ways): FilterRules {
  const { eips, others } = translation;
  const forwards = groupBy(translation.forwards, ({ eip }) => eip);
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
      ...dispatchChains({ table: 'nat', root: SOURCE, letter: 'S', match: '-s' }, sourceLeaves(translation)),
      ordered('nat', POSTROUTING, [...leaving, `-m conntrack --ctstate DNAT -j ${HAIRPIN}`]),
      ordered('nat', OUTBOUND, [`-j ${SOURCE}`, ...sourceVerdicts(translation.sources, toAddress(uplink.ipaddr))]),
      ...(others.length > 0 ? [outboundOther(translation)] : []),
      ...hairpinChains(config, translation, uplink.ipaddr, destinations, ways),
    ],
    jumps: [
      { table: 'nat', hook: 'PREROUTING', rule: `-j ${DNAT}`, place: 'anywhere' },
      { table: 'nat', hook: 'OUTPUT', rule: `-j ${DNAT}`, place: 'anywhere' },
      { table: 'nat', hook: 'POSTROUTING', rule: `-j ${POSTROUTING}`, place: 'anywhere' },
    ],
  };
}

function inputRules(addresses: readonly string[]): FilterRules {
  const leaves = [...new Set(addresses)].map((address) => ({ address: ipv4(address), verdict: '-j DROP' }));
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
function othersAlone(translation: Translation): FilterRules {
  const leaving = translation.others.map(({ device }) => `-o ${device} -j ${OUTBOUND_OTHER}`);
  return {
    chains: [ordered('nat', POSTROUTING, leaving), outboundOther(translation)],
    jumps: [{ table: 'nat', hook: 'POSTROUTING', rule: `-j ${POSTROUTING}`, place: 'anywhere' }],
  };
}

/**
 * By MASQUERADE: such a flow ends by itself when it begins to leave by another device, which no run of ours sees. No EIPs: they are
 * the uplink's.
 */
const outboundOther = ({ sources }: Translation): Chain =>
  ordered('nat', OUTBOUND_OTHER, sourceVerdicts(sources, '-j MASQUERADE'));

/**
 * What came from inside, or from the router itself, to an address that is ours and leads back inside. By the address that was asked
 * for: what an operator's own DNAT leads somewhere is not ours to translate.
 */
function hairpinChains(
  config: Config,
  { inside, ownSource }: Translation,
  ipaddr: string,
  destinations: readonly Leaf[],
  ways: Ways,
): Chain[] {
  const networks = inside.map(formatNetwork);
  // The router's own packets to an EIP: their source would be that EIP.
  const local = '-m addrtype --src-type LOCAL';
  const sources = [
    `-j ${SOURCE}`,
    ...networks.map((network) => `-s ${network} ${toAddress(ipaddr)}`),
    `${local} ${toAddress(ipaddr)}`,
  ];
  if (ways === 'as in 1.0') return [ordered('nat', HAIRPIN, sources)];
  // Of a subnet that is not there yet no VM sends, and they may be a thousand.
  const isInside = withinAny(insideNetworks(config).map(({ network }) => network));
  const elsewhere = coverOf([...ownSource.keys()].map(ipv4).filter((vmIp) => !isInside(vmIp)));
  return [
    ordered('nat', HAIRPIN, [
      ...[...networks, ...elsewhere.map(formatNetwork)].map((source) => `-s ${source} -j ${TRANSLATED}`),
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

const sourceLeaves = ({ ownSource }: Translation): Leaf[] =>
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
