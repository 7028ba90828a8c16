// What iptables-save and nft print of chains that are not ours -> filters, as far as they go by devices and addresses. Pure.

import { ipv4, networkOf, parseCidr, parseIpv4 } from '../base/ipv4.ts';
import { anything, array, number, object, optional, string } from '../base/shape.ts';
import { type FilterRule, type ForeignFilter, type Span, spanOf } from '../network/obstacles.ts';
import { CHAIN_PREFIX } from '../network/state.ts';
import { savedLines } from './iptables.ts';

/** What forwarded packets come by; the one in filter has a warning of its own. */
const SAVED = ['raw PREROUTING', 'mangle PREROUTING', 'mangle FORWARD', 'mangle POSTROUTING', 'security FORWARD'];

/** Targets that let the next rule see the packet. */
export const GOES_ON =
  /^(LOG|NFLOG|MARK|CONNMARK|TCPMSS|TCPOPTSTRIP|TTL|DSCP|TOS|TRACE|CLASSIFY|CHECKSUM|SET|TEE|RATEEST|CT|SECMARK|CONNSECMARK)$/;

/** Of text that parseSave has read. */
export function parseSavedFilters(text: string): ForeignFilter[] {
  const filters = new Map<string, ForeignFilter & { rules: FilterRule[] }>();
  let table = '';
  for (const line of savedLines(text)) {
    if (line.startsWith('*')) table = line.slice(1).trim();
    const [, chain = '', policy = ''] = /^:(\S+) (\S+)/.exec(line) ?? [];
    const where = `${table} ${chain}`;
    if (SAVED.includes(where)) filters.set(where, { where, drops: policy === 'DROP', rules: [] });
    const [, from = '', rule = ''] = /^(?:\[\d+:\d+\] )?-A (\S+) ?(.*)$/s.exec(line) ?? [];
    filters.get(`${table} ${from}`)?.rules.push(savedRule(rule));
  }
  return [...filters.values()];
}

/** Of a rule as iptables-save prints it. */
export const withoutComment = (rule: string): string =>
  rule.replace(/ ?-m comment --comment (?:"(?:[^"\\]|\\.)*"|\S+)/, '').trim();

function savedRule(text: string): FilterRule {
  const rest = withoutComment(text);
  const [, matches = rest, target = ''] = /^(.*?) ?-[jg] (\S+)/s.exec(rest) ?? [];
  const found: FilterRule = { text, verdict: verdictOf(target, rest), narrow: false };
  const words = matches === '' ? [] : matches.split(' ');
  for (let at = 0; at < words.length; at += 2) {
    const isNegated = words[at] === '!';
    if (isNegated) at++;
    const [option, value = ''] = [words[at], words[at + 1]];
    if (option === '-i' || option === '-o') {
      // `eth+` is every name that begins so.
      if (!isNegated && !value.endsWith('+')) found.devices = [value];
    } else if ((option === '-s' || option === '-d') && found.addresses === undefined) {
      const network = parseCidr(value);
      // A mask with holes is no network.
      if (network === undefined) found.narrow = true;
      else if (!isNegated) found.addresses = [spanOf(network)];
    } else found.narrow = true;
  }
  return found;
}

function verdictOf(target: string, rule: string): FilterRule['verdict'] {
  if (target === 'DROP' || target === 'REJECT' || target === 'NOTRACK' || / --notrack\b/.test(rule)) return 'stop';
  return target === '' || target.startsWith(CHAIN_PREFIX) || GOES_ON.test(target) ? 'go on' : 'other';
}

/** `flagged`: it is dormant, or somebody's alone. */
export type NftTable = { family: string; name: string; flagged: boolean };

const tables = object({
  nftables: array(object({ table: optional(object({ family: string, name: string, flags: optional(anything) })) })),
});

/** Of `nft -j list tables`. Which flag it is nft 1.0.6 says wrong: it prints the name of itself, or of a family. */
export function parseNftTables(json: string): NftTable[] {
  return tables(JSON.parse(json)).nftables.flatMap(({ table }) =>
    table === undefined ? [] : [{ family: table.family, name: table.name, flagged: table.flags !== undefined }],
  );
}

