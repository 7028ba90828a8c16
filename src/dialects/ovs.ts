// What `ovs-vsctl` prints → the bridges of Open vSwitch and their ports; steps → its arguments. Pure.

import type { OvsBridge } from '../network/bridges.ts';
import type { Step } from '../network/step.ts';

/** One call, which changes nothing and so does not wait for ovs-vswitchd. */
export const LIST_BRIDGES = [
  ...['--format=json', '--columns=_uuid,name,ports', 'list', 'Bridge'],
  ...['--', '--columns=_uuid,name', 'list', 'Port'],
] as const;

type Table = { headings: string[]; data: unknown[][] };

/** Reads what LIST_BRIDGES prints: one JSON object a line for each table. Ports: without the one that is the bridge itself. */
export function parseBridges(text: string): OvsBridge[] {
  const [bridges, ports] = text
    .split('\n')
    .filter((line) => line.trim() !== '')
    .map((line) => JSON.parse(line) as Table);
  const names = new Map((ports?.data ?? []).map((row) => [uuidsIn(row[0])[0], String(row[1])]));
  return (bridges?.data ?? []).map((row) => {
    const [uuid] = uuidsIn(row[0]);
    const name = String(row[1]);
    const of = uuidsIn(row[2]).flatMap((uuid) => names.get(uuid) ?? []);
    return { name, ports: of.filter((port) => port !== name).sort(), ...(uuid !== undefined && { uuid }) };
  });
}

/** `["uuid", X]`, or `["set", [["uuid", X], …]]` */
function uuidsIn(value: unknown): string[] {
  const [kind, content] = value as [string, unknown];
  return kind === 'uuid' ? [String(content)] : (content as [string, string][]).map(([, uuid]) => uuid);
}

export type OvsStep = Extract<Step, { kind: 'add-bridge' | 'remove-bridge' | 'add-port' | 'remove-port' }>;

/** The step where it is one of Open vSwitch's; the same kinds on Linux bridges are `ip`'s. */
export function asOvsStep(step: Step): OvsStep | undefined {
  switch (step.kind) {
    case 'add-bridge':
    case 'remove-bridge':
      return step.bridge.type === 'ovs' ? step : undefined;
    case 'add-port':
    case 'remove-port':
      return step.port.type === 'ovs' ? step : undefined;
    default:
      return undefined;
  }
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
