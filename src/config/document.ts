// The bytes of the file -> a tree of values that know their place, or what is wrong with the text.
// Knows YAML and nothing of routers.

import { Composer, type Document, isAlias, isMap, isNode, isPair, isScalar, isSeq, Parser, type YAMLError } from 'yaml';
import { byPlace, type Issue, type Issues, type Place } from './issue.ts';
import { LARGEST, locator, MOST_MARKS, type Range } from './position.ts';
import { countBefore } from './search.ts';
import { typedInCode } from './typed.ts';

/** `isNowhere`: an alias of nothing, which is said already. */
export type Scalar = Range & { kind: 'scalar'; value: string | number | boolean | null; isNowhere?: true };
export type List = Range & { kind: 'list'; items: Value[] };
export type Mapping = Range & { kind: 'mapping'; fields: Map<string, Field> };
/** An alias is the value it stands for, shared: nothing is ever expanded, so there is no alias bomb. */
export type Value = Scalar | List | Mapping;
export type Field = { key: Range; value: Value };

export type SourceDocument = Issues & {
  text: string;
  /** Undefined when the text is no YAML, or none that can be trusted. */
  root: Value | undefined;
  place: (range: Range, path?: string) => Place;
};

/** The configuration has three levels; what is far deeper is not one, and not worth a stack overflow. */
const DEEPEST = 16;

const YAML_OPTIONS = {
  // Not what a %YAML 1.1 directive would ask for: there 10:20:30:40:50:10 is a number, and no MAC.
  schema: 'core',
  resolveKnownTags: false,
  prettyErrors: false,
  // yaml compares every key with every other; we look for doubles ourselves.
  uniqueKeys: false,
} as const;

export function readDocument(input: Uint8Array | string): SourceDocument {
  if (input.length > LARGEST) {
    return unreadable('', `must not be larger than ${LARGEST} bytes, is ${input.length}`);
  }
  const text = (typeof input === 'string' ? input : new TextDecoder().decode(input)).replace(/^\ufeff/, '');
  const foreign = foreignText(input, text);
  if (foreign !== undefined) return unreadable(text, foreign.message, foreign.start);

  const beyond = markBeyond(text);
  if (beyond !== undefined) {
    const message = `must not have more than ${MOST_MARKS} commas, brackets, colons, dashes, quoted texts and lines together, has more from here on`;
    return unreadable(text, message, beyond);
  }
  const place = locator(text);
  const { documents, rest, tooDeep } = withoutStacks(() => compose(text));
  if (tooDeep !== undefined) return unreadable(text, 'is nested too deeply', tooDeep);
  const [document] = documents;
  const problems = documents.flatMap((each) => each.errors).map((error) => syntaxIssue(error, text, place));
  const typed = problems.length === 0 && rest === undefined ? undefined : typedInCode(text);
  if (typed !== undefined) {
    // It is what the others come from.
    const issue = { ...place({ start: typed.at, end: typed.at + 1 }), message: typed.message };
    const before = problems.filter(({ line = 0 }) => line < issue.line);
    return { text, place, root: undefined, errors: firstOfEachPart([...before, issue], text), warnings: [] };
  }
  if (rest !== undefined)
    problems.push({
      ...place(rest),
      message: `must be one document: remove this ${text.startsWith('---', rest.start) ? '--- ' : ''}and the rest`,
    });
  const warnings = (document?.warnings ?? []).map((warning) => syntaxIssue(warning, text, place));
  if (problems.length > 0) return { text, place, root: undefined, errors: firstOfEachPart(problems, text), warnings };

  const errors: Issue[] = [];
  const root = document?.contents == null ? undefined : toValue(document.contents, place, errors);
  if (root === undefined) {
    const what = text.trim() === '' ? 'is empty' : 'holds nothing but comments';
    return unreadable(text, `${what}: needs at least if_list, and if_list: [] to take everything down`);
  }
  return { text, place, root, errors, warnings };
}

/** Where there are too many. Quick; counts those in comments and texts too, and leaves out none that yaml makes much of. */
function markBeyond(text: string): number | undefined {
  if (text.length <= MOST_MARKS) return undefined;
  let halves = 0;
  for (let at = 0; at < text.length; at++) {
    halves += halvesAt(text, at);
    if (halves > 2 * MOST_MARKS) return at;
  }
  return undefined;
}

