// Text from elsewhere, made visible: the one place that decides what of it reaches a terminal as it is. What does not is shown by
// its number, <U+202E>, and a control character by its picture, ␛. Pure.
//
// Never as it is, for it moves, hides or reorders what stands beside it:
//   control characters, a line feed among them; format characters (bidi controls, zero widths, tags); line and paragraph separators;
//   whatever has no shape (fillers, variation selectors, blank Braille), no agreed one (private use, unassigned) or is half a
//   character; all of scripts that run to the left; marks without a letter, and the fourth on one.
// Never as it is, for it looks like ASCII and is not:
//   full-width and mathematical letters and digits, digits of other scripts, spaces, letters of Lisu, Cherokee, Osage, Miao and dead scripts,
//   phonetic ones, two in one, Roman numerals of one letter, punctuation that somebody takes for ASCII's.
// By what stands beside it:
//   full-width punctuation, dashes, quotation marks and the wide space stay where their run touches Chinese, Japanese or Korean text;
//   a letter that is neither Latin nor of those stays in a word of its own kind, not in one with an ASCII letter in it, nor in one
//   of nothing but letters that look like ASCII (Cyrillic `сосо`), nor in one that is longer than a piece (below).
// As it is: all other text, in Chinese as in any language.

/** Text that may be printed: the program's own, with its control characters, around visible text of others. */
export type Shown = { readonly shown: string };

/** A tag for templates: what is put in is made visible, unless it is shown already. */
export function shown(ours: TemplateStringsArray, ...theirs: readonly (Shown | string | number)[]): Shown {
  let text = ours[0] ?? '';
  theirs.forEach((each, n) => {
    text += (typeof each === 'object' ? each.shown : visible(String(each))) + (ours[n + 1] ?? '');
  });
  return { shown: text };
}

/** Text of the program itself, as it is. */
export const own = (text: string): Shown => ({ shown: text });

/** Text whose line feeds, and nothing else, are the program's. */
export const shownLines = (text: string): Shown => own(text.split('\n').map(visible).join('\n'));

/** JSON, which has an escape for everything: what it means stays the same. */
export const shownJson = (json: string): Shown =>
  own(PLAIN_LINES.test(json) ? json : revealed(json, (char) => (char === '\n' ? char : escaped(char))));

export const joined = (parts: readonly Shown[], between = ''): Shown =>
  own(parts.map((part) => part.shown).join(between));

/** What is visible already stays the same. */
export const visible = (text: string): string => (PLAIN.test(text) ? text : revealed(text, named));

/** ASCII, and what our own messages have beside it (→ …): most of all that is printed. */
const PLAIN = /^[ -~\u2192\u2026]*$/;
const PLAIN_LINES = /^[ -~\u2192\u2026\n]*$/;

/**
 * The text in lines that a terminal of so many columns does not break by itself, all but the first behind four spaces: none of it
 * can be taken for a line of somebody else. `taken`: columns in front of it. A character beyond ASCII may take two.
 */
export function wrapped(text: string, columns: number, taken = 0): Shown {
  const room = Math.max(columns, 20);
  const seen = visible(text);
  const lines: string[] = [];
  let [from, at] = [0, 0];
  let used = Math.min(taken, room - 2);
  for (const char of seen) {
    const width = char <= '~' ? 1 : 2;
    if (used + width > room) {
      lines.push(seen.slice(from, at));
      [from, used] = [at, 4];
    }
    at += char.length;
    used += width;
  }
  lines.push(seen.slice(from));
  return own(lines.join('\n    '));
}

/** What a terminal takes for it: two columns for a Chinese character and its like, none for a mark on a letter. */
export function columnsOf(text: string): number {
  let columns = 0;
  for (const char of text) columns += char <= '~' ? 1 : WIDE.test(char) ? 2 : MARK.test(char) ? 0 : 1;
  return columns;
}

const WIDE =
  /[\u1100-\u115f\u2e80-\u303e\u3041-\ua4cf\ua960-\ua97c\uac00-\ud7a3\uf900-\ufaff\ufe30-\ufe6b\uff01-\uff60\uffe0-\uffe6\u{1f300}-\u{1f64f}\u{1f680}-\u{1f6ff}\u{1f900}-\u{1f9ff}\u{20000}-\u{3fffd}]/u;
const MARK = /\p{M}/u;

/** A regular expression takes of the stack for each letter of a word: five million of them were too many. */
const PIECE = 65_536;
const MOST_NAMES = 1000;

