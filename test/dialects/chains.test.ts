import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { parseForward, parseNftForward } from '../../src/dialects/chains.ts';
import { forwardObstacles } from '../../src/network/obstacles.ts';
import { type Probe, stopOf } from '../../src/network/walk.ts';

const OUT: Probe = { in: 'eth1', out: 'eth0', protocol: 'tcp', translated: false };
const IN: Probe = { in: 'eth0', out: 'eth1', protocol: 'tcp', translated: true };

const iptables = (policy: string, ...rules: string[]) =>
  parseForward(
    [
      '*nat',
      ':FORWARD DROP [0:0]',
      'COMMIT',
      '*filter',
      `:FORWARD ${policy} [0:0]`,
      ...['theirs', 'more', 'KYLIN-VR-FORWARD'].map((name) => `:${name} - [0:0]`),
      ...rules.map((rule) => `-A ${rule}`),
      'COMMIT',
      '',
    ].join('\n'),
  );

describe('FORWARD of iptables', () => {
  const stops: [what: string, rules: string[], said: string | undefined][] = [
    ['policy DROP, for ours are last', [], undefined],
    ['a rule that stops all', ['FORWARD -j DROP'], '-j DROP'],
    [
      'one behind what asks for more',
      ['FORWARD -p tcp -m tcp --dport 22 -j DROP', 'FORWARD -j REJECT --reject-with icmp-port-unreachable'],
      '-j REJECT --reject-with icmp-port-unreachable',
    ],
    ['one behind what may let it pass', ['FORWARD -p tcp -m tcp --dport 22 -j ACCEPT', 'FORWARD -j DROP'], undefined],
    [
      'one behind a comment that looks like the end of the table',
      ['FORWARD -p udp -m comment --comment "a\nCOMMIT\n*filter\n:X - [0:0]" -j ACCEPT', 'FORWARD -j DROP'],
      '-j DROP',
    ],
    ['one behind what lets another protocol pass', ['FORWARD -p udp -j ACCEPT', 'FORWARD -j DROP'], '-j DROP'],
    ['one behind what lets another NIC pass', ['FORWARD -i eth2 -j ACCEPT', 'FORWARD -j DROP'], '-j DROP'],
    ['one behind what lets it pass', ['FORWARD -i eth+ ! -o eth1 -j ACCEPT', 'FORWARD -j DROP'], undefined],
    [
      'one behind what lets answers pass',
      ['FORWARD -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT', 'FORWARD -j DROP'],
      '-j DROP',
    ],
    ['one behind what is not known', ['FORWARD -j NFQUEUE --queue-num 0', 'FORWARD -j DROP'], undefined],
    ['one behind a match without options', ['FORWARD -m socket -j ACCEPT', 'FORWARD -j DROP'], undefined],
    ['one behind what goes on', ['FORWARD -j LOG --log-prefix "a -j b "', 'FORWARD -j DROP'], '-j DROP'],
    [
      'one of a chain',
      ['FORWARD -i eth1 -j theirs', 'theirs -j more', 'more -o eth0 -j DROP'],
      'more: -o eth0 -j DROP',
    ],
    [
      'one of a chain that is left before',
      ['FORWARD -j theirs', 'theirs -i eth1 -j RETURN', 'theirs -j DROP'],
      undefined,
    ],
    [
      'one of a chain that may be left before',
      ['FORWARD -j theirs', 'theirs -s 192.0.2.0/24 -j RETURN', 'theirs -j DROP'],
      undefined,
    ],
    [
      'one of a chain that may not be asked',
      ['FORWARD -s 192.0.2.0/24 -j theirs', 'theirs -j DROP', 'FORWARD -j ACCEPT'],
      undefined,
    ],
    ['a goto to where nothing is, and the policy', ['FORWARD -g theirs', 'FORWARD -j ACCEPT'], 'its policy is drop'],
    ['a return, and the policy', ['FORWARD -j RETURN'], 'its policy is drop'],
    [
      'chains that lead to each other',
      ['FORWARD -j theirs', 'theirs -j more', 'more -j theirs', 'FORWARD -j DROP'],
      undefined,
    ],
    [
      'a comment that looks like a target',
      ['FORWARD -m comment --comment "x -j ACCEPT" -j DROP'],
      '-m comment --comment "x -j ACCEPT" -j DROP',
    ],
    ['ours, and what is behind', ['FORWARD -j KYLIN-VR-FORWARD', 'KYLIN-VR-FORWARD -i eth1 -j DROP'], undefined],
  ];
  for (const [what, rules, said] of stops)
    it(what, () => {
      assert.equal(stopOf(iptables('DROP', ...rules), OUT), said);
    });

  it('what was translated', () => {
    const walk = iptables('ACCEPT', 'FORWARD -m conntrack --ctstate DNAT -j ACCEPT', 'FORWARD -j DROP');
    assert.deepEqual([stopOf(walk, IN), stopOf(walk, OUT)], [undefined, '-j DROP']);
  });

  it('no tables', () => {
    assert.equal(stopOf(parseForward(''), OUT), undefined);
  });
});

