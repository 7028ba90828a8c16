import assert from 'node:assert/strict';
import { it } from 'node:test';
import {
  type Foreign,
  foreignKey,
  foreignLine,
  foreignText,
  parseForeignAddresses,
  parseForeignRoutes,
} from '../../src/dialects/foreign.ts';

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

it('routes are read in their own words, without the table `local`, and say where they lead', () => {
  const text = [
    'unicast 192.168.8.0/24 via 203.0.113.3 dev eth0 table 100 proto boot scope global ',
    'unicast default via 203.0.113.1 dev eth0 table main proto static scope global metric 100 linkdown ',
    'unicast 192.168.7.0/24 table main proto boot scope global \\\tnexthop via 203.0.113.3 dev eth0 weight 2 \\\tnexthop via 203.0.113.4 dev eth1 weight 1 ',
    'unicast 192.0.2.9 via 203.0.113.3 dev eth0 table main proto bird scope global onlink ',
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
    'route append unicast 192.168.9.0/24 dev eth0 proto static scope link src 203.0.113.37 metric 9 mtu lock 1300',
  ]);
  assert.deepEqual(
    read.map(({ target, protocol }) => [protocol, target]),
    [
      ['boot', undefined],
      ['static', 'default via 203.0.113.1 dev eth0'],
      ['boot', undefined],
      ['bird', '192.0.2.9/32 via 203.0.113.3 dev eth0'],
      ['static', undefined],
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
