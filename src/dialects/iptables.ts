// The text of iptables-save and iptables-restore, both backends. Pure.

import { UnsupportedError } from '../errors.ts';
import type { Hook, Stray } from '../network/observation.ts';
import { CHAIN_PREFIX, type Chain, chainKey, isOurJump, leadsTo, type TableName } from '../network/state.ts';
import { chainRemoval, type Step } from '../network/step.ts';

export type SavedRules = {
  /** Chains whose name starts with our prefix, with their rules as saved. */
  ours: Chain[];
  /** The built-in chains, with all their rules. */
  hooks: Hook[];
};

const TABLES = ['mangle', 'filter', 'nat'] as const satisfies TableName[];

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

/** Tables with rules that only nft can say: iptables-nft-save of 1.8 prints nothing of them, and ends with 0 all the same. */
export const unreadableTables = (text: string): TableName[] =>
  TABLES.filter((table) => text.split('\n').some((line) => line.startsWith(`# Table \`${table}' is incompatible`)));

/** Of nat: the built-in chains, with our jumps, and the foreign ones. */
export function parseNatRules(text: string): Record<string, string[]> {
  const chains: Record<string, string[]> = {};
  for (const line of linesOf('nat', text)) {
    const [, chain = '', rule = ''] = /^(?:\[\d+:\d+\] )?-A (\S+) ?(.*)$/s.exec(line) ?? [];
    const [, declared = ''] = /^:(\S+)/.exec(line) ?? [];
    const name = chain || declared;
    if (name === '' || name.startsWith(CHAIN_PREFIX)) continue;
    chains[name] ??= [];
    if (chain !== '') chains[name].push(rule.trimEnd());
  }
  return chains;
}

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
  let open = false;
  for (let at = line.indexOf('"'); at !== -1 && at < line.length; at++) {
    if (line[at] === '"') open = !open;
    else if (open && line[at] === '\\') at++;
  }
  return open;
}

const notUnderstood = (what: string): UnsupportedError =>
  new UnsupportedError(
    `iptables-save printed something that is not understood: ${what.slice(0, 100)} (please report it, with iptables --version)`,
  );

export type FirewallStep = Extract<
  Step,
  { kind: 'add-chain' | 'replace-chain' | 'edit-chain' | 'remove-chain' | 'add-jump' | 'remove-jump' }
>;

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
    switch (step.kind) {
      case 'add-chain':
      case 'replace-chain':
        if (step.chain.table !== table) break;
        declared.push(`:${step.chain.name} - [0:0]`);
        for (const rule of step.chain.rules) changes.push(`-A ${step.chain.name} ${rule}`);
        break;
      case 'edit-chain':
        if (step.table !== table) break;
        for (const rule of step.remove) changes.push(`-D ${step.name} ${rule}`);
        for (const rule of step.add) changes.push(`-A ${step.name} ${rule}`);
        break;
      case 'remove-chain':
        if (step.table !== table) break;
        declared.push(`:${step.name} - [0:0]`);
        deleted.push(`-X ${step.name}`);
        break;
      case 'add-jump': {
        const { jump } = step;
        if (jump.table === table)
          changes.push(jump.place === 'last' ? `-A ${jump.hook} ${jump.rule}` : `-I ${jump.hook} 1 ${jump.rule}`);
        break;
      }
      case 'remove-jump':
        if (step.jump.table === table) changes.push(`-D ${step.jump.hook} ${step.jump.rule}`);
        break;
    }
  }
  const lines = [...declared, ...changes, ...deleted];
  return lines.length === 0 ? '' : [`*${table}`, ...lines, 'COMMIT', ''].join('\n');
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
