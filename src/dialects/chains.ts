// What iptables-save and nft print of chains that forwarded packets come by -> chains to walk through. Pure.

import { anything, array, number, object, optional, string } from '../base/shape.ts';
import { CHAIN_PREFIX } from '../network/state.ts';
import {
  type Answer,
  all,
  isDevice,
  isState,
  not,
  type Probe,
  type Verdict,
  type Walk,
  type WalkRule,
} from '../network/walk.ts';
import { type AroundChains, GOES_ON, type NftTable, ruleText, withoutComment } from './filters.ts';
import { linesOf } from './iptables.ts';

/** FORWARD of filter. Ours are last there, or are about to be; not in what is of another `backend`. Of text that parseSave has read. */
export function parseForward(text: string, backend?: string): Walk {
  const chains = new Map<string, WalkRule[]>();
  const where = backend === undefined ? 'FORWARD' : `FORWARD of ${backend}`;
  const walk = { where, name: 'FORWARD', drops: false, chains };
  for (const line of linesOf('filter', text)) {
    if (OURS.test(line)) continue;
    const [, chain, policy] = /^:(\S+) (\S+)/.exec(line) ?? [];
    if (chain !== undefined) chains.set(chain, []);
    if (chain === 'FORWARD') walk.drops = policy === 'DROP';
    const [, from = '', rule = ''] = /^(?:\[\d+:\d+\] )?-A (\S+) ?(.*)$/s.exec(line) ?? [];
    chains.get(from)?.push(savedRule(rule, (name) => chains.has(name)));
  }
  if (backend === undefined) chains.get('FORWARD')?.push({ text: 'ours', matches: () => 'yes', verdict: 'accept' });
  return walk;
}

/** Others' lead nowhere that matters here. */
const OURS = new RegExp(`^(:|-A )${CHAIN_PREFIX}|^-A FORWARD -j ${CHAIN_PREFIX}`);

function savedRule(text: string, isChain: (name: string) => boolean): WalkRule {
  const rest = withoutComment(text);
  const [, matches = rest, way = '', target = ''] = /^(.*?) ?-([jg]) (\S+)/s.exec(rest) ?? [];
  const options = optionsOf(matches);
  return {
    text,
    matches: (probe) =>
      all(options.map((option) => (option.negated ? not(asked(option, probe)) : asked(option, probe)))),
    verdict: isChain(target) ? { to: target, returns: way === 'j' } : verdictOf(target),
  };
}

/** Matches that ask nothing without their options. */
const OF_OPTIONS = ['tcp', 'udp', 'conntrack', 'state'];

type Option = { negated: boolean; name: string; values: string[] };

function optionsOf(matches: string): Option[] {
  const options: Option[] = [];
  let negated = false;
  for (const word of matches.split(' ')) {
    if (word === '!') negated = true;
    else if (word.startsWith('-')) {
      options.push({ negated, name: word, values: [] });
      negated = false;
    } else if (word !== '') options.at(-1)?.values.push(word);
  }
  return options;
}

function asked({ name, values }: Option, probe: Probe): Answer {
  const [value = ''] = values;
  switch (name) {
    case '-i':
      return isDevice(probe.in, [value]);
    case '-o':
      return isDevice(probe.out, [value]);
    case '-p':
      return value === probe.protocol || value === 'all' ? 'yes' : 'no';
    case '-m':
      return OF_OPTIONS.includes(value) ? 'yes' : 'maybe';
    case '--ctstate':
    case '--state':
      return isState(probe, value.split(','));
    case '--ctstatus':
      return isState(probe, value.split(',')) === 'yes' ? 'yes' : 'maybe';
    default:
      return 'maybe';
  }
}

function verdictOf(target: string): Verdict {
  if (target === 'ACCEPT') return 'accept';
  if (target === 'DROP' || target === 'REJECT') return 'stop';
  if (target === 'RETURN') return 'return';
  return target === '' || target.startsWith(CHAIN_PREFIX) || GOES_ON.test(target) ? 'go on' : 'unknown';
}

const listing = object({
  nftables: array(
    object({
      chain: optional(
        object({ name: string, hook: optional(string), prio: optional(number), policy: optional(string) }),
      ),
      rule: optional(object({ chain: string, handle: number, expr: array(anything) })),
    }),
  ),
});

/** Of `nft -j list table`. */
export function parseNftForward(
  { family, name }: NftTable,
  json: string,
  { isKnown = () => false }: AroundChains = {},
): Walk[] {
  const { nftables } = listing(JSON.parse(json));
  const chains = new Map<string, WalkRule[]>();
  for (const { chain, rule } of nftables) {
    if (chain !== undefined) chains.set(chain.name, []);
    if (rule !== undefined) chains.get(rule.chain)?.push(...nftRules(rule));
  }
  return nftables.flatMap(({ chain }): Walk[] =>
    chain?.hook === 'forward' && !isKnown(chain.name, chain.hook, chain.prio ?? 0)
      ? [
          {
            where: `table ${family} ${name}, chain ${chain.name}`,
            name: chain.name,
            drops: chain.policy === 'drop',
            chains,
          },
        ]
      : [],
  );
}

