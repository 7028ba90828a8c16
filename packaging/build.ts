// `npm run build`: dist/kylin-vr.js, one executable file with everything in it, and its source map.

import { chmod, readFile, writeFile } from 'node:fs/promises';
import { build, type Plugin } from 'esbuild';
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
  plugins: [embedPayload],
  define: { KYLIN_VR_VERSION: JSON.stringify(version) },
  logLevel: 'warning',
});
await chmod('dist/kylin-vr.js', 0o755);
// Here, below a package.json that says ESM, it does need one.
await writeFile('dist/package.json', '{ "type": "commonjs" }\n');