/** Of `nft list tables`: 1.0.6 prints half of the JSON where a table is dormant. */
export const tablesInWords = (text: string): NftTable[] =>
  [...text.matchAll(/^table (\S+) (\S+)$/gm)].map(([, family = '', name = '']) => ({ family, name, flagged: true }));

/** With a hook, one that the kernel asks. */
export type NftChain = { family: string; table: string; name: string; hook?: string; priority?: number };

const chains = object({
  nftables: array(
    object({
      chain: optional(
        object({ family: string, table: string, name: string, hook: optional(string), prio: optional(number) }),
      ),
    }),
  ),
});

/** Of `nft -j list chains`. */
export function parseNftChains(json: string): NftChain[] {
  return chains(JSON.parse(json)).nftables.flatMap(({ chain }) => {
    if (chain === undefined) return [];
    const { family, table, name, hook, prio = 0 } = chain;
    return [{ family, table, name, ...(hook !== undefined && { hook, priority: prio }) }];
  });
}

/** By table of iptables. */
const PRIORITIES: Record<string, number> = { raw: -300, mangle: -150, filter: 0, security: 150 };

/** Its keeping place in nft. */
export const isOfIptables = ({ family, name }: { family: string; name: string }): boolean =>
  family === 'ip' && (name === 'nat' || name in PRIORITIES);

/** Whether a chain there is one of iptables' own. Others iptables-save passes over, or prints as if they were empty. */
export function isBuiltIn({ table, name, hook, priority }: Omit<NftChain, 'family'>): boolean {
  const ofNat = hook === 'prerouting' || hook === 'output' ? -100 : 100;
  return name === hook?.toUpperCase() && priority === (table === 'nat' ? ofNat : PRIORITIES[table]);
}

/** Of `nft list table`, which says it right. */
export const isDormant = (text: string): boolean => /^\tflags .*\bdormant\b/m.test(text);

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

/** By family: what forwarded packets come by; of ARP, the questions and answers; of a bridge, what it takes in and sends itself. */
const HOOKS: Record<string, readonly string[]> = {
  ip: ['prerouting', 'forward', 'postrouting'],
  inet: ['ingress', 'prerouting', 'forward', 'postrouting'],
  arp: ['input', 'output'],
  netdev: ['ingress', 'egress'],
  bridge: ['prerouting', 'input', 'output', 'postrouting'],
};

/** Chains there are asked for some devices. */
export const isOnDevices = ({ family }: NftTable): boolean => family === 'netdev' || family === 'inet';

/** Of `nft list table`: the devices of each such chain, which nft 1.0.6 leaves out of its JSON. */
export function devicesOfChains(text: string): Map<string, string[]> {
  const found = [...text.matchAll(CHAIN_ON_DEVICES)].map(([, name = '', many, one = '']): [string, string[]] => [
    name,
    (many ?? one).split(',').map((device) => device.trim().replaceAll('"', '')),
  ]);
  return new Map(found);
}

