// The deb, by dpkg-deb.

import { chmodSync, mkdirSync, writeFileSync } from 'node:fs';
import { basename, join } from 'node:path';
import { packagesOf } from '../src/base/tools.ts';
import { contentsOf, type Flavour, PACKAGER, PRIVATE_NODE, type Release } from './contents.ts';
import { DESCRIPTIONS, script } from './package-texts.ts';
import { type Content, run, stage } from './stage.ts';

/** Gives the file that it made. */
export function buildDeb(flavour: Flavour, release: Release, work: string, out: string): string {
  const root = join(work, `${flavour}-deb`);
  const contents = contentsOf('deb', flavour, release);
  stage(root, [...contents, lintianOverrides(flavour)], release.epoch);

  const control = join(root, 'DEBIAN');
  mkdirSync(control);
  chmodSync(control, 0o755);
  const put = (name: string, text: string, mode = 0o644) => {
    writeFileSync(join(control, name), text);
    chmodSync(join(control, name), mode);
  };
  const architecture = flavour === 'kylin-vr' ? 'all' : run('dpkg', ['--print-architecture']).trim();
  const sizes = contents.map((content) => (content.kind === 'file' ? Math.ceil(content.bytes.length / 1024) : 1));
  put(
    'control',
    controlText(
      flavour,
      release,
      architecture,
      sizes.reduce((a, b) => a + b, 0),
      () => librariesOf(root, work),
    ),
  );
  put('md5sums', run('sh', ['-c', 'find etc usr -type f -print0 | sort -z | xargs -0 md5sum'], {}, root));
  const inEtc = contents.filter(({ kind, path }) => kind === 'file' && path.startsWith('/etc/'));
  put('conffiles', inEtc.map(({ path }) => `${path}\n`).join(''));
  for (const [name, source] of Object.entries(SCRIPTS)) put(name, script(source), 0o755);

  const file = join(out, `${flavour}_${release.version}-1_${architecture}.deb`);
  const env = { SOURCE_DATE_EPOCH: String(release.epoch) };
  // gzip: half the time of xz -1 for an eighth more.
  run('dpkg-deb', ['--root-owner-group', '-Zgzip', '-z6', '--build', root, file], env);
  return file;
}

const SCRIPTS = { preinst: 'before', postinst: 'after', prerm: 'remove', postrm: 'removed' } as const;

function controlText(
  flavour: Flavour,
  { version }: Release,
  architecture: string,
  kib: number,
  libraries: () => string,
): string {
  const standalone = flavour === 'kylin-vr-standalone';
  const other = standalone ? 'kylin-vr' : 'kylin-vr-standalone';
  const depends = [...(standalone ? [libraries()] : ['nodejs (>= 20)']), ...packagesOf('deb')].join(', ');
  const { summary, paragraphs } = DESCRIPTIONS[flavour];
  return `Package: ${flavour}
Version: ${version}-1
Architecture: ${architecture}
Maintainer: ${PACKAGER}
Installed-Size: ${kib}
Depends: ${depends}
Conflicts: ${other}
Replaces: ${other}
${standalone ? `Provides: kylin-vr (= ${version}-1)\n` : ''}Recommends: logrotate, python2
Section: net
Priority: optional
Description: ${summary}
${paragraphs.map((paragraph) => paragraph.map((line) => ` ${line}\n`).join('')).join(' .\n')}`;
}

/**
 * The libraries that Node is linked with, and which version of each. Of libc6 dpkg-shlibdeps gives the version of this machine,
 * 2.34, because libpthread became part of libc there: what Node asks for is older, and Debian 11 has it.
 */
function librariesOf(root: string, work: string): string {
  const folder = join(work, 'shlibdeps');
  mkdirSync(join(folder, 'debian'), { recursive: true });
  writeFileSync(
    join(folder, 'debian/control'),
    'Source: kylin-vr\n\nPackage: kylin-vr-standalone\nArchitecture: any\n',
  );
  const node = join(root, PRIVATE_NODE);
  const found = run('dpkg-shlibdeps', ['-O', node], {}, folder);
  const minors = [...run('objdump', ['-p', node]).matchAll(/GLIBC_2\.(\d+)/g)].map(([, minor]) => Number(minor));
  return found
    .trim()
    .replace(/^shlibs:Depends=/, '')
    .replace(/libc6 \(>= [^)]*\)/, `libc6 (>= 2.${Math.max(...minors)})`);
}

function lintianOverrides(flavour: Flavour): Content {
  const lines = OVERRIDES[flavour].flatMap(([reason, ...tags]) => [
    `# ${reason}`,
    ...tags.map((tag) => `${flavour}: ${tag}`),
  ]);
  return {
    kind: 'file',
    path: `/usr/share/lintian/overrides/${basename(flavour)}`,
    mode: 0o644,
    bytes: Buffer.from(`${lines.join('\n')}\n`),
  };
}

type Override = readonly [reason: string, ...tags: string[]];
const BOTH: readonly Override[] = [
  [
    'One file for sh, Python 2 and Python 3: sh ends with the exec, before what it could not read.',
    'shell-script-fails-syntax-check [usr/bin/kylin-vr.py]',
  ],
];
const OVERRIDES: Readonly<Record<Flavour, readonly Override[]>> = {
  'kylin-vr': BOTH,
  'kylin-vr-standalone': [
    ...BOTH,
    [
      'It runs with the Node of this package, for systems that have none; nothing else does.',
      'wrong-path-for-interpreter /usr/lib/kylin-vr/node != /usr/bin/node [usr/lib/kylin-vr/kylin-vr.js]',
      'missing-dep-for-interpreter /usr/lib/kylin-vr/node (does not satisfy nodejs:any) [usr/lib/kylin-vr/kylin-vr.js]',
    ],
    ['As its makers build it, with their own zlib.', 'embedded-library zlib [usr/lib/kylin-vr/node]'],
    ["Node's licence is kept whole, with those of its parts.", 'copyright-file-contains-full-apache-2-license'],
  ],
};
