// The documents show what the program prints: the same runs again, and not a letter differs. `npm run capture` mends it.

import assert from 'node:assert/strict';
import { before, describe, it } from 'node:test';
import { captures } from './captures.ts';
import { blocksOf, type Captures, DOCUMENTS, MANUAL, PICTURE, README, read } from './documents.ts';
import { steady } from './terminal.ts';

describe('what the documents show (npm run capture writes it anew)', () => {
  let captured: Captures;
  before(async () => {
    captured = await captures();
  });

  for (const name of DOCUMENTS)
    it(`${name} has what the program prints`, async () => {
      const shown = blocksOf(await read(name));
      const now = Object.keys(shown).map((block) => [block, captured.blocks[block]]);
      assert.deepEqual(shown, Object.fromEntries(now));
    });

  it('the picture is what the program prints', async () => assert.equal(await read(PICTURE), captured.picture));

  it('no output is typed by hand', async () => {
    const unmarked = /(?<!^<!-- captured: .*\n)^```\w*\n[$#→] ?(kylin-vr\b|\{).*/gm;
    for (const name of DOCUMENTS) assert.deepEqual((await read(name)).match(unmarked), null);
  });

  it('every capture is shown', async () => {
    const shown = (await Promise.all(DOCUMENTS.map(read))).flatMap((document) => Object.keys(blocksOf(document)));
    assert.deepEqual([...new Set(shown)].sort(), Object.keys(captured.blocks).sort());
  });

  for (const names of [README, MANUAL])
    it(`${names[1]} shows what ${names[0]} does`, async () => {
      const [english = '', chinese = ''] = await Promise.all(names.map(read));
      assert.deepEqual(Object.entries(blocksOf(chinese)), Object.entries(blocksOf(english)));
    });
});

describe('what changes from run to run', () => {
  const made = (from: string, to: string) => assert.equal(steady(from), to);

  it('times keep their order', () =>
    made(
      '2026-11-22T05:10:00.123Z, 2026-11-20T23:59:59Z, 2026-11-22T05:10:00.123Z',
      '2026-05-01T12:01:00.000Z, 2026-05-01T12:00:00Z, 2026-05-01T12:01:00.000Z',
    ));

  it('durations are one', () => made('in 7 ms, "durationMs": 1234', 'in 150 ms, "durationMs": 150'));

  it('ids are told apart, and known again', () => {
    const [first, second, again] = steady('run 8f0c2a71, run 11d93e52, "id": "8f0c2a71"').match(/[\da-f]{8}/g) ?? [];
    assert.notEqual(first, second);
    assert.equal(first, again);
    made('{"pid": 77}, {"pid":5}, {"pid":77}', '{"pid": 4001}, {"pid":4002}, {"pid":4001}');
  });

  it('anything else stays', () => {
    const text = '203.0.113.37/24 3b1f09c4d2aa 60 s 2 steps {"count": 616} "aWZfbGlzdDo="';
    made(text, text);
  });
});
