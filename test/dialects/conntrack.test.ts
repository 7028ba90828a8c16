import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { deleteFlowOptions, parseFlow, parseFlows } from '../../src/dialects/conntrack.ts';
import { type Flow, flowKey } from '../../src/network/flow.ts';
import { sample } from './samples.ts';

const [ROUTER, EIP, VM] = ['203.0.113.10', '198.51.100.80', '192.0.2.1'];
const of = { unreplied: false, assured: false, mark: 0, zoned: false };
const toVm = { ...of, source: ROUTER, destination: EIP, replySource: VM, replyDestination: ROUTER };
const FLOWS: Flow[] = [
  {
    protocol: 'udp',
    protocolNumber: 17,
    ...toVm,
    sourcePort: 38266,
    destinationPort: 5353,
    replySourcePort: 5353,
    replyDestinationPort: 38266,
  },
  {
    protocol: 'gre',
    protocolNumber: 47,
    ...of,
    source: VM,
    destination: VM,
    replySource: VM,
    replyDestination: VM,
    greKeys: { source: 0, destination: 0 },
    replyGreKeys: { source: 0, destination: 0 },
    unreplied: true,
  },
  {
    protocol: 'icmp',
    protocolNumber: 1,
    ...toVm,
    icmp: { type: 8, code: 0, id: 12691 },
    replyIcmp: { type: 0, code: 0, id: 12691 },
  },
  {
    protocol: 'udp',
    protocolNumber: 17,
    ...of,
    source: ROUTER,
    destination: '203.0.113.77',
    sourcePort: 47146,
    destinationPort: 7,
    replySource: '203.0.113.77',
    replyDestination: ROUTER,
    replySourcePort: 7,
    replyDestinationPort: 47146,
    unreplied: true,
  },
  {
    protocol: 'tcp',
    protocolNumber: 6,
    ...toVm,
    sourcePort: 50576,
    destinationPort: 80,
    replySourcePort: 80,
    replyDestinationPort: 50576,
    state: 'ESTABLISHED',
    assured: true,
  },
];

describe('conntrack -L', () => {
  it('shows flows of every protocol, the original direction first', () => {
    assert.deepEqual(parseFlows(sample('conntrack-L.conntrack-1.4.7.txt')), FLOWS);
  });

  const plain = {
    protocol: 'udp',
    protocolNumber: 17,
    ...toVm,
    sourcePort: 5,
    destinationPort: 6,
    replySourcePort: 6,
    replyDestinationPort: 5,
  };
  const there = `src=${ROUTER} dst=${EIP} sport=5 dport=6`;
  const back = `src=${VM} dst=${ROUTER} sport=6 dport=5`;
  const lines: [string, string, Flow][] = [
    ['with its id', `udp      17 29 ${there} ${back} mark=0 use=1 id=4294967295`, { ...plain, id: 4294967295 }],
    [
      'of ICMP with the id of its own and that of the entry',
      `icmp     1 29 src=${ROUTER} dst=${EIP} type=8 code=0 id=7 src=${VM} dst=${ROUTER} type=0 code=0 id=7 mark=0 use=1 id=9`,
      {
        protocol: 'icmp',
        protocolNumber: 1,
        ...toVm,
        icmp: { type: 8, code: 0, id: 7 },
        replyIcmp: { type: 0, code: 0, id: 7 },
        id: 9,
      },
    ],
    [
      'with keys of GRE',
      `gre      47 29 src=${ROUTER} dst=${EIP} srckey=0x11 dstkey=0xabcd src=${VM} dst=${ROUTER} srckey=0xabcd dstkey=0x11 mark=0 use=1`,
      {
        protocol: 'gre',
        protocolNumber: 47,
        ...toVm,
        greKeys: { source: 0x11, destination: 0xabcd },
        replyGreKeys: { source: 0xabcd, destination: 0x11 },
      },
    ],
    [
      'of a protocol that has no name',
      `unknown  50 599 src=${ROUTER} dst=${EIP} [UNREPLIED] src=${VM} dst=${ROUTER} mark=0 use=1`,
      { protocol: 'unknown', protocolNumber: 50, ...toVm, unreplied: true },
    ],
    [
      'with counters, a mark, a context and a helper',
      `udp      17 29 ${there} packets=1 bytes=60 [UNREPLIED] ${back} packets=0 bytes=0 [ASSURED] mark=4000000000 secctx=system_u:object_r:unlabeled_t:s0 delta-time=3 helper=ftp use=1 id=1`,
      { ...plain, unreplied: true, assured: true, mark: 4_000_000_000, id: 1 },
    ],
    ['that is offloaded', `udp      17 ${there} ${back} [OFFLOAD] mark=0 use=2`, plain],
    ['with a line feed of Windows', `udp 17 29 ${there} ${back} mark=0 use=1 \r`, plain],
    ...['zone', 'zone-orig', 'zone-reply'].map((zone): [string, string, Flow] => [
      `with a ${zone}`,
      `udp      17 29 ${there} ${back} mark=0 ${zone}=5 use=1`,
      { ...plain, zoned: true },
    ]),
    [
      'with a zone of one direction in its place',
      `udp      17 29 ${there} zone-orig=7 [UNREPLIED] ${back} mark=0 use=1`,
      { ...plain, zoned: true, unreplied: true },
    ],
    ['in the default zone, named', `udp      17 29 ${there} ${back} mark=0 zone=0 use=1`, plain],
  ];
  for (const [name, line, flow] of lines)
    it(`shows a flow ${name}`, () => {
      assert.deepEqual(parseFlow(line), flow);
    });

  it('shows flows as EL 7 prints them', () => {
    const text =
      `icmp     1 29 ${there.replace('sport=5 dport=6', 'type=8 code=0 id=31928')} ${back.replace('sport=6 dport=5', 'type=0 code=0 id=31928')} mark=0 use=1\n` +
      `tcp      6 119 TIME_WAIT ${there} ${back} [ASSURED] mark=0 use=1\n` +
      `udp      17 29 ${there} [UNREPLIED] ${back} mark=0 use=1\n`;
    assert.deepEqual(parseFlows(text), [
      {
        protocol: 'icmp',
        protocolNumber: 1,
        ...toVm,
        icmp: { type: 8, code: 0, id: 31928 },
        replyIcmp: { type: 0, code: 0, id: 31928 },
      },
      { ...plain, protocol: 'tcp', protocolNumber: 6, state: 'TIME_WAIT', assured: true },
      { ...plain, unreplied: true },
    ]);
  });

  for (const strange of [
    'udp      17 29 src=2001:db8::1 dst=2001:db8::2 sport=1 dport=2 src=2001:db8::2 dst=2001:db8::1 sport=2 dport=1 mark=0 use=1',
    `udp      17 29 ${there} ${back} ${back} mark=0 use=1`,
    '',
    '\n',
    'conntrack v1.4.7 (conntrack-tools): 0 flow entries have been shown.\n',
    'tcp 6 src=192.0.2.1',
  ])
    it(`shows none as ${JSON.stringify(strange)}`, () => {
      assert.deepEqual(parseFlows(strange), []);
    });
});

