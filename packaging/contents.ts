// What is in a package: every path with its bytes and mode. The same for rpm and deb, but for where each keeps documents.

import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { constants, gzipSync } from 'node:zlib';
import { createProgram } from '../src/cli.ts';
import { completionScript } from '../src/commands/completion.ts';
import type { Context } from '../src/commands/context.ts';
import { FILES, firstLine, PROGRAM } from '../src/installation/tree.ts';
import { textFor } from '../src/installation/units.ts';
import { payload } from '../src/machine/payload.ts';
import { manPages } from './man.ts';
import { type Architecture, hasLibraries, LIB, licencesOf, PRIVATE_NODE, runtimeOf } from './runtime.ts';
import { type Content, file } from './stage.ts';

export type Format = 'deb' | 'rpm';
export type Flavour = 'kylin-vr' | 'kylin-vr-standalone';

export type Release = {
  version: string;
  /** Seconds since 1970; the time of everything in the package. */
  epoch: number;
};

/** A package: noarch has no Node of its own. `el7`: an rpm that rpm 4.11 reads and EL 7's tools carry. */
export type Target = { architecture: 'noarch' | Architecture; el7?: boolean };
export const flavourOf = ({ architecture }: Target): Flavour =>
  architecture === 'noarch' ? 'kylin-vr' : 'kylin-vr-standalone';

export const docFolder = (flavour: Flavour): string => `/usr/share/doc/${flavour}`;
export const dateOf = ({ epoch }: Release): Date => new Date(epoch * 1000);

/** Made by `npm run build`. */
const DIST = 'dist/packaged';

