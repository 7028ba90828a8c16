// The program with one protection taken out (a test that does not fail on it protects nothing), or with less patience.

import assert from 'node:assert/strict';
import { mkdtempSync, rmSync } from 'node:fs';
import { readFile, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { build, type Plugin } from 'esbuild';

type Change = { file: string; replace: readonly (readonly [from: string, to: string])[] };

const VARIANTS = {
  'no rename': {
    file: 'src/machine/linux-host.ts',
    replace: [
      [
        '    async write(path, content, mode, gid) {',
        '    async write(path, content, mode, gid) {\n      const temporaryFor = (path: string) => path;',
      ],
      ["openSync(temporary, 'wx', mode)", "openSync(temporary, 'w', mode)"],
    ],
  },
  'no lock': {
    file: 'src/machine/lock.ts',
    replace: [
      ['const leave = await getIn(options, id)', 'const leave = await Promise.resolve(() => {})'],
      ['await endChildrenOfDead(options);', ''],
    ],
  },
  /** A minute is long for a test. */
  impatient: {
    file: 'src/machine/linux-host.ts',
    replace: [['COMMAND_TIMEOUT_MS = 60_000', 'COMMAND_TIMEOUT_MS = 2_000']],
  },
} as const satisfies Record<string, Change>;

export type Variant = keyof typeof VARIANTS;

const ROOT = resolve(import.meta.dirname, '../..');

/** Gives the file of a program that lacks it; it goes with this process. */
export async function buildVariant(name: Variant): Promise<string> {
  const folder = mkdtempSync(join(tmpdir(), 'kylin-vr-variant-'));
  process.on('exit', () => rmSync(folder, { recursive: true, force: true }));
  const { file, replace }: Change = VARIANTS[name];
  const takeOut: Plugin = {
    name: 'take-out',
    setup: ({ onLoad }) =>
      onLoad({ filter: new RegExp(`/${file}$`) }, async ({ path }) => {
        let contents = await readFile(path, 'utf8');
        for (const [from, to] of replace) {
          assert.ok(contents.includes(from), `${file} has no ${from}`);
          contents = contents.replace(from, to);
        }
        return { contents, loader: 'ts' };
      }),
  };
  const noPayload: Plugin = {
    name: 'no-payload',
    setup: ({ onLoad }) =>
      onLoad({ filter: /\/src\/machine\/payload\.ts$/ }, () => ({ contents: 'export const payload = {};' })),
  };
  const outfile = join(folder, 'kylin-vr.js');
  await build({
    absWorkingDir: ROOT,
    entryPoints: ['src/main.ts'],
    outfile,
    bundle: true,
    platform: 'node',
    format: 'cjs',
    define: { KYLIN_VR_VERSION: '"0.0.0"' },
    plugins: [takeOut, noPayload],
    logLevel: 'error',
  });
  await writeFile(join(folder, 'package.json'), '{ "type": "commonjs" }\n');
  return outfile;
}
