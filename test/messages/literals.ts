// The literal texts of a source file, without a parser: strings, templates and patterns, as one where `+` joins them.

/** Stands for what is put in at run time, and for what a pattern leaves open. */
export const HOLE = '\0';

export type Literal = {
  line: number;
  text: string;
  /** The function that it is an argument of. */
  call: string;
  /** The name of the field that it is. */
  field: string;
  isPattern?: true;
};

const TOKEN =
  /(?<blank>\s+|\/\/.*|\/\*[\s\S]*?\*\/)|(?<word>[\w$]+)|(?<string>'(?:\\[\s\S]|[^'\\])*'|"(?:\\[\s\S]|[^"\\])*")|(?<slash>\/)|(?<other>[\s\S])/y;
const PATTERN = /\/((?:\\.|\[(?:\\.|[^\]\\])*\]|[^/\\[\n])+)\/[a-z]*/y;
const TEMPLATE = /((?:\\[\s\S]|\$(?!\{)|[^`\\$])*)(`|\$\{)/y;

/** After one of these a slash begins a pattern; after any other word it divides. */
const BEFORE_PATTERN = /^(return|typeof|case|in|of|await|yield|throw|else)$/;

export function literalsOf(source: string): Literal[] {
  const found: Literal[] = [];
  /** Of each template that we are in a hole of: its literal, and how many braces are open in that hole. */
  const holes: { literal: Literal; braces: number }[] = [];
  let at = 0;
  let before = '';
  let last: Literal | undefined;
  const read = (pattern: RegExp): RegExpExecArray => {
    pattern.lastIndex = at;
    const match = pattern.exec(source);
    if (match === null) throw new Error(`not understood: ${source.slice(at, at + 60)}`);
    at = pattern.lastIndex;
    return match;
  };
  /** Of each parenthesis that is open: the word before it. */
  const calls: string[] = [];
  let named = '';
  const begin = (): Literal => {
    if (before === '+' && last !== undefined) return last;
    last = {
      line: source.slice(0, at).split('\n').length,
      text: '',
      call: calls.at(-1) ?? '',
      field: before === ':' ? named : '',
    };
    found.push(last);
    return last;
  };
  /** Up to the end of the template, or into its next hole. */
  const template = (literal: Literal): void => {
    const [, text = '', end] = read(TEMPLATE);
    literal.text += unescaped(text);
    if (end === '`') {
      last = literal;
      before = 'value';
    } else {
      literal.text += HOLE;
      holes.push({ literal, braces: 0 });
      last = undefined;
      before = '';
    }
  };
  while (at < source.length) {
    const start = at;
    const { blank, word, string, slash, other } = read(TOKEN).groups ?? {};
    if (blank !== undefined) continue;
    if (string !== undefined) {
      begin().text += unescaped(string.slice(1, -1));
      before = 'value';
    } else if (slash !== undefined && !/^([)\]}\w$]|value)$/.test(before.slice(-1)) && before !== 'value') {
      at = start;
      const literal = begin();
      literal.text += opened(read(PATTERN)[1] ?? '');
      literal.isPattern = true;
      before = 'value';
    } else if (other === '`') template(begin());
    else {
      const hole = holes.at(-1);
      if (hole !== undefined && other === '{') hole.braces++;
      if (hole !== undefined && other === '}' && hole.braces-- === 0) {
        holes.pop();
        template(hole.literal);
        continue;
      }
      if (other === '(') calls.push(before);
      if (other === ':') named = before;
      if (other === ')') calls.pop();
      before = word !== undefined && BEFORE_PATTERN.test(word) ? '' : (word ?? slash ?? other ?? '');
      if (before !== '+') last = undefined;
    }
  }
  return found;
}

const unescaped = (text: string): string =>
  text.replace(/\\(?:u([\da-f]{4})|([\s\S]))/gi, (_, code: string | undefined, char: string) =>
    code === undefined ? ({ n: '\n', t: '\t', 0: HOLE }[char] ?? char) : String.fromCharCode(Number.parseInt(code, 16)),
  );

/** Everything in a pattern that is not a literal character is a hole. */
const opened = (pattern: string): string =>
  pattern
    .replace(/\[(?:\\.|[^\]\\])*\]|\\[dwsbDWSB]|\\u[\da-f]{4}/g, HOLE)
    .replace(/\\(.)|[.*+?|()^$]|\{\d+,?\d*\}/g, (_, char: string | undefined) =>
      char === undefined ? HOLE : char === 'n' ? '\n' : char,
    );
