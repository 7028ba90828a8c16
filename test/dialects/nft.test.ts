// What nft says of a table that iptables cannot read.

import assert from 'node:assert/strict';
import { it } from 'node:test';
import { parseNftTable, renderNftRemoval } from '../../src/dialects/nft.ts';

const LISTED = JSON.stringify({
  nftables: [
    { metainfo: { version: '1.0.6' } },
    { chain: { family: 'ip', table: 'nat', name: 'PREROUTING', handle: 7, hook: 'prerouting' } },
    { chain: { family: 'ip', table: 'nat', name: 'KYLIN-VR-DNAT', handle: 1 } },
    { chain: { family: 'ip', table: 'nat', name: 'KYLIN-VRRP', handle: 2 } },
    { rule: { chain: 'PREROUTING', handle: 3, expr: [{ counter: {} }, { jump: { target: 'KYLIN-VR-DNAT' } }] } },
    { rule: { chain: 'PREROUTING', handle: 4, expr: [{ jump: { target: 'KYLIN-VRRP' } }] } },
    { rule: { chain: 'PREROUTING', handle: 6, expr: [{ dnat: { addr: { map: { key: {}, data: '@theirs' } } } }] } },
    { rule: { chain: 'KYLIN-VR-DNAT', handle: 5, expr: [{ goto: { target: 'KYLIN-VR-D24-192.0.2.0' } }] } },
  ],
});
const WORDS =
  'table ip nat {\n\tchain PREROUTING {\n\t\tdnat to ip daddr map @theirs # handle 6\n\t\tcounter jump KYLIN-VR-DNAT # handle 3\n';

it('of a table that iptables cannot read our chains, the rules that lead to them, and what is strange are known', () => {
  assert.deepEqual(parseNftTable('nat', LISTED, WORDS), {
    table: 'nat',
    chains: [{ name: 'KYLIN-VR-DNAT', empty: false }],
    jumps: [{ chain: 'PREROUTING', handle: 3 }],
    rules: ['dnat to ip daddr map @theirs'],
  });
});

it('they are taken away in one transaction, what leads to them first', () => {
  assert.equal(
    renderNftRemoval(parseNftTable('nat', LISTED, WORDS)),
    'delete rule ip nat PREROUTING handle 3\nflush chain ip nat KYLIN-VR-DNAT\ndelete chain ip nat KYLIN-VR-DNAT\n',
  );
});

for (const text of ['', '[]', '{"nftables":[{"rule":{"chain":5}}]}'])
  it(`another text is refused: ${text}`, () => {
    assert.throws(
      () => parseNftTable('nat', text, ''),
      ({ message }: Error) => message.startsWith('nft -j list table ip nat printed something that is not understood: '),
    );
  });
