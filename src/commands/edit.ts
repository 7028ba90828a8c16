// `eip add`, `forward remove` and the like: change the file, then the network; both, or neither.

import { AgentError, EXIT, type ExitStatus, UsageError } from '../base/errors.ts';
import { hashOf, sameBytes } from '../base/hash.ts';
import { PATHS } from '../base/paths.ts';
import { shown } from '../base/visible.ts';
import type { Config } from '../config/config.ts';
import { differences } from '../config/difference.ts';
import { type Edited, type EditRequest, editConfig } from '../config/edit.ts';
import { NOUNS } from '../config/entries.ts';
import { inLine, ofFile } from '../config/issue.ts';
import { loadConfig } from '../config/load.ts';
import type { NounName } from '../config/nouns.ts';
import { LARGEST } from '../config/position.ts';
import { readAnyones, readTrusted } from '../machine/config-file.ts';
import { readLastGood, readRefusal } from '../machine/history.ts';
import type { Host } from '../machine/host.ts';
import { keepMeaning, readConfig } from '../machine/known/parsed.ts';
import { hasLapsed } from '../machine/pending.ts';
import { pendingChange } from '../run/confirmation.ts';
import { run } from '../run/reconcile.ts';
import type { Report } from '../run/report.ts';
import type { ReloadEdited } from '../run/request.ts';
import { type Context, type GlobalOptions, needRoot, printJson, refuseFile } from './context.ts';
import { confirmationOf, runInTurn, triggerOf } from './reload.ts';

/** The options of its own: --no-reload, --all, --confirm-within. */
export type EditFlags = { reload: boolean; all: boolean; confirmWithin?: number };

export async function list(context: Context, options: GlobalOptions, noun: NounName): Promise<ExitStatus> {
  const host = context.host();
  const file = await readAnyones(host, options.config);
  if ('errors' in file) return refuseFile(context, options, file);
  const parsed = ofFile(options.config, await loadConfig(file.bytes));
  if (!parsed.ok) return refuseFile(context, options, { ...parsed, bytes: file.bytes });
  const entries = NOUNS[noun].entriesOf(parsed.config).map(({ text }) => text);
  if (options.json) printJson(context, { [noun]: entries });
  else for (const entry of entries) context.stdout(shown`${entry}\n`);
  return EXIT.ok;
}

export async function edit(
  context: Context,
  options: GlobalOptions & EditFlags,
  request: EditRequest,
): Promise<ExitStatus> {
  needRoot(context, `${request.noun} ${request.verb}`);
  if (!options.reload && options.confirmWithin !== undefined)
    throw new UsageError('--confirm-within needs a reload: leave --no-reload out');
  const trigger = await triggerOf(context, options, 'edit');
  const order: ReloadEdited = {
    command: 'edit',
    trigger,
    configPath: options.config,
    ...(options.renderer !== undefined && { renderer: options.renderer }),
    ...confirmationOf(options, trigger),
  };
  return runInTurn(context, options, order, (host) => editAndRun(host, order, request, options));
}

