import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { deleteFlowOptions, deleteOptions, type Flow, matches, parseFlows } from '../../src/dialects/conntrack.ts';
import type { FlowFilter } from '../../src/network/flows.ts';
import { sample } from './samples.ts';

const [ROUTER, EIP, VM] = ['203.0.113.10', '198.51.100.80', '192.0.2.1'];
const toVm = { source: ROUTER, destination: EIP, replySource: VM, replyDestination: ROUTER };
const FLOWS: Flow[] = [
  { protocol: 'udp', ...toVm, sourcePort: 38266, destinationPort: 5353 },
  { protocol: 'gre', source: VM, destination: VM, replySource: VM, replyDestination: VM },
  { protocol: 'icmp', ...toVm },
  {
    protocol: 'udp',
    source: ROUTER,
    destination: '203.0.113.77',
    sourcePort: 47146,
    destinationPort: 7,
    replySource: '203.0.113.77',
    replyDestination: ROUTER,
  },
  { protocol: 'tcp', ...toVm, sourcePort: 50576, destinationPort: 80 },
];

describe('conntrack -L', () => {
  it('shows flows of every protocol, the original direction first', () => {
    assert.deepEqual(parseFlows(sample('conntrack-L.conntrack-1.4.7.txt')), FLOWS);
  });

  for (const strange of [
    '',
    '\n',
    'conntrack v1.4.7 (conntrack-tools): 0 flow entries have been shown.\n',
    'tcp 6 src=192.0.2.1',
  ])
    it(`shows none as ${JSON.stringify(strange)}`, () => {
      assert.deepEqual(parseFlows(strange), []);
    });
});

describe('a filter matches', () => {
  const cases: [string, FlowFilter, string[]][] = [
    ['all flows where it says nothing', {}, ['udp', 'gre', 'icmp', 'udp', 'tcp']],
    ['by the address asked for', { originalDestination: EIP }, ['udp', 'icmp', 'tcp']],
    ['by who asks', { originalSource: VM }, ['gre']],
    ['by who answers', { replySource: '203.0.113.77' }, ['udp']],
    ['by the address that is answered', { replyDestination: VM }, ['gre']],
    ['by protocol and the first port of a range', { protocol: 'tcp', ports: { from: 80, to: 90 } }, ['tcp']],
    ['by the last port of a range', { originalDestination: EIP, ports: { from: 70, to: 80 } }, ['tcp']],
    ['none whose port is beside the range', { ports: { from: 81, to: 5352 } }, []],
    [
      'none that has no port where it wants one',
      { originalDestination: EIP, ports: { from: 0, to: 65535 } },
      ['udp', 'tcp'],
    ],
    ['none of which one field differs', { originalDestination: EIP, protocol: 'udp', replySource: ROUTER }, []],
  ];
  for (const [name, filter, protocols] of cases)
    it(name, () => {
      assert.deepEqual(
        FLOWS.filter((flow) => matches(filter, flow)).map(({ protocol }) => protocol),
        protocols,
      );
    });
});

describe('options of conntrack -D', () => {
  const filters: [FlowFilter, string][] = [
    [{ originalDestination: EIP }, `-d ${EIP}`],
    [{ originalSource: VM, replyDestination: EIP }, `-s ${VM} -q ${EIP}`],
    [
      { originalDestination: EIP, replySource: VM, protocol: 'tcp', ports: { from: 443, to: 443 } },
      `-d ${EIP} -r ${VM} -p tcp --dport 443`,
    ],
  ];
  for (const [filter, options] of filters)
    it(`for a filter: ${options}`, () => {
      assert.equal(deleteOptions(filter).join(' '), options);
    });

  it('for one flow name its protocol, addresses and ports', () => {
    assert.deepEqual(
      FLOWS.slice(1, 3)
        .concat(FLOWS.slice(4))
        .map((flow) => deleteFlowOptions(flow).join(' ')),
      [
        `-p gre -s ${VM} -d ${VM}`,
        `-p icmp -s ${ROUTER} -d ${EIP}`,
        `-p tcp -s ${ROUTER} -d ${EIP} --sport 50576 --dport 80`,
      ],
    );
  });
});
