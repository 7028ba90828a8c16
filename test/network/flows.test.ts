// Entries of conntrack held against a configuration: which would be translated otherwise by it, and which are none of its business.

import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { parseCidr } from '../../src/base/ipv4.ts';
import type { Config, Snat } from '../../src/config/config.ts';
import { deleteFlowOptions } from '../../src/dialects/conntrack.ts';
import { readForeignNat } from '../../src/engines/foreign-nat.ts';
import type { Flow } from '../../src/network/flow.ts';
import { type FlowModel, hasMapping, judgeOf } from '../../src/network/flows.ts';
import { config, forward, SECOND_UPLINK, SUBNET_A, SUBNET_B, UPLINK, without } from './fixtures.ts';
import { flow, modelOf, ONLY_OURS } from './flowing.ts';

const U = UPLINK.ipaddr;
const SECOND = SECOND_UPLINK.ipaddr;
const [OUT, FAR, BY_SECOND] = ['203.0.113.200', '198.18.0.9', '192.0.2.150'];
/** v and w in subnet A, x and y in subnet B, z behind a route through A. */
const [V, W, X, Y, Z] = ['192.0.2.5', '192.0.2.6', '192.0.2.70', '192.0.2.71', '198.18.5.7'];
const [V_EIP, X_EIP, PORTS, SNAT] = ['198.51.100.5', '198.51.100.70', '198.51.100.80', '198.51.100.90'];
const [A, B] = ['192.0.2.0/26', '192.0.2.64/26'];

const FULL = config({
  eips: [
    { eip: V_EIP, vmIp: V },
    { eip: X_EIP, vmIp: X },
  ],
  forwards: [
    `tcp ${PORTS}:443 → ${W}:443`,
    `tcp ${PORTS}:80-82 → ${Y}:8080`,
    `udp ${PORTS}:6000-6002 → ${W}:6000`,
    `tcp ${U}:8443 → ${W}:443`,
    `udp ${PORTS}:53 → ${Z}:5353`,
  ].map(forward),
  routes: [{ dest: '198.18.5.0/24', via: '192.0.2.9' }],
});

/** `stays`, or what is stale of it. */
function judged(model: FlowModel, of: Flow): string {
  const judgement = judgeOf(model, readForeignNat)(of);
  if (judgement === undefined) return 'stays';
  return `${judgement.of}: ${judgement.wrong}${judgement.spared ? ', but spared' : ''}`;
}

type Row = [what: string, text: string, fate: string, more?: Partial<Flow>];

function rows(model: FlowModel, list: readonly Row[]): void {
  for (const [what, text, fate, more] of list)
    it(`${what}: ${text}`, () => {
      assert.equal(judged(model, flow(text, more)), fate);
    });
}

const network = (cidr: string) => parseCidr(cidr) ?? assert.fail(cidr);
const worldOf = (addresses: string[], cidrs: string[]) => ({ addresses, networks: cidrs.map(network) });

