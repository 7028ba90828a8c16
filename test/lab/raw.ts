// Raw flows between the hosts of a lab: packets of any protocol, made by the test and not by a kernel that would repeat,
// reset or refuse them; and counts of who answers a client that goes on sending, whatever happens in between.

import type { ChildProcess } from 'node:child_process';
import { resolve } from 'node:path';
import { createInterface } from 'node:readline';
import type { Readable, Writable } from 'node:stream';
import { setTimeout as sleep } from 'node:timers/promises';
import { decode, encode, NUMBERS, type Packet, type Protocol, packet } from './ipv4.ts';
import { ADDRESSES, type HostName, type Lab } from './lab.ts';

export type Arrival = Packet & {
  /** Milliseconds since 1970. */
  at: number;
};

export type Arrivals = {
  /** What came so far, in its order. */
  seen(): Arrival[];
  /** The first one that is wanted, of those that came or will come; undefined when none does in time. */
  first(wanted: (arrival: Arrival) => boolean, withinMs?: number): Promise<Arrival | undefined>;
  stop(): void;
};

/** Ports count for UDP, TCP and SCTP, of ICMP echoes `sourcePort` is the identifier. */
export type RawFlowOptions = { protocol: Protocol; to: string; port?: number; sourcePort?: number; perSecond: number };

/** One after the other answered: who, and as whom it saw the sender. Times are milliseconds since the flow began. */
export type Turn = { by: string; seenSource: string; since: number; last: number; received: number };

export type RawCount = {
  sent: number;
  received: number;
  turns: Turn[];
  /** Answers that came from another address than the one asked; one may be under way while a mapping goes. */
  strayed: number;
};

export type RawFlow = {
  /** What it is until now; answers may be under way. */
  count(): RawCount;
  /** Waits until somebody answers to whom the question applies: `turn => turn.by === 'w'`. */
  answered(wanted?: (turn: Turn) => boolean, withinMs?: number): Promise<boolean>;
  /** The last answers take their time on a busy machine: so long where all of them are to come. */
  stop(withinMs?: number): Promise<RawCount>;
};

export type Raw = {
  /** One packet; `source` is the host's own address when absent. */
  send(from: HostName, given: Partial<Packet> & Pick<Packet, 'protocol' | 'destination'>): Promise<void>;
  /** All packets of these protocols that come to the host's own address. */
  arrivals(host: HostName, ...protocols: Protocol[]): Promise<Arrivals>;
  /** The host answers each packet of the protocol (to the port, where there is one) with who it is and whom it sees. */
  answer(host: HostName, protocol: Protocol, port?: number): Promise<void>;
  /** The host's kernel keeps out of it: what comes to the port, or of the protocol, it neither answers nor resets. */
  silence(host: HostName, protocol: Protocol, port?: number): Promise<void>;
  /** Sends for ever, from one port, one packet like the other: a client that never learns. TCP's are SYNs. */
  start(from: HostName, options: RawFlowOptions): Promise<RawFlow>;
};

const SCRIPT = resolve(import.meta.dirname, 'raw.pl');
const PATIENCE_MS = 5_000;
const HAVE_PORTS: readonly Protocol[] = ['tcp', 'udp', 'sctp'];
const TICK_MS = 5;

