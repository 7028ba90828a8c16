// The text of the file + entries to add to one of its lists, or to take from it → the new text. What is not named stays byte
// for byte: comments, order, indent, the spelling of keys. Pure; whether the result is valid is for parseConfig to say.

import { stringify } from 'yaml';
import type { Field, List, Mapping, SourceDocument, Value } from './document.ts';
import type { Range } from './position.ts';
import { type ListName, SPELLINGS } from './schema.ts';

/** An entry as it will be written: keys in this order. */
export type Written = Readonly<Record<string, string | number | readonly string[]>>;

/** One of the two is empty. `remove`: indices. */
export type ListEdit = { list: ListName; remove: ReadonlySet<number>; add: readonly Written[] };

/** What cannot be followed, and where. */
export type Obstacle = { at: number; because: string };

/** The text between two offsets gives way to another. */
type Splice = Range & { text: string };

/** An entry in the text. `lines`: those that hold nothing else but a comment; of an entry in brackets `comma` is behind it. */
type EntryText = Range & { lines?: Range; comma?: number };

export function editList({ text, root }: SourceDocument, { list, remove, add }: ListEdit): string | Obstacle {
  if (root?.kind !== 'mapping') return { at: 0, because: 'the file is no mapping' };
  const field = root.fields.get(list);
  const value = field?.value.kind === 'list' ? field.value : undefined;
  if (value !== undefined && text[value.start] === '*')
    return { at: value.start, because: `${list} is an alias of another list` };
  const writer = writerFor(text, root, value);
  if (field === undefined || value === undefined) return spliced(text, appendList(text, root, list, add, writer));
  if (isFlow(text, value)) {
    const entries = flowEntries(text, value, value.items, list);
    if ('because' in entries) return entries;
    if (remove.size > 0) return spliced(text, removeFromFlow(text, value, entries, remove));
    const isBare = text.slice(value.start + 1, value.end - 1).trim() === '';
    if (isBare && !isFlow(text, root)) return spliced(text, unbracket(text, value, add, writer));
    return spliced(text, addToFlow(text, value, entries, add.map(writer.inBrackets), writer));
  }
  const entries = blockEntries(text, value, list);
  if ('because' in entries) return entries;
  if (remove.size < entries.length)
    return spliced(text, [...removals(text, entries, remove), ...addLines(text, entries, add, writer)]);
  const [colon] = /^\s*:(?=[ \t]*(?:#[^\n]*)?\r?(?:\n|$))/.exec(text.slice(field.key.end, value.start)) ?? [];
  if (colon === undefined) return { at: field.key.start, because: `${list} has an anchor or a tag` };
  const at = field.key.end + colon.length;
  return spliced(text, [{ start: at, end: at, text: ' []' }, ...removals(text, entries, remove)]);
}

/** Splices may overlap where they only take away. */
function spliced(text: string, splices: readonly Splice[]): string {
  const parts: string[] = [];
  let done = 0;
  for (const { start, end, text: by } of splices.toSorted((a, b) => a.start - b.start)) {
    parts.push(text.slice(done, Math.max(done, start)), by);
    done = Math.max(done, end);
  }
  return parts.join('') + text.slice(done);
}

const isFlow = (text: string, { start }: Range): boolean => text[start] === '[' || text[start] === '{';

/** How new entries are written, after those that are there. */
type Writer = {
  indent: string;
  newline: string;
  inLines: (entry: Written) => string;
  inBrackets: (entry: Written) => string;
  key: (name: string) => string;
};

function writerFor(text: string, root: Mapping, own: List | undefined): Writer {
  const lists = [own, ...[...root.fields.values()].map(({ value }) => value)];
  const block = lists.find((value) => value?.kind === 'list' && !isFlow(text, value) && text[value.start] !== '*');
  const [sample = root] = own?.items ?? [];
  const [key] = sample.kind === 'mapping' ? sample.fields.values() : [];
  const isJson = key !== undefined && text[key.key.start] === '"';
  const newline = text.includes('\r\n') ? '\r\n' : '\n';
  const indent = block === undefined ? `${indentOf(text, root)}  ` : indentOf(text, block);
  const used = new Set(own?.items.flatMap((item) => (item.kind === 'mapping' ? [...item.fields.keys()] : [])));
  const quote = (value: string | number) => (isJson ? JSON.stringify(value) : inQuotes(value));
  const pairs = (entry: Written): string[] =>
    Object.entries(entry).map(([name, value]) => {
      const written = typeof value === 'object' ? `[${value.map(quote).join(', ')}]` : quote(value);
      return `${quote(spelled(name, used))}: ${written}`;
    });
  return {
    indent,
    newline,
    inLines: (entry) =>
      pairs(entry)
        .map((pair, n) => `${indent}${n === 0 ? '- ' : '  '}${pair}${newline}`)
        .join(''),
    inBrackets: (entry) => `{${pairs(entry).join(', ')}}`,
    key: quote,
  };
}

/** Values with quotes where YAML wants them, 1.1 too: to that a MAC of small digits is a number of base 60. */
const inQuotes = (value: string | number): string => stringify(value, { lineWidth: 0, compat: 'yaml-1.1' }).trimEnd();

/** A key in the spelling that the list has already. */
function spelled(key: string, used: ReadonlySet<string>): string {
  if (used.has(key)) return key;
  return [...SPELLINGS].find(([spelling, known]) => known === key && used.has(spelling))?.[0] ?? key;
}

function appendList(text: string, root: Mapping, list: string, add: readonly Written[], writer: Writer): Splice[] {
  const { key, newline, inBrackets, inLines } = writer;
  if (isFlow(text, root)) {
    const fields = flowEntries(text, root, [...root.fields.values()].map(spanOf), list);
    const piece = `${key(list)}: [${add.map(inBrackets).join(', ')}]`;
    return 'because' in fields ? [] : addToFlow(text, root, fields, [piece], writer);
  }
  const mark = /^\.\.\.(?=\s|$)/m.exec(text.slice(root.end))?.index;
  const at = mark === undefined ? text.length : root.end + mark;
  const gap = at === 0 || text[at - 1] === '\n' ? '' : newline;
  const lines = `${indentOf(text, root)}${key(list)}:${newline}${add.map(inLines).join('')}`;
  return [{ start: at, end: at, text: gap + lines }];
}

const spanOf = ({ key, value }: Field): Range => ({ start: key.start, end: value.end });

/** An empty list in brackets becomes one of lines; a comment behind it stays. */
function unbracket(text: string, list: List, add: readonly Written[], { newline, inLines }: Writer): Splice[] {
  const value = text.slice(0, list.start).trimEnd().length;
  const next = lineEnd(text, list.end);
  const gap = text[next - 1] === '\n' ? '' : newline;
  return [
    { start: value, end: list.end, text: '' },
    { start: next, end: next, text: gap + add.map(inLines).join('') },
  ];
}

function addLines(text: string, entries: readonly EntryText[], add: readonly Written[], writer: Writer): Splice[] {
  const at = pastOwnComments(text, entries.at(-1)?.lines?.end ?? text.length, writer.indent);
  const gap = text[at - 1] === '\n' ? '' : writer.newline;
  return add.length === 0 ? [] : [{ start: at, end: at, text: gap + add.map(writer.inLines).join('') }];
}

/** A comment directly below the last entry, and further in than its dash, speaks of it. */
function pastOwnComments(text: string, at: number, indent: string): number {
  let end = at;
  while (text.startsWith(`${indent} `, end) && text[pastIndent(text, end, 1)] === '#') end = lineEnd(text, end);
  return end;
}

/** The whole lines of each entry, from its dash. */
function blockEntries(text: string, { start, items }: List, name: string): EntryText[] | Obstacle {
  const entries: EntryText[] = [];
  let from = start;
  for (const [n, item] of items.entries()) {
    const dash = pastBlank(text, from);
    const line = ownLine(text, dash);
    if (text[dash] !== '-' || pastBlank(text, dash + 1) !== item.start) return tagged(dash, name, n);
    if (line === undefined) return { at: dash, because: `${name}[${n}] shares its line` };
    from = contentEnd(text, item);
    const end = text[from - 1] === '\n' ? from : lineEnd(text, from);
    entries.push({ start: dash, end: item.end, lines: { start: line, end } });
  }
  return entries;
}

/** To yaml a comment that is further in than the dash is a part of the entry above it. */
function contentEnd(text: string, item: Value): number {
  const last = item.kind === 'mapping' && !isFlow(text, item) ? [...item.fields.values()].at(-1) : undefined;
  return last?.value.end ?? item.end;
}

const tagged = (at: number, name: string, n: number): Obstacle => ({
  at,
  because: `${name}[${n}] has an anchor or a tag before it`,
});

/** What stands between the brackets of a list, or the braces of a mapping. */
function flowEntries(text: string, { start }: Range, items: readonly Range[], name: string): EntryText[] | Obstacle {
  const entries: EntryText[] = [];
  let from = start + 1;
  for (const [n, item] of items.entries()) {
    if (pastBlank(text, from) !== item.start) return tagged(item.start, name, n);
    const next = pastBlank(text, item.end);
    from = text[next] === ',' ? next + 1 : next;
    const entry = { start: item.start, end: item.end, ...(text[next] === ',' && { comma: next }) };
    const lines = linesOf(text, entry);
    entries.push(lines === undefined ? entry : { ...entry, lines });
  }
  return entries;
}

const REST_OF_LINE = /[ \t]*(?:#[^\n]*)?\r?\n/y;

/** Undefined where the lines hold something else. */
function linesOf(text: string, { start, end, comma = end - 1 }: EntryText): Range | undefined {
  const line = ownLine(text, start);
  if (line === undefined || text.slice(end, comma).includes('\n')) return undefined;
  REST_OF_LINE.lastIndex = comma + 1;
  return REST_OF_LINE.test(text) ? { start: line, end: REST_OF_LINE.lastIndex } : undefined;
}

function removeFromFlow(
  text: string,
  list: Range,
  entries: readonly EntryText[],
  remove: ReadonlySet<number>,
): Splice[] {
  const inside = { start: list.start + 1, end: list.end - 1 };
  const splices = removals(text, entries, remove);
  const kept = entries.findLast((_, n) => !remove.has(n));
  const last = entries.at(-1);
  // JSON has no comma behind the last one.
  if (kept?.comma !== undefined && last?.comma === undefined)
    splices.push({ start: kept.comma, end: kept.comma + 1, text: '' });
  if (kept !== undefined) return splices;
  const left = spliced(text, [...splices, { start: inside.end, end: text.length, text: '' }]).slice(inside.start);
  return left.trim() === '' ? [{ ...inside, text: '' }] : splices;
}

function removals(text: string, entries: readonly EntryText[], remove: ReadonlySet<number>): Splice[] {
  const comments = commentsOfGroups(text, entries, remove);
  const last = entries.findLastIndex((_, n) => !remove.has(n));
  return entries.flatMap((entry, n) => {
    if (!remove.has(n)) return [];
    if (entry.lines === undefined) return [{ ...withinLine(text, entries, n, n < last), text: '' }];
    return [{ start: comments.get(n) ?? entry.lines.start, end: entry.lines.end, text: '' }];
  });
}

/**
 * An entry that shares its lines with others, or with brackets. A comment behind it goes with it where no other is on the line.
 * `isFollowed`: one behind it stays.
 */
function withinLine(text: string, entries: readonly EntryText[], n: number, isFollowed: boolean): Range {
  const { start, end, comma } = entries[n] as EntryText;
  const after = comma === undefined ? end : comma + 1;
  const next = entries[n + 1]?.start;
  if (isFollowed && next !== undefined && !text.slice(after, next).includes('\n')) return { start, end: next };
  const before = pastIndent(text, start, -1);
  const previous = entries[n - 1]?.end;
  const isFirst = previous === undefined || text.slice(previous, start).includes('\n');
  REST_OF_LINE.lastIndex = after;
  if (!isFirst || !REST_OF_LINE.test(text)) return { start: before, end: after };
  const newline = REST_OF_LINE.lastIndex - 1;
  return { start: before, end: text[newline - 1] === '\r' ? newline - 1 : newline };
}

/**
 * Where the comments begin that go along. Entries with neither comment nor blank line between them are a group, and a block of
 * comments directly above it speaks of all of it: it goes when all of them do. Below the key of the list it may speak of the
 * whole list: there it goes only where another group follows. What is commented out is no comment.
 */
function commentsOfGroups(
  text: string,
  entries: readonly EntryText[],
  remove: ReadonlySet<number>,
): Map<number, number> {
  const heads = [...entries.keys()].filter((n) => n === 0 || entries[n - 1]?.lines?.end !== entries[n]?.lines?.start);
  const starts = new Map<number, number>();
  for (const [nth, head] of heads.entries()) {
    const lines = entries[head]?.lines;
    const next = heads[nth + 1] ?? entries.length;
    const members = Array.from({ length: next - head }, (_, n) => head + n);
    const isOwn = head > 0 || next < entries.length;
    if (lines !== undefined && isOwn && members.every((n) => remove.has(n)))
      starts.set(head, commentAbove(text, lines.start));
  }
  return starts;
}

const COMMENTED_OUT = /^[ \t]*#+[ \t]*[-{]/;

/** Where the block of comments begins that ends at this line, in its indent; the line itself where there is none. */
function commentAbove(text: string, line: number): number {
  const indent = text.slice(line, pastIndent(text, line, 1));
  let start = line;
  while (start > 0) {
    const above = lineStart(text, start - 1);
    if (!text.startsWith(`${indent}#`, above)) break;
    if (COMMENTED_OUT.test(text.slice(above, start))) return line;
    start = above;
  }
  return start;
}

/** Behind the last entry, on lines of their own where that one has its own. */
function addToFlow(
  text: string,
  { start, end }: Range,
  entries: readonly EntryText[],
  pieces: readonly string[],
  { newline }: Writer,
): Splice[] {
  const last = entries.at(-1);
  const inLines = (at: number, indent: string, tail: string): Splice => ({
    start: at,
    end: at,
    text: `${pieces.map((piece) => indent + piece).join(`,${newline}`)}${tail}${newline}`,
  });
  if (last === undefined) {
    const close = end - 1;
    if (isBlank(text, start + 1, close)) return [{ start: start + 1, end: close, text: pieces.join(', ') }];
    return [inLines(lineStart(text, close), `${indentOf(text, { start: close, end })}  `, '')];
  }
  if (last.lines === undefined)
    return [{ start: last.end, end: last.end, text: pieces.map((piece) => `, ${piece}`).join('') }];
  const added = inLines(last.lines.end, indentOf(text, last), last.comma === undefined ? '' : ',');
  return last.comma === undefined ? [{ start: last.end, end: last.end, text: ',' }, added] : [added];
}

const BLANK = /(?:\s+|#[^\n]*)*/y;

/** Behind spaces, lines and comments. */
function pastBlank(text: string, at: number): number {
  BLANK.lastIndex = at;
  BLANK.test(text);
  return BLANK.lastIndex;
}

/** Behind spaces and tabs; -1: before them. */
function pastIndent(text: string, at: number, direction: 1 | -1): number {
  const isNext = (char: string | undefined) => char === ' ' || char === '\t';
  let next = at;
  while (isNext(text[direction === 1 ? next : next - 1])) next += direction;
  return next;
}

/** Where the line begins; undefined where something else comes before on it. Never looks far: all may be on one line. */
function ownLine(text: string, at: number): number | undefined {
  const start = pastIndent(text, at, -1);
  return start === 0 || text[start - 1] === '\n' ? start : undefined;
}

const isBlank = (text: string, start: number, end: number): boolean => text.slice(start, end).trim() === '';

const lineStart = (text: string, offset: number): number => (offset === 0 ? 0 : text.lastIndexOf('\n', offset - 1) + 1);

/** What the line begins with, up to there. */
const indentOf = (text: string, { start }: Range): string =>
  /^[ \t]*/.exec(text.slice(lineStart(text, start), start))?.[0] ?? '';

function lineEnd(text: string, offset: number): number {
  const newline = text.indexOf('\n', offset);
  return newline === -1 ? text.length : newline + 1;
}
