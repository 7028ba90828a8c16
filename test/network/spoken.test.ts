// Steps in an operator's words: what comes, goes or leads elsewhere by the rules that change.

import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import type { Config } from '../../src/config/config.ts';
import { planChains } from '../../src/engines/iptables/plan.ts';
import { spoken } from '../../src/engines/spoken.ts';
import type { Step } from '../../src/network/step.ts';
import { config, desired, forward, SUBNET_A, SUBNET_B, UPLINK } from './fixtures.ts';
import { FULL_ROUTER } from './full-router.ts';

const chainsOf = (wanted: Partial<Config>) => desired(config(wanted)).chains;

const between = (before: Partial<Config>, after: Partial<Config>): string[] => {
  const found = chainsOf(before);
  return spoken(planChains(chainsOf(after), found), found);
};

const eips = (...pairs: string[]) => ({
  eips: pairs.map((pair) => {
    const [eip = '', vmIp = ''] = pair.split(' → ');
    return { eip, vmIp };
  }),
});
const forwards = (...texts: string[]) => ({ forwards: texts.map(forward) });
const many = (count: number) =>
  Array.from({ length: count }, (_, n) => `tcp 203.0.113.80:${7000 + 10 * n} → 192.0.2.6:${7000 + n}`);

const ONE = '203.0.113.51 → 192.0.2.5';

describe('a change of rules is said as', () => {
  const cases: [what: string, before: Partial<Config>, after: Partial<Config>, lines: string[]][] = [
    ['an EIP that comes', eips(), eips(ONE), [`+ EIP ${ONE}`]],
    ['an EIP that goes', eips(ONE, '203.0.113.52 → 192.0.2.6'), eips(ONE), ['- EIP 203.0.113.52 → 192.0.2.6']],
    [
      'an EIP that goes to another VM',
      eips(ONE),
      eips('203.0.113.51 → 192.0.2.6'),
      ['~ EIP 203.0.113.51 → 192.0.2.6 (was 192.0.2.5)'],
    ],
    [
      'two EIPs of one VM, which leaves by the first',
      eips(),
      eips(ONE, '203.0.113.52 → 192.0.2.5'),
      [`+ EIP ${ONE}`, '+ EIP 203.0.113.52 → 192.0.2.5'],
    ],
    [
      'a VM that leaves by its other EIP, since the first goes',
      eips(ONE, '203.0.113.52 → 192.0.2.5'),
      eips('203.0.113.52 → 192.0.2.5'),
      [`- EIP ${ONE}`, '~ source 192.0.2.5 → 203.0.113.52 (was 203.0.113.51)'],
    ],
    [
      'a forward, and one of a range of ports, and one to the same ports',
      {},
      forwards(
        'tcp 203.0.113.80:443 → 192.0.2.6:443',
        'tcp 203.0.113.80:80-82 → 192.0.2.7:8080',
        'udp 203.0.113.80:6000-6002 → 192.0.2.6:6000',
      ),
      [
        '+ forward 203.0.113.80:80-82/tcp → 192.0.2.7:8080-8082',
        '+ forward 203.0.113.80:443/tcp → 192.0.2.6:443',
        '+ forward 203.0.113.80:6000-6002/udp → 192.0.2.6:6000-6002',
      ],
    ],
    [
      'a forward to another VM',
      forwards('tcp 203.0.113.80:443 → 192.0.2.6:443'),
      forwards('tcp 203.0.113.80:443 → 192.0.2.7:8443'),
      ['~ forward 203.0.113.80:443/tcp → 192.0.2.7:8443 (was 192.0.2.6:443)'],
    ],
    [
      'the seventeenth forward of an EIP, which has its chains made anew',
      forwards(...many(16)),
      forwards(...many(17)),
      ['+ forward 203.0.113.80:7160/tcp → 192.0.2.6:7016'],
    ],
    [
      'an EIP where forwards were, which it wins over',
      forwards('tcp 203.0.113.80:443 → 192.0.2.6:443'),
      eips('203.0.113.80 → 192.0.2.6'),
      ['- forward 203.0.113.80:443/tcp → 192.0.2.6:443', '+ EIP 203.0.113.80 → 192.0.2.6'],
    ],
    [
      'sources that snat_list gives and takes',
      {},
      {
        snats: [
          { source: '192.0.2.64/26', to: { address: '203.0.113.40' } },
          { source: '192.0.2.7/32', to: 'none' },
        ],
      },
      [
        '+ source 192.0.2.7 → as it is',
        '~ source 192.0.2.64/26 → 203.0.113.40 (was 203.0.113.10)',
        '~ packet filter (1 chain)',
      ],
    ],
    [
      'a subnet that comes: its source, and what guards and forwards',
      { nics: [UPLINK, SUBNET_A], ...eips(ONE) },
      { nics: [UPLINK, SUBNET_A, SUBNET_B], ...eips(ONE) },
      ['+ source 192.0.2.64/26 → 203.0.113.10', '~ packet filter (4 chains)'],
    ],
    ['nothing', FULL_ROUTER, FULL_ROUTER, []],
  ];
  for (const [what, before, after, lines] of cases)
    it(what, () => {
      assert.deepEqual(between(before, after), lines);
    });
});

it('steps that change no rule are said as ever, around those of the rules', () => {
  const found = chainsOf(eips());
  const rules = planChains(chainsOf(eips(ONE)), found);
  const address = { device: 'eth0', spec: '203.0.113.51/32' };
  const steps: Step[] = [
    { kind: 'set-link-up', device: 'eth0' },
    ...rules.slice(0, 1),
    { kind: 'add-address', address },
    ...rules.slice(1),
    { kind: 'add-jump', jump: { table: 'nat', hook: 'OUTPUT', rule: '-j KYLIN-VR-DNAT', place: 'first' } },
  ];
  assert.deepEqual(spoken(steps, found), [
    '~ link eth0 up',
    `+ EIP ${ONE}`,
    '~ packet filter (1 jump)',
    '+ address 203.0.113.51/32 on eth0',
  ]);
});

it('a rule that somebody took away, and what leads to one', () => {
  const whole = chainsOf(eips(ONE));
  for (const [part, lines] of [
    ['-s 192.0.2.5/32 -j SNAT', ['+ source 192.0.2.5 → 203.0.113.51']],
    ['-d 203.0.113.51/32 -j DNAT', [`+ EIP ${ONE}`]],
    ['-d 203.0.113.51/32 -j DROP', ['~ packet filter (1 chain)']],
    ['--ctorigdst 203.0.113.51 ', ['~ packet filter (1 chain)']],
  ] as const) {
    const found = whole.map((chain) => ({ ...chain, rules: chain.rules.filter((rule) => !rule.includes(part)) }));
    assert.deepEqual(spoken(planChains(whole, found), found), lines);
  }
});

it('a chain that is wide for a moment, and then as it is to be, is said once', () => {
  const [found, wanted] = [chainsOf(eips(ONE)), chainsOf(eips('203.0.113.51 → 192.0.2.6'))];
  const wide = planChains(wanted, found).flatMap((step): Step[] =>
    step.kind === 'edit-chain'
      ? [
          { ...step, remove: [] },
          { ...step, add: [] },
        ]
      : [step],
  );
  assert.deepEqual(spoken(wide, found), ['~ EIP 203.0.113.51 → 192.0.2.6 (was 192.0.2.5)']);
});
