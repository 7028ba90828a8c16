// What waits while something leaves: rules that guard an uplink, or give a source, go when all else is done and flows are cut.

import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import type { Config } from '../../src/config/config.ts';
import { engine } from '../../src/engines/in-use.ts';
import { describe as line } from '../../src/network/kinds.ts';
import { addressKey } from '../../src/network/state.ts';
import { isLate, type Step } from '../../src/network/step.ts';
import { planSteps } from '../../src/planning/plan.ts';
import { config, desired, LINKS, SECOND_UPLINK, SUBNET_A, SUBNET_B, UPLINK } from './fixtures.ts';
import { Machine } from './machine.ts';

const EIPS = [
  { eip: '198.51.100.5', vmIp: '192.0.2.5' },
  { eip: '198.51.100.6', vmIp: '192.0.2.70' },
];
const BOTH = config({ eips: EIPS });
const NONE = config({ nics: [] });
const OF_B = '192.0.2.64/26';

/** Sets up the one, and plans the other: with what an agent that is not killed has done of it before each look. */
function change(from: Config, to: Config): { machine: Machine; looks: Step[][] } {
  const machine = new Machine(LINKS);
  const [before, after] = [desired(from), desired(to)];
  machine.carryOut(planSteps(before, machine.observe(before), engine));
  machine.owned = new Set(before.addresses.map(addressKey));
  const looks: Step[][] = [];
  for (let steps = planSteps(after, machine.observe(after), engine); steps.length > 0; ) {
    looks.push(steps);
    assert.ok(looks.length < 5, 'no end of it');
    const now = steps.filter((step) => !isLate(step));
    machine.carryOut(now.length > 0 ? now : steps);
    steps = planSteps(after, machine.observe(after), engine);
  }
  return { machine, looks };
}

const late = (steps: readonly Step[] = []): string[] =>
  steps.filter(isLate).map((step) => line(step).split(' (')[0] ?? '');

/** The rules of a chain as the first steps of a change leave them. */
const meanwhile = (steps: readonly Step[] = [], name: string): readonly string[] | undefined =>
  steps.flatMap((step) =>
    step.kind === 'replace-chain' && step.chain.name === `KYLIN-VR-${name}` && !isLate(step) ? [step.chain.rules] : [],
  )[0];

describe('a subnet that goes with its EIP', () => {
  const { looks } = change(BOTH, config({ nics: [UPLINK, SUBNET_A], eips: EIPS.slice(0, 1) }));
  it('has its source until it has gone, and is guarded until its flows are cut', () => {
    const sources = [
      '~ chain KYLIN-VR-UNTRANSLATED in mangle',
      '~ chain KYLIN-VR-OUTBOUND in nat',
      '~ chain KYLIN-VR-HAIRPIN in nat',
      '~ chain KYLIN-VR-HAIRPIN-SOURCE in nat',
    ];
    const guard = '~ chain KYLIN-VR-NOWHERE in mangle';
    assert.deepEqual(looks.map(late), [[guard, ...sources], [guard], [guard]]);
  });
  it('and then nothing else is left to do', () => {
    assert.deepEqual(
      looks.map((steps) => steps.every(isLate)),
      [false, false, true],
    );
  });
});

it('a subnet whose NIC has gone before its file does is guarded as well', () => {
  const from = desired(BOTH);
  const machine = new Machine(LINKS);
  machine.carryOut(planSteps(from, machine.observe(from), engine));
  const links = LINKS.filter(({ device }) => device !== 'eth2');
  machine.addresses = machine.addresses.filter(({ device }) => device !== 'eth2');
  const to = desired(config({ nics: [UPLINK, SUBNET_A] }), { links });
  assert.ok(late(planSteps(to, machine.observe(to), engine)).includes('~ chain KYLIN-VR-NOWHERE in mangle'));
});

