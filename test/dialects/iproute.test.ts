import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import fc from 'fast-check';
import { formatNetwork } from '../../src/base/ipv4.ts';
import {
  batchLine,
  type IpStep,
  parseAddresses,
  parseNics,
  parseRoutes,
  parseWays,
} from '../../src/dialects/iproute.ts';
import type { Foreign } from '../../src/network/foreign.ts';
import { address, route } from '../network/planning.ts';
import { sample } from './samples.ts';

/** One link as `ip -json -details address show` prints it, with what a test is about. */
const ipAddress = (change: object): string =>
  JSON.stringify([
    {
      ifname: 'eth0',
      link_type: 'ether',
      flags: ['UP', 'LOWER_UP'],
      mtu: 1500,
      address: '02:00:00:00:00:00',
      ...change,
    },
  ]);

describe('ip address', () => {
  const { links, addresses } = parseAddresses(sample('ip-address.iproute2-6.1.0.json'));

  it('shows links of every kind, with MAC, state, MTU and the bridge that they are a port of', () => {
    assert.deepEqual(
      links
        .filter(({ device }) => !device.startsWith('peer'))
        .map((link) => (link.kind === 'tun' ? { ...link, mac: 'some' } : link)),
      [
        { device: 'lo', index: 1, mac: '00:00:00:00:00:00', ethernet: false, up: true, mtu: 65536 },
        { device: 'eth0', index: 3, mac: '02:00:00:00:00:ab', ethernet: true, kind: 'veth', up: true, mtu: 1500 },
        {
          device: 'eth1',
          index: 5,
          mac: '02:00:00:00:00:01',
          ethernet: true,
          kind: 'veth',
          up: true,
          noCarrier: true,
          mtu: 1450,
          master: 'br0',
        },
        {
          device: 'br0',
          index: 6,
          mac: '02:00:00:00:00:01',
          ethernet: true,
          kind: 'bridge',
          up: true,
          noCarrier: true,
          mtu: 1450,
        },
        { device: 'tap0', index: 7, mac: 'some', ethernet: true, kind: 'tun', up: false, mtu: 1500 },
        { device: 'tun0', index: 8, mac: 'some', ethernet: false, kind: 'tun', up: false, noArp: true, mtu: 1500 },
      ],
    );
  });

  it('takes a carrier for gone before the kernel says NO-CARRIER, and for missing as long as it says so', () => {
    const carrier = (...flags: string[]) => parseAddresses(ipAddress({ flags })).links[0]?.noCarrier;
    assert.deepEqual(
      [carrier('UP'), carrier('NO-CARRIER', 'UP', 'LOWER_UP'), carrier('UP', 'LOWER_UP'), carrier()],
      [true, true, undefined, undefined],
    );
  });

  it('shows IPv4 addresses of global scope: peers and leases marked; no IPv6, no link or host scope', () => {
    const lasting = (text: string) => ({ ...address(text), dynamic: false });
    assert.deepEqual(addresses, [
      lasting('203.0.113.10/24 on eth0'),
      lasting('198.51.100.5/32 on eth0'),
      { ...address('192.0.2.200/24 on eth0'), dynamic: true },
      lasting('192.0.2.1 peer 192.0.2.2/32 on eth0'),
      lasting('203.0.113.11/24 on eth0'),
      lasting('192.0.2.65/26 on br0'),
    ]);
  });

  it('may show MACs in capitals: they are the same', () => {
    const [link] = parseAddresses(ipAddress({ address: '02:00:00:00:00:AB', permaddr: '02:00:00:00:00:CD' })).links;
    assert.deepEqual([link?.mac, link?.permanentMac], ['02:00:00:00:00:ab', '02:00:00:00:00:cd']);
  });

  it('the permanent MAC of a port is also what its bond says it is', () => {
    const linkinfo = { info_slave_kind: 'bond', info_slave_data: { perm_hwaddr: '02:00:00:00:00:CD' } };
    const [link] = parseAddresses(ipAddress({ address: '02:00:00:00:00:ab', linkinfo })).links;
    assert.equal(link?.permanentMac, '02:00:00:00:00:cd');
  });

  it('may show no details, addresses or flags of a link', () => {
    const link = { device: 'eth0', mac: '02:00:00:00:00:00', ethernet: true, up: false, mtu: 1500 };
    assert.deepEqual(parseAddresses(ipAddress({ flags: [], linkinfo: {} })), { links: [link], addresses: [] });
  });

  for (const nothing of ['', '\n', '[]', '[{}]\n', '[{},{},{}]'])
    it(`shows no link as ${JSON.stringify(nothing)}`, () => {
      assert.deepEqual(parseAddresses(nothing), { links: [], addresses: [] });
    });
});

