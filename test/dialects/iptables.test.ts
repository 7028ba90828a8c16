import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { parseNatRules, parseSave, renderRestore, renderStrayRemoval } from '../../src/dialects/iptables.ts';
import { sample } from './samples.ts';

const GUARD = '! -p icmp -m conntrack --ctstate INVALID,NEW -j KYLIN-VR-INPUT';
const chain = (table: 'filter' | 'nat', name: string, ...rules: string[]) => ({ table, name, rules, ordered: true });
const hook = (table: 'mangle' | 'filter' | 'nat', name: string, ...rules: string[]) => ({ table, hook: name, rules });
const byName = (a: object, b: object) => JSON.stringify(a).localeCompare(JSON.stringify(b));

const OURS = [
  chain('filter', 'KYLIN-VR-FORWARD', '-i eth0 -j KYLIN-VR-FORWARD-TO'),
  chain('filter', 'KYLIN-VR-FORWARD-TO', '-o eth0 -j ACCEPT'),
  chain('filter', 'KYLIN-VR-I24-198.51.100.0', '-d 198.51.100.0/28 -j KYLIN-VR-I28-198.51.100.0'),
  chain('filter', 'KYLIN-VR-I28-198.51.100.0', '-d 198.51.100.5/32 -j DROP'),
  chain('filter', 'KYLIN-VR-INPUT', '-d 198.51.100.0/24 -j KYLIN-VR-I24-198.51.100.0'),
  chain(
    'nat',
    'KYLIN-VR-DNAT',
    '-p tcp -m tcp --dport 80:82 -j DNAT --to-destination 192.0.2.71:8080-8082/80',
    '-d 198.51.100.5/32 -j DNAT --to-destination 192.0.2.5',
  ),
  chain('nat', 'KYLIN-VR-OUTBOUND', '-j KYLIN-VR-SOURCE', '-s 192.0.2.64/26 -j MASQUERADE'),
  chain('nat', 'KYLIN-VR-SOURCE'),
];
const SSH = '-p tcp -m tcp --dport 22 -m comment --comment "ssh, from the office" -j ACCEPT';
const HOOKS = [
  hook('mangle', 'PREROUTING'),
  hook('mangle', 'INPUT'),
  hook('mangle', 'FORWARD'),
  hook('mangle', 'OUTPUT'),
  hook('mangle', 'POSTROUTING', '-p tcp -m tcp --tcp-flags SYN,RST SYN -j TCPMSS --clamp-mss-to-pmtu'),
  hook('filter', 'INPUT', GUARD, SSH, '-i lo -j ACCEPT'),
  hook('filter', 'FORWARD', '-j DOCKER-USER', '-j KYLIN-VR-FORWARD'),
  hook('filter', 'OUTPUT'),
  hook('nat', 'PREROUTING', '-j KYLIN-VR-DNAT', '-p tcp -m tcp --dport 8080 -j REDIRECT --to-ports 80'),
  hook('nat', 'INPUT'),
  hook('nat', 'OUTPUT', '-j KYLIN-VR-DNAT'),
  hook('nat', 'POSTROUTING', '-s 198.18.0.0/15 -j MASQUERADE'),
];

describe('iptables-save', () => {
  for (const name of ['nft-save', 'nft-save-c', 'legacy-save', 'legacy-save-c'])
    it(`shows our chains and the built-in ones of mangle, filter and nat, no others: iptables-${name}`, () => {
      const { ours, hooks } = parseSave(sample(`iptables-${name}.iptables-1.8.9.txt`));
      assert.deepEqual([ours.sort(byName), hooks.sort(byName)], [OURS.toSorted(byName), HOOKS.toSorted(byName)]);
    });

  it('shows the same in one text as table by table', () => {
    const text = sample('iptables-nft-save.iptables-1.8.9.txt');
    const tables = ['mangle', 'filter', 'nat'].map(
      (table) => `${text.slice(text.indexOf(`*${table}`)).split('COMMIT', 1)[0]}COMMIT\n`,
    );
    assert.deepEqual(parseSave(tables.join('')), parseSave(text));
  });

  it('shows what else may translate: the built-in chains of nat, and the foreign ones below them', () => {
    const text = [
      '*filter\n:INPUT ACCEPT [0:0]\n:DOCKER - [0:0]\n-A DOCKER -m comment --comment "a\nCOMMIT\n*nat\n:X - [0:0]" -j ACCEPT\nCOMMIT',
      '*nat\n:PREROUTING ACCEPT [0:0]\n:OUTPUT ACCEPT [0:0]\n:DOCKER - [0:0]\n:KYLIN-VR-DNAT - [0:0]',
      '[3:180] -A PREROUTING -j KYLIN-VR-DNAT',
      '-A PREROUTING -m addrtype --dst-type LOCAL -j DOCKER',
      '-A DOCKER -i docker0 -j RETURN',
      '-A KYLIN-VR-DNAT -d 198.51.100.5/32 -j DNAT --to-destination 192.0.2.5\nCOMMIT\n',
    ].join('\n');
    assert.deepEqual(parseNatRules(text), {
      PREROUTING: ['-j KYLIN-VR-DNAT', '-m addrtype --dst-type LOCAL -j DOCKER'],
      OUTPUT: [],
      DOCKER: ['-i docker0 -j RETURN'],
    });
  });

  for (const nothing of [
    '',
    '\n',
    '# Warning: iptables-legacy tables present\n',
    '*raw\n:PREROUTING ACCEPT [0:0]\nCOMMIT\n',
  ])
    it(`may show nothing of ours: ${JSON.stringify(nothing)}`, () => {
      assert.deepEqual(parseSave(nothing), { ours: [], hooks: [] });
    });
});

