// NAT rules that are not ours: whether one of them may have decided over a flow. Where that cannot be told, it may. Pure.

import { contains, parseCidr } from '../../base/ipv4.ts';
import { isOurJump, leadsTo, NFT_VERDICT } from '../../dialects/our-rules.ts';
import type { FirstPacket, ForeignNat, NatRules } from '../../network/flows.ts';
import { CHAIN_PREFIX } from '../../network/state.ts';
import type { Answer } from '../../network/walk.ts';
import type { Exemptions } from '../engine.ts';

/**
 * What an operator keeps from being translated, by an ACCEPT in POSTROUTING before our rules: as RETURN, for a chain of ours. Of simple
 * matches only, which every table takes.
 */
export function exemptions(postrouting: readonly string[], chains: () => NatRules): Exemptions {
  const ours = postrouting.findIndex(isOurJump);
  const before = postrouting.slice(0, ours === -1 ? 0 : ours);
  const [simple, others] = [
    before.filter((rule) => SIMPLE_ACCEPT.test(rule)),
    before.filter((rule) => !SIMPLE_ACCEPT.test(rule)),
  ];
  return {
    exempt: simple.map((rule) => rule.replace(/ACCEPT$/, 'RETURN')),
    all: others.length === 0 || !others.some((rule) => mayKeep(rule, chains(), 0)),
  };
}

const SIMPLE_ACCEPT = /^(?:(?:! )?-[sdop] [\w./+@-]+ |-m (?:tcp|udp) |(?:! )?--[sd]port [\d:]+ )+-j ACCEPT$/;

/** Whether it may let a packet by as it is. Out of a foreign chain RETURN leads on to ours. */
function mayKeep(rule: string, chains: NatRules, depth: number): boolean {
  const { target, isGoto } = targetOf(rule);
  if (target === 'RETURN') return depth === 0;
  const below = chains[target];
  if (below === undefined) return target === 'ACCEPT' || target === NFT_VERDICT;
  return isGoto || depth > DEEPEST || below.some((each) => mayKeep(each, chains, depth + 1));
}

type Match = (packet: FirstPacket) => Answer;
type MatchRule = { match: Match; target: string };

/** Targets that let the next rule be asked. */
const GOES_ON = new Set(['LOG', 'NFLOG', 'ULOG', 'MARK', 'CONNMARK', 'TRACE', '']);
const DEEPEST = 32;

export function foreignNat(rules: NatRules, isLocal: (address: number) => boolean): ForeignNat {
  const parsed = new Map<string, MatchRule[]>();
  const rulesOf = (chain: string): MatchRule[] => {
    const known = parsed.get(chain) ?? (rules[chain] ?? []).map((rule) => parseRule(rule, isLocal));
    parsed.set(chain, known);
    return known;
  };
  const mayDecide: ForeignNat['mayDecide'] = (hook, packet, oursDecides) => {
    const decides = (chain: string, depth: number): boolean => {
      for (const { match, target } of rulesOf(chain)) {
        const answer = match(packet);
        if (answer === 'no' || GOES_ON.has(target)) continue;
        if (target.startsWith(CHAIN_PREFIX)) {
          if (oursDecides && answer === 'yes') return depth > 0;
          continue;
        }
        if (target === 'RETURN') {
          // Out of a built-in chain: then ours behind it are not asked.
          if (depth === 0 && oursDecides) return true;
          if (answer === 'yes') return false;
          continue;
        }
        if (rules[target] === undefined || depth > DEEPEST) return true;
        if (decides(target, depth + 1)) return true;
      }
      return false;
    };
    return decides(hook, 0);
  };
  return { isThere: Object.values(rules).some((each) => each.some((rule) => leadsTo(rule) === undefined)), mayDecide };
}

/** Without one it is `''`. */
function targetOf(text: string): { target: string; isGoto: boolean } {
  if (text === '') return { target: NFT_VERDICT, isGoto: false };
  const words = wordsOf(text);
  const at = words.findIndex(isTarget);
  return at === -1 ? { target: '', isGoto: false } : { target: words[at + 1] ?? '', isGoto: words[at] === '-g' };
}

const isTarget = (word: string | undefined): boolean => word === '-j' || word === '-g';

const wordsOf = (text: string): string[] => text.match(/"(?:[^"\\]|\\.)*"|\S+/g) ?? [];

function parseRule(text: string, isLocal: (address: number) => boolean): MatchRule {
  if (text === '') return { target: NFT_VERDICT, match: () => 'maybe' };
  const words = wordsOf(text);
  const matches: Match[] = [];
  for (let at = 0; at < words.length; at++) {
    const negated = words[at] === '!';
    if (negated) at++;
    const option = words[at] ?? '';
    // What follows the target is the target's.
    if (isTarget(option)) break;
    const value = words[at + 1];
    if (value === undefined || value.startsWith('-') || value === '!') {
      matches.push(() => 'maybe');
      continue;
    }
    at++;
    if (option === '-m' || option === '--comment') continue;
    const match = matchOf(option, value, isLocal);
    matches.push(negated ? (packet) => OPPOSITE[match(packet)] : match);
  }
  return {
    target: targetOf(text).target,
    match: (packet) => {
      let answer: Answer = 'yes';
      for (const match of matches) {
        const one = match(packet);
        if (one === 'no') return 'no';
        if (one === 'maybe') answer = 'maybe';
      }
      return answer;
    },
  };
}

const OPPOSITE: Readonly<Record<Answer, Answer>> = { yes: 'no', no: 'yes', maybe: 'maybe' };

const sure = (holds: boolean): Answer => (holds ? 'yes' : 'no');

function matchOf(option: string, value: string, isLocal: (address: number) => boolean): Match {
  switch (option) {
    case '-s':
    case '-d': {
      const network = parseCidr(value);
      if (network === undefined) break;
      return option === '-s'
        ? ({ source }) => sure(contains(network, source))
        : ({ destination }) => sure(contains(network, destination));
    }
    case '-p':
      // Where conntrack has no name for it, or iptables has none, they cannot be compared.
      return ({ protocol }) => (protocol === 'unknown' || /^\d/.test(value) ? 'maybe' : sure(protocol === value));
    case '-i':
      return ({ in: devices }) => anyOf((devices ?? [undefined]).map((device) => deviceIs(device, value)));
    case '-o':
      return ({ out: device }) => deviceIs(device, value);
    case '--dport':
      return ({ destinationPort }) => portIs(destinationPort, value);
    case '--sport':
      return ({ sourcePort }) => portIs(sourcePort, value);
    case '--dst-type':
      if (value === 'LOCAL') return ({ destination }) => sure(isLocal(destination));
      break;
    case '--src-type':
      if (value === 'LOCAL') return ({ source }) => sure(isLocal(source));
  }
  return () => 'maybe';
}

/** `eth+` is every name that begins so. */
const deviceIs = (device: string | undefined, value: string): Answer =>
  device === undefined ? 'maybe' : sure(value.endsWith('+') ? device.startsWith(value.slice(0, -1)) : device === value);

const anyOf = ([first = 'maybe', ...rest]: readonly Answer[]): Answer =>
  rest.every((answer) => answer === first) ? first : 'maybe';

function portIs(port: number | undefined, value: string): Answer {
  const [from = 0, to = from] = value.split(':').map(Number);
  return port === undefined ? 'maybe' : sure(from <= port && port <= to);
}