const match = (left: unknown, right: unknown, op = '==') => ({ match: { op, left, right } });
const meta = (key: string) => ({ meta: { key } });
const DROP = { drop: null };
const ACCEPT = { accept: null };

const nft = (policy: string, ...rules: unknown[][]) => {
  const [walk] = parseNftForward(
    { family: 'inet', name: 't', flagged: false },
    JSON.stringify({
      nftables: [
        { metainfo: {} },
        { chain: { name: 'f', hook: 'forward', type: 'filter', policy } },
        { chain: { name: 'g' } },
        ...rules.map((expr, handle) => ({ rule: { chain: 'f', handle, expr } })),
        { rule: { chain: 'g', handle: 99, expr: [match(meta('oifname'), 'eth0'), DROP] } },
      ],
    }),
  );
  return walk ?? assert.fail();
};

describe('a table of nft with the hook forward', () => {
  const rule = (handle: number) => `the rule with handle ${handle} (nft -a list ruleset)`;
  const stops: [what: string, rules: unknown[][], said: string | undefined][] = [
    ['its policy', [], 'its policy is drop'],
    ['a device', [[match(meta('iifname'), { set: ['eth*'] }), ACCEPT]], undefined],
    ['another device', [[match(meta('iifname'), 'eth2'), ACCEPT]], 'its policy is drop'],
    ['a set with a name', [[match(meta('iifname'), '@ours'), ACCEPT]], undefined],
    ['all but a device', [[match(meta('oifname'), 'eth0', '!='), ACCEPT], [DROP]], rule(1)],
    ['IPv6', [[match({ payload: { protocol: 'ip6', field: 'saddr' } }, 'fe80::1'), ACCEPT]], 'its policy is drop'],
    ['another protocol', [[match(meta('l4proto'), { set: ['udp', 'icmp'] }), ACCEPT]], 'its policy is drop'],
    ['an address', [[match({ payload: { protocol: 'ip', field: 'saddr' } }, '192.0.2.1'), ACCEPT]], undefined],
    ['a limit', [[{ limit: { rate: 1, per: 'second' } }, ACCEPT]], undefined],
    ['answers', [[match({ ct: { key: 'state' } }, ['established', 'related'], 'in'), ACCEPT]], 'its policy is drop'],
    ['what was translated', [[match({ ct: { key: 'status' } }, 'dnat', 'in'), ACCEPT]], 'its policy is drop'],
    ['a chain', [[{ counter: null }, { jump: { target: 'g' } }], [ACCEPT]], `g: ${rule(99)}`],
    [
      'a map of verdicts',
      [
        [
          {
            vmap: {
              key: { ct: { key: 'state' } },
              data: {
                set: [
                  ['new', { goto: { target: 'g' } }],
                  ['established', ACCEPT],
                ],
              },
            },
          },
        ],
      ],
      `g: ${rule(99)}`,
    ],
    ['a map with a name', [[{ vmap: { key: meta('iifname'), data: '@ways' } }]], undefined],
    ['what only xtables knows', [[{ xt: null }]], undefined],
  ];
  for (const [what, rules, said] of stops)
    it(what, () => {
      assert.equal(stopOf(nft('drop', ...rules), OUT), said);
    });

  it('what begins outside and was translated', () => {
    assert.equal(stopOf(nft('drop', [match({ ct: { key: 'status' } }, 'dnat', 'in'), ACCEPT]), IN), undefined);
  });
});

it('what firewalld stops is said with its cure', () => {
  const bound = [
    { mac: '02:00:00:00:00:00', ipaddr: '203.0.113.10', prefix: 24, gateway: '203.0.113.1', device: 'eth0' },
    { mac: '02:00:00:00:00:01', ipaddr: '192.0.2.1', prefix: 26, device: 'eth1' },
  ];
  const firewalld = [{ ...nft('drop'), where: 'table inet firewalld, chain filter_FORWARD' }];
  assert.deepEqual(forwardObstacles(bound, firewalld, false), [
    'firewalld is running and lets nothing be forwarded between eth0, eth1 (table inet firewalld, chain filter_FORWARD: its policy is drop): kylin-vr install --firewalld makes a policy that does',
  ]);
  assert.deepEqual(forwardObstacles(bound, firewalld, true), [
    'firewalld is running and lets nothing be forwarded between eth0, eth1 (table inet firewalld, chain filter_FORWARD: its policy is drop): firewall-cmd --reload takes up our policy',
  ]);
});
