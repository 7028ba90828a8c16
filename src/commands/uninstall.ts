// `uninstall`: takes back what `install` did. The configuration stays, and the running network too unless --flush.

import { basename, dirname, join } from 'node:path';
import { AgentError, EXIT, type ExitStatus, LockedError, UsageError } from '../base/errors.ts';
import { PATHS } from '../base/paths.ts';
import { shown } from '../base/visible.ts';
import { parseConfig } from '../config/parse.ts';
import { type Change, planUninstall } from '../installation/plan.ts';
import { ABSENT, enablingLinks, FILES, type TreeEntry, UNIT_FOLDER } from '../installation/tree.ts';
import { forgetHistory } from '../machine/history.ts';
import type { Host } from '../machine/host.ts';
import { describeHolder, withLock } from '../machine/lock.ts';
import { payload } from '../machine/payload.ts';
import { readPending, removePending } from '../machine/pending.ts';
import { takeProfilesBack } from '../machine/profiles.ts';
import { carryOut, readEntry, readRecord, type Tree, treeOf } from '../machine/tree.ts';
import { describe } from '../network/kinds.ts';
import { converge } from '../run/converge.ts';
import { chooseRenderer } from '../run/survey.ts';
import { Progress, takeUp } from './changes.ts';
import { type Context, type GlobalOptions, needRoot } from './context.ts';
import { rootOf } from './install.ts';
import { watched } from './progress.ts';

export type UninstallOptions = GlobalOptions & { root?: string; flush: boolean };

const UNITS = [
  'kylin-vr.service',
  'kylin-vr-reload.path',
  'kylin-vr-reload.timer',
  'kylin-vr-reload.service',
  'kylin-vr-firewalld.service',
  'kylin-vr-mark.service',
] as const;

export async function uninstall(context: Context, options: UninstallOptions): Promise<ExitStatus> {
  needRoot(context, 'uninstall');
  const host = context.host();
  const root = await rootOf(host, options.root);
  const live = root === '/';
  if (!live && options.flush) throw new UsageError('--flush is for the running network: an image has none');
  // With the program gone nobody could take it back.
  if (live && (await readPending(host)) !== undefined)
    throw new LockedError('a change waits for its confirmation: first kylin-vr confirm, or kylin-vr rollback');
  const progress = new Progress(context, options);
  const tree = await treeOf(host, root);
  const record = await readRecord(tree);

  const changes = await wayBack(tree, record ?? [], progress);
  const systemd = live && (await host.info('/run/systemd/system')) !== undefined;
  // Before anything else: the timer would put the network back, and a unit without its file cannot be told to stop.
  if (systemd && (changes.length > 0 || options.flush)) await stopUnits(host, progress);
  if (options.flush) {
    const failure = await flush(context, options, progress);
    if (failure !== undefined) throw failure;
  }

  if (live)
    await takeProfilesBack(host, (kind, path) =>
      progress.done(
        kind,
        kind === 'remove-file' ? describe({ kind, path }) : `+ file ${path} (as it was before kylin-vr)`,
      ),
    );
  const holdsRecord = ({ path }: Change) => PATHS.installed.startsWith(`${path}/`);
  for (const change of changes.filter((change) => !holdsRecord(change)))
    if (await carryOut(tree, change)) progress.changed(change);
  if (record !== undefined) await tree.remove(PATHS.installed);
  for (const change of changes.filter(holdsRecord)) if (await carryOut(tree, change)) progress.changed(change);
  if (live) {
    for (const name of await host.list(PATHS.codeCache))
      if (name.startsWith('code-')) await host.remove(join(PATHS.codeCache, name));
    for (const folder of [PATHS.lib, PATHS.codeCache]) await host.removeFolder(folder);
    await takeUp(host, progress, changes);
  }

  if (record === undefined) {
    const left: string[] = [];
    for (const { path } of FILES) if ((await readEntry(tree, path)).kind !== 'absent') left.push(path);
    if (left.length > 0)
      progress.warn(`there is no record of kylin-vr install: ${left.join(', ')} stay, remove the package`);
  }
  if (live && !options.flush && (await host.info(PATHS.owned)) !== undefined)
    progress.warn(
      'the running network stays as it is until the next boot: only uninstall --flush takes it down before that',
    );
  return progress.finish('uninstall');
}

