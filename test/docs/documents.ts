// The captured blocks of the documents: a fenced block after `<!-- captured: NAME -->` holds what the program printed.

import { readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';

export type Captures = {
  /** The text between the fences, by the name in the mark before them. */
  blocks: Readonly<Record<string, string>>;
  /** An SVG. */
  picture: string;
};

const REPOSITORY = join(import.meta.dirname, '../..');

/** In English, and in Chinese. */
export const README = ['README.md', 'README.zh-CN.md'] as const;
export const MANUAL = ['docs/manual.md', 'docs/manual.zh-CN.md'] as const;
export const DOCUMENTS = [...README, ...MANUAL, 'docs/control-plane.md'] as const;
export const PICTURE = 'docs/terminal.svg';

const MARKED = /(?<=^<!-- captured: ([\w-]+) -->\n```\w*\n).*?(?=^```$)/gms;

export const read = (name: string): Promise<string> => readFile(join(REPOSITORY, name), 'utf8');
export const write = (name: string, text: string): Promise<void> => writeFile(join(REPOSITORY, name), text);

/** A document's blocks, by their names and in their order. */
export const blocksOf = (document: string): Record<string, string> =>
  Object.fromEntries([...document.matchAll(MARKED)].map(([text, name = '']) => [name, text]));

/** The document with each block as it was captured now. */
export function filled(document: string, { blocks }: Captures): string {
  return document.replace(MARKED, (_, name: string) => {
    const text = blocks[name];
    if (text === undefined) throw new Error(`nothing is captured by the name ${name}`);
    return text;
  });
}
