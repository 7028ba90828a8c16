// `npm run package`: deb and rpm of both flavours, in dist/packages; the same bytes from the same commit.
// usage: bash packaging/package.sh [--format deb|rpm] [--arch noarch|x86_64|aarch64]... [--out DIR]

import { mkdirSync, mkdtempSync, readFileSync, rmSync, statSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { parseArgs } from 'node:util';
import type { Format, Target } from './contents.ts';
import { buildDeb } from './deb.ts';
import { buildRpm } from './rpm.ts';
import { run } from './stage.ts';

const { values } = parseArgs({
  options: {
    format: { type: 'string' },
    arch: { type: 'string', multiple: true },
    out: { type: 'string', default: 'dist/packages' },
  },
});
const NAMES: Readonly<Record<string, Target['architecture']>> = { all: 'noarch', amd64: 'x86_64', arm64: 'aarch64' };
const ARCHITECTURES: readonly Target['architecture'][] = ['noarch', 'x86_64', 'aarch64'];
const wanted = values.arch?.map((each) => NAMES[each] ?? each) ?? ARCHITECTURES;
const builders = { deb: buildDeb, rpm: buildRpm };
const TARGETS: readonly { format: Format; target: Target }[] = [
  ...ARCHITECTURES.flatMap((architecture) => [
    { format: 'deb' as const, target: { architecture } },
    { format: 'rpm' as const, target: { architecture } },
  ]),
  { format: 'rpm', target: { architecture: 'x86_64', el7: true } },
];
const targets = TARGETS.filter(
  ({ format, target }) => (values.format ?? format) === format && wanted.includes(target.architecture),
);
if (targets.length === 0) throw new Error(`no package is of ${JSON.stringify(values)}`);

const { version } = JSON.parse(readFileSync('package.json', 'utf8')) as { version: string };
const release = { version, epoch: epochOf() };
const out = resolve(values.out);
mkdirSync(out, { recursive: true });
const work = mkdtempSync(join(tmpdir(), 'kylin-vr-package-'));
try {
  for (const { format, target } of targets) {
    const file = builders[format](target, release, work, out);
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
