// Config and NICs → the rules of the packet filter: what happens to every packet of DESIGN's traffic table. Pure.
//
//   nat PREROUTING, OUTPUT ─▶ DNAT ─▶ by destination ─▶ the VM, or the ports of a forwarded EIP
//   nat POSTROUTING ─▶ POSTROUTING ─▶ OUTBOUND (leaves by the uplink) ─▶ SOURCE (the sender's own EIP), else snat_list
//                                 └─▶ HAIRPIN (was sent to an EIP)    ─▶ SOURCE, else the uplink's address
//   filter INPUT ─▶ INPUT ─▶ by destination ─▶ drop: the router itself answers nothing new on an EIP
//   filter FORWARD ─▶ FORWARD ─▶ accept between NICs of if_list
//
// DNAT is not limited to the uplink: VMs reach EIPs too. Which packets get a new source is decided by their source
// address, since POSTROUTING knows no input device: packets from outside match nothing and keep theirs.

import type { Config, Snat } from '../config/config.ts';
import { dispatchChains, type Leaf } from './dispatch.ts';
import { formatNetwork, ipv4, networkOf, parseCidr } from './ipv4.ts';
import type { BoundNic } from './nics.ts';
import { portChains, portsChainName } from './ports.ts';
import { CHAIN_PREFIX, type Chain, type Jump } from './state.ts';

const DNAT = `${CHAIN_PREFIX}-DNAT`;
const POSTROUTING = `${CHAIN_PREFIX}-POSTROUTING`;
const OUTBOUND = `${CHAIN_PREFIX}-OUTBOUND`;
const HAIRPIN = `${CHAIN_PREFIX}-HAIRPIN`;
const SOURCE = `${CHAIN_PREFIX}-SOURCE`;
const INPUT = `${CHAIN_PREFIX}-INPUT`;
const FORWARD = `${CHAIN_PREFIX}-FORWARD`;
const FORWARD_TO = `${CHAIN_PREFIX}-FORWARD-TO`;

export type FilterRules = { chains: Chain[]; jumps: Jump[] };

