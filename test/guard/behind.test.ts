// Hosts behind a route through a subnet: inside they are, translated as their subnet, and they reach what others inside reach;
// snat_list says otherwise, and a route that leads out makes nobody inside.

import assert from 'node:assert/strict';
import { before, it } from 'node:test';
import { ADDRESSES, BEHIND, type HostName } from '../lab/lab.ts';
import { EIPS, NEAR } from '../lab/table.ts';
import { asked, BASE, type Guarded, onEachEngine, reload, sh } from './router.ts';

const { far, out, router: uplink, v, w, x, z } = ADDRESSES;
const OWN = '203.0.113.77';
const MAPPINGS = `port_forward_list:
  - { eip: ${NEAR}, protocal: tcp, port: 8080, vm-port: 80, vm-ip: ${w} }
  - { eip: ${NEAR}, protocal: tcp, port: 8081, vm-port: 80, vm-ip: ${x} }
  - { eip: ${NEAR}, protocal: tcp, port: 8082, vm-port: 80, vm-ip: ${z} }
  - { eip: ${uplink}, protocal: tcp, port: 8083, vm-port: 80, vm-ip: ${v} }
`;
const eips = (...more: string[]) =>
  `eip_list:\n${[`{ eip: ${EIPS.v}, vm-ip: ${v} }`, `{ eip: ${EIPS.x}, vm-ip: ${x} }`, ...more].map((line) => `  - ${line}\n`).join('')}`;
const routed = (dest: string = BEHIND) => `route_list: [{ dest: ${dest}, via: ${w} }]\n`;
const snats = (...entries: [source: string, to: string][]) =>
  `snat_list: [${entries.map(([source, to]) => `{ source: ${source}, to: ${to} }`).join(', ')}]\n`;

