// What nft says of a table that iptables cannot read, and the way to take ours out of it. Pure.

import { UnsupportedError } from '../errors.ts';
import type { Unreadable } from '../network/observation.ts';
import { CHAIN_PREFIX, type TableName } from '../network/state.ts';
import { array, number, type Of, object, optional, ShapeError, string } from '../shape.ts';

const listing = object({
  nftables: array(
    object({
      chain: optional(object({ name: string })),
      rule: optional(object({ chain: string, handle: number, expr: optional(array(object({}))) })),
    }),
  ),
});

/** Of `nft -j -a list table`, and of `nft -a list table`: the same in words. */
export function parseNftTable(table: TableName, json: string, words: string): Unreadable {
  try {
    const { nftables } = listing(JSON.parse(json));
    const isOurs = (chain: string) => chain.startsWith(CHAIN_PREFIX);
    const theirs = nftables.flatMap(({ rule }) => (rule === undefined || isOurs(rule.chain) ? [] : [rule]));
    const strange = theirs.filter(isStrange).map(({ handle }) => handle);
    const foreign = theirs.filter((rule) => !leadsToOurs(rule)).map(({ handle }) => handle);
    return {
      table,
      chains: nftables.flatMap(({ chain }) => (chain !== undefined && isOurs(chain.name) ? [chain.name] : [])),
      jumps: nftables.flatMap(({ rule }) =>
        rule !== undefined && !isOurs(rule.chain) && leadsToOurs(rule)
          ? [{ chain: rule.chain, handle: rule.handle }]
          : [],
      ),
      rules: worded(strange.length > 0 ? strange : foreign, words),
    };
  } catch (error) {
    if (!(error instanceof SyntaxError || error instanceof ShapeError)) throw error;
    throw new UnsupportedError(
      `nft -j list table ip ${table} printed something that is not understood: ${error.message}`,
    );
  }
}

/** A jump or goto anywhere in the rule. */
const leadsToOurs = (rule: object): boolean => new RegExp(JUMP_TO_OURS, '').test(JSON.stringify(rule));

const JUMP_TO_OURS = new RegExp(`"(?:jump|goto)":\\{"target":"(${CHAIN_PREFIX}[^"]*)"`, 'g');

/**
 * Whether iptables-nft 1.8 calls the table incompatible for it, as tried with iptables 1.8.9: statements that it makes of no module of
 * its own, and what a rule matches beside the packet's own fields.
 */
const isStrange = ({ expr = [] }: { expr?: readonly object[] | undefined }): boolean =>
  expr.some((statement) =>
    Object.entries(statement).some(([key, value]) => !READ_BY_IPTABLES.includes(key) || typeof value === 'string'),
  ) || /"(?:ct|fib|map|vmap|rt|socket|osf|ipsec|numgen|jhash|symhash)":|"@/.test(JSON.stringify(expr));

const READ_BY_IPTABLES: readonly string[] = [
  ...['match', 'xt', 'counter', 'limit'],
  ...['accept', 'drop', 'continue', 'return', 'jump', 'goto'],
];

/** The lines of these rules. */
function worded(handles: readonly number[], words: string): string[] {
  const lines = new Map(
    [...words.matchAll(/^\s*(.*?) # handle (\d+)$/gm)].map(([, line = '', n]) => [Number(n), line]),
  );
  return handles.flatMap((handle) => lines.get(handle) ?? []);
}

/** The input of `nft -f`, which is one transaction: jumps first, and chains when nothing leads to them. */
export function renderNftRemoval({ table, chains, jumps }: Unreadable): string {
  return [
    ...jumps.map(({ chain, handle }) => `delete rule ip ${table} ${chain} handle ${handle}`),
    ...chains.map((chain) => `flush chain ip ${table} ${chain}`),
    ...chains.map((chain) => `delete chain ip ${table} ${chain}`),
    '',
  ].join('\n');
}

function listed(json: string): Of<typeof listing>['nftables'] {
  try {
    return listing(JSON.parse(json)).nftables;
  } catch (error) {
    if (error instanceof SyntaxError || error instanceof ShapeError) return [];
    throw error;
  }
}

/** Of a rule that looks something up in a set or map: its handle, whether that gives the verdict, and chains of ours that it leads to. */
export type Lookup = { handle: number; isVerdict: boolean; leadsTo: readonly string[] };

/** Of `nft -j list chain`: what iptables-nft-save 1.8 leaves out, for each rule. Nothing where it is no such list. */
export function parseLookups(json: string): (Lookup | undefined)[] {
  return listed(json).flatMap(({ rule }) => {
    if (rule === undefined) return [];
    const asks = JSON.stringify(rule.expr ?? []);
    if (!/"(?:set|map|vmap)":|"@/.test(asks)) return [undefined];
    const leadsTo = [...asks.matchAll(JUMP_TO_OURS)].map(([, chain = '']) => chain);
    return [{ handle: rule.handle, isVerdict: asks.includes('"vmap":'), leadsTo }];
  });
}

/**
 * Reads `nft list maps`: which chains of ours an element leads to, by chainKey, and the map. iptables-save shows no map that no rule
 * asks, and the kernel removes no chain that an element leads to.
 */
export function heldByMaps(text: string): Map<string, string> {
  const held = new Map<string, string>();
  let [table, map] = ['', ''];
  for (const line of text.split('\n')) {
    const [, family, name] = /^table (\S+) (\S+) \{$/.exec(line) ?? [];
    if (name !== undefined) table = family === 'ip' ? name : '';
    map = /^\tmap (\S+) \{$/.exec(line)?.[1] ?? map;
    for (const [, chain] of table === '' ? [] : line.matchAll(TO_OURS)) held.set(`${table} ${chain}`, `map ${map}`);
  }
  return held;
}

const TO_OURS = new RegExp(`(?:jump|goto) (${CHAIN_PREFIX}[^\\s,}]+)`, 'g');
