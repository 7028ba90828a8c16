// What README and manual say is so: their configurations load, their commands, options, keys and exit statuses are the
// program's, README is short, and the Chinese ones have what the English ones have.

import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import type { Command } from 'commander';
import * as z from 'zod/mini';
import { manPages } from '../../packaging/man.ts';
import { EXIT } from '../../src/base/errors.ts';
import { STATUS_WORDS } from '../../src/base/statuses.ts';
import { createProgram } from '../../src/cli.ts';
import type { Context } from '../../src/commands/context.ts';
import { parseConfig } from '../../src/config/parse.ts';
import { fileSchema, SPELLINGS } from '../../src/config/schema.ts';
import { inProcess } from '../cli/program.ts';
import { MANUAL, README, read } from './documents.ts';

const texts = Object.fromEntries(
  await Promise.all([...README, ...MANUAL].map(async (name) => [name, await read(name)] as const)),
);
const textOf = (name: string): string => texts[name] ?? '';
const program = createProgram({ stdout: () => {}, stderr: () => {} } as unknown as Context, () => {});

const LINES = 160;
const COLUMNS = 120;

const configsOf = (text: string) =>
  [...text.matchAll(/<!-- kylin-vr-config -->\n```yaml\n(.*?)```/gs)].map(([, yaml = '']) => yaml);
const withoutComments = (yaml: string) => yaml.replace(/ *#.*$/gm, '');
/** Of the table that begins with `start`. */
const commandsOf = (text: string) => {
  const [table = ''] = /^\| `kylin-vr start`.*\n(?:\|.*\n)*/m.exec(text) ?? [];
  return [...table.matchAll(/^\| `kylin-vr ([a-z]+)[^`]*` \|/gm)].map(([, name]) => name);
};
/** Of the table of the manual; that of the control plane's author has fewer. */
const statusesOf = (text: string): Record<string, string> =>
  Object.fromEntries(
    [...text.matchAll(/^\| (\d+) \| (.*) \|$/gm)].map(([, status = '', words = '']) => [status, words]),
  );
const codeOf = (text: string): string[] => text.replace(/^```.*?^```$/gms, '').match(/`[^`\n]+`/g) ?? [];
const WORDS = Object.fromEntries(
  Object.entries(EXIT).map(([name, status]) => [String(status), STATUS_WORDS[name as keyof typeof EXIT]]),
);

for (const name of [...README, ...MANUAL])
  describe(name, () => {
    for (const [index, yaml] of configsOf(textOf(name)).entries())
      it(`configuration ${index + 1} loads without an error or a warning`, () => {
        const parsed = parseConfig(yaml);
        assert.deepEqual({ ok: parsed.ok, warnings: parsed.warnings }, { ok: true, warnings: [] });
      });

    it('has configurations at all', () => assert.ok(configsOf(textOf(name)).length > 0));

    it('lists the commands that the program has', () =>
      assert.deepEqual(
        commandsOf(textOf(name)),
        program.commands.map((command) => command.name()),
      ));
  });

for (const name of README)
  it(`${name} has at most ${LINES} lines of ${COLUMNS} characters`, () => {
    const lines = textOf(name).trimEnd().split('\n');
    assert.ok(lines.length <= LINES, `${lines.length} lines`);
    assert.deepEqual(
      lines.filter((line) => [...line].length > COLUMNS),
      [],
    );
  });

for (const name of MANUAL)
  describe(name, () => {
    const headings = textOf(name).match(/^#+ .*/gm) ?? [];
    const named = [...headings, ...codeOf(textOf(name))].join('\n');
    const names = (word: string) => new RegExp(`(?<![\\w-])${word}(?![\\w-])`).test(named);

    it('lists the exit statuses that the program has', () => {
      assert.deepEqual(Object.keys(statusesOf(textOf(name))).map(Number), Object.values(EXIT));
      assert.deepEqual(Object.values(statusesOf(textOf(name))).map(codeOf), Object.values(WORDS).map(codeOf));
    });

    it('names every option', () =>
      assert.deepEqual(
        optionsOf(program).filter((flag) => !names(flag)),
        [],
      ));

    it('names every key of the file, in each spelling', () =>
      assert.deepEqual(
        [...keysOf(z.toJSONSchema(fileSchema, { io: 'input', unrepresentable: 'any' })), ...SPELLINGS.keys()].filter(
          (key) => !names(key),
        ),
        [],
      ));
  });

describe('what an exit status means', () => {
  it('is said by the manual', () => assert.deepEqual(statusesOf(textOf(MANUAL[0])), WORDS));

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

for (const [one, other] of [README, MANUAL])
  describe(`${other} beside ${one}`, () => {
    const [english, chinese] = [textOf(one), textOf(other)];

    it('has the same configurations, but for their comments', () =>
      assert.deepEqual(configsOf(chinese).map(withoutComments), configsOf(english).map(withoutComments)));

    it('has the same sections, tables and blocks, in the same order', () =>
      assert.deepEqual(shapeOf(chinese), shapeOf(english)));

    it('has the same commands, options, keys and messages', () => {
      const said = (text: string) => [...new Set(codeOf(text))].sort();
      assert.deepEqual(said(chinese), said(english));
    });
  });

function shapeOf(text: string): string[] {
  return text
    .split('\n')
    .flatMap((line) => (/^(#+ |```|\|)/.test(line) ? [line.replace(/^(#+|```\w*|\|).*/, '$1')] : []));
}

function optionsOf(command: Command): string[] {
  const own = command.options.filter(({ hidden }) => !hidden).map(({ long }) => long ?? '');
  return [...new Set([...own, ...command.commands.flatMap(optionsOf)])];
}

/** Those of lists and of their entries. */
function keysOf(schema: unknown): string[] {
  const { properties = {}, items } = schema as { properties?: Record<string, unknown>; items?: unknown };
  const own = Object.entries(properties).flatMap(([key, value]) => [key, ...keysOf(value)]);
  return items === undefined ? own : [...own, ...keysOf(items)];
}
