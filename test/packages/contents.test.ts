// What is in the packages, what they ask for, what the distributions' own checkers say of them, and that they come out the same.

import assert from 'node:assert/strict';
import { mkdirSync, readFileSync } from 'node:fs';
import { basename, join } from 'node:path';
import { before, describe, it } from 'node:test';
import { manPages } from '../../packaging/man.ts';
import { FILES } from '../../src/installation/tree.ts';
import { type Built, build, command, packing, REPOSITORY, temporary } from './built.ts';
import { deadLinks } from './links.ts';

const folder = temporary();
let deb: Built;
let rpm: Built;
/** Takes as long as all the rest. */
let lintian: Promise<string>;
before(async () => {
  deb = await build('deb', join(folder, 'one'));
  const said = command([
    ...['lintian', '--allow-root', '--fail-on', 'error', '--tag-display-limit', '0'],
    ...[deb.plain, deb.standalone],
  ]);
  // Whoever asks for it learns of it.
  said.catch(() => {});
  lintian = said;
  rpm = await build('rpm', join(folder, 'one'));
});

const lines = (text: string) => text.split('\n').filter((line) => line !== '');

/** `-rw-r--r-- /path`, folders without those that every system has. */
async function inDeb(file: string): Promise<string[]> {
  return lines(await command(['dpkg-deb', '--contents', file]))
    .map((line) => line.split(/\s+/))
    .map(([mode, owner, , , , path = '', ...link]) => {
      assert.equal(owner, 'root/root', path);
      return [mode, path.slice(1), ...link].join(' ');
    })
    .filter((line) => !line.startsWith('d') || line.includes('kylin-vr'));
}

async function inRpm(file: string): Promise<string[]> {
  const format = '[%{FILEMODES:perms} %{FILENAMES} %{FILEUSERNAME}:%{FILEGROUPNAME} %{FILELINKTOS}\\n]';
  return lines(await command(['rpm', '-qp', '--queryformat', format, file])).map((line) => {
    const [mode, path, owner, link = ''] = line.split(' ');
    assert.equal(owner, 'root:root', path);
    return link === '' ? `${mode} ${path}` : `${mode} ${path} -> ${link}`;
  });
}

