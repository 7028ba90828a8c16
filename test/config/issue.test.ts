import assert from 'node:assert/strict';
import { test } from 'node:test';
import { formatIssue, type Issue, inFile, inLine, ofFile } from '../../src/config/issue.ts';
import { parseConfig } from '../../src/config/parse.ts';

const FILE = '/etc/kylin-vr/kylin-vr.yaml';

/** The first issue of a file, as an operator sees it. */
function shown(text: string): string {
  const parsed = ofFile(FILE, parseConfig(text));
  const issue = [...(parsed.ok ? [] : parsed.errors), ...parsed.warnings][0];
  assert.ok(issue !== undefined);
  return formatIssue(text, issue);
}

test('an issue shows place, path, rule and value, and the line with carets under the value', () => {
  const text = 'if_list:\n   - ipaddr: 192.0.2.1\n     mac: 52:54:00:00:00:01\n     prefix: 33 # bits\n';
  assert.equal(
    shown(text),
    `${FILE}:4:14: if_list[0].prefix: must be a whole number from 1 to 32, is 33
  4 |      prefix: 33 # bits
    |              ^^`,
  );
});

test('carets stand under the whole of the value on its first line', () => {
  assert.equal(
    shown('if_list:\n  - ipaddr: 192.0.2.1\n    prefix: 24\n'),
    `${FILE}:2:5: if_list[0]: needs mac
  2 |   - ipaddr: 192.0.2.1
    |     ^^^^^^^^^^^^^^^^^`,
  );
});

test('carets stand under the value where Chinese comes before it, two for each such character', () => {
  assert.equal(
    shown("if_list: [{'公网': 1, prefix: ２}]").split('\n').slice(1).join('\n'),
    `  1 | if_list: [{'公网': 1, prefix: <U+FF12>}]
    |           ^^^^^^^^^^^^^^^^^^^^^^^^^^^^^`,
  );
  const line = "if_list: [{name: 公网, prefix: 24, ipaddr: 192.0.2.1, mac: '52:54:84:00:08:46'}]";
  const [, , carets] = shown(line).split('\n');
  assert.equal(carets, '    |                  ^^^^');
});

test('an issue without a place is one line, and names its file, too', () => {
  assert.equal(shown(''), `${FILE}: is empty: needs at least if_list, and if_list: [] to take everything down`);
  const [issue] = inFile(FILE, [{ message: 'is a folder' }]);
  assert.deepEqual(issue, { message: `${FILE}: is a folder` });
});

test('in a line an issue has its place, of the file where that is known', () => {
  const place = { line: 4, column: 14, endColumn: 16 };
  const issue: Issue = { ...place, path: 'if_list[0].prefix', message: 'must be a whole number' };
  const [named = issue] = inFile(FILE, [issue]);
  assert.deepEqual([named, issue, { ...place, message: 'is no text' }, { message: 'ip: status 2' }].map(inLine), [
    `${FILE}:4:14: if_list[0].prefix: must be a whole number`,
    'line 4: if_list[0].prefix: must be a whole number',
    'line 4: is no text',
    'ip: status 2',
  ]);
  assert.equal(formatIssue(undefined, named), inLine(named));
});

test('a long line is cut around the value, whose carets stay in line', () => {
  const entry = '{eip: 192.0.2.1, vm-ip: 10.0.0.1}';
  const [, line = '', carets = ''] = shown(`{if_list: [], eip_list: [${`${entry}, `.repeat(50)}7, ${entry}]}`).split(
    '\n',
  );
  const at = carets.indexOf('^');
  assert.ok(line.length <= 110 && line.startsWith('  1 | …') && line.endsWith('…'), line);
  assert.equal(line.slice(at, at + carets.trimEnd().length - at), '192.0.2.1');
});

test('a value longer than the excerpt is cut with its carets', () => {
  const [head = '', line = '', carets = ''] = shown(`if_list: ${'x'.repeat(5000)}`).split('\n');
  assert.equal(head, `${FILE}:1:10: if_list: must be a list, is ${'x'.repeat(40)}…`);
  assert.equal(line.length, carets.length + 1);
  assert.ok(line.length <= 110);
});

test('nothing of the file reaches the terminal as a control sequence', () => {
  for (const hidden of ['\x1b[31m', '\x9b31m', '\u202e', '\u200b', '\r', '\t']) {
    const text = `if_list: []\n"eip${hidden}": 1 # ${hidden}\n`;
    const lines = shown(text).split('\n');
    assert.equal(lines.length, 3);
    assert.doesNotMatch(lines.join(''), /[\p{Cc}\p{Cf}]/u);
  }
});

test('the line of a CRLF file is shown without its end', () => {
  assert.equal(shown('if_list: 7\r\n').split('\n')[1], '  1 | if_list: 7');
});
