import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { lineSplitter } from '../../src/machine/command.ts';

describe('what a command prints, as it comes', () => {
  const CASES: [string, string[], string[]][] = [
    ['is no line where it is nothing', [], []],
    ['is handed on line by line', ['a\nb\n'], ['a', 'b']],
    ['has empty lines', ['\na\n\n'], ['', 'a', '']],
    ['is a line also where the last line feed lacks', ['a\nb'], ['a', 'b']],
    ['is put together again', ['a', 'b', 'c\nd', '\n', 'e\n'], ['abc', 'd', 'e']],
    ['may be any bytes', ['\xff\x00\n'], ['\xff\x00']],
    [
      'is kept no longer than a line of a table is',
      ['a'.repeat(60_000), 'b'.repeat(6_000), 'c\n'],
      ['a'.repeat(60_000) + 'b'.repeat(6_000), 'c'],
    ],
  ];
  for (const [name, pieces, lines] of CASES)
    it(name, () => {
      const seen: string[] = [];
      const split = lineSplitter((line) => seen.push(line));
      for (const piece of pieces) split(Buffer.from(piece, 'latin1'));
      split();
      assert.deepEqual(seen, lines);
    });
});