async function wayBack(
  tree: Tree,
  record: NonNullable<Awaited<ReturnType<typeof readRecord>>>,
  progress: Progress,
): Promise<Change[]> {
  const observed = new Map<string, TreeEntry>();
  for (const { path } of record) observed.set(path, await readEntry(tree, path));
  const { changes, kept } = planUninstall(record, observed, [PATHS.config]);
  for (const message of kept) progress.warn(message);

  // Whoever enabled it (systemctl, a package): with the program gone, or not meant to run, a link to it is of no use.
  const units = FILES.filter(({ path }) => dirname(path) === UNIT_FOLDER);
  for (const { path } of enablingLinks(
    Object.fromEntries(units.map(({ path, source }) => [basename(path), payload[source]])),
  )) {
    const from = await readEntry(tree, path);
    if (from.kind === 'link' && !changes.some((change) => change.path === path))
      changes.unshift({ path, from, to: ABSENT, text: `- link ${path} → ${from.target}` });
  }
  return changes;
}

async function stopUnits(host: Host, progress: Progress): Promise<void> {
  const inState = async (states: string) => {
    const { stdout } = await host.run([
      'systemctl',
      'list-units',
      '--plain',
      '--no-legend',
      `--state=${states}`,
      'kylin-vr*',
    ]);
    return UNITS.filter((unit) => stdout.split(/\s+/).includes(unit));
  };
  const running = await inState('active,activating');
  if (running.length > 0) await progress.run(host, 'systemctl', 'stop', ...running);
  const failed = await inState('failed');
  if (failed.length > 0) await progress.run(host, 'systemctl', 'reset-failed', ...failed);
}

/** As a reload of `if_list: []`, without the user's file. Gives why it failed. */
async function flush(context: Context, options: UninstallOptions, progress: Progress): Promise<AgentError | undefined> {
  const parsed = parseConfig(new TextEncoder().encode('if_list: []\n'));
  if (!parsed.ok) throw new Error('an empty if_list is not valid');
  const { config } = parsed;
  const convergence = await withLock(
    {
      dir: context.lockFolder ?? PATHS.run,
      command: 'uninstall --flush',
      trigger: 'operator',
      timeoutMs: options.lockTimeout * 1000,
      onWait: (holder, waitedMs) =>
        context.stderr(shown`waiting for ${Math.round(waitedMs / 1000)} s: ${describeHolder(holder)}\n`),
    },
    ({ marker }) =>
      context.unbroken(
        async () => {
          const host = watched(context.host(marker), progress.line);
          const found = await converge(host, {
            config,
            renderer: await chooseRenderer(host, options.renderer),
            scope: 'whole',
            ways: 'today',
          });
          if (found.error === undefined) {
            await removePending(host);
            await forgetHistory(host);
            await host.remove(PATHS.owned);
            await host.remove(PATHS.flows);
            await host.remove(PATHS.left);
          }
          return found;
        },
        (signal) => progress.line.say(`${signal}: the change that has begun is finished first`),
      ),
  ).finally(progress.line.end);
  for (const step of convergence.steps) progress.done(step.kind, describe(step));
  for (const message of convergence.warnings) progress.warn(message);
  const { error } = convergence;
  if (error === undefined) return undefined;
  if (!(error instanceof AgentError)) throw error;
  return new AgentError(
    `${error.message}; nothing was uninstalled, and kylin-vr.service is stopped: mend the cause and run kylin-vr uninstall --flush again, or systemctl start kylin-vr`,
    EXIT.failed,
  );
}
