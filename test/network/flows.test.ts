import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import type { Config } from '../../src/config/config.ts';
import { type FlowFilter, flowCuts } from '../../src/network/flows.ts';
import { config, desired, forward } from './fixtures.ts';

const [V, W] = ['192.0.2.5', '192.0.2.6'];
const [EIP, EIP2, PORTS] = ['198.51.100.5', '198.51.100.6', '198.51.100.80'];
const HTTPS = `tcp ${PORTS}:443 → ${V}:443`;
const one = (vmIp: string, eip = EIP): Partial<Config> => ({ eips: [{ eip, vmIp }] });
const ports = (...texts: string[]): Partial<Config> => ({ forwards: texts.map(forward) });

/** The cuts between two configurations; addresses that only the first has were ours and go. */
function cuts(before: Partial<Config>, after: Partial<Config>) {
  const [from, to] = [desired(config(before)), desired(config(after))];
  const hosts = ({ addresses }: typeof from) => addresses.map(({ spec }) => spec.split('/')[0] ?? '');
  const removed = hosts(from).filter((address) => !hosts(to).includes(address));
  return flowCuts(to.chains, from.chains, removed, new Set(hosts(from)));
}

const into = (eip: string, vmIp: string): FlowFilter => ({ originalDestination: eip, replySource: vmIp });
const untranslated = (eip: string): FlowFilter => ({ ...into(eip, eip), protocol: 'udp' });
const toPorts = (protocol: 'tcp' | 'udp', vmIp: string, from: number, to = from): FlowFilter => ({
  ...into(PORTS, vmIp),
  protocol,
  ports: { from, to },
});

