// What is not ours on a NIC, as `ip` prints it, and as it takes it again. Pure.

import { anything, array, boolean, number, object, optional, string } from '../base/shape.ts';
import { type Foreign, foreignKey, withoutHops } from '../network/foreign.ts';
import { type Address, addressKey, isByProfile, routeTargetKey } from '../network/state.ts';
import { parsePrinted } from './json.ts';

const known = array(
  object({
    ifname: optional(string),
    addr_info: optional(array(object({ local: optional(string), prefixlen: number }))),
  }),
);

const withAddresses = array(
  object({
    ifname: string,
    addr_info: optional(
      array(
        object({
          family: string,
          local: optional(string),
          address: optional(string),
          prefixlen: number,
          scope: string,
          broadcast: optional(string),
          label: optional(string),
          metric: optional(number),
          protocol: optional(string),
          valid_life_time: optional(number),
          preferred_life_time: optional(number),
          deprecated: optional(boolean),
          dynamic: optional(boolean),
          temporary: optional(boolean),
          noprefixroute: optional(boolean),
          mngtmpaddr: optional(boolean),
          home: optional(boolean),
          autojoin: optional(boolean),
          dadfailed: optional(boolean),
        }),
      ),
    ),
  }),
);

const FOR_EVER = 0xffff_ffff;

/**
 * Reads `ip -json -details address show`: every address of these devices, without those in `ours` (by addressKey), which may be
 * a thousand. One that a neighbour has as well is left out, but for `duplicates`.
 */
export function parseForeignAddresses(
  json: string,
  devices: ReadonlySet<string>,
  ours: ReadonlySet<string> = new Set(),
  duplicates = false,
): Foreign[] {
  const asked = known(parsePrinted(json.trim() || '[]')).flatMap(({ ifname: device = '', addr_info = [] }) => {
    if (!devices.has(device)) return [];
    const theirs = addr_info.filter(
      ({ local, prefixlen }) => !ours.has(addressKey({ device, spec: `${local}/${prefixlen}` })),
    );
    return [{ ifname: device, addr_info: theirs }];
  });
  return withAddresses(asked).flatMap(({ ifname: device, addr_info = [] }) =>
    addr_info.flatMap((info): Foreign[] => {
      const { local, address, label, valid_life_time: valid = FOR_EVER } = info;
      if (local === undefined || (info.dadfailed && !duplicates) || (info.family !== 'inet' && info.family !== 'inet6'))
        return [];
      const family = info.family === 'inet' ? 4 : 6;
      // Before Linux 5.18 it does not say so, and has these flags.
      const ofRouter = info.dynamic && (info.mngtmpaddr || info.temporary) ? 'kernel_ra' : undefined;
      const maker = info.protocol?.startsWith('kernel') ? info.protocol : ofRouter;
      // One that is deprecated may be so for ever, of which the kernel says of IPv4 no more than that.
      const preferred = info.deprecated ? 0 : (info.preferred_life_time ?? FOR_EVER);
      const word = (name: string, value: string | number | undefined) => (value === undefined ? [] : [name, value]);
      const words = [local, ...word('peer', address)].join(' ');
      return [
        {
          kind: 'address',
          family,
          device,
          global: info.scope === 'global',
          ...(maker !== undefined && { protocol: maker }),
          ...(family === 4 && label !== undefined && !isWord(label) && { label }),
          words: [
            `${words}/${info.prefixlen}`,
            ...['dev', device],
            ...word('broadcast', info.broadcast),
            ...['scope', info.scope],
            ...(family === 4 && isWord(label) ? word('label', label) : []),
            ...word('metric', info.metric),
            // The kernel's own (kernel_ll, kernel_ra) nobody else may give.
            ...(info.protocol?.startsWith('kernel') ? [] : word('proto', info.protocol)),
            ...(valid === FOR_EVER && preferred === FOR_EVER
              ? []
              : ['valid_lft', lifetime(valid), 'preferred_lft', lifetime(preferred)]),
            ...(['noprefixroute', 'mngtmpaddr', 'home', 'autojoin'] as const).filter((flag) => info[flag]),
            // It was in use a moment ago: nobody else has it.
            ...(family === 6 ? ['nodad'] : []),
          ].join(' '),
        },
      ];
    }),
  );
}

/** Keeps the words of foreign addresses, of IPv4, as `ip -json -details address show` has them. */
export function withWords(addresses: readonly Address[], printed: string): Address[] {
  const devices = new Set(addresses.flatMap(({ device, foreign, found }) => (foreign && !found ? [device] : [])));
  if (devices.size === 0) return [...addresses];
  const there = parseForeignAddresses(printed, devices).filter(({ family }) => family === 4);
  const known = new Map(there.map((each) => [foreignKey(each), each]));
  return addresses.map((address) => {
    const found = address.foreign && known.get(`${address.spec} dev ${address.device}`);
    return found ? { found, ...address } : address;
  });
}

const lifetime = (seconds: number): number | string => (seconds === FOR_EVER ? 'forever' : seconds);

