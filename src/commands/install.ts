// `install`: puts units, udev rule, settings and program on this guest, or into the image below --root, and opens the guest
// agent's calls. Leaves the running network alone; what it changed is recorded, and `uninstall` takes it back.

import { basename, dirname, join, resolve } from 'node:path';
import { CommandError, type ExitStatus, NotNowError, UnsupportedError, UsageError } from '../base/errors.ts';
import { PATHS } from '../base/paths.ts';
import { isTool, packageOf, TOOLS } from '../base/tools.ts';
import { shown } from '../base/visible.ts';
import { openCalls, QEMU_GA_FILES } from '../dialects/qemu-ga.ts';
import { outOfSupport } from '../installation/node.ts';
import { obstacleOf, planInstall, type Recorded, recordOf } from '../installation/plan.ts';
import { OLD_SETTINGS, withoutOldSettings } from '../installation/settings.ts';
import {
  ABSENT,
  CONFIG_TEMPLATE,
  contentOf,
  enablingLinks,
  FILES,
  FIREWALLD_POLICY,
  firstLine,
  LEFTOVERS,
  PROGRAM,
  type TreeEntry,
  textOf,
  UNIT_FOLDER,
  UNIT_PATH,
  type Wanted,
} from '../installation/tree.ts';
import { foldersFor, ONLY_OLD, parseSystemd, textFor, type UnitSet, unitSetFor } from '../installation/units.ts';
import type { Host } from '../machine/host.ts';
import { missingModules } from '../machine/modules.ts';
import { oldClientsHint } from '../machine/old-clients.ts';
import { payload } from '../machine/payload.ts';
import { carryOut, readEntry, readFolder, readRecord, type Tree, treeOf, writeRecord } from '../machine/tree.ts';
import { isActive, Progress, takeUp } from './changes.ts';
import { type Context, type GlobalOptions, needRoot } from './context.ts';

export type InstallOptions = GlobalOptions & { root?: string; firewalld: boolean; now: boolean };

export async function install(context: Context, options: InstallOptions): Promise<ExitStatus> {
  needRoot(context, 'install');
  const host = context.host();
  const root = await rootOf(host, options.root);
  const live = root === '/';
  if (!live && options.now) throw new UsageError('--now is for the running system: an image has none');
  const progress = new Progress(context, options);

  const tree = await treeOf(host, root);
  const lacking = live ? await lackingTools(host, tree) : await missingFromImage(tree);
  if (live && lacking.length > 0) throw new UnsupportedError(`nothing was installed: ${lacking.join('; ')}`);
  for (const message of lacking) progress.warn(message);
  const missing = live ? await missingModules(host) : undefined;
  if (missing !== undefined) progress.warn(missing);
  const ended = live ? outOfSupport(process.version, new Date()) : undefined;
  if (ended !== undefined) progress.warn(ended);

  const record = (await readRecord(tree)) ?? [];
  const units = live ? await unitsOf(host) : await unitsOfImage(tree);
  const wanted = withFolders(await wantedOn(context, tree, units, options, record, progress));
  const observed = new Map<string, TreeEntry>();
  for (const { path, entry } of wanted)
    observed.set(path, await (entry.kind === 'folder' ? readFolder : readEntry)(tree, path));
  const changes = planInstall(wanted, observed);
  const obstacles = changes.flatMap((change) => obstacleOf(change) ?? []);
  if (obstacles.length > 0)
    throw new NotNowError(`nothing was installed${live ? '' : ` in ${root}`}: ${obstacles.join('; ')}`);
  if (changes.length > 0) {
    // The record goes first: an installation that was killed can be taken back too. Only its own folder comes before it.
    const early = changes.filter(({ path }) => PATHS.installed.startsWith(`${path}/`));
    for (const change of early) await carryOut(tree, change);
    await writeRecord(tree, recordOf(changes, record));
    for (const change of changes) {
      if (!early.includes(change)) await carryOut(tree, change);
      progress.changed(change);
    }
  }
  if (live) {
    await takeUp(host, progress, changes);
    await takeUpUnits(
      host,
      progress,
      options,
      changes.some(({ path }) => path.startsWith(`${UNIT_FOLDER}/`)),
    );
  }
  const status = progress.finish('install');
  const hint = await oldClientsHint(tree);
  if (changes.length > 0 && hint !== undefined && !options.json) context.stdout(shown`note: ${hint}\n`);
  if (changes.length > 0 && !options.now && !options.json) context.stdout(shown`${await whenOf(host, live)}\n`);
  return status;
}