describe('ip route', () => {
  it('shows the routes through one gateway; those without, with several or by IPv6 are passed over', () => {
    assert.deepEqual(
      parseRoutes(sample('ip-route.iproute2-6.1.0.json')).routes,
      [
        'default via 203.0.113.1 on eth0',
        'default via 203.0.113.1 on eth0 metric 100 proto dhcp src 203.0.113.10',
        '198.18.5.0/24 via 192.0.2.70 on br0',
        '198.18.6.7/32 via 192.0.2.70 on br0 metric 5 proto boot',
      ].map(route),
    );
  });

  it('shows where the kernel would send a packet; by no one device where there are several, or none', () => {
    assert.deepEqual(
      parseWays(sample('ip-route.iproute2-6.1.0.json')).map(
        ({ network, device, metric }) => `${formatNetwork(network)} ${device} ${metric}`,
      ),
      [
        '0.0.0.0/0 eth0 0',
        '0.0.0.0/0 eth0 100',
        '169.254.0.0/16 eth0 0',
        '192.0.2.0/24 eth0 0',
        '192.0.2.2/32 eth0 0',
        '192.0.2.64/26 br0 0',
        '198.18.5.0/24 br0 0',
        '198.18.6.7/32 br0 5',
        '198.18.7.0/24 eth0 0',
        '198.18.8.0/24 undefined 0',
        '198.18.9.0/24 undefined 0',
        '198.18.10.0/24 undefined 0',
        '198.18.11.0/24 eth0 0',
        '203.0.113.0/24 eth0 0',
      ],
    );
  });

  it('shows none as an empty list', () => {
    assert.deepEqual([parseRoutes('[]'), parseWays('[]')], [{ routes: [], subnetRoutes: [] }, []]);
  });
});

describe('what is not the output of ip', () => {
  const strange: [string, string][] = [
    ['text', 'default via 203.0.113.1 dev eth0'],
    ['half of it', '[{"ifname":"eth0"'],
    ['another object', '{"ifname":"eth0"}'],
    ['a list of something else', '["eth0"]'],
    ['a link without its MTU', '[{"ifname":"eth0","link_type":"ether","flags":[]}]'],
    ['null', 'null'],
  ];
  for (const [name, text] of strange)
    it(`is refused with a word of what is wrong: ${name}`, () => {
      assert.throws(() => parseAddresses(text), {
        name: 'UnsupportedError',
        status: 69,
        message: /^ip printed something that is not understood \(.+\): please report it, with ip -V$/,
      });
    });

  for (const text of ['', '[{}]', '[{}]\n', '[{}]\n[]\n[]\n'])
    it(`is refused where it is not addresses and routes: ${JSON.stringify(text)}`, () => {
      assert.deepEqual(parseNics('[{}]\n[]\n'), { addresses: '[{}]', routes: '[]\n' });
      assert.throws(() => parseNics(text), {
        message: `ip printed something that is not understood (is ${text.length} characters, and not two lines): please report it, with ip -V`,
      });
    });

  it('is refused, and never anything worse', () => {
    const anything = fc.oneof(
      fc.string(),
      fc.json(),
      fc.array(fc.object()).map((list) => JSON.stringify(list)),
    );
    fc.assert(
      fc.property(anything, (text) => {
        for (const parse of [parseAddresses, parseRoutes])
          try {
            parse(text);
          } catch (error) {
            assert.equal(error instanceof Error && error.name, 'UnsupportedError');
          }
      }),
    );
  });
});

const onlyRoute = (device: string): Foreign => ({
  kind: 'route',
  family: 4,
  device,
  words: `unicast default via 192.0.2.9 dev ${device} table 100 proto boot mtu 1400`,
});

const moving = (how: { isThere: boolean; endsByItself: boolean }): IpStep => ({
  kind: 'move-foreign',
  foreign: onlyRoute('eth0'),
  to: 'br-ex',
  way: { from: 'eth0', there: onlyRoute('br-ex'), isTold: true, ...how },
});

function movingFrom(kind: Foreign['kind'], words: string): IpStep {
  const foreign: Foreign = { kind, family: 4, device: 'eth0', words };
  const there = { ...foreign, device: 'br-ex', words: words.replace('eth0', 'br-ex') };
  const way = { from: 'eth0', there, isThere: false, endsByItself: kind === 'nexthop', isTold: true };
  return { kind: 'move-foreign', foreign, to: 'br-ex', way };
}

