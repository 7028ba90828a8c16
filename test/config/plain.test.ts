// The quick reading of what is plainly written, and the YAML parser: the same tree, or the quick one passes.

import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { readDocument, type SourceDocument, type Value } from '../../src/config/document.ts';
import { readPlain } from '../../src/config/plain.ts';
import { LONG, runs } from '../quick.ts';

const PLAIN = `# router 7: 机房
if_list:
   - ipaddr: 10.90.3.37
     prefix: "24"
     mac: 52:54:84:00:08:46   # public

     gateway: '10.90.3.1'
eip_list:
  # of the first tenant
  - eip: 10.90.2.189
    vm-ip: 192.168.100.203
 # of the second
  -   eip: 10.90.2.250
      vm-ip: 192.168.100.190
route_list: []
from-uplink: drop # all of it
port_forward_list:
- eip: 10.90.2.254
  protocal: tcp
  port: 80
  vm-ip: 192.168.100.190`;

/** Keys in their order, too. Where a list or mapping ends matters only as far as messages show it: within its first line. */
function tree({ text, root, place, errors, warnings }: SourceDocument): unknown {
  const shown = (value: Value): unknown => {
    if (value.kind === 'scalar') return value;
    if (value.kind === 'list') return { ...place(value), items: value.items.map(shown) };
    return { ...place(value), fields: [...value.fields].map(([name, { key, value }]) => [name, key, shown(value)]) };
  };
  return { text, root: root && shown(root), errors, warnings };
}

/** Gives whether the quick one read it. */
function agree(text: string): boolean {
  const plain = readPlain(text);
  if (plain !== undefined) assert.deepStrictEqual(tree(plain), tree(readDocument(text)));
  return plain !== undefined;
}

test('what is plainly written is read, from text and from bytes', () => {
  assert.ok(agree(PLAIN));
  assert.ok(agree(`${PLAIN}\n\n# the end\n`));
  for (const value of ['drop', '"drop"', "'drop' # b", '7']) assert.ok(agree(`from-uplink:  ${value}\nif_list: []`));
  assert.deepEqual(readPlain(new TextEncoder().encode(PLAIN))?.root, readPlain(PLAIN)?.root);
});

const left: [string, string][] = [
  ['no list', '# none\n'],
  ['a list that is null', 'if_list:\neip_list: []\n'],
  ['a key without a value', 'if_list:\n  - mac:\n'],
  ['a key twice', 'if_list:\n  - mac: a\n    mac: b\n'],
  ['a list twice', 'if_list: []\nif_list: []\n'],
  ['a list under a value', 'if_list: a\n  - mac: b\n'],
  ['a value of the file over two lines', 'from-uplink: a\n  b\nif_list: []\n'],
  ['null as a value of the file', 'from-uplink: null\nif_list: []\n'],
  ['a value over two lines', 'if_list:\n  - mac: a\n      b\n'],
  ['a key too far in', 'if_list:\n  - mac: a\n     prefix: 1\n'],
  ['a flow mapping', 'if_list:\n  - { mac: a }\n'],
  ['an anchor', 'if_list:\n  - mac: &a b\n'],
  ['a tag', 'if_list:\n  - mac: !!str b\n'],
  ['a document marker', '---\nif_list: []\n'],
  ['a tab', 'if_list:\n\t- mac: b\n'],
  ['a carriage return', 'if_list: []\r\n'],
  ['null', 'if_list:\n  - mac: null\n'],
  ['true', 'if_list:\n  - mac: True\n'],
  ['an octal number', 'if_list:\n  - mac: 0o17\n'],
  ['a number with zeros in front', 'if_list:\n  - mac: 007\n'],
  ['a number that is not whole', 'if_list:\n  - mac: 1.5e3\n'],
  ['a key inside a value', 'if_list:\n  - mac: a:\n'],
  ['an escape', 'if_list:\n  - mac: "\\x41"\n'],
  ['a control character in a comment', 'if_list: [] # \x1b\n'],
];
for (const [what, text] of left)
  test(`${what} is left to the YAML parser`, () => assert.equal(readPlain(text), undefined));

test('bytes that are no UTF-8 are left to the YAML parser', () => {
  assert.equal(readPlain(Uint8Array.of(105, 58, 32, 91, 93, 32, 35, 0xff)), undefined);
});

test('a plain file with any mistake in it is read the same or left', LONG, () => {
  const piece = fc.constantFrom(
    ...' |  |\n|\n\n|\n  - |\n- |:|: |#| #|"|\'|[]|[|{|}|,|&a|*a|!|?|%|@|`|0|7|1e3|0x1f|.|-|_|~|null|true|\t|\r|\r\n|---\n|...\n|<<|é|\ufeff'.split(
      '|',
    ),
    '|',
    '>',
  );
  const edit = fc.tuple(fc.nat(PLAIN.length), fc.nat(3), fc.oneof(fc.constant(''), piece));
  let read = 0;
  fc.assert(
    fc.property(fc.array(edit, { minLength: 1, maxLength: 3 }), (edits) => {
      let text = PLAIN;
      for (const [at, removed, inserted] of edits) text = text.slice(0, at) + inserted + text.slice(at + removed);
      if (agree(text)) read++;
    }),
    runs(3000),
  );
  assert.ok(read > 300, `the quick one read ${read} of 3000`);
});

test('any lines that look plain are read the same or left', () => {
  const indent = fc.constantFrom('', ' ', '  ', '    ');
  const value = fc.constantFrom(
    ...[
      '',
      ' 1',
      ' 1 ',
      '  1',
      ' 01',
      ' 1.5',
      ' 1.2.3.4',
      ' a',
      ' "a"',
      " 'a' # b",
      ' []',
      ' a:b',
      ' a:',
      ' "1',
      ' #a',
      '#a',
      ' e1',
      ' 0x1',
      ' .5',
      ' -1',
    ],
  );
  const line = fc.oneof(
    fc.tuple(
      indent,
      fc.constantFrom('', '- ', '-   '),
      fc.constantFrom('a', 'b-c', 'true', '1'),
      fc.constant(':'),
      value,
    ),
    fc.tuple(indent, fc.constantFrom('', '#', '# x: 1', '-', 'a', '- 1')),
  );
  fc.assert(
    fc.property(fc.array(line, { maxLength: 6 }), fc.constantFrom('', '\n'), (lines, end) => {
      agree(`${lines.map((parts) => parts.join('')).join('\n')}${end}`);
    }),
    runs(5000),
  );
});