async function whenOf(host: Host, live: boolean): Promise<string> {
  if (!live) return 'kylin-vr takes effect when the image boots';
  const runs = (await host.info('/run/systemd/system')) !== undefined && (await isActive(host, 'kylin-vr.service'));
  return runs
    ? 'kylin-vr is at work: what has changed takes effect with its next run, within a minute'
    : 'kylin-vr takes effect with the next boot, or now with: systemctl start kylin-vr';
}

export async function rootOf(host: Host, root: string | undefined): Promise<string> {
  if (root === undefined) return '/';
  if (!(await host.info(root))?.directory) throw new UsageError(`--root must be the folder of an image, is ${root}`);
  return resolve(root);
}

async function takeUpUnits(host: Host, progress: Progress, options: InstallOptions, changed: boolean): Promise<void> {
  if ((await host.info('/run/systemd/system')) === undefined) {
    if (options.now)
      progress.warn('systemd does not run here: nothing was started; kylin-vr reload applies the configuration');
    return;
  }
  const service = 'kylin-vr.service';
  if (options.now && !(await isActive(host, service))) await progress.run(host, 'systemctl', 'start', service);
  else if (changed && (await isActive(host, service)))
    await progress.run(host, 'systemctl', 'try-restart', 'kylin-vr-reload.path', 'kylin-vr-reload.timer');
  if ((options.now || changed) && (await isActive(host, service)) && (await isActive(host, 'firewalld.service')))
    await progress.run(host, 'systemctl', 'restart', 'kylin-vr-firewalld.service');
}

