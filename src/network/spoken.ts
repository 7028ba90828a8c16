// Steps in an operator's words: where chains of ours change, which EIPs, forwards and sources come, go or lead elsewhere by that. Pure.

import { count } from '../base/count.ts';
import { formatIpv4 } from '../base/ipv4.ts';
import { describe, holds, type StepWith } from './kinds.ts';
import { CHAIN_PREFIX, type Chain, chainKey } from './state.ts';
import type { Step } from './step.ts';

/** `found`: our chains before the first of these steps. A line for each step that changes no rule, and those of the rules together. */
export function spoken(steps: readonly Step[], found: readonly Chain[]): string[] {
  const at = steps.findIndex(isOfRules);
  if (at < 0) return steps.map(describe);
  const chains = new Map(found.map((chain) => [chainKey(chain), chain]));
  const touched = new Map<string, Chain | undefined>();
  for (const step of steps.filter(isOfRules)) {
    const [key, chain] = after(step, chains) ?? [];
    if (key === undefined) continue;
    if (!touched.has(key)) touched.set(key, chains.get(key));
    if (chain === undefined) chains.delete(key);
    else chains.set(key, chain);
  }
  const was = statementsOf([...touched.values()].flatMap((chain) => chain ?? []));
  const is = statementsOf([...touched.keys()].flatMap((key) => chains.get(key) ?? []));
  const changes = changesBetween(was, is);
  return [
    ...steps.slice(0, at).map(describe),
    ...changes,
    ...restOf(steps.filter(isOfRules), changes.length > 0),
    ...steps
      .slice(at)
      .filter((step) => !isOfRules(step))
      .map(describe),
  ];
}

type FilterStep = StepWith<'filters', true>;

const isOfRules = (step: Step): step is FilterStep => holds(step, 'filters');

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

/** What rules say: a subject, and where it leads. */
type Statements = Map<string, string>;

function statementsOf(chains: readonly Chain[]): Statements {
  const statements: Statements = new Map();
  for (const { table, name, rules } of chains) {
    const kind = table === 'nat' ? kindOf(name.slice(CHAIN_PREFIX.length)) : undefined;
    if (kind !== undefined) for (const rule of rules) kind(rule, statements);
  }
  return statements;
}

type Reader = (rule: string, statements: Statements) => void;

function kindOf(name: string): Reader | undefined {
  if (/^D(NAT$|\d)/.test(name)) return readEip;
  if (/^S(OURCE$|\d)/.test(name) || name === 'OUTBOUND') return readSource;
  const [, dotted, hex] = /^P-(?:([\d.]+)|([\dA-F]{8})-.*)$/.exec(name) ?? [];
  if (dotted !== undefined) return forwardsOf(dotted);
  return hex === undefined ? undefined : forwardsOf(formatIpv4(Number.parseInt(hex, 16)));
}

const readEip: Reader = (rule, statements) => {
  const [, eip, vm] = /^-d (\S+)\/32 -j DNAT --to-destination (\S+)$/.exec(rule) ?? [];
  if (eip !== undefined && vm !== undefined) statements.set(`EIP ${eip}`, vm);
};

const forwardsOf =
  (eip: string): Reader =>
  (rule, statements) => {
    const [, protocol, ports, to] = /^-p (\S+) -m \S+ --dport (\S+) -j DNAT --to-destination (\S+)$/.exec(rule) ?? [];
    if (protocol === undefined || ports === undefined || to === undefined) return;
    const range = ports.replace(':', '-');
    const place = to.replace(/\/\d+$/, '');
    statements.set(`forward ${eip}:${range}/${protocol}`, place.includes(':') ? place : `${place}:${range}`);
  };

const readSource: Reader = (rule, statements) => {
  const [, from, verdict, address] = /^-s (\S+) -j (SNAT|MASQUERADE|RETURN)(?: --to-source (\S+))?$/.exec(rule) ?? [];
  if (from === undefined) return;
  const leaves = address ?? (verdict === 'MASQUERADE' ? "the uplink's own address" : 'as it is');
  statements.set(`source ${from.replace(/\/32$/, '')}`, leaves);
};

function changesBetween(was: Statements, is: Statements): string[] {
  // By its EIP a VM has a source, too: said with that.
  const isOfEip = (subject: string, eip: string, here: Statements, there: Statements) => {
    const vm = subject.replace(/^source /, '');
    return vm !== subject && here.get(`EIP ${eip}`) === vm && there.get(`EIP ${eip}`) !== vm;
  };
  const gone = [...was].filter(([subject, to]) => !is.has(subject) && !isOfEip(subject, to, was, is));
  const here = [...is].filter(([subject, to]) => was.get(subject) !== to && !isOfEip(subject, to, is, was));
  return [
    ...gone.map(([subject, to]) => `- ${subject} → ${to}`),
    ...here.map(([subject, to]) => {
      const before = was.get(subject);
      return before === undefined ? `+ ${subject} → ${to}` : `~ ${subject} → ${to} (was ${before})`;
    }),
  ];
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
  const counts = [
    ...(chains.size === 0 ? [] : [count(chains.size, 'chain')]),
    ...(jumps === 0 ? [] : [count(jumps, 'jump')]),
  ];
  return counts.length === 0 ? [] : [`~ packet filter (${counts.join(', ')})`];
}
