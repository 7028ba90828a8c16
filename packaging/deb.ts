// The deb, by dpkg-deb.

import { chmodSync, mkdirSync, writeFileSync } from 'node:fs';
import { basename, join } from 'node:path';
import { packagesOf } from '../src/base/tools.ts';
import { contentsOf, type Flavour, flavourOf, PACKAGER, type Release, type Target } from './contents.ts';
import { DESCRIPTIONS, script } from './package-texts.ts';
import { hasLibraries, PRIVATE_NODE } from './runtime.ts';
import { type Content, run, stage } from './stage.ts';

/** Gives the file that it made. */
export function buildDeb(target: Target, release: Release, work: string, out: string): string {
  const flavour = flavourOf(target);
  const architecture = { noarch: 'all', x86_64: 'amd64', aarch64: 'arm64' }[target.architecture];
  const root = join(work, `${flavour}-${architecture}-deb`);
  const contents = contentsOf('deb', target, release);
  stage(root, [...contents, lintianOverrides(target)], release.epoch);

  const control = join(root, 'DEBIAN');
  mkdirSync(control);
  chmodSync(control, 0o755);
  const put = (name: string, text: string, mode = 0o644) => {
    writeFileSync(join(control, name), text);
    chmodSync(join(control, name), mode);
  };
  const sizes = contents.map((content) => (content.kind === 'file' ? Math.ceil(content.bytes.length / 1024) : 1));
  put(
    'control',
    controlText(
      flavour,
      release,
      architecture,
      sizes.reduce((a, b) => a + b, 0),
      target.architecture === 'noarch' || hasLibraries(target.architecture)
        ? []
        : librariesOf(join(root, PRIVATE_NODE)),
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
  libraries: readonly string[],
): string {
  const standalone = flavour === 'kylin-vr-standalone';
  const other = standalone ? 'kylin-vr' : 'kylin-vr-standalone';
  const depends = [...libraries, ...(standalone ? [] : ['nodejs (>= 20)']), ...packagesOf('deb')].join(', ');
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

/** dpkg-shlibdeps knows no library of another architecture, and of its own would ask for the versions of this machine. */
function librariesOf(node: string): string[] {
  const needed = run('readelf', ['--wide', '--version-info', node]);
  const newest = Math.max(...[...needed.matchAll(/GLIBC_2\.(\d+)/g)].map(([, minor]) => Number(minor)));
  // Debian 11, the oldest that we know, has all that the rest asks for.
  return [`libc6 (>= 2.${newest})`, 'libgcc-s1', 'libstdc++6 (>= 10)'];
}

function lintianOverrides(target: Target): Content {
  const flavour = flavourOf(target);
  const { architecture } = target;
  const own = architecture !== 'noarch' && hasLibraries(architecture) ? OF_LIBRARIES : [];
  const lines = [...OVERRIDES[flavour], ...own].flatMap(([reason, ...tags]) => [
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
const OF_LIBRARIES: readonly Override[] = [
  [
    'Its C library is for its own Node, for systems whose own is too old, and is named by it alone.',
    'custom-library-search-path RPATH /usr/lib/kylin-vr/lib [usr/lib/kylin-vr/node]',
    'embedded-library libm [usr/lib/kylin-vr/lib/libm.so.6]',
    'missing-dependency-on-libc needed by usr/lib/kylin-vr/lib/libdl.so.2 and 5 others',
  ],
  ['The kernel starts it.', 'shared-library-is-executable 0755 [usr/lib/kylin-vr/lib/ld-linux-x86-64.so.2]'],
];
