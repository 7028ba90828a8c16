// The traffic table: who sends to whom, and what the other side sees.

import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import type { Config } from '../../src/config/config.ts';
import type { ObservedLink } from '../../src/network/nics.ts';
import { config, desired, forward, LINKS, SECOND_UPLINK, SUBNET_A, SUBNET_B, UPLINK, without } from './fixtures.ts';
import { type Packet, type Surroundings, trace } from './packet-trace.ts';

const U = UPLINK.ipaddr;
const OUT = '203.0.113.200';
const FAR = '198.18.0.9';
/** v and w in subnet A, x and y in subnet B; w and y have no EIP. */
const [V, W, X, Y] = ['192.0.2.5', '192.0.2.6', '192.0.2.70', '192.0.2.71'];
const [V_EIP, X_EIP, PORTS_EIP] = ['198.51.100.5', '198.51.100.70', '198.51.100.80'];
const IN: Readonly<Record<string, string>> = {
  [OUT]: 'eth0',
  [FAR]: 'eth0',
  [V]: 'eth1',
  [W]: 'eth1',
  [X]: 'eth2',
  [Y]: 'eth2',
};

const FULL = config({
  eips: [
    { eip: V_EIP, vmIp: V },
    { eip: X_EIP, vmIp: X },
  ],
  forwards: [
    `tcp ${PORTS_EIP}:80-82 → ${Y}:8080`,
    `tcp ${PORTS_EIP}:443 → ${W}:443`,
    `udp ${PORTS_EIP}:53 → ${W}:5353`,
    `udp ${PORTS_EIP}:6000-6002 → ${W}:6000`,
    `tcp ${U}:8443 → ${W}:443`,
  ].map(forward),
});

/** `OUT → 198.51.100.5:80/tcp`; a sender that is not known is the router itself. */
function sent(text: string): Packet {
  const [from = '', to = ''] = text.split(' → ');
  const [, address = '', port, protocol] = /^([\d.]+)(?::(\d+)\/(tcp|udp))?$/.exec(to) ?? assert.fail(text);
  const device = IN[from];
  return {
    from,
    to: address,
    protocol: protocol === undefined ? 'icmp' : protocol === 'udp' ? 'udp' : 'tcp',
    ...(port !== undefined && { port: Number(port) }),
    ...(device !== undefined && { in: device }),
  };
}

type Row = [promise: string, packet: string, fate: string];
type RowOptions = { around?: Surroundings; links?: readonly ObservedLink[] };

function rows(wanted: Config, list: readonly Row[], { around = {}, links = LINKS }: RowOptions = {}): void {
  const state = desired(wanted, { links });
  for (const [promise, packet, fate] of list)
    it(`${promise}: ${packet}`, () => {
      assert.equal(trace(state, sent(packet), around), fate);
    });
}

describe('EIPs', () => {
  rows(FULL, [
    ['reach their VM from outside, source kept', `${OUT} → ${V_EIP}:22/tcp`, `eth1: ${V}:22 sees ${OUT}`],
    ['reach it from beyond the gateway', `${FAR} → ${V_EIP}:9/udp`, `eth1: ${V}:9 sees ${FAR}`],
    ['answer ping by the VM', `${OUT} → ${V_EIP}`, `eth1: ${V} sees ${OUT}`],
    ['are the source of their VM', `${V} → ${FAR}:443/tcp`, `eth0: ${FAR}:443 sees ${V_EIP}`],
    ['are reached from the same subnet without an EIP', `${W} → ${V_EIP}:22/tcp`, `eth1: ${V}:22 sees ${U}`],
    ['are reached from another subnet without an EIP', `${Y} → ${V_EIP}:22/tcp`, `eth1: ${V}:22 sees ${U}`],
    ['are reached from another VM with an EIP, by that', `${X} → ${V_EIP}:22/tcp`, `eth1: ${V}:22 sees ${X_EIP}`],
    ['are reached from their own VM', `${V} → ${V_EIP}:22/tcp`, `eth1: ${V}:22 sees ${V_EIP}`],
    ['are reached from the router itself', `${U} → ${V_EIP}:22/tcp`, `eth1: ${V}:22 sees ${U}`],
    [
      'are reached from the router itself where its source would be that EIP',
      `${V_EIP} → ${V_EIP}:22/tcp`,
      `eth1: ${V}:22 sees ${U}`,
    ],
  ]);
});