describe('iptables-restore', () => {
  it('is given nothing where nothing changes', () => {
    assert.equal(renderRestore([]), '');
  });

  it('is given mangle and filter before nat, each with its own COMMIT; chains are emptied before they go', () => {
    const jump = { table: 'nat' as const, hook: 'OUTPUT', rule: '-j KYLIN-VR-DNAT', place: 'anywhere' as const };
    const text = renderRestore([
      {
        kind: 'add-chain',
        chain: chain('nat', 'KYLIN-VR-DNAT', '-d 198.51.100.5/32 -j DNAT --to-destination 192.0.2.5'),
      },
      {
        kind: 'edit-chain',
        table: 'nat',
        name: 'KYLIN-VR-SOURCE',
        remove: ['-s 192.0.2.5/32 -j RETURN'],
        add: ['-s 192.0.2.6/32 -j RETURN'],
      },
      { kind: 'remove-chain', table: 'nat', name: 'KYLIN-VR-OLD' },
      { kind: 'replace-chain', chain: chain('filter', 'KYLIN-VR-INPUT') },
      { kind: 'remove-jump', jump: { ...jump, rule: '-j KYLIN-VR-OLD' } },
      { kind: 'add-jump', jump },
      { kind: 'add-jump', jump: { table: 'filter', hook: 'FORWARD', rule: '-j KYLIN-VR-FORWARD', place: 'last' } },
      { kind: 'add-jump', jump: { table: 'filter', hook: 'INPUT', rule: GUARD, place: 'first' } },
      {
        kind: 'add-jump',
        jump: { table: 'mangle', hook: 'POSTROUTING', rule: '-j KYLIN-VR-LEAVING', place: 'anywhere' },
      },
    ]);
    assert.equal(
      text,
      `*mangle
-I POSTROUTING 1 -j KYLIN-VR-LEAVING
COMMIT
*filter
:KYLIN-VR-INPUT - [0:0]
-A FORWARD -j KYLIN-VR-FORWARD
-I INPUT 1 ${GUARD}
COMMIT
*nat
:KYLIN-VR-DNAT - [0:0]
:KYLIN-VR-OLD - [0:0]
-A KYLIN-VR-DNAT -d 198.51.100.5/32 -j DNAT --to-destination 192.0.2.5
-D KYLIN-VR-SOURCE -s 192.0.2.5/32 -j RETURN
-A KYLIN-VR-SOURCE -s 192.0.2.6/32 -j RETURN
-D OUTPUT -j KYLIN-VR-OLD
-I OUTPUT 1 -j KYLIN-VR-DNAT
-X KYLIN-VR-OLD
COMMIT
`,
    );
  });

  it('of the other backend takes our jumps and chains away and keeps what is not ours', () => {
    const { ours, hooks } = parseSave(sample('iptables-legacy-save.iptables-1.8.9.txt'));
    const text = renderStrayRemoval({ restore: 'iptables-legacy-restore', chains: ours, hooks });
    const changes = text.split('\n').filter((line) => line.startsWith('-'));
    assert.deepEqual(
      changes.sort(),
      [
        `-D INPUT ${GUARD}`,
        '-D FORWARD -j KYLIN-VR-FORWARD',
        '-D PREROUTING -j KYLIN-VR-DNAT',
        '-D OUTPUT -j KYLIN-VR-DNAT',
        ...OURS.map(({ name }) => `-X ${name}`),
      ].sort(),
    );
  });
});
