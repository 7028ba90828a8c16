// Rules of others in nat: whether one may have decided over a flow.

import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { ipv4 } from '../../src/base/ipv4.ts';
import { exemptions, foreignNat } from '../../src/engines/iptables/foreign-nat.ts';
import type { FirstPacket, NatRules } from '../../src/network/flows.ts';

const LOCAL = new Set(['203.0.113.10', '198.51.100.5'].map(ipv4));
const OURS = '-j KYLIN-VR-DNAT';
const packet = (change: Partial<FirstPacket> = {}): FirstPacket => ({
  protocol: 'tcp',
  source: ipv4('203.0.113.200'),
  destination: ipv4('198.51.100.5'),
  sourcePort: 40_000,
  destinationPort: 80,
  in: ['eth0'],
  ...change,
});

const decides = (rules: NatRules, asked = packet(), oursDecides = true): boolean =>
  foreignNat(rules, (address) => LOCAL.has(address)).mayDecide('PREROUTING', asked, oursDecides);
const before = (rule: string, asked?: FirstPacket) => decides({ PREROUTING: [rule, OURS] }, asked);

describe('a foreign rule before ours', () => {
  const matching = [
    '-j REDIRECT --to-ports 8080',
    '-p tcp -j ACCEPT',
    '-d 198.51.100.5/32 -p tcp -m tcp --dport 80 -j DNAT --to-destination 10.8.0.2',
    '-s 203.0.113.0/24 -j DNAT --to-destination 10.8.0.2',
    '! -s 192.0.2.0/24 -j ACCEPT',
    '-p tcp -m tcp --dport 79:81 -j ACCEPT',
    '-p tcp -m tcp ! --dport 443 -j ACCEPT',
    '-p tcp -m tcp --sport 40000 -j ACCEPT',
    '-i eth0 -j ACCEPT',
    '-i eth+ -j ACCEPT',
    '! -i eth1 -j ACCEPT',
    '-m addrtype --dst-type LOCAL -j ACCEPT',
    '-m addrtype ! --src-type LOCAL -j ACCEPT',
    '-m comment --comment "leads -j nowhere, or \\"-j RETURN\\"" -j ACCEPT',
    '-p tcp -m tcp --dport 80 -j TPROXY --on-port 1 --on-ip 0.0.0.0 --tproxy-mark 0x1/0x1',
  ];
  for (const rule of matching)
    it(`decides over what it matches: ${rule}`, () => {
      assert.equal(before(rule), true);
    });

  const others = [
    '-p udp -j ACCEPT',
    '-d 198.51.100.6/32 -j ACCEPT',
    '! -d 198.51.100.0/24 -j ACCEPT',
    '-p tcp -m tcp --dport 81 -j ACCEPT',
    '-p tcp -m tcp --dport 81:90 -j ACCEPT',
    '-p tcp -m tcp --sport 1:1023 -j ACCEPT',
    '-i eth1 -j ACCEPT',
    '-i wg+ -j ACCEPT',
    '! -i eth+ -j ACCEPT',
    '-m addrtype ! --dst-type LOCAL -j ACCEPT',
    '-m addrtype --src-type LOCAL -j ACCEPT',
    '-m mark --mark 0x1 -p udp -j ACCEPT',
  ];
  for (const rule of others)
    it(`does not over what it does not match: ${rule}`, () => {
      assert.equal(before(rule), false);
    });

  const unknown = [
    '-m mark --mark 0x1 -j ACCEPT',
    '-m set --match-set allowed src -j ACCEPT',
    '-m addrtype --dst-type LOCAL --limit-iface-in -j ACCEPT',
    '-p tcp -m multiport --dports 1,2 -j ACCEPT',
    '-m addrtype --dst-type BROADCAST -j ACCEPT',
    '-s 10.0.0.0/255.0.255.0 -j ACCEPT',
    '-p 6 -j ACCEPT',
    '-j SOMEWHERE',
    '-m set --match-set ACCEPT src -g SOMEWHERE',
  ];
  for (const rule of unknown)
    it(`may where that cannot be told: ${rule}`, () => {
      assert.equal(before(rule), true);
    });

  it('may where the packet does not tell', () => {
    assert.deepEqual(
      [
        before('-i eth1 -j ACCEPT', packet({ in: undefined })),
        before('-i eth3 -j ACCEPT', packet({ in: ['eth0', 'eth3'] })),
        before('! -i eth3 -j ACCEPT', packet({ in: ['eth0', 'eth3'] })),
        before('-i eth1 -j ACCEPT', packet({ in: ['eth0', 'eth3'] })),
        before('-p esp -j ACCEPT', packet({ protocol: 'unknown' })),
        before('-p gre -j ACCEPT', packet({ protocol: 'unknown' })),
        before('-p tcp -m tcp --dport 443 -j ACCEPT', packet({ destinationPort: undefined })),
        before('-o eth1 -j ACCEPT'),
      ],
      [true, true, true, false, true, true, true, true],
    );
  });

  for (const rule of ['-j LOG', '-p tcp -j MARK --set-xmark 0x1/0x1', '-j NFLOG --nflog-group 1', '-m tcp -p tcp'])
    it(`lets ours be asked where it only looks: ${rule}`, () => {
      assert.equal(before(rule), false);
    });

  it('keeps ours from being asked by RETURN, out of a built-in chain', () => {
    assert.equal(before('-p tcp -j RETURN'), true);
    assert.equal(before('-p udp -j RETURN'), false);
    assert.equal(before('-m mark --mark 0x1 -j RETURN'), true);
  });
});