const CHAIN_ON_DEVICES =
  /\n\tchain (\S+) \{\n(?:\t\tcomment .*\n)?\t\ttype \S+ hook (?:ingress|egress) devices? (?:= \{ (.*?) \}|(\S+))/g;

export const canStop = ({ family }: NftTable): boolean => family in HOOKS;

export type AroundChains = {
  /** Chains that something else has read. */
  isKnown?: ((chain: string, hook: string, priority: number) => boolean) | undefined;
  /** By chain: see devicesOfChains. */
  devicesOf?: ReadonlyMap<string, readonly string[]>;
  /** Devices by the name of their group. */
  groups?: ReadonlyMap<string, readonly string[]>;
};

/** Of `nft -j list table`. */
export function parseNftFilters({ family, name }: NftTable, json: string, around: AroundChains = {}): ForeignFilter[] {
  const { isKnown = () => false, devicesOf = new Map(), groups = new Map() } = around;
  const { nftables } = listing(JSON.parse(json));
  return nftables.flatMap(({ chain }): ForeignFilter[] => {
    if (chain?.hook === undefined || !HOOKS[family]?.includes(chain.hook)) return [];
    if (isKnown(chain.name, chain.hook, chain.prio ?? 0)) return [];
    const rules = nftables.flatMap(({ rule }) => (rule?.chain === chain.name ? [nftRule(rule, groups)] : []));
    const where = `table ${family} ${name}, chain ${chain.name} (${chain.hook})`;
    const filter: ForeignFilter = { where, drops: chain.policy === 'drop', rules };
    if (family === 'bridge') return [{ ...filter, at: 'ports' }];
    if (!/gress$/.test(chain.hook)) return [filter];
    return [{ ...filter, at: 'links', devices: devicesOf.get(chain.name) ?? [] }];
  });
}

const match = object({ op: string, left: anything, right: anything });
const leftSide = object({
  meta: optional(object({ key: string })),
  payload: optional(object({ protocol: optional(string), field: optional(string) })),
});

export const ruleText = (handle: number): string => `the rule with handle ${handle} (nft -a list ruleset)`;

type Groups = ReadonlyMap<string, readonly string[]>;

function nftRule({ handle, expr }: { handle: number; expr: readonly unknown[] }, groups: Groups): FilterRule {
  const found: FilterRule = {
    text: ruleText(handle),
    verdict: 'go on',
    narrow: false,
  };
  for (const each of expr) {
    if (typeof each !== 'object' || each === null) continue;
    if ('match' in each) narrowBy(found, each.match, groups);
    else if ('drop' in each || 'reject' in each || 'notrack' in each) found.verdict = 'stop';
    else if (['accept', 'jump', 'goto', 'return', 'vmap', 'queue'].some((name) => name in each))
      found.verdict = 'other';
    else if ('limit' in each || 'quota' in each) found.narrow = true;
    else if ('xt' in each) {
      // A match or a target of iptables, of which nft says the name only.
      found.narrow = true;
      found.verdict = 'other';
    }
  }
  return found;
}

function narrowBy(rule: FilterRule, text: unknown, groups: Groups): void {
  try {
    const { op, left, right } = match(text);
    const { meta, payload } = leftSide(left);
    const isDevice = meta !== undefined && /^[io]if(name)?$/.test(meta.key);
    const isGroup = meta !== undefined && /^[io]ifgroup$/.test(meta.key);
    const kind = meta === undefined ? `${payload?.protocol} ${payload?.field}` : meta.key;
    const isAddress = ADDRESS.test(kind);
    if (op === '==' && itemsOf(right).some((value) => WIDE[kind]?.includes(String(value)))) return;
    if (isGroup && op === '==' && rule.devices === undefined)
      rule.devices = itemsOf(right).flatMap((group) => groups.get(String(group)) ?? []);
    else if (isDevice && op === '==' && rule.devices === undefined) rule.devices = itemsOf(right).map(String);
    else if (isAddress && op === '==' && rule.addresses === undefined) rule.addresses = itemsOf(right).flatMap(spansIn);
    else if (!((isDevice || isAddress) && op === '!=')) rule.narrow = true;
  } catch {
    // Of another form than these, so of another kind.
    rule.narrow = true;
  }
}

const ADDRESS = /^(ip [sd]addr|arp [sd]addr ip)$/;

/** What asks for all of IPv4, or for all of ARP, without which nobody finds anybody. */
const WIDE: Record<string, readonly string[]> = {
  protocol: ['ip', 'arp'],
  nfproto: ['ipv4'],
  'ether type': ['ip', 'arp'],
  'arp operation': ['request', 'reply'],
};

const set = object({ set: array(anything) });

const itemsOf = (right: unknown): unknown[] =>
  typeof right === 'object' && right !== null && 'set' in right ? set(right).set : [right];

const item = object({
  prefix: optional(object({ addr: string, len: number })),
  range: optional(array(string)),
});

function spansIn(value: unknown): Span[] {
  if (typeof value === 'string') return parseIpv4(value) === undefined ? [] : [spanOf(networkOf(ipv4(value), 32))];
  const { prefix, range } = item(value);
  if (prefix !== undefined) return [spanOf(networkOf(ipv4(prefix.addr), prefix.len))];
  const [from, to] = (range ?? []).map(parseIpv4);
  return from === undefined || to === undefined ? [] : [{ from, to }];
}
