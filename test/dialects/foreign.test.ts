import assert from 'node:assert/strict';
import { it } from 'node:test';
import {
  foreignArguments,
  foreignLine,
  parseForeignAddresses,
  parseForeignNeighbours,
  parseForeignNexthops,
  parseForeignRoutes,
} from '../../src/dialects/foreign.ts';
import { byHop, type Foreign, foreignKey, foreignPlace, foreignText, hopsOf } from '../../src/network/foreign.ts';
import { movedKey } from '../../src/network/observation.ts';

const FOR_EVER = { valid_life_time: 4294967295, preferred_life_time: 4294967295 };

const lines = (things: readonly Foreign[], onlink = false) => things.map((thing) => foreignLine(thing, onlink));

it('addresses of every scope and family are read with all that `ip address` takes', () => {
  const json = JSON.stringify([
    {},
    {
      ifname: 'eth0',
      addr_info: [
        {
          family: 'inet',
          local: '169.254.8.7',
          prefixlen: 16,
          metric: 7,
          broadcast: '169.254.255.255',
          scope: 'link',
          dynamic: true,
          noprefixroute: true,
          label: 'eth0:x',
          valid_life_time: 100,
          preferred_life_time: 90,
        },
        {
          family: 'inet',
          local: '10.5.5.5',
          address: '10.5.5.6',
          prefixlen: 32,
          scope: 'link',
          label: 'eth0',
          ...FOR_EVER,
        },
        { family: 'inet', local: '192.0.2.1', prefixlen: 24, scope: 'global', label: 'eth0', ...FOR_EVER },
        {
          family: 'inet6',
          local: '2001:db8::1',
          prefixlen: 64,
          scope: 'global',
          protocol: 'kernel_ra',
          mngtmpaddr: true,
          valid_life_time: 5,
          preferred_life_time: 0,
        },
        { family: 'inet6', local: '2001:db8::2', prefixlen: 64, scope: 'global', dadfailed: true, ...FOR_EVER },
      ],
    },
  ]);
  const read = parseForeignAddresses(json, new Set(['eth0']));
  assert.deepEqual(lines(read), [
    'address replace 169.254.8.7/16 dev eth0 broadcast 169.254.255.255 scope link label eth0:x metric 7 valid_lft 100 preferred_lft 90 noprefixroute',
    'address replace 10.5.5.5 peer 10.5.5.6/32 dev eth0 scope link label eth0',
    'address replace 192.0.2.1/24 dev eth0 scope global label eth0',
    'address replace 2001:db8::1/64 dev eth0 scope global valid_lft 5 preferred_lft 0 mngtmpaddr nodad',
  ]);
  assert.deepEqual(
    read.map(({ family, global }) => [family, global]),
    [
      [4, false],
      [4, false],
      [4, true],
      [6, true],
    ],
  );
  assert.deepEqual(read.map(foreignKey).slice(0, 2), ['169.254.8.7/16 dev eth0', '10.5.5.5 peer 10.5.5.6/32 dev eth0']);
  assert.equal(
    foreignText(read[3] as Foreign),
    'address 2001:db8::1/64 dev eth0 valid_lft 5 preferred_lft 0 mngtmpaddr',
  );
  assert.deepEqual(parseForeignAddresses('', new Set(['eth0'])), []);
});

it('a route of IPv6 with several hops is one of each', () => {
  const [route] = parseForeignRoutes(
    'default proto static scope global metric 1024 pref medium \\\tnexthop via fe80::1 dev eth0 weight 1 \\\tnexthop via fe80::1 dev br-ex weight 1 onlink',
    6,
  );
  assert.deepEqual(
    byHop(route as Foreign).map(({ device, words }) => [device, words]),
    [
      ['eth0', 'default via fe80::1 dev eth0 proto static scope global metric 1024 pref medium'],
      ['br-ex', 'default via fe80::1 dev br-ex onlink proto static scope global metric 1024 pref medium'],
    ],
  );
});

