// Which EIPs and forwards are broken where rules of ours are missing, or are others: held against what a packet comes to.

import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import type { Config } from '../../src/config/config.ts';
import { coursesBy, rulesByChain } from '../../src/engines/iptables/course.ts';
import { brokenBy } from '../../src/engines/iptables/mapped.ts';
import { portsChainName } from '../../src/engines/iptables/ports.ts';
import { bindNics } from '../../src/network/nics.ts';
import type { Chain, NetworkState } from '../../src/network/state.ts';
import { LONG } from '../quick.ts';
import { config, desired, forward, LINKS, SECOND_UPLINK, SUBNET_A, SUBNET_B, UPLINK } from './fixtures.ts';
import { type Packet, trace } from './packet-trace.ts';

const [V, W, X] = ['192.0.2.5', '192.0.2.6', '192.0.2.70'];
const FAR = '198.18.0.9';
const SENDERS = { eth1: '192.0.2.60', eth2: '192.0.2.120' };
const deviceOf = (vmIp: string) => (vmIp === X ? 'eth2' : 'eth1');

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
  'a subnet that is not translated': config({
    eips: [{ eip: '198.51.100.5', vmIp: V }],
    snats: [],
  }),
};

/** In words, as config has them. */
function brokenIn(wanted: Config, state: NetworkState, found: NetworkState): string[] {
  const { bound } = bindNics(wanted.nics, LINKS);
  const courses = (of: NetworkState) => coursesBy(rulesByChain(of));
  const broken = brokenBy(wanted, bound, bound[0], courses(state), courses(found));
  return [
    ...wanted.eips.filter(broken.eip).map(({ eip }) => eip),
    ...wanted.forwards.filter(broken.forward).map(({ eip, port }) => `${eip}:${port}`),
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
      `${eip}:${port}`,
      toward(eip, vmIp, { protocol, port }).join('\n'),
    ]),
  ]);
}

/** So many of them at the most, from everywhere. */
const spread = <T>(items: readonly T[], most: number): T[] =>
  items.filter((_, n) => n % Math.ceil(items.length / most) === 0);

/** Times that a mapping is asked for. */
const MOST = 1000;

/** Each rule and each jump of nat and filter, taken away; of many rules some. */
function* mutilated(state: NetworkState, most: number): Generator<[string, NetworkState]> {
  for (const jump of state.jumps)
    if (jump.table !== 'mangle')
      yield [`${jump.hook} ${jump.rule}`, { ...state, jumps: state.jumps.filter((each) => each !== jump) }];
  const chains = state.chains.filter(({ table }) => table !== 'mangle');
  const rules = chains.flatMap((chain) => chain.rules.map((rule) => ({ chain, rule })));
  for (const { chain, rule } of spread(rules, most))
    yield [`${chain.name} ${rule}`, withChain(state, { ...chain, rules: chain.rules.filter((each) => each !== rule) })];
}

const withChain = (state: NetworkState, chain: Chain): NetworkState => ({
  ...state,
  chains: state.chains.map((each) => (each.table === chain.table && each.name === chain.name ? chain : each)),
});

const optionsOf = (what: string) => (/^(16|300) /.test(what) ? LONG : {});

describe('mapped', () => {
  for (const [what, wanted] of Object.entries(CONFIGS))
    it(`each rule and jump taken away: just what is behind it is broken: ${what}`, optionsOf(what), () => {
      const state = desired(wanted);
      assert.deepEqual(brokenIn(wanted, state, state), []);
      // What follows a packet reads all rules each time.
      const asked = { ...wanted, forwards: spread(wanted.forwards, 20) };
      const sound = fatesOf(asked, state);
      const found = new Map<string, string[]>();
      const expected = new Map<string, string[]>();
      for (const [gone, less] of mutilated(state, MOST / sound.size)) {
        const fates = fatesOf(asked, less);
        found.set(
          gone,
          brokenIn(wanted, state, less).filter((each) => sound.has(each)),
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
    const before = (rule: string) =>
      brokenIn(wanted, state, withChain(state, { ...chain, rules: [rule, ...chain.rules] }));
    assert.deepEqual(before('-p tcp -m tcp --dport 7000 -j RETURN'), ['198.51.100.81:7000']);
    assert.deepEqual(before('-p tcp -m tcp --dport 7000:7010 -j ACCEPT'), ['198.51.100.81:7000', '198.51.100.81:7007']);
    assert.deepEqual(before('-p tcp -m tcp --dport 7000 -j LOG'), []);
    assert.equal(before('-j RETURN').length, 17);
  });
});
