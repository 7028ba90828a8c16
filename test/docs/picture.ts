// A terminal's screen as an SVG, with its colours. Each run of one colour stands at its own place in the grid, so that columns
// hold with whatever monospaced font the reader has.

import { type Screen, steady } from './terminal.ts';

/** `classes`: what CSS makes of the colours that are on. */
type Run = { column: number; text: string; classes: readonly string[] };

/** In pixels: a monospaced letter is 0.6 of its height wide. */
const [SIZE, WIDTH, HEIGHT] = [14, 8.43, 20] as const;
const MARGIN = 20;
const FONTS = "ui-monospace, SFMono-Regular, Menlo, Consolas, 'DejaVu Sans Mono', 'Liberation Mono', monospace";
const [BACKGROUND, FOREGROUND] = ['#1c2027', '#d4d7dd'] as const;
/** What the program may print, by the number in its escape sequence. */
const CLASSES: Readonly<Record<string, { name: string; css: string }>> = {
  1: { name: 'bold', css: 'font-weight: bold' },
  2: { name: 'dim', css: 'opacity: 0.65' },
  31: { name: 'red', css: 'fill: #ff8078' },
  32: { name: 'green', css: 'fill: #7ddb8a' },
  33: { name: 'yellow', css: 'fill: #e8c46a' },
  34: { name: 'blue', css: 'fill: #7fb4ff' },
  35: { name: 'magenta', css: 'fill: #d9a0f0' },
  36: { name: 'cyan', css: 'fill: #6fd0d8' },
};

export function pictureOf(screens: readonly Screen[]): string {
  const lines = screens.flatMap(({ prompt, command, output }, index): Run[][] => [
    ...(index === 0 ? [] : [[]]),
    [
      { column: 0, text: prompt, classes: ['dim'] },
      { column: 2, text: command, classes: ['bold'] },
    ],
    ...steady(output).trimEnd().split('\n').map(runsOf),
  ]);
  const columns = Math.max(...lines.flat().map(({ column, text }) => column + text.length));
  const [width, height] = [Math.ceil(columns * WIDTH) + 2 * MARGIN, lines.length * HEIGHT + 2 * MARGIN];
  const names = screens.map(({ command }) => command).join(', ');
  return `<svg xmlns="http://www.w3.org/2000/svg" width="${width}" height="${height}" viewBox="0 0 ${width} ${height}" role="img">
<title>${escaped(names)}</title>
<style>
text { fill: ${FOREGROUND}; font: ${SIZE}px ${FONTS}; white-space: pre; }
${Object.values(CLASSES)
  .map(({ name, css }) => `.${name} { ${css}; }\n`)
  .join('')}</style>
<rect width="100%" height="100%" rx="8" fill="${BACKGROUND}"/>
${lines.flatMap((runs, row) => runs.map((run) => textOf(run, row))).join('')}</svg>
`;
}

function textOf({ column, text, classes }: Run, row: number): string {
  const [x, y] = [MARGIN + column * WIDTH, MARGIN + row * HEIGHT + SIZE];
  const length = (text.length * WIDTH).toFixed(1);
  const place = `x="${x.toFixed(1)}" y="${y}" textLength="${length}" lengthAdjust="spacingAndGlyphs"`;
  const style = classes.length === 0 ? '' : ` class="${classes.join(' ')}"`;
  return `<text ${place}${style} xml:space="preserve">${escaped(text)}</text>\n`;
}

/** A line in pieces of one colour each, without the spaces between columns. */
function runsOf(line: string): Run[] {
  let classes: readonly string[] = [];
  let column = 0;
  const runs: Run[] = [];
  // biome-ignore lint/suspicious/noControlCharactersInRegex: ANSI colours begin with one
  for (const part of line.split(/(\u001b\[[\d;]*m)/)) {
    if (part.startsWith('\u001b')) {
      classes = classesOf(part.slice(2, -1).split(';'), classes);
      continue;
    }
    for (const { 0: text, index } of part.matchAll(/\S+( \S+)*/g)) runs.push({ column: column + index, text, classes });
    column += part.length;
  }
  return runs;
}

function classesOf(codes: readonly string[], before: readonly string[]): readonly string[] {
  let on = [...before];
  for (const code of codes) {
    const known = CLASSES[code];
    if (Number(code) === 0) on = [];
    else if (known === undefined) throw new Error(`the picture has no style for the ANSI code ${code}`);
    else on.push(known.name);
  }
  return on;
}

const escaped = (text: string) => text.replaceAll('&', '&amp;').replaceAll('<', '&lt;').replaceAll('>', '&gt;');
