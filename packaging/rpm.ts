// The rpm, by rpmbuild.

import { mkdirSync, readdirSync, renameSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { packagesOf } from '../src/base/tools.ts';
import {
  contentsOf,
  dateOf,
  docFolder,
  type Flavour,
  flavourOf,
  PACKAGER,
  type Release,
  type Target,
} from './contents.ts';
import { DESCRIPTIONS, script } from './package-texts.ts';
import { hasLibraries, LIB } from './runtime.ts';
import { type Content, run, stage } from './stage.ts';

/** Gives the file that it made. */
export function buildRpm(target: Target, release: Release, work: string, out: string): string {
  const flavour = flavourOf(target);
  const top = join(work, `${flavour}-${target.architecture}${target.el7 ? '-el7' : ''}-rpm`);
  const staged = join(top, 'stage');
  const contents = contentsOf('rpm', target, release);
  stage(staged, contents, release.epoch);
  const spec = join(top, `${flavour}.spec`);
  writeFileSync(spec, specText(target, release, contents, staged));
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
      ...['--target', target.architecture],
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

function specText(target: Target, release: Release, contents: readonly Content[], staged: string): string {
  const flavour = flavourOf(target);
  const { summary, paragraphs } = DESCRIPTIONS[flavour];
  const scripts = { pre: 'before', posttrans: 'after', preun: 'remove', postun: 'removed' } as const;
  const day = dateOf(release)
    .toUTCString()
    .replace(/^(\w+), (\d+) (\w+) (\d+).*/, '$1 $3 $2 $4');
  return `Name: ${flavour}
Version: ${release.version}
Release: ${releaseOf(target)}
Summary: ${summary.replace(/^./, (first) => first.toUpperCase())}
License: Apache-2.0 AND MIT AND ISC AND BlueOak-1.0.0${
    target.architecture !== 'noarch' && hasLibraries(target.architecture)
      ? ' AND LGPL-2.1-or-later AND GPL-3.0-or-later WITH GCC-exception-3.1'
      : ''
  }
Group: System Environment/Base
Packager: ${PACKAGER}
${[...relations(target), ...forOldClients(target), ...modulesOf(target)].join('\n')}
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
* ${day} ${PACKAGER} - ${release.version}-${releaseOf(target)}
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

const releaseOf = ({ el7 }: Target): string => (el7 ? '1.el7' : '1');

function relations({ architecture }: Target): string[] {
  // nodejs of EL has epoch 1 and that of NodeSource epoch 2: to rpm, 1:10 is more than 20. The other name has none.
  if (architecture === 'noarch')
    return ['Requires: (nodejs(engine) >= 20 or nodejs >= 2:20)', 'Conflicts: kylin-vr-standalone'];
  const replaces = ['Provides: kylin-vr = %{version}-%{release}', 'Conflicts: kylin-vr', 'Obsoletes: kylin-vr < 1'];
  // Elsewhere rpmbuild finds what Node is linked with: it keeps this off guests whose C library is too old.
  if (!hasLibraries(architecture)) return replaces;
  const excluded = ['requires', 'provides'].map((what) => `%global __${what}_exclude_from ^${LIB}/(lib/|node$)`);
  return [...replaces, ...excluded];
}

/** Who calls kylin-vr.py calls it by python2. rpm 4.11 knows no weak dependency. */
const forOldClients = ({ el7 }: Target): string[] => [`${el7 ? 'Requires' : 'Recommends'}: python2`];

/**
 * From EL 10 on the modules that iptables-nft needs are in a package of their own, of which one name follows the kernel at each update;
 * kernels that are packed otherwise have it by the name of their release. A container has no kernel.
 */
const modulesOf = ({ el7 }: Target): string[] =>
  el7 ? [] : ['Requires: ((kernel-modules-extra-matched or kernel-modules-extra-uname-r) if kernel-core >= 6.11)'];

function fileLine(flavour: Flavour, content: Content): string {
  const { kind, path } = content;
  if (kind === 'link') return path;
  const attributes = `%attr(${content.mode.toString(8).padStart(4, '0')},root,root)`;
  if (kind === 'folder') return `%dir ${attributes} ${path}`;
  if (path.startsWith('/etc/')) return `%config(noreplace) ${attributes} ${path}`;
  if (path.startsWith('/usr/share/licenses/')) return `%license ${attributes} ${path}`;
  return `${path.startsWith(`${docFolder(flavour)}/`) ? '%doc ' : ''}${attributes} ${path}`;
}