async function wantedOn(
  context: Context,
  tree: Tree,
  set: UnitSet,
  options: InstallOptions,
  record: readonly Recorded[],
  progress: Progress,
): Promise<Wanted[]> {
  const read = (path: string) => readEntry(tree, path);
  const recorded = (path: string) => record.some((entry) => entry.path === path);
  const file = (path: string, mode: number, text: string | Uint8Array): Wanted => ({
    path,
    entry: { kind: 'file', content: contentOf(text), mode },
  });
  const wanted: Wanted[] = FILES.map(({ path, mode, source }) =>
    file(path, mode, textFor(set, source, payload[source])),
  );
  wanted.push(...foldersFor(set));

  const program = await read(PROGRAM);
  if (context.program === undefined) {
    if (program.kind === 'absent')
      progress.warn(`${PROGRAM} is missing: this runs from the sources, npm run build first`);
  } else if (program.kind === 'absent' || recorded(PROGRAM)) {
    // In a package it names the Node of the package.
    const text = context.program().replace(/^#!.*/, firstLine('node'));
    wanted.push({ path: PROGRAM, entry: { kind: 'file', content: text, mode: 0o755 } });
  }

  // In place of a configuration that was lost it would be an order to take the network down.
  const fresh = (await read(PATHS.config)).kind === 'absent' && (await read(PATHS.lastGood)).kind === 'absent';
  if (fresh) wanted.push(file(PATHS.config, 0o600, payload[CONFIG_TEMPLATE]));

  for (const { path, is01 } of LEFTOVERS) {
    const entry = await read(path);
    if (entry.kind === 'file' && is01(textOf(entry.content))) wanted.push({ path, entry: ABSENT, reason: 'of 0.1' });
    else if (entry.kind === 'link' && entry.target === '/dev/null')
      progress.warn(`${path} masks the unit, and nothing starts: remove that link`);
    else if (entry.kind !== 'absent')
      progress.warn(
        `${path} stands in for ours, which has no effect: take it away, or mend it by what is below /usr/lib`,
      );
  }
  wanted.push(...(await withoutSettings(tree)));
  const units = FILES.filter(({ path }) => dirname(path) === UNIT_FOLDER);
  const links = enablingLinks(Object.fromEntries(units.map(({ path, source }) => [basename(path), payload[source]])));
  for (const { path, target } of links) wanted.push({ path, entry: { kind: 'link', target } });

  for (const path of QEMU_GA_FILES) {
    const entry = await read(path);
    if (entry.kind === 'other') progress.warn(`${path} ${entry.what}: it is left as it is`);
    if (entry.kind !== 'file') continue;
    const { text, opened } = openCalls(textOf(entry.content));
    if (opened.length > 0)
      wanted.push({ ...file(path, entry.mode, text), reason: `opened for the host: ${opened.join(', ')}` });
  }
  if (await isThere(tree, ['qemu-ga'])) await warnOfSelinux(tree, progress);

  if (await isThere(tree, ['firewalld'])) {
    // Policies came with firewalld 0.9, and with them this folder.
    const policies = (await readFolder(tree, '/usr/lib/firewalld/policies')).kind === 'folder';
    if (options.firewalld && policies)
      wanted.push(file(FIREWALLD_POLICY, 0o644, payload['packaging/firewalld-policy.xml']));
    else if (!policies)
      progress.warn(
        'firewalld before 0.9 has no policies: what this router forwards passes only between NICs of a zone that accepts ' +
          'it: firewall-cmd --permanent --zone=trusted --add-interface=NIC for each, then firewall-cmd --reload',
      );
    else if ((await read(FIREWALLD_POLICY)).kind === 'absent')
      progress.warn(
        `firewalld is here, and where it runs nothing is forwarded without a policy: kylin-vr install --firewalld makes one (${FIREWALLD_POLICY})`,
      );
  } else if (options.firewalld) progress.warn('firewalld is not here: install it first, or leave --firewalld out');
  return wanted;
}

async function unitsOf(host: Host): Promise<UnitSet> {
  if ((await host.which('systemctl')) === undefined) return 'today';
  return unitSetFor(parseSystemd((await host.run(['systemctl', '--version'])).stdout));
}

async function unitsOfImage(tree: Tree): Promise<UnitSet> {
  for (const path of ONLY_OLD) if ((await tree.info(path)) !== undefined) return '219';
  return 'today';
}

/** What `start` sets now. What an operator has written beside it is his, and ours does not come back to it when we go. */
async function withoutSettings(tree: Tree): Promise<Wanted[]> {
  const wanted: Wanted[] = [];
  for (const path of OLD_SETTINGS) {
    const entry = await readEntry(tree, path);
    if (entry.kind !== 'file') continue;
    const left = withoutOldSettings(entry.content);
    if (left === entry.content) continue;
    const reason = 'kylin-vr start sets ip_forward and disable_ipv6';
    const forGood = left !== '' || path.startsWith('/usr/');
    wanted.push({
      path,
      entry: left === '' ? ABSENT : { ...entry, content: left },
      reason,
      ...(forGood && { forGood }),
    });
  }
  return wanted;
}

/** Each with the folders that it is in; those of ours are nobody else's. */
function withFolders(wanted: readonly Wanted[]): Wanted[] {
  const placed = new Map<string, Wanted>();
  const add = (path: string) => {
    if (path === '/' || placed.has(path)) return;
    add(dirname(path));
    const mode = [dirname(PATHS.config), PATHS.lib].includes(path) ? 0o700 : 0o755;
    placed.set(path, { path, entry: { kind: 'folder', mode } });
  };
  add(dirname(PATHS.installed));
  add(dirname(PATHS.config));
  for (const one of wanted) {
    if (one.entry.kind !== 'absent') add(dirname(one.path));
    placed.set(one.path, one);
  }
  return [...placed.values()];
}

const NO_NODE = `node is not in ${UNIT_PATH.join(':')}, where units look for it: install Node 20, or link it there`;

/** What is missing on this machine, or too old: without it no configuration could be applied. */
async function lackingTools(host: Host, tree: Tree): Promise<string[]> {
  const lacking: string[] = [];
  for (const command of Object.keys(TOOLS).filter(isTool))
    if ((await host.which(command)) === undefined) lacking.push(`${command} is missing: install ${packageOf(command)}`);
  const refuses = (argv: [string, ...string[]]) =>
    host.run(argv).then(
      () => false,
      (error: unknown) => {
        if (error instanceof CommandError) return true;
        throw error;
      },
    );
  if (
    (await host.which('ip')) &&
    (await refuses(['ip', '-json', 'link', 'show', 'dev', 'lo'])) &&
    !(await saysLinks(host))
  )
    lacking.push(
      `iproute2 is too old (${await firstWords(host, ['ip', '-V'])}): it knows no -json, which came with 4.18, and what it prints is not as that of 4.11`,
    );
  // Not by the version: EL 7's 1.4.21 knows the option.
  if (
    (await host.which('iptables-restore')) &&
    (await refuses(['iptables-restore', '--wait', '1', '--test', '--noflush']))
  ) {
    const version = await firstWords(host, ['iptables-restore', '--version']);
    lacking.push(
      `iptables is too old (${version}): iptables-restore knows no --wait, which came with 1.6.2, and with the 1.4.21 of EL 7`,
    );
  }
  if (!(await hasNode(tree))) lacking.push(NO_NODE);
  return lacking;
}

/** As it is read where -json is unknown. */
async function saysLinks(host: Host): Promise<boolean> {
  return /^\d+: lo: <.*\\/m.test(await wordsOf(host, ['ip', '-o', '-d', 'link', 'show', 'dev', 'lo']));
}

async function missingFromImage(tree: Tree): Promise<string[]> {
  const missing: string[] = [];
  for (const command of Object.keys(TOOLS).filter(isTool))
    if (!(await isThere(tree, [command])))
      missing.push(`${command} is missing in the image: install ${packageOf(command)}`);
  if (!(await hasNode(tree))) missing.push(`in the image ${NO_NODE}`);
  return missing;
}

/** The program of a package names its Node in its first line, that of EL 7 in its second; any other finds it in the PATH. */
async function hasNode(tree: Tree): Promise<boolean> {
  const head = ((await tree.read(PROGRAM)) ?? '').slice(0, 256);
  const [, named] = /^#!(?:.*\n?.*\s)?(\/\S*\/node)(?:\s|$)/.exec(head) ?? [];
  return named === undefined ? isThere(tree, ['node'], UNIT_PATH) : (await tree.info(named)) !== undefined;
}

const wordsOf = async (host: Host, argv: [string, ...string[]]): Promise<string> =>
  (await host.run(argv, { accept: [1, 2, 255] })).stdout;

const firstWords = async (host: Host, argv: [string, ...string[]]): Promise<string> =>
  (await wordsOf(host, argv)).split('\n')[0] ?? '';

async function isThere(
  tree: Tree,
  commands: readonly string[],
  folders: readonly string[] = ['/usr/sbin', '/usr/bin', '/sbin', '/bin'],
): Promise<boolean> {
  for (const folder of folders)
    for (const command of commands) if ((await tree.info(join(folder, command))) !== undefined) return true;
  return false;
}

/** SELinux confines the agent. What it needs is said, not done: a policy is the operator's. */
async function warnOfSelinux(tree: Tree, progress: Progress): Promise<void> {
  const on =
    tree.root === '/'
      ? (await tree.info('/sys/fs/selinux/enforce')) !== undefined
      : /^SELINUX=(enforcing|permissive)/m.test((await tree.read('/etc/selinux/config')) ?? '');
  if (!on) return;
  progress.warn(
    [
      'SELinux confines the guest agent (virt_qemu_ga_t). For the host to write the configuration and run kylin-vr through it:',
      "  semanage fcontext -a -t virt_qemu_ga_data_t '/etc/kylin-vr(/.*)?' && restorecon -R /etc/kylin-vr",
      `  semanage fcontext -a -t virt_qemu_ga_unconfined_exec_t ${PROGRAM} && restorecon ${PROGRAM}`,
      '  setsebool -P virt_rw_qemu_ga_data on',
      '  setsebool -P virt_qemu_ga_run_unconfined on    # where the policy has it: EL 9',
    ].join('\n'),
  );
}
