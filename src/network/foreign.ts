// What is not ours on a NIC, in the words of `ip`: put back by them where it was taken away. Pure.

/** A foreign address, route, object of a next hop, or neighbour that somebody entered. */
export type Foreign = {
  kind: 'address' | 'route' | 'neighbour' | 'nexthop';
  family: 4 | 6;
  /** Of a route with several next hops the first one's; '' where it has none (`unreachable`). */
  device: string;
  /** What `ip address`, `ip route` or `ip neighbour` takes, the device included. */
  words: string;
  /** Of an address: its label, where that is more than a word. */
  label?: string;
  /** Of an address: whether its scope is global. */
  global?: boolean;
  /**
   * Of a route through a gateway that a profile may have asked for: its routeTargetKey. Of every route, and of an address of the kernel's
   * own: what `ip` calls its maker.
   */
  target?: string;
  protocol?: string;
};

/** Whether it goes by itself. */
export const isLeased = ({ words }: Foreign): boolean => / valid_lft \d/.test(words);

/** As it is so many seconds later; undefined: it has gone by itself. */
export function aged(foreign: Foreign, seconds: number): Foreign | undefined {
  let isOver = false;
  const words = foreign.words.replace(/ (valid|preferred)_lft (\d+)/g, (_, of: string, had: string) => {
    const left = Math.max(0, Number(had) - seconds);
    isOver ||= of === 'valid' && left === 0;
    return ` ${of}_lft ${left}`;
  });
  return isOver ? undefined : { ...foreign, words };
}

/** Where a route leads: by a gateway, or on the link itself. */
export const hopsOf = ({ words }: Foreign): { device: string; via?: string }[] =>
  [...words.matchAll(HOP)].map(([, via, device = '']) => ({ device, ...(via !== undefined && { via }) }));

/** Most have one hop. */
export const hopDevices = (foreign: Foreign): string[] =>
  foreign.words.includes(' nexthop ') ? hopsOf(foreign).map(({ device }) => device) : [foreign.device];

const HOP = /(?: via (?:inet6? )?(\S+))? dev (\S+)/g;

/** The same route by another device. `isFar`: a gateway that nothing on that leads to, which the kernel asks for when a route comes. */
export function bySomeOther(foreign: Foreign, from: string, to: string, isFar: (via: string) => boolean): Foreign {
  const { device, words, target } = foreign;
  const isOnlink = / onlink\b/.test(words);
  return {
    ...foreign,
    device: device === from ? to : device,
    ...(target !== undefined && { target: target.replace(` dev ${from} `, () => ` dev ${to} `) }),
    words: words.replace(HOP, (hop: string, via: string | undefined, by: string) => {
      if (by !== from) return hop;
      const far = via !== undefined && !via.includes(':') && !isOnlink && isFar(via);
      return `${hop.slice(0, -from.length)}${to}${far ? ' onlink' : ''}`;
    }),
  };
}

/** Of a route of IPv6 with several hops one for each: the kernel takes each of them alone, and makes one of them again. */
export function byHop(foreign: Foreign): Foreign[] {
  // Of all of them; behind the last one in iproute2 from 4.17 to 5.5.
  const [, all = '', pref = ''] = /^(.*?)( pref \w+)?$/.exec(foreign.words) ?? [];
  const [head = '', ...hops] = all.split(' nexthop ');
  if (foreign.kind !== 'route' || foreign.family === 4 || hops.length === 0) return [foreign];
  const [, dest = '', rest = ''] = /^((?:unicast )?\S+)(.*)$/.exec(head) ?? [];
  return hops.map((hop) => {
    const [, device = ''] = /(?:^| )dev (\S+)/.exec(hop) ?? [];
    return { ...foreign, device, words: `${dest} ${hop.replace(/ weight \d+/, '')}${rest}${pref}` };
  });
}

/**
 * Two with the same key are the same thing: what changes by itself, or by coming again, does not count. Nor does the preference that each
 * has of whom nothing is said: of several hops iproute2 before 4.17 does not print it.
 */
export const foreignKey = ({ kind, device, words }: Foreign): string =>
  kind === 'address'
    ? `${words.split(' dev ', 1)[0]} dev ${device}`
    : words.replace(/ expires \d+/, '').replace(/ onlink\b| nhid \d+| pref medium\b/g, '');

/** A route by an object of next hops: it goes where that goes. */
export const isByObject = ({ kind, words }: Foreign): boolean => kind === 'route' && / nhid \d/.test(words);

/** A route by its object alone: both are too much for the kernel. */
export const withoutHops = (words: string): string =>
  / nhid \d/.test(words) ? words.replace(/ nexthop .*$/, '').replace(/(?: via (?:inet6? )?\S+)? dev \S+/, '') : words;

/**
 * Where a route or a neighbour is: who puts another there has decided what to do instead. Of an address there is no other in its
 * place.
 */
export function foreignPlace(foreign: Foreign): string {
  const { kind, family, device, words } = foreign;
  if (kind === 'address') return foreignKey(foreign);
  if (kind === 'neighbour') return `neighbour ${/^(?:proxy )?\S+/.exec(words)?.[0]} dev ${device}`;
  if (kind === 'nexthop') return `nexthop ${/^id \d+/.exec(words)?.[0]}`;
  const [, dest] = /^(?:(?:unicast|unreachable|blackhole|prohibit|throw) )?(\S+)/.exec(words) ?? [];
  const of = (name: string) => new RegExp(` ${name} (\\S+)`).exec(words)?.[1] ?? '';
  return ['route', family, dest, of('table'), of('tos'), of('metric')].join(' ');
}

/** As an operator reads it. */
export const foreignText = ({ kind, words }: Foreign): string =>
  `${kind} ${words.replace(/^unicast /, '').replace(/ (scope|broadcast) \S+| nodad| pref medium/g, '')}`;
