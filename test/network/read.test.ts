// Which EIPs, forwards and sources are broken where rules of ours are missing, or are others: held against what a packet comes to.

import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { contains, formatNetwork, ipv4, networkOf } from '../../src/base/ipv4.ts';
import type { Config } from '../../src/config/config.ts';
import { portsChainName } from '../../src/engines/iptables/ports.ts';
import { reader } from '../../src/engines/reader.ts';
import { type FilterFound, forwardKey } from '../../src/network/filter.ts';
import type { Chain, NetworkState } from '../../src/network/state.ts';
import { isQuick, LONG } from '../quick.ts';
import { config, desired, forward, SECOND_UPLINK, SUBNET_A, SUBNET_B, UPLINK } from './fixtures.ts';
import { type Packet, trace } from './packet-trace.ts';

const [V, W, X] = ['192.0.2.5', '192.0.2.6', '192.0.2.70'];
const FAR = '198.18.0.9';
/** Behind the second uplink. */
const NEAR = '192.0.2.150';
const SENDERS = { eth1: '192.0.2.60', eth2: '192.0.2.120' };
const SUBNETS = { eth1: networkOf(ipv4('192.0.2.0'), 26), eth2: networkOf(ipv4('192.0.2.64'), 26) };
const deviceTo = (address: number) =>
  Object.entries(SUBNETS).find(([, network]) => contains(network, address))?.[0] ?? 'eth0';
const deviceOf = (vmIp: string) => deviceTo(ipv4(vmIp));
/** By the network that they are in. */
const SOURCES: Readonly<Record<string, string>> = {
  '192.0.2.0/26': '192.0.2.20',
  '192.0.2.64/26': SENDERS.eth2,
  '192.0.2.7/32': '192.0.2.7',
  '192.0.2.32/27': '192.0.2.59',
};

const manyForwards = (count: number) =>
  Array.from({ length: count }, (_, n) => forward(`tcp 198.51.100.81:${7000 + 7 * n} → ${W}:${7000 + n}`));

const CONFIGS: Record<string, Config> = {
  'EIPs far and near, two of one VM, forwards of each kind': config({
    nics: [UPLINK, SUBNET_A, SUBNET_B, SECOND_UPLINK],
    eips: [
      { eip: '198.51.100.5', vmIp: V },
      { eip: '198.51.100.21', vmIp: V },
      { eip: '198.51.103.70', vmIp: X },
    ],
    forwards: [
      `tcp 198.51.100.80:443 → ${W}:443`,
      `udp 198.51.100.80:6000-6002 → ${X}:6000`,
      `tcp 198.51.100.80:80-82 → ${X}:8080`,
      `tcp 203.0.113.10:8443 → ${W}:443`,
    ].map(forward),
  }),
  ...Object.fromEntries(
    [1, 16, 17, 300].map((count) => [`${count} forwards on one EIP`, config({ forwards: manyForwards(count) })]),
  ),
  'subnets that are not translated': config({
    eips: [{ eip: '198.51.100.5', vmIp: V }],
    snats: [],
  }),
  'sources of each kind, with a second uplink': config({
    nics: [UPLINK, SUBNET_A, SUBNET_B, SECOND_UPLINK],
    eips: [{ eip: '198.51.100.5', vmIp: V }],
    snats: [
      { source: '192.0.2.64/26', to: { address: '198.51.100.40' } },
      { source: '192.0.2.7/32', to: 'none' },
      { source: '192.0.2.32/27', to: 'masquerade' },
    ],
  }),
  'nothing may begin from the uplink': config({
    nics: [UPLINK, SUBNET_A, SUBNET_B, SECOND_UPLINK],
    eips: [{ eip: '198.51.100.5', vmIp: V }],
    forwards: [forward(`tcp 198.51.100.80:443 → ${W}:443`)],
    fromUplink: 'drop',
  }),
};

function readIn(state: NetworkState, found: NetworkState, counted?: string): FilterFound {
  const parts = { wanted: state, found, ...(counted !== undefined && { counted }) };
  return reader.read(state.filter ?? assert.fail(), parts, { deviceTo });
}