onEachEngine('a host behind a route', { beyond: true }, (on) => {
  before(async () => {
    on.lab.witness.inside(BEHIND);
    for (const host of ['far', 'out', 'v', 'w', 'x', 'z'] as HostName[])
      for (const transport of ['tcp', 'udp'] as const) await on.traffic.listen(host, transport, 80);
    await reload(on, BASE + eips() + MAPPINGS + routed());
  });

  const rows: [to: string, port: number, expected: string][] = [
    [out, 80, `out:80 sees ${uplink}`],
    [far, 80, `far:80 sees ${uplink}`],
    [EIPS.v, 80, `v:80 sees ${uplink}`],
    [EIPS.x, 80, `x:80 sees ${uplink}`],
    [NEAR, 8080, `w:80 sees ${uplink}`],
    [NEAR, 8081, `x:80 sees ${uplink}`],
    [NEAR, 8082, `z:80 sees ${uplink}`],
    [uplink, 8083, `v:80 sees ${uplink}`],
    [v, 80, `v:80 sees ${z}`],
    [x, 80, `x:80 sees ${z}`],
  ];
  for (const [to, port, expected] of rows)
    it(`asks ${to}:${port}: ${expected}`, async () => {
      assert.equal(await asked(on, 'z', to, port), expected);
    });

  it('pings what it reaches', async () => {
    for (const to of [far, EIPS.v, EIPS.x]) assert.equal((await on.traffic.ping('z', to)).reached, true, to);
  });

  it('is reached by others through a forward, from outside and from inside', async () => {
    assert.deepEqual(
      [await asked(on, 'far', NEAR, 8082), await asked(on, 'x', NEAR, 8082), await asked(on, 'w', NEAR, 8082)],
      [`z:80 sees ${far}`, `z:80 sees ${EIPS.x}`, `z:80 sees ${uplink}`],
    );
  });

  it('with an EIP of its own: leaves as it, is reached by it, and reaches others and itself as it', async () => {
    await reload(on, BASE + eips(`{ eip: ${OWN}, vm-ip: ${z} }`) + MAPPINGS + routed());
    assert.deepEqual(
      await Promise.all([
        asked(on, 'z', far),
        asked(on, 'z', out, 80, 'udp'),
        asked(on, 'far', OWN),
        asked(on, 'v', OWN),
        asked(on, 'w', OWN),
        asked(on, 'z', EIPS.v),
        asked(on, 'z', OWN),
      ]),
      [
        `far:80 sees ${OWN}`,
        `out:80 sees ${OWN}`,
        `z:80 sees ${far}`,
        `z:80 sees ${EIPS.v}`,
        `z:80 sees ${uplink}`,
        `v:80 sees ${OWN}`,
        `z:80 sees ${OWN}`,
      ],
    );
  });

  const overrides: [what: string, entries: [string, string][], z: string, w: string][] = [
    ['its network', [[BEHIND, '203.0.113.41']], '203.0.113.41', uplink],
    ['a wider one', [['172.16.0.0/12', '203.0.113.42']], '203.0.113.42', uplink],
    ['a narrower one', [['172.24.0.0/24', '203.0.113.43']], '203.0.113.43', uplink],
    ['everything', [['0.0.0.0/0', '203.0.113.44']], '203.0.113.44', uplink],
    ['its subnet', [['10.10.1.0/24', '203.0.113.45']], '203.0.113.45', '203.0.113.45'],
    [
      'its subnet and itself',
      [
        ['10.10.1.0/24', '203.0.113.45'],
        [BEHIND, '203.0.113.46'],
      ],
      '203.0.113.46',
      '203.0.113.45',
    ],
    [
      'itself by masquerade, its subnet otherwise',
      [
        ['10.10.1.0/24', '203.0.113.45'],
        [BEHIND, 'masquerade'],
      ],
      uplink,
      '203.0.113.45',
    ],
  ];
  for (const [what, entries, itself, subnet] of overrides)
    it(`an entry of snat_list for ${what}: it leaves by that, and reaches EIPs of its gateway's subnet`, async () => {
      await reload(on, BASE + eips() + MAPPINGS + routed() + snats(...entries));
      assert.deepEqual(
        await Promise.all([asked(on, 'z', far), asked(on, 'w', far), asked(on, 'z', EIPS.v), asked(on, 'z', EIPS.x)]),
        [`far:80 sees ${itself}`, `far:80 sees ${subnet}`, `v:80 sees ${uplink}`, `x:80 sees ${uplink}`],
      );
    });

  for (const [what, list] of [
    ['an entry that says none', snats([BEHIND, 'none'])],
    ['snat_list: []', 'snat_list: []\n'],
  ] as const)
    it(`${what}: it leaves as itself, and reaches EIPs all the same`, async () => {
      on.lab.witness.excuse('snat_list says so', ({ packet: { source } }) => source === z);
      await reload(on, BASE + eips() + MAPPINGS + routed() + list);
      assert.deepEqual(await sourcesAt(on, [z]), [z]);
      assert.deepEqual(await sourcesAt(on, [z], 'RA'), [z]);
      assert.equal(await asked(on, 'z', EIPS.v), `v:80 sees ${uplink}`);
    });

  it('what conntrack cannot place does not leave with its source', async () => {
    await reload(on, BASE + eips() + MAPPINGS + routed());
    assert.deepEqual(await sourcesAt(on, [z], 'RA'), []);
  });

  it('a way out makes nobody inside: a dest that holds an EIP, the network of the uplink, or half of all', async () => {
    on.lab.witness.excuse('it is not inside', ({ packet: { source } }) => source === z || source === '10.77.0.9');
    await sh(on, 'z', 'ip address add 10.77.0.9/32 dev lo');
    await sh(on, 'w', `ip route add 10.77.0.9/32 via ${z}`);
    const outward: [config: string, source: string][] = [
      [`${BASE}${eips('{ eip: 172.24.200.1, vm-ip: 10.10.1.77 }')}${routed()}`, z],
      [`${BASE}${eips()}${routed('128.0.0.0/1')}`, z],
      [`${BASE}${eips()}${routed('0.0.0.0/1')}`, '10.77.0.9'],
      [`${BASE}${eips()}${routed('172.0.0.0/7')}`, z],
    ];
    for (const [config, source] of outward) {
      await reload(on, config);
      assert.deepEqual(await sourcesAt(on, [source]), [source], config);
      assert.deepEqual(await sourcesAt(on, [source], 'RA'), [source], config);
      assert.equal(await asked(on, 'w', out), `out:80 sees ${uplink}`, config);
    }
    await reload(on, `${BASE}${eips()}${routed('10.77.0.0/16')}`);
    assert.deepEqual(await sourcesAt(on, ['10.77.0.9']), [uplink]);
  });

  it('a flow that leaves as itself is translated as soon as the file has the route, and again as itself without it', async () => {
    on.lab.witness.excuse('it is not inside', ({ packet: { source } }) => source === z);
    const without = `${BASE}${eips()}${snats(['10.10.0.0/16', 'masquerade'])}`;
    await sh(on, 'out', `ip route add ${BEHIND} via ${uplink}`);
    // The way is there without us: an operator's own.
    const way = `ip route add ${BEHIND} via ${w} metric 5`;
    await reload(on, without);
    await sh(on, 'router', way);
    await on.raw.answer('out', 'udp', 7000);
    const flow = await on.raw.start('z', { protocol: 'udp', to: out, port: 7000, perSecond: 50 });
    assert.ok(await flow.answered(({ seenSource }) => seenSource === z), JSON.stringify(flow.count()));
    await reload(on, `${BASE}${eips()}${routed()}`);
    assert.ok(await flow.answered(({ seenSource }) => seenSource === uplink), JSON.stringify(flow.count()));
    await reload(on, without);
    assert.ok(await flow.answered(({ seenSource }) => seenSource === z), JSON.stringify(flow.count()));
  });
});

/** With what sources segments of a new connection from z arrive at out. */
async function sourcesAt(on: Guarded, sources: string[], flags = 'S'): Promise<string[]> {
  const arrivals = await on.raw.arrivals('out', 'tcp', 'udp');
  const ends = { destination: out, sourcePort: 10_000 + (Date.now() % 50_000), destinationPort: 4001 };
  for (const source of sources) await on.raw.send('z', { protocol: 'tcp', source, ...ends, flags, seq: 1, ack: 1 });
  // The last one, to know when all are through.
  await on.raw.send('x', { protocol: 'udp', destination: out, sourcePort: 5000, destinationPort: 5001, text: 'end' });
  await arrivals.first(({ text }) => text === 'end');
  arrivals.stop();
  return arrivals.seen().flatMap(({ protocol, source }) => (protocol === 'tcp' ? [source] : []));
}
