// The accepted entries of a file, the shape of a rule over them, and what rules are made of.

import { formatIpv4, ipv4, lastOf, type Network, networkOf, parseCidr } from '../base/ipv4.ts';
import type { Config, Eip, Forward, Nic, Snat, StaticRoute } from './config.ts';
import type { Issue, Place } from './issue.ts';
import type { ListName } from './schema.ts';
import { countBefore } from './search.ts';

/** An entry that its schema accepted. */
export type Entry<T> = {
  value: T;
  /** The place of a key's value, or of one in it that is a list, or of the entry where the key is not written. */
  at: (key?: string, index?: number) => Place;
  has: (key: string) => boolean;
};

/** The entries that were accepted, in file order; a Config only when nothing else is wrong. */
export type Draft = {
  nics: readonly Entry<Nic>[];
  eips: readonly Entry<Eip>[];
  forwards: readonly Entry<Forward>[];
  routes: readonly Entry<StaticRoute>[];
  snats: readonly Entry<Snat>[] | undefined;
  fromUplink: Config['fromUplink'];
  pciRescan?: false;
  /** No NIC and no route was refused. */
  whole: boolean;
  at: (list: ListName) => Place;
};

export type Rule = {
  /** A note is nothing to mend: only who runs `check` reads it. */
  severity: 'errors' | 'warnings' | 'notes';
  /** Argues from what the file does not have: says nothing while a NIC or a route was refused. */
  needsWhole?: true;
  find: (draft: Draft) => Iterable<Issue>;
};

/** What the entries mean. */
export function configOf({ nics, eips, forwards, routes, snats, fromUplink, pciRescan }: Draft): Config {
  const values = <T>(entries: readonly Entry<T>[]): T[] => entries.map((entry) => entry.value);
  return {
    nics: values(nics),
    eips: values(eips),
    forwards: values(forwards),
    routes: values(routes),
    snats: snats && values(snats),
    fromUplink,
    ...(pciRescan === false && { pciRescan }),
  };
}

/** What is wrong with an entry by itself, at the value of which key. */
export type Fault = { key: string; message: string };

export function issue(place: Place, message: string): Issue {
  return { ...place, message };
}

/** A place in the words of a message. */
export function named(place: Place): string {
  return `${place.path} on line ${place.line}`;
}

export function usedBefore(
  entry: Entry<unknown>,
  key: string,
  value: string,
  first: Entry<unknown>,
  firstKey = key,
): Issue {
  return issue(entry.at(key), `${value} is already used by ${named(first.at(firstKey))}`);
}

/** Each entry whose key an earlier one has, with the first that has it. */
export function* repeats<T>(
  entries: readonly Entry<T>[],
  keyOf: (value: T) => unknown,
): Generator<[Entry<T>, Entry<T>]> {
  const seen = new Map<unknown, Entry<T>>();
  for (const entry of entries) {
    const key = keyOf(entry.value);
    const first = seen.get(key);
    if (first === undefined) seen.set(key, entry);
    else yield [entry, first];
  }
}

export type EntrySpan<T> = { entry: Entry<T>; first: number; last: number };

/** Each entry that overlaps an earlier one, with that one. Searched, not compared with all: 10,000 are no 50 million pairs. */
export function* overlaps<T>(spans: readonly EntrySpan<T>[]): Generator<[Entry<T>, Entry<T>]> {
  const apart: EntrySpan<T>[] = [];
  for (const span of spans) {
    const n = countBefore(apart, ({ last }) => last < span.first);
    const next = apart[n];
    if (next !== undefined && next.first <= span.last) yield [span.entry, next.entry];
    else apart.splice(n, 0, span);
  }
}

export function byAddress(nics: readonly Entry<Nic>[]): Map<string, Entry<Nic>> {
  return new Map(nics.map((nic) => [nic.value.ipaddr, nic]));
}

export function own({ ipaddr, prefix }: Nic): Network {
  return networkOf(ipv4(ipaddr), prefix);
}

/** The addresses that no host of the network has. A /31 and a /32 have none such. */
export function reservedIn(network: Network): Map<string, 'network' | 'broadcast'> {
  if (network.prefix > 30) return new Map();
  return new Map([
    [formatIpv4(network.base), 'network'],
    [formatIpv4(lastOf(network)), 'broadcast'],
  ]);
}

export function destOf({ dest }: StaticRoute): Network {
  return parseCidr(dest) ?? networkOf(ipv4(dest), 32);
}
