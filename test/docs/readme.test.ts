// What the READMEs say is so: their configurations load, their commands and exit statuses are the program's, and the Chinese
// one has what the English one has.

import assert from 'node:assert/strict';
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { describe, it } from 'node:test';
import { manPages } from '../../packaging/man.ts';
import { createProgram } from '../../src/cli.ts';
import type { Context } from '../../src/commands/context.ts';
import { parseConfig } from '../../src/config/parse.ts';
import { EXIT } from '../../src/errors.ts';
import { STATUS_WORDS } from '../../src/statuses.ts';
import { inProcess } from '../cli/program.ts';

const read = (name: string) => readFile(join(import.meta.dirname, '../..', name), 'utf8');
const READMES = { 'README.md': await read('README.md'), 'README.zh-CN.md': await read('README.zh-CN.md') };

const configsOf = (text: string) =>
  [...text.matchAll(/<!-- kylin-vr-config -->\n```yaml\n(.*?)```/gs)].map(([, yaml = '']) => yaml);
const withoutComments = (yaml: string) => yaml.replace(/ *#.*$/gm, '');
const commandsOf = (text: string) => [...text.matchAll(/^\| `kylin-vr ([a-z]+)[^`]*` \|/gm)].map(([, name]) => name);
/** Of the table of the README; that of the control plane's author has fewer. */
const statusesOf = (text: string): Record<string, string> =>
  Object.fromEntries(
    [...text.matchAll(/^\| (\d+) \| (.*) \|$/gm)].map(([, status = '', words = '']) => [status, words]),
  );
const quoted = (words: string) => words.match(/`[^`]*`/g) ?? [];
const WORDS = Object.fromEntries(
  Object.entries(EXIT).map(([name, status]) => [String(status), STATUS_WORDS[name as keyof typeof EXIT]]),
);

for (const [name, text] of Object.entries(READMES)) {
  describe(name, () => {
    for (const [index, yaml] of configsOf(text).entries())
      it(`configuration ${index + 1} loads without an error or a warning`, () => {
        const parsed = parseConfig(yaml);
        assert.deepEqual({ ok: parsed.ok, warnings: parsed.warnings }, { ok: true, warnings: [] });
      });

    it('has configurations at all', () => assert.ok(configsOf(text).length > 0));

    it('lists the commands that the program has', () => {
      const program = createProgram({ stdout: () => {}, stderr: () => {} } as unknown as Context, () => {});
      assert.deepEqual(
        commandsOf(text),
        program.commands.map((command) => command.name()),
      );
    });

    it('lists the exit statuses that the program has', () => {
      assert.deepEqual(Object.keys(statusesOf(text)).map(Number), Object.values(EXIT));
      const commands = Object.values(WORDS).map(quoted);
      assert.deepEqual(Object.values(statusesOf(text)).map(quoted), commands);
    });
  });
}

describe('what an exit status means', () => {
  it('is said by README.md', () => assert.deepEqual(statusesOf(READMES['README.md']), WORDS));

  it('is said by --help', async () => {
    const { stdout } = await inProcess('--help');
    for (const [status, words] of Object.entries(WORDS))
      assert.ok(stdout.includes(`\n${status.padStart(4)}  ${words.replaceAll('`', '')}\n`), stdout);
  });

  it('is said by the man page', () => {
    const [page] = manPages('1.0.0', '2026-05-01');
    const shown = page?.text.replaceAll('\\', '').toLowerCase() ?? '';
    for (const [status, words] of Object.entries(WORDS))
      assert.ok(shown.includes(`"${status}"\n${words.replaceAll('`', '').toLowerCase()}.\n`), words);
  });

  it('the man page shows neither empty defaults, nor brackets around what is needed', () => {
    const [page] = manPages('1.0.0', '2026-05-01');
    assert.doesNotMatch(page?.text ?? '', /\(default: \)/);
    assert.match(
      page?.text ?? '',
      /^\\fBexplain\\fR \\fB\\-\\-from\\fR \S+ \\fB\\-\\-to\\fR \S+ \[\\fB\\-\\-live\\fR\]$/m,
    );
  });
});

describe('README.zh-CN.md beside README.md', () => {
  const [english, chinese] = [READMES['README.md'], READMES['README.zh-CN.md']];

  it('has the same configurations, but for their comments', () =>
    assert.deepEqual(configsOf(chinese).map(withoutComments), configsOf(english).map(withoutComments)));

  it('has the same sections, tables and blocks, in the same order', () => {
    const shape = (text: string) =>
      text.split('\n').flatMap((line) => (/^(#+ |```|\|)/.test(line) ? [line.replace(/^(#+|```\w*|\|).*/, '$1')] : []));
    assert.deepEqual(shape(chinese), shape(english));
  });
});
