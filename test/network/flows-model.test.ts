// The rules and what flows are held against say the same: an entry that one configuration's rules make is right by that
// configuration, and stale by another one exactly where that one's rules would make another of the same packet.

import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import fc from 'fast-check';
import { hostPart, ipv4, withinAny } from '../../src/base/ipv4.ts';
import type { Config, Eip, Forward, Nic, Snat, StaticRoute } from '../../src/config/config.ts';
import type { Draft, Entry } from '../../src/config/draft.ts';
import { RULES } from '../../src/config/rules.ts';
import { deleteFlowOptions } from '../../src/dialects/conntrack.ts';
import { readForeignNat } from '../../src/engines/foreign-nat.ts';
import type { Flow } from '../../src/network/flow.ts';
import { type FlowModel, judgeOf } from '../../src/network/flows.ts';
import type { ObservedLink } from '../../src/network/nics.ts';
import type { NetworkState } from '../../src/network/state.ts';
import type { Ways } from '../../src/network/translation.ts';
import { worldOf } from '../../src/run/cut.ts';
import { runs } from '../quick.ts';
import { config, desired, forward, LINKS, SECOND_UPLINK, SUBNET_A, SUBNET_B, UPLINK, without } from './fixtures.ts';
import { courseBy, entryOf, modelOf } from './flowing.ts';
import type { Packet } from './packet-trace.ts';

/** In subnet A, in B, behind a route through A, on the uplink's segment, beyond its gateway, and the router's own. */
const VMS = ['192.0.2.5', '192.0.2.6', '192.0.2.70', '198.18.5.7', '203.0.113.50', '198.18.77.7', '192.0.2.1'];
const EIPS = ['198.51.100.5', '198.51.100.6', '198.51.100.80', '203.0.113.60', '192.0.2.40'];
const FORWARDS = [
  'tcp 198.51.100.80:80-82 → 192.0.2.5:8080',
  'tcp 198.51.100.80:80 → 192.0.2.5:80',
  'tcp 198.51.100.80:80-82 → 192.0.2.5:80',
  'tcp 198.51.100.80:81-82 → 192.0.2.6:81',
  'udp 198.51.100.80:80 → 192.0.2.70:80',
  'udp 198.51.100.5:80 → 192.0.2.6:80',
  'tcp 203.0.113.10:81 → 192.0.2.6:81',
  'udp 203.0.113.10:82 → 198.18.5.7:83',
  'udp 203.0.113.10:80 → 203.0.113.50:80',
  ...Array.from({ length: 20 }, (_, n) => `tcp 198.51.100.80:${83 + 2 * n} → 192.0.2.6:${83 + n}`),
].map(forward);
const PORTS = [80, 81, 82, 83, 85];

const NIC_SETS: Nic[][] = [
  [UPLINK, SUBNET_A, SUBNET_B],
  [UPLINK, SUBNET_A],
  [SUBNET_A, SUBNET_B],
  [UPLINK, SECOND_UPLINK, SUBNET_A, SUBNET_B],
  [SECOND_UPLINK, UPLINK, SUBNET_A, SUBNET_B],
  [{ ...UPLINK, ipaddr: '203.0.113.11' }, { ...SUBNET_A, ipaddr: '192.0.2.2' }, SUBNET_B],
  [UPLINK, { ...SUBNET_A, mac: SUBNET_B.mac }, { ...SUBNET_B, mac: SUBNET_A.mac }],
];
const SNATS: Snat[] = [
  { source: '192.0.2.0/26', to: { address: '198.51.100.90' } },
  { source: '192.0.2.64/26', to: 'masquerade' },
  { source: '192.0.2.64/26', to: 'none' },
  { source: '192.0.2.5/32', to: 'none' },
  { source: '192.0.2.0/26', to: 'masquerade' },
  { source: '192.0.2.0/24', to: { address: '198.51.100.5' } },
  { source: '198.18.5.0/24', to: 'none' },
  { source: '198.18.5.0/24', to: { address: '203.0.113.10' } },
  { source: '0.0.0.0/0', to: { address: '198.51.100.91' } },
  { source: '0.0.0.0/0', to: 'masquerade' },
];
const ROUTES: StaticRoute[] = [
  { dest: '198.18.5.0/24', via: '192.0.2.9' },
  { dest: '198.18.5.0/24', via: '192.0.2.71' },
  { dest: '198.18.5.0/24', via: '203.0.113.9' },
  { dest: '198.18.5.0/25', via: '192.0.2.9' },
  { dest: '198.18.5.7/32', via: '192.0.2.71' },
  { dest: '0.0.0.0/1', via: '192.0.2.9' },
  { dest: '0.0.0.0/0', via: '192.0.2.9' },
];

