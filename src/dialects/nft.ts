// What nft says of a table that iptables cannot read, and the way to take ours out of it. Pure.

import { UnsupportedError } from '../base/errors.ts';
import { anything, array, number, type Of, object, optional, ShapeError, string } from '../base/shape.ts';
import type { Unreadable } from '../network/observation.ts';
import { CHAIN_PREFIX, type TableName } from '../network/state.ts';

const listing = object({
  nftables: array(
    object({
      chain: optional(object({ name: string, hook: optional(string) })),
      rule: optional(object({ chain: string, handle: number, expr: optional(array(object({}))) })),
      map: optional(object({ name: string, elem: optional(anything) })),
    }),
  ),
});

type PrintedRule = { chain: string; handle: number; expr?: readonly object[] | undefined };

/** Of `nft -j -a list table`, and of `nft -a list table`: the same in words. */
export function parseNftTable(table: TableName, json: string, words: string): Unreadable {
  try {
    const { nftables } = listing(JSON.parse(json));
    const isOurs = (chain: string) => chain.startsWith(CHAIN_PREFIX);
    const rules: PrintedRule[] = nftables.flatMap(({ rule }) => rule ?? []);
    const filled = new Set(rules.map(({ chain }) => chain));
    const hooks = new Set(nftables.flatMap(({ chain }) => (chain?.hook === undefined ? [] : [chain.name])));
    const isJump = (rule: PrintedRule) =>
      hooks.has(rule.chain) && BUILT_IN.includes(rule.chain) && isWordedAsOurs(rule);
    const theirs = rules.filter(({ chain }) => !isOurs(chain));
    const foreign = theirs.filter((rule) => !isJump(rule));
    const strange = foreign.filter(isStrange);
    const heldBy = new Map([
      ...foreign.flatMap((rule) => chainsIn(rule).map((chain) => [chain, rule.chain] as const)),
      ...nftables.flatMap(({ map }) => chainsIn(map?.elem).map((chain) => [chain, `map ${map?.name}`] as const)),
    ]);
    return {
      table,
      chains: nftables.flatMap(({ chain }) => {
        if (chain === undefined || !isOurs(chain.name)) return [];
        const { name } = chain;
        const holder = heldBy.get(name);
        return [{ name, empty: !filled.has(name), ...(holder !== undefined && { heldBy: holder }) }];
      }),
      jumps: theirs.filter(isJump).map(({ chain, handle }) => ({ chain, handle })),
      rules: worded(
        (strange.length > 0 ? strange : foreign).map(({ handle }) => handle),
        words,
      ),
    };
  } catch (error) {
    if (!(error instanceof SyntaxError || error instanceof ShapeError)) throw error;
    throw new UnsupportedError(
      `nft -j list table ip ${table} printed something that is not understood: ${error.message}`,
    );
  }
}

const BUILT_IN: readonly string[] = ['PREROUTING', 'INPUT', 'FORWARD', 'OUTPUT', 'POSTROUTING'];

/** Only what jumps of ours ask (engines/iptables/rules.ts). One that asks for more is somebody's, and stays. */
const isWordedAsOurs = ({ expr = [] }: PrintedRule): boolean => {
  const words = expr.map((statement) => JSON.stringify(statement));
  return (
    /^\{"jump":/.test(words.at(-1) ?? '') && chainsIn(expr.at(-1)).length > 0 && words.slice(0, -1).every(isOurWord)
  );
};

const isOurWord = (statement: string): boolean =>
  [
    /^\{"counter":/,
    /^\{"xt":\{"type":"match","name":"conntrack"\}\}$/,
    /^\{"match":\{"op":"(==|in)","left":\{"ct":\{"key":"state"\}\},/,
    /^\{"match":\{"op":"!=","left":\{"(meta":\{"key":"l4proto"|payload":\{"protocol":"ip","field":"protocol")\}\},"right":"icmp"\}\}$/,
  ].some((ours) => ours.test(statement));

/** Chains of ours that a rule or an element leads to, by a jump or a goto anywhere in it. */
const chainsIn = (what: unknown): string[] =>
  [...(JSON.stringify(what) ?? '').matchAll(JUMP_TO_OURS)].map(([, chain = '']) => chain);

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

/** Whether anything of ours is there that can go. */
export const canGo = ({ chains, jumps }: Unreadable): boolean =>
  jumps.length > 0 || chains.some(({ heldBy, empty }) => heldBy === undefined || !empty);

/** The input of `nft -f`, which is one transaction: jumps first, and chains when nothing leads to them. */
export function renderNftRemoval({ table, chains, jumps }: Unreadable): string {
  const leaving = chains.filter(({ heldBy }) => heldBy === undefined);
  return [
    ...jumps.map(({ chain, handle }) => `delete rule ip ${table} ${chain} handle ${handle}`),
    ...chains.map(({ name }) => `flush chain ip ${table} ${name}`),
    ...leaving.map(({ name }) => `delete chain ip ${table} ${name}`),
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
    return [{ handle: rule.handle, isVerdict: asks.includes('"vmap":'), leadsTo: chainsIn(rule.expr) }];
  });
}

/** Of `nft -j list chain`: the handle of each rule. */
export const handlesIn = (json: string): number[] =>
  listed(json).flatMap(({ rule }) => (rule === undefined ? [] : [rule.handle]));

/** Of `nft -j list chain`: whether the rule with the handle is still a jump as we word it. */
export const isOurJumpIn = (json: string, handle: number): boolean =>
  listed(json).some(({ rule }) => rule?.handle === handle && isWordedAsOurs(rule));

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
