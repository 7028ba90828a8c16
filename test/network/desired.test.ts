import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { keyfileRenderer } from '../../src/dialects/keyfile.ts';
import { emptyState } from '../../src/network/state.ts';
import {
  config,
  desired,
  forward,
  LINKS,
  link,
  SECOND_UPLINK,
  SUBNET_A,
  SUBNET_B,
  UPLINK,
  without,
} from './fixtures.ts';

const addresses = (...args: Parameters<typeof desired>) =>
  desired(...args).addresses.map(({ device, spec }) => `${spec} on ${device}`);
const routes = (...args: Parameters<typeof desired>) =>
  desired(...args).routes.map(
    ({ dest, via, device, metric, protocol }) => `${dest} via ${via} on ${device} metric ${metric} proto ${protocol}`,
  );

describe('what a configuration wants', () => {
  it('of addresses: each NIC its own, the uplink all elastic ones as /32', () => {
    const wanted = config({
      eips: [{ eip: '198.51.100.5', vmIp: '192.0.2.5' }],
      forwards: [forward('tcp 198.51.100.4:80 → 192.0.2.5:80'), forward('tcp 203.0.113.10:81 → 192.0.2.5:80')],
      snats: [{ source: '192.0.2.0/26', to: { address: '198.51.100.40' } }],
    });
    assert.deepEqual(addresses(wanted), [
      '203.0.113.10/24 on eth0',
      '198.51.100.4/32 on eth0',
      '198.51.100.5/32 on eth0',
      '198.51.100.40/32 on eth0',
      '192.0.2.1/26 on eth1',
      '192.0.2.65/26 on eth2',
    ]);
  });

  it('of links: up, and the MTU where one is written', () => {
    const nics = [UPLINK, { ...SUBNET_A, mtu: 1450 }];
    assert.deepEqual(desired(config({ nics })).links, [
      { device: 'eth0', up: true },
      { device: 'eth1', up: true, mtu: 1450 },
    ]);
  });

  it('of routes: a default route, and those of route_list by the NIC in whose network their gateway is', () => {
    const list = [
      { dest: '198.18.5.0/24', via: '192.0.2.9' },
      { dest: '198.18.6.7/32', via: '203.0.113.99' },
    ];
    assert.deepEqual(routes(config({ routes: list })), [
      'default via 203.0.113.1 on eth0 metric 0 proto 175',
      '198.18.5.0/24 via 192.0.2.9 on eth1 metric 0 proto 175',
      '198.18.6.7/32 via 203.0.113.99 on eth0 metric 0 proto 175',
    ]);
  });

  it('of routes without an uplink: 0.0.0.0/0 is the default route', () => {
    const wanted = config({ nics: [SUBNET_A], routes: [{ dest: '0.0.0.0/0', via: '192.0.2.9' }] });
    assert.deepEqual(routes(wanted), ['default via 192.0.2.9 on eth1 metric 0 proto 175']);
  });

  it('of further uplinks: a default route each, with a metric that grows in the order of the file', () => {
    const third = { mac: SUBNET_B.mac, ipaddr: '198.18.0.2', prefix: 24, gateway: '198.18.0.1' };
    const expected = [
      'default via 203.0.113.1 on eth0 metric 0 proto 175',
      'default via 192.0.2.190 on eth3 metric 1000 proto 175',
      'default via 198.18.0.1 on eth2 metric 1001 proto 175',
    ];
    const wanted = config({ nics: [UPLINK, SUBNET_A, SECOND_UPLINK, third] });
    assert.deepEqual(routes(wanted), expected);
    // A NIC that comes later does not move the metrics of the others.
    assert.deepEqual(routes(wanted, { links: without('eth0') }), expected.slice(1));
  });

  it('of sysctls: forwarding, loose reverse path, quiet ARP on each NIC and on those that come later; all other NICs are left', () => {
    const perNic = (name: string) =>
      [
        'forwarding 1',
        'rp_filter 2',
        'promote_secondaries 1',
        'send_redirects 0',
        'arp_ignore 1',
        'arp_announce 2',
        'arp_notify 1',
      ].map((setting) => `net/ipv4/conf/${name}/${setting}`);
    const links = [link('eth0', { device: 'eth0.5' }), ...LINKS.slice(1)];
    assert.deepEqual(
      desired(config({ nics: [UPLINK] }), {
        links: links.map((there) => ({ ...there, ...(there.device === 'eth0.5' && { mac: UPLINK.mac }) })),
      }).sysctls.map(({ key, value }) => `${key} ${value}`),
      [
        'net/ipv4/ip_forward 1',
        'net/ipv4/conf/all/send_redirects 0',
        ...perNic('default'),
        ...perNic('eth0.5'),
        'net/netfilter/nf_conntrack_tcp_be_liberal 1',
      ],
    );
  });

  it("of conntrack's sysctls: none where nothing is translated, or as in 1.0", () => {
    const ofConntrack = (...args: Parameters<typeof desired>) =>
      desired(...args).sysctls.filter(({ key }) => key.startsWith('net/netfilter/'));
    const onlySubnets = config({ nics: [SUBNET_A, SUBNET_B] });
    assert.deepEqual([ofConntrack(onlySubnets), ofConntrack(config(), { ways: 'as in 1.0' })], [[], []]);
  });

  it('is nothing where the list of NICs is empty, or none is there', () => {
    for (const { filter, ...state } of [desired(config({ nics: [] })), desired(config(), { links: [] })]) {
      assert.deepEqual(state, emptyState);
      assert.deepEqual(
        [filter?.uplink, filter?.forwarding, filter?.guarded, filter?.guard],
        [undefined, [], [], undefined],
      );
    }
  });
});

