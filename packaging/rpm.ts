// The rpm, by rpmbuild.

import { mkdirSync, readdirSync, renameSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { packagesOf } from '../src/base/tools.ts';
import { contentsOf, dateOf, docFolder, type Flavour, PACKAGER, type Release } from './contents.ts';
import { DESCRIPTIONS, script } from './package-texts.ts';
import { type Content, run, stage } from './stage.ts';

/** Gives the file that it made. */
export function buildRpm(flavour: Flavour, release: Release, work: string, out: string): string {
  const top = join(work, `${flavour}-rpm`);
  const staged = join(top, 'stage');
  const contents = contentsOf('rpm', flavour, release);
  stage(staged, contents, release.epoch);
  const spec = join(top, `${flavour}.spec`);
  writeFileSync(spec, specText(flavour, release, contents, staged));
  const results = join(top, 'rpms');
  mkdirSync(results, { recursive: true });
  const defines = {
    _topdir: top,
    _rpmdir: results,
    _build_name_fmt: '%%{NAME}-%%{VERSION}-%%{RELEASE}.%%{ARCH}.rpm',
    // The same bytes from every machine and at any time.
    _buildhost: 'localhost',
    use_source_date_epoch_as_buildtime: '1',
    clamp_mtime_to_source_date_epoch: '1',
    // Read by every rpm since 4.4, and twice as quick as xz -1.
    _binary_payload: 'w6.gzdio',
    // EL 8 knows no newer ones.
    _source_filedigest_algorithm: '8',
    _binary_filedigest_algorithm: '8',
    // Everything is as it is to be.
    __os_install_post: '%{nil}',
    debug_package: '%{nil}',
    _build_id_links: 'none',
  };
  run(
    'rpmbuild',
    [
      '-bb',
      ...['--target', flavour === 'kylin-vr' ? 'noarch' : run('uname', ['-m']).trim()],
      ...Object.entries(defines).flatMap(([name, value]) => ['--define', `${name} ${value}`]),
      spec,
    ],
    { SOURCE_DATE_EPOCH: String(release.epoch) },
  );
  const [name] = readdirSync(results);
  if (name === undefined) throw new Error(`rpmbuild made nothing in ${results}`);
  renameSync(join(results, name), join(out, name));
  return join(out, name);
}

function specText(flavour: Flavour, release: Release, contents: readonly Content[], staged: string): string {
  const { summary, paragraphs } = DESCRIPTIONS[flavour];
  const scripts = { pre: 'before', posttrans: 'after', preun: 'remove', postun: 'removed' } as const;
  const day = dateOf(release)
    .toUTCString()
    .replace(/^(\w+), (\d+) (\w+) (\d+).*/, '$1 $3 $2 $4');
  return `Name: ${flavour}
Version: ${release.version}
Release: 1
Summary: ${summary.replace(/^./, (first) => first.toUpperCase())}
License: Apache-2.0 AND MIT AND ISC AND BlueOak-1.0.0
Group: System Environment/Base
Packager: ${PACKAGER}
${relations(flavour)}Recommends: python2
${[...packagesOf('rpm'), 'logrotate'].map((tool) => `Requires: ${tool}\n`).join('')}
%description
${paragraphs.map((lines) => lines.join('\n')).join('\n\n')}

%install
mkdir -p %{buildroot}
cp -a ${staged}/. %{buildroot}/

${Object.entries(scripts)
  .map(([section, name]) => `%${section}\n${script(name).replaceAll('%', '%%')}`)
  .join('\n')}
%files
${foldersOf(flavour)
  .map((path) => `%dir %attr(0755,root,root) ${path}`)
  .join('\n')}
${contents.map((content) => fileLine(flavour, content)).join('\n')}

%changelog
* ${day} ${PACKAGER} - ${release.version}-1
- Version ${release.version}: CHANGELOG.md has what is new.
`;
}

/** Ours alone: they go with the package. */
const foldersOf = (flavour: Flavour): string[] => [
  '/usr/lib/kylin-vr',
  docFolder(flavour),
  `${docFolder(flavour)}/docs`,
  `/usr/share/licenses/${flavour}`,
];

function relations(flavour: Flavour): string {
  // nodejs of EL has epoch 1 and that of NodeSource epoch 2: to rpm, 1:10 is more than 20. The other name has none.
  if (flavour === 'kylin-vr')
    return 'Requires: (nodejs(engine) >= 20 or nodejs >= 2:20)\nConflicts: kylin-vr-standalone\n';
  // What the private Node is linked with is found by rpmbuild: it keeps this off guests whose glibc is too old.
  return 'Provides: kylin-vr = %{version}-%{release}\nConflicts: kylin-vr\nObsoletes: kylin-vr < 1\n';
}

function fileLine(flavour: Flavour, content: Content): string {
  const { kind, path } = content;
  if (kind === 'link') return path;
  const attributes = `%attr(${content.mode.toString(8).padStart(4, '0')},root,root)`;
  if (kind === 'folder') return `%dir ${attributes} ${path}`;
  if (path.startsWith('/etc/')) return `%config(noreplace) ${attributes} ${path}`;
  if (path.startsWith('/usr/share/licenses/')) return `%license ${attributes} ${path}`;
  return `${path.startsWith(`${docFolder(flavour)}/`) ? '%doc ' : ''}${attributes} ${path}`;
}
