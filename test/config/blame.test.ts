// One such character, at any place of a file, is one error, which names it where it is.

import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { loadConfig } from '../../src/config/load.ts';
import { parseConfig } from '../../src/config/parse.ts';
import { LONG } from '../quick.ts';

const FILE = `if_list:
   - ipaddr: 10.90.3.37
     prefix: 24
     mac: 52:54:84:11:00:00
     gateway: 10.90.3.1
   - ipaddr: 192.168.100.254
     prefix: 24
     mac: 52:54:84:00:08:38
eip_list:
  - eip: 10.90.2.252
    vm-ip: 192.168.100.192
port_forward_list:
  # www.example.test
  - eip: 10.90.2.254
    protocal: udp
    port: 80
    end_port: 82
    vm-port: 80
    vm-ip: 192.168.100.190
`;

/** What a character stands for, or nothing. */
const TYPED = {
  ' ': ['\u3000', '\u00a0', '\u2003', '\u202f', '\u200b', '\ufeff'],
  '-': ['\uff0d', '\u2014', '\u2212'],
  ':': ['\uff1a', '\ufe30'],
  '': ['\u200b', '\u200d', '\u2060', '\u00ad', '\u200e', '\u3000', '\u00a0', '\uff0c', '\u3001'],
} as const;

