// Config and NICs → what the file does with addresses: which destination leads where, and which source becomes what. The rules
// of the packet filter say it, and flows that are under way are held against it (flows.ts). Pure.

import { contains, ipv4, type Network, networkOf, parseCidr } from '../base/ipv4.ts';
import type { Config, Nic, Snat } from '../config/config.ts';
import { type Inside, insideNetworks } from '../config/inside.ts';
import type { Gate, SourceRule, Translation } from './filter.ts';
import type { BoundNic } from './nics.ts';

/**
 * `as in 1.0`: what a router that 1.0 set up goes on doing until it is booted, or somebody asks for a reload. Hosts behind
 * routes are not inside then, a second uplink translates nothing, and nothing is guarded where it leaves.
 */
export type Ways = 'today' | 'as in 1.0';

export function translationOf(
  config: Config,
  bound: readonly BoundNic[],
  uplinkMac: string | undefined,
  ways: Ways,
): Translation {
  const gates = bound.filter(({ gateway }) => gateway !== undefined);
  const uplink = gates.find(({ mac }) => mac === uplinkMac);
  const present = new Set(bound.map(({ mac }) => mac));
  // A subnet is translated before its NIC is there: others may bring that up before we hear of it.
  const inside = insideNetworks(config).filter((each) => {
    const isThere = present.has(each.subnet.mac);
    return ways === 'today' ? isThere || !isBehind(each) : isThere && !isBehind(each);
  });
  const mapped = new Set(config.eips.map(({ eip }) => eip));
  const ownSource = new Map<string, string>();
  for (const { eip, vmIp } of config.eips) if (!ownSource.has(vmIp)) ownSource.set(vmIp, eip);
  return {
    uplink: uplink && gateOf(uplink),
    others: ways === 'today' ? gates.filter((nic) => nic !== uplink).map(gateOf) : [],
    eips: uplink === undefined ? [] : config.eips,
    forwards: uplink === undefined ? [] : config.forwards.filter(({ eip }) => !mapped.has(eip)),
    ownSource: uplink === undefined ? new Map() : ownSource,
    inside: inside.map(({ network }) => network),
    sources: sourceRules(config.snats, inside),
  };
}

const gateOf = ({ device, ipaddr }: BoundNic): Gate => ({ device, ipaddr });

/**
 * An entry of snat_list overrides what holds for the network around it. What is behind a route leaves as its subnet does, unless
 * an entry speaks of it, also one that is wider: in 1.0 that was the only way to translate it.
 */
export function sourceRules(snats: readonly Snat[] | undefined, inside: readonly Inside[]): SourceRule[] {
  const rules = new Map<string, SourceRule>();
  const put = (rule: SourceRule) => rules.set(keyOf(rule.network), rule);
  const written = (snats ?? []).flatMap(({ source, to }): SourceRule[] => {
    const network = parseCidr(source);
    return network === undefined ? [] : [{ network, to }];
  });
  const byDefault = snats === undefined || snats.length > 0;
  for (const each of inside) {
    const { network, subnet } = each;
    if (isBehind(each) && written.some((rule) => holds(rule.network, network))) continue;
    const own = isBehind(each) && written.find((rule) => keyOf(rule.network) === keyOf(networkOfNic(subnet)));
    if (own) put({ network, to: own.to });
    else if (byDefault) put({ network, to: 'uplink' });
  }
  for (const rule of written) put(rule);
  return [...rules.values()].sort((a, b) => b.network.prefix - a.network.prefix || a.network.base - b.network.base);
}

const keyOf = ({ base, prefix }: Network): string => `${base}/${prefix}`;

const holds = (wide: Network, narrow: Network): boolean => wide.prefix <= narrow.prefix && contains(wide, narrow.base);

const networkOfNic = ({ ipaddr, prefix }: Nic): Network => networkOf(ipv4(ipaddr), prefix);

/** Behind a route through the subnet, not in it. */
export const isBehind = ({ network, subnet }: Inside): boolean => keyOf(network) !== keyOf(networkOfNic(subnet));

/** What becomes of a source that leaves by an uplink; undefined: nothing is said of it, it is kept. */
export const sourceRuleFor = (sources: readonly SourceRule[], source: number): SourceRule | undefined =>
  sources.find(({ network }) => contains(network, source));
