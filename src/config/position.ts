// Offsets of a text as the lines and columns that an operator counts.

import type { Place } from './issue.ts';
import { countBefore } from './search.ts';

/** From a UTF-16 offset to the one after the value. */
export type Range = { start: number; end: number };

/** Finds the place of a range; what goes beyond its first line is left out. Every look-up is O(log n). */
export function locator(text: string): (range: Range, path?: string) => Place {
  const lineStarts = [0];
  for (let at = text.indexOf('\n'); at !== -1; at = text.indexOf('\n', at + 1)) lineStarts.push(at + 1);
  // Characters that take two UTF-16 units and count as one.
  const pairs = Array.from(text.matchAll(/[\u{10000}-\u{10ffff}]/gu), (match) => match.index);

  const pairsBefore = (offset: number) => countBefore(pairs, (pair) => pair < offset);

  return ({ start, end }, path) => {
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