/** In words. */
function brokenIn(state: NetworkState, found: NetworkState): string[] {
  const { eips, forwards, sources } = readIn(state, found);
  const isBroken = ({ broken }: { broken: readonly string[] }) => broken.length > 0;
  return [
    ...eips.filter(isBroken).map(({ eip }) => eip),
    ...forwards.filter(isBroken).map(forwardKey),
    ...sources.filter(isBroken).map(({ network }) => formatNetwork(network)),
  ];
}

/** What packets to it, and its own, come to. */
function fatesOf(wanted: Config, state: NetworkState): Map<string, string> {
  const drops = { forwardPolicy: 'DROP' } as const;
  const toward = (eip: string, vmIp: string, how: Pick<Packet, 'protocol' | 'port'>): string[] => {
    const sent = { ...how, to: eip };
    return [
      trace(state, { ...sent, from: FAR, in: 'eth0' }, drops),
      trace(state, { ...sent, from: FAR, in: 'eth0', state: 'INVALID' }, drops),
      // The kernel takes the address itself for the source.
      trace(state, { ...sent, from: eip }),
      trace(state, { protocol: 'tcp', port: 1, from: vmIp, to: FAR, in: deviceOf(vmIp), state: 'ESTABLISHED' }, drops),
      ...Object.entries(SENDERS).map(([device, from]) => trace(state, { ...sent, from, in: device })),
    ];
  };
  const gates: [device: string, to: string][] = [['eth0', FAR]];
  if (wanted.nics.includes(SECOND_UPLINK)) gates.push(['eth3', NEAR]);
  const own = new Set<string>();
  const first = (vmIp: string) => !own.has(vmIp) && own.add(vmIp) !== undefined;
  return new Map([
    ...wanted.eips.map(({ eip, vmIp }): [string, string] => [
      eip,
      [
        ...toward(eip, vmIp, { protocol: 'tcp', port: 1 }),
        ...(first(vmIp)
          ? [FAR, eip].map((to) => trace(state, { protocol: 'tcp', port: 1, from: vmIp, to, in: deviceOf(vmIp) }))
          : []),
      ].join('\n'),
    ]),
    ...wanted.forwards.map(({ eip, vmIp, protocol, port }): [string, string] => [
      forwardKey({ eip, protocol, port }),
      toward(eip, vmIp, { protocol, port }).join('\n'),
    ]),
    ...(state.filter?.sources ?? []).map(({ network }): [string, string] => {
      const from = SOURCES[formatNetwork(network)] ?? assert.fail();
      return [
        formatNetwork(network),
        gates
          .flatMap(([gate, to]) => [
            trace(state, { protocol: 'tcp', port: 1, from, to, in: deviceOf(from) }, drops),
            trace(state, { protocol: 'tcp', port: 1, from: to, to: from, in: gate, state: 'ESTABLISHED' }, drops),
          ])
          .join('\n'),
      ];
    }),
  ]);
}

/** So many of them at the most, from everywhere. */
const spread = <T>(items: readonly T[], most: number): T[] =>
  items.filter((_, n) => n % Math.ceil(items.length / most) === 0);

/** Times that a mapping is asked for. */
const MOST = isQuick ? 1000 / 4 : 1000;

/** Each rule and each jump, taken away; of many rules some. */
function* mutilated(state: NetworkState, most: number): Generator<[string, NetworkState]> {
  for (const jump of state.jumps)
    yield [`${jump.table} ${jump.hook} ${jump.rule}`, { ...state, jumps: state.jumps.filter((each) => each !== jump) }];
  const rules = state.chains.flatMap((chain) => chain.rules.map((rule) => ({ chain, rule })));
  for (const { chain, rule } of spread(rules, most))
    yield [
      `${chain.table} ${chain.name} ${rule}`,
      withChain(state, { ...chain, rules: chain.rules.filter((each) => each !== rule) }),
    ];
}

const withChain = (state: NetworkState, chain: Chain): NetworkState => ({
  ...state,
  chains: state.chains.map((each) => (each.table === chain.table && each.name === chain.name ? chain : each)),
});

const optionsOf = (what: string) => (/^(16|300) /.test(what) ? LONG : {});

