// The text of iptables-save and iptables-restore, both backends. Pure.

import { UnsupportedError } from '../base/errors.ts';
import type { StepBy } from '../network/kinds.ts';
import type { Hook, Stray } from '../network/observation.ts';
import { CHAIN_PREFIX, type Chain, chainKey, type TableName } from '../network/state.ts';
import { chainRemoval } from '../network/step.ts';
import type { Lookup } from './nft.ts';
import { isOurJump, leadsTo, NFT_VERDICT, ONLY_NFT } from './our-rules.ts';

export type SavedRules = {
  /** Chains whose name starts with our prefix, with their rules as saved. */
  ours: Chain[];
  /** The built-in chains, with all their rules. */
  hooks: Hook[];
};

export const TABLES = ['mangle', 'filter', 'nat'] as const satisfies TableName[];

/**
 * Reads what iptables-save prints, with or without counters; lines in a table that it does not know are passed over. Throws
 * where it is another text, or not all of it: what is not seen would be added again.
 */
export function parseSave(text: string): SavedRules {
  const ours: (Chain & { rules: string[] })[] = [];
  const hooks: (Hook & { rules: string[] })[] = [];
  const rulesOf = new Map<string, string[]>();
  const heldBy = new Map<string, string>();
  let table: TableName | undefined;
  let open = false;
  for (const line of savedLines(text)) {
    if (line.startsWith('*')) {
      const name = line.slice(1).trim();
      table = TABLES.find((known) => known === name);
      rulesOf.clear();
      open = true;
    } else if (line === 'COMMIT') {
      table = undefined;
      open = false;
    } else if (!open && line.trim() !== '' && !line.startsWith('#')) throw notUnderstood(line);
    else if (table === undefined) {
    } else if (line.startsWith(':')) {
      const [name = '', policy] = line.slice(1).split(' ');
      const rules: string[] = [];
      if (name.startsWith(CHAIN_PREFIX)) ours.push({ table, name, rules, ordered: true });
      else if (policy !== '-') hooks.push({ table, hook: name, rules });
      else continue;
      rulesOf.set(name, rules);
    } else {
      const start = line.indexOf('-A ') + 3;
      if (!(start === 3 || (start > 3 && line.startsWith('[')))) continue;
      // One that only nft can say may be printed without a word behind its chain.
      const end = line.indexOf(' ', start);
      const name = end < 0 ? line.slice(start) : line.slice(start, end);
      const rule = end < 0 ? '' : line.slice(end + 1).trimEnd();
      rulesOf.get(name)?.push(rule);
      if (name.startsWith(CHAIN_PREFIX)) continue;
      const target = leadsTo(rule);
      const isHook = hooks.some((hook) => hook.table === table && hook.hook === name);
      if (target !== undefined && !(isHook && isOurJump(rule))) heldBy.set(`${table} ${target}`, name);
    }
  }
  if (open) throw notUnderstood('a table without its COMMIT');
  const withHolder = (chain: Chain): Chain => {
    const holder = heldBy.get(chainKey(chain));
    return holder === undefined ? chain : { ...chain, heldBy: holder };
  };
  return { ours: heldBy.size === 0 ? ours : ours.map(withHolder), hooks };
}

/** As iptables-nft-save of 1.8 says it of some tables with rules that only nft can say; at others it ends with 3. */
export const incompatible = (table: TableName): string => `# Table \`${table}' is incompatible, use 'nft' tool.\n`;

/** Tables with rules that only nft can say: iptables-nft-save prints nothing of them, and ends with 0 all the same. */
export function unreadableTables(text: string): TableName[] {
  if (!text.includes('# Table ')) return [];
  const lines = text.split('\n');
  return TABLES.filter((table) => lines.some((line) => line.startsWith(`# Table \`${table}' is incompatible`)));
}

/** Of nat: the built-in chains, with our jumps, and the foreign ones. */
export function parseNatRules(text: string): Record<string, string[]> {
  const chains: Record<string, string[]> = {};
  for (const line of linesOf('nat', text)) {
    const [, , chain = '', rule = ''] = RULE.exec(line) ?? [];
    const [, declared = ''] = /^:(\S+)/.exec(line) ?? [];
    const name = chain || declared;
    if (name === '' || name.startsWith(CHAIN_PREFIX)) continue;
    chains[name] ??= [];
    if (chain !== '') chains[name].push(rule.trimEnd());
  }
  return chains;
}

