// What `explain` says, held against the table whose rows the router's tests prove with real packets.

import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { parseConfig } from '../../src/config/parse.ts';
import { type Explanation, explain } from '../../src/network/explain.ts';
import { ADDRESSES, type HostName } from '../lab/lab.ts';
import { elastic, type Row, snat } from '../lab/table.ts';

const hostAt = (address: string) =>
  (Object.keys(ADDRESSES) as HostName[]).find((name) => ADDRESSES[name] === address) ?? 'router';

/** In the words of the table. */
function outcome({ fate, to, port, source }: Explanation, { from, protocol, expected }: Row): string {
  if (fate === 'dropped') return 'closed';
  if (protocol === 'icmp') return fate === 'router' ? 'answered by the router' : 'answered behind the router';
  const seen = `${hostAt(to)}:${port} sees ${source}`;
  // The table does not say what the router's own packets look like.
  return from === 'router' && expected.endsWith('is reached') ? `${hostAt(to)}:${port} is reached` : seen;
}

function configOf(yaml: string) {
  const parsed = parseConfig(yaml);
  assert.ok(parsed.ok);
  return parsed.config;
}

const packetOf = ({ from, to, protocol, port }: Row) => ({
  from: ADDRESSES[from],
  to,
  protocol,
  ...(protocol !== 'icmp' && { port }),
});

for (const { name, config, promises } of [elastic, snat])
  describe(`explain: ${name}`, () => {
    for (const { promise, rows } of promises)
      it(promise, () => {
        for (const row of rows) {
          const explanation = explain(configOf(config), packetOf(row), ({ mac }) => mac);
          assert.equal(outcome(explanation, row), row.expected, `${row.from} → ${row.to}:${row.port}/${row.protocol}`);
        }
      });
  });