describe('what a configuration wants while a NIC is not there', () => {
  const full = config({
    eips: [{ eip: '198.51.100.5', vmIp: '192.0.2.5' }],
    routes: [{ dest: '198.18.5.0/24', via: '192.0.2.9' }],
  });

  it('without a subnet is all but that subnet and the routes through it', () => {
    const { addresses: left, routes: leftRoutes } = desired(full, { links: without('eth1') });
    assert.deepEqual(
      [left.map(({ spec }) => spec), leftRoutes.map(({ dest }) => dest)],
      [['203.0.113.10/24', '198.51.100.5/32', '192.0.2.65/26'], ['default']],
    );
  });

  it('without the uplink is the subnets, forwarding between them, and no NAT', () => {
    const { addresses: left, chains, jumps } = desired(full, { links: without('eth0') });
    assert.deepEqual(
      left.map(({ spec }) => spec),
      ['192.0.2.1/26', '192.0.2.65/26'],
    );
    assert.deepEqual(
      chains.map(({ table, name }) => `${table} ${name}`),
      ['filter KYLIN-VR-FORWARD', 'filter KYLIN-VR-FORWARD-TO'],
    );
    assert.deepEqual(
      jumps.map(({ hook }) => hook),
      ['FORWARD'],
    );
  });
});

describe('where one rule cannot map a range to other ports', () => {
  const rules = (text: string, shiftedRanges: boolean) =>
    desired(config({ forwards: [forward(text)] }), { shiftedRanges })
      .chains.filter(({ name }) => name.startsWith('KYLIN-VR-P-'))
      .flatMap((chain) => chain.rules);

  it('its ports are mapped one by one', () => {
    assert.deepEqual(rules('tcp 198.51.100.80:80-81 → 192.0.2.5:8080', false), [
      '-p tcp -m tcp --dport 80 -j DNAT --to-destination 192.0.2.5:8080',
      '-p tcp -m tcp --dport 81 -j DNAT --to-destination 192.0.2.5:8081',
    ]);
  });

  it('a range that stays as it is is one rule all the same', () => {
    assert.deepEqual(rules('tcp 198.51.100.80:1-65535 → 192.0.2.5:1', false), [
      '-p tcp -m tcp --dport 1:65535 -j DNAT --to-destination 192.0.2.5',
    ]);
  });

  it('1,024 ports are mapped, 1,025 are refused (65) with what to write instead', () => {
    const toVm = (endPort: number) => `udp 198.51.100.80:1000-${endPort} → 192.0.2.5:2000`;
    assert.equal(rules(toVm(2023), false).filter((rule) => rule.includes('DNAT')).length, 1024);
    assert.throws(() => rules(toVm(2024), false), {
      name: 'AgentError',
      status: 65,
      message:
        'forward 198.51.100.80:1000-2024/udp: this kernel or iptables maps a range to other ports one by one only, ' +
        '1024 at the most: use vm-port 1000 instead of 2000, or a shorter range',
    });
    assert.deepEqual(rules(toVm(2024), true), [
      '-p udp -m udp --dport 1000:2024 -j DNAT --to-destination 192.0.2.5:2000-3024/1000',
    ]);
  });
});

describe('a NIC with a bridge', () => {
  const nics = [{ ...UPLINK, mtu: 1450, bridge: { name: 'br-ex', type: 'linux' as const } }, SUBNET_A];
  const wanted = desired(config({ nics, eips: [{ eip: '198.51.100.5', vmIp: '192.0.2.5' }] }), {
    renderer: keyfileRenderer,
  });

  it('is its port; both are up', () => {
    assert.deepEqual(
      [wanted.bridges, wanted.ports, wanted.links],
      [
        [{ name: 'br-ex', type: 'linux', mac: UPLINK.mac }],
        [{ device: 'eth0', bridge: 'br-ex', type: 'linux' }],
        [
          { device: 'eth0', up: true, mtu: 1450 },
          { device: 'eth1', up: true },
          { device: 'br-ex', up: true },
        ],
      ],
    );
  });

  it('has its addresses, routes and rules there, and no profile', () => {
    const on = <T extends { device: string }>(items: readonly T[]) => [...new Set(items.map(({ device }) => device))];
    assert.deepEqual([on(wanted.addresses), on(wanted.routes)], [['br-ex', 'eth1'], ['br-ex']]);
    assert.deepEqual(
      wanted.profiles.map(({ device }) => device),
      ['eth1'],
    );
    assert.deepEqual(
      wanted.files.map(({ device }) => device),
      ['eth1'],
    );
    const rules = wanted.chains.flatMap((chain) => chain.rules);
    assert.deepEqual(
      rules.filter((rule) => /^-[io] /.test(rule)),
      [
        '-i br-ex -j KYLIN-VR-FORWARD-TO',
        '-i eth1 -j KYLIN-VR-FORWARD-TO',
        '-o br-ex -j ACCEPT',
        '-o eth1 -j ACCEPT',
        '-o br-ex -j KYLIN-VR-UPLINK',
        '-o br-ex -j KYLIN-VR-OUTBOUND',
      ],
    );
  });
});
