// What the files that we keep have to look like. Written by us alone, and yet whatever lies there is looked at before it is believed: a
// disk, an editor or a restore may have been at them.

import { type Bounds, parseBounded } from '../base/bounded-json.ts';
import {
  array,
  boolean,
  each,
  either,
  like,
  number,
  object,
  oneOf,
  optional,
  type Shape,
  string,
  whole,
} from '../base/shape.ts';
import { TRIGGERS } from '../base/trigger.ts';
import type { NetworkState } from '../network/state.ts';

/** Made when it is asked: a run with nothing to do needs two of these. */
const later =
  <T>(make: () => Shape<T>): Shape<T> =>
  (value) =>
    make()(value);

/**
 * What becomes part of a path, of a unit's name or of a line that `ip` and iptables read is what this program could have written, and no
 * more: else a record could name any file of the machine.
 */
const run = like(/^[0-9a-f]{8}$/);
const time = like(/^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{1,9})?Z$/);
const hash = like(/^[0-9a-f]{64}$/);
/** As the kernel has it; of one that others made it may have what the schema does not let in. */
const device = like(/^(?!\.{1,2}$)[^\0\t-\r /]{1,15}$/);
const noDevice = oneOf('');
const line = like(/^[^\0\n\r]*$/);
const words = like(/^[^\0\n\r-][^\0\n\r]*$/);
const spec = like(/^[0-9a-f.:]+(\/\d+)?( peer [0-9a-f.:]+(\/\d+)?)?$/i);
const dest = like(/^(default|[0-9.]+(\/\d+)?)$/);
const via = like(/^[0-9.]+$/);
const word = like(/^[^\0\s-]\S*$/);
const macAddress = like(/^[0-9a-f]{2}(:[0-9a-f]{2}){5}$/i);
const metric = whole(0, 2 ** 32 - 1);
const uuid = like(/^[^\s\p{Cc}-]\P{Cc}*$/u);
const sysctlKey = like(/^net(\/(?!\.{1,2}(\/|$))[^\0/\n]+)+$/);
/** A number, or the secret of an address. */
const sysctlValue = like(/^(-?\d{1,10}|[0-9a-f]{1,4}(:[0-9a-f]{1,4}){7})?$/);
const chainName = like(/^KYLIN-VR[^\s"]{0,24}$/);
const hook = like(/^[A-Z]+$/);
const profilePath = like(
  /^\/(etc\/sysconfig\/network-scripts|etc\/NetworkManager\/conf\.d|(etc|run|var\/run)\/NetworkManager\/system-connections)\/(?!\.{1,2}$)[^\0/]+$/,
);

export const issue = object({
  file: optional(string),
  line: optional(number),
  column: optional(number),
  endColumn: optional(number),
  path: optional(string),
  message: string,
});

const bridgeType = oneOf('ovs', 'linux');
const prefix = whole(0, 32);
const port = whole(0, 65535);
const table = oneOf('mangle', 'filter', 'nat');

const nicFields = {
  mac: string,
  ipaddr: string,
  prefix,
  gateway: optional(string),
  name: optional(string),
  mtu: optional(number),
  bridge: optional(object({ name: device, type: bridgeType })),
  keepAddresses: optional(array(string)),
};

const eip = object({ eip: string, vmIp: string });
const forward = object({ eip: string, protocol: oneOf('tcp', 'udp'), port, endPort: port, vmPort: port, vmIp: string });
const sourceTo = either(oneOf('masquerade', 'none'), object({ address: string }));

export const config = later(() =>
  object({
    nics: array(object(nicFields)),
    eips: array(eip),
    forwards: array(forward),
    routes: array(object({ dest: string, via: string })),
    snats: optional(array(object({ source: string, to: sourceTo }))),
    fromUplink: oneOf('drop', 'forward'),
    pciRescan: optional(oneOf(false)),
  }),
);

export const rescanned = array(macAddress);

export const onBridges = array(
  object({ mac: string, device, ipaddr: via, gateway: via, bridge: object({ name: device, type: bridgeType }) }),
);

const nicPlace = { mac: string, index: optional(number), device: optional(device) };
const place = { ...nicPlace, on: optional(device) };
const ownedAddress = object({ ...place, spec });
const ownedRoute = object({ ...place, dest, via, metric: optional(metric) });
const ownedFields = {
  addresses: array(ownedAddress),
  routes: array(ownedRoute),
};
const mtus = array(object({ mac: string, was: whole(0, 2 ** 31) }));
const id = optional(either(number, like(/^[0-9a-f-]{36}$/)));
const bridges = array(object({ name: device, type: bridgeType, id, mac: optional(macAddress) }));
const ports = array(object({ ...nicPlace, bridge: device, type: bridgeType, id }));
const moved = array(line);
const accepts = like(/^-?\d{1,10}$/);
const heard = array(
  object({
    ...nicPlace,
    was: accepts,
    stead: optional(accepts),
    theirs: optional(
      object({ bridge: device, settings: array(object({ name: like(/^[a-z][a-z\d_]{1,40}$/), value: sysctlValue })) }),
    ),
  }),
);

export const owned = later(() =>
  object({
    ...ownedFields,
    mtus: optional(mtus),
    bridges: optional(bridges),
    ports: optional(ports),
    moved: optional(moved),
    heard: optional(heard),
    boot: optional(string),
  }),
);

const foreignFields = {
  kind: oneOf('address', 'route', 'neighbour'),
  family: oneOf(4, 6),
  device: either(device, noDevice),
  words,
  label: optional(like(/^[^\0]*$/)),
  global: optional(boolean),
  target: optional(string),
  protocol: optional(string),
};

const settings = {
  sysctls: array(object({ key: sysctlKey, value: sysctlValue })),
  links: array(object({ device, up: optional(boolean), mtu: optional(whole(0, 2 ** 31)) })),
};

const state = later(() =>
  object({
    ...settings,
    bridges: array(object({ name: device, type: bridgeType, mac: optional(macAddress) })),
    ports: array(object({ device, bridge: device, type: bridgeType })),
    released: array(device),
    addresses: array(object({ device, spec, foreign: optional(boolean), found: optional(object(foreignFields)) })),
    routes: array(object({ dest, via, device, metric, protocol: word, source: optional(via) })),
    chains: array(object({ table, name: chainName, rules: array(line), ordered: boolean, heldBy: optional(string) })),
    jumps: array(object({ table, hook, rule: line, place: oneOf('first', 'last', 'anywhere') })),
    files: array(object({ path: profilePath, content: string, mode: whole(0, 0o7777), device: optional(device) })),
    profiles: array(object({ device, uuid })),
  } satisfies Record<Exclude<keyof NetworkState, 'filter'>, Shape<unknown>>),
);

/** What is foreign, went, and is not back. */
export const lost = array(object({ ...foreignFields, beside: optional(array(string)) }));

const ownedThen = object({ ...ownedFields, mtus, bridges, ports, moved, heard: optional(heard) });

export const checkpoint = later(() =>
  object({
    renderer: oneOf('ifcfg', 'keyfile', 'none'),
    bound: array(object({ ...nicFields, device, waitsFor: optional(string) })),
    state,
    owned: ownedThen,
    made: optional(ownedThen),
    ways: optional(oneOf('today', 'as in 1.0')),
    stayed: optional(array(string)),
    at: optional(number),
    left: optional(object(settings)),
    others: optional(
      object({
        devices: array(device),
        standing: optional(object({ routes: array(line), neighbours: string })),
        gone: optional(lost),
      }),
    ),
  }),
);

export const PHASES = ['applying', 'waiting', 'confirmed', 'returning'] as const;

export const pending = later(() =>
  object({
    run,
    time,
    trigger: oneOf(...TRIGGERS),
    hash,
    phase: oneOf(...PHASES),
    /** As the command line takes them; a number beyond has no date. */
    seconds: whole(0, 2 ** 31),
    boot: string,
    deadline: number,
  }),
);

const network = object({ base: number, prefix });

export const former = later(() => object({ addresses: array(string), networks: array(network) }));

const gate = object({ device: string, ipaddr: string });

export const flowModel = later(() =>
  object({
    uplink: optional(gate),
    others: array(gate),
    eips: array(eip),
    forwards: array(forward),
    inside: array(network),
    sources: array(object({ network, to: either(oneOf('uplink'), sourceTo) })),
    addresses: array(object({ device: string, address: string })),
    ways: array(object({ network, device: optional(string), metric: number })),
    natRules: each(array(string)),
    former,
  }),
);

const stepsAndIssues = { warnings: array(issue), errors: array(issue) };

export const report = later(() =>
  object({
    id: string,
    command: oneOf('start', 'reload', 'confirm', 'rollback', 'edit'),
    trigger: oneOf(...TRIGGERS),
    time: string,
    result: oneOf('unchanged', 'changed', 'rolled-back', 'failed'),
    steps: array(object({ kind: string, text: string })),
    summary: optional(array(string)),
    ...stepsAndIssues,
    durationMs: number,
    exitStatus: oneOf(0, 1, 2, 64, 65, 69, 75, 77),
    pending: optional(object({ secondsLeft: number, deadline: string })),
    advice: optional(string),
  }),
);

export const loggedRun = later(() =>
  object({
    level: optional(string),
    msg: optional(string),
    time: string,
    run: string,
    command: string,
    trigger: string,
    result: string,
    durationMs: number,
    exitStatus: optional(number),
    steps: array(either(string, object({ kind: string, text: string }))),
    stepsLeftOut: optional(number),
    summary: optional(array(string)),
    ...stepsAndIssues,
  }),
);

/** Of text that is no longer than this nothing can be made that matters. */
const SHORT = 2 ** 20;

/** A record of 40,000 EIPs has 300,000 values, in five levels; what others have lost may be as many routes as a file holds. */
const KEPT: Bounds = { depth: 16, values: 1_000_000 };

/** Undefined where it is no JSON, does not fit, or has more in it than any that we write. */
export function fitting<T>(shape: Shape<T>, text: string, bounds: Bounds = KEPT): T | undefined {
  try {
    return shape(text.length <= SHORT ? JSON.parse(text) : parseBounded(text, bounds));
  } catch {
    return undefined;
  }
}
