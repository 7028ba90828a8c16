// What is wrong with a configuration file, and how it is shown.

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
  /** The rule and the value, lower case, no full stop: `must be a whole number from 1 to 32, is 33`. */
  message: string;
};

/** Both kinds of issue, as they are found. */
export type Report = { errors: Issue[]; warnings: Issue[] };

export function byPlace(a: Issue, b: Issue): number {
  return (a.line ?? 0) - (b.line ?? 0) || (a.column ?? 0) - (b.column ?? 0);
}

const LONGEST_EXCERPT = 100;

/** `file:line:col: path: message`, then the line of the file and carets under the value. */
export function formatIssue(file: string, text: string, issue: Issue): string {
  const { line, column, endColumn, path, message } = issue;
  const place = line === undefined ? [file] : [file, line, column ?? 1];
  const head = [place.join(':'), ...(path === undefined ? [] : [visible(path)]), message].join(': ');
  const source = line === undefined ? undefined : lineOf(text, line);
  if (line === undefined || source === undefined) return head;

  const excerpt = excerptAround([...source], (column ?? 1) - 1, (endColumn ?? column ?? 1) - 1);
  const number = String(line).padStart(3);
  return [
    head,
    `${number} | ${excerpt.line}`,
    `${' '.repeat(number.length)} | ${' '.repeat(excerpt.from)}${'^'.repeat(Math.max(1, excerpt.to - excerpt.from))}`,
  ].join('\n');
}

/** Control and format characters as one printable character each: no file speaks to the terminal, and carets stay in line. */
export function visible(text: string): string {
  return text.replace(/[\p{Cc}\p{Cf}\p{Cs}\p{Zl}\p{Zp}]/gu, (hidden) =>
    hidden < ' ' ? String.fromCodePoint(0x2400 + hidden.charCodeAt(0)) : '\ufffd',
  );
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

/** The part of a line that shows the value from `from` to `to`, with `…` where it was cut. */
function excerptAround(line: string[], from: number, to: number): { line: string; from: number; to: number } {
  if (line.length <= LONGEST_EXCERPT) return { line: visible(line.join('')), from, to };
  const first = Math.max(0, Math.min(from - 30, line.length - LONGEST_EXCERPT));
  const last = first + LONGEST_EXCERPT;
  const before = first > 0 ? '…' : '';
  const after = last < line.length ? '…' : '';
  return {
    line: `${before}${visible(line.slice(first, last).join(''))}${after}`,
    from: from - first + before.length,
    to: Math.min(to, last) - first + before.length,
  };
}
