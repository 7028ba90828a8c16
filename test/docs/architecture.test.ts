// Each file that may go past `Host` is named on the architecture page, with the reason, and no other is.

import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { it } from 'node:test';

const read = (path: string): string => readFileSync(join(import.meta.dirname, '../..', path), 'utf8');

it('the files that lint lets import node:fs are those that the architecture page gives a reason for', () => {
  const { overrides } = JSON.parse(read('biome.json')) as { overrides: { includes: string[] }[] };
  const exempt = overrides.at(-1)?.includes.map((path) => path.replace('src/machine/', '')) ?? [];
  const [, table = ''] = /\n\| File \| Why \|\n\|---\|---\|\n((?:\|.*\n)+)/.exec(read('docs/architecture.md')) ?? [];
  const named = table.split('\n').flatMap((row) => {
    const [, files = '', why = ''] = row.split('|');
    return why.trim() === '' ? [] : [...files.matchAll(/`([^`]+)`/g)].map(([, file = '']) => file);
  });
  assert.ok(exempt.includes('linux-host.ts'));
  assert.deepEqual(named.toSorted(), exempt.toSorted());
});