describe('a flow to an EIP', () => {
  const stale = `${V_EIP}: destination`;
  rows(modelOf(FULL), [
    ['that its VM has stays', `tcp ${OUT} → ${V_EIP}:80 ⇒ ${V}:80`, 'stays'],
    ['that another VM has is stale', `tcp ${OUT} → ${V_EIP}:80 ⇒ ${W}:80`, stale],
    ['at another port of its VM is stale', `tcp ${OUT} → ${V_EIP}:80 ⇒ ${V}:8080`, stale],
    ['from before it came is stale', `tcp ${OUT} → ${V_EIP}:80`, stale],
    ['from before it came is stale', `udp ${FAR} → ${V_EIP}:9`, stale],
    ['of its VM from inside stays', `udp ${W} → ${V_EIP}:9 ⇒ ${V}:9 sees ${U}`, 'stays'],
    ['of its VM from the router stays', `udp ${U} → ${V_EIP}:9 ⇒ ${V}:9 sees ${U}`, 'stays'],
    ['of its VM from itself stays', `udp ${V} → ${V_EIP}:9 ⇒ ${V}:9 sees ${V_EIP}`, 'stays'],
    ['from a VM with an EIP stays by that', `udp ${X} → ${V_EIP}:9 ⇒ ${V}:9 sees ${X_EIP}`, 'stays'],
    ['from a VM with an EIP by the uplink is stale', `udp ${X} → ${V_EIP}:9 ⇒ ${V}:9 sees ${U}`, `${U}: source`],
    ['from inside as itself is stale', `udp ${W} → ${V_EIP}:9 ⇒ ${V}:9`, `${A}: source`],
    ['from inside from before it came is stale', `udp ${W} → ${V_EIP}:9`, stale],
    ['from inside that went out before it came is stale', `udp ${W} → ${V_EIP}:9 sees ${U}`, stale],
    ['from behind a route stays by the uplink', `udp ${Z} → ${V_EIP}:9 ⇒ ${V}:9 sees ${U}`, 'stays'],
    ['from behind a route as itself is stale', `udp ${Z} → ${V_EIP}:9 ⇒ ${V}:9`, '198.18.5.0/24: source'],
    ["from outside with another source is somebody else's", `udp ${OUT} → ${V_EIP}:9 ⇒ ${V}:9 sees ${U}`, 'stays'],
  ]);

  rows(modelOf(FULL, { former: worldOf(['203.0.113.11'], []) }), [
    ['from the router by an EIP stays by the uplink', `udp ${PORTS} → ${V_EIP}:9 ⇒ ${V}:9 sees ${U}`, 'stays'],
    ['from the router by an EIP as that is stale', `udp ${PORTS} → ${V_EIP}:9 ⇒ ${V}:9`, `${PORTS}: source`],
    [
      'from the router by what was the uplink is stale',
      `udp ${U} → ${V_EIP}:9 ⇒ ${V}:9 sees 203.0.113.11`,
      '203.0.113.11: source',
    ],
  ]);
  rows(modelOf({ ...FULL, eips: [{ eip: V_EIP, vmIp: OUT }], snats: [] }), [
    [
      'that leads out by the uplink is one from inside as the uplink',
      `tcp ${W} → ${V_EIP}:80 ⇒ ${OUT}:80 sees ${U}`,
      'stays',
    ],
    [
      'that leads out by the uplink, from inside as itself, is stale',
      `tcp ${W} → ${V_EIP}:80 ⇒ ${OUT}:80`,
      `${A}: source`,
    ],
    ['that leads out by the uplink keeps its source from there', `tcp ${FAR} → ${V_EIP}:80 ⇒ ${OUT}:80`, 'stays'],
  ]);
  rows(modelOf({ ...FULL, eips: [{ eip: V_EIP, vmIp: SUBNET_A.ipaddr }] }), [
    ['that leads to the router keeps its source', `tcp ${W} → ${V_EIP}:80 ⇒ ${SUBNET_A.ipaddr}:80`, 'stays'],
  ]);

  for (const protocol of ['icmp', 'gre', 'unknown'])
    rows(modelOf(FULL), [
      ['of whatever protocol stays', `${protocol} ${OUT} → ${V_EIP} ⇒ ${V}`, 'stays'],
      ['of whatever protocol from before it came is stale', `${protocol} ${OUT} → ${V_EIP}`, stale],
      ['of whatever protocol that another VM has is stale', `${protocol} ${OUT} → ${V_EIP} ⇒ ${W}`, stale],
    ]);
  rows(modelOf(FULL), [
    ['of whatever protocol stays', `sctp ${OUT} → ${V_EIP}:36412 ⇒ ${V}:36412`, 'stays'],
    ['of whatever protocol from before it came is stale', `sctp ${OUT} → ${V_EIP}:36412`, stale],
  ]);
});