/** Piece by piece: one ends behind an ASCII character that is in no word, so what is beyond changes nothing in it. */
function revealed(text: string, nameOf: (char: string) => string): string {
  const names = new Map<string, string>();
  const name = (char: string): string => {
    const known = names.get(char) ?? nameOf(char);
    if (names.size < MOST_NAMES) names.set(char, known);
    return known;
  };
  const pieces: string[] = [];
  let isTorn = false;
  for (let from = 0; from < text.length; ) {
    const wasTorn = isTorn;
    let to = endOfPiece(text, from);
    isTorn = to === undefined;
    to ??= from + PIECE - (/[\ud800-\udbff]/.test(text[from + PIECE - 1] ?? '') ? 1 : 0);
    pieces.push(revealedPiece(text.slice(from, to), name, isTorn || wasTorn));
    from = to;
  }
  return pieces.join('');
}

/** Undefined where there is no such character. */
function endOfPiece(text: string, from: number): number | undefined {
  if (text.length - from <= PIECE) return text.length;
  for (let to = from + PIECE; to > from; to--) if (/[\0-/:-@[-^`{-\x7f]/.test(text[to - 1] ?? '')) return to;
  return undefined;
}

/** `isTorn`: what its first or last word has beside what is here, nobody knows. */
function revealedPiece(text: string, name: (char: string) => string, isTorn: boolean): string {
  const { hidden, marks, lookalike, punctuation, word, alphabet, likeAscii } = patterns();
  // Whether somebody may take letters of another alphabet in it for ASCII.
  const isMistakable = (found: string) => isTorn || /[a-z]/i.test(found) || likeAscii.test(found);
  const all = (found: string) => found.replace(/./gu, name);
  return text
    .replace(lookalike, name)
    .replace(hidden, name)
    .replace(marks, all)
    .replace(punctuation, all)
    .replace(word, (found) => (isMistakable(found) ? found.replace(alphabet, all) : found));
}

function named(char: string): string {
  const code = char.codePointAt(0) ?? 0;
  if (code < 0x20) return String.fromCodePoint(0x2400 + code);
  return code === 0x7f ? '\u2421' : `<U+${code.toString(16).toUpperCase().padStart(4, '0')}>`;
}

const escaped = (char: string): string =>
  escapedUnit(char.charCodeAt(0)) + (char.length > 1 ? escapedUnit(char.charCodeAt(1)) : '');
const escapedUnit = (unit: number): string => `\\u${unit.toString(16).padStart(4, '0')}`;

/** Takes milliseconds, which most runs do without. */
const patterns = once(() => {
  // Where Unicode has, and will put, all that runs to the left (DerivedBidiClass.txt: R, AL and AN), with marks and signs among it.
  const leftward = '\\u0590-\\u08ff\\ufb1d-\\ufdff\\ufe70-\\ufeff\\u{10800}-\\u{10fff}\\u{1e800}-\\u{1efff}';

  // With a shape that nobody sees: Braille, Tifinagh, Khitan, a note, hieroglyphs.
  const blank = '\\u2800\\u2d7f\\u{13440}-\\u{13442}\\u{16fe4}\\u{1d159}';

  const hidden = new RegExp(
    `[\\p{Cc}\\p{Cf}\\p{Cs}\\p{Co}\\p{Cn}\\p{Zl}\\p{Zp}\\p{Default_Ignorable_Code_Point}${blank}${leftward}]`,
    'gu',
  );
  const marks = /(?<=\p{M}{3})\p{M}+|(?<![\p{L}\p{N}\p{M}])\p{M}+/gu;

  const lookalike = new RegExp(
    `(?![0-9 \\u3000])[${[
      '\\p{Nd}\\p{Zs}\\p{Script=Lisu}\\p{Script=Cherokee}\\p{Script=Coptic}\\p{Script=Deseret}\\p{Script=Gothic}\\p{Script=Old_Italic}',
      '\\p{Script=Ahom}\\p{Script=Carian}\\p{Script=Elbasan}\\p{Script=Lycian}\\p{Script=Miao}\\p{Script=Osage}\\p{Script=Runic}\\p{Script=Warang_Citi}',
      // Full-width, outlined and mathematical letters; of the letter-like symbols those that are letters.
      '\\uff21-\\uff3a\\uff41-\\uff5a\\u{1ccd6}-\\u{1ccef}\\u{1d400}-\\u{1d7ff}\\u210a-\\u2113\\u2115\\u2119-\\u211d\\u2124\\u2128\\u212a\\u212c-\\u2134\\u2139\\u2145-\\u2149',
      // Latin: ligatures, two letters in one, dotless, long, clicks, phonetic, modifiers.
      '\\u0131-\\u0133\\u0138\\u017f\\u0184\\u0185\\u0196\\u01a6-\\u01a8\\u01bc\\u01bd\\u01bf\\u01c0-\\u01c3\\u01c7-\\u01cc\\u018d\\u01b7\\u01f1-\\u01f3\\u021c\\u0222\\u0223\\u0237\\u0241\\u0250-\\u02ff\\u1d00-\\u1dbf\\u2071\\u207f\\u2090-\\u209c\\u2c60-\\u2c7f\\u1e9d\\u1eff\\ufb00-\\ufb06\\ua720-\\ua7ff\\uab30-\\uab6f\\u{10780}-\\u{107bf}\\u{1df00}-\\u{1dfff}',
      // Ⅰ Ⅴ Ⅹ Ⅼ Ⅽ Ⅾ Ⅿ, great and small.
      '\\u2160\\u2164\\u2169\\u216c-\\u2170\\u2174\\u2179\\u217c-\\u217f',
      // Of other scripts, of mathematics and of ornament: : ; . , | / \\ - = * ~ < > ( ) ' " `
      '\\u00b4\\u037e\\u0384\\u0385\\u0387\\u055a\\u055b\\u055d\\u0589\\u16eb-\\u16ed\\u1803\\u1809\\u1fbd\\u1fbf-\\u1fc1\\u1fcd-\\u1fcf\\u1fdd-\\u1fdf\\u1fed-\\u1fef\\u1ffd\\u1ffe',
      '\\u2024\\u2032-\\u2037\\u2039\\u203a\\u2043\\u2044\\u204e\\u204f\\u2053\\u2057\\u205a\\u2212\\u2215-\\u2217\\u2223\\u2236\\u223c\\u23af\\u23b8-\\u23bd\\u23d0',
      '\\u2500-\\u2503\\u2550\\u2571\\u2572\\u2574\\u2576\\u2578\\u257a\\u2758\\u2759\\u275b-\\u275f\\u2768-\\u2775\\u27cb\\u27cd\\u27e8\\u27e9\\u29f5\\u29f8\\u29f9',
      // Of Canada, Vai and Bamum, of APL, of Greek and of fonts for forms: = x X . ? 2 a i p l || / \\\\ + -
      '\\u1400\\u166d\\u166e\\ua60e\\ua6eb\\ua6ef\\ua6df\\u2373\\u2374\\u237a\\u23fd\\u2016\\u2225\\u1735\\u2041\\u2afb\\u2afd\\u244a\\u2795\\u2796\\u037a\\u1fbe\\u2102\\u213d\\u{1d200}-\\u{1d245}',
      '\\u2a74-\\u2a76\\u2e00-\\u2e39\\u2e3c-\\u2e7f\\ufe50-\\ufe6b\\uffe8\\u{1d23a}\\u{1d23b}\\u{1f100}-\\u{1f10a}',
    ].join('')}]`,
    'gu',
  );

  const cjk =
    '\\p{Script=Han}\\p{Script=Hiragana}\\p{Script=Katakana}\\p{Script=Bopomofo}\\p{Script=Hangul}\\u3001-\\u303f\\u30fb\\u30fc';
  const wide =
    '\\uff01-\\uff0f\\uff1a-\\uff20\\uff3b-\\uff40\\uff5b-\\uff65\\uffe0-\\uffe6\\u2010-\\u2015\\u2018-\\u201f\\u2025\\u203c\\u2047-\\u2049\\u2488-\\u249b\\u2e3a\\u2e3b\\u3000\\ufe10-\\ufe19\\ufe30-\\ufe4f';
  const punctuation = new RegExp(`(?<![${cjk}${wide}])[${wide}]+(?![${cjk}${wide}])`, 'gu');

  const word = /[\p{L}\p{M}\p{N}_]+/gu;
  const alphabet = new RegExp(`(?![${cjk}\\p{Script=Latin}])\\p{L}\\p{M}*`, 'gu');
  /** Cyrillic, Greek, Armenian; of Canada; Tifinagh, Georgian, Ethiopic, Malayalam, Oriya, Burmese (confusables.txt of UTS #39). */
  const likeLetters =
    'аеорсухіјѕһԁԛԝӏАВЕКМНОРСТУХІЈЅҮԚԜӀαικνορυχΑΒΕΖΗΙΚΜΝΟΡΤΥΧϲϳոսցօհՕԼՍ' +
    'ЗӠбгҽѵѡүЬѴԌꙄꙇσγϱϒϜϹϺͿքռգզաՏ' +
    'ᐸᐳᑊᒿᗅᑲᖯᗷᑯᗞᗪᖴᕼᒍᒪᗰᑭᖇᑌᐯᕁᕽⴸⴹⵏⵑⵔⵕⵝჿყዐሀഠଠဝ';
  const likeAscii = new RegExp(`^[${likeLetters}\\p{M}\\p{N}_]*$`, 'u');
  return { hidden, marks, lookalike, punctuation, word, alphabet, likeAscii };
});

function once<T>(make: () => T): () => T {
  let made: T | undefined;
  return () => (made ??= make());
}