describe('explain', () => {
  const config = configOf(`if_list:
  - { ipaddr: 203.0.113.37, prefix: 24, mac: '52:54:84:00:08:46', gateway: 203.0.113.1, name: public }
  - { ipaddr: 10.10.1.254, prefix: 24, mac: '52:54:84:11:00:04' }
eip_list: [{ eip: 203.0.113.50, vm-ip: 10.10.1.11 }]
port_forward_list: [{ eip: 203.0.113.60, protocol: tcp, port: 80, end_port: 82, vm-port: 8080, vm-ip: 10.10.1.12 }]
route_list: [{ dest: 172.16.0.0/16, via: 10.10.1.1 }, { dest: 172.24.4.0/24, via: 10.10.1.1 }]
snat_list:
  - { source: 172.16.0.0/16, to: none }
  - { source: 10.10.1.64/26, to: 203.0.113.40 }
  - { source: 172.24.4.0/24, to: masquerade }
`);
  const words = (from: string, to: string, protocol: 'tcp' | 'udp' | 'icmp' = 'tcp', port = 81) =>
    explain(config, { from, to, protocol, ...(protocol !== 'icmp' && { port }) }, (nic) => nic.name ?? 'subnet').lines;

  const cases: [name: string, lines: string[], said: string[]][] = [
    [
      'an EIP from outside',
      words('192.0.2.7', '203.0.113.50'),
      [
        '192.0.2.7 is behind 203.0.113.1, the gateway to the outside: the packet comes in by public',
        '203.0.113.50 is the elastic IP of 10.10.1.11: it goes there (eip_list)',
        'it leaves by subnet to 10.10.1.11 itself',
        'its source is kept',
        '10.10.1.11 sees 192.0.2.7, the sender itself; the sender hears its answers from 203.0.113.50',
      ],
    ],
    [
      'a forwarded port from the same subnet',
      words('10.10.1.13', '203.0.113.60'),
      [
        '10.10.1.13 is in the network of subnet: the packet comes in there',
        'port 81/tcp of 203.0.113.60 is forwarded: it goes to 10.10.1.12, port 8081 (port_forward_list)',
        'it leaves by subnet to 10.10.1.12 itself',
        "its source becomes 203.0.113.37: the uplink's address, so that the answer comes back through the router",
        '10.10.1.12 sees 203.0.113.37; the sender hears its answers from 203.0.113.60',
      ],
    ],
    [
      'a closed port',
      words('192.0.2.7', '203.0.113.60', 'tcp', 22),
      [
        '192.0.2.7 is behind 203.0.113.1, the gateway to the outside: the packet comes in by public',
        '203.0.113.60 forwards 80-82/tcp; port 22/tcp is closed: dropped',
      ],
    ],
    [
      'a network behind a route',
      words('172.16.4.4', '192.0.2.7'),
      [
        '172.16.4.4 is behind 10.10.1.1, the gateway of 172.16.0.0/16 in route_list: the packet comes in by subnet',
        'it leaves by public to 203.0.113.1, the gateway to the outside',
        'its source is kept: snat_list says none for 172.16.0.0/16',
        '192.0.2.7 sees 172.16.4.4, the sender itself',
      ],
    ],
    [
      'the router itself, to itself',
      words('10.10.1.254', '203.0.113.37', 'tcp', 22),
      [
        '10.10.1.254 is the router itself',
        "203.0.113.37 is the router's own address on public: the router's services answer, as foreign INPUT rules let them",
      ],
    ],
    [
      'an address of the uplink, to a VM',
      words('203.0.113.60', '203.0.113.50'),
      [
        "203.0.113.60 is an address of the router's uplink: the router itself sends",
        '203.0.113.50 is the elastic IP of 10.10.1.11: it goes there (eip_list)',
        'it leaves by subnet to 10.10.1.11 itself',
        "its source becomes 203.0.113.37: the uplink's address, for what the router itself sends to an EIP",
        '10.10.1.11 sees 203.0.113.37; the sender hears its answers from 203.0.113.50',
      ],
    ],
    [
      'a ping to an address that forwards',
      words('192.0.2.7', '203.0.113.60', 'icmp'),
      [
        '192.0.2.7 is behind 203.0.113.1, the gateway to the outside: the packet comes in by public',
        '203.0.113.60 is an address of the uplink that belongs to no VM: the router itself answers ping',
      ],
    ],
    [
      'an address that is only a source',
      words('192.0.2.7', '203.0.113.40', 'tcp', 22),
      [
        '192.0.2.7 is behind 203.0.113.1, the gateway to the outside: the packet comes in by public',
        '203.0.113.40 is only a source address; port 22/tcp is closed: dropped',
      ],
    ],
    [
      'a source that snat_list names',
      words('10.10.1.70', '192.0.2.7').slice(-2),
      ['its source becomes 203.0.113.40: snat_list says so for 10.10.1.64/26', '192.0.2.7 sees 203.0.113.40'],
    ],
    [
      'a source that is masqueraded',
      words('172.24.4.4', '192.0.2.7').slice(-2),
      [
        "its source becomes 203.0.113.37: the uplink's address: snat_list says masquerade for 172.24.4.0/24",
        '192.0.2.7 sees 203.0.113.37',
      ],
    ],
    [
      'a source by the default of its subnet',
      words('10.10.1.12', '192.0.2.7').slice(-2),
      [
        "its source becomes 203.0.113.37: the uplink's address, for what is in 10.10.1.0/24",
        '192.0.2.7 sees 203.0.113.37',
      ],
    ],
    [
      'two machines of one subnet',
      words('10.10.1.11', '10.10.1.12'),
      [
        '10.10.1.11 is in the network of subnet: the packet comes in there',
        '10.10.1.12 is in the same network: the packet goes there directly and does not come to the router',
      ],
    ],
  ];
  for (const [name, lines, said] of cases) it(name, () => assert.deepEqual(lines, said));

  it('an elastic IP of the router itself leads nowhere else', () => {
    const own = configOf(`if_list:
  - { ipaddr: 203.0.113.37, prefix: 24, mac: '52:54:84:00:08:46', gateway: 203.0.113.1 }
  - { ipaddr: 10.10.1.254, prefix: 24, mac: '52:54:84:11:00:04' }
eip_list: [{ eip: 203.0.113.50, vm-ip: 10.10.1.254 }]
`);
    const { fate, lines } = explain(own, { from: '192.0.2.7', to: '203.0.113.50', protocol: 'icmp' }, () => 'a NIC');
    assert.deepEqual([fate, lines.at(-1)], ['router', '10.10.1.254: that is the router itself']);
  });

  it('what comes in by an uplink goes on where the file lets it', () => {
    const nics = `if_list:
  - { ipaddr: 203.0.113.37, prefix: 24, mac: '52:54:84:00:08:46', gateway: 203.0.113.1 }
  - { ipaddr: 198.18.0.2, prefix: 24, mac: '52:54:84:00:08:47', gateway: 198.18.0.1 }
  - { ipaddr: 10.10.1.254, prefix: 24, mac: '52:54:84:11:00:04' }
route_list: [{ dest: 172.24.0.0/16, via: 10.10.1.9 }]
`;
    const last = (yaml: string, from: string, to: string) =>
      explain(configOf(yaml), { from, to, protocol: 'icmp' }, () => 'a NIC').lines.findLast(
        (line) => !line.includes('sees'),
      );
    const dropped = `${nics}from-uplink: drop\n`;
    assert.deepEqual(
      [
        last(nics, '203.0.113.9', '192.0.2.7'),
        last(nics, '203.0.113.9', '10.10.1.11'),
        last(dropped, '203.0.113.9', '10.10.1.11'),
        last(dropped, '203.0.113.9', '172.24.0.5'),
        last(dropped, '203.0.113.9', '198.18.0.9'),
        last(nics, '172.24.0.5', '198.18.0.9'),
        last(nics, '172.24.0.5', '192.0.2.7'),
      ],
      [
        'dropped: it would leave by the uplink that it came in by',
        'its source is kept',
        'dropped: from-uplink says drop',
        'dropped: from-uplink says drop',
        'dropped: from-uplink says drop',
        'its source becomes 198.18.0.2: the address of the NIC that it leaves by, for what is in 172.24.0.0/16',
        "its source becomes 203.0.113.37: the uplink's address, for what is in 172.24.0.0/16",
      ],
    );
  });

  it('without an uplink there is no NAT, and no way out', () => {
    const inside = configOf(`if_list: [{ ipaddr: 10.10.1.254, prefix: 24, mac: '52:54:84:11:00:04' }]
eip_list: [{ eip: 203.0.113.50, vm-ip: 10.10.1.11 }]
`);
    const { fate, lines } = explain(
      inside,
      { from: '10.10.1.11', to: '203.0.113.50', protocol: 'icmp' },
      () => 'subnet',
    );
    assert.deepEqual([fate, lines.at(-1)], ['no-route', '203.0.113.50: the router has no route there']);
    assert.equal(
      explain(inside, { from: '192.0.2.7', to: '10.10.1.11', protocol: 'icmp' }, () => 'subnet').lines[0],
      '192.0.2.7: the router has no route there, so that no answer would arrive',
    );
  });
});
