// What the edit commands call an entry of a list: `198.51.100.7=10.10.1.7` on the command line ⇄ the entry in the file.
// The same words are printed by `list`, so that what was listed can be added and removed.

import { UsageError } from '../base/errors.ts';
import type { Config, Eip, Forward, Nic, StaticRoute } from './config.ts';
import type { Fault } from './draft.ts';
import type { Written } from './list-text.ts';
import { faultOfRange } from './nat-rules.ts';
import { faultOfGateway } from './nic-rules.ts';
import { NOUN_FORMS, type NounName } from './nouns.ts';
import { type EntrySchema, eipSchema, forwardSchema, type ListName, nicSchema, routeSchema } from './schema.ts';

/**
 * An entry by its names: the whole of it, as `add` takes it and `list` prints it, and the shorter ones that `remove` takes.
 * `kin`: what it shares with those that it is mistaken for.
 */
export type NamedEntry = { text: string; key: string; names: readonly string[]; kin: string };

/** A kind of entries: `kylin-vr eip …`. */
export type Noun = {
  list: ListName;
  entriesOf: (config: Config) => NamedEntry[];
  /** The argument of `add`. Throws UsageError. */
  read: (argument: string) => { written: Written; entry: NamedEntry };
  /** The argument of `remove`, one of the names of `entry`, as it is among `names`. Throws UsageError. */
  readName: (argument: string) => { name: string; entry: NamedEntry };
};

type Form<T> = {
  name: NounName;
  list: ListName;
  schema: EntrySchema<T>;
  entriesOf: (config: Config) => readonly T[];
  /** Undefined where the argument has not this form. Values are checked by the schema. */
  parse: (argument: string) => Written | undefined;
  /** What no two entries share. */
  keyOf: (entry: T) => string;
  show: (entry: T) => string;
  /** An entry that may have this name. */
  complete: (name: string) => Written | undefined;
  /** Another name of an entry that `remove` takes. */
  aliasOf?: (entry: T) => string;
  kinOf?: (entry: T) => string;
  /** What is wrong with it, whatever else the file has. */
  faultOf?: (entry: T) => Fault | undefined;
};

function noun<T>(form: Form<T>): Noun {
  const { list, schema, entriesOf, parse, keyOf, show, complete, aliasOf = keyOf, kinOf = keyOf } = form;
  const named = (entry: T): NamedEntry => {
    const [text, key] = [show(entry), keyOf(entry)];
    return { text, key, names: [text, key, aliasOf(entry)], kin: kinOf(entry) };
  };
  const accept = (argument: string, written: Written): NamedEntry => {
    const result = schema.schema.safeParse(written);
    const [issue] = result.success ? [] : result.error.issues;
    const fault = result.success
      ? form.faultOf?.(result.data)
      : { key: issue?.path.join('.'), message: issue?.message };
    if (!result.success || fault !== undefined) throw new UsageError(`${argument}: ${fault?.key} ${fault?.message}`);
    return named(result.data);
  };
  return {
    list,
    entriesOf: (config) => entriesOf(config).map(named),
    read(argument) {
      const written = parse(argument);
      if (written === undefined) throw new UsageError(`${argument}: must be written ${NOUN_FORMS[form.name].form}`);
      return { written, entry: accept(argument, written) };
    },
    readName(argument) {
      const whole = parse(argument);
      const written = whole ?? complete(argument);
      if (written === undefined)
        throw new UsageError(
          `${argument}: must be written ${NOUN_FORMS[form.name].name}, or as kylin-vr ${form.name} list prints it`,
        );
      const entry = accept(argument, written);
      if (whole !== undefined) return { name: entry.text, entry };
      return { name: entry.names.find((each) => each === argument) ?? entry.key, entry };
    },
  };
}

/** Any that is valid: in the place of what a name leaves open. */
const OPEN = { address: '192.0.2.1', mac: '02:00:00:00:00:01' };

const eip = noun<Eip>({
  name: 'eip',
  list: 'eip_list',
  schema: eipSchema,
  entriesOf: ({ eips }) => eips,
  parse(argument) {
    const [, eip, vm] = /^([^=]+)=([^=]+)$/.exec(argument) ?? [];
    return eip && vm ? { eip, 'vm-ip': vm } : undefined;
  },
  complete: (eip) => ({ eip, 'vm-ip': OPEN.address }),
  keyOf: ({ eip }) => eip,
  show: ({ eip, vmIp }) => `${eip}=${vmIp}`,
});

