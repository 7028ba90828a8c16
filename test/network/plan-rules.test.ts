import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import type { Hook } from '../../src/network/observation.ts';
import type { Chain, Jump } from '../../src/network/state.ts';
import { plan } from './planning.ts';

const JUMP = '-m conntrack --ctstate NEW -j KYLIN-VR-INPUT';
const SSH = '-p tcp -m tcp --dport 22 -j ACCEPT';
const jump = (place: Jump['place'], rule = JUMP): Jump => ({ table: 'filter', hook: 'INPUT', rule, place });
const hook = (...rules: string[]): Hook => ({ table: 'filter', hook: 'INPUT', rules });
const [added, removed] = [`+ jump in filter INPUT: ${JUMP}`, `- jump in filter INPUT: ${JUMP}`];

describe('jumps', () => {
  const first: [string, string[], string[]][] = [
    ['that are not there are put in', [SSH], [added]],
    ['that stand first are left', [JUMP, SSH], []],
    ['that stand behind a foreign rule are put first again', [SSH, JUMP], [removed, added]],
    // iptables removes the first rule that is equal: of two, both have to go for one to stand first.
    ['that are there twice are put in once, where they belong', [JUMP, SSH, JUMP], [removed, removed, added]],
    ['that are there twice behind a foreign rule are put in once', [SSH, JUMP, JUMP], [removed, removed, added]],
  ];
  for (const [name, rules, steps] of first)
    it(`to be first ${name}`, () => {
      assert.deepEqual(plan({ jumps: [jump('first')] }, { hooks: [hook(...rules)] }), steps);
    });

  const last: [string, string[], string[]][] = [
    ['that are not there are put in', [SSH], [added]],
    ['that stand last are left', [SSH, JUMP], []],
    ['that are alone are left', [JUMP], []],
    ['that stand before a foreign rule are put last again', [JUMP, SSH], [removed, added]],
    ['that are there twice are put in once, where they belong', [JUMP, SSH, JUMP], [removed, removed, added]],
  ];
  for (const [name, rules, steps] of last)
    it(`to be last ${name}`, () => {
      assert.deepEqual(plan({ jumps: [jump('last')] }, { hooks: [hook(...rules)] }), steps);
    });

  const anywhere: [string, string[], string[]][] = [
    ['that are not there are put in', [SSH], [added]],
    ['that stand between foreign rules are left', [SSH, JUMP, SSH], []],
    ['that are there twice are put in once', [SSH, JUMP, SSH, JUMP], [removed, removed, added]],
  ];
  for (const [name, rules, steps] of anywhere)
    it(`to be anywhere ${name}`, () => {
      assert.deepEqual(plan({ jumps: [jump('anywhere')] }, { hooks: [hook(...rules)] }), steps);
    });

  it('of ours that are not wanted go, in whatever form they are', () => {
    const old = '-i eth9 -j KYLIN-VR-OLD';
    assert.deepEqual(plan({}, { hooks: [hook(SSH, JUMP, old)] }), [removed, `- jump in filter INPUT: ${old}`]);
  });

  it('keep what is not ours: a foreign rule that only speaks of our chains, too', () => {
    const foreign = [
      SSH,
      '-m comment --comment "not -j KYLIN-VR-INPUT" -j ACCEPT',
      '-m comment --comment "see -j KYLIN-VR-INPUT"',
      '-j DOCKER-USER',
    ];
    assert.deepEqual(plan({}, { hooks: [hook(...foreign)] }), []);
  });
});

describe('chains', () => {
  const chain = (rules: string[], ordered = false): Chain => ({ table: 'nat', name: 'KYLIN-VR-X', rules, ordered });
  const [a, b, c, d] = [
    '-d 198.51.100.1/32 -j DROP',
    '-d 198.51.100.2/32 -j DROP',
    '-d 198.51.100.3/32 -j DROP',
    '-d 198.51.100.4/32 -j DROP',
  ];

  const cases: [string, Chain[], Chain[], string[]][] = [
    ['that are not there are added', [chain([a, b])], [], ['+ chain KYLIN-VR-X in nat (2 rules)']],
    ['that are as they should be are left', [chain([a, b])], [chain([a, b])], []],
    ['in which order means nothing are left in another order', [chain([a, b])], [chain([b, a])], []],
    [
      'in which order means something are made anew for another order',
      [chain([a, b], true)],
      [chain([b, a])],
      ['~ chain KYLIN-VR-X in nat (2 rules)'],
    ],
    ['get the rule that is missing', [chain([a, b, c])], [chain([a, b])], [`~ chain KYLIN-VR-X in nat: + ${c}`]],
    ['lose the rule that is too much', [chain([a, b])], [chain([c, a, b])], [`~ chain KYLIN-VR-X in nat: - ${c}`]],
    [
      'lose a rule that is there twice, once',
      [chain([a, b])],
      [chain([a, a, b])],
      [`~ chain KYLIN-VR-X in nat: - ${a}`],
    ],
    [
      'have a rule that leads elsewhere changed',
      [chain([a, b])],
      [chain([a, c])],
      [`~ chain KYLIN-VR-X in nat: - ${c}, + ${b}`],
    ],
    [
      'are made anew where more changes than stays',
      [chain([a, b])],
      [chain([c, d])],
      ['~ chain KYLIN-VR-X in nat (2 rules)'],
    ],
    ['that lose all rules are made anew, empty', [chain([])], [chain([a])], ['~ chain KYLIN-VR-X in nat (0 rules)']],
    ['of ours that are not wanted are removed', [], [chain([a])], ['- chain KYLIN-VR-X in nat']],
    [
      'of the other table are others',
      [{ ...chain([a]), table: 'filter' }],
      [chain([a])],
      ['+ chain KYLIN-VR-X in filter (1 rule)', '- chain KYLIN-VR-X in nat'],
    ],
  ];
  for (const [name, chains, found, steps] of cases)
    it(name, () => {
      assert.deepEqual(plan({ chains }, { chains: found }), steps);
    });

  it('of ours in the other iptables backend are removed after those of this one are there', () => {
    const strays = [
      { restore: 'iptables-legacy-restore', chains: [{ table: 'nat' as const, name: 'KYLIN-VR-X' }], hooks: [] },
    ];
    assert.deepEqual(plan({ chains: [chain([a])] }, { strays }), [
      '+ chain KYLIN-VR-X in nat (1 rule)',
      '- our chains in the other iptables backend (iptables-legacy-restore)',
    ]);
  });
});