it('a network that is elsewhere now is not guarded any more: what leads to it is right', () => {
  const { looks } = change(BOTH, config({ nics: [UPLINK, SUBNET_A, { ...SUBNET_B, gateway: '192.0.2.66' }] }));
  assert.equal(
    meanwhile(looks[0], 'NOWHERE')?.some((rule) => rule.startsWith(`-d ${OF_B} `)),
    false,
  );
});

describe('an uplink that goes', () => {
  const { looks } = change(BOTH, config({ nics: [SUBNET_A, SUBNET_B] }));
  it('takes no rule along before its addresses have gone', () => {
    const [steps = []] = looks;
    assert.deepEqual(
      steps.filter((step) => /^remove-(chain|jump)$/.test(step.kind) && !isLate(step)),
      [],
    );
    assert.ok(steps.some((step) => step.kind === 'remove-address'));
  });
  it('takes all of them along then', () => {
    assert.equal(looks.length, 2);
    assert.ok(looks[1]?.every(isLate));
  });
});

it('a subnet that comes where the uplink goes is not let out by it: no rule gives it a source', () => {
  const { looks } = change(config({ nics: [UPLINK, SUBNET_A] }), config({ nics: [SUBNET_A, SUBNET_B] }));
  const addresses = looks[0]?.map((step) => line(step)).filter((text) => text.includes(' address '));
  assert.deepEqual(addresses, ['- address 203.0.113.10/24 on eth0', '+ address 192.0.2.65/26 on eth2']);
  const opens = looks.map((steps) =>
    steps.flatMap((step) => (step.kind === 'set-sysctl' && step.key.endsWith('/forwarding') ? [isLate(step)] : [])),
  );
  assert.deepEqual(opens, [[true], [true]]);
});

it('an uplink that becomes a subnet is one until its addresses have gone', () => {
  const swapped = [{ ...UPLINK, mac: SUBNET_B.mac }, { ...SUBNET_B, mac: UPLINK.mac }, SUBNET_A];
  const { looks } = change(BOTH, config({ nics: swapped, eips: EIPS }));
  assert.deepEqual(
    [meanwhile(looks[0], 'GUARD'), meanwhile(looks[0], 'LEAVING'), meanwhile(looks[0], 'POSTROUTING')],
    [
      ['-i eth0 -o eth0 -j KYLIN-VR-BOUNCE', '-i eth2 -o eth2 -j KYLIN-VR-BOUNCE'],
      ['-o eth0 -j KYLIN-VR-UPLINK', '-o eth2 -j KYLIN-VR-UPLINK'],
      [
        '-o eth0 -j KYLIN-VR-OUTBOUND',
        '-o eth2 -j KYLIN-VR-OUTBOUND',
        '-m conntrack --ctstate DNAT -j KYLIN-VR-HAIRPIN',
      ],
    ],
  );
});

describe('what is translated from now on, and was let by before, is stopped until it is cut', () => {
  const BEGAN_SO = /--ctstatus CONFIRMED .* -j KYLIN-VR-UNTRANSLATED$/;
  const cases: [what: string, from: Config, to: Config][] = [
    ['when a subnet comes', config({ nics: [UPLINK, SUBNET_A] }), BOTH],
    ['when none becomes the default', { ...BOTH, snats: [] }, BOTH],
    ['when an EIP comes for who was not translated', { ...BOTH, eips: [], snats: [] }, { ...BOTH, snats: [] }],
    [
      'when one of them is not left out any more',
      {
        ...BOTH,
        eips: [],
        snats: [
          { source: '192.0.2.0/26', to: { address: '203.0.113.9' } },
          { source: '192.0.2.7/32', to: 'none' },
        ],
      },
      { ...BOTH, eips: [], snats: [{ source: '192.0.2.0/26', to: { address: '203.0.113.9' } }] },
    ],
    ['when the uplink comes', config({ nics: [SUBNET_A, SUBNET_B] }), BOTH],
  ];
  for (const [what, from, to] of cases)
    it(what, () => {
      const { machine, looks } = change(from, to);
      const uplink = looks[0]?.flatMap((step) =>
        (step.kind === 'add-chain' || step.kind === 'replace-chain') &&
        step.chain.name === 'KYLIN-VR-UPLINK' &&
        !isLate(step)
          ? [step.chain.rules.at(-1) ?? '']
          : [],
      );
      assert.match(uplink?.join() ?? '', BEGAN_SO);
      assert.deepEqual(looks.map(late), Array(2).fill(['~ chain KYLIN-VR-UPLINK in mangle']));
      assert.deepEqual(
        machine.rules('mangle KYLIN-VR-UPLINK').filter((rule) => BEGAN_SO.test(rule)),
        [],
      );
    });
});