async function editAndRun(
  host: Host,
  order: ReloadEdited,
  request: EditRequest,
  { reload, all }: EditFlags,
): Promise<Report> {
  const { configPath } = order;
  const file = await readTrusted(host, configPath, 'mend');
  // run() says what is wrong with the file as it is.
  const before = 'errors' in file ? undefined : await readConfig(host, configPath, file.bytes, 'look');
  if ('errors' in file || !before?.ok) return run(host, order);

  const text = new TextDecoder('utf-8', { ignoreBOM: true }).decode(file.bytes);
  const edited = editConfig(configPath, text, before.config, request);
  if (!edited.parsed.ok) {
    // Their places are in a text that nobody has seen.
    const why = edited.parsed.errors.map(({ path, message }) => inLine({ ...(path && { path }), message })).join('; ');
    throw new AgentError(
      `${configPath} would not be valid: ${why}; the file and the network are as they were`,
      EXIT.config,
    );
  }
  const waiting = await notInForce(host, file.bytes, before.config);
  if (reload && waiting.changes.length > 0 && !waiting.isOurs && !all) {
    const more = holdsMore(order, request, waiting.changes);
    if (!isIdle(edited) || !isSoIn(waiting.inForce, configPath, request)) throw new AgentError(more, EXIT.config);
    return unloaded(order, [], [...edited.idle, more]);
  }
  // Its owner is root: otherwise it was refused above.
  const { mode = 0o600, gid } = (await host.info(configPath)) ?? {};
  const bytes = new TextEncoder().encode(edited.text);
  const changed = await host.write(configPath, edited.text, mode, gid);
  if (changed) await keepMeaning(host, bytes, edited.parsed, edited.spans);
  const restore = async () => {
    const now = await host.readBytes(configPath);
    if (changed && now !== undefined && sameBytes(now, bytes)) await host.write(configPath, file.bytes, mode, gid);
  };
  const steps = changed ? [{ kind: 'write-file' as const, text: describeEdit(configPath, request.noun, edited) }] : [];
  if (!reload) {
    if (changed && (waiting.isOurs || waiting.changes.length === 0))
      await host.write(PATHS.edited, hashOf(bytes), 0o600);
    return unloaded(order, steps, edited.idle);
  }
  const said = [...edited.idle];
  if (waiting.changes.length > 0) said.push(`applied with it, as the file has it: ${some(waiting.changes)}`);
  try {
    const report = await run(host, order);
    if (said.length > 0) report.advice = [...said, report.advice ?? []].flat().join('; ');
    if (report.exitStatus !== EXIT.ok) {
      await restore();
      report.errors.push({ message: `${configPath} is as it was` });
    } else if (changed) {
      if (report.summary !== undefined) report.summary.unshift(...steps.map(({ text }) => text));
      report.steps.unshift(...steps);
      report.result = 'changed';
    }
    return report;
  } catch (error) {
    await restore();
    throw error;
  }
}

/** What the file says and the network does not yet. `isOurs`: edits with --no-reload wrote it, and nobody took it back since. */
type NotInForce = { changes: string[]; isOurs: boolean; inForce?: Config };

/** Nothing where nothing is in force, and while a change waits for its confirmation, for then nothing is applied. */
async function notInForce(host: Host, bytes: Uint8Array, config: Config): Promise<NotInForce> {
  const none = { changes: [], isOurs: false };
  const change = await pendingChange(host);
  if (change !== undefined && !(await hasLapsed(host, change))) return none;
  const lastGood = await readLastGood(host);
  if (lastGood === undefined || sameBytes(lastGood, bytes)) return none;
  const inForce = await readConfig(host, PATHS.lastGood, lastGood, 'look');
  if (!inForce.ok) return none;
  const hash = hashOf(bytes);
  const edited = await host.read(PATHS.edited, { most: LARGEST, orNothing: true });
  return {
    changes: differences(inForce.config, config),
    isOurs: edited === hash && (await readRefusal(host))?.hash !== hash,
    inForce: inForce.config,
  };
}

const isIdle = ({ added, removed }: Edited): boolean => added.length + removed.length === 0;

/** Whether nothing would be to do there, either. */
function isSoIn(config: Config | undefined, path: string, request: EditRequest): boolean {
  if (config === undefined) return false;
  try {
    return isIdle(editConfig(path, '', config, request));
  } catch {
    return false;
  }
}

const MOST_SAID = 10;

function some(changes: readonly string[]): string {
  const more = changes.length - MOST_SAID;
  return [...changes.slice(0, MOST_SAID), ...(more > 0 ? [`and ${more} more`] : [])].join(', ');
}

const holdsMore = ({ configPath }: ReloadEdited, { noun, verb }: EditRequest, changes: readonly string[]): string =>
  `${configPath} holds more than what is in force: ${some(changes)}; kylin-vr plan shows what that does, ` +
  `kylin-vr ${noun} ${verb} --all applies it as well, cp ${PATHS.lastGood} ${configPath} takes it out of the file`;

/** A run that changed the file and nothing else. */
function unloaded({ trigger }: ReloadEdited, steps: Report['steps'], idle: readonly string[]): Report {
  const notInForce = steps.length === 0 ? [] : ['not in force yet: kylin-vr reload'];
  return {
    id: '',
    command: 'edit',
    trigger,
    time: new Date().toISOString(),
    result: steps.length === 0 ? 'unchanged' : 'changed',
    steps,
    warnings: [],
    errors: [],
    durationMs: 0,
    exitStatus: EXIT.ok,
    advice: [...idle, ...notInForce].join('; '),
  };
}

function describeEdit(path: string, noun: NounName, { added, removed }: Edited): string {
  const entries = [...removed.map((entry) => `- ${noun} ${entry}`), ...added.map((entry) => `+ ${noun} ${entry}`)];
  return `~ file ${path}: ${entries.join(', ')}`;
}
