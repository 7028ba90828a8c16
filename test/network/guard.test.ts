// What may not pass, whatever NAT does: packets by the rules of a router, what is told apart on a machine that can, and which rules
// there are on one that cannot.

import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import type { Config, Snat } from '../../src/config/config.ts';
import type { ObservedLink } from '../../src/network/nics.ts';
import type { NetworkState } from '../../src/network/state.ts';
import { config, desired, LINKS, SECOND_UPLINK, SUBNET_A, SUBNET_B, UPLINK, without } from './fixtures.ts';
import { type Packet, trace } from './packet-trace.ts';

const U = UPLINK.ipaddr;
const [OUT, OUT2, FAR, BY_SECOND] = ['203.0.113.200', '203.0.113.201', '198.18.0.9', '192.0.2.150'];
/** v and w in subnet A, x in B, z behind a route through A. */
const [V, W, X, Z] = ['192.0.2.5', '192.0.2.6', '192.0.2.70', '198.18.5.7'];
const [V_EIP, NOBODY] = ['198.51.100.5', '198.51.100.77'];
const FULL = config({
  eips: [{ eip: V_EIP, vmIp: V }],
  routes: [{ dest: '198.18.5.0/24', via: '192.0.2.9' }],
});
const TWO_UPLINKS = [UPLINK, SECOND_UPLINK, SUBNET_A, SUBNET_B];
const BRIDGED = { ...UPLINK, bridge: { name: 'br-ex', type: 'linux' as const } };

const packet = (from: string, to: string, by: string | undefined, more: Partial<Packet> = {}): Packet => ({
  from,
  to,
  protocol: 'tcp',
  port: 80,
  ...(by !== undefined && { in: by }),
  ...more,
});

type Row = [what: string, packet: Packet, fate: string];

function rows(state: NetworkState, list: readonly Row[]): void {
  for (const [what, sent, fate] of list)
    it(`${what}: ${sent.from} → ${sent.to}`, () => {
      assert.equal(trace(state, sent), fate);
    });
}

/** The rules of our chains, `chain rule`, without the prefix of their names. */
const rulesOf = (state: NetworkState, ...names: string[]): string[] =>
  state.chains
    .map((chain) => ({ ...chain, name: chain.name.replace('KYLIN-VR-', '') }))
    .filter(({ name }) => names.includes(name))
    .flatMap(({ name, rules }) => rules.map((rule) => `${name} ${rule}`));

