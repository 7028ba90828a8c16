// What the tests of the guard share: a router with each engine, and traffic in it.

import assert from 'node:assert/strict';
import { once } from 'node:events';
import type { Readable } from 'node:stream';
import { after, afterEach, before, describe } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import {
  ADDRESSES,
  createLab,
  GATEWAYS,
  type HostName,
  type Lab,
  type LabOptions,
  NICS,
  type Nic,
} from '../lab/lab.ts';
import { createRaw, type Raw, type RawFlow } from '../lab/raw.ts';
import { type Answer, createTraffic, type Traffic, type Transport } from '../lab/traffic.ts';

const nic = (ipaddr: string, { mac }: Nic, more = '') =>
  `  - { ipaddr: ${ipaddr}, prefix: 24, mac: '${mac}'${more} }\n`;
export const withGateway = (ipaddr: string, of: Nic, gateway: string) => nic(ipaddr, of, `, gateway: ${gateway}`);

export const UPLINK = withGateway(ADDRESSES.router, NICS.public, ADDRESSES.out);
export const SUBNETS = nic(GATEWAYS.a, NICS.a) + nic(GATEWAYS.b, NICS.b);
export const BASE = `if_list:\n${UPLINK}${SUBNETS}`;

export type Guarded = {
  lab: Lab;
  raw: Raw;
  traffic: Traffic;
  /** Ends the flows that were begun. */
  quiet(): Promise<void>;
};

/** `it`s in `body`, on a router of each engine; what it is given is there when they run. */
export function onEachEngine(name: string, options: LabOptions, body: (on: Guarded) => void): void {
  for (const iptables of ['nft', 'legacy'] as const)
    describe(`${name}: iptables-${iptables}`, { concurrency: false }, () => {
      const on = {} as Guarded;
      before(async () => {
        const lab = await createLab({ ...options, iptables });
        Object.assign(on, guarded(lab));
      });
      afterEach(() => on.quiet?.());
      after(() => on.lab?.close());
      body(on);
    });
}

export function guarded(lab: Lab): Guarded {
  const raw = createRaw(lab);
  let flows: RawFlow[] = [];
  return {
    lab,
    traffic: createTraffic(lab),
    raw: {
      ...raw,
      async start(from, options) {
        const flow = await raw.start(from, options);
        flows.push(flow);
        return flow;
      },
    },
    async quiet() {
      const begun = flows;
      flows = [];
      await Promise.all(begun.map((flow) => flow.stop()));
    },
  };
}

export async function reload({ lab }: Pick<Guarded, 'lab'>, config: string, ...options: string[]): Promise<void> {
  await lab.configure(config);
  await run({ lab }, 'reload', ...options);
}

export async function run({ lab }: Pick<Guarded, 'lab'>, ...args: string[]): Promise<void> {
  const { status, stdout, stderr } = await lab.kylin(...args);
  assert.equal(status, 0, stdout + stderr);
}

export async function sh({ lab }: Pick<Guarded, 'lab'>, host: HostName, script: string): Promise<string> {
  return (await lab.host(host).run(['sh', '-ec', script], { check: true })).stdout;
}

/** Who was reached, and whom he saw: `v:80 sees 192.0.2.10`. */
export async function asked({ traffic }: Guarded, from: HostName, to: string, port = 80, transport: Transport = 'tcp') {
  return inWords(to, await traffic.probe({ from, to, port, transport }));
}

function inWords(to: string, answer: Answer): string {
  if (!answer.reached) return 'no answer';
  const { by, port, seenSource, answeredFrom } = answer;
  return answeredFrom === to ? `${by}:${port} sees ${seenSource}` : `${by}:${port} answers as ${answeredFrom}`;
}

export type Capture = { lines(): Promise<string[]> };

/** What tcpdump sees of it on a device of a host, from now on until it is asked. */
export async function capture({ lab }: Guarded, host: HostName, device: string, filter: string): Promise<Capture> {
  const argv = ['tcpdump', '-tnl', '-Z', 'root', '--immediate-mode', '-i', device, filter];
  const child = lab.host(host).spawn(argv);
  let text = '';
  child.stdout?.on('data', (data) => {
    text += data;
  });
  const ended = once(child, 'close');
  await once(child.stderr as Readable, 'data');
  return {
    async lines() {
      // What is under way arrives.
      await sleep(200);
      child.kill('SIGINT');
      await ended;
      return text.split('\n').filter((line) => line !== '');
    },
  };
}