export function createRaw(lab: Lab): Raw {
  const agents = new Map<HostName, Agent>();
  const agentOf = (host: HostName): Agent => {
    const agent =
      agents.get(host) ?? startAgent(lab.host(host).spawn(['perl', SCRIPT], { stdio: ['pipe', 'pipe', 'inherit'] }));
    agents.set(host, agent);
    return agent;
  };
  const send: Raw['send'] = (from, given) =>
    agentOf(from).call('send', encode(packet({ source: ADDRESSES[from], ...given })).toString('hex'));
  const listenTo = async (host: HostName, protocols: readonly Protocol[], heard: (arrival: Arrival) => void) => {
    const agent = agentOf(host);
    for (const protocol of protocols) await agent.call('watch', `${NUMBERS[protocol]}`);
    return agent.listen((arrival) => {
      if (arrival.destination === ADDRESSES[host] && protocols.includes(arrival.protocol)) heard(arrival);
    });
  };
  const silence: Raw['silence'] = async (host, protocol, port) => {
    // The kernel answers echoes, and says nothing else of its own.
    if (protocol === 'icmp') return;
    // Beside iptables, which is the router's and the test's.
    const what = port === undefined ? `meta l4proto ${NUMBERS[protocol]}` : `${protocol} dport ${port}`;
    const input = `add table ip lab
      add chain ip lab input { type filter hook input priority -400; }
      add rule ip lab input ${what} drop\n`;
    await lab.host(host).run(['nft', '-f', '-'], { input, check: true });
  };
  let ports = 40_000;

  return {
    send,
    silence,
    async arrivals(host, ...protocols) {
      const came: Arrival[] = [];
      const stop = await listenTo(host, protocols, (arrival) => void came.push(arrival));
      return {
        seen: () => [...came],
        async first(wanted, withinMs = PATIENCE_MS) {
          await until(() => came.some(wanted), withinMs);
          return came.find(wanted);
        },
        stop,
      };
    },
    async answer(host, protocol, port) {
      await silence(host, protocol, port);
      await listenTo(host, [protocol], (arrival) => {
        if (port !== undefined && arrival.destinationPort !== port) return;
        const answer = answerTo(arrival, host);
        // Where nobody can be reached any more, that is what the other side sees.
        if (answer !== undefined) send(host, answer).catch(() => {});
      });
    },
    async start(from, { protocol, to, port = 7, sourcePort = ports++, perSecond }) {
      await silence(from, protocol, HAVE_PORTS.includes(protocol) ? sourcePort : undefined);
      return startFlow({ protocol, to, port, sourcePort, perSecond });

      async function startFlow(flow: Required<RawFlowOptions>): Promise<RawFlow> {
        const count: RawCount = { sent: 0, received: 0, turns: [], strayed: 0 };
        const began = Date.now();
        const stop = await listenTo(from, [protocol], (arrival) => receive(count, flow, arrival, arrival.at - began));
        const ticking = setInterval(() => {
          const due = Math.floor(((Date.now() - began) / 1000) * perSecond);
          for (; count.sent < due; count.sent++) send(from, question(flow, count.sent)).catch(() => {});
        }, TICK_MS);
        // A test that fails does not stop it.
        ticking.unref();
        const now = (): RawCount => structuredClone(count);
        return {
          count: now,
          answered: (wanted = () => true, withinMs = PATIENCE_MS) =>
            until(() => {
              const turn = count.turns.at(-1);
              return turn !== undefined && wanted(turn);
            }, withinMs),
          async stop(withinMs = TICK_MS * 40) {
            clearInterval(ticking);
            await until(() => count.received >= count.sent, withinMs);
            stop();
            return now();
          },
        };
      }
    },
  };
}

type Agent = {
  call(word: 'send' | 'watch', what: string): Promise<void>;
  /** Gives what ends it. */
  listen(heard: (arrival: Arrival) => void): () => void;
};

