// `npm run package`: deb and rpm of both flavours, in dist/packages; the same bytes from the same commit and Node.
// usage: bash packaging/package.sh [--format deb|rpm] [--out DIR]

import { mkdirSync, mkdtempSync, readFileSync, rmSync, statSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { parseArgs } from 'node:util';
import type { Flavour, Format } from './contents.ts';
import { buildDeb } from './deb.ts';
import { buildRpm } from './rpm.ts';
import { run } from './stage.ts';

const { values } = parseArgs({
  options: { format: { type: 'string' }, out: { type: 'string', default: 'dist/packages' } },
});
const builders = { deb: buildDeb, rpm: buildRpm };
const formats = (['deb', 'rpm'] satisfies Format[]).filter((each) => (values.format ?? each) === each);
const flavours: readonly Flavour[] = ['kylin-vr', 'kylin-vr-standalone'];

const { version } = JSON.parse(readFileSync('package.json', 'utf8')) as { version: string };
const release = { version, epoch: epochOf() };
const out = resolve(values.out);
mkdirSync(out, { recursive: true });
const work = mkdtempSync(join(tmpdir(), 'kylin-vr-package-'));
try {
  for (const flavour of flavours)
    for (const format of formats) {
      const file = builders[format](flavour, release, work, out);
      console.log(`${file}  ${(statSync(file).size / 1e6).toFixed(1)} MB`);
    }
} finally {
  rmSync(work, { recursive: true });
}

/** The time of the commit; of the list of changes, where there is no repository. */
function epochOf(): number {
  const { SOURCE_DATE_EPOCH } = process.env;
  if (SOURCE_DATE_EPOCH !== undefined) return Number(SOURCE_DATE_EPOCH);
  try {
    return Number(run('git', ['log', '-1', '--format=%ct']));
  } catch {
    return Math.floor(statSync('CHANGELOG.md').mtimeMs / 1000);
  }
}