describe('lines of ip -batch', () => {
  const lines: [IpStep, string][] = [
    [{ kind: 'set-link-up', device: 'eth0' }, 'link set dev eth0 up'],
    [{ kind: 'set-link-down', device: 'eth0' }, 'link set dev eth0 down'],
    [{ kind: 'set-mtu', device: 'eth0', mtu: 1450, was: 1500 }, 'link set dev eth0 mtu 1450'],
    [
      { kind: 'add-bridge', bridge: { name: 'br-ex', type: 'linux', mac: '02:00:00:00:00:00' } },
      'link add name br-ex address 02:00:00:00:00:00 type bridge stp_state 0 forward_delay 0',
    ],
    [{ kind: 'remove-bridge', bridge: { name: 'br-ex', type: 'linux' } }, 'link delete dev br-ex'],
    [{ kind: 'add-port', port: { device: 'eth0', bridge: 'br-ex', type: 'linux' } }, 'link set dev eth0 master br-ex'],
    [{ kind: 'remove-port', port: { device: 'eth0', bridge: 'br-ex', type: 'linux' } }, 'link set dev eth0 nomaster'],
    [
      { kind: 'remove-port-route', device: 'eth0', dest: '192.0.2.0/24' },
      'route delete 192.0.2.0/24 dev eth0 proto kernel',
    ],
    [
      {
        kind: 'move-foreign',
        to: 'br-ex',
        foreign: { kind: 'address', family: 6, device: 'eth0', words: '2001:db8::5/64 dev eth0 scope global nodad' },
      },
      'address replace 2001:db8::5/64 dev br-ex scope global nodad\naddress delete 2001:db8::5/64 dev eth0',
    ],
    [
      {
        kind: 'move-foreign',
        to: 'br-ex',
        foreign: {
          kind: 'route',
          family: 6,
          device: 'eth0',
          words: 'unicast default via fe80::1 dev eth0 metric 1024',
        },
      },
      'route append ::/0 via fe80::1 dev br-ex metric 1024\nroute delete ::/0 via fe80::1 dev eth0 metric 1024',
    ],
    [
      {
        kind: 'move-foreign',
        to: 'br-ex',
        onlink: true,
        foreign: { kind: 'route', family: 6, device: 'eth0', words: '2001:db8::/48 via 2001:db8:5::1 dev eth0' },
      },
      'route append 2001:db8::/48 via 2001:db8:5::1 dev br-ex onlink\nroute delete 2001:db8::/48 via 2001:db8:5::1 dev eth0',
    ],
    [
      movingFrom('neighbour', '192.0.2.9 lladdr 02:00:00:00:00:09 dev eth0 nud permanent'),
      'neighbour replace 192.0.2.9 lladdr 02:00:00:00:00:09 dev br-ex nud permanent\nneighbour delete 192.0.2.9 dev eth0',
    ],
    [
      movingFrom('neighbour', 'proxy 192.0.2.9 dev eth0'),
      'neighbour replace proxy 192.0.2.9 dev br-ex\nneighbour delete proxy 192.0.2.9 dev eth0',
    ],
    [
      movingFrom('nexthop', 'id 7 via 192.0.2.9 dev eth0 proto 99'),
      'nexthop replace id 7 via 192.0.2.9 dev br-ex proto 99',
    ],
    [
      moving({ isThere: false, endsByItself: false }),
      'route append unicast 0.0.0.0/0 via 192.0.2.9 dev br-ex table 100 proto boot mtu 1400\n' +
        'route delete unicast 0.0.0.0/0 via 192.0.2.9 dev eth0 table 100 proto boot',
    ],
    [
      moving({ isThere: false, endsByItself: true }),
      'route append unicast 0.0.0.0/0 via 192.0.2.9 dev br-ex table 100 proto boot mtu 1400',
    ],
    [
      moving({ isThere: true, endsByItself: false }),
      'route delete unicast 0.0.0.0/0 via 192.0.2.9 dev eth0 table 100 proto boot',
    ],
    [{ kind: 'add-address', address: address('192.0.2.1/26 on eth1') }, 'address replace 192.0.2.1/26 dev eth1'],
    [
      { kind: 'remove-address', address: address('192.0.2.1 peer 192.0.2.2/32 on eth1'), foreign: true },
      'address delete 192.0.2.1 peer 192.0.2.2/32 dev eth1',
    ],
    [
      { kind: 'add-route', route: route('default via 203.0.113.1 on eth0') },
      'route prepend default via 203.0.113.1 dev eth0 proto 175',
    ],
    [
      { kind: 'remove-route', route: route('198.18.5.0/24 via 192.0.2.9 on eth1 metric 1000') },
      'route delete 198.18.5.0/24 via 192.0.2.9 dev eth1 proto 175 metric 1000',
    ],
    [
      { kind: 'add-subnet-route', route: { dest: '192.0.2.0/26', device: 'eth1', source: '192.0.2.1' } },
      'route append 192.0.2.0/26 dev eth1 proto kernel scope link src 192.0.2.1',
    ],
  ];
  for (const [step, text] of lines)
    it(text, () => {
      assert.equal(batchLine(step), text);
    });
});