describe('a flow to a forward', () => {
  const stale = `${PORTS}: destination`;
  rows(modelOf(FULL), [
    ['that its VM has stays', `tcp ${OUT} → ${PORTS}:443 ⇒ ${W}:443`, 'stays'],
    ['that another VM has is stale', `tcp ${OUT} → ${PORTS}:443 ⇒ ${V}:443`, stale],
    ['at another port of its VM is stale', `tcp ${OUT} → ${PORTS}:443 ⇒ ${W}:8443`, stale],
    ['from before it came is stale', `tcp ${OUT} → ${PORTS}:443`, stale],
    ['of the other protocol stays', `udp ${OUT} → ${PORTS}:443`, 'stays'],
    ['of no ports stays with the router', `icmp ${OUT} → ${PORTS}`, 'stays'],
    ['at the first port of a range that moves stays', `tcp ${OUT} → ${PORTS}:80 ⇒ ${Y}:8080`, 'stays'],
    ['at the last port of a range that moves stays', `tcp ${OUT} → ${PORTS}:82 ⇒ ${Y}:8082`, 'stays'],
    ['at a port of the range that led elsewhere is stale', `tcp ${OUT} → ${PORTS}:81 ⇒ ${Y}:8080`, stale],
    ['at a port of the range as it is is stale', `tcp ${OUT} → ${PORTS}:82 ⇒ ${Y}:82`, stale],
    ['beside the range is not led any more', `tcp ${OUT} → ${PORTS}:83 ⇒ ${Y}:8083`, stale],
    ['before the range is not led any more', `tcp ${OUT} → ${PORTS}:79 ⇒ ${Y}:8079`, stale],
    ['in a range that stays as it is stays', `udp ${OUT} → ${PORTS}:6002 ⇒ ${W}:6002`, 'stays'],
    ["on the uplink's own address stays", `tcp ${OUT} → ${U}:8443 ⇒ ${W}:443`, 'stays'],
    ["on the uplink's own address from before it came", `tcp ${OUT} → ${U}:8443`, `${U}: destination`],
    ['to a host behind a route stays', `udp ${OUT} → ${PORTS}:53 ⇒ ${Z}:5353`, 'stays'],
    ['from inside stays by the uplink', `tcp ${Y} → ${PORTS}:443 ⇒ ${W}:443 sees ${U}`, 'stays'],
    ['from inside as itself is stale', `tcp ${Y} → ${PORTS}:443 ⇒ ${W}:443`, `${B}: source`],
    ['from inside from before it came is stale', `tcp ${Y} → ${PORTS}:443`, stale],
  ]);

  rows(modelOf(config({ eips: FULL.eips, forwards: [forward(`tcp ${V_EIP}:80 → ${Y}:8080`)] })), [
    ['where 1:1 wins is stale', `tcp ${OUT} → ${V_EIP}:80 ⇒ ${Y}:8080`, `${V_EIP}: destination`],
  ]);

  const many = Array.from({ length: 100 }, (_, n) => forward(`udp ${PORTS}:${1000 + 10 * n} → ${W}:${n + 1}`));
  rows(modelOf(config({ forwards: many.toReversed() })), [
    ['one of many stays', `udp ${OUT} → ${PORTS}:1990 ⇒ ${W}:100`, 'stays'],
    ['one of many at the port of its neighbour is stale', `udp ${OUT} → ${PORTS}:1980 ⇒ ${W}:100`, stale],
    ['between many stays', `udp ${OUT} → ${PORTS}:1985`, 'stays'],
  ]);
});

