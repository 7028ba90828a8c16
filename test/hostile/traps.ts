// What root.test.ts runs in mounts of its own: images below /mnt/image, made of traps, and what install and uninstall do to
// /mnt/outside. Prints one line of JSON in the end.

import assert from 'node:assert/strict';
import { spawn, spawnSync } from 'node:child_process';
import {
  chmodSync,
  chownSync,
  linkSync,
  lstatSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  rmSync,
  symlinkSync,
  truncateSync,
  unlinkSync,
  writeFileSync,
} from 'node:fs';
import { dirname, join } from 'node:path';
import fc from 'fast-check';
import { PATHS } from '../../src/base/paths.ts';
import { digest } from '../../src/installation/plan.ts';
import { ABSENT, FILES } from '../../src/installation/tree.ts';
import type { Files, Host } from '../../src/machine/host.ts';
import { linuxHost } from '../../src/machine/linux-host.ts';
import { places } from '../../src/machine/tree.ts';
import { program, run } from '../install/image.ts';

const IMAGE = '/mnt/image';
const OUTSIDE = '/mnt/outside';
/** Their names are in the image too, so they change there. */
const SHARED = '/mnt/shared';

const FOLDERS = [...places()].filter((path) => [...places(), PATHS.installed].some((other) => dirname(other) === path));
const FILE_PLACES = [...places()].filter((path) => !FOLDERS.includes(path));

/** Stands for the host: whatever is ours in an image is there too, where a link out of it would lead. */
function makeOutside(): void {
  for (const path of [...FILE_PLACES, PATHS.installed]) {
    mkdirSync(dirname(OUTSIDE + path), { recursive: true });
    writeFileSync(OUTSIDE + path, 'the host’s\n');
  }
  writeFileSync(OUTSIDE + PATHS.installed, JSON.stringify({ changes: [] }));
  mkdirSync(SHARED);
}

/** All that a touch leaves, by lstat alone: /mnt has strictatime, and a folder's time tells of what is new in it. */
function outside(): string[] {
  return ['', '/etc', '/usr', '/var', ...places(), PATHS.installed].map((path) => {
    const found = lstatSync(OUTSIDE + path, { bigint: true, throwIfNoEntry: false });
    return `${path} ${found && [found.ino, found.mode, found.uid, found.size, found.nlink, found.atimeNs, found.mtimeNs, found.ctimeNs]}`;
  });
}

function emptyImage(): void {
  for (const name of readdirSync(IMAGE)) if (name !== 'proc') rmSync(join(IMAGE, name), { recursive: true });
}

const KINDS = [
  'absolute',
  'climbing',
  'by proc',
  'by another process',
  'circle',
  'itself',
  'dangling',
  'fifo',
  'zero',
  'socket',
  'file',
  'folder',
  'huge',
  'hard link',
  'set-user-ID',
] as const;

type Trap = { path: string; kind: (typeof KINDS)[number] };

function setTrap({ path, kind }: Trap, number: number): void {
  const place = IMAGE + path;
  const up = '../'.repeat(place.split('/').length - 2);
  const makers: Record<Trap['kind'], () => void> = {
    absolute: () => symlinkSync(OUTSIDE + path, place),
    climbing: () => symlinkSync(`${up}mnt/outside${path}`, place),
    'by proc': () => symlinkSync(`/proc/self/root${OUTSIDE}${path}`, place),
    'by another process': () =>
      symlinkSync(`${'../'.repeat(path.split('/').length - 2)}proc/1/root${OUTSIDE}${path}`, place),
    circle: () => symlinkSync(dirname(path), place),
    itself: () => symlinkSync(path, place),
    dangling: () => symlinkSync('/nowhere/at/all', place),
    fifo: () => mustRun('mkfifo', place),
    zero: () => mustRun('mknod', place, 'c', '1', '5'),
    socket: () =>
      mustRun('perl', '-MSocket', '-e', 'socket(S,AF_UNIX,SOCK_STREAM,0);bind(S,sockaddr_un($ARGV[0]))', place),
    file: () => writeFileSync(place, 'BLOCK_RPCS=guest-exec\n'),
    folder: () => mkdirSync(place),
    huge: () => {
      writeFileSync(place, '');
      truncateSync(place, 2 ** 40);
    },
    'hard link': () => {
      const victim = join(SHARED, `${number}`);
      rmSync(victim, { force: true });
      writeFileSync(victim, VICTIM);
      linkSync(victim, place);
    },
    'set-user-ID': () => {
      writeFileSync(place, 'BLOCK_RPCS=guest-exec\n');
      chownSync(place, 1000, 1000);
      chmodSync(place, 0o6755);
    },
  };
  if (!makeFolders(dirname(path))) return;
  rmSync(place, { recursive: true, force: true });
  makers[kind]();
}