describe('what comes in by the uplink', () => {
  const back = 'dropped in FORWARD';
  rows(desired(FULL), [
    ['does not go back by it', packet(OUT, NOBODY, 'eth0'), back],
    ['does not go back by it, from beyond the gateway either', packet(FAR, NOBODY, 'eth0', { protocol: 'icmp' }), back],
    ['does not go back by it to a neighbour', packet(OUT, OUT2, 'eth0'), back],
    ['does not go back by it when conntrack cannot place it', packet(OUT, NOBODY, 'eth0', { state: 'INVALID' }), back],
    ['reaches an EIP', packet(OUT, V_EIP, 'eth0'), `eth1: ${V}:80 sees ${OUT}`],
    ['reaches a VM', packet(OUT, X, 'eth0'), `eth2: ${X}:80 sees ${OUT}`],
    [
      'goes back with an IPsec policy of its way in',
      packet(OUT, FAR, 'eth0', { policy: 'in' }),
      `eth0: ${FAR}:80 sees ${OUT}`,
    ],
    [
      'goes back with an IPsec policy of its way out',
      packet(OUT, FAR, 'eth0', { policy: 'out' }),
      `eth0: ${FAR}:80 sees ${OUT}`,
    ],
  ]);

  rows(desired({ ...FULL, eips: [{ eip: V_EIP, vmIp: OUT2 }] }), [
    ['goes back where an EIP leads there', packet(OUT, V_EIP, 'eth0'), `eth0: ${OUT2}:80 sees ${OUT}`],
  ]);

  rows(desired({ ...FULL, routes: [{ dest: '198.18.7.0/24', via: OUT2 }] }), [
    ['goes back where route_list leads there', packet(OUT, '198.18.7.7', 'eth0'), `eth0: 198.18.7.7:80 sees ${OUT}`],
    ['goes back where it comes from there', packet('198.18.7.7', FAR, 'eth0'), `eth0: ${FAR}:80 sees 198.18.7.7`],
    ['does not go back otherwise', packet(OUT, '198.18.8.7', 'eth0'), back],
  ]);

  const everything: Snat[] = [{ source: '0.0.0.0/0', to: { address: '198.51.100.90' } }];
  rows(desired({ ...FULL, snats: everything }), [
    ['goes back where snat_list translates it', packet(OUT, FAR, 'eth0'), `eth0: ${FAR}:80 sees 198.51.100.90`],
  ]);
  rows(desired({ ...FULL, snats: [{ source: '203.0.113.200/32', to: 'masquerade' }] }), [
    ['goes back where snat_list translates it', packet(OUT, FAR, 'eth0'), `eth0: ${FAR}:80 sees address of eth0`],
    ['does not go back where snat_list does not', packet(OUT2, FAR, 'eth0'), back],
  ]);
  rows(desired({ ...FULL, snats: [{ source: '203.0.113.200/32', to: 'none' }] }), [
    ['does not go back where snat_list says none', packet(OUT, FAR, 'eth0'), back],
  ]);

  rows(desired({ ...FULL, nics: TWO_UPLINKS }), [
    ['goes to another uplink', packet(BY_SECOND, FAR, 'eth3'), `eth0: ${FAR}:80 sees ${BY_SECOND}`],
    ['does not go back by the second either', packet(BY_SECOND, '192.0.2.151', 'eth3'), back],
  ]);

  it('goes back as in 1.0 until a reload that somebody asks for', () => {
    const state = desired(FULL, { ways: 'as in 1.0' });
    assert.equal(trace(state, packet(OUT, NOBODY, 'eth0')), `eth0: ${NOBODY}:80 sees ${OUT}`);
    assert.deepEqual(rulesOf(state, 'GUARD', 'BOUNCE', 'LEAVING', 'UPLINK', 'UNTRANSLATED'), []);
  });
});

describe('a destination inside', () => {
  const gone = 'dropped in POSTROUTING';
  const pending = { links: without('eth1') };
  rows(desired(FULL, pending), [
    ['whose NIC is not there goes nowhere, by an EIP', packet(OUT, V_EIP, 'eth0'), gone],
    ['whose NIC is not there goes nowhere, from inside', packet(X, W, 'eth2'), gone],
    ['whose NIC is not there goes nowhere, by an EIP from inside', packet(X, V_EIP, 'eth2'), gone],
    ['whose NIC is not there goes nowhere, from the router', packet(U, W, undefined), gone],
    ['whose NIC is not there goes nowhere, by an EIP from the router', packet(U, V_EIP, undefined), gone],
    [
      'whose NIC is not there goes nowhere, by a flow that is known',
      packet(X, W, 'eth2', { state: 'ESTABLISHED' }),
      gone,
    ],
    ['of which nothing is said goes out', packet(X, FAR, 'eth2'), `eth0: ${FAR}:80 sees ${U}`],
  ]);
  rows(desired(FULL), [['whose NIC is there is reached', packet(X, V_EIP, 'eth2'), `eth1: ${V}:80 sees ${U}`]]);
  rows(desired(FULL, pending), [
    ['goes with an IPsec policy', packet(X, W, 'eth2', { policy: 'out' }), `eth0: ${W}:80 sees ${U}`],
  ]);
  rows(desired({ ...FULL, routes: [...FULL.routes, { dest: '198.18.5.128/25', via: OUT2 }] }, pending), [
    [
      'goes out where route_list leads there by the uplink',
      packet(X, '198.18.5.129', 'eth2'),
      `eth0: 198.18.5.129:80 sees ${U}`,
    ],
  ]);
  rows(desired({ ...FULL, nics: TWO_UPLINKS }, { links: LINKS.filter(({ device }) => !/[01]/.test(device)) }), [
    ['goes nowhere by the second uplink either', packet(X, W, 'eth2'), gone],
  ]);
});

