// The common way to write the file, read without a YAML parser: lists of flat mappings, and settings beside the lists, one
// `key: value` a line, as 0.1's writers and `kylin-vr eip add` leave it.
//
// What is not written so is left to document.ts, and what is gives the same tree with the same places: a property test says
// so (test/config/plain.test.ts). So everything that is unusual, and everything that is wrong, may simply be refused here.

import { isUtf8 } from 'node:buffer';
import type { Field, List, Mapping, Scalar, SourceDocument } from './document.ts';
import { LARGEST, locator, MOST_MARKS } from './position.ts';

const COMMENT = String.raw`#[^\0-\x08\x0a-\x1f\x7f-\x9f]*`;
const END = String.raw`(?: +${COMMENT}| *)(?:\n|$)`;
const SAFE = '[A-Za-z0-9.:/_-]';

/** Indent, dash, key, and the value: as it is, quoted, or an empty list. */
const FIELD = new RegExp(
  String.raw`( *)(- +)?([A-Za-z][A-Za-z_-]*):(?: +(?:([A-Za-z0-9]${SAFE}*)|"(${SAFE}*)"|'(${SAFE}*)'|(\[\])))?${END}`,
  'y',
);
const NOTHING = new RegExp(` *(?:${COMMENT})?(?:\\n|$)`, 'y');

/** Text that YAML takes for something else: a number of another form, null, true, false; and a key inside a value. */
const OTHER = /^(?:0o[0-7]+|0x[\da-f]+|\d+\.?\d*(?:e[-+]?\d+)?|null|true|false)$|:$/i;
const NUMBER = /^(?:0|[1-9]\d{0,14})$/;

/** 40,000 EIPs are 80,000. More than this has more marks than document.ts takes: a colon and a line each. */
const MOST_FIELDS = MOST_MARKS / 2;

/** Undefined where the text is written in another way. */
export function readPlain(input: Uint8Array | string): (SourceDocument & { root: Mapping }) | undefined {
  if (input.length > LARGEST) return undefined;
  const text = typeof input === 'string' ? input : decode(input);
  const root = text === undefined ? undefined : readRoot(text);
  if (text === undefined || root === undefined) return undefined;
  return { text, place: locator(text), root, errors: [], warnings: [] };
}

const decode = (bytes: Uint8Array): string | undefined =>
  isUtf8(bytes) ? Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length).toString() : undefined;

function readRoot(text: string): Mapping | undefined {
  const fields = new Map<string, Field>();
  const root: Mapping = { kind: 'mapping', fields, start: 0, end: 0 };
  // The ones that the next line may go on with, and how far in its dash or its key has to be.
  let list: List | undefined;
  let listIndent = 0;
  let item: Mapping | undefined;
  let itemIndent = 0;
  let fieldsLeft = MOST_FIELDS;

  for (let at = 0, next = 0; at < text.length; at = next) {
    FIELD.lastIndex = at;
    const line = FIELD.exec(text);
    if (line === null) {
      NOTHING.lastIndex = at;
      if (!NOTHING.test(text)) return undefined;
      next = NOTHING.lastIndex;
      continue;
    }
    next = FIELD.lastIndex;
    if (fieldsLeft-- === 0) return undefined;
    // By index, here and below: to take an array apart makes an iterator, and 1,000 EIPs are 2,000 lines.
    const indent = line[1]?.length ?? 0;
    const dash = line[2];
    const name = line[3] ?? '';
    const start = at + indent + (dash?.length ?? 0);
    const key = { start, end: start + name.length };
    if (dash === undefined && indent === 0) {
      // A list that is only announced is null.
      if (list?.items.length === 0 || fields.has(name) || OTHER.test(name)) return undefined;
      const value = scalar(text, key.end, line) ?? emptyList(text, key.end, line);
      if (value === undefined) return undefined;
      if (fields.size === 0) root.start = start;
      fields.set(name, { key, value });
      list = value.kind === 'list' && line[7] === undefined ? value : undefined;
      item = undefined;
      root.end = next;
      continue;
    }
    if (list === undefined) return undefined;
    if (dash !== undefined) {
      if (list.items.length === 0) {
        list.start = at + indent;
        listIndent = indent;
      } else if (indent !== listIndent) return undefined;
      item = { kind: 'mapping', fields: new Map(), start, end: next };
      itemIndent = start - at;
      list.items.push(item);
    }
    const value = scalar(text, key.end, line);
    if (value === undefined || item === undefined || item.fields.has(name) || OTHER.test(name)) return undefined;
    if (dash === undefined && indent !== itemIndent) return undefined;
    item.fields.set(name, { key, value });
    item.end = list.end = root.end = next;
  }
  return fields.size === 0 || list?.items.length === 0 ? undefined : root;
}

/** What stands beside the key of a list: nothing, where its items follow, or `[]`. */
function emptyList(text: string, keyEnd: number, line: RegExpExecArray): List | undefined {
  if (line[4] !== undefined || line[5] !== undefined || line[6] !== undefined) return undefined;
  const start = line[7] === undefined ? keyEnd + 1 : text.indexOf('[', keyEnd);
  return { kind: 'list', items: [], start, end: start + 2 };
}

function scalar(text: string, keyEnd: number, line: RegExpExecArray): Scalar | undefined {
  const plain = line[4];
  const written = plain ?? line[5] ?? line[6];
  if (written === undefined) return undefined;
  let start = keyEnd + 1;
  while (text[start] === ' ') start++;
  const end = start + written.length + (plain === undefined ? 2 : 0);
  if (plain === undefined) return { kind: 'scalar', value: written, start, end };
  if (NUMBER.test(plain)) return { kind: 'scalar', value: Number(plain), start, end };
  return OTHER.test(plain) ? undefined : { kind: 'scalar', value: plain, start, end };
}