it('the preference of a route by several hops may stand behind the last one, or nowhere', () => {
  const hops = '\\\tnexthop via fe80::1 dev eth0 weight 1 \\\tnexthop via fe80::1 dev br-ex weight 1';
  const keysOf = (line: string) => parseForeignRoutes(line, 6).flatMap(byHop).map(movedKey);
  const alone = keysOf('unicast default via fe80::1 dev br-ex proto boot scope global metric 1024 pref medium');
  // From iproute2 5.6 on, from 4.17 to 5.5, and before.
  for (const printed of [`pref medium${hops}`, `${hops} pref medium`, hops])
    assert.deepEqual(keysOf(`unicast default proto boot scope global metric 1024 ${printed}`), [...alone, ...alone]);
  const high = parseForeignRoutes(`unicast default proto boot metric 9 ${hops} pref high`, 6).flatMap(byHop);
  assert.deepEqual(
    high.map(({ words }) => words),
    ['eth0', 'br-ex'].map((device) => `unicast default via fe80::1 dev ${device} proto boot metric 9 pref high`),
  );
});

it('a device may be named as a state of routes is', () => {
  for (const device of ['trap', 'dead', 'linkdown'])
    assert.equal(
      parseForeignRoutes(`unicast 192.0.2.0/24 dev ${device} table main proto boot scope link linkdown `, 4)[0]?.device,
      device,
    );
});

it('routes are read in their own words, without the table `local`, and say where they lead', () => {
  const text = [
    'unicast 192.168.8.0/24 via 203.0.113.3 dev eth0 table 100 proto boot scope global ',
    'unicast default via 203.0.113.1 dev eth0 table main proto static scope global metric 100 linkdown ',
    'unicast 192.168.7.0/24 table main proto boot scope global \\\tnexthop via 203.0.113.3 dev eth0 weight 2 \\\tnexthop via 203.0.113.4 dev eth1 weight 1 ',
    'unicast 192.0.2.9 via 203.0.113.3 dev eth0 table main proto bird scope global onlink ',
    'unicast 192.0.2.8 via 203.0.113.3 dev eth0 table main proto boot scope global ',
    'unicast 192.0.2.7 via 203.0.113.3 dev eth0 table main proto static scope global src 203.0.113.9 ',
    'unicast 192.168.9.0/24 dev eth0 table main proto static scope link src 203.0.113.37 metric 9 mtu lock 1300 ',
    'broadcast 203.0.113.255 dev eth0 table local proto kernel scope link src 203.0.113.37 ',
    'blackhole 172.31.0.0/16 table main proto boot scope global ',
    '',
  ].join('\n');
  const read = parseForeignRoutes(text, 4);
  assert.deepEqual(lines(read), [
    'route append unicast 192.168.8.0/24 via 203.0.113.3 dev eth0 table 100 proto boot scope global',
    'route append unicast default via 203.0.113.1 dev eth0 proto static scope global metric 100',
    'route append unicast 192.168.7.0/24 proto boot scope global nexthop via 203.0.113.3 dev eth0 weight 2 nexthop via 203.0.113.4 dev eth1 weight 1',
    'route append unicast 192.0.2.9 via 203.0.113.3 dev eth0 proto bird scope global onlink',
    'route append unicast 192.0.2.8 via 203.0.113.3 dev eth0 proto boot scope global',
    'route append unicast 192.0.2.7 via 203.0.113.3 dev eth0 proto static scope global src 203.0.113.9',
    'route append unicast 192.168.9.0/24 dev eth0 proto static scope link src 203.0.113.37 metric 9 mtu lock 1300',
    'route append blackhole 172.31.0.0/16 proto boot scope global',
  ]);
  assert.deepEqual(
    read.map(({ target, protocol }) => [protocol, target]),
    [
      ['boot', undefined],
      ['static', 'default via 203.0.113.1 dev eth0 metric 100'],
      ['boot', undefined],
      ['bird', undefined],
      ['boot', '192.0.2.8/32 via 203.0.113.3 dev eth0 metric 0'],
      ['static', undefined],
      ['static', undefined],
      ['boot', undefined],
    ],
  );
  assert.deepEqual(lines(read, true).slice(0, 4), [
    'route append unicast 192.168.8.0/24 via 203.0.113.3 dev eth0 onlink table 100 proto boot scope global',
    'route append unicast default via 203.0.113.1 dev eth0 onlink proto static scope global metric 100',
    'route append unicast 192.168.7.0/24 proto boot scope global nexthop via 203.0.113.3 dev eth0 onlink weight 2 nexthop via 203.0.113.4 dev eth1 onlink weight 1',
    'route append unicast 192.0.2.9 via 203.0.113.3 dev eth0 proto bird scope global onlink',
  ]);
});

