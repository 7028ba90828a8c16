// Every message that the program has is shown by a test: each text of the source in which words follow each other stands, with
// whatever is put in between, in one text or pattern of a test. A new message is found here until a test provokes it.

import assert from 'node:assert/strict';
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { it } from 'node:test';
import { HOLE, literalsOf } from './literals.ts';

const ROOT = join(import.meta.dirname, '../..');

/** What is no message: help and descriptions (the man pages and completion are made of them). */
const HELP = ['description', 'option', 'requiredOption', 'argument', 'command', 'Option', 'Argument', 'described'];
/** The field that the man page takes from the table of kinds. */
const MANUAL = 'manual';
/** What is thrown for bugs. */
const BUG = 'Error';
/** Files whose texts are for programs (scripts, profiles, metrics, a schema) or help. */
const FOR_PROGRAMS = [
  'src/commands/completion.ts',
  'src/run/prometheus.ts',
  'src/config/json-schema.ts',
  'src/config/nouns.ts',
  'src/base/statuses.ts',
  'src/dialects/unmanaged.ts',
];

/** Whole files that tests compare with. */
const GOLDEN = ['test/dialects/golden/ifcfg', 'test/dialects/golden/keyfile'];
const OWN = 'test/messages/messages.test.ts';

/** Words that nobody is told. */
const NO_MESSAGE = [
  ...['stderr only', 'ip, afterwards', '# Made by kylin-vr', 'Exit status:', 'address show', 'as in 1.0'],
  // Scripts for perl, python, ip and nft.
  ...['socket(S, 16', 'neighbour show', 'import sys', 'delete rule ip', 'flush chain ip', 'delete chain ip'],
  // What iptables-save says.
  '# Table `',
];

const isProse = (text: string): boolean => /[a-z]{2,},? [a-z]{2,}/i.test(text) && !/^-[a-z] /.test(text);

const filesIn = (folder: string): string[] =>
  readdirSync(join(ROOT, folder), { recursive: true, encoding: 'utf8' })
    .filter((name) => /\.(ts|mjs|cjs)$/.test(name))
    .map((name) => join(folder, name))
    .sort();
const literalsIn = (file: string) => literalsOf(readFileSync(join(ROOT, file), 'utf8'));

function hasInOrder(text: string, pieces: readonly string[]): boolean {
  let from = 0;
  return pieces.every((piece) => {
    const at = text.indexOf(piece, from);
    from = at + piece.length;
    return at !== -1;
  });
}

it('every message has a test that shows its text', () => {
  const tests = [
    ...filesIn('test')
      .filter((file) => file !== OWN)
      .flatMap((file) => literalsIn(file).map(({ text }) => text)),
    ...GOLDEN.flatMap((folder) =>
      readdirSync(join(ROOT, folder)).map((name) => readFileSync(join(ROOT, folder, name), 'utf8')),
    ),
  ];
  const messages = filesIn('src')
    .filter((file) => !FOR_PROGRAMS.includes(file))
    .flatMap((file) => literalsIn(file).map((literal) => ({ file, ...literal })))
    .filter(
      ({ text, call, field, isPattern }) =>
        isProse(text) && !isPattern && !HELP.includes(call) && call !== BUG && field !== MANUAL,
    )
    .map((message) => ({ ...message, text: message.text.trim().replace(/\$\d/g, HOLE) }));
  assert.ok(messages.length > 200, 'they are found');
  const unseen = messages.filter(
    ({ text }) =>
      !NO_MESSAGE.some((words) => text.startsWith(words)) && !tests.some((test) => hasInOrder(test, text.split(HOLE))),
  );
  assert.deepEqual(
    unseen.map(({ file, line, text }) => `${file}:${line}: ${text.replaceAll(HOLE, '…')}`),
    [],
    'no test shows these messages',
  );
});

it('the texts of a source are found, joined, with their holes', () => {
  const source = [
    "const a = x / 2; // 'not this'",
    "warn('one ' + `two @{b(`three @{c}`)} four`, /five \\S+ (six)\\./);",
    'const d = e ? "it\'s seven" : f;',
  ]
    .join('\n')
    .replaceAll('@', '$');
  assert.deepEqual(
    literalsOf(source).map(({ line, text, call }) => [line, text.replaceAll(HOLE, '…'), call]),
    [
      [2, 'one two … four', 'warn'],
      [2, 'three …', 'b'],
      [2, 'five …… …six….', 'warn'],
      [3, "it's seven", ''],
    ],
  );
});
