// Characters that input methods and word processors put in the place of ASCII's, and that YAML takes for text.

export type Typed = { at: number; message: string };
/** Such a character, and what belongs in its place. */
export type Mistyped = Typed & { char: string; instead: string };

const DASHES = '\u2010-\u2015\u2212';
const SPACES = '\u00a0\u2000-\u200d\u202f\u205f\u3000\ufeff';
/** Of no width and no shape, as pages and chats have them. */
const UNSEEN = '\u00ad\u061c\u180e\u200e\u200f\u202a-\u202e\u2060-\u2064\u2066-\u206f\ufe00-\ufe0f';
const QUOTES = '\u2018-\u201f\u300c-\u300f';
const FULL_WIDTH = '\uff01-\uff5e';
const FOREIGN = new RegExp(
  `[${DASHES}${SPACES}${UNSEEN}${QUOTES}${FULL_WIDTH}\u2028\u2029\ufe30\ufe55\uff61\u3001\u3002\u3010\u3011]`,
);

/** The first one: what it is, and what belongs there. */
export function typedIn(text: string): Typed | undefined {
  const found = FOREIGN.exec(text);
  if (found === null) return undefined;
  const { at, message } = mistyped(text, found.index);
  return { at, message };
}

function mistyped(text: string, at: number): Mistyped {
  const char = text[at] ?? '';
  const code = char.charCodeAt(0);
  const [what, usual] = nameOf(char, code);
  // Of a MAC address.
  const isInPairs = usual === COLON && /(?:^|[^\w])[\da-f]{2}$/i.test(text.slice(Math.max(0, at - 3), at));
  const instead = isInPairs ? ':' : usual;
  const number = `U+${code.toString(16).toUpperCase().padStart(4, '0')}`;
  return {
    at,
    char,
    instead: CODE.get(instead) ?? instead,
    message: `has ${what} (${number}) in the place of ${instead}`,
  };
}

/** Of what is neither comment nor in quotes. Both may begin on each line. */
export const typedInCode = (text: string): Typed | undefined => typedIn(codeOf(text));

/** All of them there. */
export function allTyped(text: string): Mistyped[] {
  const code = codeOf(text);
  return Array.from(code.matchAll(new RegExp(FOREIGN, 'g')), ({ index }) => mistyped(code, index));
}

const codeOf = (text: string): string =>
  text.replace(/"(?:[^"\\\n]|\\.)*"|'[^'\n]*'|(?<![^ \t\n])#[^\n]*/g, (skipped) => ' '.repeat(skipped.length));

const COLON = ': and a space';
/** What is said in words. */
const CODE: ReadonlyMap<string, string> = new Map([
  [COLON, ': '],
  ['a space', ' '],
  ['nothing', ''],
  ['a new line', ' '],
  ['a dot', '.'],
  ['a comma', ','],
  ['" or \'', '"'],
]);

const OTHERS: ReadonlyMap<string, [what: string, instead: string]> = new Map([
  ['\u00a0', ['a no-break space', 'a space']],
  ['\u200b', ['a space of no width', 'a space']],
  ['\ufeff', ['a byte order mark', 'a space']],
  ['\u200c', ['a joiner of no width', 'nothing']],
  ['\u200d', ['a joiner of no width', 'nothing']],
  ['\u2028', ['a line separator', 'a new line']],
  ['\u2029', ['a paragraph separator', 'a new line']],
  ['\ufe30', ['an upright colon', COLON]],
  ['\ufe55', ['a small colon', COLON]],
  ['\uff61', ['a half-width full stop', 'a dot']],
  ['\u3000', ['a full-width space', 'a space']],
  ['\u3001', ['an enumeration comma', 'a comma']],
  ['\u3002', ['an ideographic full stop', 'a dot']],
  ['\u3010', ['a lenticular bracket', '[']],
  ['\u3011', ['a lenticular bracket', ']']],
]);

const NAMES: ReadonlyMap<string, string> = new Map([
  [':', 'colon'],
  [',', 'comma'],
  ['-', 'dash'],
  ['.', 'dot'],
  ['#', 'hash sign'],
  ['/', 'slash'],
  ['[', 'bracket'],
  [']', 'bracket'],
  ['{', 'brace'],
  ['}', 'brace'],
]);

function nameOf(char: string, code: number): [what: string, instead: string] {
  const other = OTHERS.get(char);
  if (other !== undefined) return other;
  const isOf = (range: string) => new RegExp(`[${range}]`).test(char);
  if (isOf(DASHES)) return ['a long dash', '-'];
  if (isOf(SPACES)) return ['a space of another width', 'a space'];
  if (isOf(UNSEEN)) return ['a character that nobody sees', 'nothing'];
  if (isOf(QUOTES)) return ['a typographic quotation mark', '" or \''];
  const ascii = String.fromCharCode(code - 0xfee0);
  const instead = ascii === ':' ? COLON : ascii;
  return [`a full-width ${NAMES.get(ascii) ?? ascii}`, instead];
}
