// A witness on the wire between the router and the outside, as long as the lab lives: what leaves an uplink that never
// should. It looks from outside, at the other end of the router's wires: what happens in the router cannot be hidden from it.
//
// What it holds against a test is only what kylin-vr promises. The promise begins when a `start` or `reload` first ends
// with 0 (before, the router is whatever the test made of it), and it ends when the file says `if_list: []` or somebody
// asks for `--flush`: then the router is taken down, and from the beginning of that run nobody translates. It begins again
// with the next run that ends with 0 and leaves a router.

import assert from 'node:assert/strict';
import type { ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { readdirSync, readFileSync } from 'node:fs';
import { resolve } from 'node:path';
import { createInterface } from 'node:readline';
import type { Readable, Writable } from 'node:stream';
import { setTimeout as sleep } from 'node:timers/promises';
import { readRegular } from '../../src/machine/regular-file.ts';
import type { Namespace } from './namespace.ts';

/** `unseen`: the witness was too slow for the wire, and cannot say. */
export type LeakKind = 'private source' | 'private destination' | 'bounced' | 'unseen';

export type Leak = {
  kind: LeakKind;
  /** Milliseconds since 1970, when it was on the wire. */
  at: number;
  /** Empty where nothing was seen. */
  packet: Partial<Packet>;
  /** All of it, for people. */
  words: string;
};

export type Packet = {
  /** The port of the router that it left by, as the lab names it. */
  port: string;
  mac: string;
  protocol: string;
  source: string;
  destination: string;
  sourcePort: number;
  destinationPort: number;
  /** Of TCP, as `SA`; of ICMP type and code, as `8/0`. */
  flags: string;
  ttl: number;
  id: number;
};

export type Witness = {
  /** What was seen until now and is not excused, in its order. */
  leaks(): Promise<Leak[]>;
  /** Forgets what was seen until now. */
  forgive(): Promise<void>;
  /** For a test whose configuration permits it. */
  excuse(reason: string, permitted: (leak: Leak) => boolean): void;
  /** One more network that is inside, `172.16.0.0/16`: what is behind a route. */
  inside(network: string): void;
  /** The promise begins, or ends: where the test runs kylin-vr in a way that the lab does not know. */
  takenOver(): void;
  letGo(): void;
};

/** What the lab has of it. */
export type Watch = {
  witness: Witness;
  ready: Promise<void>;
  /** The index of the wire that a NIC on an uplink's segment gets: by it the witness knows what to look at. */
  indexFor(device: string): number;
  /** Throws when anything is left. */
  verdict(): Promise<void>;
};

const SCRIPT = resolve(import.meta.dirname, 'witness.pl');
/** Beyond what the kernel gives out by itself. */
const FIRST_INDEX = 1000;
const INSIDE = ['10.10.1.0/24', '10.10.2.0/24'];
const KINDS: Record<string, LeakKind> = {
  source: 'private source',
  destination: 'private destination',
  bounced: 'bounced',
};
const PROTOCOLS: Record<number, string> = {
  1: 'icmp',
  4: 'ipip',
  6: 'tcp',
  17: 'udp',
  47: 'gre',
  50: 'esp',
  132: 'sctp',
};
/** As many as are kept; a soak that leaks leaks for hours. */
const MOST = 10_000;
const SHOWN = 10;
/** What a router has in hand while somebody asks. */
const UNDER_WAY_MS = 50;

type Seen = { lines: string[]; unseen: number };
type Span = { from: number; to?: number };

type Watched = {
  /** A process in the router: its devices are read there. */
  router: number;
  /** The router's own, wherever the device is: a machine in the router has its NICs for itself. */
  macs: readonly string[];
  /** Without uplinks nobody watches. */
  hasUplinks: boolean;
};

export function watchUplinks(wires: Namespace, { router, macs, hasUplinks }: Watched): Watch {
  const { ready, say, sync, forget } = hasUplinks
    ? listenTo(wires.spawn(['perl', SCRIPT, `${FIRST_INDEX}`], { stdio: ['pipe', 'pipe', 'inherit'] }))
    : NOBODY;
  for (const network of INSIDE) say(`inside ${withMask(network)}`);
  const ports: string[] = [];
  const promised: Span[] = [];
  const excuses: ((leak: Leak) => boolean)[] = [];
  const isRouters = macsOf(router, macs);

  let unseenBefore = 0;
  const look = async (): Promise<Leak[]> => {
    const { lines, unseen } = await sync();
    const kept = lines
      .map((line) => leakOf(line, ports))
      .filter(({ at }) => promised.some(({ from, to = Number.POSITIVE_INFINITY }) => from <= at && at <= to))
      // Frames that a bridge in the router passes on are not the router's. What is bounced has lost TTL there.
      .filter(({ kind, packet: { mac = '' } }) => kind === 'bounced' || isRouters(mac));
    const missed = unseen - unseenBefore;
    if (missed > 0)
      kept.push({ kind: 'unseen', at: Date.now(), packet: {}, words: `${missed} packets went by unseen` });
    return kept.filter((leak) => !excuses.some((permitted) => permitted(leak)));
  };

  const letGo = () => {
    const last = promised.at(-1);
    if (last !== undefined) last.to ??= Date.now();
  };
  const witness: Witness = {
    async leaks() {
      await sleep(UNDER_WAY_MS);
      return look();
    },
    async forgive() {
      await sleep(UNDER_WAY_MS);
      const { unseen } = await sync();
      unseenBefore = unseen;
      forget();
    },
    excuse: (_reason, permitted) => void excuses.push(permitted),
    inside: (network) => say(`inside ${withMask(network)}`),
    takenOver() {
      const last = promised.at(-1);
      if (last === undefined || last.to !== undefined) promised.push({ from: Date.now() });
    },
    letGo,
  };
  return {
    witness,
    ready,
    indexFor: (device) => FIRST_INDEX + ports.push(device) - 1,
    async verdict() {
      const leaks = promised.length === 0 ? [] : await look();
      if (leaks.length > 0) assert.fail(described(leaks));
    },
  };
}

type Listening = {
  ready: Promise<void>;
  say(line: string): void;
  /** Waits for all that has passed so far. */
  sync(): Promise<Seen>;
  forget(): void;
};

const NOBODY: Listening = {
  ready: Promise.resolve(),
  say() {},
  sync: async () => ({ lines: [], unseen: 0 }),
  forget() {},
};

function listenTo(child: ChildProcess): Listening {
  const lines = createInterface({ input: child.stdout as Readable });
  const ended = once(child, 'exit').then(([status]) => Promise.reject(new Error(`the witness has ended: ${status}`)));
  ended.catch(() => {});
  const answers: ((unseen: number) => void)[] = [];
  let told: string[] = [];
  let beyond = 0;
  const ready = Promise.race([once(lines, 'line').then(() => {}), ended]);
  ready.catch(() => {});
  const stdin = (child.stdin as Writable).on('error', () => {});
  const say = (line: string) => void stdin.write(`${line}\n`);
  lines.on('line', (line) => {
    const [word, number, unseen] = line.split(' ');
    if (word === 'synced') answers[Number(number)]?.(Number(unseen));
    else if (word === 'leak' && told.push(line) > MOST) {
      told.pop();
      beyond++;
    }
  });
  return {
    ready,
    say,
    async sync() {
      const answer = new Promise<number>((resolve) => say(`sync ${answers.push(resolve) - 1}`));
      const unseen = await Promise.race([answer, ended]);
      return { lines: [...told], unseen: unseen + beyond };
    },
    forget() {
      told = [];
    },
  };
}

/** Whether a MAC is one of the router's: of one of its devices, of one that it had, or of those that it is given. */
function macsOf(router: number, given: readonly string[]): (mac: string) => boolean {
  const devices = `/proc/${router}/root/sys/class/net`;
  const known = new Set(given);
  return (mac) => {
    if (!known.has(mac)) for (const device of readdirSync(devices)) known.add(addressOf(`${devices}/${device}`));
    return known.has(mac);
  };
}

function addressOf(device: string): string {
  try {
    return readFileSync(`${device}/address`, 'utf8').trim();
  } catch {
    // It has gone, or it is a file, as bonding_masters is.
    return '';
  }
}

function leakOf(line: string, ports: readonly string[]): Leak {
  const [, kind = '', seconds = '', index = '', frame = ''] = line.split(' ');
  const at = Number(seconds) * 1000;
  const port = ports[Number(index) - FIRST_INDEX] ?? index;
  const packet = packetOf(port, Buffer.from(frame, 'hex'));
  const named = KINDS[kind] ?? assert.fail(line);
  return { kind: named, at, packet, words: `${new Date(at).toISOString().slice(11, 23)} ${named}: ${inWords(packet)}` };
}

function packetOf(port: string, frame: Buffer): Packet {
  const ip = frame.subarray(14);
  const number = ip.readUInt8(9);
  const later = (ip.readUInt16BE(6) & 0x1fff) > 0;
  const payload = later ? Buffer.alloc(0) : ip.subarray(4 * (ip.readUInt8(0) & 15));
  const hasPorts = [6, 17, 132].includes(number) && payload.length >= 4;
  return {
    port,
    mac: frame
      .subarray(6, 12)
      .toString('hex')
      .replace(/..(?=.)/g, '$&:'),
    protocol: PROTOCOLS[number] ?? `${number}`,
    source: ip.subarray(12, 16).join('.'),
    destination: ip.subarray(16, 20).join('.'),
    sourcePort: hasPorts ? payload.readUInt16BE(0) : 0,
    destinationPort: hasPorts ? payload.readUInt16BE(2) : 0,
    flags: flagsOf(number, payload),
    ttl: ip.readUInt8(8),
    id: ip.readUInt16BE(4),
  };
}

function flagsOf(protocol: number, payload: Buffer): string {
  if (protocol === 1 && payload.length >= 2) return payload.subarray(0, 2).join('/');
  if (protocol !== 6 || payload.length < 14) return '';
  const flags = payload.readUInt8(13);
  return [...'FSRPAU'].filter((_, bit) => flags & (1 << bit)).join('');
}

function inWords({ port, mac, protocol, source, destination, sourcePort, destinationPort, flags, ttl, id }: Packet) {
  const end = (address: string, number: number) => (number === 0 ? address : `${address}:${number}`);
  const what = [protocol, flags].filter((word) => word !== '').join(' ');
  const ends = `${end(source, sourcePort)} → ${end(destination, destinationPort)}`;
  return `${what} ${ends}, ttl ${ttl}, id ${id}, by ${port} from ${mac}`;
}

function described(leaks: readonly Leak[]): string {
  const more = leaks.length > SHOWN ? [`and ${leaks.length - SHOWN} more`] : [];
  return ['packets left the uplink that must not:', ...leaks.slice(0, SHOWN).map(({ words }) => words), ...more].join(
    '\n  ',
  );
}

/** `10.10.1.0/24` as `10.10.1.0 255.255.255.0`. */
function withMask(cidr: string): string {
  const [network, prefix] = cidr.split('/');
  const mask = Buffer.alloc(4);
  mask.writeUInt32BE((0xffffffff << (32 - Number(prefix))) >>> 0);
  return `${network} ${mask.join('.')}`;
}

type Run = (argv: readonly string[]) => ((status: number | null) => void) | undefined;

/** The router, with an eye on the runs of kylin-vr in it: the promise begins and ends with them. */
export function underPromise(router: Namespace, witness: Witness): Namespace {
  const begin = promiseOf(router.pid, witness);
  return {
    ...router,
    async run(argv, options) {
      const end = begin(argv);
      const result = await router.run(argv, options);
      end?.(result.status);
      return result;
    },
    spawn(argv, options) {
      const end = begin(argv);
      const child = router.spawn(argv, options);
      if (end !== undefined) child.once('exit', end);
      return child;
    },
  };
}

const CONFIG = '/etc/kylin-vr/kylin-vr.yaml';
const TAKES_OVER = ['start', 'reload'];
const CHANGES = [...TAKES_OVER, 'uninstall', 'eip', 'forward', 'nic', 'route'];

function promiseOf(router: number, witness: Witness): Run {
  const isEmpty = (args: readonly string[]) => {
    const option = args.indexOf('--config');
    try {
      const file = `/proc/${router}/root${option < 0 ? CONFIG : args[option + 1]}`;
      // Tests put a FIFO there.
      return /^if_list: *\[ *\]/m.test(`${readRegular(file)}`);
    } catch {
      return false;
    }
  };
  return (argv) => {
    const program = argv.findIndex((word) => /(^|\/)kylin-vr[^/]*$/.test(word));
    const args = argv.slice(program + 1);
    if (program < 0 || !args.some((word) => CHANGES.includes(word))) return undefined;
    if (args.includes('--flush') || isEmpty(args)) witness.letGo();
    return (status) => {
      if (args.includes('--flush') || isEmpty(args)) witness.letGo();
      else if (status === 0 && args.some((word) => TAKES_OVER.includes(word))) witness.takenOver();
    };
  };
}
