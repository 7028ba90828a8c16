// What the tests of flows share: a reload and what it says of itself, the kernel's table, and who is where.

import assert from 'node:assert/strict';
import { parseFlows } from '../../src/dialects/conntrack.ts';
import type { Flow } from '../../src/network/flow.ts';
import { ADDRESSES, GATEWAYS, type Lab, NICS } from '../lab/lab.ts';

export type Report = {
  result: string;
  steps: { kind: string; text: string }[];
  warnings: string[];
  errors: string[];
};

export const nics = `if_list:
  - { ipaddr: ${ADDRESSES.router}, prefix: 24, mac: '${NICS.public.mac}', gateway: ${ADDRESSES.out} }
  - { ipaddr: ${GATEWAYS.a}, prefix: 24, mac: '${NICS.a.mac}' }
  - { ipaddr: ${GATEWAYS.b}, prefix: 24, mac: '${NICS.b.mac}' }
`;

export type Mapping = {
  eips?: Record<string, string>;
  /** `'203.0.113.60 udp 7000': '10.10.1.11 7000'`, a range as `7000-7999`. */
  forwards?: Record<string, string>;
  /** What comes after. */
  rest?: string;
};

export function configOf({ eips = {}, forwards = {}, rest = '' }: Mapping, base = nics): string {
  const elastic = Object.entries(eips).map(([eip, vm]) => `  - { eip: ${eip}, vm-ip: ${vm} }\n`);
  const ports = Object.entries(forwards).map(([from, to]) => {
    const [eip, protocol, range = ''] = from.split(' ');
    const [vm, vmPort] = to.split(' ');
    const [port, end = port] = range.split('-');
    return `  - { eip: ${eip}, protocal: ${protocol}, port: ${port}, end_port: ${end}, vm-port: ${vmPort}, vm-ip: ${vm} }\n`;
  });
  const list = (name: string, entries: string[]) => (entries.length === 0 ? '' : `${name}:\n${entries.join('')}`);
  return base + list('eip_list', elastic) + list('port_forward_list', ports) + rest;
}

/** Without a configuration: the one that is there. */
export async function reload(lab: Lab, config?: string, ...args: string[]): Promise<Report> {
  const { status, report, said } = await tryReload(lab, config, ...args);
  assert.equal(status, 0, said);
  return report;
}

export async function tryReload(lab: Lab, config?: string, ...args: string[]) {
  if (config !== undefined) await lab.configure(config);
  const { status, stdout, stderr } = await lab.kylin('reload', '--json', ...args);
  assert.ok(stdout.startsWith('{'), stdout + stderr);
  const { result, steps, warnings, errors } = JSON.parse(stdout);
  const messages = (list: { message: string }[]) => list.map(({ message }) => message);
  const report: Report = { result, steps, warnings: messages(warnings), errors: messages(errors) };
  return { status, report, said: stdout + stderr };
}

/** What it cut, in its words. */
export const cutsOf = ({ steps }: Report): string[] =>
  steps.filter(({ kind }) => kind === 'cut-flows').map(({ text }) => text);

/** The router's table, those entries that the filter of `conntrack -L` lets through. */
export async function entries(lab: Lab, ...filter: string[]): Promise<Flow[]> {
  const { stdout } = await lab.router.run(['conntrack', '-L', '-o', 'id', ...filter], { check: true });
  return parseFlows(stdout);
}

/** An entry as a test tells it from others: where the sender's packets go, and as whom. */
export const shown = ({
  protocol,
  protocolNumber,
  source,
  destination,
  destinationPort,
  replySource,
  replyDestination,
  replySourcePort,
}: Flow): string =>
  `${protocol === 'unknown' ? protocolNumber : protocol} ${source} → ${end(destination, destinationPort)}` +
  `, to ${end(replySource, replySourcePort)} as ${replyDestination}`;

const end = (address: string, port: number | undefined) => (port === undefined ? address : `${address}:${port}`);

/** The file is what all of it says: an explicit run that looks at every flow finds nothing to do, and nothing to say. */
export async function allIsRight(lab: Lab): Promise<void> {
  const { result, steps, warnings } = await reload(lab);
  assert.deepEqual({ result, steps, warnings }, { result: 'unchanged', steps: [], warnings: [] });
}
