// The bytes of the file -> a tree of values that know their place, or what is wrong with the text.
// Knows YAML and nothing of routers.

import { Composer, type Document, isAlias, isMap, isNode, isPair, isScalar, isSeq, Parser, type YAMLError } from 'yaml';
import { byPlace, type Issue, type Place, type Report } from './issue.ts';
import { LARGEST, locator, type Range } from './position.ts';

export type Scalar = Range & { kind: 'scalar'; value: string | number | boolean | null };
export type List = Range & { kind: 'list'; items: Value[] };
export type Mapping = Range & { kind: 'mapping'; fields: Map<string, Field> };
/** An alias is the value it stands for, shared: nothing is ever expanded, so there is no alias bomb. */
export type Value = Scalar | List | Mapping;
export type Field = { key: Range; value: Value };

export type SourceDocument = Report & {
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

  const place = locator(text);
  const { documents, rest } = compose(text);
  const [document] = documents;
  const problems = documents.flatMap((each) => each.errors).map((error) => syntaxIssue(error, text, place));
  if (rest !== undefined)
    problems.push({ ...place(rest), message: 'must be one document: remove this --- and the rest' });
  const warnings = (document?.warnings ?? []).map((warning) => syntaxIssue(warning, text, place));
  if (problems.length > 0) return { text, place, root: undefined, errors: firstOfEachLine(problems), warnings };

  const errors: Issue[] = [];
  const root = document?.contents == null ? undefined : toValue(document.contents, place, errors);
  if (root === undefined) {
    const what = text.trim() === '' ? 'is empty' : 'holds nothing but comments';
    return unreadable(text, `${what}: needs at least if_list, and if_list: [] to take everything down`);
  }
  return { text, place, root, errors, warnings };
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
    return { message: 'must be text in UTF-8, is not from here on', start: Math.max(0, text.indexOf('\ufffd')) };
  }
  const control = /(?![\t\n\r])\p{Cc}/u.exec(text);
  if (control === null) return undefined;
  const code = control[0].charCodeAt(0).toString(16).toUpperCase().padStart(4, '0');
  return { message: `must be text, has the control character U+${code}`, start: control.index };
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
function compose(text: string): { documents: Document.Parsed[]; rest?: Range } {
  const composer = new Composer(YAML_OPTIONS);
  const documents: Document.Parsed[] = [];
  let rest: Range | undefined;
  let started = false;
  for (const token of new Parser().parse(text)) {
    if (token.type === 'document' && started) {
      rest = { start: token.offset, end: token.offset + 3 };
      break;
    }
    started ||= token.type === 'document';
    documents.push(...composer.next(token));
    if (token.type === 'error') break;
  }
  documents.push(...composer.end(true, text.length));
  return rest === undefined ? { documents } : { documents, rest };
}

/** yaml's words for what operators meet, in theirs. The first that fits. */
const CURES: readonly [RegExp, string][] = [
  [/Tabs are not allowed/, 'must be indented with spaces, not with tabs'],
  [/Missing closing/, 'needs a second quote that closes this one'],
  [/Flow sequence .*must/, 'needs a ] before this that closes the ['],
  [/Flow map .*must/, 'needs a } before this that closes the {'],
  [/same column|without - indicator|block sequence may not/i, 'must be indented like the lines it belongs to'],
  [/Nested mappings/, 'is a key inside a value: put the value in quotes, or indent this line like its neighbours'],
  [/Implicit (map )?keys|Missing , or :/, 'must be written as key: value, with a space after the colon'],
  [/Plain value cannot start/, 'needs quotes, because of its first character'],
  [/Invalid escape/, 'is no escape of YAML: write \\\\ or use single quotes'],
  [/Unresolved tag: (.*)/, 'has the tag $1, which means nothing here'],
  [/call stack/, 'is nested too deeply'],
  [/^Unexpected/, 'does not belong here: look at the quotes, brackets and indent before it'],
];

function syntaxIssue({ message, pos }: YAMLError, text: string, place: SourceDocument['place']): Issue {
  const range = { start: mistakeAt(message, pos[0], text), end: pos[1] };
  for (const [words, cure] of CURES) {
    const match = words.exec(message);
    if (match !== null) return { ...place(range), message: cure.replace('$1', match[1] ?? '') };
  }
  return { ...place(range), message: `is not YAML: ${message}` };
}

/** The place to look at: where a quote opens, not where its end is missed; the text of a line, not its indent. */
function mistakeAt(message: string, noticed: number, text: string): number {
  const quote = /Missing closing (.)/.exec(message)?.[1];
  if (quote !== undefined) return Math.max(0, text.lastIndexOf(quote, noticed - 1));
  return noticed + (/^ */.exec(text.slice(noticed, noticed + 100))?.[0].length ?? 0);
}

/** One mistake upsets the parser several times; the first of a line is the one to mend. */
function firstOfEachLine(issues: Issue[]): Issue[] {
  const sorted = issues.toSorted(byPlace);
  return sorted.filter((issue, n) => issue.line !== sorted[n - 1]?.line);
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
      return { kind: 'scalar', value: null, ...range };
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
      const value = read(pair.value, key.end, fieldPath, depth + 1);
      if (first === undefined) fields.set(name, { key, value });
      else report(key, fieldPath, `is already given on line ${place(first.key).line}`);
    }
    return fields;
  }

  return read(contents, 0, '', 0);
}

function rangeOf(node: unknown, missing: number): Range {
  const [start, end] = (isNode(node) ? node.range : undefined) ?? [missing, missing];
  return { start, end };
}
