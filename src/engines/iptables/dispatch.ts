// Chains that lead a packet to the one rule for its address in a few steps. Pure.
//
// A flat list costs each new connection a walk through every EIP: measured, 4,000 EIPs leave 2 % of the connection rate
// that one EIP has (iptables-nft) or 9 % (legacy); chains by /24, then /28, then the address keep 89 %.

import { formatIpv4, formatNetwork, networkOf } from '../../base/ipv4.ts';
import { CHAIN_PREFIX, type Chain, type TableName } from '../../network/state.ts';

/** The verdict for one address, or a network, as the end of a rule: `-j DNAT --to-destination 10.0.0.5`. */
export type Leaf = { address: number; prefix?: number; verdict: string };

export type Dispatch = {
  table: TableName;
  /** Name of the chain to jump to. */
  root: string;
  /** One letter that keeps this dispatch's chains apart from those of others. */
  letter: string;
  /** What names the address: the destination, the source, or the one that was asked for before it was translated. */
  match: '-d' | '-s' | '-m conntrack --ctorigdst';
};

/** Blocks of this prefix length have a chain of their own, in which addresses are told apart. */
export const LAST_LEVEL = 28;

/** One level a chain: what a chain of the level before tells apart. The chains of the last one tell addresses apart. */
const LEVELS = [24, LAST_LEVEL] as const;

/** The chains of a dispatch, root first; each leaf is in the chain of the smallest block that holds it whole; the root is there even when there is nothing to dispatch. */
export function dispatchChains(dispatch: Dispatch, leaves: readonly Leaf[]): Chain[] {
  const root: Chain & { rules: string[] } = { table: dispatch.table, name: dispatch.root, rules: [], ordered: false };
  const chains = new Map([[dispatch.root, root]]);
  // As iptables-save prints it.
  const single = dispatch.match.startsWith('-m') ? '' : '/32';
  let last: { base: number; chain: typeof root } | undefined;
  for (const { address, prefix = 32, verdict } of [...leaves].sort((a, b) => a.address - b.address)) {
    // In order, so that neighbours need the way to their chain once: naming networks is what takes time here.
    const { base } = networkOf(address, LAST_LEVEL);
    if (prefix <= LAST_LEVEL) last = undefined;
    if (last?.base !== base) last = { base, chain: chainFor(address, prefix) };
    const suffix = prefix === 32 ? single : `/${prefix}`;
    last.chain.rules.push(`${dispatch.match} ${formatIpv4(address)}${suffix} ${verdict}`);
    if (prefix <= LAST_LEVEL) last = undefined;
  }
  return [...chains.values()];

  function chainFor(address: number, narrowest: number): typeof root {
    let chain = root;
    for (const prefix of LEVELS) {
      if (prefix >= narrowest) break;
      const network = networkOf(address, prefix);
      // 28 characters at the most, which is what the kernel takes: KYLIN-VR-D28-255.255.255.240
      const name = `${CHAIN_PREFIX}${dispatch.letter}${prefix}-${formatIpv4(network.base)}`;
      const next = chains.get(name) ?? { table: dispatch.table, name, rules: [], ordered: false };
      if (!chains.has(name)) {
        chains.set(name, next);
        chain.rules.push(`${dispatch.match} ${formatNetwork(network)} -j ${name}`);
      }
      chain = next;
    }
    return chain;
  }
}