describe('the reader', () => {
  for (const [what, wanted] of Object.entries(CONFIGS))
    it(`each rule and jump taken away: just what is behind it is broken: ${what}`, optionsOf(what), () => {
      const state = desired(wanted);
      assert.deepEqual(brokenIn(state, state), []);
      // What follows a packet reads all rules each time.
      const asked = { ...wanted, forwards: spread(wanted.forwards, 20) };
      const sound = fatesOf(asked, state);
      const found = new Map<string, string[]>();
      const expected = new Map<string, string[]>();
      for (const [gone, less] of mutilated(state, MOST / sound.size)) {
        const fates = fatesOf(asked, less);
        found.set(
          gone,
          brokenIn(state, less).filter((each) => sound.has(each)),
        );
        expected.set(
          gone,
          [...sound.keys()].filter((each) => sound.get(each) !== fates.get(each)),
        );
      }
      assert.deepEqual(found, expected);
      assert.ok([...expected.values()].some((each) => each.length > 0));
    });

  it('a rule of others before ours breaks what it takes', () => {
    const wanted = CONFIGS['17 forwards on one EIP'] ?? assert.fail();
    const state = desired(wanted);
    const name = portsChainName('198.51.100.81');
    const chain = state.chains.find((each) => each.name === name) ?? assert.fail();
    const before = (rule: string) => brokenIn(state, withChain(state, { ...chain, rules: [rule, ...chain.rules] }));
    assert.deepEqual(before('-p tcp -m tcp --dport 7000 -j RETURN'), ['198.51.100.81:7000/tcp']);
    assert.deepEqual(before('-p tcp -m tcp --dport 7000:7010 -j ACCEPT'), [
      '198.51.100.81:7000/tcp',
      '198.51.100.81:7007/tcp',
    ]);
    assert.deepEqual(before('-p tcp -m tcp --dport 7000 -j LOG'), []);
    assert.equal(before('-j RETURN').length, 17);
  });

  for (const many of [1, 16, 17, 300])
    it(`each of ${many} forwards on one EIP has its own count, and each source`, () => {
      const wanted = CONFIGS[`${many} forwards on one EIP`] ?? assert.fail();
      const state = desired(wanted);
      const { forwards, sources } = readIn(state, state, countedText(state));
      const times = new Map(forwards.map(({ port, since }) => [port, since]));
      const asked = new Map(wanted.forwards.map(({ port, vmPort }) => [port, vmPort]));
      assert.deepEqual(times, asked);
      assert.deepEqual(
        sources.map(({ network, since }) => [formatNetwork(network), since]),
        [
          ['192.0.2.0/26', 11],
          ['192.0.2.64/26', 11],
        ],
      );
    });

  it('a part of the way has a name', () => {
    const state = desired(CONFIGS['17 forwards on one EIP'] ?? assert.fail());
    const without = (table: string, hook: string) =>
      readIn(state, {
        ...state,
        jumps: state.jumps.filter((jump) => !(jump.table === table && jump.hook === hook)),
      }).forwards[0]?.broken;
    assert.deepEqual(without('nat', 'PREROUTING'), ['arrives']);
    assert.deepEqual(without('nat', 'OUTPUT'), ['own']);
    assert.deepEqual(without('filter', 'INPUT'), ['guarded']);
    assert.deepEqual(without('filter', 'FORWARD'), ['forwarded']);
    assert.deepEqual(without('nat', 'POSTROUTING'), ['hairpin']);
    assert.deepEqual(without('mangle', 'FORWARD'), []);
  });
});

/** As `iptables-save -c -t nat` prints it, where each forward was used as often as its port on the VM says, and each source eleven times. */
function countedText({ chains, jumps }: NetworkState): string {
  const times = (rule: string) => /--to-destination [\d.]+:(\d+)$/.exec(rule)?.[1] ?? (/SNAT/.test(rule) ? 11 : 0);
  const nat = chains.filter(({ table }) => table === 'nat');
  return [
    '*nat',
    ...['PREROUTING', 'OUTPUT', 'POSTROUTING'].map((hook) => `:${hook} ACCEPT [0:0]`),
    ...nat.map(({ name }) => `:${name} - [0:0]`),
    ...jumps.filter(({ table }) => table === 'nat').map(({ hook, rule }) => `[0:0] -A ${hook} ${rule}`),
    ...nat.flatMap(({ name, rules }) => rules.map((rule) => `[${times(rule)}:60] -A ${name} ${rule}`)),
    'COMMIT',
    '',
  ].join('\n');
}
