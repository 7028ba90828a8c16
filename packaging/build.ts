// `npm run build`: dist/kylin-vr.js, one executable file with everything in it, and its source map.

import { chmod, readFile, writeFile } from 'node:fs/promises';
import { build } from 'esbuild';

const { version } = JSON.parse(await readFile('package.json', 'utf8')) as { version: string };

await build({
  entryPoints: ['src/main.ts'],
  outfile: 'dist/kylin-vr.js',
  bundle: true,
  platform: 'node',
  target: 'node20',
  // CommonJS starts a little faster than ESM, and needs no package.json beside it to say what it is.
  format: 'cjs',
  minifySyntax: true,
  sourcemap: 'linked',
  sourcesContent: false,
  legalComments: 'none',
  banner: { js: '#!/usr/bin/env node' },
  define: { KYLIN_VR_VERSION: JSON.stringify(version) },
  logLevel: 'warning',
});
await chmod('dist/kylin-vr.js', 0o755);
// Here, below a package.json that says ESM, it does need one.
await writeFile('dist/package.json', '{ "type": "commonjs" }\n');