/** A configuration, the links of the machine, and what the rules are made as. */
type Router = { config: Config; links: readonly ObservedLink[]; mode: Ways };

const eips: fc.Arbitrary<Eip[]> = fc
  .tuple(fc.subarray(EIPS), fc.array(fc.constantFrom(...VMS), { minLength: 5, maxLength: 5 }))
  .map(([list, vms]) => list.map((eip, n) => ({ eip, vmIp: vms[n] ?? '' })));
const configs: fc.Arbitrary<Config> = fc
  .record({
    nics: fc.constantFrom(...NIC_SETS),
    eips,
    forwards: fc.subarray<Forward>(FORWARDS),
    snats: fc.option(fc.subarray(SNATS), { nil: undefined }),
    routes: fc.subarray(ROUTES, { maxLength: 2 }),
  })
  .map(valid);
const routers = (modes: readonly Ways[]): fc.Arbitrary<Router> =>
  fc.record({
    config: configs,
    links: fc.oneof({ weight: 4, arbitrary: fc.constant(LINKS) }, fc.constantFrom('eth0', 'eth1', 'eth2').map(without)),
    mode: fc.constantFrom(...modes),
  });

const HOSTS = [
  ...VMS,
  ...EIPS,
  ...[UPLINK, SUBNET_A, SECOND_UPLINK].map(({ ipaddr }) => ipaddr),
  '198.51.100.90',
  '203.0.113.11',
  '203.0.113.200',
  '192.0.2.150',
  '10.9.9.9',
];
const packets: fc.Arbitrary<Packet> = fc
  .record({
    from: fc.constantFrom(...HOSTS),
    to: fc.constantFrom(...HOSTS),
    protocol: fc.constantFrom('tcp', 'udp', 'icmp', 'sctp', 'gre'),
    port: fc.constantFrom(...PORTS),
  })
  .filter(({ from, to }) => from !== to)
  .map(({ port, ...packet }) =>
    packet.protocol === 'icmp' || packet.protocol === 'gre' ? packet : { ...packet, port },
  );

/** Without the entries that `check` refuses. */
function valid(wanted: Partial<Config>): Config {
  let made = config({ nics: wanted.nics ?? [] });
  const add = (change: Partial<Config>) => {
    if (isValid({ ...made, ...change })) made = { ...made, ...change };
  };
  for (const each of wanted.routes ?? []) add({ routes: [...made.routes, each] });
  for (const each of wanted.eips ?? []) add({ eips: [...made.eips, each] });
  for (const each of wanted.forwards ?? []) add({ forwards: [...made.forwards, each] });
  if (wanted.snats !== undefined) add({ snats: [] });
  for (const each of wanted.snats ?? []) add({ snats: [...(made.snats ?? []), each] });
  return made;
}

function isValid({ nics, eips, forwards, routes, snats, fromUplink }: Config): boolean {
  const place = { line: 1, column: 1, endColumn: 1 };
  const entries = <T>(values: readonly T[]): Entry<T>[] =>
    values.map((value) => ({ value, at: () => place, has: () => true }));
  const draft: Draft = {
    nics: entries(nics),
    eips: entries(eips),
    forwards: entries(forwards),
    routes: entries(routes),
    snats: snats && entries(snats),
    fromUplink,
    whole: true,
    at: () => place,
  };
  return RULES.every(({ severity, find }) => severity !== 'errors' || [...find(draft)].length === 0);
}

const known = new WeakMap<Router, NetworkState>();
function built(router: Router): NetworkState {
  const state = known.get(router) ?? desired(router.config, { links: router.links, ways: router.mode });
  known.set(router, state);
  return state;
}

const modelFor = ({ config: wanted, links, mode }: Router, former?: Router): FlowModel =>
  modelOf(wanted, { links, mode, ...(former && { former: worldOf(modelFor(former)) }) });

const isOf = (router: Router, address: string): boolean =>
  built(router).addresses.some(({ spec }) => hostPart(spec) === address);

/** As it comes to that router: by the way to its sender, or from itself. */
function arriving(state: NetworkState, packet: Packet): Packet {
  if (state.addresses.some(({ spec }) => hostPart(spec) === packet.from)) return packet;
  const back = courseBy({ ...state, chains: [], jumps: [] }, { ...packet, to: packet.from, from: packet.to });
  return { ...packet, in: back.out ?? 'nowhere' };
}

const said = (flow: Flow) => `${flow.protocol} ${flow.source} → ${flow.destination}:${flow.destinationPort}`;
const became = (flow: Flow) => `${flow.replySource}:${flow.replySourcePort} sees ${flow.replyDestination}`;

