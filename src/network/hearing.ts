// What makes a link hear the advertisements of routers (RFC 4861), and what the kernel makes of them: a bridge hears in its port's
// stead, as that did, and the port hears none. Pure.

import type { Foreign } from './foreign.ts';
import { type BoundNic, ipLinkOf, type NicPlace } from './nics.ts';
import { bridgeKey, type Sysctl } from './state.ts';

/** Settings in net.ipv6.conf of a link, by name; empty: the kernel has none of it. */
export type Settings = ReadonlyMap<string, string>;

export const ACCEPTS = 'accept_ra';
export const FORWARDS = 'forwarding';
export const DISABLED = 'disable_ipv6';

/** What a bridge takes over, in the order in which it is set: a secret chooses the mode; it hears when all else is there. */
export const TAKEN_OVER = [
  DISABLED,
  'stable_secret',
  'addr_gen_mode',
  'dad_transmits',
  'accept_dad',
  'autoconf',
  'max_addresses',
  'use_tempaddr',
  'temp_valid_lft',
  'temp_prefered_lft',
  'regen_max_retry',
  'max_desync_factor',
  'accept_ra_defrtr',
  'ra_defrtr_metric',
  'accept_ra_from_local',
  'accept_ra_min_hop_limit',
  'accept_ra_min_lft',
  'accept_ra_mtu',
  'accept_ra_pinfo',
  'accept_ra_rt_info_min_plen',
  'accept_ra_rt_info_max_plen',
  'accept_ra_rtr_pref',
  'ra_honor_pio_life',
  'ra_honor_pio_pflag',
  'router_solicitations',
  'router_solicitation_delay',
  'router_solicitation_interval',
  'router_solicitation_max_interval',
  ACCEPTS,
] as const;

export const settingKey = (device: string, name: string): string => `net/ipv6/conf/${device}/${name}`;

/** As the kernel decides it: with forwarding only where 2 is said. */
export function hears(settings: Settings): boolean {
  const accepts = settings.get(DISABLED) === '0' ? settings.get(ACCEPTS) : '0';
  if (accepts === undefined) return false;
  return accepts === '2' || (accepts !== '0' && settings.get(FORWARDS) === '0');
}

/**
 * A port that hears none now: `was` is its accept_ra before, `stead` what its bridge has where a program heard for it; `theirs` what a
 * bridge of others had before it heard in its stead.
 */
export type Heard = NicPlace & {
  was: string;
  stead?: string;
  theirs?: { bridge: string; settings: { name: string; value: string }[] };
};

type HeardNow = Heard & { device: string };

type HearingView = {
  /** NICs of the file that are used. */
  nics: readonly BoundNic[];
  /** The record, by the names of now. */
  recorded: readonly HeardNow[];
  /** MACs of NICs that are not there as the file has them: all stays as it is. */
  waiting: ReadonlySet<string>;
  /** Of these NICs and their bridges, and `default`, with which a link begins. */
  settings: ReadonlyMap<string, Settings>;
  /** Devices that the kernel is deaf on, and that a program hears on (NetworkManager, systemd-networkd): on the bridge the kernel does. */
  byProgram: ReadonlySet<string>;
  /** Bridges that we made: bridgeKey. */
  ours: ReadonlySet<string>;
  placeOf(nic: BoundNic): NicPlace;
};

/** The settings that are wanted, and what is to be recorded before they are made. */
export function hearing(view: HearingView): { sysctls: Sysctl[]; heard: Heard[] } {
  const ports = view.nics.filter((nic) => nic.bridge !== undefined).map((nic) => onBridge(nic, view));
  const known = new Set(view.nics.flatMap(({ bridge, mac }) => (bridge === undefined ? [] : [mac])));
  const left = view.recorded.filter(({ mac }) => !known.has(mac)).map((heard) => onItself(heard, view));
  return {
    sysctls: [...left, ...ports].flatMap(({ sysctls }) => sysctls),
    heard: [...left, ...ports].flatMap(({ heard }) => heard),
  };
}

type HearingPart = { sysctls: Sysctl[]; heard: Heard[] };

