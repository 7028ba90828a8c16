// Real traffic between the hosts of a lab: who is reached, and what address the other side sees.

import type { ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { resolve } from 'node:path';
import { createInterface } from 'node:readline';
import type { Readable, Writable } from 'node:stream';
import type { HostName, Lab } from './lab.ts';

export type Endpoint = { from: HostName; to: string; port: number };
export type Transport = 'tcp' | 'udp';

/** `by` and `port` are where it arrived; `answeredFrom` is `to`, or else NAT is wrong. */
export type Answer =
  | { reached: true; by: HostName; port: number; seenSource: string; answeredFrom: string }
  | { reached: false; why: string };

/** How a ping ended; `hops` is the number of routers on the answer's way. */
export type Pong = { reached: true; hops: number } | { reached: false };

export type Stream = {
  answer: Answer;
  /** Whether data still goes there and back; where that is not expected it is not waited for long. */
  carries(expected?: boolean): Promise<boolean>;
  close(): Promise<void>;
};

export type FlowCount = {
  sent: number;
  lost: number;
  /** The longest row of lost packets, as time. */
  longestGapMs: number;
};
/** Of datagrams it is known, too, what sources the other side saw, and who answered last. */
export type DatagramCount = FlowCount & { sources: string[]; lastBy?: HostName };
export type Flow<Count> = { stop(): Promise<Count> };

export type Announcements = {
  /** The addresses announced by gratuitous ARP so far, each with the MAC that claimed it. */
  heard(): { address: string; mac: string }[];
  stop(): void;
};

export type Traffic = {
  /** Hosts listen on these ports, on all their addresses, and answer with whom they see. */
  listen(host: HostName, transport: Transport, port: number): Promise<void>;
  probe(endpoint: Endpoint & { transport: Transport; timeoutMs?: number }): Promise<Answer>;
  ping(from: HostName, to: string): Promise<Pong>;
  openStream(endpoint: Endpoint): Promise<Stream>;
  startFlow(endpoint: Endpoint & { perSecond: number }): Promise<Flow<DatagramCount>>;
  startPings(flow: { from: HostName; to: string; perSecond: number }): Promise<Flow<FlowCount>>;
  announcements(host: HostName): Promise<Announcements>;
};

const AGENT = resolve(import.meta.dirname, 'agent.mjs');
/** Under the second after which TCP repeats a SYN: nothing is gained by a little more. */
const TIMEOUT_MS = 900;
/** For what has to come, on a machine that is busy. */
const PATIENCE_MS = 5_000;

export function createTraffic(lab: Lab): Traffic {
  const agents = new Map<HostName, Call>();
  const call = (host: HostName, name: string, given: object): Promise<unknown> => {
    const agent =
      agents.get(host) ??
      startAgent(lab.host(host).spawn([process.execPath, AGENT, host], { stdio: ['pipe', 'pipe', 'inherit'] }));
    agents.set(host, agent);
    return agent(name, given);
  };
  let numbers = 0;

  return {
    async listen(host, transport, port) {
      await call(host, transport === 'tcp' ? 'listenTcp' : 'listenUdp', { port });
    },
    probe: ({ from, transport, ...rest }) =>
      call(from, transport === 'tcp' ? 'probeTcp' : 'probeUdp', {
        timeoutMs: TIMEOUT_MS,
        ...rest,
      }) as Promise<Answer>,
    async ping(from, to) {
      const { stdout } = await lab.host(from).run(['ping', '-n', '-c', '1', '-W', '1', to]);
      const ttl = /bytes from .* ttl=(\d+)/.exec(stdout)?.[1];
      return ttl === undefined ? { reached: false } : { reached: true, hops: 64 - Number(ttl) };
    },
    async openStream({ from, ...rest }) {
      const stream = numbers++;
      const answer = (await call(from, 'openStream', { stream, timeoutMs: PATIENCE_MS, ...rest })) as Answer;
      if (!answer.reached) throw new Error(`a stream from ${from} to ${rest.to}:${rest.port}: ${answer.why}`);
      return {
        answer,
        carries: (expected = true) =>
          call(from, 'askStream', { stream, timeoutMs: expected ? PATIENCE_MS : TIMEOUT_MS }) as Promise<boolean>,
        close: async () => void (await call(from, 'closeStream', { stream })),
      };
    },
    async startFlow({ from, perSecond, ...rest }) {
      const flow = numbers++;
      await call(from, 'startFlow', { flow, perSecond, ...rest });
      return {
        async stop() {
          const { answered, ...rest } = (await call(from, 'stopFlow', { flow })) as AgentCount;
          return { ...rest, ...count(rest.sent, new Set(answered), perSecond) };
        },
      };
    },
    async startPings({ from, to, perSecond }) {
      const child = lab.host(from).spawn(['ping', '-n', '-i', `${1 / perSecond}`, to]);
      const lines = readLines(child);
      const ended = once(child, 'close');
      return {
        async stop() {
          child.kill('SIGINT');
          await ended;
          const answered = lines
            .flatMap((line) => /icmp_seq=(\d+) ttl/.exec(line)?.[1] ?? [])
            .map((n) => Number(n) - 1);
          const sent = Number(/^(\d+) packets transmitted/m.exec(lines.join('\n'))?.[1]);
          // The last one may have been on its way.
          return count(answered.includes(sent - 1) ? sent : sent - 1, new Set(answered), perSecond);
        },
      };
    },
    async announcements(host) {
      // -Z root: as another user it would outlive a lab that is killed. -s: with frames of its usual length it has room for 32 at once.
      const child = lab.host(host).spawn('tcpdump -tlne -Z root --immediate-mode -s 64 -i eth0 arp'.split(' '));
      const lines = readLines(child);
      await once(child.stderr as Readable, 'data');
      return {
        heard: () => lines.flatMap(announcement),
        stop: () => void child.kill(),
      };
    },
  };
}

type Call = (name: string, given: object) => Promise<unknown>;
type AgentCount = { sent: number; answered: number[]; sources: string[]; lastBy?: HostName };

/** One JSON object per line each way; the answers come in any order. */
function startAgent(child: ChildProcess): Call {
  const waiting: ((answer: { value?: unknown; error?: string }) => void)[] = [];
  createInterface({ input: child.stdout as Readable }).on('line', (line) => {
    const answer = JSON.parse(line);
    waiting[answer.id]?.(answer);
  });
  return (name, given) =>
    new Promise((resolve, reject) => {
      const id =
        waiting.push(({ value, error }) => (error === undefined ? resolve(value) : reject(new Error(error)))) - 1;
      (child.stdin as Writable).write(`${JSON.stringify({ id, call: name, with: given })}\n`);
    });
}

/** What is lost of the packets 0 to sent - 1. */
function count(sent: number, answered: ReadonlySet<number>, perSecond: number): FlowCount {
  let lost = 0;
  let row = 0;
  let longest = 0;
  for (let packet = 0; packet < sent; packet++) {
    row = answered.has(packet) ? 0 : row + 1;
    if (row > 0) lost++;
    longest = Math.max(longest, row);
  }
  return { sent, lost, longestGapMs: (longest * 1000) / perSecond };
}

/** The child's lines so far; the array grows. */
function readLines(child: ChildProcess): string[] {
  const lines: string[] = [];
  createInterface({ input: child.stdout as Readable }).on('line', (line) => lines.push(line));
  return lines;
}

/** Gratuitous ARP: a request for the sender's own address, or a reply to everybody. */
function announcement(line: string): { address: string; mac: string }[] {
  const found =
    /^(\S+) > ff:ff:ff:ff:ff:ff, .*: (?:Reply (\S+) is-at|Request who-has (\S+) (?:\(\S+\) )?tell \3,)/.exec(line);
  if (found === null) return [];
  const [, mac = '', replied, asked = ''] = found;
  return [{ address: replied ?? asked, mac }];
}