/** By the rules of that router: which direction it would translate otherwise. */
function otherwise(router: Router, former: Router, flow: Flow, packet: Packet): 'destination' | 'source' | undefined {
  const state = built(router);
  const { to, port, from, out } = courseBy(state, arriving(state, packet));
  if (flow.replySource !== to || flow.replySourcePort !== port) return 'destination';
  // Nothing leads there: no rule is asked, and the source is wrong only where nobody has it any more.
  if (out === undefined) return isGone(router, former, flow) ? 'source' : undefined;
  return flow.replyDestination === from ? undefined : 'source';
}

function isGone(router: Router, former: Router, { source, replyDestination }: Flow): boolean {
  const wasInside = withinAny([...worldOf(modelFor(router)).networks, ...worldOf(modelFor(former)).networks]);
  const { addresses } = worldOf(modelFor(router));
  const local = built(router).addresses.map(({ spec }) => hostPart(spec));
  const wasOurs = isOf(router, source) || wasInside(ipv4(source));
  return replyDestination !== source && wasOurs && ![...addresses, ...local].includes(replyDestination);
}

describe('an entry that the rules make', () => {
  it('is right by the configuration that they are made from', () => {
    fc.assert(
      fc.property(
        routers(['today', 'as in 1.0']),
        fc.array(packets, { minLength: 20, maxLength: 20 }),
        (router, sent) => {
          const state = built(router);
          const judge = judgeOf(modelFor(router), readForeignNat);
          for (const packet of sent) {
            const entry = entryOf(state, arriving(state, packet));
            if (entry !== undefined) assert.equal(judge(entry), undefined, `${said(entry)} ⇒ ${became(entry)}`);
          }
        },
      ),
      runs(200),
    );
  });

  it('is stale by another exactly where the rules of that would translate it otherwise', () => {
    fc.assert(
      fc.property(
        routers(['today', 'as in 1.0']),
        routers(['today']),
        fc.array(packets, { minLength: 20, maxLength: 20 }),
        (before, after, sent) => {
          const state = built(before);
          const judge = judgeOf(modelFor(after, before), readForeignNat);
          const ours = worldOf(modelFor(before)).addresses;
          for (const packet of sent) {
            const entry = entryOf(state, arriving(state, packet));
            // What the router itself was one end of, by an address that it has no more, is cut whatever rules say.
            if (
              entry === undefined ||
              [packet.from, packet.to].some((each) => (isOf(before, each) || ours.includes(each)) && !isOf(after, each))
            )
              continue;
            assert.equal(
              judge(entry)?.wrong,
              otherwise(after, before, entry, packet),
              `${said(entry)} ⇒ ${became(entry)}; now ${JSON.stringify(courseBy(built(after), arriving(built(after), packet)))}`,
            );
          }
        },
      ),
      runs(200),
    );
  });
});

describe('what conntrack -D takes together', () => {
  it('is stale, all of it', () => {
    fc.assert(
      fc.property(
        routers(['today']),
        routers(['today']),
        fc.array(packets, { minLength: 3, maxLength: 3 }),
        (before, after, sent) => {
          const state = built(before);
          const judge = judgeOf(modelFor(after, before), readForeignNat);
          const entries = sent.flatMap(ofEachKind).flatMap((packet) => entryOf(state, arriving(state, packet)) ?? []);
          for (const entry of entries) {
            const judgement = judge(entry);
            if (judgement === undefined) continue;
            assert.ok(isTaken(deleteFlowOptions(judgement.alike), entry), said(entry));
            const others = entries.filter(
              (other) => isTaken(deleteFlowOptions(judgement.alike), other) && judge(other) === undefined,
            );
            assert.deepEqual(
              others.map(became),
              [],
              `with ${said(entry)}: ${deleteFlowOptions(judgement.alike).join(' ')}`,
            );
          }
        },
      ),
      runs(100),
    );
  });
});

/** Between the same two, all that there may be. */
const ofEachKind = ({ from, to }: Packet): Packet[] => [
  { from, to, protocol: 'icmp' },
  { from, to, protocol: 'gre' },
  ...(['tcp', 'udp', 'sctp'] as const).flatMap((protocol) =>
    PORTS.map((port): Packet => ({ from, to, protocol, port })),
  ),
];

/** Whether conntrack -D with these options deletes the entry. */
function isTaken(options: readonly string[], flow: Flow): boolean {
  const fields: Readonly<Record<string, unknown>> = {
    '-p': flow.protocol,
    '-s': flow.source,
    '-d': flow.destination,
    '-r': flow.replySource,
    '-q': flow.replyDestination,
    '--dport': flow.destinationPort,
    '--reply-port-src': flow.replySourcePort,
  };
  for (let at = 0; at < options.length; at += 2) {
    const [option = '', value] = options.slice(at, at + 2);
    assert.ok(option in fields, option);
    if (`${fields[option]}` !== value) return false;
  }
  return true;
}
