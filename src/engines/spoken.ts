// Steps in an operator's words: where parts of the packet filter change, which EIPs, forwards and sources come, go or lead elsewhere by
// that. Pure.

import { formatNetwork } from '../base/ipv4.ts';
import type { Forward } from '../config/config.ts';
import type { Mappings, SourceRule } from '../network/filter.ts';
import { describe, type FilterStep, holds } from '../network/kinds.ts';
import type { Chain } from '../network/state.ts';
import type { Step } from '../network/step.ts';
import type { Words } from './engine.ts';
import { changesBy } from './iptables/words.ts';

/** Of the engine in use. */
const changesOf: Words = changesBy;

/** `found`: our chains before the first of these steps. A line for each step that changes no rule, and those of the rules together. */
export function spoken(steps: readonly Step[], found: readonly Chain[]): string[] {
  const at = steps.findIndex(isOfRules);
  if (at < 0) return steps.map(describe);
  const { was, is, rest } = changesOf(steps.filter(isOfRules), { chains: found });
  const changes = changesBetween(statementsOf(was), statementsOf(is));
  const others = rest(changes.length > 0);
  return [
    ...steps.slice(0, at).map(describe),
    ...changes,
    ...(others.length === 0 ? [] : [`~ packet filter (${others.join(', ')})`]),
    ...steps
      .slice(at)
      .filter((step) => !isOfRules(step))
      .map(describe),
  ];
}

const isOfRules = (step: Step): step is FilterStep => holds(step, 'filters');

/** In words: a subject, and where it leads. */
type Statements = Map<string, string>;

const statementsOf = ({ eips, forwards, sources }: Mappings): Statements =>
  new Map([
    ...eips.map(({ eip, vmIp }): [string, string] => [`EIP ${eip}`, vmIp]),
    ...forwards.map(forwardWords),
    ...sources.map(sourceWords),
  ]);

function forwardWords({ eip, protocol, port, endPort, vmIp, vmPort }: Forward): [string, string] {
  const ports = (from: number) => (port === endPort ? `${from}` : `${from}-${from + endPort - port}`);
  return [`forward ${eip}:${ports(port)}/${protocol}`, `${vmIp}:${ports(vmPort)}`];
}

function sourceWords({ network, to }: SourceRule): [string, string] {
  const leaves = typeof to === 'object' ? to.address : to === 'none' ? 'as it is' : "the uplink's own address";
  return [`source ${formatNetwork(network).replace(/\/32$/, '')}`, leaves];
}

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
