// The packet filter of the machine in memory, as iptables-nft and nft speak of it: tables, chains and rules with counters. A restore is
// all or nothing for each table.

import { NotKnown, Refused } from './refused.ts';

export type Rule = { text: string; handle: number; packets: number; bytes: number };
export type Chain = { name: string; policy: string | undefined; handle: number; rules: Rule[] };
type Table = Map<string, Chain>;

/** The tables and their built-in chains, in the order in which iptables-save prints them. */
const HOOKS: Readonly<Record<string, readonly string[]>> = {
  mangle: ['PREROUTING', 'INPUT', 'FORWARD', 'OUTPUT', 'POSTROUTING'],
  raw: ['PREROUTING', 'OUTPUT'],
  filter: ['INPUT', 'FORWARD', 'OUTPUT'],
  nat: ['PREROUTING', 'INPUT', 'OUTPUT', 'POSTROUTING'],
};

const METAINFO = { metainfo: { version: '1.0.6', release_name: 'Lester Gooch #5', json_schema_version: 1 } };

const PRIORITIES: Readonly<Record<string, number>> = { raw: -300, mangle: -150, filter: 0 };

const TARGETS = ['ACCEPT', 'DROP', 'RETURN', 'DNAT', 'SNAT', 'MASQUERADE', 'REJECT', 'MARK', 'LOG'];
const ONLY_IN_NAT = ['DNAT', 'SNAT', 'MASQUERADE'];

/** By option: how many words come behind it. Options of modules count only once the module is named. */
const OPTIONS: Readonly<Record<string, number>> = { '-s': 1, '-d': 1, '-i': 1, '-o': 1, '-p': 1, '-m': 1, '-j': 1 };
const OF_MODULES: Readonly<Record<string, Readonly<Record<string, number>>>> = {
  addrtype: { '--src-type': 1, '--dst-type': 1 },
  comment: { '--comment': 1 },
  conntrack: { '--ctstate': 1, '--ctstatus': 1, '--ctorigdst': 1, '--ctorigdstport': 1, '--ctdir': 1, '--ctproto': 1 },
  mark: { '--mark': 1 },
  physdev: { '--physdev-is-bridged': 0 },
  policy: { '--dir': 1, '--pol': 1 },
  tcp: { '--dport': 1, '--sport': 1 },
  udp: { '--dport': 1, '--sport': 1 },
};
const OF_TARGETS: Readonly<Record<string, Readonly<Record<string, number>>>> = {
  DNAT: { '--to-destination': 1 },
  SNAT: { '--to-source': 1 },
  REJECT: { '--reject-with': 1 },
  MARK: { '--set-xmark': 1 },
  LOG: { '--log-prefix': 1 },
};

export type Backend = 'nft' | 'legacy';

export class Netfilter {
  readonly backend: Backend;
  /** In the order in which they were made. */
  tables = new Map<string, Table>();
  #handles = 0;

  constructor(backend: Backend = 'nft') {
    this.backend = backend;
  }

  takeFrom(other: Netfilter): void {
    this.tables = structuredClone(other.tables);
    this.#handles = other.#handles;
  }

  /** The input of `iptables-restore --noflush`. */
  restore(input: string, test = false): void {
    let name = '';
    let table: Table | undefined;
    for (const [index, line] of input.split('\n').entries()) {
      const at = `line ${index + 1}`;
      if (line === '' || line.startsWith('#')) continue;
      if (line.startsWith('*')) {
        if (table !== undefined) throw new Refused(2, `iptables-restore: ${at}: COMMIT expected`);
        name = line.slice(1);
        table = this.#copyOf(name);
      } else if (table === undefined) {
        throw new Refused(2, `iptables-restore: ${at} failed`);
      } else if (line === 'COMMIT') {
        checkJumps(table);
        if (!test) this.tables.set(name, table);
        // Where it is only asked for, iptables-legacy makes it, too.
        else if (this.backend === 'legacy' && !this.tables.has(name)) this.tables.set(name, new Map());
        table = undefined;
      } else {
        this.#change(name, table, line, at);
      }
    }
    if (table !== undefined) throw new Refused(1, 'iptables-restore: COMMIT expected');
  }

