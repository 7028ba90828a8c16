import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { ShapeError } from '../../src/base/shape.ts';
import { parseNftForward } from '../../src/dialects/chains.ts';
import {
  devicesOfChains,
  isDormant,
  parseNftFilters,
  parseNftTables,
  parseSavedFilters,
} from '../../src/dialects/filters.ts';
import { stopOf } from '../../src/network/walk.ts';
import { runs } from '../quick.ts';

test('rules of iptables go by devices and addresses, or ask for more', () => {
  const rules = [
    '-j DROP',
    '-i eth0 ! -o eth1 -j REJECT --reject-with icmp-port-unreachable',
    '-s 192.0.2.0/24 -m comment --comment "a \\" -j DROP" -j DROP',
    '! -d 192.0.2.1/32 -j DROP',
    '-s 192.0.2.1/32 -d 192.0.2.2/32 -j DROP',
    '-d 192.0.0.2/255.0.0.255 -j DROP',
    '-i eth+ -p tcp -m tcp --dport 22 -j ACCEPT',
    '-j MARK --set-xmark 0x1/0xffffffff',
    '-j KYLIN-VR-FORWARD',
    '-g theirs',
    '-j CT --notrack',
    '-m set --match-set bad src -j DROP',
    '-i eth0',
  ];
  const text = `*raw\n:PREROUTING DROP [0:0]\n:theirs - [0:0]\n${rules.map((rule) => `-A PREROUTING ${rule}\n`).join('')}-A theirs -j DROP\nCOMMIT\n`;
  const [filter, ...more] = parseSavedFilters(text);
  assert.deepEqual([filter?.where, filter?.drops, more], ['raw PREROUTING', true, []]);
  const wide = { verdict: 'stop', narrow: false };
  assert.deepEqual(
    filter?.rules.map(({ text: _, ...rule }) => rule),
    [
      wide,
      { ...wide, devices: ['eth0'] },
      { ...wide, addresses: [{ from: 0xc0000200, to: 0xc00002ff }] },
      wide,
      { ...wide, narrow: true, addresses: [{ from: 0xc0000201, to: 0xc0000201 }] },
      { ...wide, narrow: true },
      { verdict: 'other', narrow: true },
      { verdict: 'go on', narrow: false },
      { verdict: 'go on', narrow: false },
      { verdict: 'other', narrow: false },
      wide,
      { ...wide, narrow: true },
      { verdict: 'go on', narrow: false, devices: ['eth0'] },
    ],
  );
});

test('a table is dormant by what nft says in words', () => {
  assert.ok(isDormant('table ip nat {\n\tflags dormant\n\n\tchain a {\n\t}\n}\n'));
  assert.ok(!isDormant('table ip nat {\n\tflags owner\n\tcomment "flags dormant"\n}\n'));
});

test('rules of nft go by groups of links, all of IPv4, and ARP', () => {
  const equal = (left: object, right: unknown) => ({ match: { op: '==', left, right } });
  const meta = (key: string) => ({ meta: { key } });
  const payload = (protocol: string, field: string) => ({ payload: { protocol, field } });
  const rules = [
    [equal(meta('iifgroup'), 'default')],
    [equal(meta('iifgroup'), 7)],
    [equal(meta('protocol'), { set: ['ip', 'arp'] })],
    [equal(meta('protocol'), 'ip6')],
    [equal(payload('arp', 'operation'), 'reply')],
    [equal(payload('arp', 'saddr ip'), '192.0.2.1')],
    [{ match: { ...equal(meta('protocol'), 'ip').match, op: '!=' } }],
    [{ xt: { type: 'match', name: 'recent' } }],
  ].map((expr, handle) => ({ rule: { chain: 'c', handle, expr: [...expr, { drop: null }] } }));
  const json = JSON.stringify({ nftables: [{ chain: { name: 'c', hook: 'egress', prio: 0 } }, ...rules] });
  const devicesOf = devicesOfChains(
    'table netdev t {\n\tchain c {\n\t\ttype filter hook egress devices = { "eth0", eth1 } priority filter; policy accept;\n\t}\n}\n',
  );
  const around = { devicesOf, groups: new Map([['default', ['eth0']]]) };
  const [filter] = parseNftFilters({ family: 'netdev', name: 't', flagged: false }, json, around);
  assert.deepEqual([filter?.at, filter?.devices], ['links', ['eth0', 'eth1']]);
  const wide = { verdict: 'stop', narrow: false };
  assert.deepEqual(
    filter?.rules.map(({ text: _, ...rule }) => rule),
    [
      { ...wide, devices: ['eth0'] },
      { ...wide, devices: [] },
      wide,
      { ...wide, narrow: true },
      wide,
      { ...wide, addresses: [{ from: 0xc0000201, to: 0xc0000201 }] },
      { ...wide, narrow: true },
      { ...wide, narrow: true },
    ],
  );
});

test('whatever nft prints is read or refused', () => {
  const words = [
    'nftables',
    'table',
    'chain',
    'rule',
    'expr',
    'match',
    'op',
    'left',
    'right',
    'meta',
    'payload',
    'set',
    'prefix',
    'vmap',
    'data',
    'jump',
    'target',
    'ct',
  ];
  const { value } = fc.letrec((tie) => ({
    value: fc.oneof(
      { maxDepth: 8 },
      fc.constantFrom<unknown>('inet', 'forward', 'a', '==', 'ip', 'saddr', 'iifname', 0, null, '10.0.0.0', 33),
      fc.dictionary(
        fc.constantFrom(...words, 'family', 'name', 'hook', 'handle', 'addr', 'len', 'range', 'key', 'drop'),
        tie('value'),
      ),
      fc.array(tie('value'), { maxLength: 4 }),
    ),
  }));
  const chain = { chain: { name: 'a', hook: 'forward', policy: 'drop' } };
  const rule = fc.array(value).map((expr) => ({ nftables: [chain, { rule: { chain: 'a', handle: 1, expr } }] }));
  fc.assert(
    fc.property(fc.oneof(value, rule), (json) => {
      for (const read of [
        () => parseNftTables(JSON.stringify(json)),
        () => parseNftFilters({ family: 'inet', name: 'x', flagged: false }, JSON.stringify(json)),
        () =>
          parseNftForward({ family: 'inet', name: 'x', flagged: false }, JSON.stringify(json)).map((walk) =>
            stopOf(walk, { in: 'a', out: 'b', protocol: 'tcp', translated: true }),
          ),
      ])
        try {
          assert.ok(Array.isArray(read()));
        } catch (error) {
          assert.ok(error instanceof ShapeError, String(error));
        }
    }),
    runs(2000),
  );
});