/** What `ip -batch` takes for one word: # begins a comment there, and quotes mean something. */
export const isWord = (text: string | undefined): boolean => text === undefined || /^[^\s\p{Cc}#'"\\]+$/u.test(text);

const neighbours = array(
  object({
    dst: string,
    dev: string,
    lladdr: optional(string),
    state: optional(array(string)),
    proxy: optional(anything),
    router: optional(anything),
    extern_learn: optional(anything),
    protocol: optional(string),
  }),
);

/**
 * Reads what `ip -json -batch` prints for `neighbour show nud permanent nud noarp` and `neighbour show proxy`, a list to a line.
 * Without the kernel's own, which are `noarp`, and whose MAC is that of a group or of all, or of nobody.
 */
export function parseForeignNeighbours(text: string, devices: ReadonlySet<string>): Foreign[] {
  const there = text.split('\n').flatMap((line) => (line.trim() === '' ? [] : neighbours(parsePrinted(line))));
  return there.flatMap(({ dst, dev: device, lladdr, state = [], protocol, ...flags }): Foreign[] => {
    const isProxy = 'proxy' in flags;
    const isNoarp = state.includes('NOARP');
    if (!devices.has(device) || (!isProxy && (lladdr === undefined || (isNoarp && ofTheKernel(lladdr))))) return [];
    const words = [
      ...(isProxy ? ['proxy', dst] : [dst, 'lladdr', lladdr]),
      ...['dev', device],
      ...(isProxy ? [] : ['nud', isNoarp ? 'noarp' : 'permanent']),
      ...(['router', 'extern_learn'] as const).filter((flag) => flag in flags),
      ...(protocol === undefined ? [] : ['protocol', protocol]),
    ];
    return [{ kind: 'neighbour', family: dst.includes(':') ? 6 : 4, device, words: words.join(' ') }];
  });
}

const ofTheKernel = (lladdr: string): boolean => /^[0-9a-f][13579bdf]:/.test(lladdr) || lladdr === '00:00:00:00:00:00';

/** What says how a route is doing, not what it is; a device may have such a name. */
const STATE =
  /(?<! dev) (?:linkdown|dead|offload|trap|rt_offload|rt_trap|rt_offload_failed|offload_failed|pervasive|unresolved|error -?\d+)\b/g;

/** Reads `ip -4|-6 -details -oneline nexthop show`: objects of one next hop; those of several go with these. */
export function parseForeignNexthops(text: string, family: 4 | 6, devices: ReadonlySet<string>): Foreign[] {
  return text.split('\n').flatMap((line): Foreign[] => {
    const words = line
      .replace(STATE, '')
      .replace(/ (?:scope \S+|proto unspec)\b/g, '')
      .replace(/\s+/g, ' ')
      .trim();
    const [, device = ''] = /^id \d+ .*\bdev (\S+)/.exec(words) ?? [];
    return devices.has(device) ? [{ kind: 'nexthop', family, device, words }] : [];
  });
}

/** A route by an object of several next hops has them behind it, from iproute2 5.19 on. */
export const withHops = (printed: string): string =>
  printed.replace(/ *\n\s*nh_info [^\n\\]*((?:\\[^\n\\]*)*)/g, (_, hops: string) => (hops === '' ? '' : ` ${hops}`));

/** Reads `ip -4|-6 -details -oneline route show table all`, without the kernel's table `local`. */
export function parseForeignRoutes(text: string, family: 4 | 6): Foreign[] {
  return withHops(text)
    .split('\n')
    .flatMap((line): Foreign[] => {
      const words = line
        .replace(/\\/g, ' ')
        .replace(STATE, '')
        .replace(/ expires (\d+)sec\b/, ' expires $1')
        .replace(/ table main\b/, '')
        .replace(/\s+/g, ' ')
        .trim();
      const [, device = ''] = / dev (\S+)/.exec(words) ?? [];
      if (words === '' || / table local\b/.test(words)) return [];
      const [, protocol = 'boot'] = / proto (\S+)/.exec(words) ?? [];
      const [, dest = '', via] = /^(?:unicast )?(\S+)(?: via (\S+))?/.exec(words) ?? [];
      const prefix = dest === 'default' || dest.includes('/') ? '' : '/32';
      const isMain = !/ table /.test(words);
      const [, source] = / src (\S+)/.exec(words) ?? [];
      const [, metric = 0] = / metric (\d+)/.exec(words) ?? [];
      const isAsked = family === 4 && isMain && isByProfile({ protocol, source });
      return [
        {
          kind: 'route',
          family,
          device,
          words,
          protocol,
          ...(isAsked &&
            via !== undefined && {
              target: routeTargetKey({ dest: `${dest}${prefix}`, via, device, metric: Number(metric), protocol }),
            }),
        },
      ];
    });
}

/**
 * The arguments of `ip -4|-6`. A route is appended: it overwrites no other, and goes behind ours of the same metric.
 * `onlink`: also where no address of the NIC reaches the gateway any more, which the kernel asks only when a route comes; and without the
 * object of next hops that it was by, which may be gone.
 */
export function foreignArguments({ kind, words, label }: Foreign, onlink = false): string[] {
  const given = words.split(' ');
  if (kind === 'neighbour' || kind === 'nexthop') return [kind, 'replace', ...given];
  if (kind === 'address') return ['address', 'replace', ...given, ...(label === undefined ? [] : ['label', label])];
  // It prints a lock that it does not take, and that it sets by itself.
  const taken = (onlink ? words.replace(/ nhid \d+/, '') : withoutHops(words)).replace(/ rto_min lock /g, ' rto_min ');
  const hops =
    / onlink\b/.test(taken) || !onlink ? taken : taken.replace(/( via (?:inet6? )?\S+ dev \S+)/g, '$1 onlink');
  return ['route', 'append', ...hops.split(' ')];
}

/** The same as a line of `ip -batch`; undefined where that cannot say it. */
export function foreignLine(foreign: Foreign, onlink = false): string | undefined {
  const isLine = foreign.words.split(' ').every(isWord);
  return isLine && isWord(foreign.label) ? foreignArguments(foreign, onlink).join(' ') : undefined;
}
