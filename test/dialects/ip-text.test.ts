import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { parseForeignAddresses, parseForeignNeighbours } from '../../src/dialects/foreign.ts';
import { asJson, canBeText, type IpQuestion, inText } from '../../src/dialects/ip-text.ts';
import {
  parseAddresses,
  parseGroups,
  parseLed,
  parseNics,
  parseRoutes,
  parseWays,
} from '../../src/dialects/iproute.ts';
import { sample } from './samples.ts';

const ALL: IpQuestion = { lines: ['address show', 'route show table main'] };
const LINKS: IpQuestion = { lines: ['address show'] };
const read = (question: IpQuestion, text: string) => asJson(question, text);

describe('what ip of CentOS 7 prints', () => {
  const printed = parseNics(read(ALL, sample('ip-batch-links-addresses-routes.iproute2-4.11.0.txt')));
  const { links, addresses } = parseAddresses(printed.addresses);

  it('links, with and without addresses, by their names', () => {
    assert.deepEqual(
      links.map(({ device, kind, master, up, mtu }) => [device, kind, master, up, mtu]),
      [
        ['lo', undefined, undefined, true, 65536],
        ['eth0', 'veth', undefined, true, 1500],
        ['eth1', 'veth', undefined, true, 1450],
        ['eth2', 'veth', 'br-lab', true, 1500],
        ['eth3', 'veth', undefined, false, 1500],
        ['eth4', 'veth', undefined, false, 1500],
        ['br-lab', 'bridge', undefined, true, 1500],
        ['tap0', 'tun', undefined, false, 1500],
        ['ifb7', 'ifb', undefined, false, 1500],
      ],
    );
    assert.deepEqual(links[1], {
      device: 'eth0',
      index: 2,
      mac: '52:54:84:00:08:40',
      ethernet: true,
      kind: 'veth',
      up: true,
      mtu: 1500,
    });
    assert.equal(links.find(({ device }) => device === 'ifb7')?.noArp, true);
  });

  it('addresses: peers, labels behind flags, leases, and no route of their own', () => {
    assert.deepEqual(
      addresses.map(({ device, spec, dynamic, noprefixroute }) => [device, spec, dynamic, noprefixroute === true]),
      [
        ['eth0', '203.0.113.37/24', false, false],
        ['eth0', '203.0.113.50/32', false, false],
        ['eth0', '203.0.113.51/32', false, false],
        ['eth0', '198.51.100.1 peer 198.51.100.2/32', false, false],
        ['eth0', '198.51.100.9/30', false, true],
        ['eth0', '198.51.100.77/24', true, false],
        ['eth0', '198.51.100.78/25', true, false],
        ['eth0', '192.0.2.65/28', false, false],
        ['eth0', '203.0.113.38/24', false, false],
        ['eth1', '192.168.100.254/24', false, false],
      ],
    );
    const words = parseForeignAddresses(printed.addresses, new Set(['eth0'])).map((each) => each.words);
    for (const wanted of [
      '203.0.113.51/32 dev eth0 scope global label eth0:1',
      '203.0.113.38/24 dev eth0 scope global label eth0:old',
      '198.51.100.77/24 dev eth0 scope global label eth0 valid_lft 2997 preferred_lft 1797',
      '198.51.100.78/25 dev eth0 scope global label eth0 valid_lft 2997 preferred_lft 0',
      '192.0.2.9/28 dev eth0 scope link label eth0',
      '2001:db8:2::1 peer 2001:db8:2::2/128 dev eth0 scope global nodad',
      '2001:db8::2/64 dev eth0 scope global noprefixroute home nodad',
      '203.0.113.37/24 dev eth0 broadcast 203.0.113.255 scope global label eth0',
    ])
      assert.ok(words.includes(wanted), `${wanted}\nis not among\n${words.join('\n')}`);
  });

  it('routes through one gateway, and those on the link; not those of several hops, nor by IPv6', () => {
    const { routes, subnetRoutes } = parseRoutes(printed.routes);
    assert.deepEqual(
      routes.map(({ dest, via, device, metric, protocol, source }) =>
        [dest, via, device, metric, protocol, source ?? ''].join(' '),
      ),
      [
        'default 203.0.113.1 eth0 0 175 ',
        'default 203.0.113.2 eth0 100 dhcp ',
        '172.16.0.0/16 192.168.100.1 eth1 0 175 ',
        '172.17.0.0/16 192.168.100.1 eth1 0 boot ',
        '172.18.0.0/16 10.99.99.1 eth1 0 boot ',
        '172.20.0.7/32 192.168.100.3 eth1 50 boot 192.168.100.254',
      ],
    );
    assert.ok(subnetRoutes.some(({ dest, device }) => dest === '172.26.0.0/16' && device === 'eth1'));
    const ways = parseWays(printed.routes);
    const deviceOf = (base: string) => ways.find(({ network }) => network.base === Number(base))?.device;
    assert.equal(ways.find(({ network }) => network.prefix === 16 && network.base === 0xac130000)?.device, undefined);
    assert.equal(deviceOf(`${0xac100000}`), 'eth1');
  });

  it('in a VM: bonds and their ports, whose own MAC the bond knows, VLANs, and NICs of no kind', () => {
    const text = sample('ip-links-vm.iproute2-4.11.0.txt') + sample('ip-addresses-vm.iproute2-4.11.0.txt');
    const found = parseAddresses(read(LINKS, text));
    assert.deepEqual(
      found.links.map(({ device, kind = '-', master = '-', permanentMac = '-' }) =>
        [device, kind, master, permanentMac].join(' '),
      ),
      [
        'lo - - -',
        'dummy0 dummy - -',
        'bond0 bond - -',
        'eth0 - bond9 52:54:84:00:08:40',
        'eth1 - bond9 52:54:84:00:08:41',
        'eth2 - - -',
        'eth3 - - -',
        'bond9 bond - -',
        'eth2.7 vlan - -',
        'mac0 macvlan - -',
        'ipv0 ipvlan - -',
        'dum0 dummy br-lab -',
        'team0 team - -',
        'vx0 vxlan - -',
        'vr0 vrf - -',
        'br-lab bridge - -',
      ],
    );
    assert.deepEqual(
      found.addresses.map(({ spec }) => spec),
      ['203.0.113.37/24'],
    );
  });
});