/** A map of verdicts is a rule for each of its elements. */
function nftRules({ handle, expr }: { handle: number; expr: readonly unknown[] }): WalkRule[] {
  const text = ruleText(handle);
  const conditions: ((probe: Probe) => Answer)[] = [];
  for (const each of expr) {
    if (!isRecord(each)) continue;
    const [kind = '', what] = Object.entries(each)[0] ?? [];
    const verdict = nftVerdict(kind, what);
    const matches = (more: readonly ((probe: Probe) => Answer)[] = []) => {
      const asks = [...conditions, ...more];
      return (probe: Probe) => all(asks.map((ask) => ask(probe)));
    };
    if (kind === 'match') conditions.push((probe) => nftAnswer(what, probe));
    else if (verdict !== undefined) return [{ text, matches: matches(), verdict }];
    else if (kind === 'vmap') {
      const elements = elementsOf(what);
      if (elements === undefined) return [{ text, matches: matches(), verdict: 'unknown' }];
      return elements.map(([value, [way = '', target]]) => ({
        text,
        matches: matches([
          (probe) => nftAnswer({ op: '==', left: (what as { key?: unknown }).key, right: value }, probe),
        ]),
        verdict: nftVerdict(way, target) ?? 'unknown',
      }));
    } else if (!HARMLESS.includes(kind)) conditions.push(() => 'maybe');
  }
  return [];
}

/** Statements that ask nothing. */
const HARMLESS = ['counter', 'log', 'mangle', 'comment', 'flow', 'notrack'];

const isRecord = (value: unknown): value is Record<string, unknown> =>
  typeof value === 'object' && value !== null && !Array.isArray(value);

function nftVerdict(kind: string, what: unknown): Verdict | undefined {
  switch (kind) {
    case 'accept':
      return 'accept';
    case 'drop':
    case 'reject':
      return 'stop';
    case 'return':
      return 'return';
    case 'continue':
      return 'go on';
    case 'jump':
    case 'goto':
      return { to: target(what).target, returns: kind === 'jump' };
    case 'queue':
    case 'xt':
      return 'unknown';
    default:
      return undefined;
  }
}

const target = object({ target: string });

function elementsOf(vmap: unknown): [value: unknown, verdict: [kind: string, target: unknown]][] | undefined {
  const data = isRecord(vmap) && isRecord(vmap.data) ? vmap.data.set : undefined;
  if (!Array.isArray(data)) return undefined;
  return data.map((element: unknown) => {
    const [value, verdict] = Array.isArray(element) ? element : [];
    const [way] = isRecord(verdict) ? Object.entries(verdict) : [];
    return [value, way ?? ['', undefined]];
  });
}

function nftAnswer(match: unknown, probe: Probe): Answer {
  if (!isRecord(match)) return 'maybe';
  const { op, left, right } = match;
  const answer = nftSide(left, valuesOf(right), probe);
  return op === '!=' ? not(answer) : answer;
}

function nftSide(left: unknown, values: readonly string[] | undefined, probe: Probe): Answer {
  if (!isRecord(left)) return 'maybe';
  const { meta, ct, payload } = left;
  // Of one family alone, in a table of both.
  if (isRecord(payload) && payload.protocol === 'ip6') return 'no';
  if (values === undefined) return 'maybe';
  if (isRecord(meta)) {
    switch (meta.key) {
      case 'iif':
      case 'iifname':
        return isDevice(probe.in, values);
      case 'oif':
      case 'oifname':
        return isDevice(probe.out, values);
      case 'l4proto':
        return values.includes(probe.protocol) ? 'yes' : 'no';
      case 'nfproto':
        return values.includes('ipv4') ? 'yes' : 'no';
      case 'protocol':
        return values.includes('ip') ? 'yes' : 'no';
      default:
        return 'maybe';
    }
  }
  if (isRecord(ct) && ct.key === 'state') return isState(probe, values);
  if (isRecord(ct) && ct.key === 'status')
    return isState(probe, values) === 'yes' ? 'yes' : values.join() === 'dnat' ? 'no' : 'maybe';
  return 'maybe';
}

/** Undefined: a named set, or what is no plain value. */
function valuesOf(right: unknown): string[] | undefined {
  const items = isRecord(right) && Array.isArray(right.set) ? right.set : Array.isArray(right) ? right : [right];
  return items.every((item): item is string => typeof item === 'string' && !item.startsWith('@')) ? items : undefined;
}
