// Chains of ours, as they are or are to be → what they say to a packet, by which rule. Rules of others are not walked: what they
// do is network/obstacles.ts's matter. Pure.

import { contains, type Network, parseCidr } from '../../base/ipv4.ts';
import { isOurJump } from '../../dialects/our-rules.ts';
import type { FilterParts, TableName } from '../../network/state.ts';

/** A packet in one hook. */
export type Passing = {
  from: number;
  to: number;
  /** Of others nothing is told apart. */
  protocol: 'tcp' | 'udp';
  port: number;
  in?: string;
  out?: string;
  /** The router itself sends it. */
  local?: true;
  /** NEW, unless said. */
  state?: 'ESTABLISHED';
  /** Its flow has another source behind the router. */
  isTranslated?: true;
  /** What it, or what it answers, was sent to, where that has been translated. */
  askedFor?: number;
};

/** The rule that ends its course. `verdict`: the words behind -j. `packets`: as many went by it; of nat, the first of each connection. */
export type CourseEnd = { verdict: string; packets: number };

/** Undefined: no rule of ours says anything. */
export type Courses = (table: TableName, hook: string, passing: Passing) => CourseEnd | undefined;

/** Rules by `table CHAIN`, those of built-in chains as well, as iptables-save prints them, without `-A CHAIN`. */
export type RulesByChain = ReadonlyMap<string, readonly SavedRule[]>;

export type SavedRule = { text: string; packets?: number };

type CourseRule = CourseEnd & { matches: ((passing: Passing) => boolean)[]; target: string };

/** Behind any other target of iptables the next rule is asked. */
const ENDS: ReadonlySet<string> = new Set([
  'ACCEPT',
  'DROP',
  'REJECT',
  'DNAT',
  'SNAT',
  'MASQUERADE',
  'REDIRECT',
  'NETMAP',
]);

/** Of a built-in chain only jumps into ours are walked. */
export function coursesBy(rules: RulesByChain): Courses {
  const read = new Map<string, CourseRule[]>();
  const rulesOf = (chain: string, which: (rule: SavedRule) => boolean = () => true): CourseRule[] => {
    const known = read.get(chain);
    if (known !== undefined) return known;
    const parsed = (rules.get(chain) ?? []).filter(which).map(parseRule);
    read.set(chain, parsed);
    return parsed;
  };
  const walk = (table: TableName, chain: readonly CourseRule[], passing: Passing): CourseEnd | undefined => {
    for (const rule of chain) {
      if (!rule.matches.every((match) => match(passing))) continue;
      if (rule.target === 'RETURN') return undefined;
      const below = `${table} ${rule.target}`;
      const end = rules.has(below) ? walk(table, rulesOf(below), passing) : ENDS.has(rule.target) ? rule : undefined;
      if (end !== undefined) return end;
    }
    return undefined;
  };
  return (table, hook, passing) =>
    walk(
      table,
      rulesOf(`${table} ${hook}`, ({ text }) => isOurJump(text)),
      passing,
    );
}

/** What is in a state. */
export function rulesByChain({ chains, jumps }: FilterParts): RulesByChain {
  const rules = new Map<string, SavedRule[]>();
  for (const { table, name, rules: texts } of chains)
    rules.set(
      `${table} ${name}`,
      texts.map((text) => ({ text })),
    );
  for (const { table, hook, rule } of jumps) {
    const there = rules.get(`${table} ${hook}`);
    if (there === undefined) rules.set(`${table} ${hook}`, [{ text: rule }]);
    else there.push({ text: rule });
  }
  return rules;
}

/** What one asks that is not known here does not match: who put such a rule into a chain of ours is shown by what reload would do. */
function parseRule({ text, packets = 0 }: SavedRule): CourseRule {
  const at = text.search(/(^| )-[jg] /);
  const verdict = at < 0 ? '' : text.slice(at).trimStart().slice(3);
  const [target = ''] = verdict.split(' ', 1);
  const matches: CourseRule['matches'] = [];
  const words = (at < 0 ? text : text.slice(0, at)).split(' ').filter((word) => word !== '');
  while (words.length > 0) {
    const negated = words[0] === '!' && words.shift() !== undefined;
    const [option = '', value = ''] = words.splice(0, 2);
    if (option === '-m') continue;
    const match = matchOf(option, value);
    matches.push(negated ? (passing) => match?.(passing) === false : (passing) => match?.(passing) === true);
  }
  return { matches, verdict, target, packets };
}

function matchOf(option: string, value: string): ((passing: Passing) => boolean) | undefined {
  const network = networkIn(value);
  switch (option) {
    case '-s':
      return network && (({ from }) => contains(network, from));
    case '-d':
      return network && (({ to }) => contains(network, to));
    case '--ctorigdst':
      return network && (({ to, askedFor = to }) => contains(network, askedFor));
    case '-i':
      return (passing) => passing.in === value;
    case '-o':
      return (passing) => passing.out === value;
    case '-p':
      return ({ protocol }) => protocol === value;
    case '--dport': {
      const [first = 0, last = first] = value.split(':').map(Number);
      return ({ port }) => first <= port && port <= last;
    }
    case '--ctstate':
      return ({ state = 'NEW', askedFor, isTranslated }) =>
        value
          .split(',')
          .some(
            (each) =>
              each === state || (each === 'DNAT' && askedFor !== undefined) || (each === 'SNAT' && isTranslated),
          );
    case '--src-type':
      return value === 'LOCAL' ? ({ local }) => local === true : undefined;
    default:
      return undefined;
  }
}

function networkIn(value: string): Network | undefined {
  if (!/^\d/.test(value)) return undefined;
  return parseCidr(value.includes('/') ? value : `${value}/32`);
}

/** As `iptables-save -c` prints one table. */
export function countedRules(table: TableName, lines: readonly string[]): RulesByChain {
  const rules = new Map<string, SavedRule[]>();
  for (const line of lines) {
    const [, declared] = /^:(\S+)/.exec(line) ?? [];
    if (declared !== undefined) rules.set(`${table} ${declared}`, []);
    const [, packets, chain = '', text = ''] = COUNTED.exec(line) ?? [];
    rules.get(`${table} ${chain}`)?.push({ text: text.trimEnd(), packets: Number(packets) });
  }
  return rules;
}

const COUNTED = /^\[(\d+):\d+\] -A (\S+) ?(.*)$/s;