export function contentsOf(format: Format, target: Target, release: Release): Content[] {
  const { architecture, el7 } = target;
  const start = el7 ? START_BY_SHELL : firstLine(architecture === 'noarch' ? '/usr/bin/node' : PRIVATE_NODE);
  const loader = readFileSync(`${DIST}/kylin-vr.js`, 'utf8').replace(/^#!.*/, () => start);
  const chunks = readdirSync(DIST).filter((name) => name.startsWith('chunks-'));
  const program = [
    file(`${LIB}/kylin-vr.js`, 0o755, loader),
    ...chunks.map((name) => file(`${LIB}/${name}`, 0o644, readFileSync(`${DIST}/${name}`))),
  ];
  const units = el7 ? '219' : 'today';
  return [
    ...program,
    { kind: 'link' as const, path: PROGRAM, target: `..${LIB.slice('/usr'.length)}/kylin-vr.js` },
    ...(architecture === 'noarch' ? [] : runtimeOf(architecture, program)),
    // Packages own nothing in /usr/local: what belongs there is made by `kylin-vr install` (scripts/after.sh).
    ...FILES.filter(({ path }) => !path.startsWith('/usr/local/')).map(({ path, mode, source }) =>
      file(path, mode, textFor(units, source, payload[source])),
    ),
    // /var/lib/kylin-vr is made and removed by the scripts: kylin-vr uninstall removes it before a package would.
    folder('/etc/kylin-vr', 0o700),
    folder('/var/log/kylin-vr', 0o750),
    ...manPages(release.version, dateOf(release).toISOString().slice(0, 10)).map(({ name, section, text }) =>
      file(`/usr/share/man/man${section}/${name}.${section}.gz`, 0o644, gzip(text)),
    ),
    ...completions(format),
    ...documents(format, target, release),
  ].sort((a, b) => (a.path < b.path ? -1 : 1));
}

/**
 * Its env(1) knows no -S. What that kernel would make of a line with Node itself has every variable that Node heeds; a shell that is told
 * -p heeds none.
 */
const START_BY_SHELL = `#!/bin/sh -p
':' //; exec /usr/bin/env -i TERM="$TERM" NO_COLOR="$NO_COLOR" ${PRIVATE_NODE} "$0" "$@"`;

function completions(format: Format): Content[] {
  const program = createProgram({ stdout: () => {}, stderr: () => {} } as unknown as Context, () => {});
  const zsh = format === 'deb' ? 'vendor-completions' : 'site-functions';
  return [
    file('/usr/share/bash-completion/completions/kylin-vr', 0o644, completionScript('bash', program)),
    file(`/usr/share/zsh/${zsh}/_kylin-vr`, 0o644, completionScript('zsh', program)),
    file('/usr/share/fish/vendor_completions.d/kylin-vr.fish', 0o644, completionScript('fish', program)),
  ];
}

/** README and manual, and what they lead to, as it lies in the repository: each link finds what it names. */
const DOCUMENTS = [
  'README.md',
  'README.zh-CN.md',
  'RELIABILITY.md',
  'SECURITY.md',
  'docs/manual.md',
  'docs/manual.zh-CN.md',
  'docs/guests.md',
  'docs/guests.zh-CN.md',
  'docs/control-plane.md',
  'docs/migration.md',
  'docs/speed.md',
  'docs/terminal.svg',
  'docs/reload.svg',
  'docs/one-more.svg',
  'docs/connections.svg',
];

function documents(format: Format, target: Target, release: Release): Content[] {
  const { architecture } = target;
  const flavour = flavourOf(target);
  const folder = docFolder(flavour);
  const texts = DOCUMENTS.map((name) => file(`${folder}/${name}`, 0o644, readFileSync(name)));
  const changes = readFileSync('CHANGELOG.md', 'utf8');
  if (format === 'rpm')
    return [
      ...texts,
      file(`${folder}/CHANGELOG.md`, 0o644, changes),
      file(`/usr/share/licenses/${flavour}/LICENSE`, 0o644, readFileSync('LICENSE')),
      file(`/usr/share/licenses/${flavour}/copyright`, 0o644, copyright(target)),
      ...(architecture === 'noarch' || !hasLibraries(architecture) ? [] : LICENCES_ELSEWHERE).map((name) =>
        file(`/usr/share/licenses/${flavour}/${name}`, 0o644, readFileSync(`/usr/share/common-licenses/${name}`)),
      ),
    ];
  return [
    ...texts,
    file(`${folder}/changelog.gz`, 0o644, gzip(changes)),
    file(`${folder}/changelog.Debian.gz`, 0o644, gzip(debianChangelog(flavour, release))),
    file(`${folder}/copyright`, 0o644, copyright(target)),
  ];
}

export const PACKAGER = 'kylin-vr maintainers <kylin-vr@lists.invalid>';

function debianChangelog(flavour: Flavour, release: Release): string {
  const date = dateOf(release).toUTCString().replace('GMT', '+0000');
  return `${flavour} (${release.version}-1) unstable; urgency=medium

  * Version ${release.version}: changelog.gz has what is new.

 -- ${PACKAGER}  ${date}
`;
}

const APACHE = `
On Debian systems the text of the Apache License, version 2.0, is in /usr/share/common-licenses/Apache-2.0, elsewhere at
https://www.apache.org/licenses/LICENSE-2.0.
`;

/** Ours, and the licences of what is bundled into the program and, in the standalone package, of Node. */
function copyright({ architecture }: Target): string {
  const program = `${LIB}/kylin-vr.js`;
  const others: { title: string; text: string }[] = bundled().map(({ name, version, licence, text }) => ({
    title: `${name} ${version} (${licence}), bundled into ${program}`,
    text: licence === 'Apache-2.0' ? APACHE : text,
  }));
  if (architecture !== 'noarch') others.push(...licencesOf(architecture));
  return [
    `kylin-vr\nCopyright: the kylin-vr authors\nLicense: Apache-2.0\n${APACHE}`,
    ...others.map(({ title, text }) => `${'-'.repeat(72)}\n${title}\n\n${text.trim()}\n`),
  ].join('\n');
}

/** Debian's texts name these; what is not Debian has no folder of them. */
const LICENCES_ELSEWHERE = ['GPL-2', 'GPL-3', 'LGPL-2.1'];

type Bundled = { name: string; version: string; licence: string; text: string };

/** What the program depends on when it runs, from the lock file. */
function bundled(): Bundled[] {
  const { packages } = JSON.parse(readFileSync('package-lock.json', 'utf8')) as {
    packages: Record<string, { version: string; license?: string; dev?: boolean; devOptional?: boolean }>;
  };
  return Object.entries(packages)
    .filter(([path, { dev, devOptional }]) => path !== '' && !dev && !devOptional)
    .map(([path, { version, license: licence = 'unknown' }]) => {
      const name = readdirSync(path).find((each) => /^licen[sc]e(\.|$)/i.test(each));
      if (name === undefined)
        throw new Error(`${path} has no licence: it is bundled, and its licence has to go with it`);
      return {
        name: path.replace(/^.*node_modules\//, ''),
        version,
        licence,
        text: readFileSync(join(path, name), 'utf8'),
      };
    });
}

const folder = (path: string, mode: number): Content => ({ kind: 'folder', path, mode });
const gzip = (text: string): Uint8Array => gzipSync(text, { level: constants.Z_BEST_COMPRESSION });