const RULE = /^((?:\[\d+:\d+\] )?-A (\S+)) ?(.*)$/s;

/** In which others' rules matter: see filters.ts. */
const WITH_CHAINS: readonly string[] = [...TABLES, 'raw', 'security'];

const OUR_RULE = `-A ${CHAIN_PREFIX}`;
const NOT_OURS = new RegExp(String.raw`^(?:\[\d+:\d+\] )?-A (?!${CHAIN_PREFIX}).*`, 'gm');

/**
 * Chains of others, as `table chain`, that have rules of theirs, with how many rules they have in all. `orJumps`: or jumps to ours, which
 * may be theirs, too, and ask for more than iptables-save prints.
 */
export function foreignChains(text: string, orJumps = false): Map<string, number> {
  // Mostly there is nothing but our jumps, and no need to take it all apart.
  const others = orJumps ? undefined : (text.match(NOT_OURS) ?? []);
  if (others?.every((line) => isOurJump(RULE.exec(line)?.[3] ?? ''))) return new Map();
  const found = new Map<string, { count: number; foreign: boolean }>();
  let table: string | undefined;
  for (const line of savedLines(text)) {
    if (line.startsWith('*')) table = WITH_CHAINS.find((known) => line === `*${known}`);
    // Nearly all of them are ours.
    if (line.startsWith(OUR_RULE)) continue;
    const [, , chain = '', rule = ''] = (table !== undefined && RULE.exec(line)) || [];
    if (chain === '' || chain.startsWith(CHAIN_PREFIX)) continue;
    const before = found.get(`${table} ${chain}`);
    const foreign = before?.foreign || orJumps || !isOurJump(rule);
    found.set(`${table} ${chain}`, { count: (before?.count ?? 0) + 1, foreign });
  }
  return new Map([...found].flatMap(([key, { count, foreign }]) => (foreign ? [[key, count]] : [])));
}

/**
 * iptables-nft-save 1.8 leaves out of a rule what it asks of sets and maps, and prints the rest as if it were all: `DROP` for whoever
 * is on a blocklist is printed as `DROP` for everybody. With those rules marked, by what nft says of their chains.
 */
export function withLookups(text: string, lookups: ReadonlyMap<string, readonly (Lookup | undefined)[]>): string {
  let table = '';
  const seen = new Map<string, number>();
  return savedLines(text)
    .map((line) => {
      if (line.startsWith('*')) table = line.slice(1);
      const [, head, chain = '', rule = ''] = RULE.exec(line) ?? [];
      if (chain === '') return line;
      const key = `${table} ${chain}`;
      const at = seen.get(key) ?? 0;
      seen.set(key, at + 1);
      const lookup = lookups.get(key)?.[at];
      if (lookup === undefined) return line;
      const verdict = lookup.isVerdict ? [`-j ${NFT_VERDICT}`] : [];
      return [`${head} ${ONLY_NFT}${lookup.handle}`, ...(rule === '' ? [] : [rule]), ...verdict].join(' ');
    })
    .join('\n');
}

/** What iptables-save prints of a rule that it prints half; undefined for all others. */
export const halfOf = (rule: string): string | undefined =>
  rule.startsWith(ONLY_NFT) ? rule.slice(ONLY_NFT.length).replace(/^\d+ ?/, '') : undefined;

/** Those of one table. */
export function linesOf(table: TableName, text: string): string[] {
  const lines = savedLines(text);
  const start = lines.indexOf(`*${table}`);
  return start === -1 ? [] : lines.slice(start, lines.indexOf('COMMIT', start));
}

/**
 * A comment may have line feeds in it, and what looks like the end of the table: iptables-save prints it in quotes, as it is, with a
 * backslash before quotes and backslashes that are its own.
 */
