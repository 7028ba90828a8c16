// What the files that we keep have to look like. Written by us alone, and yet whatever lies there is looked at before it is believed: a
// disk, an editor or a restore may have been at them.

import { array, boolean, each, either, number, object, oneOf, optional, type Shape, string, whole } from '../shape.ts';

/** Made when it is asked: a run with nothing to do needs two of these, and to make them all takes it 0.5 ms. */
const later =
  <T>(make: () => Shape<T>): Shape<T> =>
  (value) =>
    make()(value);

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
  bridge: optional(object({ name: string, type: bridgeType })),
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
  }),
);

const place = { mac: string, on: optional(string), index: optional(number), device: optional(string) };
const ownedAddress = object({ ...place, spec: string });
const ownedRoute = object({ ...place, dest: string, via: string, metric: optional(number) });

export const owned = later(() =>
  object({
    addresses: array(ownedAddress),
    routes: array(ownedRoute),
    mtus: optional(array(object({ mac: string, was: whole(0, 2 ** 31) }))),
    bridges: optional(array(object({ name: string, type: bridgeType }))),
    ports: optional(array(object({ mac: string, bridge: string, type: bridgeType }))),
    moved: optional(array(string)),
    boot: optional(string),
  }),
);

const foreignFields = {
  kind: oneOf('address', 'route', 'neighbour'),
  family: oneOf(4, 6),
  device: string,
  words: string,
  label: optional(string),
  global: optional(boolean),
  target: optional(string),
  protocol: optional(string),
};

const settings = {
  sysctls: array(object({ key: string, value: string })),
  links: array(object({ device: string, up: optional(boolean), mtu: optional(number) })),
};

const state = later(() =>
  object({
    ...settings,
    bridges: array(object({ name: string, type: bridgeType, mac: optional(string) })),
    ports: array(object({ device: string, bridge: string, type: bridgeType })),
    released: array(string),
    addresses: array(
      object({ device: string, spec: string, foreign: optional(boolean), found: optional(object(foreignFields)) }),
    ),
    routes: array(
      object({ dest: string, via: string, device: string, metric: number, protocol: string, source: optional(string) }),
    ),
    chains: array(object({ table, name: string, rules: array(string), ordered: boolean, heldBy: optional(string) })),
    jumps: array(object({ table, hook: string, rule: string, place: oneOf('first', 'last', 'anywhere') })),
    files: array(object({ path: string, content: string, mode: whole(0, 0o7777), device: optional(string) })),
    profiles: array(object({ device: string, uuid: string })),
  }),
);

/** What is foreign, went, and is not back. */
export const lost = array(object({ ...foreignFields, beside: optional(array(string)) }));

export const checkpoint = later(() =>
  object({
    renderer: oneOf('ifcfg', 'keyfile', 'none'),
    bound: array(object({ ...nicFields, device: string, waitsFor: optional(string) })),
    state,
    owned: object({
      addresses: array(ownedAddress),
      routes: array(ownedRoute),
      mtus: array(object({ mac: string, was: whole(0, 2 ** 31) })),
      bridges: array(object({ name: string, type: bridgeType })),
      ports: array(object({ mac: string, bridge: string, type: bridgeType })),
      moved: array(string),
    }),
    ways: optional(oneOf('today', 'as in 1.0')),
    stayed: optional(array(string)),
    at: optional(number),
    left: optional(object(settings)),
    others: optional(
      object({
        devices: array(string),
        standing: optional(object({ routes: array(string), neighbours: string })),
        gone: optional(lost),
      }),
    ),
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
    trigger: oneOf('boot', 'udev', 'timer', 'operator', 'agent'),
    time: string,
    result: oneOf('unchanged', 'changed', 'rolled-back', 'failed'),
    steps: array(object({ kind: string, text: string })),
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
    ...stepsAndIssues,
  }),
);

/** Undefined where it is no JSON, or does not fit. */
export function fitting<T>(shape: Shape<T>, text: string): T | undefined {
  try {
    return shape(JSON.parse(text));
  } catch {
    return undefined;
  }
}