it('an IPv6 route keeps its lifetime, which does not make it another', () => {
  const at = (seconds: number) =>
    parseForeignRoutes(
      `unicast 2001:db8:2::/64 via fe80::2 dev eth0 table main proto ra scope global metric 1024 expires ${seconds}sec pref medium\n`,
      6,
    );
  assert.deepEqual(lines(at(997)), [
    'route append unicast 2001:db8:2::/64 via fe80::2 dev eth0 proto ra scope global metric 1024 expires 997 pref medium',
  ]);
  assert.deepEqual(at(997).map(foreignKey), at(3).map(foreignKey));
});

it('what ip prints and does not take in the same words is put back in those that it takes', () => {
  const [route] = parseForeignRoutes(
    'unicast 172.19.0.0/16 via 203.0.113.9 dev eth0 proto boot scope global rto_min lock 50ms \n',
    4,
  );
  assert.equal(
    route && foreignLine(route),
    'route append unicast 172.19.0.0/16 via 203.0.113.9 dev eth0 proto boot scope global rto_min 50ms',
  );
  const address = { family: 'inet', local: '169.254.5.5', prefixlen: 32, scope: 'link', ...FOR_EVER };
  const read = (info: object) =>
    parseForeignAddresses(
      JSON.stringify([{ ifname: 'eth0', addr_info: [{ ...address, ...info }] }]),
      new Set(['eth0']),
    );
  assert.deepEqual(lines(read({ deprecated: true })), [
    'address replace 169.254.5.5/32 dev eth0 scope link valid_lft forever preferred_lft 0',
  ]);
  for (const label of ['eth0:a b', 'eth0:#', 'eth0:"', 'eth0:\n', 'eth0:\u0001']) {
    const odd = read({ label });
    assert.deepEqual(lines(odd), [undefined]);
    assert.deepEqual(
      odd.map((each) => foreignArguments(each).slice(-2)),
      [['label', label]],
    );
  }
});