const VICTIM = 'BLOCK_RPCS=guest-exec,guest-file-open\n';

/** Gives false where a trap is on the way already: what comes after it would be set on the host. */
function makeFolders(path: string): boolean {
  if (path === '/') return true;
  if (!makeFolders(dirname(path))) return false;
  const found = lstatSync(IMAGE + path, { throwIfNoEntry: false });
  if (found === undefined) mkdirSync(IMAGE + path);
  return found?.isDirectory() ?? true;
}

function mustRun(command: string, ...args: string[]): void {
  const { status, stderr } = spawnSync(command, args, { encoding: 'utf8' });
  assert.equal(status, 0, stderr);
}

const anyPath = fc.oneof(
  { weight: 6, arbitrary: fc.constantFrom(...places()) },
  fc.constantFrom(...FILE_PLACES.map((path) => `/../..${OUTSIDE}${path}`)),
  fc.constantFrom(
    '/etc/cron.d/x',
    'no/slash',
    '/',
    '',
    '..',
    '/etc/../../outside/etc',
    `${OUTSIDE}/x`,
    PATHS.installed,
  ),
  fc.string(),
);
const mode = fc.constantFrom(0o644, 0o755, 0o4755, 0o6777, 0o7777, -1, 2 ** 40, 0.5);
const before = fc.oneof(
  fc.constant(ABSENT),
  fc.record({ kind: fc.constant('file'), content: fc.string({ unit: 'binary' }), mode }),
  fc.record({
    kind: fc.constant('link'),
    target: fc.constantFrom(OUTSIDE, '../../../outside', '', 'a\0b', 'x'.repeat(9000)),
  }),
  fc.record({ kind: fc.constant('folder'), mode }),
);
const left = fc.constantFrom(
  digest(ABSENT),
  digest({ kind: 'file', content: 'BLOCK_RPCS=guest-exec\n', mode: 0o644 }),
  digest({ kind: 'link', target: '/nowhere/at/all' }),
  'f'.repeat(64),
  '',
);
const recordText = fc.oneof(
  {
    weight: 4,
    arbitrary: fc
      .uniqueArray(
        fc.record({ path: fc.constantFrom(...places()), before: fc.oneof(before, fc.constant(ABSENT)), left }),
        {
          maxLength: 12,
          selector: ({ path }) => path,
        },
      )
      .map((changes) => JSON.stringify({ changes })),
  },
  fc.array(fc.record({ path: anyPath, before, left }), { maxLength: 4 }).map((changes) => JSON.stringify({ changes })),
  fc.jsonValue().map((value) => JSON.stringify({ changes: value })),
  fc.json(),
  fc.string({ unit: 'binary' }),
);
const trap = fc.record({
  path: fc.oneof(
    { weight: 3, arbitrary: fc.constantFrom(...FILE_PLACES) },
    fc.constantFrom(...FOLDERS),
    fc.constantFrom(PATHS.installed, '/usr/bin/kylin-vr', '/etc/selinux/config', '/usr/sbin', '/sbin', '/usr/bin/node'),
  ),
  kind: fc.constantFrom(...KINDS),
});
const anImage = fc.record({
  installed: fc.boolean(),
  traps: fc.array(trap, { maxLength: 3 }),
  record: fc.option(recordText),
  commands: fc.array(fc.constantFrom('install', 'uninstall'), { minLength: 1, maxLength: 3 }),
});