describe('a foreign rule behind ours', () => {
  const behind = (rules: string[], oursDecides: boolean) => decides({ PREROUTING: rules }, packet(), oursDecides);
  it('is not asked where ours decide', () => {
    assert.equal(behind([OURS, '-j REDIRECT'], true), false);
  });
  it('is asked where ours do not', () => {
    assert.equal(behind([OURS, '-j REDIRECT'], false), true);
    assert.equal(behind([OURS, '-p udp -j REDIRECT'], false), false);
  });
  it('is not asked behind a RETURN of somebody else', () => {
    assert.equal(behind(['-p tcp -j RETURN', '-j REDIRECT'], false), false);
    assert.equal(behind(['-m mark --mark 0x1 -j RETURN', '-j REDIRECT'], false), true);
  });
  it('may be asked where it cannot be told whether ours were', () => {
    assert.equal(behind([`-m mark --mark 0x1 ${OURS}`, '-j REDIRECT'], true), true);
  });
});

describe('a foreign chain', () => {
  const through = (chain: string[], jump = '-j THEIRS', asked = packet()) =>
    decides({ PREROUTING: [jump, OURS], THEIRS: chain, DEEPER: ['-p tcp -m tcp --dport 80 -j ACCEPT'] }, asked);
  it('decides by its rules', () => {
    assert.deepEqual(
      [
        through(['-p tcp -j ACCEPT']),
        through(['-p udp -j ACCEPT']),
        through(['-p tcp -j ACCEPT'], '-p udp -j THEIRS'),
        through([]),
      ],
      [true, false, false, false],
    );
  });
  it('decides by the chains below it', () => {
    assert.equal(through(['-j DEEPER']), true);
    assert.equal(through(['-j DEEPER'], undefined, packet({ destinationPort: 81 })), false);
    assert.equal(through(['-g DEEPER']), true);
  });
  it('does not decide by what is behind its RETURN', () => {
    assert.equal(through(['-i eth0 -j RETURN', '-j ACCEPT']), false);
    assert.equal(through(['-i docker0 -j RETURN', '-j ACCEPT']), true);
  });
  it('that leads to ours is as one that may decide: what it does before is its own', () => {
    assert.equal(through([OURS]), true);
  });
  it('that leads to itself, or is not shown, may', () => {
    assert.equal(through(['-j THEIRS']), true);
    assert.equal(through(['-j HIDDEN']), true);
  });
});

it('without rules nobody decides', () => {
  assert.deepEqual([decides({}), decides({ PREROUTING: [OURS] }, packet(), false)], [false, false]);
});

describe('what is kept from being translated before ours', () => {
  const OUR_JUMP = '-j KYLIN-VR-POSTROUTING';
  const kept = (rules: string[], chains: NatRules = {}) => exemptions(rules, () => chains);
  it('is told where it is simple', () => {
    assert.deepEqual(kept(['-s 192.0.2.5/32 -p udp -m udp --dport 4500 -j ACCEPT', OUR_JUMP]), {
      exempt: ['-s 192.0.2.5/32 -p udp -m udp --dport 4500 -j RETURN'],
      all: true,
    });
  });
  const cases: [what: string, all: boolean, rules: string[], chains?: NatRules][] = [
    ['nothing', true, [OUR_JUMP]],
    ['a source of theirs', true, ['-s 172.17.0.0/16 ! -o docker0 -j MASQUERADE', OUR_JUMP]],
    ['a mark', true, ['-j MARK --set-xmark 0x1/0x1', '-m comment --comment "-j ACCEPT" -j LOG', OUR_JUMP]],
    ['what nobody can say but nft', false, ['', OUR_JUMP]],
    ['by a mark', false, ['-m mark --mark 0x1 -j ACCEPT', OUR_JUMP]],
    ['by RETURN', false, ['-p udp -j RETURN', OUR_JUMP]],
    ['behind ours', true, [OUR_JUMP, '-m mark --mark 0x1 -j ACCEPT']],
    ['a chain that comes back', true, ['-j THEIRS', OUR_JUMP], { THEIRS: ['-p tcp -j RETURN', '-j MASQUERADE'] }],
    ['a chain that does not', false, ['-g THEIRS', OUR_JUMP], { THEIRS: ['-p tcp -j RETURN'] }],
    [
      'a chain below a chain',
      false,
      ['-j THEIRS', OUR_JUMP],
      { THEIRS: ['-j DEEPER'], DEEPER: ['-d 192.0.2.0/24 -j ACCEPT'] },
    ],
    ['a chain that leads to itself', false, ['-j THEIRS', OUR_JUMP], { THEIRS: ['-j THEIRS'] }],
  ];
  for (const [what, all, rules, chains] of cases)
    it(`${all ? 'is all told' : 'may be more than is told'}: ${what}`, () => {
      assert.deepEqual(kept(rules, chains), { exempt: [], all });
    });
});