function startAgent(child: ChildProcess): Agent {
  const waiting = new Map<number, (why?: string) => void>();
  const listeners = new Set<(arrival: Arrival) => void>();
  let numbers = 0;
  createInterface({ input: child.stdout as Readable }).on('line', (line) => {
    const [word, first = '', ...rest] = line.split(' ');
    if (word === 'came') {
      const arrival = { ...decode(Buffer.from(rest.join(''), 'hex')), at: Number(first) * 1000 };
      for (const heard of listeners) heard(arrival);
    } else {
      waiting.get(Number(first))?.(word === 'failed' ? rest.join(' ') : undefined);
      waiting.delete(Number(first));
    }
  });
  const stdin = (child.stdin as Writable).on('error', () => {});
  child.once('exit', () => {
    for (const done of waiting.values()) done('the lab has gone');
  });
  return {
    call: (word, what) =>
      new Promise((resolve, reject) => {
        if (child.exitCode !== null || child.signalCode !== null) return reject(new Error('the lab has gone'));
        const number = numbers++;
        waiting.set(number, (why) => (why === undefined ? resolve() : reject(new Error(`${word}: ${why}`))));
        stdin.write(`${word} ${number} ${what}\n`);
      }),
    listen(heard) {
      listeners.add(heard);
      return () => void listeners.delete(heard);
    },
  };
}

/** The tag is the flow's own for ever: to conntrack each INIT is the first one, sent again. */
function question(flow: Required<RawFlowOptions>, number: number): Parameters<Raw['send']>[1] {
  const { protocol, to: destination, port: destinationPort, sourcePort } = flow;
  const common = { protocol, destination, sourcePort, destinationPort, text: `${number}` };
  switch (protocol) {
    case 'icmp':
      return { ...common, flags: '8/0', seq: number };
    case 'tcp':
      // As a kernel repeats it: without data, from one sequence number.
      return { ...common, flags: 'S', seq: 1000, text: '' };
    case 'sctp':
      return { ...common, flags: 'INIT', tag: sourcePort, seq: 1 };
    default:
      return common;
  }
}

function answerTo(asked: Arrival, by: HostName): Parameters<Raw['send']>[1] | undefined {
  const { protocol, source, destination, sourcePort, destinationPort } = asked;
  const text = JSON.stringify({ by, port: destinationPort, seenSource: source, text: asked.text });
  const back = {
    protocol,
    source: destination,
    destination: source,
    sourcePort: destinationPort,
    destinationPort: sourcePort,
    text,
  };
  switch (protocol) {
    // Echoes are the kernel's to answer.
    case 'icmp':
      return undefined;
    case 'tcp':
      return asked.flags === 'S' ? { ...back, flags: 'SA', seq: 2000, ack: asked.seq + 1 } : undefined;
    case 'sctp':
      return asked.flags === 'INIT' ? { ...back, flags: 'INIT ACK', tag: 2, peerTag: asked.tag, seq: 1 } : undefined;
    default:
      return back;
  }
}

function receive(count: RawCount, flow: Required<RawFlowOptions>, arrival: Arrival, ms: number): void {
  const { protocol, to, port, sourcePort } = flow;
  if (HAVE_PORTS.includes(protocol) && (arrival.sourcePort !== port || arrival.destinationPort !== sourcePort)) return;
  if (protocol === 'icmp' && (arrival.flags !== '0/0' || arrival.destinationPort !== sourcePort)) return;
  const { by, seenSource } = speakerOf(arrival.text);
  if (by === undefined) return;
  if (arrival.source !== to) {
    count.strayed++;
    return;
  }
  count.received++;
  const turn = count.turns.at(-1);
  if (turn?.by === by && turn.seenSource === seenSource) {
    turn.last = ms;
    turn.received++;
  } else count.turns.push({ by, seenSource, since: ms, last: ms, received: 1 });
}

/** Of an answer of ours; an echo's and a kernel's SYN-ACK say nothing. A question that comes as it was is none. */
function speakerOf(text: string): { by?: string; seenSource: string } {
  if (text === '' || /^\d+$/.test(text)) return { by: '', seenSource: '' };
  try {
    const { by, seenSource } = JSON.parse(text);
    return { by, seenSource };
  } catch {
    return { seenSource: '' };
  }
}

async function until(isSo: () => boolean, withinMs: number): Promise<boolean> {
  for (let waited = 0; waited < withinMs && !isSo(); waited += TICK_MS) await sleep(TICK_MS);
  return isSo();
}