for (const [what, state] of [
  ['what conntrack cannot place', 'INVALID'],
  ['what goes on as it was let by before', 'ESTABLISHED'],
] as const)
  describe(what, () => {
    const [lost, left] = [{ state }, 'dropped in POSTROUTING'];
    const none: Snat[] = [{ source: '192.0.2.0/26', to: 'none' }];
    const leaves = (from: string, by = 'eth1') => packet(from, FAR, by, lost);
    const during: typeof desired = (...options) =>
      state === 'INVALID' ? desired(...options) : guarded(desired(...options));
    const seen = (from: string) => `eth0: ${FAR}:80 sees ${from}`;

    describe('leaves by no uplink where it would have been translated', () =>
      rows(during(FULL), [
        ['from a subnet', leaves(W), left],
        ['from a VM with an EIP', leaves(V), left],
        ['from behind a route', leaves(Z), left],
        // Its own may be an operator's, who must say `confirm`.
        [
          'from the router by an address inside',
          packet(SUBNET_A.ipaddr, FAR, undefined, lost),
          state === 'INVALID' ? left : seen(SUBNET_A.ipaddr),
        ],
      ]));
    describe('leaves as it is where it would have', () => {
      rows(during(FULL), [
        ['from the router', packet(U, FAR, undefined, lost), seen(U)],
        ['from nobody that is inside', leaves('10.9.9.9'), seen('10.9.9.9')],
        ['between subnets', packet(W, X, 'eth1', lost), `eth2: ${X}:80 sees ${W}`],
      ]);
      rows(during({ ...FULL, snats: [] }), [
        ['with an empty snat_list', leaves(W), seen(W)],
        ['with an empty snat_list, but not of a VM with an EIP', leaves(V), left],
      ]);
      for (const to of ['masquerade', { address: U }] as const)
        rows(during({ ...FULL, snats: [{ source: '0.0.0.0/0', to }] }), [
          ['from the router, which has that source already', packet(U, FAR, undefined, lost), seen(U)],
          ['but not from a subnet', leaves(W), left],
        ]);
      rows(during({ ...FULL, snats: none }), [
        ['with none', leaves(W), seen(W)],
        ['with none, but not of a VM with an EIP', leaves(V), left],
        ['with none, but not of another subnet', leaves(X, 'eth2'), left],
      ]);
      rows(during({ ...FULL, snats: [{ source: `${W}/32`, to: 'none' }] }), [
        ['with none of one address', leaves(W), seen(W)],
        ['with none of one address, but not of its neighbour', leaves('192.0.2.7'), left],
      ]);
    });
    rows(during({ ...FULL, nics: TWO_UPLINKS }), [
      ['leaves by no second uplink', packet(W, BY_SECOND, 'eth1', lost), left],
    ]);
    rows(during({ ...FULL, nics: TWO_UPLINKS, snats: [] }), [
      [
        'leaves by a second uplink, by which its EIP is not its source',
        packet(V, BY_SECOND, 'eth1', lost),
        `eth3: ${BY_SECOND}:80 sees ${V}`,
      ],
      ['leaves not by the first one, by which it is', leaves(V), left],
    ]);
    rows(during({ ...FULL, eips: [{ eip: V_EIP, vmIp: '10.9.9.9' }] }), [
      ['leaves by no uplink from a VM with an EIP that is in no subnet', leaves('10.9.9.9'), left],
    ]);
  });