describe('a flow that leaves by the uplink', () => {
  const left = (snats: Snat[] | undefined) => modelOf({ ...FULL, snats });
  const of = (source: string, to: Snat['to']): Snat => ({ source, to });

  describe('with the default', () =>
    rows(left(undefined), [
      ['as the uplink stays', `udp ${W} → ${FAR}:53 sees ${U}`, 'stays'],
      ['as itself is stale', `udp ${W} → ${FAR}:53`, `${A}: source`],
      ['as what it was before is stale', `udp ${W} → ${FAR}:53 sees ${PORTS}`, `${PORTS}: source`],
      ['with an EIP of its own stays by that', `tcp ${V} → ${FAR}:443 sees ${V_EIP}`, 'stays'],
      ['with an EIP of its own by the uplink is stale', `tcp ${V} → ${FAR}:443 sees ${U}`, `${U}: source`],
      ['with an EIP of its own as itself is stale', `icmp ${V} → ${FAR}`, `${A}: source`],
      ['with the EIP of another is stale', `gre ${W} → ${FAR} sees ${V_EIP}`, `${V_EIP}: source`],
      ['from behind a route as the uplink stays', `sctp ${Z} → ${FAR}:7 sees ${U}`, 'stays'],
      ['from behind a route as itself is stale', `udp ${Z} → ${FAR}:53`, '198.18.5.0/24: source'],
      ["to the uplink's own network as itself is stale", `udp ${W} → ${OUT}:53`, `${A}: source`],
      ['of the router itself stays', `udp ${U} → ${FAR}:123`, 'stays'],
      ['of the router itself by an EIP stays', `udp ${V_EIP} → ${FAR}:123`, 'stays'],
      ['that somebody has given an address of his own stays', `udp ${W} → ${FAR}:53 sees 203.0.113.77`, 'stays'],
      ['of nobody that is inside stays', `udp 10.9.9.9 → ${FAR}:53`, 'stays'],
      ['of nobody that is inside, as the uplink, stays', `udp 10.9.9.9 → ${FAR}:53 sees ${U}`, 'stays'],
    ]));

  describe('with an address in snat_list', () =>
    rows(left([of(A, { address: SNAT })]), [
      ['as that stays', `udp ${W} → ${FAR}:53 sees ${SNAT}`, 'stays'],
      ['as the uplink is stale', `udp ${W} → ${FAR}:53 sees ${U}`, `${U}: source`],
      ['as itself is stale', `udp ${W} → ${FAR}:53`, `${A}: source`],
      ['from behind a route through it as that stays', `udp ${Z} → ${FAR}:53 sees ${SNAT}`, 'stays'],
      ['from behind a route through it as the uplink is stale', `udp ${Z} → ${FAR}:53 sees ${U}`, `${U}: source`],
      ['of a VM with an EIP as that is stale', `udp ${V} → ${FAR}:53 sees ${SNAT}`, `${SNAT}: source`],
      ['from another subnet as the uplink stays', `udp ${Y} → ${FAR}:53 sees ${U}`, 'stays'],
    ]));

  describe('with masquerade', () =>
    rows(left([of(A, 'masquerade')]), [
      ['as the uplink stays', `udp ${W} → ${FAR}:53 sees ${U}`, 'stays'],
      ['as an EIP is stale', `udp ${W} → ${FAR}:53 sees ${PORTS}`, `${PORTS}: source`],
      ['as itself is stale', `udp ${W} → ${FAR}:53`, `${A}: source`],
    ]));
  rows(
    modelOf({ ...FULL, snats: [of(A, 'masquerade')] }, { addresses: [{ device: 'eth0', address: '203.0.113.77' }] }),
    [['by masquerade, as another address that it may take, stays', `udp ${W} → ${FAR}:53 sees 203.0.113.77`, 'stays']],
  );

  for (const [name, model] of [
    ['none', left([of(A, 'none')])],
    ['an empty snat_list', left([])],
  ] as const)
    describe(`with ${name}`, () =>
      rows(model, [
        ['as itself stays', `udp ${W} → ${FAR}:53`, 'stays'],
        ['as the uplink is stale', `udp ${W} → ${FAR}:53 sees ${U}`, `${U}: source`],
        ['with an EIP of its own stays by that', `udp ${V} → ${FAR}:53 sees ${V_EIP}`, 'stays'],
        ['with an EIP of its own as itself is stale', `udp ${V} → ${FAR}:53`, `${A}: source`],
        ['from behind a route as itself stays', `udp ${Z} → ${FAR}:53`, 'stays'],
      ]));

  rows(left([of('0.0.0.0/0', { address: SNAT })]), [
    [
      'of nobody that is inside, where everything is translated, stays',
      `udp 10.9.9.9 → ${FAR}:53 sees ${SNAT}`,
      'stays',
    ],
    ['of nobody that is inside, as itself, is stale then', `udp 10.9.9.9 → ${FAR}:53`, '0.0.0.0/0: source'],
  ]);

  const twoEips = [V_EIP, X_EIP].map((eip) => ({ eip, vmIp: V }));
  rows(modelOf(config({ eips: twoEips })), [
    ['of a VM with two EIPs stays by the first', `udp ${V} → ${FAR}:53 sees ${V_EIP}`, 'stays'],
    ['of a VM with two EIPs by the second is stale', `udp ${V} → ${FAR}:53 sees ${X_EIP}`, `${X_EIP}: source`],
    ['to a VM with two EIPs by the second stays', `udp ${OUT} → ${X_EIP}:53 ⇒ ${V}:53`, 'stays'],
  ]);
});

describe('a flow that does not leave by an uplink', () => {
  rows(modelOf(FULL), [
    ['between subnets stays as it is', `tcp ${W} → ${Y}:22`, 'stays'],
    ['between subnets with EIPs stays as it is', `tcp ${V} → ${X}:22`, 'stays'],
    ['between subnets that left by the uplink once is stale', `udp ${W} → ${Y}:9 sees ${U}`, `${U}: source`],
    ['to a host behind a route stays as it is', `udp ${W} → ${Z}:9`, 'stays'],
    ['from the uplink to a VM by its private address stays', `tcp ${OUT} → ${V}:22`, 'stays'],
    ['to the router stays', `tcp ${W} → ${SUBNET_A.ipaddr}:53`, 'stays'],
    ['to an EIP that is not in the file stays', `udp ${OUT} → 198.51.100.77:9`, 'stays'],
  ]);
});

