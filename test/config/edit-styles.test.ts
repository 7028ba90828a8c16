// Whatever way the file is written, an edit changes the entry and not a byte beside it: the file without the entry is what the
// same hand would have written without it.

import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import fc from 'fast-check';
import { editConfig } from '../../src/config/edit.ts';
import { parseConfig } from '../../src/config/parse.ts';
import { runs } from '../quick.ts';

const nameOf = (n: number): string => `198.51.100.${n}=10.0.0.${n}`;

function edit(text: string, verb: 'add' | 'remove', ...args: string[]): string {
  const parsed = parseConfig(text);
  assert.ok(parsed.ok, JSON.stringify([text, parsed]));
  return editConfig('kylin-vr.yaml', text, parsed.config, { noun: 'eip', verb, args }).text;
}

const eipsOf = (text: string): number[] => {
  const parsed = parseConfig(text);
  assert.ok(parsed.ok, text);
  return parsed.config.eips.map(({ eip }) => Number(eip.split('.')[3]));
};

/** Entries, and what stands in front of each; of those that are left out this stays. */
type Entries = { n: number; gap: string; note: string; left?: true }[];

/** A hand: how it writes the whole file. `note`: a comment behind each entry, where the style has room for one. */
const HANDS: Record<string, (entries: Entries, trailing: boolean) => string> = {
  'lines: key by key': (entries) =>
    list(entries, '  ', (n, note) => `  - eip: 198.51.100.${n}${note}\n    vm-ip: 10.0.0.${n} # vm: ${n}\n`),
  'lines: without indent': (entries) =>
    list(entries, '', (n, note) => `- eip: 198.51.100.${n}\n  vm-ip: 10.0.0.${n}${note}\n`),
  'lines: a comment behind the dash': (entries) =>
    list(entries, '   ', (n, note) => `   -${note}\n     eip: 198.51.100.${n}\n     vm-ip: 10.0.0.${n}\n`),
  'lines: braces': (entries) =>
    list(entries, '  ', (n, note) => `  - {eip: 198.51.100.${n}, vm-ip: 10.0.0.${n}}${note}\n`),
  'lines: braces over lines': (entries) =>
    list(entries, '  ', (n, note) => `  - { eip: "198.51.100.${n}",  # e: ${n}\n      vm-ip: 10.0.0.${n} }${note}\n`),
  'lines: an indented root': (entries) =>
    list(entries, '    ', (n, note) => `    - eip: 198.51.100.${n}\n      vm-ip: 10.0.0.${n}${note}\n`, '  '),
  brackets: (entries, trailing) =>
    `if_list: []\neip_list: [ # all: of them\n${brackets(entries, '  ', trailing, (n) => `{eip: 198.51.100.${n}, vm-ip: 10.0.0.${n}}`)}]\n`,
  'brackets: entries over lines': (entries, trailing) =>
    `if_list: []\neip_list:\n  [\n${brackets(entries, '    ', trailing, (n) => `{ eip: 198.51.100.${n}, # e\n      vm-ip: 10.0.0.${n} }`)}  ]\n# end\n`,
  'brackets: one line': (entries, trailing) => {
    const there = entries.filter(({ left }) => !left);
    const written = there.map(({ n }) => `{eip: 198.51.100.${n}, vm-ip: 10.0.0.${n}}`).join(', ');
    return `# top\nif_list: []\neip_list: [${written}${trailing && there.length > 0 ? ',' : ''}] # all\n`;
  },
  JSON: (entries) => {
    const there = entries
      .filter(({ left }) => !left)
      .map(({ n }) => ({ eip: `198.51.100.${n}`, 'vm-ip': `10.0.0.${n}` }));
    const [before, after] = JSON.stringify({ if_list: [], eip_list: [null], route_list: [] }, null, 2)
      .concat('\n')
      .split('    null\n');
    if (there.length === 0) return `${before}${after}`.replace('[\n  ]', '[]');
    const indented = there.map((entry) => JSON.stringify(entry, null, 2).replaceAll(/^/gm, '    '));
    return `${before}${indented.join(',\n')}\n${after}`;
  },
  'JSON: one line': (entries) =>
    `${JSON.stringify({
      if_list: [],
      eip_list: entries
        .filter(({ left }) => !left)
        .map(({ n }) => ({ eip: `198.51.100.${n}`, 'vm-ip': `10.0.0.${n}` })),
    }).replaceAll('},{', '}, {')}\n`,
};

function list(entries: Entries, indent: string, entry: (n: number, note: string) => string, root = ''): string {
  const lines = entries.map(({ n, gap, note, left }) => indented(gap, indent) + (left ? '' : entry(n, note))).join('');
  const empty = entries.every(({ left }) => left) ? ' []' : '';
  return `${root}if_list: []\n${root}eip_list:${empty} # all: of them\n${lines}${root}from-uplink: drop\n`;
}

function brackets(entries: Entries, indent: string, trailing: boolean, entry: (n: number) => string): string {
  const last = entries.findLastIndex(({ left }) => !left);
  return entries
    .map(({ n, gap, note, left }, at) => {
      const comma = at !== last || trailing ? ',' : '';
      return indented(gap, indent) + (left ? '' : `${indent}${entry(n)}${comma}${note}\n`);
    })
    .join('');
}

const indented = (gap: string, indent: string): string => gap.replaceAll(/^(?=[^\n])/gm, indent);

/** Around the whole: none of it is an entry's. */
const WRAPPERS: Record<string, (text: string) => string> = {
  'as it is': (text) => text,
  'CR LF': (text) => text.replaceAll('\n', '\r\n'),
  'a byte order mark': (text) => `\ufeff${text}`,
  'a document start and end': (text) => `# head: first\n---\n${text}...\n# behind: it\n`,
};

const entriesOf = fc.uniqueArray(fc.integer({ min: 1, max: 200 }), { minLength: 1, maxLength: 5 }).chain((numbers) =>
  fc.tuple(
    ...numbers.map((n) =>
      fc.record({
        n: fc.constant(n),
        gap: fc.constantFrom('', '\n', `# about: ${n}\n\n`, `# 数据库 ${n}\n# - eip: old\n\n\n`, `    # deeper ${n}\n`),
        note: fc.constantFrom('', ` # www ${n}`, `   # a: ${n}, [b]`),
      }),
    ),
  ),
);

describe('an edit, whatever way the file is written', () => {
  for (const [hand, write] of Object.entries(HANDS))
    for (const [around, wrap] of Object.entries(WRAPPERS)) {
      it(`${hand}; ${around}: takes the entry and nothing else`, () =>
        fc.assert(
          fc.property(entriesOf, fc.array(fc.boolean()), fc.boolean(), (entries, picks, trailing) => {
            const left: Entries = entries.map((entry, n) => (picks[n] ? { ...entry, left: true } : entry));
            const gone = left.filter((entry) => entry.left);
            const before = wrap(write(entries, trailing));
            const after = edit(before, 'remove', ...gone.map(({ n }) => `198.51.100.${n}`));
            const last = left.at(-1);
            const comma = hand.startsWith('brackets') && trailing && left.every((entry) => entry.left);
            if (gone.length > 0 && !comma && last !== undefined)
              assert.equal(squeezed(after), squeezed(wrap(write(left, trailing))));
            assert.deepEqual(
              eipsOf(after),
              left.filter((entry) => !entry.left).map(({ n }) => n),
            );
          }),
          runs(60),
        ));

      it(`${hand}; ${around}: adds a line and changes none, and takes it away again`, () =>
        fc.assert(
          fc.property(entriesOf, fc.boolean(), (entries, trailing) => {
            const before = wrap(write(entries, trailing));
            const after = edit(before, 'add', nameOf(201), nameOf(202));
            assert.deepEqual(eipsOf(after), [...entries.map(({ n }) => n), 201, 202]);
            assert.equal(edit(after, 'remove', '198.51.100.201', '198.51.100.202'), before);
            if (hand.startsWith('JSON') && around === 'as it is') JSON.parse(after);
          }),
          runs(60),
        ));
    }
});

/** An empty pair of brackets, as it may be written. */
const squeezed = (text: string): string => text.replace(/\[\s+\]/g, '[]');
