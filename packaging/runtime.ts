// The Node that a standalone package brings, as packaging/pinned.json names it; for x86-64 with a C library of its own, for guests
// whose own is too old; and the program's code, compiled by it.

import { createHash } from 'node:crypto';
import {
  copyFileSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { arch, tmpdir } from 'node:os';
import { basename, join, resolve } from 'node:path';
import { type Content, file, run } from './stage.ts';

export type Architecture = 'x86_64' | 'aarch64';

/** What a library is taken from: one of Debian's packages, and of which source it was built. */
type Library = {
  package: string;
  version: string;
  sha256: string;
  source: string;
  sourceVersion: string;
  files: string[];
};

export type Pinned = {
  node: { line: string; version: string; packages: Record<Architecture, { name: string; integrity: string }> };
  libraries: Library[];
};

export const PINNED = join(import.meta.dirname, 'pinned.json');
const pinned = JSON.parse(readFileSync(PINNED, 'utf8')) as Pinned;
export const NODE_VERSION = pinned.node.version;

export const LIB = '/usr/lib/kylin-vr';
export const PRIVATE_NODE = `${LIB}/node`;
/** Of x86-64 only: the official Node for aarch64 asks for no more than Kylin V10 and EL 8 have. */
const LIBRARIES = `${LIB}/lib`;
export const hasLibraries = (architecture: Architecture): boolean => architecture === 'x86_64';

const HERE: Architecture = arch() === 'arm64' ? 'aarch64' : 'x86_64';
const CACHE = 'node_modules/.cache/kylin-vr';

const made = new Map<Architecture, Content[]>();

/** The same for each format. */
export function runtimeOf(architecture: Architecture, program: readonly Content[]): Content[] {
  const contents = made.get(architecture) ?? makeRuntime(architecture, program);
  made.set(architecture, contents);
  return contents;
}

function makeRuntime(architecture: Architecture, program: readonly Content[]): Content[] {
  const folder = mkdtempSync(join(tmpdir(), 'kylin-vr-node-'));
  try {
    const own = join(folder, 'lib/kylin-vr');
    mkdirSync(join(own, 'lib'), { recursive: true });
    const node = join(own, 'node');
    // Without its symbols, an eighth of it.
    run(architecture === HERE ? 'strip' : `${architecture}-linux-gnu-strip`, [
      '-o',
      node,
      nodeFile(architecture, 'bin/node'),
    ]);
    if (hasLibraries(architecture)) withLibraries(node, join(own, 'lib'));
    for (const each of program) if (each.kind === 'file') writeFileSync(join(own, basename(each.path)), each.bytes);
    const code = compile(architecture, folder, own);
    return [
      file(PRIVATE_NODE, 0o755, readFileSync(node)),
      ...(hasLibraries(architecture) ? [{ kind: 'folder' as const, path: LIBRARIES, mode: 0o755 }] : []),
      ...readdirSync(join(own, 'lib')).map((name) =>
        file(`${LIBRARIES}/${name}`, name.startsWith('ld-') ? 0o755 : 0o644, readFileSync(join(own, 'lib', name))),
      ),
      file(`${LIB}/${code}`, 0o644, readFileSync(join(own, code))),
    ];
  } finally {
    rmSync(folder, { recursive: true });
  }
}

/**
 * The linker stands in the program itself: one that is named on a command line would be execPath, and what a child gets.
 * RPATH, not RUNPATH: it is for the libraries of libraries too; without $ORIGIN, which is read from /proc, and where an image is made
 * there may be none.
 */
function withLibraries(node: string, folder: string): void {
  for (const library of pinned.libraries) {
    const unpacked = unpackedDeb(library);
    for (const name of library.files) {
      const place = ['lib', 'usr/lib'].map((each) => join(unpacked, each, 'x86_64-linux-gnu', name));
      copyFileSync(place.find((path) => existsSync(path)) ?? name, join(folder, name));
    }
  }
  for (const [name, paths] of Object.entries(NOT_OF_THE_GUEST))
    for (const path of paths) blindFor(join(folder, name), path);
  const loader = `${LIBRARIES}/ld-linux-x86-64.so.2`;
  run('patchelf', ['--set-interpreter', loader, '--force-rpath', '--set-rpath', LIBRARIES, node]);
}

/** Files of the guest by which libraries of the guest would come into our process, which are built against another C library. */
const NOT_OF_THE_GUEST: Readonly<Record<string, readonly string[]>> = {
  'ld-linux-x86-64.so.2': ['/etc/ld.so.preload', '/etc/ld.so.cache'],
  'libc.so.6': ['/etc/nsswitch.conf'],
};

/** As long as it was, and a place where there can be no file. */
function blindFor(library: string, path: string): void {
  const bytes = readFileSync(library);
  const wanted = Buffer.from(`\0${path}\0`);
  const at = bytes.indexOf(wanted);
  if (at === -1 || bytes.indexOf(wanted, at + 1) !== -1)
    throw new Error(`${library}: ${path} does not stand in it once`);
  bytes.write(`/dev/null/${'x'.repeat(path.length - '/dev/null/'.length)}`, at + 1);
  writeFileSync(library, bytes);
}

/** Gives the name of the file, in `own`. */
function compile(architecture: Architecture, folder: string, own: string): string {
  mkdirSync(join(folder, 'code'));
  // Of another kind of CPU: with the C library of Debian's cross compiler.
  const emulator = architecture === HERE ? [] : [`qemu-${architecture}-static`, '-L', `/usr/${architecture}-linux-gnu`];
  // In its place on a guest: stack traces name the file by which it was compiled.
  const script = `
    mount --make-rprivate /
    mount -t overlay overlay -o "lowerdir=$1/lib:/usr/lib" /usr/lib
    shift
    exec "$@"`;
  const inPlace = (...args: string[]) =>
    run('unshare', ['--mount', 'sh', '-ec', script, 'sh', folder, ...emulator, PRIVATE_NODE, ...args]);
  // Strings are kept with their hashes, which have another seed in every process; whoever takes them hashes anew, and the seed is the
  // one flag that it need not share (with --hash-seed V8 refuses them).
  inPlace('--random-seed=1', `${LIB}/kylin-vr.js`, '--save-code-cache', join(folder, 'code'));
  const [code] = readdirSync(join(folder, 'code'));
  // V8 does not refuse code of another kind of CPU: it dies of it.
  const kind = { x86_64: 'x64', aarch64: 'arm64' }[architecture];
  if (code?.endsWith(`-v${NODE_VERSION}-${kind}.bin`) !== true)
    throw new Error(`the program has kept no compiled code of ${kind}, but ${code}`);
  copyFileSync(join(folder, 'code', code), join(own, code));
  const taken = inPlace('--require', resolve(import.meta.dirname, 'taken.cjs'), `${LIB}/kylin-vr.js`, '--version');
  if (!/^code: [1-9]\d* taken, 0 refused, 0 not there$/m.test(taken))
    throw new Error(`Node ${architecture} does not take the code that it compiled:\n${taken}`);
  return code;
}

/** Texts that go with it, by the name that each has in the package. */
export function licencesOf(architecture: Architecture): { name: string; title: string; text: string }[] {
  const node = {
    name: 'node',
    title: `Node.js v${NODE_VERSION}, ${PRIVATE_NODE}; its source: https://nodejs.org/dist/v${NODE_VERSION}/`,
    text: readFileSync(nodeFile(architecture, 'LICENSE'), 'utf8'),
  };
  if (!hasLibraries(architecture)) return [node];
  const sources = [...new Set(pinned.libraries.map(({ source }) => source))];
  return [
    node,
    ...sources.map((source) => {
      const of = pinned.libraries.filter((each) => each.source === source);
      const [{ sourceVersion } = { sourceVersion: '' }] = of;
      const files = of.flatMap((each) => each.files).join(', ');
      const changed = of.flatMap((each) => each.files).filter((name) => name in NOT_OF_THE_GUEST);
      const said = changed.map((name) => `${name}: no ${NOT_OF_THE_GUEST[name]?.join(' and no ')} is read`).join('; ');
      const place = `https://snapshot.debian.org/package/${source}/${sourceVersion}/`;
      return {
        name: source,
        title: `${files} in ${LIBRARIES}, of Debian's ${source} ${sourceVersion}; its source: ${place}\n${
          said === '' ? 'As Debian builds them.' : `As Debian builds them, with other paths in two of them (${said}).`
        }`,
        text: readFileSync(licenceOf(of), 'utf8'),
      };
    }),
  ];
}

function licenceOf(libraries: readonly Library[]): string {
  const places = libraries.map((each) => join(unpackedDeb(each), 'usr/share/doc', each.package, 'copyright'));
  const place = places.find((path) => existsSync(path));
  if (place === undefined) throw new Error(`no licence in ${places.join(', ')}`);
  return place;
}

/** By npm, which has the official binaries. */
function nodeFile(architecture: Architecture, name: string): string {
  const { name: of, integrity } = pinned.node.packages[architecture];
  const unpacked = kept(`${of}-${NODE_VERSION}`, (folder) => {
    run('npm', ['pack', '--silent', '--pack-destination', folder, `${of}@${NODE_VERSION}`]);
    const archive = join(folder, `${of}-${NODE_VERSION}.tgz`);
    verify(archive, 'sha512', 'base64', integrity.replace(/^sha512-/, ''));
    run('tar', ['-xzf', archive, '-C', folder, '--strip-components=1', 'package/bin/node', 'package/LICENSE']);
    rmSync(archive);
  });
  return join(unpacked, name);
}

function unpackedDeb({ package: name, version, sha256 }: Library): string {
  return kept(`${name}_${version}`, (folder) => {
    const download = (what: string) => run('apt-get', ['download', '--quiet', what], {}, folder);
    const pinnedOne = `${name}:amd64=${version}`;
    let isPinned = true;
    try {
      download(pinnedOne);
    } catch {
      run('apt-get', ['update']);
      try {
        download(pinnedOne);
      } catch (error) {
        const said = `apt has no ${name} ${version} any more: npm run pin`;
        // What is made so is for a test: it has no hash to be held against.
        if (process.env.KYLIN_VR_UNPINNED === undefined) throw new Error(`${said}\n${(error as Error).message}`);
        console.error(`${said}; until then its newest`);
        download(`${name}:amd64`);
        isPinned = false;
      }
    }
    const [archive = ''] = readdirSync(folder).map((each) => join(folder, each));
    if (isPinned) verify(archive, 'sha256', 'hex', sha256);
    run('dpkg-deb', ['--extract', archive, folder]);
    rmSync(archive);
  });
}

/** What `make` puts into a folder, made once; by two at a time too. */
function kept(name: string, make: (folder: string) => void): string {
  const place = resolve(CACHE, name);
  if (existsSync(place)) return place;
  mkdirSync(CACHE, { recursive: true });
  const folder = mkdtempSync(`${resolve(CACHE)}/.`);
  try {
    make(folder);
    renameSync(folder, place);
  } catch (error) {
    rmSync(folder, { recursive: true });
    if (!existsSync(place)) throw error;
  }
  return place;
}

function verify(path: string, algorithm: string, encoding: 'hex' | 'base64', wanted: string): void {
  const found = createHash(algorithm).update(readFileSync(path)).digest(encoding);
  if (found !== wanted) throw new Error(`${path}: its ${algorithm} is ${found}, and ${wanted} in ${PINNED}`);
}