describe('a flow by a second uplink', () => {
  const nics = [UPLINK, SECOND_UPLINK, SUBNET_A, SUBNET_B];
  rows(modelOf({ ...FULL, nics }), [
    ['as its address stays', `udp ${W} → ${BY_SECOND}:53 sees ${SECOND}`, 'stays'],
    ['as itself is stale', `udp ${W} → ${BY_SECOND}:53`, `${A}: source`],
    ['as the first is stale', `udp ${W} → ${BY_SECOND}:53 sees ${U}`, `${U}: source`],
    ['of a VM with an EIP stays by its address', `udp ${V} → ${BY_SECOND}:53 sees ${SECOND}`, 'stays'],
    ['of a VM with an EIP by that is stale', `udp ${V} → ${BY_SECOND}:53 sees ${V_EIP}`, `${V_EIP}: source`],
    ['that leads beyond the first is stale', `udp ${W} → ${FAR}:53 sees ${SECOND}`, `${SECOND}: source`],
  ]);
  rows(modelOf({ ...FULL, nics }, { links: without('eth0') }), [
    ['that stands in stays', `udp ${W} → ${FAR}:53 sees ${SECOND}`, 'stays'],
    ['that stands in as itself is stale', `udp ${W} → ${FAR}:53`, `${A}: source`],
  ]);
  rows(modelOf({ ...FULL, nics, snats: [] }), [
    ['with nothing translated stays', `udp ${W} → ${BY_SECOND}:53`, 'stays'],
  ]);
  rows(modelOf({ ...FULL, nics }, { mode: 'as in 1.0' }), [
    ['as in 1.0 stays as itself', `udp ${W} → ${BY_SECOND}:53`, 'stays'],
    ['from behind a route as in 1.0 stays as itself', `udp ${Z} → ${FAR}:53`, 'stays'],
  ]);
});

describe('the router by which it leaves now', () => {
  const wanted = config({ nics: [UPLINK, SUBNET_A, SUBNET_B] });
  const way = (cidr: string, device: string | undefined, metric = 0) => ({
    network: network(cidr),
    ...(device !== undefined && { device }),
    metric,
  });
  rows(modelOf(wanted, { ways: [way('198.18.0.0/16', 'wg0')] }), [
    ['is that of the longest prefix', `udp ${W} → ${FAR}:53`, 'stays'],
    [
      'is that of the longest prefix, so that it would keep its source',
      `udp ${W} → ${FAR}:53 sees ${U}`,
      `${U}: source`,
    ],
    ['is not that of another network', `udp ${W} → 198.19.0.9:53`, `${A}: source`],
  ]);
  rows(modelOf(wanted, { ways: [way('198.18.0.0/16', 'wg0', 10), way('198.18.0.0/16', 'eth0', 9)] }), [
    ['is among equals that of the lowest metric', `udp ${W} → ${FAR}:53`, `${A}: source`],
  ]);
  rows(modelOf(wanted, { ways: [way('198.18.0.0/16', undefined)] }), [
    ['is not known where there are several: left alone', `udp ${W} → ${FAR}:53`, 'stays'],
  ]);
  rows(modelOf(config({ nics: [UPLINK, SUBNET_A] }), { links: without('eth0'), former: worldOf([U], [A]) }), [
    ['is none: left alone', `udp ${W} → ${FAR}:53`, 'stays'],
    ['is none, and the address that it has gone', `udp ${W} → ${FAR}:53 sees ${U}`, `${U}: source`],
  ]);
});

describe('a flow of what was ours', () => {
  const former = worldOf([V_EIP, U, SNAT], [A, B, '10.7.0.9/32']);
  const wanted = config({ nics: [UPLINK, SUBNET_A] });
  rows(modelOf(wanted, { former }), [
    ['to an EIP that has gone is stale', `tcp ${OUT} → ${V_EIP}:80 ⇒ ${V}:80`, `${V_EIP}: destination`],
    [
      'to an EIP of a VM that was in no subnet is stale',
      `tcp ${OUT} → ${V_EIP}:80 ⇒ 10.7.0.9:80`,
      `${V_EIP}: destination`,
    ],
    ['by an EIP that has gone is stale', `udp ${V} → ${FAR}:53 sees ${V_EIP}`, `${V_EIP}: source`],
    ['by an address of snat_list that has gone is stale', `icmp ${W} → ${FAR} sees ${SNAT}`, `${SNAT}: source`],
    ['by an EIP that has gone is stale wherever it leads', `udp ${V} → ${Y}:53 sees ${V_EIP}`, `${V_EIP}: source`],
    ['from a subnet that has gone is stale', `udp ${X} → ${FAR}:53 sees ${U}`, `${U}: source`],
    ["from a subnet that has gone, as itself, is nobody's", `udp ${X} → ${FAR}:53`, 'stays'],
    [
      'to an EIP that has gone, to a host that was never inside, stays',
      `tcp ${OUT} → ${V_EIP}:80 ⇒ 10.8.0.9:80`,
      'stays',
    ],
    [
      'by an EIP that has gone, of a host that was never inside, stays',
      `udp 10.8.0.9 → ${FAR}:53 sees ${V_EIP}`,
      'stays',
    ],
  ]);
  rows(modelOf(wanted), [
    ['is not known to be ours without the record', `tcp ${OUT} → ${V_EIP}:80 ⇒ ${V}:80`, 'stays'],
    ['is not known to be ours without the record', `udp ${X} → ${FAR}:53 sees ${U}`, 'stays'],
  ]);
});

