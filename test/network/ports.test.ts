import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import fc from 'fast-check';
import type { Forward, Protocol } from '../../src/config/config.ts';
import { portChains, portsChainName, singlePorts } from '../../src/engines/iptables/ports.ts';
import { isShiftedRange } from '../../src/network/filter.ts';
import { runs } from '../quick.ts';
import { forward } from './fixtures.ts';
import { destinationOf } from './packet-trace.ts';

const EIP = '198.51.100.80';
const texts = (forwards: readonly Forward[]) => portChains(EIP, forwards).map(({ name, rules }) => [name, ...rules]);

/** Where the chains send a port. */
function leads(forwards: readonly Forward[]): (protocol: Protocol, port: number) => string | undefined {
  const lead = destinationOf(portChains(EIP, forwards), portsChainName(EIP));
  return (protocol, port) => lead({ from: '203.0.113.200', to: EIP, protocol, port });
}

/** Where the configuration wants it. */
function wanted(forwards: readonly Forward[], protocol: Protocol, port: number): string | undefined {
  const found = forwards.find((one) => one.protocol === protocol && one.port <= port && port <= one.endPort);
  return found && `${found.vmIp}:${found.vmPort + port - found.port}`;
}

describe('the ports of an EIP', () => {
  it('are a list where they are few: a port, a range, a range that moves, TCP before UDP', () => {
    const forwards = [
      'udp 198.51.100.80:53 → 192.0.2.5:5353',
      'tcp 198.51.100.80:8000-8002 → 192.0.2.6:9000',
      'tcp 198.51.100.80:80-82 → 192.0.2.5:80',
      'tcp 198.51.100.80:22 → 192.0.2.5:22',
    ].map(forward);
    assert.deepEqual(texts(forwards), [
      [
        'KYLIN-VR-P-198.51.100.80',
        '-p tcp -m tcp --dport 22 -j DNAT --to-destination 192.0.2.5:22',
        '-p tcp -m tcp --dport 80:82 -j DNAT --to-destination 192.0.2.5',
        '-p tcp -m tcp --dport 8000:8002 -j DNAT --to-destination 192.0.2.6:9000-9002/8000',
        '-p udp -m udp --dport 53 -j DNAT --to-destination 192.0.2.5:5353',
      ],
    ]);
  });

  it('are told apart by blocks where they are many; a range across blocks stays above them', () => {
    const many = Array.from({ length: 16 }, (_, n) => forward(`tcp 198.51.100.80:${n} → 192.0.2.5:${n + 1}`));
    const across = forward('tcp 198.51.100.80:4000-5000 → 192.0.2.6:4000');
    const chains = texts([...many, across]);
    assert.deepEqual(
      chains.map(([name]) => name),
      ['KYLIN-VR-P-198.51.100.80', 'KYLIN-VR-P-C6336450-T0'],
    );
    assert.deepEqual(chains[0]?.slice(1), [
      '-p tcp -m tcp --dport 4000:5000 -j DNAT --to-destination 192.0.2.6',
      '-p tcp -m tcp --dport 0:4095 -j KYLIN-VR-P-C6336450-T0',
    ]);
    assert.equal(chains[1]?.length, 1 + 16);
  });

  it('all 65,535 of one protocol, each forwarded alone, lead where they should by 48 rules at the most', () => {
    const forwards = Array.from({ length: 65535 }, (_, n) =>
      forward(`tcp 198.51.100.80:${n + 1} → 192.0.2.5:${65535 - n}`),
    );
    const chains = portChains(EIP, forwards);
    assert.ok(chains.every(({ rules }) => rules.length <= 16));
    assert.ok(chains.every(({ name }) => name.length <= 28));
    const lead = leads(forwards);
    for (let port = 1; port <= 65535; port += 31) assert.equal(lead('tcp', port), `192.0.2.5:${65536 - port}`);
    assert.equal(lead('udp', 80), undefined);
  });

  /** Disjoint forwards: each begins some ports behind the end of the one before; now dense, now far apart. */
  const disjoint = fc
    .array(
      fc.record({
        gap: fc.oneof({ weight: 8, arbitrary: fc.nat(3) }, fc.nat(3000)),
        more: fc.oneof({ weight: 6, arbitrary: fc.constant(0) }, fc.nat(40), { weight: 1, arbitrary: fc.nat(9000) }),
        vmPort: fc.option(fc.integer({ min: 1, max: 50_000 })),
        protocol: fc.constantFrom('tcp', 'udp'),
      }),
      { maxLength: 120, size: 'max' },
    )
    .map((pieces) => {
      const next = { tcp: 1, udp: 1 };
      return pieces.flatMap(({ gap, more, vmPort, protocol }): Forward[] => {
        const port = next[protocol] + gap;
        const endPort = port + more;
        if (endPort > 65535) return [];
        next[protocol] = endPort + 1;
        return [{ eip: EIP, protocol, port, endPort, vmPort: vmPort ?? port, vmIp: '192.0.2.5' }];
      });
    });

  it('that are forwarded are all reached and mapped right; no other port is', () => {
    fc.assert(
      fc.property(disjoint, fc.array(fc.nat(65535), { maxLength: 20 }), (forwards, more) => {
        const lead = leads(forwards);
        const edges = forwards.flatMap(({ port, endPort }) => [
          port - 1,
          port,
          (port + endPort) >> 1,
          endPort,
          endPort + 1,
        ]);
        for (const port of [...edges, ...more])
          for (const protocol of ['tcp', 'udp'] as const)
            assert.equal(lead(protocol, port), wanted(forwards, protocol, port), `${protocol} ${port}`);
      }),
      runs(150),
    );
  });

  it('have the same rules whatever the order in the file', () => {
    fc.assert(
      fc.property(disjoint, (forwards) =>
        assert.deepEqual(portChains(EIP, forwards.toReversed()), portChains(EIP, forwards)),
      ),
      runs(50),
    );
  });
});

describe('a range that moves', () => {
  const cases: [string, boolean][] = [
    ['tcp 198.51.100.80:80 → 192.0.2.5:8080', false],
    ['tcp 198.51.100.80:80-82 → 192.0.2.5:80', false],
    ['tcp 198.51.100.80:80-82 → 192.0.2.5:8080', true],
  ];
  for (const [text, expected] of cases)
    it(`${text} is ${expected ? 'one' : 'none'}`, () => {
      assert.equal(isShiftedRange(forward(text)), expected);
    });

  it('is the same as its ports one by one', () => {
    assert.deepEqual(
      singlePorts(forward('udp 198.51.100.80:80-82 → 192.0.2.5:65533')),
      [
        'udp 198.51.100.80:80 → 192.0.2.5:65533',
        'udp 198.51.100.80:81 → 192.0.2.5:65534',
        'udp 198.51.100.80:82 → 192.0.2.5:65535',
      ].map(forward),
    );
  });
});
