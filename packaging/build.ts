// `npm run build`: dist/kylin-vr.js, one executable file with everything in it, and its source map; and in dist/packaged the same
// in two files, as the packages have it.

import { createHash } from 'node:crypto';
import { chmod, mkdir, readFile, rm, writeFile } from 'node:fs/promises';
import { basename } from 'node:path';
import { build, type Plugin, transform } from 'esbuild';
import { payload } from '../src/machine/payload.ts';

const { version } = JSON.parse(await readFile('package.json', 'utf8')) as { version: string };

/** What `install` puts on the guest goes into the program. */
const embedPayload: Plugin = {
  name: 'embed-payload',
  setup: ({ onLoad }) =>
    onLoad({ filter: /\/src\/machine\/payload\.ts$/ }, () => ({
      contents: `export const payload = ${JSON.stringify(payload)};`,
    })),
};

/**
 * What packages load and this program never uses, each a part of what starting Node takes: commander's way to run subcommands
 * that are programs (13 %), pino's transports, which are threads (4 %, and the question whether it is in one, 4 %) and the assert of
 * its stream (5 %), and for proper-lockfile graceful-fs, which waits where a process has too many files open (5 %), and
 * signal-exit's assert (4 %).
 */
const leaveOut: Plugin = {
  name: 'leave-out',
  setup: ({ onLoad, onResolve }) => {
    const replace = (filter: RegExp, loading: string, instead: string) =>
      onLoad({ filter }, async ({ path }) => {
        const text = await readFile(path, 'utf8');
        if (!text.includes(loading)) throw new Error(`${path}: has no ${loading} any more`);
        return { contents: text.replace(loading, instead) };
      });
    replace(/\/commander\/lib\/command\.js$/, "require('node:child_process')", '{}');
    replace(/\/signal-exit\/index\.js$/, "require('assert')", '{ equal() {} }');
    replace(/\/sonic-boom\/index\.js$/, "require('assert')", '() => {}');
    replace(/\/pino\/lib\/tools\.js$/, "require('worker_threads')", '{ isMainThread: true }');
    onLoad({ filter: /\/pino\/lib\/transport\.js$/ }, () => ({
      contents: "module.exports = () => { throw new Error('transports are left out') }",
    }));
    onResolve({ filter: /^graceful-fs$/ }, () => ({ path: 'node:fs', external: true }));
  },
};

const COMMON = {
  platform: 'node',
  target: 'node20',
  minifySyntax: true,
  minifyWhitespace: true,
  lineLimit: 120,
  legalComments: 'none',
  logLevel: 'warning',
} as const;

// What is imported dynamically, and what several of those share, becomes a chunk of its own.
const { outputFiles } = await build({
  ...COMMON,
  entryPoints: ['src/main.ts'],
  outdir: 'dist',
  write: false,
  bundle: true,
  splitting: true,
  format: 'esm',
  sourcemap: 'inline',
  sourcesContent: false,
  plugins: [embedPayload, leaveOut],
  define: { KYLIN_VR_VERSION: JSON.stringify(version) },
});

// The program follows its loader in a comment; packaging/loader.cjs says why, and puts ends of comments back.
let program = '';
const chunks: Record<string, { offset: number; size: number; line: number }> = {};
const maps: { line: number; map: object }[] = [];
for (const { path, text } of outputFiles) {
  // CommonJS, because that is what vm.Script compiles.
  const { code, map } = await transform(text, {
    ...COMMON,
    format: 'cjs',
    supported: { 'dynamic-import': false },
    sourcemap: 'external',
    sourcesContent: false,
  });
  const chunk = code.replaceAll('*/', '*KYLIN_VR_END/');
  const line = program.split('\n').length - 1;
  chunks[basename(path)] = { offset: program.length, size: chunk.length, line };
  maps.push({ line, map: JSON.parse(map) });
  program += chunk;
}

const id = createHash('sha256').update(program).digest('hex').slice(0, 16);
const source = await readFile('packaging/loader.cjs', 'utf8');
const loaderWith = async (linesBefore: number): Promise<string> => {
  const constants = { id, length: program.length, chunks, linesBefore };
  const { code } = await transform(source, { define: { KYLIN_VR_PROGRAM: JSON.stringify(constants) } });
  return `#!/usr/bin/env node\n${code}`;
};
const PROGRAM = '/* PROGRAM\n';
const linesBefore = ((await loaderWith(0)) + PROGRAM).split('\n').length - 1;
const loader = await loaderWith(linesBefore);

async function writeProgram(folder: string, files: Readonly<Record<string, string>>): Promise<void> {
  await mkdir(folder, { recursive: true });
  for (const [name, text] of Object.entries(files)) await writeFile(`${folder}/${name}`, text);
  await chmod(`${folder}/kylin-vr.js`, 0o755);
  // Here, below a package.json that says ESM, it does need one.
  await writeFile(`${folder}/package.json`, '{ "type": "commonjs" }\n');
}

await writeProgram('dist', { 'kylin-vr.js': `${loader}${PROGRAM}${program}*/\n` });
// Another name for each build, and one that comes first: who unpacks a new version over an old one has its program there before
// its loader.
await rm('dist/packaged', { recursive: true, force: true });
await writeProgram('dist/packaged', { [`chunks-${id}.js`]: program, 'kylin-vr.js': loader });
const sections = maps.map(({ line, map }) => ({ offset: { line: linesBefore + line, column: 0 }, map }));
await writeFile('dist/kylin-vr.js.map', JSON.stringify({ version: 3, file: 'kylin-vr.js', sections }));