describe('an entry in a zone', () => {
  rows(modelOf(FULL), [
    ['stays', `udp ${OUT} → ${V_EIP}:9`, 'stays', { zoned: true }],
    ['stays', `udp ${W} → ${FAR}:53`, 'stays', { zoned: true }],
  ]);
});

describe('a connection of the router itself', () => {
  const [established, syn] = [{ state: 'ESTABLISHED' }, { state: 'SYN_SENT', unreplied: true }];
  const former = worldOf([U, V_EIP], [A]);
  rows(modelOf(FULL, { former }), [
    [
      "from outside, to a port that is a VM's now, is spared",
      `tcp ${OUT} → ${U}:8443`,
      `${U}: destination, but spared`,
      established,
    ],
    ['that was never answered is not', `tcp ${OUT} → ${U}:8443`, `${U}: destination`, syn],
    [
      'that is half closed is spared',
      `tcp ${OUT} → ${U}:8443`,
      `${U}: destination, but spared`,
      { state: 'CLOSE_WAIT' },
    ],
    ['that is half closed is spared', `tcp ${OUT} → ${U}:8443`, `${U}: destination, but spared`, { state: 'FIN_WAIT' }],
    ['that has ended is not', `tcp ${OUT} → ${U}:8443`, `${U}: destination`, { state: 'TIME_WAIT' }],
    [
      'to another VM than before is spared',
      `tcp ${U} → ${V_EIP}:22 ⇒ ${W}:22 sees ${U}`,
      `${V_EIP}: destination, but spared`,
      established,
    ],
    ['by UDP is not', `udp ${U} → ${V_EIP}:22 ⇒ ${W}:22 sees ${U}`, `${V_EIP}: destination`],
    [
      'that was never answered since it was seen is not',
      `tcp ${OUT} → ${U}:8443`,
      `${U}: destination`,
      { ...established, unreplied: true },
    ],
    ['of a VM is not', `tcp ${OUT} → ${V_EIP}:22 ⇒ ${W}:22`, `${V_EIP}: destination`, established],
  ]);
});

