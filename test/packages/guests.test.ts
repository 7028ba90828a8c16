// The standalone packages on guests that this machine is not: without a C library, with the system calls of Linux 3.10, of another kind
// of CPU, and with rpm 4.11.

import assert from 'node:assert/strict';
import { cpSync, mkdirSync, readdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { before, describe, it, type TestContext } from 'node:test';
import { createNamespace, type Namespace } from '../lab/namespace.ts';
import { command, packing, REPOSITORY, temporary } from './built.ts';

const folder = temporary();
const TAKEN = join(REPOSITORY, 'packaging/taken.cjs');
const NODE = '/usr/lib/kylin-vr/node';
const PROGRAM = '/usr/lib/kylin-vr/kylin-vr.js';
const NOTHING = 'if_list: []\n';

let names: string[];
const made = (pattern: RegExp): string => join(folder, names.find((name) => pattern.test(name)) ?? `${pattern}`);
const rootOf = (name: string): string => join(folder, name);
before(async () => {
  const architectures = ['x86_64', 'aarch64'].flatMap((each) => ['--arch', each]);
  await command(packing(...architectures, '--out', folder));
  names = readdirSync(folder);
  for (const [name, file] of Object.entries({ amd64: made(/_amd64\.deb$/), arm64: made(/_arm64\.deb$/) })) {
    const root = rootOf(name);
    mkdirSync(root);
    await command(['dpkg-deb', '--extract', file, root]);
    for (const each of ['dev', 'proc', 'lib64', 'lib/x86_64-linux-gnu'])
      mkdirSync(join(root, each), { recursive: true });
    writeFileSync(join(root, 'empty.yaml'), NOTHING);
    cpSync(TAKEN, join(root, 'taken.cjs'));
  }
});

/** In mounts of its own. */
async function guest(t: TestContext, root: string): Promise<Namespace> {
  const namespace = await createNamespace(`
    mount --make-rprivate /
    mount --rbind /dev ${root}/dev
    mount -t proc proc ${root}/proc`);
  t.after(() => namespace.end());
  return namespace;
}

const run = async (namespace: Namespace, argv: readonly string[]): Promise<string> =>
  (await namespace.run(argv, { check: true, timeoutMs: 120_000 })).stdout;

/** What check of the program prints, and that it ran by the code that was packed. */
const check = async (namespace: Namespace, ...argv: string[]) => {
  const said = await run(namespace, [...argv, '--require', '/taken.cjs', PROGRAM, 'check', '/empty.yaml']);
  assert.match(said, /^\/empty\.yaml: valid /);
  assert.match(said, /^code: [1-9]\d* taken, 0 refused, 0 not there$/m);
};

describe('the standalone package', () => {
  it('runs where there is no C library, nor /proc, and is itself what it says it runs by', async () => {
    const root = rootOf('amd64');
    assert.equal(await command(['chroot', root, NODE, PROGRAM, '--version']), '1.0.0\n');
    assert.equal(await command(['chroot', root, NODE, '-p', 'process.execPath']), `${NODE}\n`);
  });

  it('loads no library of the guest, whatever ld.so.preload and nsswitch.conf name', async (t) => {
    const root = rootOf('amd64');
    const library = '/lib/x86_64-linux-gnu/libnss_compat.so.2';
    for (const name of ['lib64/guest.so', 'lib64/libnss_sss.so.2', 'lib/x86_64-linux-gnu/libnss_sss.so.2'])
      cpSync(library, join(root, name), { dereference: true });
    writeFileSync(join(root, 'etc/ld.so.preload'), '/lib64/guest.so\n');
    writeFileSync(join(root, 'etc/nsswitch.conf'), 'passwd: sss\ngroup: sss\nhosts: sss files\n');
    const script = `
      process.initgroups('root', 0);
      require('node:dns').lookup('guest.invalid', () =>
        console.log(process.report.getReport().sharedObjects.join('\\n')));`;
    const said = await run(await guest(t, root), ['chroot', root, NODE, '-e', script]);
    const loaded = said.split('\n').filter((line) => line.includes('.so'));
    assert.ok(
      loaded.some((path) => path.endsWith('/libc.so.6')),
      said,
    );
    for (const path of loaded) assert.match(path, /^(linux-vdso\.so\.1|\/usr\/lib\/kylin-vr\/lib\/\S+)$/);
  });

  it('runs with what Linux 3.10 has, by the code that was packed', async (t) => {
    const root = rootOf('amd64');
    cpSync('/usr/bin/qemu-x86_64-static', join(root, 'qemu'));
    const old = ['python3', join(REPOSITORY, 'test/packages/old-kernel.py'), 'chroot', root];
    // Which uname says so; OpenSSL believes it, not what it is answered.
    const by310 = [...old, '/qemu', '-r', '3.10.0-1160.el7.x86_64', NODE];
    const namespace = await guest(t, root);
    assert.equal(await run(namespace, [...by310, '-p', 'os.release()']), '3.10.0-1160.el7.x86_64\n');
    const asked = 'try { fs.openSync("/", 0o20200002) } catch ({ code }) { console.log(code) }';
    assert.equal(await run(namespace, [...by310, '-e', asked]), 'ENOTSUP\n');
    await check(namespace, ...by310);
  });

  it('for aarch64: checks, and reloads a router, by the code that was packed', async (t) => {
    const root = rootOf('arm64');
    const namespace = await createNamespace(`
      mount --make-rprivate /
      for folder in /run /var /etc/NetworkManager; do mount -t tmpfs tmpfs $folder; done
      mkdir /var/lib /var/log /var/cache
      mount -t sysfs sysfs /sys
      mount -t overlay overlay -o lowerdir=${root}/usr/lib:/usr/lib /usr/lib
      mount -t tmpfs tmpfs /mnt
      cp ${root}/empty.yaml ${root}/taken.cjs /mnt
      ip link add eth0 address 52:54:84:00:08:46 type veth peer name peer
      ip link set peer up`);
    t.after(() => namespace.end());
    const node = ['qemu-aarch64-static', '-L', '/usr/aarch64-linux-gnu', NODE, '--require', '/mnt/taken.cjs', PROGRAM];
    const yaml = `if_list:
  - { ipaddr: 192.0.2.1, prefix: 24, mac: '52:54:84:00:08:46', gateway: 192.0.2.254, name: public }
eip_list: []
`;
    await namespace.run(['sh', '-c', 'umask 077; cat > /run/router.yaml'], { input: yaml, check: true });
    const checked = await run(namespace, [...node, 'check', '/run/router.yaml']);
    assert.match(checked, /valid \(1 NIC/);
    assert.match(checked, /^code: [1-9]\d* taken, 0 refused, 0 not there$/m);
    const done = await namespace.run([...node, 'reload', '--config', '/run/router.yaml'], { timeoutMs: 300_000 });
    assert.equal(done.status, 0, done.stdout + done.stderr);
    // Not all of it is packed: what few runs need is compiled when they do.
    assert.match(done.stdout, /^code: [1-9]\d* taken, 0 refused, /m);
    assert.match(await run(namespace, ['ip', 'address', 'show', 'dev', 'eth0']), /inet 192\.0\.2\.1\/24/);
    assert.match(await run(namespace, ['ip', 'route']), /^default via 192\.0\.2\.254 dev eth0/m);
  });
});

describe('the rpm of EL 7', () => {
  /** Of `rpm --showrc` there, those that concern a package; what 4.12 brought is RichDependencies. */
  const KNOWN = [
    'CompressedFileNames',
    'FileDigests',
    'PayloadFilesHavePrefix',
    'PayloadIsXz',
    'ScriptletInterpreterArgs',
  ];
  const query = async (format: string) =>
    (await command(['rpm', '-qp', '--queryformat', format, made(/\.el7\.x86_64\.rpm$/)])).trim();

  it('asks for no feature that rpm 4.11 has not, and has no weak dependency', async () => {
    const requires = (await query('[%{REQUIRENAME}\\n]')).split('\n');
    const features = requires.flatMap((each) => /^rpmlib\((\w+)\)$/.exec(each)?.[1] ?? []);
    assert.ok(features.includes('FileDigests'));
    for (const each of features) assert.ok(KNOWN.includes(each), each);
    for (const each of requires) assert.doesNotMatch(each, /^\(|\.so|^rtld/);
    assert.ok(requires.includes('python2'));
    for (const weak of ['RECOMMENDNAME', 'SUGGESTNAME', 'SUPPLEMENTNAME', 'ENHANCENAME'])
      assert.equal(await query(`[%{${weak}}]`), '', weak);
  });

  it('is packed and digested as rpm 4.11 does it, and set up when all is in place', async () => {
    assert.equal(
      await query('%{PAYLOADFORMAT} %{PAYLOADCOMPRESSOR} %{FILEDIGESTALGO} %{RELEASE} %{ARCH}'),
      'cpio gzip 8 1.el7 x86_64',
    );
    assert.match(await query('%{SIGMD5} %{SHA1HEADER}'), /^[0-9a-f]{32} [0-9a-f]{40}$/);
    assert.match(await query('%{POSTTRANS}'), /kylin-vr install/);
  });

  it('starts Node by what its shell and env know, with no variable of its caller, and a child has nothing of us', async (t) => {
    const root = join(folder, 'el7');
    mkdirSync(root);
    await command([
      'bash',
      '-ec',
      'rpm2archive - < "$1" | tar -xz -C "$2" ./usr/lib/kylin-vr',
      'bash',
      made(/\.el7\./),
      root,
    ]);
    const namespace = await createNamespace(`
      mount --make-rprivate /
      mount -t overlay overlay -o lowerdir=${root}/usr/lib:/usr/lib /usr/lib
      # Debian's sh is another one.
      mount --bind /bin/bash /bin/sh`);
    t.after(() => namespace.end());
    const env = { NODE_OPTIONS: '--require=/nowhere.cjs', 'BASH_FUNC_exec%%': '() { echo taken; }' };
    const { stdout, stderr } = await namespace.run([PROGRAM, '--version'], { env });
    assert.equal(stdout + stderr, '1.0.0\n');
    const maps = `require('node:child_process').execFileSync('/bin/sh', ['-c', 'env; cat /proc/self/maps'], { encoding: 'utf8' })`;
    const child = await run(namespace, [NODE, '-p', maps]);
    assert.match(child, /\/libc\.so\.6$/m);
    assert.doesNotMatch(child, /kylin-vr|^LD_/m);
    const refused = await namespace.run([PROGRAM, 'check', '/a file'], { env });
    assert.match(refused.stdout + refused.stderr, /\/a file/);
  });
});