describe('two entries', () => {
  const [udp, gre, icmp] = FLOWS.slice(0, 3) as [Flow, Flow, Flow];
  const changes: [string, Flow, Partial<Flow>][] = [
    ['a port', udp, { sourcePort: 38267 }],
    ['a port of the replies', udp, { replyDestinationPort: 38267 }],
    ['who answers', udp, { replySource: ROUTER }],
    ['who is answered', udp, { replyDestination: EIP }],
    ['the protocol', udp, { protocol: 'tcp', protocolNumber: 6 }],
    ['a key of GRE', gre, { greKeys: { source: 1, destination: 0 } }],
    ['the id of an echo', icmp, { icmp: { type: 8, code: 0, id: 1 } }],
    ['the id of its answer', icmp, { replyIcmp: { type: 0, code: 0, id: 1 } }],
  ];
  for (const [what, flow, change] of changes)
    it(`say something else where ${what} differs`, () => {
      assert.notEqual(flowKey({ ...flow, ...change }), flowKey(flow));
    });

  it('say the same whatever became of them since', () => {
    const since = { state: 'TIME_WAIT', assured: true, unreplied: true, mark: 7, id: 9 };
    assert.deepEqual(
      FLOWS.map((flow) => flowKey({ ...flow, ...since })),
      FLOWS.map(flowKey),
    );
  });
});

describe('options of conntrack -D', () => {
  it('for one flow name its protocol, addresses and ports', () => {
    assert.deepEqual(
      FLOWS.slice(1, 3)
        .concat(FLOWS.slice(4))
        .map((flow) => deleteFlowOptions(flow).join(' ')),
      [
        `-p gre -s ${VM} -d ${VM} -r ${VM} -q ${VM} --srckey 0 --dstkey 0`,
        `-p icmp -s ${ROUTER} -d ${EIP} -r ${VM} -q ${ROUTER} --icmp-type 8 --icmp-code 0 --icmp-id 12691`,
        `-p tcp -s ${ROUTER} -d ${EIP} -r ${VM} -q ${ROUTER} --sport 50576 --dport 80 --reply-port-src 80 --reply-port-dst 50576`,
      ],
    );
  });
});