it('objects of next hops of the devices, and routes by them: by these alone, and by the hops where they are gone', () => {
  const printed = [
    'id 1 via 203.0.113.1 dev eth0 scope link proto unspec dead linkdown onlink ',
    'id 2 dev eth0 scope host proto zebra ',
    'id 3 via 203.0.113.1 dev eth1 scope link proto unspec ',
    'id 10 group 1/2,3 scope global proto unspec ',
    'id 4 blackhole scope global proto unspec ',
    '',
  ].join('\n');
  const objects = parseForeignNexthops(printed, 4, new Set(['eth0']));
  assert.deepEqual(lines(objects), [
    'nexthop replace id 1 via 203.0.113.1 dev eth0 onlink',
    'nexthop replace id 2 dev eth0 proto zebra',
  ]);
  assert.equal(new Set(objects.map(foreignPlace)).size, 2);
  const routes = parseForeignRoutes(
    [
      'unicast 10.1.0.0/16 nhid 1 via 203.0.113.1 dev eth0 table 100 proto boot scope global onlink ',
      '\tnh_info id 1 via 203.0.113.1 dev eth0 scope link proto unspec onlink ',
      'unicast 10.2.0.0/16 nhid 10 table main proto boot scope global ',
      '\tnh_info id 10 group 1/2,3 scope global proto unspec \\\tnexthop via 203.0.113.1 dev eth0 weight 1 \\\tnexthop dev eth0 weight 3 ',
      'unicast 10.3.0.0/16 nhid 2 dev eth0 table main proto boot scope link ',
      '',
    ].join('\n'),
    4,
  );
  assert.deepEqual(routes.map(hopsOf), [
    [{ device: 'eth0', via: '203.0.113.1' }],
    [{ device: 'eth0', via: '203.0.113.1' }, { device: 'eth0' }],
    [{ device: 'eth0' }],
  ]);
  assert.deepEqual(lines(routes), [
    'route append unicast 10.1.0.0/16 nhid 1 table 100 proto boot scope global onlink',
    'route append unicast 10.2.0.0/16 nhid 10 proto boot scope global',
    'route append unicast 10.3.0.0/16 nhid 2 proto boot scope link',
  ]);
  assert.deepEqual(
    routes.map((route) => foreignLine(route, true)),
    [
      'route append unicast 10.1.0.0/16 via 203.0.113.1 dev eth0 table 100 proto boot scope global onlink',
      'route append unicast 10.2.0.0/16 proto boot scope global nexthop via 203.0.113.1 dev eth0 onlink weight 1 nexthop dev eth0 weight 3',
      'route append unicast 10.3.0.0/16 dev eth0 proto boot scope link',
    ],
  );
});

it("neighbours of the devices that somebody entered, and those answered for, without the kernel's own", () => {
  const printed = [
    '[{"dst":"203.0.113.9","dev":"eth0","lladdr":"02:00:00:00:00:09","state":["PERMANENT"],"protocol":"zebra"},' +
      '{"dst":"203.0.113.8","dev":"eth0","lladdr":"02:00:00:00:00:08","state":["NOARP"]},' +
      '{"dst":"203.0.113.255","dev":"eth0","lladdr":"ff:ff:ff:ff:ff:ff","state":["NOARP"]},' +
      '{"dst":"ff02::16","dev":"eth0","lladdr":"33:33:00:00:00:16","state":["NOARP"]},' +
      '{"dst":"127.0.0.1","dev":"eth0","lladdr":"00:00:00:00:00:00","state":["NOARP"]},' +
      '{"dst":"2001:db8::9","dev":"eth0","lladdr":"02:00:00:00:00:09","router":null,"state":["PERMANENT"]},' +
      '{"dst":"203.0.113.6","dev":"eth0","lladdr":"03:bf:cb:00:71:06","extern_learn":null,"state":["PERMANENT"]},' +
      '{"dst":"203.0.113.9","dev":"eth1","lladdr":"02:00:00:00:00:09","state":["PERMANENT"]}]',
    '[{"dst":"203.0.113.7","dev":"eth0","proxy":null}]',
    '',
  ].join('\n');
  const read = parseForeignNeighbours(printed, new Set(['eth0']));
  assert.deepEqual(lines(read), [
    'neighbour replace 203.0.113.9 lladdr 02:00:00:00:00:09 dev eth0 nud permanent protocol zebra',
    'neighbour replace 203.0.113.8 lladdr 02:00:00:00:00:08 dev eth0 nud noarp',
    'neighbour replace 2001:db8::9 lladdr 02:00:00:00:00:09 dev eth0 nud permanent router',
    'neighbour replace 203.0.113.6 lladdr 03:bf:cb:00:71:06 dev eth0 nud permanent extern_learn',
    'neighbour replace proxy 203.0.113.7 dev eth0',
  ]);
  assert.equal(new Set(read.map(foreignPlace)).size, 5);
  assert.deepEqual(parseForeignNeighbours('', new Set(['eth0'])), []);
});
