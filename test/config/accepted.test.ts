// Entries that are as in the last good file are taken from there: whatever is changed, the outcome is that of a full reading.

import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import type { Accepted } from '../../src/config/accepted.ts';
import { loadChanged } from '../../src/config/load.ts';
import { LONG } from '../quick.ts';

const GOOD = `# router 7
if_list:
  - ipaddr: 203.0.113.37
    prefix: "24"
    mac: 52:54:84:00:08:46   # public
    gateway: 203.0.113.1
    mtu: 1450
  - ipaddr: 10.10.1.254
    prefix: 24
    mac: 52:54:84:11:00:04
eip_list:
  - eip: 203.0.113.50
    vm-ip: 10.10.1.11
  # of the second tenant
  - eip: 203.0.113.51
    vm_ip: 10.10.1.12
  - eip: 203.0.113.52
    vm-ip: 10.10.1.13
port_forward_list:
  - eip: 203.0.113.60
    protocal: tcp
    port: 80
    end_port: 82
    vm-port: 8080
    vm-ip: 10.10.1.14
route_list:
  - dest: 172.16.0.0/16
    via: 10.10.1.1
snat_list:
  - source: 10.10.1.0/24
    to: masquerade
from-uplink: drop
`;

async function accepted(text: string): Promise<Accepted | undefined> {
  const { parsed, spans } = await loadChanged(text, undefined);
  return parsed.ok && spans !== undefined
    ? { text, spans, config: JSON.parse(JSON.stringify(parsed.config)) }
    : undefined;
}

async function agree(before: Accepted, text: string): Promise<boolean> {
  const [changed, whole] = [await loadChanged(text, before), await loadChanged(text, undefined)];
  assert.deepEqual(changed, whole);
  return changed.parsed.ok;
}

const good = (await accepted(GOOD)) as Accepted;

test('what an entry meant then it means now', async () => {
  const config = { ...good.config, eips: good.config.eips.map(({ eip }) => ({ eip, vmIp: '10.10.1.99' })) };
  const text = GOOD.replace('10.10.1.12', '10.10.1.77').replace(
    '  - eip: 203.0.113.52',
    '# moved\n\n  - eip: 203.0.113.52',
  );
  const { parsed } = await loadChanged(text, { ...good, config });
  assert.ok(parsed.ok);
  assert.deepEqual(
    parsed.config.eips.map(({ vmIp }) => vmIp),
    ['10.10.1.99', '10.10.1.77', '10.10.1.99'],
  );
});

test('any lines taken out, put elsewhere, or written twice: as read anew', LONG, async () => {
  const lines = GOOD.split('\n');
  const place = fc.nat(lines.length - 1);
  let valid = 0;
  await fc.assert(
    fc.asyncProperty(
      fc.array(fc.tuple(place, fc.nat(3), place, fc.boolean()), { minLength: 1, maxLength: 3 }),
      async (moves) => {
        const text = [...lines];
        for (const [from, count, to, stays] of moves) {
          const taken = stays ? text.slice(from, from + count) : text.splice(from, count);
          text.splice(to, 0, ...taken);
        }
        if (await agree(good, text.join('\n'))) valid++;
      },
    ),
    { numRuns: 2000 },
  );
  assert.ok(valid > 200, `${valid} of 2000 were valid`);
});

test('any characters changed, and then changed again: as read anew', LONG, async () => {
  const piece = fc.constantFrom(
    '',
    '1',
    '9',
    '.',
    ':',
    ' ',
    '\n',
    '  - ',
    '#',
    '"',
    'eip',
    'vm-ip',
    'dest: ',
    '[]',
    'é',
    '\t',
  );
  const edits = fc.array(fc.tuple(fc.nat(GOOD.length), fc.nat(2), piece), { minLength: 1, maxLength: 2 });
  const edited = (text: string, changes: readonly [number, number, string][]) =>
    changes.reduce((now, [at, removed, inserted]) => now.slice(0, at) + inserted + now.slice(at + removed), text);
  let second = 0;
  await fc.assert(
    fc.asyncProperty(edits, edits, async (one, other) => {
      const text = edited(GOOD, one);
      await agree(good, text);
      const next = await accepted(text);
      if (next === undefined) return;
      second++;
      await agree(next, edited(text, other));
      await agree(next, GOOD);
    }),
    { numRuns: 1000 },
  );
  assert.ok(second > 50, `${second} of 1000 were valid`);
});
