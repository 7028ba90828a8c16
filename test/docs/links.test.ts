// The documents of the source: their links lead somewhere, the files that they name are there, and each decision is short and in the list.

import assert from 'node:assert/strict';
import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, it } from 'node:test';
import { deadLinks, documentsIn } from '../packages/links.ts';

const REPOSITORY = join(import.meta.dirname, '../..');
const DECISIONS = join(REPOSITORY, 'docs/decisions');
const ROOT = ['README.md', 'README.zh-CN.md', 'RELIABILITY.md', 'SECURITY.md', 'CONTRIBUTING.md', 'test/README.md'];
const MOST_LINES = 40;
/** Of the source, in full; a pattern of several is none. */
const FILE = /`((?:\.ci|docs|packaging|src|systemd|test|udev)\/[\w./-]+)`/g;

it('links between documents lead somewhere', () => {
  const names = [...ROOT, ...documentsIn(join(REPOSITORY, 'docs')).map((name) => `docs/${name}`)];
  const { links, dead } = deadLinks(REPOSITORY, names);
  assert.ok(links > 0);
  assert.deepEqual(dead, []);
});

it('files of the source that they name are there', () => {
  const names = [...ROOT, ...documentsIn(join(REPOSITORY, 'docs')).map((name) => `docs/${name}`)];
  const named = names.flatMap((name) =>
    [...readFileSync(join(REPOSITORY, name), 'utf8').matchAll(FILE)].map(([, path = '']) => ({ name, path })),
  );
  assert.ok(named.length > 0);
  assert.deepEqual(
    named.filter(({ path }) => !existsSync(join(REPOSITORY, path))),
    [],
  );
});

describe('the decisions', () => {
  const read = (name: string) => readFileSync(join(DECISIONS, name), 'utf8');
  const pages = documentsIn(DECISIONS).filter((name) => name !== 'README.md');

  it('are all in the list', () =>
    assert.deepEqual(
      [...read('README.md').matchAll(/\]\(([\w-]+\.md)\)/g)].map(([, name]) => name).sort(),
      pages.sort(),
    ));

  for (const page of pages)
    it(`${page} has at most ${MOST_LINES} lines`, () =>
      assert.ok(read(page).trimEnd().split('\n').length <= MOST_LINES));
});