/** What opens something, or ends one item; of quotes two make a text. */
const ALONE = tableOf('\n,[{&*!?|>%@`');
const QUOTES = tableOf(`"'`);
/** In a MAC, a time or a key they are a part of the word. */
const BESIDE_WORDS = tableOf(':-');

function halvesAt(text: string, at: number): 0 | 1 | 2 {
  const code = text.charCodeAt(at);
  if (ALONE[code] === 1) return 2;
  if (QUOTES[code] === 1) return 1;
  return BESIDE_WORDS[code] === 1 && !isWord(text.charCodeAt(at + 1)) ? 2 : 0;
}

/** 0 to 9, A to Z, a to z. */
const isWord = (code: number): boolean =>
  (code >= 48 && code <= 57) || (code >= 65 && code <= 90) || (code >= 97 && code <= 122);

function tableOf(characters: string): Uint8Array {
  const table = new Uint8Array(128);
  for (const character of characters) table[character.charCodeAt(0)] = 1;
  return table;
}

function unreadable(text: string, message: string, start = 0): SourceDocument {
  const place = locator(text);
  const where = text === '' ? {} : place({ start, end: start + 1 });
  return { text, place, root: undefined, errors: [{ ...where, message }], warnings: [] };
}

/** What shows that this is no text file, or not one in UTF-8; YAML itself would let it pass. */
function foreignText(input: Uint8Array | string, text: string): { message: string; start: number } | undefined {
  // A decoder that is not fatal leaves U+FFFD where the bytes are wrong, and so shows the place.
  if (typeof input !== 'string' && !isUtf8(input)) {
    const looksLike = (name: string, encoding: string) =>
      `, and looks like ${name}: iconv -f ${encoding} -t UTF-8 FILE > NEW converts it`;
    const cure = isUtf16(input) ? looksLike('UTF-16', 'UTF-16') : isChinese(input) ? looksLike('GBK', 'GB18030') : '';
    return { message: `must be text in UTF-8, is not from here on${cure}`, start: Math.max(0, text.indexOf('\ufffd')) };
  }
  const control = /(?![\t\n\r])\p{Cc}/u.exec(text);
  if (control === null) return undefined;
  const code = control[0].charCodeAt(0).toString(16).toUpperCase().padStart(4, '0');
  return { message: `must be text, has the control character U+${code}`, start: control.index };
}

/** By its byte order mark. */
const isUtf16 = ([first, second]: Uint8Array): boolean =>
  (first === 0xff && second === 0xfe) || (first === 0xfe && second === 0xff);

/** Whether it is ASCII and Chinese characters in GBK or GB18030, as editors on Windows write it. */
function isChinese(bytes: Uint8Array): boolean {
  try {
    const text = new TextDecoder('gb18030', { fatal: true }).decode(bytes);
    return /\p{Script=Han}/u.test(text) && !/(?![\t\n\r])[\p{Cc}\p{Co}\p{Cn}]/u.test(text);
  } catch {
    return false;
  }
}

function isUtf8(bytes: Uint8Array): boolean {
  try {
    new TextDecoder('utf-8', { fatal: true }).decode(bytes);
    return true;
  } catch {
    return false;
  }
}

/** As yaml's parseDocument, but stops where the text stops being one document: it would make an error of every byte. */
function compose(text: string): { documents: Document.Parsed[]; rest?: Range; tooDeep?: number } {
  const composer = new Composer(YAML_OPTIONS);
  const documents: Document.Parsed[] = [];
  let rest: Range | undefined;
  let started = false;
  let at = 0;
  try {
    for (const token of new Parser().parse(text)) {
      at = token.offset;
      if (token.type === 'document' && started) {
        rest = { start: at, end: at + 3 };
        break;
      }
      started ||= token.type === 'document';
      documents.push(...composer.next(token));
      if (token.type === 'error') break;
    }
    documents.push(...composer.end(true, text.length));
  } catch (error) {
    // Of brackets within brackets yaml makes a mistake of its own, not of pairs within pairs (`[a: b: c: …`).
    if (error instanceof RangeError) return { documents: [], tooDeep: at };
    throw error;
  }
  return rest === undefined ? { documents } : { documents, rest };
}

/** yaml makes an Error of each mistake. With their stacks 400,000 commas take twice as long, and 600 MB instead of 340 (measured). */
function withoutStacks<T>(work: () => T): T {
  const { stackTraceLimit } = Error;
  Error.stackTraceLimit = 0;
  try {
    return work();
  } finally {
    Error.stackTraceLimit = stackTraceLimit;
  }
}