describe('a network that becomes', () => {
  const guards = (from: Config, to: Config) =>
    change(from, to).looks.map(late)[0]?.includes('~ chain KYLIN-VR-NOWHERE in mangle');
  const narrow = { ...SUBNET_B, prefix: 28 };
  const [wide, less] = [
    { dest: '198.18.0.0/16', via: '192.0.2.66' },
    { dest: '198.18.5.0/24', via: '192.0.2.66' },
  ];
  it('narrower is guarded, what was in it before', () => {
    assert.equal(guards(BOTH, config({ nics: [UPLINK, SUBNET_A, narrow] })), true);
    assert.equal(guards(config({ routes: [wide] }), config({ routes: [less] })), true);
  });
  it('wider has nothing of before to guard', () => {
    assert.equal(guards(config({ nics: [UPLINK, SUBNET_A, narrow] }), config()), false);
    assert.equal(guards(config({ routes: [less] }), config({ routes: [wide] })), false);
  });
  it('one that leads out now, or is within one that does, is guarded as long: what is under way goes inside', () => {
    for (const dest of ['198.18.5.0/24', '198.18.0.0/16', '198.16.0.0/12'])
      assert.equal(guards(config({ routes: [wide] }), config({ routes: [{ dest, via: '203.0.113.1' }] })), true, dest);
    const out = [{ dest: '192.0.0.0/8', via: '203.0.113.1' }];
    assert.equal(guards({ ...BOTH, routes: out }, config({ nics: [UPLINK, SUBNET_A], routes: out })), true);
  });
  it('a default route in halves makes nothing stay', () => {
    const halves = ['0.0.0.0/1', '128.0.0.0/1'].map((dest) => ({ dest, via: '203.0.113.1' }));
    assert.equal(guards({ ...BOTH, routes: halves }, config({ nics: [UPLINK, SUBNET_A], routes: halves })), true);
  });
});

it('a second uplink that goes keeps the chains that its rules lead to', () => {
  const two = config({ nics: [UPLINK, SECOND_UPLINK, SUBNET_A] });
  const { looks } = change(two, config({ nics: [UPLINK, SUBNET_A] }));
  const removed = (steps: readonly Step[] = []) =>
    steps.flatMap((step) => (step.kind === 'remove-chain' ? [`${step.name}${isLate(step) ? ', late' : ''}`] : []));
  assert.deepEqual(looks.map(removed), [['KYLIN-VR-OUTBOUND-OTHER, late'], ['KYLIN-VR-OUTBOUND-OTHER']]);
});

describe('nothing waits', () => {
  const cases: [what: string, from: Config, to: Config][] = [
    ['when an EIP comes', config(), BOTH],
    ['when an EIP goes', BOTH, config()],
    ['at the first run', NONE, BOTH],
    [
      'when the uplink has another address',
      BOTH,
      { ...BOTH, nics: [{ ...UPLINK, ipaddr: '203.0.113.11' }, SUBNET_A, SUBNET_B] },
    ],
    ['when a source is not translated any more', BOTH, { ...BOTH, eips: [], snats: [{ source: OF_B, to: 'none' }] }],
  ];
  for (const [what, from, to] of cases)
    it(what, () => {
      const { looks } = change(from, to);
      assert.deepEqual(looks.map(late), [[]]);
    });
});
