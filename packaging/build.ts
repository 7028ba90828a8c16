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
 * What packages load and this program never uses, in each run: pino's transports, which are threads (and the question whether it is in
 * one), the asserts of its stream and of signal-exit, and graceful-fs, which waits where a process has too many files open.
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
const { outputFiles, metafile } = await build({
  ...COMMON,
  entryPoints: ['src/main.ts'],
  outdir: 'dist',
  write: false,
  bundle: true,
  splitting: true,
  format: 'esm',
  metafile: true,
  sourcemap: 'inline',
  sourcesContent: false,
  plugins: [embedPayload, leaveOut],
  define: { KYLIN_VR_VERSION: JSON.stringify(version) },
});

/**
 * What is loaded together is compiled together, in a pack: a run with nothing to do loads two dozen chunks. A chunk is in the first pack
 * that needs it, or in one of its own.
 */
const PACKS: Readonly<Record<string, readonly string[]>> = {
  main: ['src/main.ts'],
  'command-line': ['src/cli.ts'],
  host: ['src/machine/linux-host.ts', 'src/machine/known/early.ts'],
  run: ['src/commands/reload.ts'],
  configuration: ['src/config/load.ts'],
  change: ['src/run/bring-in-line.ts', 'src/engines/spoken.ts'],
  flows: ['src/run/stale.ts'],
};

/** Output → its pack. */
const packOf = new Map<string, string>();
const put = (output: string, pack: string): void => {
  if (packOf.has(output)) return;
  packOf.set(output, pack);
  for (const { path, kind } of metafile.outputs[output]?.imports ?? [])
    if (kind === 'import-statement' && path in metafile.outputs) put(path, pack);
};
const outputs = Object.keys(metafile.outputs).filter((path) => path.endsWith('.js'));
for (const [pack, entries] of Object.entries(PACKS))
  for (const entry of entries) {
    const output = outputs.find((path) => metafile.outputs[path]?.entryPoint === entry);
    if (output === undefined) throw new Error(`${entry} is loaded with the rest: it is in no pack of its own`);
    put(output, pack);
  }
for (const output of outputs) if (!packOf.has(output)) packOf.set(output, basename(output));

// The program follows its loader in a comment; packaging/loader.cjs says why, and puts ends of comments back.
let program = '';
const packs: Record<string, { offset: number; size: number; line: number }> = {};
const chunks: Record<string, string> = {};
const maps: { line: number; map: object }[] = [];
const lines = () => program.split('\n').length - 1;
for (const pack of new Set(packOf.values())) {
  const [offset, line] = [program.length, lines()];
  program += '({';
  for (const [output] of [...packOf].filter(([, of]) => of === pack)) {
    const { text } = outputFiles.find(({ path }) => path.endsWith(`/${output}`)) ?? {};
    if (text === undefined) throw new Error(`${output} is missing`);
    // CommonJS, because that is what vm.Script compiles.
    const { code, map } = await transform(text, {
      ...COMMON,
      format: 'cjs',
      supported: { 'dynamic-import': false },
      sourcemap: 'external',
      sourcesContent: false,
    });
    // The loader counts bytes; esbuild leaves patterns and tagged templates as they are written.
    const odd = /[\u0080-\uffff]/.exec(code)?.[0];
    if (odd !== undefined) throw new Error(`${output}: has ${odd}: write it as \\u, or in a string`);
    program += `${JSON.stringify(basename(output))}(exports, require, module, __filename, __dirname, KYLIN_VR_BUNDLE) {\n`;
    maps.push({ line: lines(), map: JSON.parse(map) });
    program += `${code.replaceAll('*/', '*KYLIN_VR_END/')}},\n`;
    chunks[basename(output)] = pack;
  }
  program += '})';
  packs[pack] = { offset, size: program.length - offset, line };
}

const id = createHash('sha256').update(program).digest('hex').slice(0, 16);
const source = await readFile('packaging/loader.cjs', 'utf8');
const loaderWith = async (linesBefore: number): Promise<string> => {
  const constants = { id, length: program.length, packs, chunks, linesBefore };
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
