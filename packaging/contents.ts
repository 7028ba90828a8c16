// What is in a package: every path with its bytes and mode. The same for rpm and deb, but for where each keeps documents.

import { existsSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { basename, dirname, join } from 'node:path';
import { constants, gzipSync } from 'node:zlib';
import { createProgram } from '../src/cli.ts';
import { completionScript } from '../src/commands/completion.ts';
import type { Context } from '../src/commands/context.ts';
import { FILES, firstLine, PROGRAM } from '../src/installation/tree.ts';
import { payload } from '../src/machine/payload.ts';
import { manPages } from './man.ts';
import type { Content } from './stage.ts';
import { run } from './stage.ts';

export type Format = 'deb' | 'rpm';
export type Flavour = 'kylin-vr' | 'kylin-vr-standalone';

export type Release = {
  version: string;
  /** Seconds since 1970; the time of everything in the package. */
  epoch: number;
};

const LIB = '/usr/lib/kylin-vr';
export const PRIVATE_NODE = `${LIB}/node`;

export const docFolder = (flavour: Flavour): string => `/usr/share/doc/${flavour}`;
export const dateOf = ({ epoch }: Release): Date => new Date(epoch * 1000);

/** Made by `npm run build`. */
const DIST = 'dist/packaged';

export function contentsOf(format: Format, flavour: Flavour, release: Release): Content[] {
  const standalone = flavour === 'kylin-vr-standalone';
  const loader = readFileSync(`${DIST}/kylin-vr.js`, 'utf8').replace(
    /^#!.*/,
    firstLine(standalone ? PRIVATE_NODE : '/usr/bin/node'),
  );
  const chunks = readdirSync(DIST).filter((name) => name.startsWith('chunks-'));
  const program = [
    file(`${LIB}/kylin-vr.js`, 0o755, loader),
    ...chunks.map((name) => file(`${LIB}/${name}`, 0o644, readFileSync(`${DIST}/${name}`))),
  ];
  return [
    ...program,
    { kind: 'link' as const, path: PROGRAM, target: `..${LIB.slice('/usr'.length)}/kylin-vr.js` },
    ...(standalone ? withNode(program) : []),
    // Packages own nothing in /usr/local: what belongs there is made by `kylin-vr install` (scripts/after.sh).
    ...FILES.filter(({ path }) => !path.startsWith('/usr/local/')).map(({ path, mode, source }) =>
      file(path, mode, payload[source]),
    ),
    // /var/lib/kylin-vr is made and removed by the scripts: kylin-vr uninstall removes it before a package would.
    folder('/etc/kylin-vr', 0o700),
    folder('/var/log/kylin-vr', 0o750),
    ...manPages(release.version, dateOf(release).toISOString().slice(0, 10)).map(({ name, section, text }) =>
      file(`/usr/share/man/man${section}/${name}.${section}.gz`, 0o644, gzip(text)),
    ),
    ...completions(format),
    ...documents(format, flavour, release),
  ].sort((a, b) => (a.path < b.path ? -1 : 1));
}

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

function documents(format: Format, flavour: Flavour, release: Release): Content[] {
  const folder = docFolder(flavour);
  const texts = DOCUMENTS.map((name) => file(`${folder}/${name}`, 0o644, readFileSync(name)));
  const changes = readFileSync('CHANGELOG.md', 'utf8');
  if (format === 'rpm')
    return [
      ...texts,
      file(`${folder}/CHANGELOG.md`, 0o644, changes),
      file(`/usr/share/licenses/${flavour}/LICENSE`, 0o644, readFileSync('LICENSE')),
      file(`/usr/share/licenses/${flavour}/copyright`, 0o644, copyright(flavour)),
    ];
  return [
    ...texts,
    file(`${folder}/changelog.gz`, 0o644, gzip(changes)),
    file(`${folder}/changelog.Debian.gz`, 0o644, gzip(debianChangelog(flavour, release))),
    file(`${folder}/copyright`, 0o644, copyright(flavour)),
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
function copyright(flavour: Flavour): string {
  const program = `${LIB}/kylin-vr.js`;
  const others = bundled().map(({ name, version, licence, text }) => ({
    title: `${name} ${version} (${licence}), bundled into ${program}`,
    text: licence === 'Apache-2.0' ? APACHE : text,
  }));
  if (flavour === 'kylin-vr-standalone')
    others.push({ title: `Node.js ${process.version}, ${PRIVATE_NODE}`, text: nodeLicence() });
  return [
    `kylin-vr\nCopyright: the kylin-vr authors\nLicense: Apache-2.0\n${APACHE}`,
    ...others.map(({ title, text }) => `${'-'.repeat(72)}\n${title}\n\n${text.trim()}\n`),
  ].join('\n');
}

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

/** The Node that builds is the one that is packed, without its symbols, an eighth of it; and the program's code, compiled by it. */
function withNode(program: readonly Content[]): Content[] {
  const folder = mkdtempSync(join(tmpdir(), 'kylin-vr-node-'));
  try {
    const own = join(folder, 'lib/kylin-vr');
    mkdirSync(own, { recursive: true });
    mkdirSync(join(folder, 'code'));
    run('strip', ['-o', join(own, 'node'), process.execPath]);
    for (const each of program) if (each.kind === 'file') writeFileSync(join(own, basename(each.path)), each.bytes);
    // In its place on a guest: stack traces name the file by which it was compiled. Strings are kept with their hashes, which have
    // another seed in every process; whoever takes them hashes anew, and the seed is the one flag that it need not share (with
    // --hash-seed V8 refuses them).
    const script = `
      mount --make-rprivate /
      mount -t overlay overlay -o "lowerdir=$1/lib:/usr/lib" /usr/lib
      exec ${PRIVATE_NODE} --random-seed=1 ${LIB}/kylin-vr.js --save-code-cache "$1/code"`;
    run('unshare', ['--mount', 'sh', '-ec', script, 'sh', folder]);
    const [code] = readdirSync(join(folder, 'code'));
    if (code === undefined) throw new Error('the program has kept no compiled code');
    return [
      file(PRIVATE_NODE, 0o755, readFileSync(join(own, 'node'))),
      file(`${LIB}/${code}`, 0o644, readFileSync(join(folder, 'code', code))),
    ];
  } finally {
    rmSync(folder, { recursive: true });
  }
}

function nodeLicence(): string {
  const places = [join(dirname(process.execPath), '../LICENSE'), '/usr/share/doc/nodejs/LICENSE'];
  const place = places.find((path) => existsSync(path));
  if (place === undefined)
    throw new Error(`Node's licence is in none of ${places.join(', ')}: it has to go into the package`);
  return readFileSync(place, 'utf8');
}

const file = (path: string, mode: number, content: string | Uint8Array): Content => ({
  kind: 'file',
  path,
  mode,
  bytes: typeof content === 'string' ? Buffer.from(content) : content,
});
const folder = (path: string, mode: number): Content => ({ kind: 'folder', path, mode });
const gzip = (text: string): Uint8Array => gzipSync(text, { level: constants.Z_BEST_COMPRESSION });