const forwardKey = ({ eip, port, endPort, protocol }: Forward): string =>
  `${eip}:${port}${endPort === port ? '' : `-${endPort}`}/${protocol}`;

function parseForward(argument: string): Written | undefined {
  const form = /^(?<eip>[^:=]+):(?<port>\d+)(-(?<end>\d+))?\/(?<protocol>\w+)=(?<vm>[^:=]+)(:(?<vmPort>\d+))?$/;
  const { eip, port, end, protocol, vm, vmPort } = form.exec(argument)?.groups ?? {};
  if (!eip || !port || !protocol || !vm) return undefined;
  const range = end === undefined ? {} : { end_port: Number(end) };
  return { eip, protocol, port: Number(port), ...range, 'vm-port': Number(vmPort ?? port), 'vm-ip': vm };
}

const forward = noun<Forward>({
  name: 'forward',
  list: 'port_forward_list',
  schema: forwardSchema,
  entriesOf: ({ forwards }) => forwards,
  parse: parseForward,
  complete: (name) => parseForward(`${name}=${OPEN.address}`),
  kinOf: ({ eip, protocol }) => `${eip}/${protocol}`,
  keyOf: forwardKey,
  faultOf: faultOfRange,
  show: (entry) => `${forwardKey(entry)}=${entry.vmIp}:${entry.vmPort}`,
});

const nic = noun<Nic>({
  name: 'nic',
  list: 'if_list',
  schema: nicSchema,
  entriesOf: ({ nics }) => nics,
  parse(argument) {
    const [, mac, ipaddr, prefix, rest = ''] = /^([^=]+)=([^/,]+)\/(\d+)((?:,[\w-]+=[^,]+)*)$/.exec(argument) ?? [];
    if (!mac || !ipaddr || !prefix) return undefined;
    const more = rest.split(',').flatMap((pair): [string, Written[string]][] => {
      const [key = '', value = ''] = pair.split('=');
      if (nicSchema.lists.includes(key)) return [[key, value.split('+')]];
      return key ? [[key, /^\d+$/.test(value) && key === 'mtu' ? Number(value) : value]] : [];
    });
    const entry = { ipaddr, prefix: Number(prefix), mac };
    const known = nicSchema.keys.filter((key) => !(key in entry));
    const names = more.map(([key]) => key);
    if (names.some((key, n) => !known.includes(key) || names.indexOf(key) !== n)) return undefined;
    return { ...entry, ...Object.fromEntries(more) };
  },
  complete: (name) =>
    name.includes(':') ? { ipaddr: OPEN.address, prefix: 24, mac: name } : { ipaddr: name, prefix: 24, mac: OPEN.mac },
  keyOf: ({ mac }) => mac,
  aliasOf: ({ ipaddr }) => ipaddr,
  faultOf: faultOfGateway,
  show({ mac, ipaddr, prefix, gateway, mtu, name, bridge, keepAddresses }) {
    const more = {
      gateway,
      mtu,
      name,
      bridge: bridge?.name,
      'bridge-type': bridge?.type,
      'keep-addresses': keepAddresses?.join('+'),
    };
    const written = Object.entries(more).flatMap(([key, value]) => (value === undefined ? [] : [`,${key}=${value}`]));
    return `${mac}=${ipaddr}/${prefix}${written.join('')}`;
  },
});

const route = noun<StaticRoute>({
  name: 'route',
  list: 'route_list',
  schema: routeSchema,
  entriesOf: ({ routes }) => routes,
  parse(argument) {
    const [, dest, via] = /^([^=]+)=([^=]+)$/.exec(argument) ?? [];
    return dest && via ? { dest, via } : undefined;
  },
  complete: (dest) => ({ dest, via: OPEN.address }),
  keyOf: ({ dest }) => dest,
  show: ({ dest, via }) => `${dest}=${via}`,
});

export const NOUNS: Readonly<Record<NounName, Noun>> = { eip, forward, nic, route };
