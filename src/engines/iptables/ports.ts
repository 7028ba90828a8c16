// The forwards of one EIP → chains that lead a packet to the rule for its port. Pure.
//
// A few forwards are a list. Many are told apart by blocks of ports (4,096, then 256, then 16), for the same reason as
// addresses are: see dispatch.ts.

import { AgentError, EXIT } from '../../base/errors.ts';
import { ipv4 } from '../../base/ipv4.ts';
import type { Forward, Protocol } from '../../config/config.ts';
import { type Filter, isShiftedRange } from '../../network/filter.ts';
import { CHAIN_PREFIX, type Chain } from '../../network/state.ts';
import type { Abilities } from '../engine.ts';

/** More forwards than this in one chain are told apart by blocks of ports. */
const FLAT_FORWARDS = 16;

/** The name of the chain for the ports of an EIP. */
export const portsChainName = (eip: string): string => `${CHAIN_PREFIX}P-${eip}`;

/** The chains for the forwards of one EIP, which are disjoint; the first is `portsChainName(eip)`. */
export function portChains(eip: string, forwards: readonly Forward[]): Chain[] {
  const hex = ipv4(eip).toString(16).padStart(8, '0').toUpperCase();
  const chains: Chain[] = [];
  const add = (name: string, rules: string[]) => chains.push({ table: 'nat', name, rules, ordered: false });

  /** The rules of a chain that is reached by 2^bits ports; adds the chains below it. `digits` are the block's leading hex digits. */
  const blockRules = (protocol: Protocol, digits: string, bits: number, inBlock: readonly Forward[]): string[] => {
    if (inBlock.length <= FLAT_FORWARDS || bits === 4) return inBlock.map(forwardRule);
    const childBits = bits - 4;
    const rules: string[] = [];
    const children = new Map<number, Forward[]>();
    for (const forward of inBlock) {
      const block = forward.port >> childBits;
      const list = children.get(block);
      if (block !== forward.endPort >> childBits) rules.push(forwardRule(forward));
      else if (list === undefined) children.set(block, [forward]);
      else list.push(forward);
    }
    for (const [block, list] of children) {
      const childDigits = digits + (block & 15).toString(16).toUpperCase();
      const name = `${CHAIN_PREFIX}P-${hex}-${protocol[0]?.toUpperCase()}${childDigits}`;
      const first = block << childBits;
      rules.push(`${portMatch(protocol, first, first + (1 << childBits) - 1)} -j ${name}`);
      add(name, blockRules(protocol, childDigits, childBits, list));
    }
    return rules;
  };

  const sorted = [...forwards].sort((a, b) => a.port - b.port);
  const tcp = sorted.filter(({ protocol }) => protocol === 'tcp');
  const udp = sorted.filter(({ protocol }) => protocol === 'udp');
  const rules = [...blockRules('tcp', '', 16, tcp), ...blockRules('udp', '', 16, udp)];
  return [{ table: 'nat', name: portsChainName(eip), rules, ordered: false }, ...chains];
}

function forwardRule(forward: Forward): string {
  return `${portMatch(forward.protocol, forward.port, forward.endPort)} -j DNAT --to-destination ${destination(forward)}`;
}

function portMatch(protocol: Protocol, from: number, to: number): string {
  return `-p ${protocol} -m ${protocol} --dport ${from === to ? from : `${from}:${to}`}`;
}

/**
 * One port is named; a range that stays as it is needs no port (the kernel then leaves it alone); a range that moves is
 * given with its base, so that port n goes to vmPort + (n - port): see `mapsShiftedRanges`.
 */
function destination({ vmIp, vmPort, port, endPort }: Forward): string {
  if (port === endPort) return `${vmIp}:${vmPort}`;
  if (port === vmPort) return vmIp;
  return `${vmIp}:${vmPort}-${vmPort + endPort - port}/${port}`;
}

/** Ports of a shifted range where each needs a rule of its own. */
export const MOST_SINGLE_PORTS = 1024;

/** With shifted ranges port by port, where one rule cannot map one. Throws AgentError (65) where those would be too many. */
export function withSupportedForwards<T extends Pick<Filter, 'forwards'>>(
  filter: T,
  { shiftedRanges }: Pick<Abilities, 'shiftedRanges'>,
): T {
  if (shiftedRanges || !filter.forwards.some(isShiftedRange)) return filter;
  const forwards = filter.forwards.flatMap((forward) => {
    if (!isShiftedRange(forward)) return [forward];
    const { eip, protocol, port, endPort, vmPort } = forward;
    if (endPort - port + 1 > MOST_SINGLE_PORTS)
      throw new AgentError(
        `forward ${eip}:${port}-${endPort}/${protocol}: this kernel or iptables maps a range to other ports one by one only, ` +
          `${MOST_SINGLE_PORTS} at the most: use vm-port ${port} instead of ${vmPort}, or a shorter range`,
        EXIT.config,
      );
    return singlePorts(forward);
  });
  return { ...filter, forwards };
}

/** A shifted range as single ports, for a kernel or an iptables that maps all of it to the first port (before 4.18, 1.8). */
export function singlePorts(forward: Forward): Forward[] {
  return Array.from({ length: forward.endPort - forward.port + 1 }, (_, offset) => ({
    ...forward,
    port: forward.port + offset,
    endPort: forward.port + offset,
    vmPort: forward.vmPort + offset,
  }));
}