it('of what goes on nothing is said where somebody may keep from being translated what cannot be told here', () => {
  const rules = (all: boolean) =>
    desired(FULL, {
      guarding: { policy: true, bridged: false, exemptions: { exempt: [], all }, elsewhere: [], exposed: [] },
    })
      .chains.flatMap(({ meanwhile = [] }) => meanwhile)
      .filter((rule) => rule.includes('--ctstatus'));
  assert.deepEqual([rules(true).length, rules(false)], [1, []]);
});

describe('from-uplink: drop', () => {
  const closed: Partial<Config> = { fromUplink: 'drop' };
  const dropped = 'dropped in FORWARD';
  rows(desired({ ...FULL, ...closed }), [
    ['keeps a neighbour from a VM', packet(OUT, W, 'eth0'), dropped],
    ['keeps a neighbour from a VM with an EIP by its private address', packet(OUT, V, 'eth0'), dropped],
    ['keeps a neighbour from behind a route', packet(OUT, Z, 'eth0'), dropped],
    ['lets him in to an EIP', packet(OUT, V_EIP, 'eth0'), `eth1: ${V}:80 sees ${OUT}`],
    ['lets answers in', packet(OUT, W, 'eth0', { state: 'ESTABLISHED' }), `eth1: ${W}:80 sees ${OUT}`],
    ['lets in what has an IPsec policy', packet(OUT, W, 'eth0', { policy: 'in' }), `eth1: ${W}:80 sees ${OUT}`],
    ['keeps out what conntrack cannot place', packet(OUT, W, 'eth0', { state: 'INVALID' }), dropped],
    ['leaves subnets as they are', packet(W, X, 'eth1'), `eth2: ${X}:80 sees ${W}`],
    ['lets subnets out', packet(W, FAR, 'eth1'), `eth0: ${FAR}:80 sees ${U}`],
  ]);
  rows(desired({ ...FULL, ...closed, nics: TWO_UPLINKS }), [
    ['keeps a neighbour of the second from a VM', packet(BY_SECOND, W, 'eth3'), dropped],
    ['keeps one uplink from the other', packet(BY_SECOND, FAR, 'eth3'), dropped],
    ['keeps the other from the one', packet(OUT, BY_SECOND, 'eth0'), dropped],
    ['lets in to an EIP by the second', packet(BY_SECOND, V_EIP, 'eth3'), `eth1: ${V}:80 sees ${BY_SECOND}`],
  ]);
  rows(desired({ ...FULL, ...closed }, { links: without('eth1') }), [
    ['keeps a neighbour from a subnet that is not there', packet(OUT, W, 'eth0'), dropped],
  ]);
  rows(desired(FULL), [['is not what is meant by default', packet(OUT, W, 'eth0'), `eth1: ${W}:80 sees ${OUT}`]]);
});

const BOUNCE = ['BOUNCE -m conntrack --ctstate SNAT,DNAT -j RETURN', 'BOUNCE -j DROP'];

