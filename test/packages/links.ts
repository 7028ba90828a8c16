// The links of a folder of documents to each other: which of them lead nowhere.

import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { dirname, join, relative } from 'node:path';

/** `dead`: each as `DOCUMENT: LINK`, where no such file is below the folder, or no such heading in it. */
export function deadLinks(folder: string, names = documentsIn(folder)): { links: number; dead: string[] } {
  const links = names.flatMap((name) => linksIn(textOf(join(folder, name))).map((link) => ({ name, link })));
  const isDead = ({ name, link }: { name: string; link: string }) => {
    const [, path = '', heading] = /^([^#]*)(?:#(.*))?$/.exec(decodeURI(link)) ?? [];
    const file = path === '' ? join(folder, name) : join(folder, dirname(name), path);
    if (relative(folder, file).startsWith('..') || !existsSync(file)) return true;
    return heading !== undefined && !headingsIn(textOf(file)).includes(heading);
  };
  return { links: links.length, dead: links.filter(isDead).map(({ name, link }) => `${name}: ${link}`) };
}

export const documentsIn = (folder: string): string[] =>
  readdirSync(folder, { recursive: true, encoding: 'utf8' }).filter((name) => name.endsWith('.md'));

/** Without what is code. */
const textOf = (file: string): string =>
  readFileSync(file, 'utf8')
    .replace(/^```.*?^```$/gms, '')
    .replace(/`[^`\n]*`/g, (code) => code.replace(/[[\]()<>]/g, ' '));

const linksIn = (text: string): string[] =>
  [...text.matchAll(/\]\(([^)\s]+)\)|\b(?:href|src)="([^"]+)"/g)]
    .map(([, link, attribute = '']) => link ?? attribute)
    .filter((link) => !/^[a-z]+:/.test(link));

/** As forges name them. */
const headingsIn = (text: string): string[] =>
  [...text.matchAll(/^#+ (.*)$/gm)].map(([, words = '']) =>
    words
      .toLowerCase()
      .replace(/[^\p{Letter}\p{Number} _-]/gu, '')
      .replaceAll(' ', '-'),
  );
