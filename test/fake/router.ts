// A router on the machine in memory: runs on it, and its network as text that a network engineer can read.

import assert from 'node:assert/strict';
import { run } from '../../src/run/reconcile.ts';
import type { Report } from '../../src/run/report.ts';
import type { ReloadRequest } from '../../src/run/request.ts';
import { type Asked, requestOf } from './asked.ts';
import { Machine, NICS } from './machine.ts';
import { ROUTER, yaml } from './scenes.ts';

/** A run from its first question to its report. No question may be one that the machine does not know. */
export async function runOn(machine: Machine, request: Asked = {}): Promise<Report> {
  const report = await run(machine.host(), requestOf(request));
  assert.deepEqual(machine.notKnown, []);
  return report;
}

export const within = (seconds: number): Pick<ReloadRequest, 'confirmWithin'> => ({
  confirmWithin: { seconds, takeBack: (run) => ['/usr/bin/kylin-vr', 'rollback', '--unconfirmed', run] },
});

/** A machine with this configuration, which no run has seen yet. */
export function machineWith(config = yaml(ROUTER)): Machine {
  const machine = new Machine();
  machine.configure(config);
  return machine;
}

export const routerWith = (config?: string): Promise<Machine> => routerOf(machineWith(config));

/** Whose NICs NetworkManager has. */
export function managedWith(config = yaml(ROUTER)): Machine {
  const machine = new Machine(NICS, 'nft', true);
  machine.configure(config);
  return machine;
}

/** The machine once it has been made a router. */
export async function routerOf(machine: Machine): Promise<Machine> {
  assert.equal((await runOn(machine)).exitStatus, 0);
  return machine;
}

/** Links, addresses, routes, settings, rules without counters, and profiles. */
export function networkOf({ network, netfilter, files }: Machine): string {
  const paths = ['/etc/sysconfig', '/etc/NetworkManager'].flatMap((folder) => files.below(folder));
  return [
    ...network.links.map(({ device, up, mtu }) => `link ${device} ${up ? 'up' : 'down'} mtu ${mtu}`),
    ...network.addresses.map(({ device, local, prefix }) => `address ${local}/${prefix} on ${device}`),
    network.ask(['route', 'show', 'table', 'all'], { family: '4', oneline: true }),
    // Those of conntrack come with it.
    ...[...network.settings].flatMap(([key, value]) =>
      key.startsWith('net/netfilter/') && value === '0' ? [] : [`${key} = ${value}`],
    ),
    ...[...netfilter.tables].flatMap(([table, chains]) =>
      [...chains.values()].flatMap(({ name, policy, rules }) => [
        ...(policy === undefined ? [`${table} chain ${name}`] : []),
        ...rules.map(({ text }) => `${table} -A ${name} ${text}`),
      ]),
    ),
    ...paths.flatMap(
      (path) =>
        files
          .text(path)
          ?.split('\n')
          .map((line) => `${path}: ${line}`) ?? [],
    ),
  ].join('\n');
}

/** Lines that one of the two has, and the other has not. */
export function differences(one: Machine, other: Machine): string[] {
  const [lines, others] = [networkOf(one).split('\n'), networkOf(other).split('\n')];
  return [
    ...lines.filter((line) => !others.includes(line)).map((line) => `+ ${line}`),
    ...others.filter((line) => !lines.includes(line)).map((line) => `- ${line}`),
  ];
}

export const addressesOf = ({ network }: Machine, device: string): string[] =>
  network.addresses.filter((address) => address.device === device).map(({ local, prefix }) => `${local}/${prefix}`);

export const messagesOf = ({ errors, warnings }: Report): string[] =>
  [...errors, ...warnings].map(({ message }) => message);
