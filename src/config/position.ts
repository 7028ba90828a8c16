// Offsets of a text as the lines and columns that an operator counts.

import type { Place } from './issue.ts';
import { countBefore } from './search.ts';

/** From a UTF-16 offset to the one after the value. */
export type Range = { start: number; end: number };

/** 40,000 EIPs. A file of other text that long takes the YAML parser 10 s and 1.3 GB (measured). */
export const LARGEST = 2 * 1024 * 1024;

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
    const lineEnd = lineStart + text.slice(lineStart, (lineStarts[line] ?? text.length + 1) - 1).trimEnd().length;
    const column = (offset: number) => offset - lineStart + 1 - (pairsBefore(offset) - pairsBefore(lineStart));
    return {
      line,
      column: column(start),
      endColumn: Math.max(column(start) + 1, column(Math.min(end, lineEnd))),
      ...(path === undefined ? {} : { path }),
    };
  };
}

/** Where lines begin, and where characters are that take two UTF-16 units and count as one. */
function indexOf(text: string): { lineStarts: number[]; pairs: number[] } {
  const lineStarts = [0];
  for (let at = text.indexOf('\n'); at !== -1; at = text.indexOf('\n', at + 1)) lineStarts.push(at + 1);
  return { lineStarts, pairs: Array.from(text.matchAll(/[\u{10000}-\u{10ffff}]/gu), (match) => match.index) };
}
