// `push`, on the hypervisor host: a configuration into guests, and what their kylin-vr made of it.

import { v8 } from '../base/builtin.ts';
import { count } from '../base/count.ts';
import { AgentError, EXIT, type ExitStatus, UsageError } from '../base/errors.ts';
import { own, shown, shownJson, visible, wrapped } from '../base/visible.ts';
import { firstOf, type Issue, inLine, ofFile } from '../config/issue.ts';
import { parseConfig } from '../config/parse.ts';
import { readAnyones } from '../machine/config-file.ts';
import type { Target } from '../machine/guest-agent.ts';
import { nameOf } from '../machine/guest-agent.ts';
import type { Host } from '../machine/host.ts';
import { fitted, type Kept, kept, told } from '../push/kept.ts';
import { type Pushed, type PushOrder, pushTo } from '../push/push.ts';
import { type Context, type GlobalOptions, issueText, painter, paintStep, printJson, problem } from './context.ts';
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

type Result = Omit<Pushed, 'report'> & { kept: Kept };

export async function push(context: Context, options: PushOptions, file: string): Promise<ExitStatus> {
  try {
    return await pushFile(context, options, file);
  } catch (error) {
    if (!options.json || !(error instanceof AgentError)) throw error;
    context.stderr(shown`kylin-vr: ${error.message}\n`);
    printJson(context, { guests: [], errors: [{ message: error.message }], warnings: [] });
    return error.status;
  }
}

async function pushFile(context: Context, options: PushOptions, file: string): Promise<ExitStatus> {
  const targets: Target[] = [
    ...options.domain.map((domain) => ({ domain })),
    ...options.socket.map((socket) => ({ socket })),
  ];
  if (targets.length === 0) throw new UsageError('push needs a guest: --domain NAME (libvirt) or --socket PATH');
  // Answers of 16 MiB leave as much behind with every step of reading them; as a rule V8 lets a heap double before it looks for that.
  v8().setFlagsFromString('--optimize-for-size');
  const host = context.host();
  const read = await readAnyones(host, file, 'name the file to push');
  const parsed =
    'bytes' in read ? ofFile(file, parseConfig(read.bytes)) : { ...read, ok: false as const, warnings: [] };
  const issues = parsed.ok ? [] : parsed.errors;
  const text = 'bytes' in read ? new TextDecoder().decode(read.bytes) : undefined;
  for (const issue of firstOf(parsed.warnings))
    context.stderr(shown`${problem(context, 'warning')}: ${issueText(text, issue)}\n`);
  for (const issue of firstOf(issues)) context.stderr(shown`${problem(context, 'error')}: ${issueText(text, issue)}\n`);
  if (!('bytes' in read && parsed.ok)) {
    if (options.json) printJson(context, { guests: [], errors: issues, warnings: parsed.warnings });
    return EXIT.config;
  }
  const order: PushOrder = {
    file,
    bytes: read.bytes,
    path: options.config,
    dryRun: options.dryRun,
    answerMs: Math.min(ANSWER_MS, options.timeout * 1000),
    reloadMs: options.timeout * 1000,
  };
  const pushed = await pushToAll(context, host, targets, order);
  if (options.json) printGuests(context, pushed, parsed.warnings);
  else for (const one of pushed) print(context, one, options.dryRun);
  // Of several, the first that failed.
  return pushed.find(({ exitStatus }) => exitStatus !== EXIT.ok)?.exitStatus ?? EXIT.ok;
}

async function pushToAll(
  context: Context,
  host: Host,
  targets: readonly Target[],
  order: PushOrder,
): Promise<Result[]> {
  let stop: string | undefined;
  const line = progressLine(context);
  const check = () => {
    if (stop !== undefined)
      throw new AgentError(
        `stopped by ${stop}; a reload that has begun in the guest goes on there: kylin-vr status in the guest tells how it ends`,
        EXIT.failed,
      );
  };
  let results: (Result | undefined)[] = targets.map(() => undefined);
  const queue = [...targets.entries()];
  const worker = async () => {
    for (let next = queue.shift(); next !== undefined; next = queue.shift()) {
      const [n, target] = next;
      const say = (what: string) => line.show(`${nameOf(target)}: ${what}`);
      const { report, ...pushed } = await pushTo(host, target, order, { say, check });
      results[n] = { ...pushed, kept: kept(report) };
      results = fitted(results);
    }
  };
  await context.unbroken(
    () => Promise.all(Array.from({ length: Math.min(AT_ONCE, targets.length) }, worker)).finally(line.end),
    (signal) => {
      stop = signal;
      line.say(`${signal}: stopping; what is open in the guests is closed first`);
    },
  );
  return results.flatMap((one) => one ?? []);
}

/** As printJson prints an object of them all, a guest at a time: together they are longer than a string may be. */
function printGuests(context: Context, results: readonly Result[], warnings: readonly Issue[]): void {
  const indented = (value: object) => JSON.stringify(value, null, 2).replaceAll('\n', '\n    ');
  context.stdout(own('{\n  "guests": ['));
  results.forEach(({ kept, ...pushed }, n) => {
    context.stdout(shownJson(`${n === 0 ? '' : ','}\n    ${indented({ ...pushed, report: told(kept) })}`));
  });
  context.stdout(shownJson(`\n  ],${JSON.stringify({ errors: [], warnings }, null, 2).slice(1)}\n`));
}

function print(context: Context, { name, exitStatus, kept }: Result, dryRun: boolean): void {
  const paint = painter(context);
  const { result, steps, warnings, errors, durationMs } = told(kept);
  const columns = context.columns?.() ?? Number.POSITIVE_INFINITY;
  for (const { text } of steps) context.stdout(shown`${paintStep(paint, wrapped(text, columns))}\n`);
  const say = (kind: 'warning' | 'error', issue: Issue) => {
    const text = visible(inLine(issue));
    const taken = `${visible(name)}: ${kind}: `.length;
    context.stderr(shown`${name}: ${problem(context, kind)}: ${wrapped(text, columns, taken)}\n`);
  };
  for (const issue of firstOf(warnings)) say('warning', issue);
  for (const issue of firstOf(errors)) say('error', issue);
  const time = durationMs === undefined ? '' : ` in ${durationMs} ms`;
  const what = (dryRun ? DRY_WORDS.get(result) : undefined) ?? result;
  context.stdout(
    shown`${name}: ${paint(what, exitStatus === EXIT.ok ? 'green' : 'red')}, ${count(kept.whole.steps, 'step')}${time}\n`,
  );
}

const DRY_WORDS: ReadonlyMap<string, string> = new Map([
  ['changed', 'would be changed'],
  ['unchanged', 'in sync'],
]);