const TABS = 'must be indented with spaces, not with tabs';
const OUT_OF_LINE = 'must be indented like the lines it belongs to';
const INSIDE = 'is a key inside a value: put the value in quotes, or indent this line like its neighbours';

/** yaml's words for what operators meet, in theirs. The first that fits. */
const CURES: readonly [RegExp, string][] = [
  [/Tabs are not allowed/, TABS],
  [/Missing closing/, 'needs a second quote that closes this one'],
  [/Flow sequence .*must/, 'needs a ] before this that closes the ['],
  [/Flow map .*must/, 'needs a } before this that closes the {'],
  [/same column|without - indicator|block sequence may not/i, OUT_OF_LINE],
  [/Nested mappings/, INSIDE],
  [
    /Block collections are not allowed|Missing , between/,
    'needs a comma before it, or what it is in has dashes, which brackets do not allow',
  ],
  [/Implicit (map )?keys|Missing , or :/, 'must be written as key: value, with a space after the colon'],
  [/Plain value cannot start/, 'needs quotes, because of its first character'],
  [/Invalid escape/, 'is no escape of YAML: write \\\\ or use single quotes'],
  [/Unresolved tag: (.*)/, 'has the tag $1, which means nothing here'],
  [/call stack/, 'is nested too deeply'],
  [/^Unexpected/, 'does not belong here: look at the quotes, brackets and indent before it'],
];

function syntaxIssue({ message, pos }: YAMLError, text: string, place: SourceDocument['place']): Issue {
  const further = tooFarIn(message, pos[0], text);
  if (further !== undefined) {
    const { start, hasTab } = further;
    const cure = hasTab ? TABS : 'is further in than the key above it: indent it like its neighbours';
    return { ...place({ start, end: endOfKey(text, start) }), message: cure };
  }
  const range = { start: mistakeAt(message, pos[0], text), end: pos[1] };
  for (const [words, cure] of CURES) {
    const match = words.exec(message);
    if (match === null) continue;
    const before = cure === OUT_OF_LINE || cure === INSIDE ? wrongBefore(text, range.start) : undefined;
    if (before !== undefined) return { ...place({ start: before.at, end: before.at + 1 }), message: before.message };
    return { ...place(range), message: cure.replace('$1', match[1] ?? '') };
  }
  return { ...place(range), message: `is not YAML: ${message}` };
}

/** What a line begins with that upsets the rest of it. */
function wrongBefore(text: string, noticed: number): { at: number; message: string } | undefined {
  // A line with 100,000 mistakes is read 100,000 times.
  const near = text.slice(Math.max(0, noticed - LONGEST_LINE), noticed);
  const start = noticed - near.length + near.lastIndexOf('\n') + 1;
  BEGINNING.lastIndex = start;
  const [, indent = '', tab, dash] = BEGINNING.exec(text) ?? [];
  const at = start + indent.length;
  if (tab !== undefined) return { at, message: TABS };
  return dash === undefined ? undefined : { at, message: 'needs a space after the dash' };
}

