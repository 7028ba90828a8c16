// Offsets of a text as the lines and columns that an operator counts.

import type { Place } from './issue.ts';
import { countBefore } from './search.ts';

/** From a UTF-16 offset to the one after the value. */
export type Range = { start: number; end: number };

/** In bytes: 40,000 EIPs. What is larger is not even read. */
export const LARGEST = 2 * 1024 * 1024;

/**
 * Commas, brackets and the like: what yaml makes something of, up to a kilobyte for each, and 2.6 GB for 2 MiB of commas (measured). With
 * this bound it is 450 MB at most, whatever the text. 40,000 EIPs as JSON have 360,000, and take 250 MB.
 */
export const MOST_MARKS = 400_000;

/** Finds the place of a range; what goes beyond its first line is left out. Every look-up is O(log n), but for the first one. */
export function locator(text: string): (range: Range, path?: string) => Place {
  // A file in which nothing is wrong is asked for no place.
  let index: ReturnType<typeof indexOf> | undefined;

  return ({ start, end }, path) => {
    index ??= indexOf(text);
    const { lineStarts, pairs } = index;
    const pairsBefore = (offset: number) => countBefore(pairs, (pair) => pair < offset);
    const line = countBefore(lineStarts, (offset) => offset <= start);
    const lineStart = lineStarts[line - 1] ?? 0;
    const lineEnd = contentEnd(text, (lineStarts[line] ?? text.length + 1) - 1);
    const column = (offset: number) => offset - lineStart + 1 - (pairsBefore(offset) - pairsBefore(lineStart));
    return {
      line,
      column: column(start),
      endColumn: Math.max(column(start) + 1, column(Math.min(end, lineEnd))),
      ...(path === undefined ? {} : { path }),
    };
  };
}

/** Behind what is no blank; other spaces than ASCII's are content. */
function contentEnd(text: string, lineEnd: number): number {
  let end = lineEnd;
  while (' \t\r'.includes(text[end - 1] ?? '-')) end--;
  return end;
}

/** Where lines begin, and where characters are that take two UTF-16 units and count as one. */
function indexOf(text: string): { lineStarts: number[]; pairs: number[] } {
  const lineStarts = [0];
  for (let at = text.indexOf('\n'); at !== -1; at = text.indexOf('\n', at + 1)) lineStarts.push(at + 1);
  return { lineStarts, pairs: Array.from(text.matchAll(/[\u{10000}-\u{10ffff}]/gu), (match) => match.index) };
}