function onBridge(nic: BoundNic, { recorded, settings, byProgram, ours, placeOf }: HearingView): HearingPart {
  const { device, bridge } = nic;
  const port = settings.get(device);
  const known = recorded.find(({ mac }) => mac === nic.mac);
  const now = port?.get(ACCEPTS);
  // Other than ours it is somebody else's, by now: NetworkManager sets it back as it lets go of a NIC.
  const was = now === '0' ? (known?.was ?? now) : now;
  if (bridge === undefined || was === undefined || port?.get(DISABLED) !== '0')
    return { sysctls: [], heard: known === undefined ? [] : [known] };
  const found = settings.get(bridge.name);
  const there = found?.size === 0 ? undefined : found;
  const base = there ?? settings.get('default');
  const isOurs = there === undefined || ours.has(bridgeKey(bridge));
  const ofPort = new Map([...port, [ACCEPTS, was]]);
  const stead = known?.stead ?? (byProgram.has(device) ? '2' : undefined);
  const own = hears(ofPort) ? ofPort : new Map([...ofPort, [ACCEPTS, stead ?? was]]);
  const before = known?.theirs?.bridge === bridge.name ? known.theirs.settings : [];
  // One of others that hears does so as they want it, but for what it has of us.
  const isTheirs = !isOurs && (hears(there) || !hears(own));
  const taken = takenOver(own, base).filter(([name]) => !isTheirs || before.some((each) => each.name === name));
  const changed = taken.filter(([name, value]) => base?.get(name) !== value);
  const theirs =
    known?.theirs ??
    (isOurs || changed.length === 0
      ? undefined
      : {
          bridge: bridge.name,
          settings: changed.flatMap(([name]) => {
            const value = there?.get(name);
            return value === undefined ? [] : [{ name, value }];
          }),
        });
  return {
    sysctls: [
      { key: settingKey(device, ACCEPTS), value: '0' },
      // One that is still to be made begins with what `default` says.
      ...(there === undefined ? changed : taken).map(([name, value]) => ({
        key: settingKey(bridge.name, name),
        value,
      })),
    ],
    heard: [{ ...placeOf(nic), was, ...(stead !== undefined && { stead }), ...(theirs !== undefined && { theirs }) }],
  };
}

/** Nothing where the kernel has no IPv6 there. */
function takenOver(own: Settings, base: Settings | undefined): [name: string, value: string][] {
  if (base === undefined || base.size === 0) return [];
  return TAKEN_OVER.flatMap((name): [string, string][] => {
    const value = name === ACCEPTS ? acceptsThere(own, base) : own.get(name);
    // Without an address of its own link nobody hears: NetworkManager says 1 and makes that itself.
    if (value === undefined || (name === 'addr_gen_mode' && value === '1')) return [];
    return base.has(name) || name === 'stable_secret' ? [[name, value]] : [];
  });
}

/** The same, but for a NIC and a bridge of which one forwards and the other does not. */
function acceptsThere(own: Settings, base: Settings): string {
  const accepts = own.get(ACCEPTS) ?? '0';
  const there = new Map([...base, [DISABLED, own.get(DISABLED) ?? ''], [ACCEPTS, accepts]]);
  if (hears(there) === hears(own)) return accepts;
  return hears(own) ? '2' : '0';
}

/** It hears again; the record stays until it does. */
function onItself(heard: HeardNow, { waiting, settings }: HearingView): HearingPart {
  const { device, mac, was, theirs } = heard;
  if (waiting.has(mac)) return { sysctls: [], heard: [heard] };
  const now = settings.get(device);
  if (now === undefined) return { sysctls: [], heard: [] };
  if (now.size === 0) return { sysctls: [], heard: [heard] };
  const there = theirs && settings.get(theirs.bridge);
  const back = there === undefined ? [] : (theirs?.settings ?? []).filter(({ name }) => there.has(name));
  const isDone = now.get(ACCEPTS) === was && back.every(({ name, value }) => there?.get(name) === value);
  return {
    sysctls: [
      { key: settingKey(device, ACCEPTS), value: was },
      ...back.map(({ name, value }) => ({ key: settingKey(theirs?.bridge ?? '', name), value })),
    ],
    heard: isDone ? [] : [heard],
  };
}

/** The links whose settings are asked for. */
export const hearers = (nics: readonly BoundNic[], recorded: readonly HeardNow[]): Set<string> =>
  new Set([
    ...nics.flatMap((nic) => (nic.bridge === undefined ? [] : [nic.device, ipLinkOf(nic), 'default'])),
    ...recorded.flatMap(({ device, theirs }) => [device, ...(theirs === undefined ? [] : [theirs.bridge])]),
  ]);

/** An address or a route that the kernel has made of an advertisement, and makes anew where it hears the next. */
export const isAdvertised = ({ family, kind, protocol, words }: Foreign): boolean =>
  family === 6 &&
  (kind === 'address'
    ? protocol === 'kernel_ra'
    : kind === 'route' && (protocol === 'ra' || (protocol === 'kernel' && / expires \d/.test(words))));

/** Routes of a link that come of advertisements; that of a prefix without an end looks like one of an address. */
export function advertisedRoutes(onLink: readonly Foreign[]): Foreign[] {
  const isGiven = (each: Foreign) => each.kind === 'address' && each.global === true && !isAdvertised(each);
  const hasGiven = onLink.some((each) => each.family === 6 && isGiven(each));
  return onLink
    .filter(({ kind, family }) => kind === 'route' && family === 6)
    .filter((each) => isAdvertised(each) || (!hasGiven && each.protocol === 'kernel' && !LOCAL.test(each.words)))
    .map((each) => ({ ...each, words: lastingWords(each.words) }));
}

const LOCAL = /^(unicast |multicast )?f[ef]/;

/** What tells the route from others, without what goes down by itself. */
function lastingWords(words: string): string {
  const of = (name: string) => new RegExp(` ${name} \\S+`).exec(words)?.[0] ?? '';
  const [dest = ''] = words.replace(/^unicast /, '').split(' ', 1);
  return `${dest}${['via', 'dev', 'table', 'proto', 'metric'].map(of).join('')}`;
}
