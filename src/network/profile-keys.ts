// What a profile says beside addresses, and ours keep: firewalld's zone, and what is for the resolver. Of files of others: only what can
// mean nothing else in a keyfile or to the shell that sources an ifcfg file. Pure.

/** By meaning, whatever the format. */
export type ProfileKeys = {
  zone?: string;
  /** Servers, of IPv4 and IPv6. */
  dns?: readonly string[];
  dnsSearch?: readonly string[];
  dnsOptions?: readonly string[];
  dnsPriority?: number;
};

/** `left`: what is there and is not kept, in words. */
export type FoundKeys = { keys: ProfileKeys; left: readonly string[] };

/** As a profile has it. A list may have empty entries. */
export type RawKeys = Record<Exclude<keyof ProfileKeys, ListKey>, string | undefined> &
  Record<ListKey, readonly string[]>;

type ListKey = 'dns' | 'dnsSearch' | 'dnsOptions';

/** What an operator reads. */
const NAMES = {
  zone: 'zone',
  dns: 'dns',
  dnsSearch: 'dns-search',
  dnsOptions: 'dns-options',
  dnsPriority: 'dns-priority',
} as const satisfies Record<keyof ProfileKeys, string>;

const BYTE = '(25[0-5]|2[0-4]\\d|1?\\d?\\d)';

/** The name behind `#` is the server's, for TLS. */
const FORMS = {
  zone: /^\w[\w/-]{0,63}$/,
  dns: new RegExp(`^(${BYTE}(\\.${BYTE}){3}|(?=.*:.*:)[\\da-f:.]{2,45})(#\\w[\\w.-]{0,252})?$`, 'i'),
  // Behind ~ a domain is asked about there, and nothing is searched in it; `~.` is all of them.
  dnsSearch: /^(~\.|(?=.{1,254}$)~?\w[\w-]{0,62}(\.\w[\w-]{0,62})*\.?)$/,
  dnsOptions: /^[a-z][\w-]{0,31}(:\d{1,5})?$/i,
  dnsPriority: /^-?\d{1,9}$/,
} as const satisfies Record<keyof ProfileKeys, RegExp>;

/** A resolver asks three servers; of a list that is longer the first ones are kept. */
const MOST = 32;

export function takenKeys({ zone, dnsPriority, ...lists }: RawKeys): FoundKeys {
  const left: string[] = [];
  const one = (key: 'zone' | 'dnsPriority', value: string | undefined) => {
    if (value === undefined || value === '') return undefined;
    if (FORMS[key].test(value)) return value;
    left.push(leftText(key, [value]));
    return undefined;
  };
  const list = (key: ListKey) => {
    const there = [...new Set(lists[key])].filter((value) => value !== '');
    const taken = there.filter((value) => FORMS[key].test(value)).slice(0, MOST);
    const others = there.filter((value) => !taken.includes(value));
    if (others.length > 0) left.push(leftText(key, others));
    return taken.length === 0 ? {} : { [key]: taken };
  };
  const taken = one('zone', zone);
  const keys: ProfileKeys = {
    ...(taken !== undefined && { zone: taken }),
    ...list('dns'),
    ...list('dnsSearch'),
    ...list('dnsOptions'),
  };
  const priority = one('dnsPriority', dnsPriority);
  return { keys: priority === undefined ? keys : { ...keys, dnsPriority: Number(priority) }, left };
}

/** With IPv6 left alone NetworkManager refuses a keyfile that names a server of IPv6. */
export function withoutIpv6({ keys, left }: FoundKeys): FoundKeys {
  const { dns = [], ...rest } = keys;
  const [four, six] = [dns.filter((server) => !isIpv6(server)), dns.filter(isIpv6)];
  if (six.length === 0) return { keys, left };
  return { keys: { ...rest, ...(four.length > 0 && { dns: four }) }, left: [...left, leftText('dns', six)] };
}

const isIpv6 = (server: string): boolean => server.includes(':');

/** In the order of their names above. */
export const keysText = (keys: ProfileKeys): string => entriesOf(keys).join(', ');

/** All of them, where there is no profile to keep them in. */
export const nothingKept = ({ keys, left }: FoundKeys): FoundKeys => ({
  keys: {},
  left: [...entriesOf(keys), ...left],
});

const entriesOf = (keys: ProfileKeys): string[] =>
  (Object.keys(NAMES) as (keyof ProfileKeys)[]).flatMap((key) =>
    keys[key] === undefined ? [] : [`${NAMES[key]} ${[keys[key]].flat().join(' ')}`],
  );

/** A file of somebody else may have any number of them, of any length. */
function leftText(key: keyof ProfileKeys, values: readonly string[]): string {
  const shown = values.slice(0, 3).map((value) => (value.length > 60 ? `${value.slice(0, 60)}…` : value));
  return `${NAMES[key]} ${shown.join(' ')}${values.length > 3 ? ` and ${values.length - 3} more` : ''}`;
}