describe('an answer in words', () => {
  const LINK = (name: string, more = '', behind = '') =>
    `7: ${name}: <BROADCAST,UP,LOWER_UP> mtu 1500 qdisc noqueue ${more}state UP mode DEFAULT group office qlen 1000\\    ` +
    `link/ether 02:00:00:00:00:01 brd ff:ff:ff:ff:ff:ff promiscuity 0 \\    veth ${behind}\n`;
  const linksOf = (text: string) => parseAddresses(read(LINKS, text)).links;

  it('of links: a name with an @, a master that is called as an option, an alias that says anything', () => {
    assert.deepEqual(
      linksOf(LINK('a@b') + LINK('c@if3') + LINK('d@c') + LINK('e@NONE')).map(({ device }) => device),
      ['a@b', 'c', 'd', 'e'],
    );
    assert.equal(linksOf(LINK('eth0', 'master state '))[0]?.master, 'state');
    const alias = '\\    alias \\    bridge perm_hwaddr 02:00:00:00:00:99 \\    bond_slave';
    assert.deepEqual(
      linksOf(LINK('eth0', '', alias)).map(({ kind, permanentMac, master }) => [kind, permanentMac, master]),
      [['veth', undefined, undefined]],
    );
    const lines = `${LINK('eth0', '', '\\    alias one\ndefault of two').trimEnd()}\n${LINK('eth1').replace('7', '8')}8: eth1    inet 192.0.2.1/24 scope global eth1\\       valid_lft forever preferred_lft forever\n`;
    const found = parseAddresses(read(LINKS, lines));
    assert.deepEqual(
      [found.links.map(({ device }) => device), found.addresses.map(({ spec }) => spec)],
      [['eth0', 'eth1'], ['192.0.2.1/24']],
    );
    assert.deepEqual([...parseGroups(read(LINKS, LINK('eth0')))], [['office', ['eth0']]]);
    const port = LINK('eth0', 'master br0 ', '\\    bridge_slave state listening priority 32 ');
    assert.equal(linksOf(port)[0]?.blocked, 'listening');
  });

  it('of addresses: a label that is called as a flag', () => {
    const line = (rest: string) =>
      `7: dynamic    inet 192.0.2.1/24 scope global ${rest}\\       valid_lft 9sec preferred_lft 9sec\n`;
    const [address] = parseAddresses(read(LINKS, LINK('dynamic') + line('dynamic'))).addresses;
    assert.equal(address?.dynamic, false);
    const [leased] = parseAddresses(read(LINKS, LINK('dynamic') + line('dynamic dynamic'))).addresses;
    assert.equal(leased?.dynamic, true);
  });

  it('of one family: only the links that have any', () => {
    const text = `${LINK('eth0')}${LINK('eth1').replace('7', '8')}8: eth1    inet6 2001:db8::1/64 scope global \\       valid_lft forever preferred_lft forever\n`;
    const of = (family: '4' | '6') =>
      JSON.parse(read({ ...LINKS, family }, text)).map((each: { ifname: string }) => each.ifname);
    assert.deepEqual([of('4'), of('6')], [[], ['eth1']]);
  });

  it('of where the kernel leads: each line its own list', () => {
    const question = {
      lines: ['route get 203.0.113.99 from 192.168.100.190 iif eth1', 'route get 203.0.113.50', 'route get 8.8.8.8'],
    };
    const text =
      '203.0.113.99 from 192.168.100.190 dev eth0 \\    cache iif eth1 \n' +
      'local 203.0.113.50 dev lo src 203.0.113.50 uid 0 \\    cache <local> \n' +
      '8.8.8.8 via 203.0.113.1 dev eth0 src 203.0.113.37 uid 0 \\    cache \n';
    assert.deepEqual(
      parseLed(read(question, text)).map(({ dst, type, from, iif, dev, gateway }) => [
        dst,
        type,
        from,
        iif,
        dev,
        gateway,
      ]),
      [
        ['203.0.113.99', undefined, '192.168.100.190', 'eth1', 'eth0', undefined],
        ['203.0.113.50', 'local', undefined, undefined, 'lo', undefined],
        ['8.8.8.8', undefined, undefined, undefined, 'eth0', '203.0.113.1'],
      ],
    );
  });

  it('of neighbours that somebody entered', () => {
    const text =
      '192.168.100.9 dev eth1 lladdr 02:00:00:00:00:09 PERMANENT\n192.168.100.8 dev eth1  proxy\n192.168.100.7 dev lladdr lladdr 02:00:00:00:00:07 NOARP\n';
    const question = { lines: ['neighbour show nud permanent nud noarp', 'neighbour show proxy'] };
    assert.deepEqual(
      parseForeignNeighbours(read(question, text), new Set(['eth1', 'lladdr'])).map(({ words }) => words),
      [
        '192.168.100.9 lladdr 02:00:00:00:00:09 dev eth1 nud permanent',
        'proxy 192.168.100.8 dev eth1',
        '192.168.100.7 lladdr 02:00:00:00:00:07 dev lladdr nud noarp',
      ],
    );
  });

  it('asks for links before addresses; what it cannot say it does not ask', () => {
    assert.deepEqual(inText(ALL), ['link show', 'address show', 'route show table main']);
    assert.deepEqual(['address show', 'token list', 'nexthop show', 'maddress show'].map(canBeText), [
      true,
      true,
      false,
      false,
    ]);
  });

  it('that ip does not print ends the run', () => {
    const address = '7: eth0    inet 192.0.2.1/24 scope global eth0\\       valid_lft forever preferred_lft forever\n';
    const route = '192.0.2.0/24 dev eth0 proto kernel scope link src 192.0.2.1 \n';
    assert.doesNotThrow(() => read(ALL, LINK('eth0') + address + route));
    for (const text of [
      'rubbish\n',
      `rubbish\n${LINK('eth0')}`,
      `${LINK('eth0')}rubbish\n${address}`,
      `${LINK('eth0')}${address}rubbish\n${route}`,
      `${LINK('eth0')}${address}${route}rubbish\n`,
      LINK('eth0').slice(0, 40),
    ])
      assert.throws(
        () => read(ALL, text),
        ({ message }: Error) =>
          /^ip printed something that is not understood: .+ \(please report it, with ip -V\)$/.test(message),
        text,
      );
  });
});
