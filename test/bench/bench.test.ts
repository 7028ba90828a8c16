// The benchmark itself, in small sizes: that each row still measures what it says. How fast anything is, is not looked at here.

import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { svgOf } from './curves.ts';
import { ratios, rounds, spreadOf } from './measure.ts';

const QUICK = [
  'quiet-10',
  'one-more',
  'first',
  'check',
  'help',
  'networkmanager',
  'memory',
  'take-back',
  'connections',
];

test('every row runs and gives numbers', (t) => {
  const folder = mkdtempSync(join(tmpdir(), 'kylin-vr-bench-'));
  t.after(() => rmSync(folder, { recursive: true }));
  const json = join(folder, 'bench.json');
  const args = ['--import', 'tsx', join(import.meta.dirname, 'bench.ts'), '--quick', '--json', json, ...QUICK];
  const { status, stdout, stderr } = spawnSync(process.execPath, args, { encoding: 'utf8', timeout: 300_000 });
  assert.equal(status, 0, stderr);
  const { outcomes } = JSON.parse(readFileSync(json, 'utf8')) as {
    outcomes: { row: string; measured: string; met: boolean }[];
  };
  assert.deepEqual([...new Set(outcomes.map(({ row }) => row))], QUICK);
  for (const { row, measured, met } of outcomes) {
    assert.match(measured, /\d/, row);
    assert.doesNotMatch(measured, /NaN|Infinity/, row);
    assert.equal(typeof met, 'boolean', row);
  }
  assert.match(stdout, /^work +goal +measured +spread +met$/m);
});

test('a row that is unknown is refused', () => {
  const { status, stderr } = spawnSync(
    process.execPath,
    ['--import', 'tsx', join(import.meta.dirname, 'bench.ts'), 'x'],
    {
      encoding: 'utf8',
    },
  );
  assert.equal(status, 64);
  assert.match(stderr, /x is no row, known are quiet-10,/);
});

test('one of each runs in every round, and the first round does not count', async () => {
  let turn = 0;
  const taken = await rounds(3, { a: async () => turn++, b: async () => turn++ });
  assert.deepEqual(taken, { a: [2, 4, 6], b: [3, 5, 7] });
  assert.deepEqual(ratios([2, 9], [1, 3]), [2, 3]);
  assert.deepEqual(spreadOf([5, 1, 3, 2, 4]), { median: 3, low: 2, high: 4 });
});

test('a curve has a line and a name for each', () => {
  const svg = svgOf('Title', 'ms', [
    {
      name: 'one',
      points: [
        [10, 1],
        [1000, 3],
      ],
    },
    {
      name: 'two',
      points: [
        [10, 2],
        [1000, 2],
      ],
    },
  ]);
  assert.equal(svg.match(/<polyline/g)?.length, 2);
  assert.match(svg, />one</);
  assert.doesNotMatch(svg, /NaN/);
});