describe('a flow over which a rule of somebody else may have decided', () => {
  const foreign = (rules: Record<string, string[]>) => modelOf(FULL, { natRules: { ...ONLY_OURS, ...rules } });
  const [ours, oursLeaving] = ['-j KYLIN-VR-DNAT', '-j KYLIN-VR-POSTROUTING'];
  const redirect = `-d ${V_EIP}/32 -p tcp -m tcp --dport 80 -j REDIRECT --to-ports 8080`;
  const redirected = `tcp ${OUT} → ${V_EIP}:80 ⇒ ${U}:8080`;
  const stale = `${V_EIP}: destination`;

  describe('a REDIRECT on the port of an EIP before ours', () =>
    rows(foreign({ PREROUTING: [redirect, ours] }), [
      ['what it redirects stays', redirected, 'stays'],
      ["what came to its VM before stays: it may be its first rule's", `tcp ${OUT} → ${V_EIP}:80`, 'stays'],
      ['as ours has it stays', `tcp ${OUT} → ${V_EIP}:80 ⇒ ${V}:80`, 'stays'],
      ['another port is ours', `tcp ${OUT} → ${V_EIP}:81`, stale],
      ['another protocol is ours', `udp ${OUT} → ${V_EIP}:80`, stale],
      ['the router itself does not come by it', `tcp ${U} → ${V_EIP}:80 ⇒ ${W}:80 sees ${U}`, stale],
    ]));
  describe('the same behind ours', () =>
    rows(foreign({ PREROUTING: [ours, redirect] }), [['is never asked', redirected, stale]]));

  describe('a REDIRECT of what comes in by a second uplink', () => {
    const nics = [UPLINK, SECOND_UPLINK, SUBNET_A, SUBNET_B];
    const rule = '-i eth3 -p tcp -m tcp --dport 80 -j REDIRECT --to-ports 8080';
    rows(modelOf({ ...FULL, nics }, { natRules: { ...ONLY_OURS, PREROUTING: [rule, ours] } }), [
      ['may be of one that is reached by the first', redirected, 'stays'],
      ['is none of a VM', `tcp ${W} → ${V_EIP}:80`, stale],
    ]);
  });

  describe('an ACCEPT in POSTROUTING', () => {
    const accept = `-s ${W}/32 -j ACCEPT`;
    rows(foreign({ POSTROUTING: [accept, oursLeaving] }), [
      ['what it lets out as it is stays', `udp ${W} → ${FAR}:53`, 'stays'],
      ['of others is ours', `udp ${Y} → ${FAR}:53`, `${B}: source`],
      ['of others by an old address is ours', `udp ${Y} → ${FAR}:53 sees ${PORTS}`, `${PORTS}: source`],
    ]);
    rows(foreign({ POSTROUTING: [oursLeaving, accept] }), [
      ['behind ours it is never asked', `udp ${W} → ${FAR}:53`, `${A}: source`],
    ]);
  });

  describe('the rules of docker', () => {
    const docker = {
      DOCKER: [
        '-i docker0 -j RETURN',
        '! -i docker0 -p tcp -m tcp --dport 8080 -j DNAT --to-destination 172.17.0.2:80',
      ],
      OUTPUT: [ours, '! -d 127.0.0.0/8 -m addrtype --dst-type LOCAL -j DOCKER'],
      POSTROUTING: [
        oursLeaving,
        '-s 172.17.0.0/16 ! -o docker0 -j MASQUERADE',
        '-s 172.17.0.2/32 -d 172.17.0.2/32 -p tcp -m tcp --dport 80 -j MASQUERADE',
      ],
    };
    const local = '-m addrtype --dst-type LOCAL -j DOCKER';
    const theirs: Row[] = [
      ['a container that leaves stays', `tcp 172.17.0.2 → ${FAR}:443 sees ${U}`, 'stays'],
      ['its published port stays', `tcp ${OUT} → ${U}:8080 ⇒ 172.17.0.2:80`, 'stays'],
      ['its published port from inside stays', `tcp ${W} → ${SUBNET_A.ipaddr}:8080 ⇒ 172.17.0.2:80`, 'stays'],
      ['from before an EIP came is ours', `udp ${OUT} → ${V_EIP}:8080`, stale],
      ['of another port is ours', `tcp ${OUT} → ${V_EIP}:80`, stale],
      ['what leaves as itself is ours', `udp ${W} → ${FAR}:53`, `${A}: source`],
    ];
    const ways = [{ network: network('172.17.0.0/16'), device: 'docker0', metric: 0 }];
    const model = (PREROUTING: string[]) =>
      modelOf(FULL, {
        natRules: { ...ONLY_OURS, ...docker, PREROUTING },
        ways,
        addresses: [{ device: 'docker0', address: '172.17.0.1' }],
      });
    describe('behind ours', () =>
      rows(model([ours, local]), [
        ...theirs,
        ["its port on an EIP is its VM's", `tcp ${OUT} → ${V_EIP}:8080 ⇒ 172.17.0.2:80`, stale],
      ]));
    describe('before ours', () =>
      rows(model([local, ours]), [
        ...theirs,
        ['its port on an EIP, too, stays', `tcp ${OUT} → ${V_EIP}:8080 ⇒ 172.17.0.2:80`, 'stays'],
      ]));
  });

  describe('MASQUERADE of another network', () =>
    rows(foreign({ POSTROUTING: ['-s 10.8.0.0/24 -o eth0 -j MASQUERADE', oursLeaving] }), [
      ['stays', `udp 10.8.0.2 → ${FAR}:53 sees ${U}`, 'stays'],
      ['of one that is inside is ours', `udp ${W} → ${FAR}:53 sees ${PORTS}`, `${PORTS}: source`],
    ]));

  describe('a DNAT on an address that is not ours', () =>
    rows(
      foreign({ PREROUTING: [ours, '-d 203.0.113.99/32 -p tcp -m tcp --dport 80 -j DNAT --to-destination 192.0.2.5'] }),
      [
        ['stays', `tcp ${OUT} → 203.0.113.99:80 ⇒ ${V}:80`, 'stays'],
        ['between subnets stays', `tcp ${W} → ${SUBNET_B.ipaddr}:80 ⇒ ${Y}:80`, 'stays'],
        [
          'between subnets with a source of theirs stays',
          `tcp ${W} → ${SUBNET_B.ipaddr}:80 ⇒ ${Y}:80 sees ${U}`,
          'stays',
        ],
      ],
    ));

  describe('a DNAT on a port of a forward-only EIP', () => {
    const text = `tcp ${OUT} → ${PORTS}:2222 ⇒ ${V}:22`;
    const dnat = `-d ${PORTS}/32 -p tcp -m tcp --dport 2222 -j DNAT --to-destination ${V}:22`;
    rows(foreign({ PREROUTING: [ours, dnat] }), [['that ours leaves to it stays', text, 'stays']]);
    rows(modelOf(FULL), [["that is nobody's is a forward of ours that has gone", text, `${PORTS}: destination`]]);
  });
});