/** Without what is named for the package or kept elsewhere by each system. */
const common = (entries: readonly string[]) =>
  entries
    .filter((line) => !/ \/usr\/share\/(doc|licenses|lintian|zsh)\//.test(line))
    .map((line) => line.replace(/\/$/, '').replace(/(code|chunks)-[\w.-]+\.(bin|js)$/, '$1-BUILD.$2'))
    .sort();

const PACKED = FILES.filter(({ path }) => !path.startsWith('/usr/local/')).map(
  ({ path, mode }) => `${mode === 0o755 ? '-rwxr-xr-x' : '-rw-r--r--'} ${path}`,
);
const ALSO = [
  'drwx------ /etc/kylin-vr',
  'drwxr-xr-x /usr/lib/kylin-vr',
  'drwxr-x--- /var/log/kylin-vr',
  'lrwxrwxrwx /usr/bin/kylin-vr -> ../lib/kylin-vr/kylin-vr.js',
  '-rwxr-xr-x /usr/lib/kylin-vr/kylin-vr.js',
  '-rw-r--r-- /usr/lib/kylin-vr/chunks-BUILD.js',
  '-rw-r--r-- /usr/share/bash-completion/completions/kylin-vr',
  '-rw-r--r-- /usr/share/fish/vendor_completions.d/kylin-vr.fish',
  '-rw-r--r-- /usr/share/man/man5/kylin-vr.yaml.5.gz',
  '-rw-r--r-- /usr/share/man/man8/kylin-vr.8.gz',
];
const READ = ['README.md', 'README.zh-CN.md', 'docs/manual.md', 'docs/manual.zh-CN.md'];
/** And the program's code, compiled by it; and a C library. */
const PRIVATE_NODE = [
  '-rw-r--r-- /usr/lib/kylin-vr/code-BUILD.bin',
  '-rwxr-xr-x /usr/lib/kylin-vr/lib/ld-linux-x86-64.so.2',
  ...['libc.so.6', 'libdl.so.2', 'libgcc_s.so.1', 'libm.so.6', 'libpthread.so.0', 'libstdc++.so.6'].map(
    (name) => `-rw-r--r-- /usr/lib/kylin-vr/lib/${name}`,
  ),
  '-rwxr-xr-x /usr/lib/kylin-vr/node',
  'drwxr-xr-x /usr/lib/kylin-vr/lib',
];

describe('the packages', () => {
  it('hold what install puts on a guest, the program and its documents', async () => {
    const expected = [...PACKED, ...ALSO].sort();
    assert.deepEqual(common(await inDeb(deb.plain)), expected);
    assert.deepEqual(common(await inRpm(rpm.plain)), expected);
    assert.deepEqual(common(await inDeb(deb.standalone)), [...expected, ...PRIVATE_NODE].sort());
    assert.deepEqual(common(await inRpm(rpm.standalone)), [...expected, ...PRIVATE_NODE].sort());
  });

  it('hold licence, changes, README and manual in both languages, and a completion for zsh', async () => {
    const has = (entries: readonly string[], path: string) =>
      assert.ok(entries.includes(`-rw-r--r-- ${path}`), `${path} in\n${entries.join('\n')}`);
    for (const name of ['kylin-vr', 'kylin-vr-standalone']) {
      const inside = await inDeb(name === 'kylin-vr' ? deb.plain : deb.standalone);
      for (const file of [...READ, 'changelog.gz', 'changelog.Debian.gz', 'copyright'])
        has(inside, `/usr/share/doc/${name}/${file}`);
      has(inside, '/usr/share/zsh/vendor-completions/_kylin-vr');
      const installed = await inRpm(name === 'kylin-vr' ? rpm.plain : rpm.standalone);
      for (const file of [...READ, 'CHANGELOG.md']) has(installed, `/usr/share/doc/${name}/${file}`);
      for (const file of ['LICENSE', 'copyright']) has(installed, `/usr/share/licenses/${name}/${file}`);
      has(installed, '/usr/share/zsh/site-functions/_kylin-vr');
    }
  });

  it('hold documents whose links lead somewhere', async () => {
    const unpackers = { deb: 'dpkg-deb --fsys-tarfile "$1" | tar -x', rpm: 'rpm2archive - < "$1" | tar -xz' };
    for (const [format, built] of Object.entries({ deb, rpm }) as ['deb' | 'rpm', Built][])
      for (const [name, file] of [
        ['kylin-vr', built.plain],
        ['kylin-vr-standalone', built.standalone],
      ] as const) {
        const root = join(folder, `${format}-${name}`);
        mkdirSync(root);
        const script = `cd "$2"; ${unpackers[format]} --wildcards './usr/share/doc/*'`;
        await command(['bash', '--norc', '-eo', 'pipefail', '-c', script, 'bash', file, root]);
        const { links, dead } = deadLinks(join(root, 'usr/share/doc', name));
        assert.ok(links >= 60, `${links} links`);
        assert.deepEqual(dead, [], file);
      }
  });

  it('the deb depends on Node 20 and the tools; the standalone one on the tools alone', async () => {
    const field = async (file: string, name: string) => (await command(['dpkg-deb', '--field', file, name])).trim();
    assert.equal(await field(deb.plain, 'Depends'), 'nodejs (>= 20), iproute2, iptables, conntrack, iputils-arping');
    assert.equal(await field(deb.plain, 'Architecture'), 'all');
    assert.equal(await field(deb.plain, 'Conflicts'), 'kylin-vr-standalone');
    assert.equal(await field(deb.standalone, 'Depends'), 'iproute2, iptables, conntrack, iputils-arping');
    assert.notEqual(await field(deb.standalone, 'Architecture'), 'all');
    assert.match(await field(deb.standalone, 'Provides'), /^kylin-vr \(= /);
    for (const name of ['Conflicts', 'Replaces']) assert.equal(await field(deb.standalone, name), 'kylin-vr');
  });

  it('the rpm depends on Node 20, whatever its epoch, and the tools; the standalone one replaces 0.1', async () => {
    const query = async (file: string, what: string) => lines(await command(['rpm', '-qp', `--${what}`, file]));
    const requires = await query(rpm.plain, 'requires');
    for (const each of ['iproute', 'iptables', 'conntrack-tools', 'iputils']) assert.ok(requires.includes(each), each);
    assert.ok(requires.includes('(nodejs(engine) >= 20 or nodejs >= 2:20)'), requires.join('\n'));
    const standalone = await query(rpm.standalone, 'requires');
    assert.ok(!standalone.some((each) => /node/.test(each)), standalone.join('\n'));
    assert.ok(!standalone.some((each) => /\.so|^rtld/.test(each)), standalone.join('\n'));
    assert.ok(!(await query(rpm.standalone, 'provides')).some((each) => /\.so/.test(each)));
    assert.deepEqual(await query(rpm.standalone, 'obsoletes'), ['kylin-vr < 1']);
    assert.deepEqual(await query(rpm.standalone, 'conflicts'), ['kylin-vr']);
    assert.match((await command(['rpm', '-qp', '--queryformat', '%{ARCH}', rpm.plain])).trim(), /^noarch$/);
  });

  it('rpmlint finds no error', async () => {
    const config = join(REPOSITORY, 'packaging/rpmlint.toml');
    const said = await command(['rpmlint', '-c', config, rpm.plain, rpm.standalone]);
    assert.match(said, / 0 errors,/);
  });

  it('man reads the pages without a complaint', async () => {
    for (const { name, section, text } of manPages('1.0.0', '2026-01-01')) {
      const page = join(folder, `${name}.${section}`);
      await command(['sh', '-c', 'printf %s "$1" > "$2"', 'sh', text, page]);
      assert.equal((await command(['groff', '-man', '-ww', '-W', 'break', '-z', '-Tutf8', page])).trim(), '');
      const shown = await command(['sh', '-c', 'groff -man -Tutf8 "$1" | sed "s/\\x1b\\[[0-9;]*m//g"', 'sh', page]);
      assert.match(shown, new RegExp(`${name.toUpperCase()}\\(${section}\\)`));
    }
  });

  it('come out the same again, at another time and place, with another umask', async () => {
    mkdirSync(join(folder, 'tmp'));
    const out = join(folder, 'two');
    const elsewhere = { TMPDIR: join(folder, 'tmp'), TZ: 'Asia/Shanghai', LC_ALL: 'C.UTF-8' };
    await command(['sh', '-c', 'umask 077; exec "$@"', 'sh', ...packing('--out', out)], elsewhere);
    for (const file of [...Object.values(deb), ...Object.values(rpm)])
      assert.ok(readFileSync(file).equals(readFileSync(join(out, basename(file)))), `${file} is not what it was`);
  });

  it('lintian finds no error', async () => assert.doesNotMatch(await lintian, /^E:/m));
});