export function savedLines(text: string): string[] {
  const lines = text.split('\n');
  if (!text.includes('"')) return lines;
  const whole: string[] = [];
  for (let at = 0; at < lines.length; at++) {
    let line = lines[at] ?? '';
    while (/^(-A|\[)/.test(line) && isQuoteOpen(line)) {
      if (++at === lines.length) throw notUnderstood(line);
      line += `\n${lines[at]}`;
    }
    whole.push(line);
  }
  return whole;
}

function isQuoteOpen(line: string): boolean {
  for (let at = line.indexOf('"'); at !== -1; at = line.indexOf('"', at + 1)) {
    if (!opensQuote(line, at)) continue;
    const end = closingQuote(line, at);
    if (end === -1) return true;
    at = end;
  }
  return false;
}

/**
 * Only what options have is quoted, where it has a space or the like: names of chains, links and lists are printed as they are, and
 * may have quotes in them.
 */
function opensQuote(line: string, at: number): boolean {
  if (line[at - 1] !== ' ') return false;
  const option = line.slice(line.lastIndexOf(' ', at - 2) + 1, at - 1);
  return option.startsWith('--') && !PRINTED_BARE.includes(option);
}

const PRINTED_BARE = ['--physdev-in', '--physdev-out', '--name', '--hashlimit-name', '--label', '--timeout'];

function closingQuote(line: string, start: number): number {
  let at = start + 1;
  while (at < line.length && line[at] !== '"') at += line[at] === '\\' ? 2 : 1;
  return at < line.length ? at : -1;
}

const notUnderstood = (what: string): UnsupportedError =>
  new UnsupportedError(
    `iptables-save printed something that is not understood: ${what.slice(0, 100)} (please report it, with iptables --version)`,
  );

export type FirewallStep = StepBy<'iptables'>;

/**
 * The input of one `iptables-restore --noflush` for these steps. A restore is atomic for each table: what guards goes first, so
 * that the guard of a new EIP is there before its mapping. Each table needs a COMMIT of its own.
 */
export function renderRestore(steps: readonly FirewallStep[]): string {
  return TABLES.map((table) => renderTable(table, steps)).join('');
}

function renderTable(table: TableName, steps: readonly FirewallStep[]): string {
  // Naming a user chain empties it; rules may then be added to it, and it may be deleted when nothing leads to it.
  const declared: string[] = [];
  const changes: string[] = [];
  const deleted: string[] = [];
  for (const step of steps) {
    const change = changeOf(step);
    if (change.table !== table) continue;
    if (change.declares !== undefined) declared.push(`:${change.declares} - [0:0]`);
    for (const line of change.lines) changes.push(line);
    if (change.deletes !== undefined) deleted.push(`-X ${change.deletes}`);
  }
  const lines = [...declared, ...changes, ...deleted];
  return lines.length === 0 ? '' : [`*${table}`, ...lines, 'COMMIT', ''].join('\n');
}

type TableChange = { table: TableName; declares?: string; lines: string[]; deletes?: string };

function changeOf(step: FirewallStep): TableChange {
  switch (step.kind) {
    case 'add-chain':
    case 'replace-chain': {
      const { table, name, rules } = step.chain;
      return { table, declares: name, lines: rules.map((rule) => `-A ${name} ${rule}`) };
    }
    case 'edit-chain': {
      const { table, name, remove, add } = step;
      return {
        table,
        lines: [...remove.map((rule) => `-D ${name} ${rule}`), ...add.map((rule) => `-A ${name} ${rule}`)],
      };
    }
    case 'remove-chain':
      return { table: step.table, declares: step.name, lines: [], deletes: step.name };
    case 'add-jump': {
      const { table, hook, rule, place } = step.jump;
      return { table, lines: [place === 'last' ? `-A ${hook} ${rule}` : `-I ${hook} 1 ${rule}`] };
    }
    case 'remove-jump':
      return { table: step.jump.table, lines: [`-D ${step.jump.hook} ${step.jump.rule}`] };
  }
}

/** The input of the other backend's `iptables-restore --noflush`: our jumps and chains go, all else stays. */
export function renderStrayRemoval(stray: Stray): string {
  const jumps = stray.hooks.flatMap(({ table, hook, rules }) =>
    rules
      .filter(isOurJump)
      .map((rule): FirewallStep => ({ kind: 'remove-jump', jump: { table, hook, rule, place: 'anywhere' } })),
  );
  const chains = stray.chains.map(chainRemoval);
  return renderRestore([...jumps, ...chains]);
}