describe('source addresses without an EIP', () => {
  rows(FULL, [
    ['are the uplink towards outside', `${W} → ${FAR}:443/tcp`, `eth0: ${FAR}:443 sees ${U}`],
    ['are the uplink towards its own network', `${Y} → ${OUT}`, `eth0: ${OUT} sees ${U}`],
    ['are kept between subnets', `${W} → ${Y}:22/tcp`, `eth2: ${Y}:22 sees ${W}`],
    ['are kept between subnets, with an EIP too', `${V} → ${X}:22/tcp`, `eth2: ${X}:22 sees ${V}`],
    ['of the router itself are kept', `${U} → ${FAR}:443/tcp`, `eth0: ${FAR}:443 sees ${U}`],
  ]);
});

describe('forwards', () => {
  rows(FULL, [
    ['reach their VM from outside, source kept', `${OUT} → ${PORTS_EIP}:443/tcp`, `eth1: ${W}:443 sees ${OUT}`],
    ['lead a range port by port', `${OUT} → ${PORTS_EIP}:82/tcp`, `eth2: ${Y}:8082 sees ${OUT}`],
    ['keep the ports of a range that does not move', `${OUT} → ${PORTS_EIP}:6001/udp`, `eth1: ${W}:6001 sees ${OUT}`],
    ['tell UDP from TCP', `${OUT} → ${PORTS_EIP}:53/udp`, `eth1: ${W}:5353 sees ${OUT}`],
    ['are reached from another subnet', `${Y} → ${PORTS_EIP}:443/tcp`, `eth1: ${W}:443 sees ${U}`],
    ['are reached from the same subnet', `${W} → ${PORTS_EIP}:443/tcp`, `eth1: ${W}:443 sees ${U}`],
    ['are reached from a VM with an EIP, by that', `${V} → ${PORTS_EIP}:443/tcp`, `eth1: ${W}:443 sees ${V_EIP}`],
    ['are reached from the router itself', `${U} → ${PORTS_EIP}:80/tcp`, `eth2: ${Y}:8080 sees ${U}`],
    ["are reached on the uplink's own address", `${OUT} → ${U}:8443/tcp`, `eth1: ${W}:443 sees ${OUT}`],
  ]);
});

describe('the router itself', () => {
  rows(FULL, [
    ['is closed on a forward-only EIP, from outside', `${OUT} → ${PORTS_EIP}:22/tcp`, 'dropped in INPUT'],
    ['is closed there beside a range', `${OUT} → ${PORTS_EIP}:83/tcp`, 'dropped in INPUT'],
    ['is closed there for the other protocol', `${OUT} → ${PORTS_EIP}:443/udp`, 'dropped in INPUT'],
    ['is closed there from inside', `${W} → ${PORTS_EIP}:22/tcp`, 'dropped in INPUT'],
    ['answers ping there', `${OUT} → ${PORTS_EIP}`, `the router: ${PORTS_EIP} sees ${OUT}`],
    ['keeps its services on its own address', `${OUT} → ${U}:22/tcp`, `the router: ${U}:22 sees ${OUT}`],
    [
      'keeps its services on a subnet',
      `${W} → ${SUBNET_A.ipaddr}:22/tcp`,
      `the router: ${SUBNET_A.ipaddr}:22 sees ${W}`,
    ],
    [
      'reaches itself on a forward-only EIP',
      `${PORTS_EIP} → ${PORTS_EIP}:22/tcp`,
      `the router: ${PORTS_EIP}:22 sees ${PORTS_EIP}`,
    ],
  ]);

  const state = desired(FULL);
  const toEip = sent(`${OUT} → ${PORTS_EIP}:22/tcp`);
  it('stays closed on an EIP where a foreign rule lets ssh in', () => {
    const around = { INPUT: ['-p tcp -m tcp --dport 22 -j ACCEPT'] };
    assert.equal(trace(state, toEip, around), 'dropped in INPUT');
  });
  it('gets the replies to its own traffic on an EIP', () => {
    assert.equal(trace(state, { ...toEip, state: 'ESTABLISHED' }), `the router: ${PORTS_EIP}:22 sees ${OUT}`);
  });
  it('does not answer a packet of no known connection on a 1:1 EIP: its reset would end one of the VM', () => {
    assert.equal(trace(state, { ...sent(`${OUT} → ${V_EIP}:22/tcp`), state: 'INVALID' }), 'dropped in INPUT');
  });
});

