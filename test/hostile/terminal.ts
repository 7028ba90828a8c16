// A terminal that takes text, line feeds and the colours of the program, and finds fault with all else. It knows by numbers what it
// refuses, and nothing of src/base/visible.ts.

import assert from 'node:assert/strict';

/** What the program itself prints on a terminal: colours, and the line of progress that it erases. */
// biome-ignore lint/suspicious/noControlCharactersInRegex: they begin with one
const OURS = /\u001b\[(?:0|2|31|32|33)m|\r\u001b\[K|\u001b\[H\u001b\[2J/g;

const REFUSED: readonly (readonly [number, number])[] = [
  // C0 but for the line feed, DEL and C1.
  [0x00, 0x09],
  [0x0b, 0x1f],
  [0x7f, 0xa0],
  // Soft hyphen, combining joiner, bidi mark, Hangul fillers, Mongolian separators.
  [0xad, 0xad],
  [0x34f, 0x34f],
  [0x61c, 0x61c],
  [0x115f, 0x1160],
  [0x180b, 0x180f],
  // Spaces, zero widths, bidi marks; separators, embeddings and overrides; isolates and other format characters.
  [0x2000, 0x200f],
  [0x2028, 0x202f],
  [0x205f, 0x206f],
  [0x2800, 0x2800],
  [0x3164, 0x3164],
  [0xd800, 0xf8ff],
  [0xfe00, 0xfe0f],
  [0xfeff, 0xfeff],
  [0xff10, 0xff19],
  [0xff21, 0xff3a],
  [0xff41, 0xff5a],
  [0xffa0, 0xffa0],
  [0xfff0, 0xfffb],
  [0x1d400, 0x1d7ff],
  [0xe0000, 0x10ffff],
];

/** The character that it finds fault with first, by its number; undefined where there is none. */
export function faultOf(text: string): string | undefined {
  for (const char of text.replace(OURS, '')) {
    const code = char.codePointAt(0) ?? 0;
    if (REFUSED.some(([from, to]) => from <= code && code <= to)) return code.toString(16);
  }
  return undefined;
}

/** Of output that no terminal gets to see: no escape sequence at all. */
export function assertVisible(text: string, what = ''): void {
  const fault = faultOf(text);
  assert.equal(fault, undefined, `${what}: U+${fault} in ${JSON.stringify(text.slice(0, 2000))}`);
  assert.ok(!text.includes('[object'), `${what}: ${text.slice(0, 2000)}`);
}