const BEGINNING = /( *)(?:(\t)|(-)(?=[\w"'][^\n]*:(?:\s|$)))/y;

/** The place to look at: where a quote opens, not where its end is missed; the text of a line, not its indent. */
function mistakeAt(message: string, noticed: number, text: string): number {
  const quote = /Missing closing (.)/.exec(message)?.[1];
  if (quote !== undefined) return Math.max(0, text.lastIndexOf(quote, noticed - 1));
  // Between lines it is about the next one that says something.
  const past = text[noticed - 1] === '\n' ? PAST_LINES : PAST_COMMENTS;
  past.lastIndex = noticed;
  past.test(text);
  return past.lastIndex;
}

const PAST_COMMENTS = /(?: *#[^\n]*\n(?:[ \r]*\n)*)* */y;
const PAST_LINES = /(?:[ \r]*(?:#[^\n]*)?\n)* */y;

/** A line with a key that is further in than the value before it goes on with that value: where the line begins. */
function tooFarIn(message: string, noticed: number, text: string): { start: number; hasTab: boolean } | undefined {
  if (!/Nested mappings|Implicit keys need/.test(message)) return undefined;
  const lineStart = Math.max(0, text.lastIndexOf('\n', noticed - 1));
  // A line with 100,000 mistakes is read 100,000 times.
  if (noticed - lineStart > LONGEST_LINE) return undefined;
  // After a dash without a space it is that line which is wrong.
  const isValue = /(?:^|\n)[ \t]*(?![ \t]|-[^ \n])[^\n]*: *$/.test(text.slice(lineStart, noticed));
  if (!isValue) return undefined;
  const lines = /[^\n]*\n(?:[ \t\r]*(?:#[^\n]*)?\n)*([ \t]*)(?=\S)/y;
  lines.lastIndex = noticed;
  const [line = '', indent = ''] = lines.exec(text) ?? [];
  if (line === '' || /:(?: |\r?\n)/.test(line.slice(0, line.indexOf('\n') + 1))) return undefined;
  const hasTab = indent.includes('\t');
  const end = noticed + line.length;
  return { start: hasTab ? end - indent.length + indent.indexOf('\t') : end, hasTab };
}

const LONGEST_LINE = 1000;

function endOfKey(text: string, start: number): number {
  return start + (/[^\s:]*/.exec(text.slice(start, start + 100))?.[0].length ?? 0);
}

/** One mistake upsets the parser until the next key at the edge; the first of such a part is the one to mend. */
function firstOfEachPart(issues: Issue[], text: string): Issue[] {
  const partLines = text.split('\n').flatMap((line, n) => (/^[^\s#}\]-]/.test(line) ? [n + 1] : []));
  const partOf = ({ line = 0 }: Issue) => countBefore(partLines, (start) => start <= line);
  const sorted = issues.toSorted(byPlace);
  return sorted.filter((issue, n) => {
    const previous = sorted[n - 1];
    return previous === undefined || partOf(issue) !== partOf(previous);
  });
}

/** Linear in the text: an alias shares the value of its anchor. */
function toValue(contents: unknown, place: SourceDocument['place'], errors: Issue[]): Value {
  const anchors = new Map<string, Value>();
  const report = (range: Range, path: string, message: string) =>
    errors.push({ ...place(range, path === '' ? undefined : path), message });

  /** `end`: where the value would stand if the file has none. */
  function read(node: unknown, end: number, path: string, depth: number): Value {
    const range = rangeOf(node, end);
    if (isAlias(node)) {
      const value = anchors.get(node.source);
      if (value !== undefined) return { ...value, ...range };
      report(range, path, `needs an anchor &${node.source} before it`);
      return { kind: 'scalar', value: null, isNowhere: true, ...range };
    }
    const value = readOwn(node, range, path, depth);
    // After its content: within itself an anchor does not exist yet.
    if (isNode(node) && node.anchor !== undefined) anchors.set(node.anchor, value);
    return value;
  }

  function readOwn(node: unknown, range: Range, path: string, depth: number): Value {
    if (depth > DEEPEST) {
      report(range, path, 'is nested too deeply');
    } else if (isSeq(node)) {
      const items = node.items.map((item, n) => read(item, range.end, `${path}[${n}]`, depth + 1));
      return { kind: 'list', items, ...range };
    } else if (isMap(node)) {
      return { kind: 'mapping', fields: readFields(node.items, range, path, depth), ...range };
    }
    return { kind: 'scalar', value: isScalar(node) ? (node.value as Scalar['value']) : null, ...range };
  }

  function readFields(pairs: unknown[], range: Range, path: string, depth: number): Map<string, Field> {
    const fields = new Map<string, Field>();
    // Where a dash is missing every key of an entry is there twice: of such a row the first one is to mend.
    let isRow = false;
    for (const pair of pairs) {
      if (!isPair(pair)) continue;
      const key = rangeOf(pair.key, range.start);
      if (!isScalar(pair.key)) {
        report(key, path, 'must have plain text as a key');
        continue;
      }
      const name = String(pair.key.value ?? '');
      const fieldPath = path === '' ? name : `${path}.${name}`;
      const first = fields.get(name);
      // What a merge key stands for is of no interest.
      const written = name === '<<' && isAlias(pair.value) ? undefined : pair.value;
      const value = read(written, key.end, fieldPath, depth + 1);
      if (first === undefined) fields.set(name, { key, value });
      else if (!isRow) report(key, fieldPath, `is already given on line ${place(first.key).line}`);
      isRow = first !== undefined;
    }
    return fields;
  }

  return read(contents, 0, '', 0);
}

function rangeOf(node: unknown, missing: number): Range {
  const [start, end] = (isNode(node) ? node.range : undefined) ?? [missing, missing];
  return { start, end };
}
