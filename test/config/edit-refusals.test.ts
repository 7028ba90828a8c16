// What an edit refuses, in its own words.

import assert from 'node:assert/strict';
import { it } from 'node:test';
import { UsageError } from '../../src/base/errors.ts';
import { differences } from '../../src/config/difference.ts';
import { readDocument } from '../../src/config/document.ts';
import { editConfig } from '../../src/config/edit.ts';
import { editList } from '../../src/config/list-text.ts';
import { parseConfig } from '../../src/config/parse.ts';
import { inProcess } from '../cli/program.ts';

const NICS = `if_list:
  - { ipaddr: 203.0.113.37, prefix: 24, mac: '52:54:84:00:08:46', gateway: 203.0.113.1 }
  - { ipaddr: 10.10.1.254, prefix: 24, mac: '52:54:84:11:00:04' }
`;

function configOf(text: string) {
  const parsed = parseConfig(text);
  assert.ok(parsed.ok);
  return parsed.config;
}

for (const [because, text] of [
  [
    'vpc.yaml:4:1: more than eip_list would change, by an anchor',
    `${NICS}eip_list:
  - { eip: 203.0.113.50, vm-ip: &it 10.10.1.11 }
  - { eip: 203.0.113.51, vm-ip: &it 10.10.1.12 }
port_forward_list:
  - { eip: 203.0.113.52, protocol: tcp, port: 80, vm-ip: *it, vm-port: 80 }
`,
  ],
  ['vpc.yaml:5:3: eip_list[0] shares its line', `${NICS}? eip_list\n: - { eip: 203.0.113.51, vm-ip: 10.10.1.12 }\n`],
] as const)
  it(because, () =>
    assert.throws(
      () => editConfig('vpc.yaml', text, configOf(text), { noun: 'eip', verb: 'remove', args: ['203.0.113.51'] }),
      ({ message }: Error) =>
        message === `${because}, which kylin-vr does not edit: edit the file by hand, then run kylin-vr reload`,
    ),
  );

it('a text without a mapping', () => {
  assert.deepEqual(editList(readDocument('[]\n'), { list: 'eip_list', remove: new Set(), add: [] }), {
    at: 0,
    because: 'the file is no mapping',
  });
});

it('an order that differs is a difference', () => {
  const eips = ['  - { eip: 203.0.113.50, vm-ip: 10.10.1.11 }\n', '  - { eip: 203.0.113.51, vm-ip: 10.10.1.12 }\n'];
  const of = (entries: readonly string[]) => configOf(`${NICS}eip_list:\n${entries.join('')}`);
  assert.deepEqual(differences(of(eips), of([...eips].reverse())), ['~ the order of entries']);
  assert.deepEqual(differences(of(eips), of(eips)), []);
});

it('--confirm-within without a reload', async () => {
  await assert.rejects(
    inProcess('eip', 'add', '203.0.113.50=10.10.1.11', '--no-reload', '--confirm-within', '9'),
    new UsageError('--confirm-within needs a reload: leave --no-reload out'),
  );
});
