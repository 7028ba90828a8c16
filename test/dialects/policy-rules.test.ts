// What ip rule show prints, and whether a rule may send a flow elsewhere than the main table does.

import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { foreignRules, mayMatch } from '../../src/dialects/policy-rules.ts';
import { flow } from '../network/flowing.ts';

const OF_EVERY_MACHINE = '0:\tfrom all lookup local\n32766:\tfrom all lookup main\n32767:\tfrom all lookup default\n';
const FLOW = flow('udp 192.0.2.5 → 198.51.100.5:53 ⇒ 192.0.2.70:53 sees 203.0.113.10');

describe('ip rule show', () => {
  it('shows nothing foreign on a machine as it comes', () => {
    assert.deepEqual(foreignRules(OF_EVERY_MACHINE), []);
    assert.deepEqual(foreignRules(''), []);
  });

  it('shows nothing that concerns us where there are VRFs', () => {
    assert.deepEqual(foreignRules(`1000:\tfrom all lookup [l3mdev-table]\n${OF_EVERY_MACHINE}`), []);
  });

  it('shows what others have added, also where it looks much like those', () => {
    const text = `${OF_EVERY_MACHINE}100:\tfrom 192.0.2.5 lookup 100\n32764:\tfrom all lookup main suppress_prefixlength 0\n`;
    assert.deepEqual(foreignRules(text), [
      { words: ['from', '192.0.2.5', 'lookup', '100'] },
      { words: ['from', 'all', 'lookup', 'main', 'suppress_prefixlength', '0'] },
    ]);
  });

  it('shows as foreign what has another place than on every machine', () => {
    assert.equal(foreignRules('220:\tfrom all lookup main\n').length, 1);
  });
});

describe('a rule of policy routing', () => {
  const cases: [string, boolean][] = [
    ['from 192.0.2.5 lookup 100', true],
    ['from 192.0.2.0/26 lookup 100', true],
    ['from 192.0.2.6 lookup 100', false],
    ['from 192.0.2.64/26 lookup 100', false],
    // Routed by where it has been led to.
    ['from all to 192.0.2.70 lookup 100', true],
    ['from all to 198.51.100.5 lookup 100', false],
    ['from 192.0.2.0/26 to 192.0.2.64/26 lookup 100', true],
    ['from 192.0.2.0/26 to 192.0.2.0/26 lookup 100', false],
    ['from all fwmark 0x1 lookup 100', true],
    ['from all iif eth1 lookup 100', true],
    ['from 192.0.2.6 fwmark 0x1 lookup 100', false],
    ['not from all fwmark 0xca6c lookup 51820', true],
    ['not from 192.0.2.5 lookup 100', true],
    ['not from 192.0.2.6 lookup 100', true],
    ['from all ipproto udp dport 53 lookup 100', true],
    ['from all unreachable', true],
    ['from 192.0.2.5/255.255.255.0 lookup 100', true],
  ];
  for (const [text, expected] of cases)
    it(`${expected ? 'may' : 'does not'} concern a flow from 192.0.2.5 to 192.0.2.70: ${text}`, () => {
      assert.deepEqual(
        foreignRules(`100:\t${text}\n`).map((rule) => mayMatch(rule, FLOW)),
        [expected],
      );
    });
});
