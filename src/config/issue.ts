// What is wrong with a configuration file, and how it is shown.

import { columnsOf, visible } from '../base/visible.ts';
import type { Config } from './config.ts';

/** A place in the file; line and columns count characters, from 1. */
export type Place = {
  line: number;
  column: number;
  /** The column after the last character of the value, on the same line. */
  endColumn: number;
  /** `if_list[0].prefix` */
  path?: string;
};

/** One thing that is wrong, or suspicious, with its place where the file shows one. */
export type Issue = Partial<Place> & {
  /** As it was named, where it is known which one. */
  file?: string;
  /**
   * The rule and the value, lower case, no full stop: `must be a whole number from 1 to 32, is 33`. Where nothing else says what
   * it is about it begins with that: `/etc/kylin-vr/kylin-vr.yaml: is a folder`.
   */
  message: string;
};

/** What a file says, or what is wrong with it. */
export type ParsedConfig =
  | { ok: true; config: Config; warnings: Issue[]; notes: Issue[] }
  | { ok: false; errors: Issue[]; warnings: Issue[] };

/** Both kinds of issue, as they are found. */
export type Issues = { errors: Issue[]; warnings: Issue[] };

export function byPlace(a: Issue, b: Issue): number {
  return (a.line ?? 0) - (b.line ?? 0) || (a.column ?? 0) - (b.column ?? 0);
}

const LONGEST_EXCERPT = 100;

/** A file of nothing but mistakes has a hundred thousand. */
const MOST_SHOWN = 100;

/** As many as people read, or a run keeps. */
export function firstOf(issues: readonly Issue[]): Issue[] {
  const more = issues.length - MOST_SHOWN;
  // What has been cut already has one that says so.
  if (more <= 1) return [...issues];
  return [...issues.slice(0, MOST_SHOWN), { message: `and ${more} more: kylin-vr check --json has them all` }];
}

/** The same, of that file: what has no place in it names it in its message. */
export function inFile(file: string, issues: readonly Issue[]): Issue[] {
  return issues.map((issue) =>
    issue.line === undefined ? { ...issue, message: `${file}: ${issue.message}` } : { file, ...issue },
  );
}

/** What a file says, or is wrong with it, each issue of that file. */
export function ofFile(file: string, parsed: ParsedConfig): ParsedConfig {
  const warnings = inFile(file, parsed.warnings);
  return parsed.ok
    ? { ...parsed, warnings, notes: inFile(file, parsed.notes) }
    : { ...parsed, warnings, errors: inFile(file, parsed.errors) };
}

/** `file:line:col: path: message` */
export function inLine({ file, line, column = 1, path, message }: Issue): string {
  const place = line === undefined ? [] : [file === undefined ? `line ${line}` : `${file}:${line}:${column}`];
  return [...place, ...(path === undefined ? [] : [path]), message].join(': ');
}

/** In a line, then the line of the file and carets under the value. `text`: of the file, where it is known. */
export function formatIssue(text: string | undefined, issue: Issue): string {
  const { line, column, endColumn } = issue;
  const head = visible(inLine(issue));
  const source = line === undefined || text === undefined ? undefined : lineOf(text, line);
  if (line === undefined || source === undefined) return head;

  const excerpt = excerptAround([...source], (column ?? 1) - 1, (endColumn ?? column ?? 1) - 1);
  const number = String(line).padStart(3);
  return [
    head,
    `${number} | ${excerpt.line}`,
    `${' '.repeat(number.length)} | ${' '.repeat(excerpt.from)}${'^'.repeat(Math.max(1, excerpt.to - excerpt.from))}`,
  ].join('\n');
}

/** A value of the file as messages show it: on one line, and not longer than is good to read. */
export function quoted(source: string): string {
  const characters = [...source.slice(0, 100)];
  return visible(characters.length > 40 ? `${characters.slice(0, 40).join('')}…` : characters.join(''));
}

function lineOf(text: string, line: number): string | undefined {
  let start = 0;
  for (let n = 1; n < line; n++) {
    start = text.indexOf('\n', start) + 1;
    if (start === 0) return undefined;
  }
  const end = text.indexOf('\n', start);
  return text.slice(start, end === -1 ? undefined : end).replace(/\r$/, '');
}

/** The part of a line that shows the value from `from` to `to`, with `…` where it was cut; what hides in it takes more room. */
function excerptAround(line: string[], from: number, to: number): { line: string; from: number; to: number } {
  const first = line.length <= LONGEST_EXCERPT ? 0 : Math.max(0, Math.min(from - 30, line.length - LONGEST_EXCERPT));
  const last = Math.min(line.length, first + LONGEST_EXCERPT);
  const end = Math.max(from, Math.min(to, last));
  const part = (start: number, until: number) => visible(line.slice(start, until).join(''));
  const before = (first > 0 ? '…' : '') + part(first, from);
  const value = part(from, end);
  const after = part(end, last) + (last < line.length ? '…' : '');
  return { line: before + value + after, from: columnsOf(before), to: columnsOf(before) + columnsOf(value) };
}
