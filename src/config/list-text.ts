// The text of the file + entries to add to one of its lists and to take from it → the new text. What is not named stays byte
// for byte: comments, order, indent, the spelling of keys. Pure; whether the result is valid is for parseConfig to say.

import { isMap, isPair, isScalar, isSeq, type Node, parseDocument, stringify, type YAMLMap, type YAMLSeq } from 'yaml';
import { type ListName, SPELLINGS } from './schema.ts';

/** An entry as it will be written: keys in this order. */
export type Written = Readonly<Record<string, string | number>>;

export type ListEdit = {
  list: ListName;
  /** Indices of entries to take away. */
  remove: ReadonlySet<number>;
  add: readonly Written[];
};

/** The text between two offsets gives way to another. */
type Splice = { start: number; end: number; text: string };

/** Undefined: the file is written in a way that this cannot follow. */
export function editList(text: string, { list, remove, add }: ListEdit): string | undefined {
  const root = parseDocument(text, { schema: 'core', uniqueKeys: false, prettyErrors: false }).contents;
  if (!isMap(root)) return undefined;
  const sequences = listsOf(root);
  const seq = sequences.get(list);
  const style = styleOf(text, seq, sequences);
  const lines = add.map((entry) => entryLines(entry, seq, style)).join('');
  const splices =
    seq === undefined ? [appendList(text, list, lines, style)] : editSequence(text, seq, remove, add, lines, style);
  return splices?.toReversed().reduce((edited, { start, end, text: by }) => {
    return edited.slice(0, start) + by + edited.slice(end);
  }, text);
}

function listsOf(root: YAMLMap): Map<string, YAMLSeq> {
  return new Map(
    root.items.flatMap((pair) =>
      isPair(pair) && isScalar(pair.key) && isSeq(pair.value) ? [[String(pair.key.value), pair.value]] : [],
    ),
  );
}

/** How block lists of the file are written. */
type Style = { indent: string; newline: string };

function styleOf(text: string, own: YAMLSeq | undefined, sequences: ReadonlyMap<string, YAMLSeq>): Style {
  const block = [own, ...sequences.values()].find((seq) => seq !== undefined && !seq.flow && seq.items.length > 0);
  const start = block?.range?.[0];
  return {
    indent: start === undefined ? '  ' : text.slice(lineStart(text, start), start),
    newline: text.includes('\r\n') ? '\r\n' : '\n',
  };
}

function entryLines(entry: Written, seq: YAMLSeq | undefined, { indent, newline }: Style): string {
  return written(entry, seq)
    .map(([key, value], n) => `${indent}${n === 0 ? '- ' : '  '}${key}: ${value}${newline}`)
    .join('');
}

/** Keys in the spelling that the list has already, values with quotes where YAML wants them. */
function written(entry: Written, seq: YAMLSeq | undefined): [string, string][] {
  const used = new Set(
    (seq?.items ?? []).flatMap((item) =>
      isMap(item) ? item.items.map(({ key }) => String(isScalar(key) && key.value)) : [],
    ),
  );
  const spelled = (key: string): string => {
    if (used.has(key)) return key;
    return [...SPELLINGS].find(([spelling, known]) => known === key && used.has(spelling))?.[0] ?? key;
  };
  return Object.entries(entry).map(([key, value]) => [spelled(key), stringify(value, { lineWidth: 0 }).trimEnd()]);
}

function appendList(text: string, list: string, lines: string, { newline }: Style): Splice {
  const gap = text === '' || text.endsWith('\n') ? '' : newline;
  return { start: text.length, end: text.length, text: lines === '' ? '' : `${gap}${list}:${newline}${lines}` };
}

function editSequence(
  text: string,
  seq: YAMLSeq,
  remove: ReadonlySet<number>,
  add: readonly Written[],
  lines: string,
  { newline }: Style,
): Splice[] | undefined {
  const [start, end] = seq.range ?? [0, 0];
  const left = seq.items.length - remove.size;
  if (seq.flow && left + add.length > 0 && seq.items.length > 0) return editFlow(text, seq, remove, add);
  if (seq.flow) {
    if (add.length === 0) return [{ start, end, text: '[]' }];
    // An empty list in brackets becomes one of lines; a comment behind it stays.
    const value = text.slice(0, start).trimEnd().length;
    const next = lineEnd(text, end);
    const gap = text[next - 1] === '\n' ? '' : newline;
    return [
      { start: value, end, text: '' },
      { start: next, end: next, text: gap + lines },
    ];
  }
  const items = seq.items.map((item) => blockItem(text, item as Node));
  if (items.some((item) => item === undefined)) return undefined;
  const ranges = items as { start: number; end: number }[];
  const removed = ranges.filter((_, n) => remove.has(n)).map((range) => ({ ...range, text: '' }));
  const last = ranges.at(-1)?.end ?? end;
  if (lines !== '')
    return [...removed, { start: last, end: last, text: (text[last - 1] === '\n' ? '' : newline) + lines }];
  if (left > 0) return removed;
  const key = text.slice(0, start).lastIndexOf(':') + 1;
  return /^[ \t]*(#.*)?\r?\n/.test(text.slice(key)) ? [{ start: key, end: key, text: ' []' }, ...removed] : undefined;
}

/** The whole lines of an entry, from its dash. */
function blockItem(text: string, item: Node): { start: number; end: number } | undefined {
  const [start, end] = item.range ?? [0, 0];
  const dash = /-\s*$/.exec(text.slice(0, start))?.index;
  if (dash === undefined || text.slice(lineStart(text, dash), dash).trim() !== '') return undefined;
  return { start: lineStart(text, dash), end: text[end - 1] === '\n' ? end : lineEnd(text, end) };
}

function editFlow(text: string, seq: YAMLSeq, remove: ReadonlySet<number>, add: readonly Written[]): Splice[] {
  const [start, end] = seq.range ?? [0, 0];
  const kept = seq.items.flatMap((item, n) => {
    const [from, to] = (item as Node).range ?? [0, 0];
    return remove.has(n) ? [] : [text.slice(from, to)];
  });
  const added = add.map(
    (entry) =>
      `{${written(entry, seq)
        .map(([key, value]) => `${key}: ${value}`)
        .join(', ')}}`,
  );
  if (remove.size === 0) {
    const close =
      text
        .slice(start, end - 1)
        .trimEnd()
        .replace(/,$/, '').length + start;
    return [{ start: close, end: close, text: added.map((entry) => `, ${entry}`).join('') }];
  }
  return [{ start, end, text: `[${[...kept, ...added].join(', ')}]` }];
}

const lineStart = (text: string, offset: number): number => text.lastIndexOf('\n', offset - 1) + 1;

function lineEnd(text: string, offset: number): number {
  const newline = text.indexOf('\n', offset);
  return newline === -1 ? text.length : newline + 1;
}
