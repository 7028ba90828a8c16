import assert from 'node:assert/strict';
import { test } from 'node:test';
import { parseConfig } from '../../src/config/parse.ts';
import { LONG } from '../quick.ts';
import { errorsOf, warningsOf } from './issues.ts';

const bytes = (text: string) => new TextEncoder().encode(text);

const EMPTY = 'needs at least if_list, and if_list: [] to take everything down';

const unreadable: [string, string | Uint8Array, string][] = [
  ['no byte at all', '', `undefined:undefined is empty: ${EMPTY}`],
  ['white space', ' \n\n', `1:1 is empty: ${EMPTY}`],
  ['a comment', '# router 7\n', `1:1 holds nothing but comments: ${EMPTY}`],
  ['a document marker', '---\n', '1:4 must be a mapping with the key if_list, is empty'],
  ['a word', 'hello\n', '1:1 must be a mapping with the key if_list, is hello'],
  ['null', 'null', '1:1 must be a mapping with the key if_list, is null'],
  ['a list', '[]', '1:1 must be a mapping with the key if_list, is a list'],
  ['an empty mapping', '{}', '1:1 needs if_list'],
  ['a NUL', 'if_list: []\n\0', '2:1 must be text, has the control character U+0000'],
  ['an escape character', 'if_list: [] # \x1b[31m', '1:15 must be text, has the control character U+001B'],
  ['no UTF-8', Uint8Array.of(105, 102, 10, 0xff, 0xfe), '2:1 must be text in UTF-8, is not from here on'],
  [
    'UTF-16',
    Uint8Array.of(0xff, 0xfe, 105, 0),
    '1:1 must be text in UTF-8, is not from here on, and looks like UTF-16: iconv -f UTF-16 -t UTF-8 FILE > NEW converts it',
  ],
  ['tabs as indent', 'if_list:\n\t- mac: x', '2:1 must be indented with spaces, not with tabs'],
  [
    'a key that is out of line',
    'if_list:\n  - mac: x\n   prefix: 2',
    '3:4 must be indented like the lines it belongs to',
  ],
  [
    'a key too far in',
    'if_list:\n  - mac: x\n     prefix: 2',
    '3:6 is further in than the key above it: indent it like its neighbours',
  ],
  [
    'a key too far in behind a comment',
    'if_list:\n  - mac: x\n    # two\n\n      prefix: 2\n    ipaddr: y',
    '5:7 must be indented like the lines it belongs to',
  ],
  ['a dash without a space', 'if_list:\n  -mac: x\n   prefix: 2', '2:3 needs a space after the dash'],
  [
    'a second dash without a space',
    'if_list:\n  - mac: x\n    prefix: 2\n  -mac: x\n   prefix: 2',
    '4:3 needs a space after the dash',
  ],
  [
    'a key inside a value',
    'if_list:\n  - mac: x: y',
    '2:10 is a key inside a value: put the value in quotes, or indent this line like its neighbours',
  ],
  [
    'a key further in behind lines that say nothing',
    'if_list: []\n\n# two\n eip_list: []',
    '4:2 must be indented like the lines it belongs to',
  ],
  [
    'a tab in the place of the last space',
    'if_list:\n  - mac: x\n  \tprefix: 2\n    ipaddr: y',
    '3:3 must be indented with spaces, not with tabs',
  ],
  [
    'no comma in braces',
    'if_list: [{mac: x prefix: 2}]',
    '1:17 needs a comma before it, or what it is in has dashes, which brackets do not allow',
  ],
  [
    'no comma in JSON',
    '{"if_list": []\n "eip_list": []}',
    '2:2 needs a comma before it, or what it is in has dashes, which brackets do not allow',
  ],
  ['text behind the end', 'if_list: []\n...\neip_list: []', '3:1 must be one document: remove this and the rest'],
  ['a tab behind spaces', 'if_list:\n  - mac: x\n   \tprefix: 2', '3:4 must be indented with spaces, not with tabs'],
  [
    'GBK',
    Uint8Array.of(35, 32, 0xb9, 0xab, 0xcd, 0xf8, 10),
    '1:3 must be text in UTF-8, is not from here on, and looks like GBK: iconv -f GB18030 -t UTF-8 FILE > NEW converts it',
  ],
  [
    'a full-width colon',
    'if_list:\n  - mac：x\n    prefix: 2',
    '2:8 has a full-width colon (U+FF1A) in the place of : and a space',
  ],
  ['a full-width comma', 'if_list: [{mac: x，prefix: 2}]', '1:18 has a full-width comma (U+FF0C) in the place of ,'],
  ['a full-width dash', 'if_list:\n  － mac: x\n    prefix: 2', '2:3 has a full-width dash (U+FF0D) in the place of -'],
  ['a long dash', 'if_list:\n  – mac: x\n    prefix: 2', '2:3 has a long dash (U+2013) in the place of -'],
  [
    'a full-width space',
    'if_list:\n  -\u3000mac: x\n    prefix: 2',
    '2:4 has a full-width space (U+3000) in the place of a space',
  ],
  ['a list item too far out', 'if_list:\n  - mac: x\n- mac: y', '3:1 must be indented like the lines it belongs to'],
  [
    'a double quote that is not closed',
    'if_list: []\nname: "a\nb: c\n',
    '2:7 needs a second quote that closes this one',
  ],
  ['a quote that is not closed', "if_list: []\nname: 'a", '2:7 needs a second quote that closes this one'],
  ['a bracket that is not closed', 'if_list: [\neip_list: []', '2:1 needs a ] before this that closes the ['],
  ['a brace that is not closed', 'if_list:\n  - {mac: x\neip_list: []', '3:1 needs a } before this that closes the {'],
  [
    'a closing bracket too many',
    'if_list: []\n]',
    '2:1 does not belong here: look at the quotes, brackets and indent before it',
  ],
  [
    'no space after the colon',
    'if_list: []\neip_list:[]',
    '2:1 must be written as key: value, with a space after the colon',
  ],
  ['a reserved character', 'if_list: @x', '1:10 needs quotes, because of its first character'],
  ['two documents', 'if_list: []\n---\nif_list: []', '2:1 must be one document: remove this --- and the rest'],
  ['a key twice', 'if_list: []\nif_list: []', '2:1 if_list: is already given on line 1'],
  ['an alias without an anchor', 'if_list: *nics', '1:10 if_list: needs an anchor &nics before it'],
  ['a mapping as a key', 'if_list: []\n{{ config }}: 1', '2:1 must have plain text as a key'],
];