async function traps(): Promise<object> {
  const seed = Number(process.env.SEED ?? Date.now() % 2 ** 31);
  const counted = { runs: 0, changed: 0, refused: 0 };
  const property = fc.asyncProperty(anImage, async ({ installed, traps, record, commands }) => {
    counted.runs++;
    emptyImage();
    if (installed) await command('install');
    traps.forEach(setTrap);
    const place = IMAGE + PATHS.installed;
    if (record !== null && makeFolders(dirname(PATHS.installed))) {
      rmSync(place, { recursive: true, force: true });
      writeFileSync(place, record);
    }
    const untouched = outside();
    for (const name of commands) {
      const { status, stdout } = await command(name);
      assert.ok([0, 64, 69].includes(status), `status ${status}`);
      if (status !== 0) counted.refused++;
      else if (/: changed, /.test(stdout)) counted.changed++;
      assert.deepEqual(outside(), untouched);
    }
    for (const name of readdirSync(SHARED)) assert.equal(readFileSync(join(SHARED, name), 'utf8'), VICTIM);
    assert.equal(find('-uid', '0', '-perm', '/6000'), '', 'a file of root’s with the set-user-ID bit');
    assert.equal(find('-name', '.*kylin-vr-new'), '', 'half of a file');
  });
  await fc.assert(property, { seed, numRuns: 400, interruptAfterTimeLimit: 200_000, markInterruptAsFailure: false });
  return { seed, ...counted };
}

const command = (name: string, host?: (host: Host) => Host) =>
  run([name, '--root', IMAGE], { program, ...(host !== undefined && { host }) });

function find(...tests: string[]): string {
  const { status, stdout, stderr } = spawnSync(
    'find',
    [IMAGE, '-path', `${IMAGE}/proc`, '-prune', '-o', '-type', 'f', ...tests, '-print'],
    {
      encoding: 'utf8',
    },
  );
  assert.equal(status, 0, stderr);
  return stdout;
}

/** renameat2(2) with RENAME_EXCHANGE: at no time is there nothing. Most of the time it is the folder. */
const SWAPPER = `
  my ($number, @folders) = @ARGV;
  $SIG{TERM} = sub { exit };
  while (1) { for (@folders) {
    my ($a, $b) = ($_, "$_.other");
    for my $most (0.0003, 0.002) {
      syscall($number, -100, $a, -100, $b, 2);
      select(undef, undef, undef, rand() * $most);
    }
  } }`;
const RENAMEAT2 = { x64: 316, arm64: 276 } as Readonly<Record<string, number>>;

async function swaps(): Promise<object> {
  const swapped = [
    '/etc',
    '/usr/lib',
    '/usr/lib/systemd',
    '/usr/lib/systemd/system',
    '/var/lib',
    '/usr/local/bin',
    '/etc/systemd/system',
  ];
  const untouched = outside();
  const counted = { runs: 0, changed: 0 };
  const round = async (host?: (host: Host) => Host): Promise<void> => {
    for (const name of ['install', 'uninstall', 'uninstall']) {
      const { status, stdout } = await command(name, host);
      assert.ok([0, 64, 69].includes(status), `status ${status}`);
      counted.runs++;
      if (/^[-+~] /m.test(stdout)) counted.changed++;
    }
  };
  const meanwhile = async (work: () => Promise<void>): Promise<void> => {
    emptyImage();
    for (const [n, path] of swapped.entries()) {
      mkdirSync(IMAGE + path, { recursive: true });
      const up = '../'.repeat((IMAGE + path).split('/').length - 2);
      symlinkSync(n % 2 === 0 ? OUTSIDE + path : `${up}mnt/outside${path}`, `${IMAGE}${path}.other`);
    }
    const swapper = spawn(
      'perl',
      ['-e', SWAPPER, `${RENAMEAT2[process.arch]}`, ...swapped.map((path) => IMAGE + path)],
      {
        stdio: 'inherit',
      },
    );
    await work().finally(() => swapper.kill());
  };
  // Each time a new image: what a round leaves in either folder may be in the way of all that follow.
  for (let image = 0; image < 15; image++)
    await meanwhile(async () => {
      for (let n = 0; n < 10; n++) await round();
    });
  const touched = outside().join() === untouched.join() ? 0 : 1;
  const found = { ...counted };
  let usual = 0;
  await meanwhile(async () => {
    for (let n = 0; n < 50 && usual === 0; n++) {
      await round((host) => ({ ...host, inside: async (root) => byPaths(host, root) })).catch(() => {});
      if (outside().join() !== untouched.join()) usual = 1;
    }
  });
  return { ...found, touched, usual };
}

/** As it would be without image.ts. */
function byPaths(host: Host, root: string): Files {
  return {
    read: (path) => host.read(root + path),
    readBytes: (path) => host.readBytes(root + path),
    info: (path) => host.info(root + path),
    setMode: (path, mode) => host.setMode(root + path, mode),
    readLink: (path) => host.readLink(root + path),
    write: (path, content, mode) => host.write(root + path, content, mode),
    link: (path, target) => host.link(root + path, target),
    makeFolder: (path, mode) => host.makeFolder(root + path, mode),
    removeFolder: (path) => host.removeFolder(root + path),
    remove: (path) => host.remove(root + path),
  };
}

