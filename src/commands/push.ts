// `push`, on the hypervisor host: a configuration into guests, and what their kylin-vr made of it.

import { parseConfig } from '../config/parse.ts';
import { AgentError, EXIT, type ExitStatus, UsageError } from '../errors.ts';
import type { Target } from '../machine/guest-agent.ts';
import { nameOf } from '../machine/guest-agent.ts';
import type { Host } from '../machine/host.ts';
import { type Pushed, type PushOrder, pushTo } from '../push/push.ts';
import {
  type Context,
  count,
  type GlobalOptions,
  issueText,
  painter,
  paintStep,
  printJson,
  problem,
} from './context.ts';
import { progressLine } from './progress.ts';

export type PushOptions = GlobalOptions & {
  domain: string[];
  socket: string[];
  dryRun: boolean;
  /** Seconds. */
  timeout: number;
};

/** So many guests at a time: each is a virsh or two, and a wait. */
const AT_ONCE = 8;
/** An agent answers in milliseconds; one that starts, or a guest that swaps, in seconds. */
const ANSWER_MS = 20_000;

export async function push(context: Context, options: PushOptions, file: string): Promise<ExitStatus> {
  const targets: Target[] = [
    ...options.domain.map((domain) => ({ domain })),
    ...options.socket.map((socket) => ({ socket })),
  ];
  if (targets.length === 0) throw new UsageError('push needs a guest: --domain NAME (libvirt) or --socket PATH');
  const host = context.host();
  const bytes = await host.readBytes(file);
  if (bytes === undefined) throw new AgentError(`${file}: does not exist: name the file to push`, EXIT.config);
  const parsed = parseConfig(bytes);
  const issues = parsed.ok ? [] : parsed.errors;
  const text = new TextDecoder().decode(bytes);
  for (const issue of parsed.warnings)
    context.stderr(`${problem(context, 'warning')}: ${issueText(file, text, issue)}\n`);
  for (const issue of issues) context.stderr(`${problem(context, 'error')}: ${issueText(file, text, issue)}\n`);
  if (!parsed.ok) {
    if (options.json) printJson(context, { guests: [], errors: issues, warnings: parsed.warnings });
    return EXIT.config;
  }
  const order: PushOrder = {
    bytes,
    path: options.config,
    dryRun: options.dryRun,
    answerMs: Math.min(ANSWER_MS, options.timeout * 1000),
    reloadMs: options.timeout * 1000,
  };
  const pushed = await pushToAll(context, host, targets, order);
  for (const one of pushed) if (!options.json) print(context, one, options.dryRun);
  if (options.json) printJson(context, { guests: pushed });
  // Of several, the first that failed.
  return pushed.find(({ exitStatus }) => exitStatus !== EXIT.ok)?.exitStatus ?? EXIT.ok;
}

async function pushToAll(
  context: Context,
  host: Host,
  targets: readonly Target[],
  order: PushOrder,
): Promise<Pushed[]> {
  let stop: string | undefined;
  const line = progressLine(context);
  const check = () => {
    if (stop !== undefined)
      throw new AgentError(
        `stopped by ${stop}; a reload that has begun in the guest goes on there: kylin-vr status in the guest tells how it ends`,
        EXIT.failed,
      );
  };
  const results: Pushed[] = [];
  const queue = [...targets.entries()];
  const worker = async () => {
    for (let next = queue.shift(); next !== undefined; next = queue.shift()) {
      const [n, target] = next;
      const say = (what: string) => line.show(`${nameOf(target)}: ${what}`);
      results[n] = await pushTo(host, target, order, { say, check });
    }
  };
  await context.unbroken(
    () => Promise.all(Array.from({ length: Math.min(AT_ONCE, targets.length) }, worker)).finally(line.end),
    (signal) => {
      stop = signal;
      line.say(`${signal}: stopping; what is open in the guests is closed first`);
    },
  );
  return results;
}

function print(context: Context, { name, exitStatus, report }: Pushed, dryRun: boolean): void {
  const paint = painter(context);
  const { result = '', steps = [], warnings = [], errors = [], durationMs } = report;
  for (const { text } of steps) context.stdout(`${paintStep(paint, text)}\n`);
  for (const issue of warnings)
    context.stderr(`${name}: ${problem(context, 'warning')}: ${issueText(name, undefined, issue)}\n`);
  for (const issue of errors)
    context.stderr(`${name}: ${problem(context, 'error')}: ${issueText(name, undefined, issue)}\n`);
  const time = durationMs === undefined ? '' : ` in ${durationMs} ms`;
  const words: Record<string, string> = dryRun ? { changed: 'would be changed', unchanged: 'in sync' } : {};
  const what = words[result] ?? result;
  context.stdout(
    `${name}: ${paint(what, exitStatus === EXIT.ok ? 'green' : 'red')}, ${count(steps.length, 'step')}${time}\n`,
  );
}
