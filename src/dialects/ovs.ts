// What `ovs-vsctl` prints → the bridges of Open vSwitch and their ports; steps → its arguments. Pure.

import type { OddPort, OvsBridge } from '../network/bridges.ts';
import type { StepBy } from '../network/kinds.ts';

/** One call, which changes nothing and so does not wait for ovs-vswitchd. */
export const LIST_BRIDGES = [
  ...['--format=json', '--columns=_uuid,name,ports', 'list', 'Bridge'],
  ...['--', '--columns=_uuid,name,interfaces', 'list', 'Port'],
  ...['--', '--columns=_uuid,name,type,ofport,error', 'list', 'Interface'],
  ...['--', '--columns=name,output_port', 'list', 'Mirror'],
] as const;

type Table = { headings: string[]; data: unknown[][] };

/** Reads what LIST_BRIDGES prints: one JSON object a line for each table. Ports: without the one that is the bridge itself. */
export function parseBridges(text: string): OvsBridge[] {
  const [bridges = [], portRows = [], interfaceRows = [], mirrors = []] = text
    .split('\n')
    .filter((line) => line.trim() !== '')
    .map((line) => (JSON.parse(line) as Table).data);
  const interfaces = new Map(interfaceRows.map((row) => [uuidsIn(row[0])[0], asInterface(row)]));
  const mirrorsTo = new Map(mirrors.flatMap(([name, to]) => uuidsIn(to).map((uuid) => [uuid, String(name)])));
  const ports = new Map(
    portRows.map((row) => {
      const [uuid = ''] = uuidsIn(row[0]);
      const mirror = mirrorsTo.get(uuid);
      const of = uuidsIn(row[2] ?? NONE).flatMap((each) => interfaces.get(each) ?? []);
      return [uuid, { name: String(row[1]), of, ...(mirror !== undefined && { mirror }) }];
    }),
  );
  return bridges.map((row) => {
    const [uuid] = uuidsIn(row[0]);
    const name = String(row[1]);
    const all = uuidsIn(row[2]).flatMap((each) => ports.get(each) ?? []);
    const others = all.filter((port) => port.name !== name);
    const odd = others.flatMap(oddIn);
    const refused = all.flatMap((port) => port.of.flatMap((each) => (each.isRefused ? [each] : [])));
    return {
      name,
      ports: others.map((port) => port.name).sort(),
      ...(odd.length > 0 && { odd }),
      ...(refused.length > 0 && { refused: refused.map(({ name, error }) => ({ name, error })) }),
      ...(uuid !== undefined && { uuid }),
    };
  });
}

type Interface = { name: string; type: string; error: string; isRefused: boolean };

/** Of a port whose interfaces are not said. */
const NONE = ['set', []];

/** Without a number Open vSwitch has not got it to work: of a bridge it has none, of another port -1. */
const asInterface = ([, name, type, number, error]: unknown[]): Interface => ({
  name: String(name),
  type: String(type),
  error: typeof error === 'string' ? error : '',
  isRefused: typeof number !== 'number' || number < 0,
});

/** Types of interfaces that are no link of the machine, whatever their name. */
const NO_LINK = /^(patch|internal|bareudp|erspan|geneve|gre|gtpu|ip6erspan|ip6gre|lisp|srv6|stt|vxlan)$/;

/** Interfaces whose port is not just the link of their name. */
function oddIn({ name: port, of, mirror }: { name: string; of: Interface[]; mirror?: string }): OddPort[] {
  return of.flatMap(({ name: device, type }): OddPort[] => {
    if (of.length > 1) return [{ device, port, as: 'bond' }];
    if (device !== port) return [{ device, port, as: 'name' }];
    if (NO_LINK.test(type)) return [{ device, port, as: 'type', of: type }];
    return mirror === undefined ? [] : [{ device, port, as: 'mirror', of: mirror }];
  });
}

/** `["uuid", X]`, or `["set", [["uuid", X], …]]` */
function uuidsIn(value: unknown): string[] {
  const [kind, content] = value as [string, unknown];
  return kind === 'uuid' ? [String(content)] : (content as [string, string][]).map(([, uuid]) => uuid);
}

export type OvsStep = StepBy<'ovs'>;

/** The way back from what of these additions is in its database; not a bridge in which there is more by now. */
export function withoutAdded(added: readonly OvsStep[], bridges: readonly OvsBridge[]): OvsStep[] {
  const ports = added.flatMap((step) => (step.kind === 'add-port' ? [step.port] : []));
  const portsIn = (name: string) => bridges.find((bridge) => bridge.name === name)?.ports;
  const isOurs = (bridge: string) => (device: string) =>
    ports.some((port) => port.bridge === bridge && port.device === device);
  return [
    ...ports.flatMap((port): OvsStep[] =>
      portsIn(port.bridge)?.includes(port.device) ? [{ kind: 'remove-port', port }] : [],
    ),
    ...added.flatMap((step): OvsStep[] =>
      step.kind === 'add-bridge' && portsIn(step.bridge.name)?.every(isOurs(step.bridge.name))
        ? [{ kind: 'remove-bridge', bridge: step.bridge }]
        : [],
    ),
  ];
}

/** The arguments of one transaction. Each may be repeated. */
export function transaction(steps: readonly OvsStep[]): string[] {
  return steps.flatMap((step, index) => [...(index === 0 ? [] : ['--']), ...command(step)]);
}

function command(step: OvsStep): string[] {
  switch (step.kind) {
    case 'add-bridge': {
      const { name, mac } = step.bridge;
      // Else it has the lowest address among its ports, which may change with them.
      const hwaddr = mac === undefined ? [] : ['--', 'set', 'Bridge', name, `other-config:hwaddr="${mac}"`];
      return ['--may-exist', 'add-br', name, ...hwaddr];
    }
    case 'remove-bridge':
      return ['--if-exists', 'del-br', step.bridge.name];
    case 'add-port':
      return ['--may-exist', 'add-port', step.port.bridge, step.port.device];
    case 'remove-port':
      return ['--if-exists', 'del-port', step.port.bridge, step.port.device];
  }
}