/** Rules for the NICs that are there. `uplink` is undefined where the configuration has none or it is pending: no NAT then. */
export function filterRules(config: Config, bound: readonly BoundNic[], uplink: BoundNic | undefined): FilterRules {
  const forwarding = bound.length === 0 ? { chains: [], jumps: [] } : forwardRules(bound);
  if (uplink === undefined) return forwarding;
  const nat = natRules(config, bound, uplink);
  return { chains: [...forwarding.chains, ...nat.chains], jumps: [...forwarding.jumps, ...nat.jumps] };
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

function natRules(config: Config, bound: readonly BoundNic[], uplink: BoundNic): FilterRules {
  const subnets = bound.filter((nic) => nic.gateway === undefined).map(subnetOf);
  const mapped = new Set(config.eips.map(({ eip }) => eip));
  const forwards = groupBy(
    config.forwards.filter(({ eip }) => !mapped.has(eip)),
    ({ eip }) => eip,
  );
  const toUplinkAddress = `-j SNAT --to-source ${uplink.ipaddr}`;

  const destinations: Leaf[] = [
    ...config.eips.map(({ eip, vmIp }) => ({ address: ipv4(eip), verdict: `-j DNAT --to-destination ${vmIp}` })),
    ...[...forwards.keys()].map((eip) => ({ address: ipv4(eip), verdict: `-j ${portsChainName(eip)}` })),
  ];
  return {
    chains: [
      ...dispatchChains({ table: 'nat', root: DNAT, letter: 'D', match: '-d' }, destinations),
      ...[...forwards].flatMap(([eip, list]) => portChains(eip, list)),
      ...dispatchChains({ table: 'nat', root: SOURCE, letter: 'S', match: '-s' }, sourceLeaves(config)),
      ordered('nat', POSTROUTING, [`-o ${uplink.device} -j ${OUTBOUND}`, `-m conntrack --ctstate DNAT -j ${HAIRPIN}`]),
      ordered('nat', OUTBOUND, [`-j ${SOURCE}`, ...outboundRules(config.snats, subnets, toUplinkAddress)]),
      ordered('nat', HAIRPIN, [
        `-j ${SOURCE}`,
        ...subnets.map((subnet) => `-s ${subnet} ${toUplinkAddress}`),
        // The router's own packets to an EIP: their source would be that EIP.
        `-m addrtype --src-type LOCAL ${toUplinkAddress}`,
      ]),
      ...dispatchChains({ table: 'filter', root: INPUT, letter: 'I', match: '-d' }, guardLeaves(config, uplink)),
    ],
    jumps: [
      { table: 'nat', hook: 'PREROUTING', rule: `-j ${DNAT}`, place: 'anywhere' },
      { table: 'nat', hook: 'OUTPUT', rule: `-j ${DNAT}`, place: 'anywhere' },
      { table: 'nat', hook: 'POSTROUTING', rule: `-j ${POSTROUTING}`, place: 'anywhere' },
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

/** Every address that the uplink carries beside its own: what is mapped, forwarded, or a source. */
export function elasticAddresses(config: Config, uplink: { ipaddr: string }): string[] {
  const addresses = new Set([
    ...config.eips.map(({ eip }) => eip),
    ...config.forwards.map(({ eip }) => eip),
    ...(config.snats ?? []).flatMap(({ to }) => (typeof to === 'object' ? [to.address] : [])),
  ]);
  addresses.delete(uplink.ipaddr);
  return [...addresses]
    .map((address) => ({ address, value: ipv4(address) }))
    .sort((a, b) => a.value - b.value)
    .map(({ address }) => address);
}

function guardLeaves(config: Config, uplink: BoundNic): Leaf[] {
  return elasticAddresses(config, uplink).map((address) => ({ address: ipv4(address), verdict: '-j DROP' }));
}

/** Two EIPs on one VM: both reach it, the first is its source address. */
function sourceLeaves(config: Config): Leaf[] {
  const eipOfVm = new Map<string, string>();
  for (const { eip, vmIp } of config.eips) if (!eipOfVm.has(vmIp)) eipOfVm.set(vmIp, eip);
  return [...eipOfVm].map(([vmIp, eip]) => ({ address: ipv4(vmIp), verdict: `-j SNAT --to-source ${eip}` }));
}

/** The narrowest source first: an entry of snat_list overrides what holds for the network around it. */
function outboundRules(
  snats: readonly Snat[] | undefined,
  subnets: readonly string[],
  toUplinkAddress: string,
): string[] {
  const verdicts = new Map<string, string>();
  if (snats === undefined || snats.length > 0) for (const subnet of subnets) verdicts.set(subnet, toUplinkAddress);
  for (const { source, to } of snats ?? []) verdicts.set(source, snatVerdict(to));
  return [...verdicts]
    .map(([source, verdict]) => ({ network: parseCidr(source) ?? { base: 0, prefix: 0 }, source, verdict }))
    .sort((a, b) => b.network.prefix - a.network.prefix || a.network.base - b.network.base)
    .map(({ source, verdict }) => (source === '0.0.0.0/0' ? verdict : `-s ${source} ${verdict}`));
}

function snatVerdict(to: Snat['to']): string {
  if (to === 'masquerade') return '-j MASQUERADE';
  if (to === 'none') return '-j RETURN';
  return `-j SNAT --to-source ${to.address}`;
}

function groupBy<T>(items: readonly T[], keyOf: (item: T) => string): Map<string, T[]> {
  const groups = new Map<string, T[]>();
  for (const item of items) {
    const group = groups.get(keyOf(item));
    if (group === undefined) groups.set(keyOf(item), [item]);
    else group.push(item);
  }
  return groups;
}

const subnetOf = (nic: BoundNic): string => formatNetwork(networkOf(ipv4(nic.ipaddr), nic.prefix));

const chain = (table: Chain['table'], name: string, rules: string[]): Chain => ({ table, name, rules, ordered: false });
const ordered = (table: Chain['table'], name: string, rules: string[]): Chain => ({
  table,
  name,
  rules,
  ordered: true,
});