const cases: [string, Partial<Config>, Partial<Config>, ReturnType<typeof cuts>][] = [
  ['nothing changes: none', { ...one(V), ...ports(HTTPS) }, { ...one(V), ...ports(HTTPS) }, []],
  ['an EIP comes: none, its VM keeps the flows that it has', {}, one(V), []],
  [
    'an EIP goes: all of its address, both directions',
    one(V),
    {},
    [{ of: EIP, filters: [{ originalDestination: EIP }, { replyDestination: EIP }] }],
  ],
  [
    'an EIP leads to another VM: those into it, those of the old VM out of it, and UDP that the new one would not get',
    one(V),
    one(W),
    [
      { of: EIP, filters: [into(EIP, V), { originalSource: V, replyDestination: EIP }] },
      { of: `${EIP} (UDP)`, filters: [untranslated(EIP)] },
    ],
  ],
  [
    'the first of two EIPs of a VM goes: its own, not those of the second',
    {
      eips: [
        { eip: EIP, vmIp: V },
        { eip: EIP2, vmIp: V },
      ],
    },
    one(V, EIP2),
    [{ of: EIP, filters: [{ originalDestination: EIP }, { replyDestination: EIP }] }],
  ],
  [
    'two EIPs of a VM change places: those that it began with the first as their source',
    {
      eips: [
        { eip: EIP, vmIp: V },
        { eip: EIP2, vmIp: V },
      ],
    },
    {
      eips: [
        { eip: EIP2, vmIp: V },
        { eip: EIP, vmIp: V },
      ],
    },
    [{ of: EIP, filters: [{ originalSource: V, replyDestination: EIP }] }],
  ],
  [
    'a forward goes, another stays on its EIP: those to its port',
    ports(HTTPS, `tcp ${PORTS}:80 → ${V}:80`),
    ports(`tcp ${PORTS}:80 → ${V}:80`),
    [{ of: `${PORTS}:443/tcp`, filters: [toPorts('tcp', V, 443)] }],
  ],
  [
    'a forward leads to another VM: those to its port',
    ports(HTTPS),
    ports(`tcp ${PORTS}:443 → ${W}:443`),
    [{ of: `${PORTS}:443/tcp`, filters: [toPorts('tcp', V, 443)] }],
  ],
  [
    'a forward leads to another port of its VM: those to its port',
    ports(HTTPS),
    ports(`tcp ${PORTS}:443 → ${V}:8443`),
    [{ of: `${PORTS}:443/tcp`, filters: [toPorts('tcp', V, 443)] }],
  ],
  [
    'a UDP range leads to other ports: those to its ports, and those that came before it did',
    ports(`udp ${PORTS}:6000-6002 → ${V}:6000`),
    ports(`udp ${PORTS}:6000-6002 → ${V}:7000`),
    [
      { of: `${PORTS}:6000-6002/udp`, filters: [toPorts('udp', V, 6000, 6002)] },
      { of: `${PORTS}:6000-6002/udp (UDP)`, filters: [toPorts('udp', PORTS, 6000, 6002)] },
    ],
  ],
  [
    'a range grows: none, its ports lead where they led',
    ports(`tcp ${PORTS}:80-82 → ${V}:8080`),
    ports(`tcp ${PORTS}:79-90 → ${V}:8079`),
    [],
  ],
  [
    'a range shrinks at both ends: those to the ports that it lost',
    ports(`tcp ${PORTS}:80-90 → ${V}:80`),
    ports(`tcp ${PORTS}:82-85 → ${V}:82`),
    [{ of: `${PORTS}:80-90/tcp`, filters: [toPorts('tcp', V, 80, 81), toPorts('tcp', V, 86, 90)] }],
  ],
  [
    'a range is written as its ports one by one: none',
    ports(`tcp ${PORTS}:80-81 → ${V}:8080`),
    ports(`tcp ${PORTS}:80 → ${V}:8080`, `tcp ${PORTS}:81 → ${V}:8081`),
    [],
  ],
  [
    'a UDP forward comes on an address that was there: those to its port, which a sender keeps alive untranslated',
    ports(HTTPS),
    ports(HTTPS, `udp ${PORTS}:53 → ${V}:53`),
    [{ of: `${PORTS}:53/udp (UDP)`, filters: [toPorts('udp', PORTS, 53)] }],
  ],
  [
    "a TCP forward comes on the uplink's own address: none, one may be the operator's",
    {},
    ports(`tcp 203.0.113.10:22 → ${V}:22`),
    [],
  ],
  ['a UDP forward comes with its address: none can be there', {}, ports(`udp ${PORTS}:53 → ${V}:53`), []],
  [
    'an EIP with forwards becomes 1:1 to another VM: those of the forwards, and UDP that the new one would not get',
    ports(HTTPS),
    one(W, PORTS),
    [
      { of: `${PORTS}:443/tcp`, filters: [toPorts('tcp', V, 443)] },
      { of: `${PORTS} (UDP)`, filters: [untranslated(PORTS)] },
    ],
  ],
  [
    'an EIP with forwards becomes 1:1 to their VM: only UDP that it would not get',
    ports(HTTPS),
    one(V, PORTS),
    [{ of: `${PORTS} (UDP)`, filters: [untranslated(PORTS)] }],
  ],
  [
    'a 1:1 EIP becomes one with forwards: all into it, and those of its VM out of it',
    one(W, PORTS),
    ports(HTTPS),
    [{ of: PORTS, filters: [into(PORTS, W), { originalSource: W, replyDestination: PORTS }] }],
  ],
  [
    'source NAT of subnets changes around the mappings: none of them',
    { ...one(V), ...ports(HTTPS) },
    { ...one(V), ...ports(HTTPS), snats: [] },
    [],
  ],
];

describe('the flows that are cut', () => {
  for (const [name, before, after, expected] of cases)
    it(name, () => {
      assert.deepEqual(cuts(before, after), expected);
    });

  it('are none when forwards become so many that they are told apart by blocks', () => {
    const few = Array.from({ length: 10 }, (_, n) => `tcp ${PORTS}:${9000 + n} → ${V}:${80 + n}`);
    const many = [...few, ...Array.from({ length: 30 }, (_, n) => `tcp ${PORTS}:${100 + n} → ${V}:${80 + n}`)];
    assert.deepEqual(
      [cuts(ports(...few), ports(...many)), cuts(ports(...many.toReversed()), ports(...many))],
      [[], []],
    );
  });

  it('are found for forwards in blocks too', () => {
    const many = Array.from({ length: 40 }, (_, n) => `tcp ${PORTS}:${100 + n} → ${V}:${80 + n}`);
    assert.deepEqual(cuts(ports(...many), ports(...many.slice(1))), [
      { of: `${PORTS}:100/tcp`, filters: [toPorts('tcp', V, 100)] },
    ]);
  });
});