describe('frames on the bridge of the uplink', () => {
  const nics = [BRIDGED, SUBNET_A, SUBNET_B];
  const state = (bridged: boolean, change: Partial<Config> = {}, links: readonly ObservedLink[] = LINKS) =>
    desired(
      { ...FULL, nics, ...change },
      {
        links,
        guarding: { policy: false, bridged, exemptions: { exempt: [], all: true }, elsewhere: [], exposed: [] },
      },
    );
  const frame = packet(OUT, OUT2, 'br-ex', { bridged: true });
  const seen = `br-ex: ${OUT2}:80 sees ${OUT}`;

  rows(state(true), [
    ['pass where br_netfilter shows them', frame, seen],
    ['pass, what is routed does not go back', packet(OUT, NOBODY, 'br-ex'), 'dropped in FORWARD'],
  ]);
  rows(state(false), [
    ['pass where they cannot be told: nothing is said of that uplink', frame, seen],
    [
      'pass where they cannot be told, and so does what is routed',
      packet(OUT, NOBODY, 'br-ex'),
      `br-ex: ${NOBODY}:80 sees ${OUT}`,
    ],
  ]);
  rows(state(true, { fromUplink: 'drop' }), [
    ['pass with from-uplink: drop', frame, seen],
    ['pass with from-uplink: drop, a neighbour does not', packet(OUT, W, 'br-ex'), 'dropped in FORWARD'],
  ]);

  it('of Open vSwitch do not come by', () => {
    const ovs = { ...UPLINK, bridge: { name: 'br-ex', type: 'ovs' as const } };
    assert.deepEqual(rulesOf(state(false, { nics: [ovs, SUBNET_A, SUBNET_B] }), 'GUARD', 'BOUNCE'), [
      'GUARD -i br-ex -o br-ex -j KYLIN-VR-BOUNCE',
      ...BOUNCE,
    ]);
  });

  it('are nothing to a second uplink without a bridge', () => {
    assert.deepEqual(rulesOf(state(false, { nics: [BRIDGED, SECOND_UPLINK, SUBNET_A] }), 'GUARD', 'BOUNCE'), [
      'GUARD -i eth3 -o eth3 -j KYLIN-VR-BOUNCE',
      ...BOUNCE,
    ]);
  });
});

describe('the guard', () => {
  it('speaks of IPsec only where the packet filter can', () => {
    const policies = (policy: boolean) =>
      desired(
        { ...FULL, fromUplink: 'drop' },
        { guarding: { policy, bridged: false, exemptions: { exempt: [], all: true }, elsewhere: [], exposed: [] } },
      )
        .chains.flatMap(({ rules }) => rules)
        .filter((rule) => rule.includes('policy'));
    assert.deepEqual(
      [policies(false), policies(true)],
      [
        [],
        [
          '-m policy --dir in --pol ipsec -j RETURN',
          '-m policy --dir out --pol ipsec -j RETURN',
          '-m policy --dir in --pol ipsec -j RETURN',
          '-m policy --dir out --pol ipsec -j RETURN',
        ],
      ],
    );
  });

  it('speaks of bridges only where the uplink is on one of the kernel, and it can', () => {
    const bridges = (nics: Config['nics'], bridged: boolean) =>
      desired(
        { ...FULL, nics, fromUplink: 'drop' },
        { guarding: { policy: false, bridged, exemptions: { exempt: [], all: true }, elsewhere: [], exposed: [] } },
      )
        .chains.flatMap(({ rules }) => rules)
        .filter((rule) => rule.includes('physdev'));
    const rule = '-m physdev --physdev-is-bridged -j RETURN';
    assert.deepEqual(
      [bridges([BRIDGED, SUBNET_A], true), bridges([BRIDGED, SUBNET_A], false), bridges([UPLINK, SUBNET_A], false)],
      [[rule, rule, rule], [], []],
    );
  });

  it('stands in mangle, and there is none without an uplink', () => {
    const jumps = (state: NetworkState) =>
      state.jumps.map(({ table, hook, rule, place }) => `${table} ${hook} ${rule} ${place}`);
    assert.deepEqual(
      jumps(desired(FULL)).filter((jump) => /GUARD|LEAVING/.test(jump)),
      ['mangle FORWARD -j KYLIN-VR-GUARD anywhere', 'mangle POSTROUTING -j KYLIN-VR-LEAVING anywhere'],
    );
    assert.deepEqual(jumps(desired({ ...FULL, nics: [SUBNET_A, SUBNET_B] })), [
      'filter FORWARD -j KYLIN-VR-FORWARD last',
    ]);
  });
});

/** As long as a change is made. */
function guarded(state: NetworkState): NetworkState {
  return {
    ...state,
    chains: state.chains.map(({ meanwhile = [], ...chain }) => ({ ...chain, rules: [...chain.rules, ...meanwhile] })),
  };
}