describe('what conntrack -D takes with a stale flow', () => {
  const options = (model: FlowModel, text: string) =>
    deleteFlowOptions(judgeOf(model, readForeignNat)(flow(text))?.alike ?? {}).join(' ');
  it('is all that leads to a VM which has nothing of that address any more', () => {
    assert.equal(options(modelOf(FULL), `tcp ${OUT} → ${PORTS}:443 ⇒ ${V}:443`), `-d ${PORTS} -r ${V}`);
  });
  it('is of one port where the VM has others', () => {
    assert.equal(
      options(modelOf(FULL), `tcp ${OUT} → ${PORTS}:443 ⇒ ${W}:8443`),
      `-p tcp -d ${PORTS} -r ${W} --dport 443 --reply-port-src 8443`,
    );
    assert.equal(options(modelOf(FULL), `unknown ${OUT} → ${V_EIP}`), `-p 50 -d ${V_EIP} -r ${V_EIP}`);
  });
  it('is between the same two as long as they are as now', () => {
    assert.equal(options(modelOf(FULL), `udp ${W} → ${FAR}:53`), `-s ${W} -d ${FAR} -r ${FAR} -q ${W}`);
  });
  it('is that flow alone where others have rules in nat', () => {
    const natRules = { ...ONLY_OURS, POSTROUTING: ['-j KYLIN-VR-POSTROUTING', '-s 10.8.0.0/24 -j MASQUERADE'] };
    assert.equal(
      options(modelOf(FULL, { natRules }), `udp ${W} → ${FAR}:53`),
      `-p udp -s ${W} -d ${FAR} -r ${FAR} -q ${W} --sport 40000 --dport 53 --reply-port-src 53 --reply-port-dst 40000`,
    );
  });
});

describe('a mapping by which a helper came to expect a flow', () => {
  const cases: [string, Partial<Config>, string, boolean][] = [
    ['is an EIP of the VM', {}, `tcp ${OUT} → ${V_EIP}:50000 ⇒ ${V}:50000`, true],
    ['is not the EIP of another', {}, `tcp ${OUT} → ${V_EIP}:50000 ⇒ ${W}:50000`, false],
    ['is a forward to the VM, whatever its port', {}, `tcp ${OUT} → ${PORTS}:50000 ⇒ ${W}:50000`, true],
    ['is not a forward to another', {}, `tcp ${OUT} → ${PORTS}:50000 ⇒ ${V}:50000`, false],
    ['is the source that a subnet has', {}, `tcp ${OUT} → ${U}:50000 ⇒ ${W}:50000`, true],
    ['is a forward, whatever snat_list says', { snats: [] }, `tcp ${OUT} → ${PORTS}:50000 ⇒ ${Y}:20`, true],
    ['is not what a VM with an EIP had before', {}, `tcp ${OUT} → ${U}:50000 ⇒ ${V}:50000`, false],
    ['is the source that it leaves by', {}, `tcp ${W} → ${FAR}:50000 sees ${U}`, true],
    ['is not one that has gone', { snats: [] }, `tcp ${V} → ${FAR}:50000 sees ${U}`, false],
    ['is not one that it has no more', { snats: [] }, `tcp 192.0.2.9 → ${FAR}:50000 sees ${U}`, false],
  ];
  for (const [what, change, text, expected] of cases)
    it(`${what}: ${text}`, () => {
      assert.equal(hasMapping(modelOf({ ...FULL, ...change }), flow(text)), expected);
    });
});
