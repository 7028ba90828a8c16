import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { translateLegacyArgs } from '../../src/commands/legacy-args.ts';

const cases: [string, string][] = [
  // 0.1
  ['--start', 'start'],
  ['--reload', 'reload'],
  ['-c init', 'start'],
  ['-c subnet', 'start'],
  ['-c reload', 'reload'],
  ['-c reload -d eth1', 'reload --trigger udev'],
  ['-c init -d eth1 --json', 'start --trigger udev --json'],
  ['--json -c reload', '--json reload'],
  ['-c reload -d', 'reload --trigger udev'],
  // anything else comes back as it was
  ['', ''],
  ['reload --json', 'reload --json'],
  ['-c', '-c'],
  ['-c stop', '-c stop'],
  ['-c toString', '-c toString'],
  ['-d eth1', '-d eth1'],
  ['reload -d eth1', 'reload -d eth1'],
  ['check -- --reload', 'check -- --reload'],
  ['check -- -c reload', 'check -- -c reload'],
];

describe('a command line of 0.1', () => {
  for (const [args, expected] of cases)
    it(`${args || '(nothing)'} is ${expected === args ? 'left as it is' : expected}`, () => {
      assert.deepEqual(translateLegacyArgs(args.split(' ').filter(Boolean)), expected.split(' ').filter(Boolean));
    });
});
