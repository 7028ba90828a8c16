// Steps, and our chains as they are found → what the chains that change say before and after, in types. Pure.

import { count } from '../../base/count.ts';
import { formatIpv4, parseCidr } from '../../base/ipv4.ts';
import type { Eip, Forward } from '../../config/config.ts';
import type { Mappings, SourceRule } from '../../network/filter.ts';
import type { FilterStep } from '../../network/kinds.ts';
import { CHAIN_PREFIX, type Chain, chainKey } from '../../network/state.ts';
import type { Words } from '../engine.ts';

export const changesBy: Words = (steps, found) => {
  const chains = new Map(found.chains.map((chain) => [chainKey(chain), chain]));
  const touched = new Map<string, Chain | undefined>();
  for (const step of steps) {
    const [key, chain] = after(step, chains) ?? [];
    if (key === undefined) continue;
    if (!touched.has(key)) touched.set(key, chains.get(key));
    if (chain === undefined) chains.delete(key);
    else chains.set(key, chain);
  }
  return {
    was: mappingsIn([...touched.values()].flatMap((chain) => chain ?? [])),
    is: mappingsIn([...touched.keys()].flatMap((key) => chains.get(key) ?? [])),
    rest: (isSaid) => restOf(steps, isSaid),
  };
};

/** A chain as the step leaves it, by its key; without one it is gone. */
function after(
  step: FilterStep,
  chains: ReadonlyMap<string, Chain>,
): [key: string, chain: Chain | undefined] | undefined {
  switch (step.kind) {
    case 'add-chain':
    case 'replace-chain':
      return [chainKey(step.chain), step.chain];
    case 'remove-chain':
      return [chainKey(step), undefined];
    case 'edit-chain': {
      const { table, name } = step;
      const going = [...step.remove];
      const rules = (chains.get(chainKey(step))?.rules ?? []).filter((rule) => {
        const index = going.indexOf(rule);
        if (index >= 0) going.splice(index, 1);
        return index < 0;
      });
      return [chainKey(step), { table, name, ordered: false, rules: [...rules, ...step.add] }];
    }
    case 'add-jump':
    case 'remove-jump':
      return undefined;
  }
}

/** What chains say of addresses, whoever they are reached by. */
export function mappingsIn(chains: readonly Chain[]): Mappings {
  const mappings = { eips: [] as Eip[], forwards: [] as Forward[], sources: [] as SourceRule[] };
  for (const { table, name, rules } of chains) {
    const kind = table === 'nat' ? name.slice(CHAIN_PREFIX.length) : '';
    const eip = forwardedBy(kind);
    if (/^D(NAT$|\d)/.test(kind)) mappings.eips.push(...rules.flatMap(eipIn));
    else if (/^S(OURCE$|\d)/.test(kind) || kind === 'OUTBOUND') mappings.sources.push(...rules.flatMap(sourceIn));
    else if (eip !== undefined) mappings.forwards.push(...rules.flatMap((rule) => forwardIn(eip, rule)));
  }
  return mappings;
}

/** The EIP whose ports a chain has. */
function forwardedBy(kind: string): string | undefined {
  const [, dotted, hex] = /^P-(?:([\d.]+)|([\dA-F]{8})-.*)$/.exec(kind) ?? [];
  return hex === undefined ? dotted : formatIpv4(Number.parseInt(hex, 16));
}

function eipIn(rule: string): Eip[] {
  const [, eip, vmIp] = /^-d (\S+)\/32 -j DNAT --to-destination (\S+)$/.exec(rule) ?? [];
  return eip === undefined || vmIp === undefined ? [] : [{ eip, vmIp }];
}

function forwardIn(eip: string, rule: string): Forward[] {
  const [, protocol, ports, to] = /^-p (tcp|udp) -m \S+ --dport (\S+) -j DNAT --to-destination (\S+)$/.exec(rule) ?? [];
  if (protocol === undefined || ports === undefined || to === undefined) return [];
  const [port = 0, endPort = port] = ports.split(':').map(Number);
  const [vmIp = '', place] = to.split(':');
  // A range that stays as it is names no port; one that moves its first, its last and its base.
  const vmPort = place === undefined ? port : Number.parseInt(place, 10);
  return [{ eip, protocol: protocol === 'udp' ? 'udp' : 'tcp', port, endPort, vmIp, vmPort }];
}

function sourceIn(rule: string): SourceRule[] {
  const [, from, verdict, address] = /^-s (\S+) -j (SNAT|MASQUERADE|RETURN)(?: --to-source (\S+))?$/.exec(rule) ?? [];
  const network = from === undefined ? undefined : parseCidr(from);
  if (network === undefined) return [];
  return [{ network, to: address !== undefined ? { address } : verdict === 'MASQUERADE' ? 'masquerade' : 'none' }];
}

/** Chains that lead to mappings need no words beside those of the mappings. */
const LEADING = /^(?:[DSHI]\d|P-|(?:DNAT|SOURCE|OUTBOUND|OUTBOUND-OTHER|HAIRPIN|HAIRPIN-SOURCE|TRANSLATED|INPUT)$)/;

function restOf(steps: readonly FilterStep[], isSaid: boolean): string[] {
  const isLeading = (name: string) => LEADING.test(name.slice(CHAIN_PREFIX.length));
  const chains = new Set<string>();
  let jumps = 0;
  for (const step of steps) {
    const chain = 'chain' in step ? step.chain : 'name' in step ? step : undefined;
    if (chain === undefined) jumps++;
    else if (!(isSaid && isLeading(chain.name))) chains.add(chainKey(chain));
  }
  return [...(chains.size === 0 ? [] : [count(chains.size, 'chain')]), ...(jumps === 0 ? [] : [count(jumps, 'jump')])];
}
