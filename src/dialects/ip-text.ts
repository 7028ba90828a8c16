// What an ip before 4.18 prints, which knows no -json → what a later one prints with it, as far as we read that. So there is one reader
// (iproute.ts, foreign.ts), whatever the guest has. Pure.

import { UnsupportedError } from '../base/errors.ts';

/** A question to `ip -json`: what stands behind the options, on the command line or on the lines of a batch. */
export type IpQuestion = { family?: '4' | '6'; lines: readonly string[] };

/** What an old ip is asked in its place, a line each. `details`: whether more is asked of links, which tells what they are. */
export function inText({ lines }: IpQuestion): string[] {
  // Links without addresses are in no list of addresses.
  return lines.flatMap((line) => (/^address show/.test(line) ? [line.replace('address', 'link'), line] : [line]));
}

/** Whether this can be said without -json. */
export const canBeText = (line: string): boolean => Object.keys(READERS).some((start) => line.startsWith(start));

/**
 * What `ip -oneline` printed for these lines → what `ip -json -batch` prints for the question: a list to a line. Throws UnsupportedError
 * where it is not what ip prints.
 */
export function asJson({ family, lines }: IpQuestion, printed: string): string {
  const left = printed.split('\n').filter((line) => line.trim() !== '');
  const lists = lines.map((line) => {
    const [, read] = Object.entries(READERS).find(([start]) => line.startsWith(start)) ?? [];
    return read === undefined ? [] : read(left, family);
  });
  if (left.length > 0) throw notUnderstood(left[0]);
  return `${lists.map((list) => JSON.stringify(list)).join('\n')}\n`;
}

const notUnderstood = (line = ''): UnsupportedError =>
  new UnsupportedError(
    `ip printed something that is not understood: ${line.slice(0, 100)} (please report it, with ip -V)`,
  );

type Json = Record<string, unknown>;

/** Each takes its lines from what is left of what was printed. */
const READERS: Readonly<Record<string, (left: string[], family: IpQuestion['family']) => Json[]>> = {
  'address show': (left, family) => {
    const links = takeLinks(left);
    return withAddresses(linksIn(links), takeThrough(left, isAddress), family);
  },
  'link show': (left) => linksIn(takeLinks(left)),
  'route show': (left) => takeThrough(left, isRoute).map(asRoute),
  'route get': (left) => left.splice(0, 1).map(asRoute),
  'neighbour show': (left) => takeThrough(left, (line) => /^[\da-f.:]+ /.test(line)).map(asNeighbour),
  'token list': (left) => takeThrough(left, (line) => line.startsWith('token ')).map(asToken),
};

/** Up to the last such line. */
function takeThrough(lines: string[], isOne: (line: string) => boolean): string[] {
  const taken = lines.splice(0, lines.findLastIndex(isOne) + 1);
  const other = taken.find((line) => !isOne(line));
  if (other !== undefined) throw notUnderstood(other);
  return taken;
}

/** An alias may have line feeds in it, and what looks like anything behind them. */
function takeLinks(lines: string[]): string[] {
  let hasAlias = false;
  const links = lines.splice(0, lines.findLastIndex(isLink) + 1).filter((line) => {
    if (!isLink(line) && !hasAlias) throw notUnderstood(line);
    if (isLink(line)) hasAlias = / alias /.test(line);
    return isLink(line);
  });
  if (!hasAlias) return links;
  const next = [isAddress, isRoute].map((isNext) => lines.findIndex(isNext)).find((at) => at !== -1);
  lines.splice(0, next ?? lines.length);
  return links;
}

const isLink = (line: string): boolean => LINK.test(line);
const isAddress = (line: string): boolean => /^\d+: \S+ +inet6? /.test(line);
const isRoute = (line: string): boolean => ROUTE.test(line);

const LINK =
  /^(\d+): (\S+): <([^>]*)> mtu (\d+) (?:\S+ \S+ )*?(?:qdisc \S+ )?(?:master (\S+) )?(?:state \S+ )?mode \S+ group (\S+) /;