/** That the host notices is what the rest hangs on. */
async function notices(): Promise<object> {
  const host = linuxHost();
  const file = OUTSIDE + (FILES[0]?.path ?? '');
  const touches: Record<string, () => unknown> = {
    read: () => readFileSync(file),
    listed: () => readdirSync(dirname(file)),
    written: () => host.write(file, 'x', 0o644),
    made: () => host.link(`${dirname(file)}/new`, 'x'),
    removed: () => unlinkSync(file),
    mode: () => chmodSync(dirname(file), 0o700),
  };
  const noticed: Record<string, number> = {};
  for (const [name, touch] of Object.entries(touches)) {
    const untouched = outside();
    await touch();
    noticed[name] = outside().join() === untouched.join() ? 0 : 1;
  }
  return noticed;
}

async function large(): Promise<object> {
  const [half, whole] = [2 ** 19 - 10, 2 ** 20];
  const texts = [
    '['.repeat(whole),
    `{"changes":[${'{},'.repeat(whole / 3 - 10)}{}]}`,
    `{"changes":${'['.repeat(half)}${']'.repeat(half)}}`,
    `{"changes":[{"path":"${'x'.repeat(whole - 100)}"}]}`,
    ' '.repeat(whole + 1),
    '['.repeat(4 * whole),
    '['.repeat(4 * whole + 1),
  ];
  for (const text of texts) {
    emptyImage();
    mkdirSync(dirname(IMAGE + PATHS.installed), { recursive: true });
    writeFileSync(IMAGE + PATHS.installed, text);
    for (const name of ['install', 'uninstall']) assert.equal((await command(name)).status, 69);
  }
  return { mebibytes: Math.round(process.resourceUsage().maxRSS / 1024) };
}

/** Settings of the guest agent, and what a record says that they were, as large as both may be, or larger. */
async function agent(): Promise<object> {
  const path = '/etc/sysconfig/qemu-ga';
  const settings = [
    `A=${'-a x '.repeat(780_000)}`,
    'BLOCK_RPCS=a\n'.repeat(300_000),
    'BLOCK_RPCS=a\n'.repeat(5000),
    `${'A'.repeat(30_000)}=${'-b x '.repeat(7000)}`,
    `BLOCK_RPCS=${'a,'.repeat(32_000)}guest-exec\n`,
    ' '.repeat(65_536),
  ];
  const earlier = [
    `BLOCK_RPCS=${'b,'.repeat(500_000)}`,
    `BLOCK_RPCS=${'b,'.repeat(32_000)}`,
    `${'A'.repeat(30_000)}=${'-b x '.repeat(7000)}`,
    `${'A'.repeat(500_000)}=${'-b x '.repeat(100_000)}`,
  ];
  const began = performance.now();
  let [changed, left] = [0, 0];
  for (const text of settings)
    for (const content of earlier) {
      emptyImage();
      for (const place of [path, PATHS.installed]) mkdirSync(dirname(IMAGE + place), { recursive: true });
      writeFileSync(IMAGE + path, text);
      const before = { kind: 'file', content, mode: 0o644 };
      writeFileSync(IMAGE + PATHS.installed, JSON.stringify({ changes: [{ path, before, left: '0'.repeat(64) }] }));
      assert.equal((await command('uninstall')).status, 0);
      const { status, stdout, stderr } = await command('install');
      assert.equal(status, 0);
      const isLarge = text.length > 65_536;
      assert.equal(stderr.includes(`${path} is larger than 64 KiB: it is left as it is`), isLarge);
      if (isLarge) left++;
      else if (stdout.includes(`~ file ${path} (opened for the host: `)) changed++;
    }
  return {
    ...{ changed, left, seconds: (performance.now() - began) / 1000 },
    mebibytes: Math.round(process.resourceUsage().maxRSS / 1024),
  };
}

