// What the file does with addresses, as data: in force, by the NICs that are there, and as which program would.

import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { formatNetwork, ipv4 } from '../../src/base/ipv4.ts';
import { type Config, type Snat, uplinkOf } from '../../src/config/config.ts';
import { bindNics } from '../../src/network/nics.ts';
import { sourceRuleFor, translationOf, type Ways } from '../../src/network/translation.ts';
import { config, forward, LINKS, SECOND_UPLINK, SUBNET_A, SUBNET_B, UPLINK, without } from './fixtures.ts';

const [V, W] = ['192.0.2.5', '192.0.2.6'];
const [V_EIP, V_EIP2, PORTS] = ['198.51.100.5', '198.51.100.6', '198.51.100.80'];
const [A, B, BEHIND_A] = ['192.0.2.0/26', '192.0.2.64/26', '198.18.5.0/24'];
const NICS = [UPLINK, SECOND_UPLINK, SUBNET_A, SUBNET_B];
const BY_A = [{ dest: BEHIND_A, via: '192.0.2.9' }];

function translation(change: Partial<Config>, { links = LINKS, ways = 'today' as Ways } = {}) {
  const wanted = config(change);
  return translationOf(wanted, bindNics(wanted.nics, links).bound, uplinkOf(wanted)?.mac, ways);
}

/** `192.0.2.0/26 uplink` */
const sources = (...of: Parameters<typeof translation>): string[] =>
  translation(...of).sources.map(
    ({ network, to }) => `${formatNetwork(network)} ${typeof to === 'object' ? to.address : to}`,
  );
const snats = (...entries: [source: string, to: string][]): Snat[] =>
  entries.map(([source, to]) => ({ source, to: to === 'masquerade' || to === 'none' ? to : { address: to } }));

describe('what the file does with addresses', () => {
  const eips = [V_EIP2, V_EIP].map((eip) => ({ eip, vmIp: V }));
  const forwards = [`tcp ${PORTS}:80 → ${W}:80`, `tcp ${V_EIP}:80 → ${W}:80`].map(forward);
  const full = { nics: NICS, eips, forwards, routes: BY_A };

  it('is: EIPs and forwards by the uplink, the source of each VM, gates, and who is inside', () => {
    const { inside, sources: _, ...rest } = translation(full);
    assert.deepEqual(rest, {
      uplink: { device: 'eth0', ipaddr: UPLINK.ipaddr },
      others: [{ device: 'eth3', ipaddr: SECOND_UPLINK.ipaddr }],
      eips,
      // 1:1 wins.
      forwards: forwards.slice(0, 1),
      ownSource: new Map([[V, V_EIP2]]),
    });
    assert.deepEqual(inside.map(formatNetwork), [A, B, BEHIND_A]);
    assert.deepEqual(sources(full), [`${A} uplink`, `${B} uplink`, `${BEHIND_A} uplink`]);
  });

  it('while the uplink is not there is: nothing mapped, and sources by the others', () => {
    const { uplink, others, eips, forwards, ownSource } = translation(full, { links: without('eth0') });
    assert.deepEqual(
      { uplink, others: others.map(({ device }) => device), eips, forwards, ownSource },
      { uplink: undefined, others: ['eth3'], eips: [], forwards: [], ownSource: new Map() },
    );
    assert.deepEqual(sources(full, { links: without('eth0') }), [`${A} uplink`, `${B} uplink`, `${BEHIND_A} uplink`]);
  });

  it('while a subnet is not there is without what is behind it', () => {
    const { inside } = translation(full, { links: without('eth1') });
    assert.deepEqual(inside.map(formatNetwork), [A, B]);
    assert.deepEqual(sources(full, { links: without('eth1') }), [`${A} uplink`, `${B} uplink`]);
  });

  it('as in 1.0 is: nobody behind routes, and no second uplink', () => {
    const { others, inside } = translation(full, { ways: 'as in 1.0' });
    assert.deepEqual([others, inside.map(formatNetwork)], [[], [A, B]]);
    assert.deepEqual(sources(full, { ways: 'as in 1.0' }), [`${A} uplink`, `${B} uplink`]);
  });
});

describe('what becomes of a source', () => {
  const cases: [string, Snat[] | undefined, string[]][] = [
    ['is the uplink by default, behind routes too', undefined, [`${A} uplink`, `${B} uplink`, `${BEHIND_A} uplink`]],
    ['is itself where the list is empty', [], []],
    [
      'is what its subnet has, behind a route too',
      snats([A, PORTS]),
      [`${A} ${PORTS}`, `${B} uplink`, `${BEHIND_A} ${PORTS}`],
    ],
    ['is none where its subnet has none', snats([A, 'none']), [`${A} none`, `${B} uplink`, `${BEHIND_A} none`]],
    [
      'is what an entry of its own says',
      snats([A, 'none'], [BEHIND_A, 'masquerade']),
      [`${A} none`, `${B} uplink`, `${BEHIND_A} masquerade`],
    ],
    [
      'behind a route is what a wider entry says: in 1.0 that was the only way',
      snats(['198.18.0.0/15', PORTS]),
      [`${A} uplink`, `${B} uplink`, `198.18.0.0/15 ${PORTS}`],
    ],
    [
      'behind a route is beside an entry for a part of it',
      snats(['198.18.5.128/25', 'none']),
      [`${A} uplink`, `${B} uplink`, '198.18.5.128/25 none', `${BEHIND_A} uplink`],
    ],
    [
      'is decided by the narrowest, in whatever order',
      snats(['0.0.0.0/0', PORTS], [`${V}/32`, 'none']),
      [`${V}/32 none`, `${A} uplink`, `${B} uplink`, `0.0.0.0/0 ${PORTS}`],
    ],
  ];
  for (const [name, list, expected] of cases)
    it(name, () => {
      assert.deepEqual(sources({ routes: BY_A, snats: list }), expected);
    });

  it('is said by the first rule that holds it', () => {
    const { sources: rules } = translation({ snats: snats(['192.0.2.0/24', PORTS], [`${V}/32`, 'none']) });
    const to = (address: string) => sourceRuleFor(rules, ipv4(address))?.to;
    assert.deepEqual([V, W, '192.0.2.200', '198.18.5.7'].map(to), ['none', 'uplink', { address: PORTS }, undefined]);
  });
});
