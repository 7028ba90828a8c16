// The packages as `npm run package` makes them, and packages to try them beside, all in folders that go with the tests.

import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdirSync, mkdtempSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { machine, tmpdir } from 'node:os';
import { basename, dirname, join, resolve } from 'node:path';
import { text } from 'node:stream/consumers';
import { after } from 'node:test';

export const REPOSITORY = resolve(import.meta.dirname, '../..');

export type Built = { plain: string; standalone: string };

/** A folder that goes when the tests of the file are done. */
export function temporary(): string {
  const folder = mkdtempSync(join(tmpdir(), 'kylin-vr-packages-'));
  after(() => rmSync(folder, { recursive: true, force: true }));
  return folder;
}

/** What packs dist/kylin-vr.js as it is. */
export const packing = (...args: string[]) => [process.execPath, '--import', 'tsx', 'packaging/package.ts', ...args];

/** Both flavours, for this machine. */
export async function build(format: 'deb' | 'rpm', out: string): Promise<Built> {
  await command(packing('--format', format, '--arch', 'noarch', '--arch', machine(), '--out', out));
  const names = readdirSync(out).filter((name) => name.endsWith(`.${format}`));
  const [standalone = '', plain = ''] = ['kylin-vr-standalone', 'kylin-vr'].map((flavour) =>
    names.find(
      (name) => !name.includes('.el7.') && name.startsWith(flavour) && /^[-_]\d/.test(name.slice(flavour.length)),
    ),
  );
  return { plain: join(out, plain), standalone: join(out, standalone) };
}

/** Gives what it printed, on both streams. */
export async function command(argv: readonly string[], env: Record<string, string> = {}): Promise<string> {
  const [program = '', ...args] = argv;
  const child = spawn(program, args, { cwd: REPOSITORY, env: { ...process.env, LC_ALL: 'C', ...env } });
  const [stdout, stderr, [status]] = await Promise.all([text(child.stdout), text(child.stderr), once(child, 'close')]);
  if (status !== 0) throw new Error(`${argv.join(' ')}: status ${status}\n${stdout}${stderr}`);
  return stdout + stderr;
}

type Stub = {
  name: string;
  version: string;
  provides?: readonly string[];
  files?: Readonly<Record<string, string>>;
  scripts?: string;
};

/** An rpm that is there for its name, what it provides and its files (0644); `scripts`: as a spec has them. */
export async function stubRpm(
  folder: string,
  { name, version, provides = [], files = {}, scripts = '' }: Stub,
): Promise<string> {
  const top = join(folder, `${name}-${version}`);
  for (const [path, content] of Object.entries(files)) {
    mkdirSync(join(top, 'stage', path, '..'), { recursive: true });
    writeFileSync(join(top, 'stage', path), content);
  }
  mkdirSync(join(top, 'stage'), { recursive: true });
  const spec = join(top, 'stub.spec');
  writeFileSync(
    spec,
    `Name: ${name}
Version: ${version}
Release: 1
Summary: A stub
License: none
AutoReqProv: no
${provides.map((each) => `Provides: ${each}\n`).join('')}
%description
A stub.

%install
mkdir -p %{buildroot}
cp -a ${top}/stage/. %{buildroot}/

${scripts}
%files
${Object.keys(files).join('\n')}
`,
  );
  const defines = [
    '--define',
    `_topdir ${top}`,
    '--define',
    `_rpmdir ${folder}`,
    '--define',
    '_build_name_fmt %%{NAME}-%%{VERSION}.rpm',
  ];
  await command(['rpmbuild', '-bb', '--target', 'noarch', ...defines, '--define', '__os_install_post %{nil}', spec]);
  return join(folder, `${name}-${version}.rpm`);
}

/** A deb that is there for its name, version and files. */
export async function stubDeb(
  folder: string,
  name: string,
  version: string,
  files: Readonly<Record<string, string>> = {},
): Promise<string> {
  const top = join(folder, name);
  mkdirSync(join(top, 'DEBIAN'), { recursive: true });
  for (const [path, content] of Object.entries(files)) {
    mkdirSync(dirname(join(top, path)), { recursive: true });
    writeFileSync(join(top, path), content);
  }
  const control = {
    Package: name,
    Version: version,
    Architecture: 'all',
    Maintainer: 'nobody <nobody@lists.invalid>',
    Description: 'a stub',
  };
  writeFileSync(
    join(top, 'DEBIAN/control'),
    Object.entries(control)
      .map(([key, value]) => `${key}: ${value}\n`)
      .join(''),
  );
  const file = join(folder, `${basename(top)}_${version}.deb`);
  await command(['dpkg-deb', '--root-owner-group', '--build', top, file]);
  return file;
}
