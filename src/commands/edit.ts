// `eip add`, `forward remove` and the like: change the file, then the network; both, or neither.

import { type Edited, type EditRequest, editConfig } from '../config/edit.ts';
import { NOUNS } from '../config/entries.ts';
import { loadConfig } from '../config/load.ts';
import type { NounName } from '../config/nouns.ts';
import { AgentError, EXIT, type ExitStatus } from '../errors.ts';
import { sameBytes } from '../hash.ts';
import { readTrusted } from '../machine/config-file.ts';
import type { Host } from '../machine/host.ts';
import type { RunRequest } from '../order.ts';
import { type Report, run } from '../reconcile.ts';
import { type Context, type GlobalOptions, issueText, printJson, problem } from './context.ts';
import { runInTurn, triggerOf } from './reload.ts';

export type EditOptions = GlobalOptions & { reload: boolean };

export async function list(context: Context, options: GlobalOptions, noun: NounName): Promise<ExitStatus> {
  const host = context.host();
  const bytes = await host.readBytes(options.config);
  if (bytes === undefined)
    throw new AgentError(`${options.config}: does not exist: write it, or give another with --config`, EXIT.config);
  const parsed = await loadConfig(bytes);
  if (!parsed.ok) {
    const text = new TextDecoder().decode(bytes);
    for (const issue of parsed.errors)
      context.stderr(`${problem(context, 'error')}: ${issueText(options.config, text, issue)}\n`);
    return EXIT.config;
  }
  const entries = NOUNS[noun].entriesOf(parsed.config).map(({ text }) => text);
  if (options.json) printJson(context, { [noun]: entries });
  else for (const entry of entries) context.stdout(`${entry}\n`);
  return EXIT.ok;
}

export async function edit(context: Context, options: EditOptions, request: EditRequest): Promise<ExitStatus> {
  const trigger = await triggerOf(context, options, 'edit');
  const order: RunRequest = {
    command: 'edit',
    trigger,
    configPath: options.config,
    ...(options.renderer !== undefined && { renderer: options.renderer }),
  };
  return runInTurn(context, options, order, (host) => editAndRun(host, order, request, options.reload));
}

async function editAndRun(host: Host, order: RunRequest, request: EditRequest, reload: boolean): Promise<Report> {
  const { configPath } = order;
  const file = await readTrusted(host, configPath, 'mend');
  // run() says what is wrong with the file as it is.
  const before = 'errors' in file ? undefined : await loadConfig(file.bytes);
  if ('errors' in file || !before?.ok) return run(host, order);

  const edited = editConfig(new TextDecoder().decode(file.bytes), before.config, request);
  if (!edited.parsed.ok) {
    // Their places are in a text that nobody has seen.
    const why = edited.parsed.errors.map(({ path, message }) => `${path}: ${message}`).join('; ');
    throw new AgentError(`${why}; the file and the network are as they were`, EXIT.config);
  }
  const mode = 0o600;
  const changed = await host.write(configPath, edited.text, mode);
  const restore = async () => {
    const now = await host.readBytes(configPath);
    if (changed && now !== undefined && sameBytes(now, new TextEncoder().encode(edited.text)))
      await host.write(configPath, file.bytes, mode);
  };
  const steps = changed ? [{ kind: 'write-file' as const, text: describeEdit(configPath, request.noun, edited) }] : [];
  if (!reload) return unloaded(order, steps);
  try {
    const report = await run(host, order);
    if (report.exitStatus !== EXIT.ok) {
      await restore();
      report.errors.push({ message: `${configPath} is as it was` });
    } else if (changed) {
      report.steps.unshift(...steps);
      report.result = 'changed';
    }
    return report;
  } catch (error) {
    await restore();
    throw error;
  }
}

/** A run that changed the file and nothing else. */
function unloaded({ trigger }: RunRequest, steps: Report['steps']): Report {
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
    advice: 'not in force yet: kylin-vr reload',
  };
}

function describeEdit(path: string, noun: NounName, { added, removed }: Edited): string {
  const entries = [...removed.map((entry) => `- ${noun} ${entry}`), ...added.map((entry) => `+ ${noun} ${entry}`)];
  return `~ file ${path}: ${entries.join(', ')}`;
}