const ROUTE =
  /^(?:(?:unicast|local|broadcast|multicast|throw|unreachable|prohibit|blackhole|nat|anycast) )?(?:default|[\d.]+(?:\/\d+)?) /;

function linksIn(lines: readonly string[]): Json[] {
  const found = lines.flatMap((line) => {
    const [, index, name = '', flags = '', mtu, master, group] = LINK.exec(line) ?? [];
    return index === undefined ? [] : [{ line, index, name, flags, mtu, master, group }];
  });
  const names = new Set(found.flatMap(({ name }) => [name, ...splitsOf(name).map(([start]) => start)]));
  return found.map(({ line, index, name, flags, mtu, master, group }) => {
    // A name may end as a line does, and what is behind the alias is anybody's.
    const behind = line.slice(Math.max(0, line.search(/\\ +link\//)));
    const [, ...segments] = (behind.split(/\\ +alias /, 1)[0] ?? '').split(/\\ +/);
    const of = (key: string, text = segments.join(' ')) => new RegExp(`(?:^| )${key} (\\S+)`).exec(text)?.[1];
    const [, type, mac] = /^link\/(\S+) ([\da-f:]+) /.exec(segments[0] ?? '') ?? [];
    const kinds = segments.slice(1).filter((segment) => !/^vf \d/.test(segment));
    const slave = kinds.find((segment) => /^\w+_slave\b/.test(segment));
    const own = kinds.find((segment) => segment !== slave);
    const data = {
      ...(slave !== undefined && {
        info_slave_kind: slave.split('_slave', 1)[0],
        info_slave_data: { state: of('state', slave), perm_hwaddr: of('perm_hwaddr', slave) },
      }),
      ...(own !== undefined && {
        info_kind: own.split(' ', 1)[0],
        info_data: { stp_state: numberOf(of('stp_state', own)), forward_delay: numberOf(of('forward_delay', own)) },
      }),
    };
    return {
      ifindex: Number(index),
      ifname: nameIn(name, names),
      flags: flags.split(','),
      mtu: Number(mtu),
      master,
      group,
      link_type: type,
      address: mac,
      permaddr: of('permaddr', segments[0]),
      ...(Object.keys(data).length > 0 && { linkinfo: data }),
    };
  });
}

const numberOf = (text: string | undefined): number | undefined => (text === undefined ? undefined : Number(text));

/** Behind an @ stands another link, a number, or nothing that is there; but a name may have one itself. */
const nameIn = (printed: string, names: ReadonlySet<string>): string =>
  splitsOf(printed).find(([, other]) => /^(NONE|if\d+)$/.test(other) || names.has(other))?.[0] ?? printed;

/** At each @. */
const splitsOf = (printed: string): [name: string, other: string][] =>
  [...printed.matchAll(/@/g)].map(({ index }) => [printed.slice(0, index), printed.slice(index + 1)]);

/** Of a family only the links that have any: ip prints `{}` for the others. */
function withAddresses(links: readonly Json[], lines: readonly string[], family: IpQuestion['family']): Json[] {
  const infos = new Map<number, Json[]>();
  for (const line of lines) {
    const found = asAddress(line);
    if (found === undefined || (family !== undefined && found.info.family !== FAMILY[family])) continue;
    infos.set(found.index, [...(infos.get(found.index) ?? []), found.info]);
  }
  return links.flatMap((link) => {
    const addr_info = infos.get(Number(link.ifindex)) ?? [];
    return family !== undefined && addr_info.length === 0 ? [] : [{ ...link, addr_info }];
  });
}

const FAMILY = { 4: 'inet', 6: 'inet6' } as const;

/** In the order in which ip prints them. */
const FLAGS = [
  ...['secondary', 'temporary', 'tentative', 'deprecated', 'home', 'nodad', 'mngtmpaddr', 'noprefixroute'],
  ...['autojoin', 'dynamic', 'dadfailed', 'optimistic', 'stable-privacy'],
];

function asAddress(line: string): { index: number; info: Json } | undefined {
  const [head = '', lifetimes = ''] = line.split(/\\ +(?=valid_lft )/);
  const [, index, family, local, peer, length, more = ''] =
    /^(\d+): \S+ +(inet6?) ([^ /]+)(?: peer ([^ /]+))?(?:\/(\d+))? (.*)$/s.exec(head) ?? [];
  if (index === undefined) return undefined;
  const [, metric, broadcast, scope, rest = ''] =
    /^(?:metric (\d+) )?(?:brd (\S+) )?(?:any \S+ )?scope (\S+) (.*)$/s.exec(more) ?? [];
  const words = rest.split(' ');
  const flags: string[] = [];
  // The label, which only one of IPv4 has, is behind them, and may be called as one.
  while (words.length > (family === 'inet' ? 1 : 0) && FLAGS.includes(words[0] ?? '')) flags.push(words.shift() ?? '');
  if (words[0] === 'flags') words.splice(0, 2);
  const label = words.join(' ');
  const [, valid, preferred] = /valid_lft (\w+) preferred_lft (\w+)/.exec(lifetimes) ?? [];
  const info = {
    family,
    local,
    address: peer,
    prefixlen: length === undefined ? (family === 'inet' ? 32 : 128) : Number(length),
    metric: numberOf(metric),
    broadcast,
    scope,
    ...Object.fromEntries(flags.map((flag) => [flag, true])),
    ...(family === 'inet' && label !== '' && { label }),
    valid_life_time: seconds(valid),
    preferred_life_time: seconds(preferred),
  };
  return { index: Number(index), info };
}

const FOR_EVER = 0xffff_ffff;

const seconds = (text = 'forever'): number => (text === 'forever' ? FOR_EVER : Number.parseInt(text, 10));

/** What a word is followed by. */
const ROUTE_KEYS: Readonly<Record<string, string>> = {
  dev: 'dev',
  proto: 'protocol',
  src: 'prefsrc',
  metric: 'metric',
  from: 'from',
  iif: 'iif',
};
const TYPES = /^(unicast|local|broadcast|multicast|throw|unreachable|prohibit|blackhole|nat|anycast)$/;

function asRoute(line: string): Json {
  // Of several hops there is no one device.
  const [first = '', ...more] = line.split(/\\(?=\s+(?:nexthop|cache)\b)/).map((each) => each.trim());
  const words = [first, ...more.filter((each) => !each.startsWith('nexthop'))].join(' ').split(/ +/);
  const type = TYPES.test(words[0] ?? '') ? words.shift() : undefined;
  const route: Json = { type, dst: words.shift() };
  for (let at = 0; at < words.length; at++) {
    const [word = '', value] = [words[at], words[at + 1]];
    const key = ROUTE_KEYS[word];
    if (word === 'via') {
      const isOther = value === 'inet' || value === 'inet6';
      if (isOther) route.via = { family: value, host: words[at + 2] };
      else route.gateway = value;
      at += isOther ? 2 : 1;
    } else if (key !== undefined && value !== undefined) {
      route[key] = key === 'metric' ? Number(value) : value;
      at++;
    }
  }
  return route;
}

function asNeighbour(line: string): Json {
  const words = line.trim().split(/ +/);
  // A link may be called as one of the words.
  const behind = words.slice(3);
  const flags = ['proxy', 'router', 'extern_learn'].filter((flag) => behind.includes(flag));
  return {
    dst: words[0],
    dev: words[2],
    lladdr: behind[0] === 'lladdr' ? behind[1] : undefined,
    state: behind.filter((word) => /^[A-Z]+$/.test(word)),
    ...Object.fromEntries(flags.map((flag) => [flag, null])),
  };
}

function asToken(line: string): Json {
  const [, token, ifname] = /^token (\S+) dev (\S+)/.exec(line) ?? [];
  return { token, ifname };
}