for (const [what, input, expected] of unreadable) {
  test(`a file of ${what} is refused at its place`, () => {
    assert.equal(errorsOf(input)[0], expected);
    if (typeof input === 'string') assert.equal(errorsOf(bytes(input))[0], expected);
  });
}

test('a key that an entry has twice is an error at the second, with the line of the first', () => {
  const yaml = 'if_list: []\nroute_list:\n  - dest: 172.16.0.0/16\n    via: 192.0.2.1\n    "via": 192.0.2.2\n';
  assert.deepEqual(errorsOf(yaml), [
    '4:10 route_list[0].via: must be in the network of a NIC of if_list, is 192.0.2.1',
    '5:5 route_list[0].via: is already given on line 4',
  ]);
});

test('one mistake is one error, and those of other lists are shown as well', () => {
  for (const wrong of [
    '\t- mac: x\n\t  prefix: 2\n\t  ipaddr: y',
    '  － mac: x\n    prefix: 2\n    ipaddr: y',
    '  - mac: x\n      prefix: 2\n    ipaddr: y',
  ])
    assert.equal(errorsOf(`if_list:\n${wrong}\n`).length, 1, wrong);
  assert.equal(errorsOf('if_list:\n\t- mac: x\n\t  prefix: 2\neip_list: @\n').length, 2);
});

test('a merge key is named, and what it may bring is not missed', () => {
  const nic =
    'if_list:\n  - &a {ipaddr: 192.0.2.1, prefix: 24, mac: 52:54:84:00:08:46}\n  - <<: *a\n    ipaddr: 192.0.3.1\n';
  assert.deepEqual(errorsOf(nic), [
    '3:5 if_list[1].<<: is a merge key, which kylin-vr does not know: write its keys themselves',
  ]);
});

