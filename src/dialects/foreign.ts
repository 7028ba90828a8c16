// What is not ours on a NIC, in the words of `ip`: read from what it prints, and put back by the same words where
// NetworkManager took it away. Pure.

import { addressKey } from '../network/state.ts';
import { array, boolean, number, object, optional, string } from '../shape.ts';

/** A foreign address or route. */
export type Foreign = {
  kind: 'address' | 'route';
  family: 4 | 6;
  /** Of a route with several next hops the first one's. */
  device: string;
  /** What `ip address` or `ip route` takes, the device included. */
  words: string;
  /** Of an address: whether its scope is global. */
  global?: boolean;
  /** Of a route: where it leads, as routeTargetKey says it, and what `ip` calls its maker. */
  target?: string;
  protocol?: string;
};

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
 * a thousand. One that a neighbour has as well is left out.
 */
export function parseForeignAddresses(
  json: string,
  devices: ReadonlySet<string>,
  ours: ReadonlySet<string> = new Set(),
): Foreign[] {
  const asked = known(JSON.parse(json.trim() || '[]')).flatMap(({ ifname: device = '', addr_info = [] }) => {
    if (!devices.has(device)) return [];
    const theirs = addr_info.filter(
      ({ local, prefixlen }) => !ours.has(addressKey({ device, spec: `${local}/${prefixlen}` })),
    );
    return [{ ifname: device, addr_info: theirs }];
  });
  return withAddresses(asked).flatMap(({ ifname: device, addr_info = [] }) =>
    addr_info.flatMap((info): Foreign[] => {
      const { local, address, label, valid_life_time: valid = FOR_EVER, preferred_life_time: preferred } = info;
      if (local === undefined || info.dadfailed || (info.family !== 'inet' && info.family !== 'inet6')) return [];
      const family = info.family === 'inet' ? 4 : 6;
      const word = (name: string, value: string | number | undefined) => (value === undefined ? [] : [name, value]);
      const words = [local, ...word('peer', address)].join(' ');
      return [
        {
          kind: 'address',
          family,
          device,
          global: info.scope === 'global',
          words: [
            `${words}/${info.prefixlen}`,
            ...['dev', device],
            ...word('broadcast', info.broadcast),
            ...['scope', info.scope],
            ...(family === 4 ? word('label', label) : []),
            ...word('metric', info.metric),
            // The kernel's own (kernel_ll, kernel_ra) nobody else may give.
            ...(info.protocol?.startsWith('kernel') ? [] : word('proto', info.protocol)),
            ...(valid === FOR_EVER
              ? []
              : ['valid_lft', valid, 'preferred_lft', preferred === FOR_EVER ? 'forever' : preferred]),
            ...(['noprefixroute', 'mngtmpaddr', 'home', 'autojoin'] as const).filter((flag) => info[flag]),
            // It was in use a moment ago: nobody else has it.
            ...(family === 6 ? ['nodad'] : []),
          ].join(' '),
        },
      ];
    }),
  );
}

/** What says how a route is doing, not what it is. */
const STATE =
  / (?:linkdown|dead|offload|trap|rt_offload|rt_trap|rt_offload_failed|offload_failed|pervasive|unresolved|error -?\d+)\b/g;

/** Reads `ip -4|-6 -details -oneline route show table all`, without the kernel's table `local`. */
export function parseForeignRoutes(text: string, family: 4 | 6): Foreign[] {
  return text.split('\n').flatMap((line): Foreign[] => {
    const words = line
      .replace(/\\/g, ' ')
      .replace(STATE, '')
      .replace(/ expires (\d+)sec\b/, ' expires $1')
      .replace(/ table main\b/, '')
      .replace(/\s+/g, ' ')
      .trim();
    const [, device] = / dev (\S+)/.exec(words) ?? [];
    if (device === undefined || / table local\b/.test(words)) return [];
    const [, protocol = 'boot'] = / proto (\S+)/.exec(words) ?? [];
    const [, dest = '', via] = /^(?:unicast )?(\S+)(?: via (\S+))?/.exec(words) ?? [];
    const prefix = dest === 'default' || dest.includes('/') ? '' : '/32';
    const isMain = !/ table /.test(words);
    return [
      {
        kind: 'route',
        family,
        device,
        words,
        protocol,
        ...(family === 4 && via !== undefined && isMain && { target: `${dest}${prefix} via ${via} dev ${device}` }),
      },
    ];
  });
}

/** Two with the same key are the same thing: what changes by itself, or by coming again, does not count. */
export const foreignKey = ({ kind, device, words }: Foreign): string =>
  kind === 'address'
    ? `${words.split(' dev ', 1)[0]} dev ${device}`
    : words.replace(/ expires \d+/, '').replace(/ onlink\b/g, '');

/** As an operator reads it. */
export const foreignText = ({ kind, words }: Foreign): string =>
  `${kind} ${words.replace(/^unicast /, '').replace(/ (scope|broadcast) \S+| nodad| pref medium/g, '')}`;

/**
 * One line of `ip -4|-6 -batch`. A route is appended: it overwrites no other, and goes behind ours of the same metric.
 * `onlink`: also where no address of the NIC reaches the gateway any more, which the kernel asks only when a route comes.
 */
export function foreignLine({ kind, words }: Foreign, onlink = false): string {
  if (kind === 'address') return `address replace ${words}`;
  return `route append ${onlink && !/ onlink\b/.test(words) ? words.replace(/( via (?:inet6? )?\S+ dev \S+)/g, '$1 onlink') : words}`;
}