  #copyOf(name: string): Table {
    if (HOOKS[name] === undefined) throw new NotKnown(`the table ${name}`);
    const copy: Table = new Map();
    for (const chain of this.tables.get(name)?.values() ?? [])
      copy.set(chain.name, { ...chain, rules: chain.rules.map((rule) => ({ ...rule })) });
    return copy;
  }

  #made = (name: string, policy: string | undefined): Chain => ({ name, policy, handle: ++this.#handles, rules: [] });

  #change(name: string, table: Table, line: string, at: string): void {
    const [, declared, policy] = /^:(\S+) (\S+) \[\d+:\d+\]$/.exec(line) ?? [];
    if (declared !== undefined && policy !== undefined) {
      const there = table.get(declared);
      if (isHook(name, declared)) {
        table.set(declared, { ...(there ?? this.#made(declared, policy)), policy });
      } else if (declared.length > 28) {
        throw new Refused(2, `iptables-restore: ${at}: invalid chain name \`${declared}' (too long)`);
      } else {
        table.set(declared, there === undefined ? this.#made(declared, undefined) : { ...there, rules: [] });
      }
      return;
    }
    const [, command, chainName = '', place, text = ''] = /^(-[ADIX]) (\S+)(?: (\d+))?(?: (.*))?$/.exec(line) ?? [];
    // A built-in chain comes with what is first done in it.
    if (isHook(name, chainName) && !table.has(chainName)) table.set(chainName, this.#made(chainName, 'ACCEPT'));
    const chain = table.get(chainName);
    if (command === undefined) throw new NotKnown(`the line of iptables-restore: ${line}`);
    if (chain === undefined) throw new Refused(1, `iptables-restore: ${at}: No chain/target/match by that name.`);
    const [, from] = /--to-destination \S+-\d+\/(\D\S*)/.exec(line) ?? [];
    if (from !== undefined) throw new Refused(2, `iptables-restore v1.8.9 (nf_tables): Port \`${from}' not valid`);
    if (command === '-X') {
      if (chain.rules.length > 0)
        throw new Refused(4, `${at}: CHAIN_DEL failed (Device or resource busy): ${chainName}`);
      table.delete(chainName);
      return;
    }
    const target = targetOf(text, name);
    if (target !== undefined && !table.has(target))
      throw new Refused(2, `iptables-restore v1.8.9 (nf_tables): Couldn't load target \`${target}'`);
    const rule = { text, handle: ++this.#handles, packets: 0, bytes: 0 };
    if (command === '-A') chain.rules.push(rule);
    else if (command === '-I') chain.rules.splice(Number(place ?? 1) - 1, 0, rule);
    else {
      const index = chain.rules.findIndex((each) => each.text === text);
      if (index === -1)
        throw new Refused(1, `iptables-restore: ${at}: Bad rule (does a matching rule exist in that chain?).`);
      chain.rules.splice(index, 1);
    }
  }

  /** Of iptables-legacy, as the kernel names them: the newest first. */
  names = (): string[] => [...this.tables.keys()].reverse();

  /** What `iptables-save` prints. */
  save(date: string, { only, counters = false }: { only?: string; counters?: boolean } = {}): string {
    const lines: string[] = [];
    const tool = this.backend === 'nft' ? 'v1.8.9 (nf_tables)' : 'v1.8.9';
    for (const name of this.backend === 'nft' ? Object.keys(HOOKS) : this.names()) {
      // Who is asked for one prints that, also where it is not there.
      const table = this.tables.get(name) ?? (only === name ? new Map() : undefined);
      if (table === undefined || (only !== undefined && only !== name)) continue;
      const chains = inOrder(name, table);
      lines.push(`# Generated by iptables-save ${tool} on ${date}`, `*${name}`);
      for (const chain of chains) lines.push(`:${chain.name} ${chain.policy ?? '-'} [0:0]`);
      for (const chain of chains)
        for (const { text, packets, bytes } of chain.rules)
          lines.push(`${counters ? `[${packets}:${bytes}] ` : ''}-A ${chain.name}${text === '' ? '' : ` ${text}`}`);
      lines.push('COMMIT', `# Completed on ${date}`);
    }
    return lines.map((line) => `${line}\n`).join('');
  }

  #seenByNft = (): ReadonlyMap<string, Table> => (this.backend === 'nft' ? this.tables : new Map());

  /** What `nft -j list chains` prints, or `nft -j list chain ip TABLE CHAIN`. */
  chainsAsJson(of?: { table: string; chain: string }): string {
    const nftables: object[] = [METAINFO];
    const tables = this.#seenByNft();
    if (of !== undefined && !tables.get(of.table)?.has(of.chain))
      throw new Refused(1, 'Error: No such file or directory');
    for (const [table, chains] of tables)
      for (const chain of chains.values()) {
        if (of !== undefined && (of.table !== table || of.chain !== chain.name)) continue;
        nftables.push({ chain: describeChain(table, chain) });
        if (of === undefined) continue;
        for (const { text, handle, packets, bytes } of chain.rules) {
          const expr = expressionsOf(text, { packets, bytes });
          nftables.push({ rule: { family: 'ip', table, chain: chain.name, handle, expr } });
        }
      }
    return `${JSON.stringify({ nftables })}\n`;
  }

  /** What `nft -j list tables` prints. */
  tablesAsJson(): string {
    const tables = [...this.#seenByNft().keys()].map((name, index) => ({
      table: { family: 'ip', name, handle: index + 1 },
    }));
    return `${JSON.stringify({ nftables: [METAINFO, ...tables] })}\n`;
  }

  /** What `nft list maps` prints: iptables makes none. */
  mapsInWords = (): string => [...this.#seenByNft().keys()].map((name) => `table ip ${name} {\n}\n`).join('');

  deleteRule(table: string, chain: string, handle: number): void {
    const rules = this.tables.get(table)?.get(chain)?.rules ?? [];
    const index = rules.findIndex((rule) => rule.handle === handle);
    if (index === -1) throw new Refused(1, 'Error: Could not process rule: No such file or directory');
    rules.splice(index, 1);
  }

  /** Whether any rule needs the kernel's table of flows. */
  tracks = (): boolean =>
    [...this.tables].some(([name, table]) =>
      [...table.values()].some(({ rules }) =>
        rules.some(({ text }) => name === 'nat' || text.includes('-m conntrack ')),
      ),
    );

  rulesOf = (table: string, chain: string): Rule[] => this.tables.get(table)?.get(chain)?.rules ?? [];
}

const isHook = (table: string, chain: string): boolean => HOOKS[table]?.includes(chain) ?? false;

/** Built-in chains by their hooks, those too that are not there; the others by their names. */
function inOrder(name: string, table: Table): Omit<Chain, 'handle'>[] {
  const users = [...table.values()].filter((chain) => !isHook(name, chain.name));
  users.sort((one, other) => (one.name < other.name ? -1 : 1));
  const hooks = HOOKS[name] ?? [];
  return [...hooks.map((hook) => table.get(hook) ?? { name: hook, policy: 'ACCEPT', rules: [] }), ...users];
}

function describeChain(table: string, { name, policy, handle }: Chain): object {
  const about = { family: 'ip', table, name, handle };
  if (policy === undefined) return about;
  const prio = table === 'nat' ? (/PREROUTING|OUTPUT/.test(name) ? -100 : 100) : PRIORITIES[table];
  const type = table === 'nat' ? 'nat' : table === 'mangle' && name === 'OUTPUT' ? 'route' : 'filter';
  return { ...about, type, hook: name.toLowerCase(), prio, policy: policy.toLowerCase() };
}

/** Of what stands in chains that are not ours: jumps to all, or to what the connection is, and verdicts on addresses. */
function expressionsOf(text: string, counted: { packets: number; bytes: number }): object[] {
  const [words = '', target = ''] = text.split(/(?:^| )-j /);
  const asked = words === '' ? [] : words.split(/(?<!!) (?=! |-[a-z] )/);
  const matches = asked.map((each): object => {
    if (each === '! -p icmp') return { match: { op: '!=', left: { meta: { key: 'l4proto' } }, right: 'icmp' } };
    const [, flag, addr, len] = /^-([sd]) ([\d.]+)\/(\d+)$/.exec(each) ?? [];
    if (addr !== undefined) {
      const left = { payload: { protocol: 'ip', field: flag === 's' ? 'saddr' : 'daddr' } };
      return { match: { op: '==', left, right: len === '32' ? addr : { prefix: { addr, len: Number(len) } } } };
    }
    if (each.startsWith('-m conntrack ')) return { xt: { type: 'match', name: 'conntrack' } };
    throw new NotKnown(`as nft says it: ${text}`);
  });
  const verdict = TARGETS.includes(target) ? { [target.toLowerCase()]: null } : { jump: { target } };
  return [...matches, { counter: counted }, verdict];
}

/** The kernel takes no table in which a rule jumps to what is not there. */
function checkJumps(table: Table): void {
  for (const { rules } of table.values())
    for (const { text } of rules) {
      const target = / ?-j (\S+)/.exec(text)?.[1];
      if (target !== undefined && !TARGETS.includes(target) && !table.has(target))
        throw new Refused(4, `CHAIN_DEL failed (Device or resource busy): chain ${target}`);
    }
}

/** The chain that the rule jumps to, if one. Throws where a word of it is not known. */
function targetOf(text: string, table: string): string | undefined {
  const words = [...text.matchAll(/"(?:[^"\\]|\\.)*"|\S+/g)].map(([word]) => word);
  const known = { ...OPTIONS };
  let chain: string | undefined;
  for (let at = 0; at < words.length; at++) {
    if (words[at] === '!') continue;
    const [option = '', value = ''] = words.slice(at);
    const count = known[option];
    if (count === undefined) throw new NotKnown(`${option} in the rule: ${text}`);
    if (option === '-m') Object.assign(known, OF_MODULES[value] ?? unknown(`the module ${value}`));
    if (option === '-j') {
      if (TARGETS.includes(value)) Object.assign(known, OF_TARGETS[value]);
      else chain = value;
      if (ONLY_IN_NAT.includes(value) && table !== 'nat')
        throw new Refused(4, `RULE_APPEND failed (Operation not supported): ${text}`);
    }
    at += count;
  }
  return chain;
}

function unknown(what: string): never {
  throw new NotKnown(what);
}