test('what an input method puts into a value is named; in comments and in quotes it is nothing', () => {
  const nic = (mac: string) => `if_list:\n  - ipaddr: 192.0.2.1 # 公网：一\n    prefix: 24\n    mac: ${mac}\n`;
  assert.deepEqual(errorsOf(nic('52：54:84:00:08:46')), [
    '4:10 if_list[0].mac: must be a MAC address, six pairs of hex digits with colons, is 52<U+FF1A>54:84:00:08:46, which has a full-width colon (U+FF1A) in the place of :',
  ]);
  assert.deepEqual(errorsOf(nic('52:54:84:00:08:46')), []);
  assert.equal(errorsOf(`${nic("'，'")}  bad`)[0], '5:3 must be indented like the lines it belongs to');
});

test('mistakes of syntax on several lines are shown together, one for each line', () => {
  assert.deepEqual(errorsOf('if_list: [] x\neip_list: @\n'), [
    '1:13 does not belong here: look at the quotes, brackets and indent before it',
    '2:11 needs quotes, because of its first character',
  ]);
});

test('a byte order mark, CRLF, document markers and JSON are no mistakes', () => {
  for (const text of [
    '\ufeffif_list: []\n',
    'if_list: []\r\neip_list: []\r\n',
    '---\nif_list: []\n...\n',
    '{"if_list": [], "eip_list": []}',
    '%YAML 1.1\n---\nif_list: []\n',
  ]) {
    assert.deepEqual(parseConfig(bytes(text)).ok, true, JSON.stringify(text));
  }
});

test('columns count characters, also those outside the basic plane', () => {
  assert.deepEqual(
    errorsOf('{"if_list": [{"name": "🦊", "nüme": 1, "mac": 7}]}').at(-1),
    '1:46 if_list[0].mac: must be a MAC address, six pairs of hex digits with colons, in quotes, is 7',
  );
});

test('an alias is the value of its anchor', () => {
  const yaml = 'if_list: []\neip_list:\n  - &a {eip: 192.0.2.1, vm-ip: 10.0.0.1}\n  - *a\n';
  assert.deepEqual(errorsOf(yaml), ['3:14 eip_list[1].eip: 192.0.2.1 is already used by eip_list[0].eip on line 3']);
});

test('an anchor does not exist within itself', () => {
  assert.deepEqual(errorsOf('if_list: &a [*a]')[0], '1:14 if_list[0]: needs an anchor &a before it');
});

test('a tag that means nothing is a warning', () => {
  assert.deepEqual(warningsOf('if_list: !vpc []'), ['1:10 has the tag !vpc, which means nothing here']);
});

test('an alias bomb is refused at once', () => {
  const levels = Array.from({ length: 30 }, (_, n) => `a${n + 1}: &a${n + 1} [${Array(10).fill(`*a${n}`).join(', ')}]`);
  const started = performance.now();
  assert.match(
    errorsOf(['a0: &a0 [x]', ...levels, 'if_list: *a30'].join('\n')).join('\n'),
    /if_list\[9\]: must be a mapping/,
  );
  assert.ok(performance.now() - started < 10_000);
});

test('brackets nested without end are refused', LONG, () => {
  assert.match(errorsOf(`if_list: ${'['.repeat(100_000)}`).join(), /is nested too deeply/);
  for (const pairs of ['a: b: ', '&a a: *a : '])
    for (const times of [3000, 50_000])
      assert.match(errorsOf(`if_list: [${pairs.repeat(times)}]`).join(), /is nested too deeply/, `${pairs}${times}`);
  assert.match(errorsOf(`if_list: ${'['.repeat(30)}${']'.repeat(30)}`).join('\n'), /is nested too deeply/);
});

test('a file of 10 MB is refused without being parsed', () => {
  const started = performance.now();
  assert.deepEqual(errorsOf(new Uint8Array(10_000_000)), [
    'undefined:undefined must not be larger than 2097152 bytes, is 10000000',
  ]);
  assert.ok(performance.now() - started < 2000);
});

test('an escape that is none, and what has no words of its own', () => {
  assert.deepEqual(errorsOf('if_list: ["\\q"]'), ['1:12 is no escape of YAML: write \\\\ or use single quotes']);
  assert.deepEqual(errorsOf('if_list: *'), ['1:10 is not YAML: Alias cannot be an empty string']);
});