describe('FORWARD with policy DROP', () => {
  const between: Row[] = [
    ['lets outside in to an EIP', `${OUT} → ${V_EIP}:22/tcp`, `eth1: ${V}:22 sees ${OUT}`],
    ['lets subnets out', `${W} → ${FAR}:443/tcp`, `eth0: ${FAR}:443 sees ${U}`],
    ['lets subnets to each other', `${W} → ${Y}:22/tcp`, `eth2: ${Y}:22 sees ${W}`],
  ];
  rows(FULL, between, { around: { forwardPolicy: 'DROP' } });

  const state = desired(FULL);
  it('lets nothing in from a NIC that is not of the configuration', () => {
    const stranger: Packet = { from: '198.18.7.7', to: W, protocol: 'tcp', port: 22, in: 'docker0' };
    assert.equal(trace(state, stranger, { forwardPolicy: 'DROP' }), 'dropped in FORWARD');
  });
  it('lets a foreign rule block all the same', () => {
    const around: Surroundings = { FORWARD: [`-s ${W}/32 -j DROP`], forwardPolicy: 'DROP' };
    assert.equal(trace(state, sent(`${W} → ${Y}:22/tcp`), around), 'dropped in FORWARD');
  });
});

describe('two that claim the same', () => {
  const twoEips = config({
    eips: [
      { eip: '198.51.100.9', vmIp: V },
      { eip: '198.51.100.8', vmIp: V },
    ],
  });
  rows(twoEips, [
    ['the first EIP of a VM reaches it', `${OUT} → 198.51.100.9:80/tcp`, `eth1: ${V}:80 sees ${OUT}`],
    ['the second EIP of a VM reaches it', `${OUT} → 198.51.100.8:80/tcp`, `eth1: ${V}:80 sees ${OUT}`],
    ['the first EIP of a VM is its source', `${V} → ${FAR}:80/tcp`, `eth0: ${FAR}:80 sees 198.51.100.9`],
  ]);
  rows(config({ eips: FULL.eips, forwards: [forward(`tcp ${V_EIP}:80 → ${Y}:8080`)] }), [
    ['1:1 wins over a forward on the same EIP', `${OUT} → ${V_EIP}:80/tcp`, `eth1: ${V}:80 sees ${OUT}`],
  ]);
});

describe('several uplinks, none, or one that is not there', () => {
  const nics = [SUBNET_A, UPLINK, SECOND_UPLINK, SUBNET_B];
  rows({ ...FULL, nics }, [
    ['the first with a gateway is the uplink', `${W} → ${FAR}:80/tcp`, `eth0: ${FAR}:80 sees ${U}`],
    [
      'what leaves by the second has the address of that',
      `${W} → 192.0.2.150:80/tcp`,
      'eth3: 192.0.2.150:80 sees address of eth3',
    ],
    [
      'a VM with an EIP has it by the uplink only',
      `${V} → 192.0.2.150:80/tcp`,
      'eth3: 192.0.2.150:80 sees address of eth3',
    ],
    [
      'the second is no subnet: what comes from it keeps its source',
      `192.0.2.150 → ${FAR}:80/tcp`,
      `eth0: ${FAR}:80 sees 192.0.2.150`,
    ],
  ]);
  rows({ ...FULL, nics: [SUBNET_A, SUBNET_B] }, [
    ['without an uplink subnets reach each other', `${W} → ${Y}:22/tcp`, `eth2: ${Y}:22 sees ${W}`],
    ['without an uplink EIPs are nowhere', `${W} → ${V_EIP}:22/tcp`, 'no route'],
  ]);
  rows(
    { ...FULL, nics },
    [
      ['while the uplink is not there subnets reach each other', `${W} → ${Y}:22/tcp`, `eth2: ${Y}:22 sees ${W}`],
      [
        'while the uplink is not there the second stands in, with its address',
        `${W} → ${FAR}:80/tcp`,
        `eth3: ${FAR}:80 sees address of eth3`,
      ],
      [
        'while the uplink is not there no EIP is reached',
        `${Y} → ${V_EIP}:22/tcp`,
        `eth3: ${V_EIP}:22 sees address of eth3`,
      ],
    ],
    { links: without('eth0') },
  );
});
