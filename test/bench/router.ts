// The router under test, with a stopwatch in it, and the configurations that it is given.

import { once } from 'node:events';
import { resolve } from 'node:path';
import { createInterface } from 'node:readline';
import type { Readable, Writable } from 'node:stream';
import { ADDRESSES, createLab, type Lab, type LabHost, type LabOptions, NICS, type Router } from '../lab/lab.ts';

export const NODE = process.execPath;
export const BARE_NODE = [NODE, '-e', '0'];
/** As the packages have it. */
export const PROGRAM = resolve(import.meta.dirname, '../../dist/packaged/kylin-vr.js');
export const kylinVr = (...args: string[]): string[] => [NODE, PROGRAM, ...args];

export type Timed = { ms: number; status: number; stdout: string; stderr: string };
export type Stopwatch = (
  argv: readonly string[],
  options?: { input?: string; env?: Record<string, string> },
) => Promise<Timed>;

export type Bench = { lab: Lab; router: Router; time: Stopwatch; close: () => Promise<void> };

/** A witness would take its part of what is measured. */
export const UNWATCHED: LabOptions = { uplinks: [] };

export async function createBench(options: LabOptions | (() => Promise<Lab>) = {}): Promise<Bench> {
  const lab = typeof options === 'function' ? await options() : await createLab({ ...UNWATCHED, ...options });
  return { lab, router: lab.router, time: stopwatch(lab.router), close: () => lab.close() };
}

/** The command must end with 0. */
export function stopwatch(host: LabHost): Stopwatch {
  const child = host.spawn([NODE, resolve(import.meta.dirname, 'stopwatch.mjs')]);
  child.stderr?.on('data', (text) => process.stderr.write(text));
  const lines = createInterface({ input: child.stdout as Readable });
  return async (argv, options = {}) => {
    const answer = once(lines, 'line');
    (child.stdin as Writable).write(`${JSON.stringify({ argv, ...options })}\n`);
    const timed = JSON.parse((await answer)[0]) as Timed;
    if (timed.status !== 0)
      throw new Error(`${argv.join(' ')}: status ${timed.status}: ${timed.stderr || timed.stdout}`);
    return timed;
  };
}

export type Pair = { eip: string; vmIp: string };

/** The last one is v's, which is there; the others are for VMs behind it. */
export function pairsOf(count: number): Pair[] {
  const at = (n: number) => `${n >> 8}.${n & 255}`;
  return Array.from({ length: count }, (_, n) => ({
    eip: `198.18.${at(n)}`,
    vmIp: n === count - 1 ? ADDRESSES.v : `172.24.${at(n)}`,
  }));
}

export const LAST_OF = (count: number): string => pairsOf(count).at(-1)?.eip ?? '';

/** In the place of one more: the address that neither list has. */
export const ONE_MORE: Pair = { eip: '198.19.255.1', vmIp: '172.31.255.1' };

export const configOf = (pairs: readonly Pair[]): string => `if_list:
  - ipaddr: ${ADDRESSES.router}
    prefix: 24
    mac: ${NICS.public.mac}
    gateway: ${ADDRESSES.out}
  - ipaddr: 10.10.1.254
    prefix: 24
    mac: ${NICS.a.mac}
route_list:
  - dest: 172.16.0.0/12
    via: ${ADDRESSES.v}
eip_list:${pairs.length === 0 ? ' []' : ''}
${pairs.map(({ eip, vmIp }) => `  - eip: ${eip}\n    vm-ip: ${vmIp}\n`).join('')}`;

/** Nothing of kylin-vr's network, nor of its memory, is left; its code cache is. */
export async function emptyRouter({ router }: Bench): Promise<void> {
  const flush = ['mangle', 'nat', 'filter']
    .map((table) => `iptables -t ${table} -F; iptables -t ${table} -X`)
    .join('\n');
  const script = `
    rm -rf /var/lib/kylin-vr /run/kylin-vr
    for device in ${NICS.public.device} ${NICS.a.device}; do ip address flush dev $device scope global; ip link set $device down; done
    ${flush}`;
  await router.run(['sh', '-ec', script], { check: true });
}