/** Folders of somebody else, whose group and bits what is made in them would get. Gives what is nevertheless not root's alone. */
async function groups(): Promise<object> {
  process.umask(0o077);
  const folders = ['/etc', '/usr/lib/systemd/system', '/usr/bin', '/usr/local/bin', '/var/lib'];
  const fresh = () => {
    emptyImage();
    for (const path of folders) mkdirSync(IMAGE + path, { recursive: true });
    mustRun(
      'chown',
      '-R',
      '1000:1000',
      ...readdirSync(IMAGE).flatMap((name) => (name === 'proc' ? [] : `${IMAGE}/${name}`)),
    );
    for (const path of folders) chmodSync(IMAGE + path, 0o2777);
  };
  const others = () => {
    const made = spawnSync(
      'find',
      [IMAGE, '-path', `${IMAGE}/proc`, '-prune', '-o', '-newercm', '/mnt/began', '-print'],
      {
        encoding: 'utf8',
      },
    ).stdout.split('\n');
    return made.filter((path) => {
      const found = lstatSync(path, { throwIfNoEntry: false });
      if (found === undefined || path === IMAGE || path.endsWith('.kylin-vr-new')) return false;
      if (folders.some((folder) => `${IMAGE}${folder}/`.startsWith(`${path}/`))) return false;
      count++;
      const mode = found.isSymbolicLink() ? 0o777 : found.mode & 0o7777;
      const wanted = found.isDirectory() ? [0o755, 0o700] : found.isFile() ? [0o755, 0o644, 0o600] : [0o777];
      return found.uid !== 0 || found.gid !== 0 || !wanted.includes(mode);
    });
  };
  let count = 0;
  fresh();
  writeFileSync('/mnt/began', '');
  await new Promise((resolve) => setTimeout(resolve, 20));
  assert.equal((await command('install')).status, 0);
  const installed = others();
  // What uninstall makes is what the record says was there.
  fresh();
  const changes = FILES.map(({ path }, n) => ({
    path,
    before: n % 2 === 0 ? { kind: 'file', content: 'x', mode: 0o6644 } : { kind: 'link', target: 'x' },
    left: digest(ABSENT),
  }));
  rmSync(`${IMAGE}/usr/lib`, { recursive: true });
  mkdirSync(`${IMAGE}/var/lib/kylin-vr`);
  chownSync(`${IMAGE}/var/lib/kylin-vr`, 0, 0);
  chmodSync(`${IMAGE}/var/lib/kylin-vr`, 0o700);
  writeFileSync(IMAGE + PATHS.installed, JSON.stringify({ changes }));
  rmSync('/mnt/began');
  writeFileSync('/mnt/began', '');
  await new Promise((resolve) => setTimeout(resolve, 20));
  assert.equal((await command('uninstall')).status, 0);
  assert.deepEqual([...installed, ...others()], []);
  return { count };
}

/** Ways into a /proc that is mounted in the image, as for a chroot. */
async function kernel(): Promise<object> {
  const ways: Record<string, () => void> = {
    'a program': () => symlinkSync('/proc/sys/kernel/hostname', `${IMAGE}/usr/bin/kylin-vr`),
    'a folder': () => symlinkSync('/proc/sys/kernel', `${IMAGE}/etc/kylin-vr`),
    'a folder that climbs': () => symlinkSync('../proc', `${IMAGE}/var/lib`),
    'a file mounted': () => {
      writeFileSync(`${IMAGE}/usr/bin/kylin-vr`, '');
      mustRun('mount', '--bind', '/proc/sys/kernel/hostname', `${IMAGE}/usr/bin/kylin-vr`);
    },
  };
  let refused = 0;
  for (const [name, make] of Object.entries(ways)) {
    emptyImage();
    for (const path of ['/etc', '/usr/bin', '/var']) mkdirSync(IMAGE + path, { recursive: true });
    make();
    const { status, stderr } = await command('install');
    assert.equal(status, 69, name);
    assert.match(
      stderr,
      /\/mnt\/image\/\S+ leads into a file system of the kernel's own, which is no part of an image: take away the link or the mount$/m,
      name,
    );
    refused++;
    if (name === 'a file mounted') mustRun('umount', `${IMAGE}/usr/bin/kylin-vr`);
  }
  // Another file system that somebody mounts there is of the image.
  emptyImage();
  mkdirSync(`${IMAGE}/usr`);
  mustRun('mount', '-t', 'tmpfs', 'tmpfs', `${IMAGE}/usr`);
  assert.equal((await command('install')).status, 0);
  mustRun('umount', `${IMAGE}/usr`);
  return { refused };
}

makeOutside();
const tasks: Readonly<Record<string, () => Promise<object>>> = { traps, swaps, notices, large, agent, groups, kernel };
const task = tasks[process.argv[2] ?? ''];
if (task === undefined) throw new Error(`no task ${process.argv[2]}`);
process.stdout.write(`${JSON.stringify(await task())}\n`);