/** Where it goes in a line, behind what the first group has; the second is what it stands for. */
const PLACES: Readonly<Record<string, RegExp>> = {
  'in the first column of an indent': /^()( )/,
  'in the last column of an indent': /^( +)( )(?=[^ ])/,
  'in front of a line': /^()()(?=[^ #])/,
  'behind the indent': /^( +)()(?=[^ #])/,
  'as a dash': /^( +)(-)(?= )/,
  'behind a dash': /^( +-)( )/,
  'behind a dash and its space': /^( +- )()/,
  'in a key': /^((?: +(?:- )?)?[a-z])()[\w-]+:/,
  'in the place of a dash of a key': /^( +vm)(-)/,
  'at the end of a key': /^((?: +(?:- )?)?[\w-]+)()(?=:)/,
  'as a colon': /^((?: +(?:- )?)?[\w-]+)(:)/,
  'behind a colon': /^((?: +(?:- )?)?[\w-]+:)( )/,
  'behind a colon and its space': /^((?: +(?:- )?)?[\w-]+: )()/,
  'in a value': /^((?: +(?:- )?)?[\w-]+: \w)()/,
  'in a MAC': /^( +mac: 52)(:)/,
  'at the end of a line': /^((?: +(?:- )?)?[\w-]+:.*)()$/,
};

type Found = { line?: number; column?: number; endColumn?: number; message: string };
const errorsOf = (text: string): Found[] => {
  const parsed = parseConfig(text);
  return parsed.ok ? parsed.warnings : [...parsed.errors, ...parsed.warnings];
};
const numberOf = (char: string) => `(U+${char.charCodeAt(0).toString(16).toUpperCase().padStart(4, '0')})`;
const isThere = (
  { line, column = 0, endColumn = 0, message }: Found,
  at: { line: number; column: number },
  of: string,
) => line === at.line && column <= at.column && at.column < endColumn && message.includes(numberOf(of));

/** Every text that differs from the file in one such place. */
function* mistakes(
  place: RegExp,
  behind = '',
): Iterable<{ text: string; char: string; at: { line: number; column: number } }> {
  const lines = FILE.split('\n');
  for (const [n, source] of lines.entries()) {
    const [, before, instead] = place.exec(source) ?? [];
    if (before === undefined || instead === undefined) continue;
    for (const char of TYPED[instead as keyof typeof TYPED]) {
      const line = before + char + source.slice(before.length + instead.length) + behind;
      const text = lines.with(n, line).join('\n');
      // At the very beginning that is a byte order mark as it should be.
      if (text.startsWith('\ufeff')) continue;
      yield { text, char, at: { line: n + 1, column: before.length + 1 } };
    }
  }
}

describe('a character of an input method', () => {
  const wrongIn = (place: RegExp, behind?: string) =>
    [...mistakes(place, behind)].flatMap(({ text, char, at }) => {
      const found = errorsOf(text);
      const [first] = found;
      const isRight = found.length === 1 && first !== undefined && isThere(first, at, char);
      return isRight ? [] : [{ at, of: numberOf(char), found }];
    });

  it('the file itself is right', () => assert.deepEqual(errorsOf(FILE), []));
  for (const [name, place] of Object.entries(PLACES)) it(name, LONG, () => assert.deepEqual(wrongIn(place), []));
  it('before a comment', LONG, () => {
    assert.deepEqual(wrongIn(/^((?: +(?:- )?)?[\w-]+:.*)()$/, '# note'), []);
    assert.deepEqual(wrongIn(/^((?: +(?:- )?)?[\w-]+: \S+)()$/, ' # note'), []);
  });

  it('an indent of wide ones, each for two columns', () => {
    const found = errorsOf(FILE.replace('\n    vm-ip: 192.168.100.192', '\n\u3000\u3000vm-ip: 192.168.100.192'));
    assert.deepEqual(
      found.map(({ line, column, message }) => [line, column, message]),
      [[11, 1, 'is an unknown key: has a full-width space (U+3000) in the place of a space']],
    );
  });

  it('one error a line, and what is wrong elsewhere', () => {
    const text = FILE.replace('eip: 10.90.2.252', 'eip：10.90.2.252')
      .replace('vm-ip: 192.168.100.192', 'vm-ip：192.168.100.192，')
      .replace('port: 80', 'port: 99999');
    assert.deepEqual(
      errorsOf(text).map(({ line, message }) => `${line} ${message.replace(/.*(?=has a)/s, '')}`),
      [
        '10 has a full-width colon (U+FF1A) in the place of : and a space',
        '11 has a full-width colon (U+FF1A) in the place of : and a space',
        '16 must be a port from 1 to 65535, is 99999',
      ],
    );
    const refused = FILE.replace('eip: 10.90.2.252', 'eip: 10.90.2。252').replace('port: 80', 'port: 99999');
    assert.deepEqual(
      errorsOf(refused).map(({ line, message }) => `${line} ${message}`),
      [
        '10 must be an IPv4 address, is 10.90.2。252, which has an ideographic full stop (U+3002) in the place of a dot',
        '16 must be a port from 1 to 65535, is 99999',
      ],
    );
  });

  it('one in quotes or in a comment is blamed for nothing', () => {
    const named = FILE.replace('10.90.2.254', '"10.90.2.254" # 注：一').replace('# www', '# 公网，一　号');
    assert.deepEqual(errorsOf(named), []);
    assert.deepEqual(
      errorsOf(named.replace('port: 80', 'port: 99999')).map(({ message }) => message),
      ['must be a port from 1 to 65535, is 99999'],
    );
  });

  it('a run says the same', async () => {
    for (const [before, after] of [
      ['    vm-ip: 192.168.100.192', '  \u3000vm-ip: 192.168.100.192'],
      ['eip: 10.90.2.252', 'eip: 10.90.2\u3002252'],
    ] as const) {
      const text = FILE.replace(before, after);
      assert.deepEqual(await loadConfig(text), parseConfig(text));
      assert.equal(errorsOf(text).length, 1);
    }
  });
});

describe('one mistake is one error', () => {
  const errors = (text: string) => {
    const parsed = parseConfig(text);
    return parsed.ok ? [] : parsed.errors.map(({ line, column, message }) => `${line}:${column} ${message}`);
  };
  for (const [name, before, after, error] of [
    ['a dash that is missing', '  - eip: 10.90.2.254', '    eip: 10.90.2.254', '14:5 must be a list, is a mapping'],
    ['an alias of nothing', 'vm-ip: 192.168.100.192', 'vm-ip: *vm', '11:12 needs an anchor &vm before it'],
    [
      'a list that is one',
      'eip_list:\n  - eip: 10.90.2.252\n    vm-ip: 192.168.100.192',
      'eip_list: *list',
      '9:11 needs an anchor &list before it',
    ],
    [
      'an entry that is one',
      '- eip: 10.90.2.252\n    vm-ip: 192.168.100.192',
      '- *eip',
      '10:5 needs an anchor &eip before it',
    ],
    [
      'a merge key',
      'prefix: 24',
      '<<: *nic',
      '3:6 is a merge key, which kylin-vr does not know: write its keys themselves',
    ],
    [
      'a dash that is missing, with its keys twice',
      '   - ipaddr: 192.168.100.254',
      '     ipaddr: 192.168.100.254',
      '6:6 is already given on line 2',
    ],
  ] as const)
    it(name, () => assert.deepEqual(errors(FILE.replace(before, after)), [error]));
});
