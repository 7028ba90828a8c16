// `rollback`: takes the last change back, goes to an older configuration, or lists them.

import { setTimeout as sleep } from 'node:timers/promises';
import { EXIT, type ExitStatus, LockedError, UsageError } from '../base/errors.ts';
import { hashOf } from '../base/hash.ts';
import { shown } from '../base/visible.ts';
import { readEntryOf, readHistory, readLastGood } from '../machine/history.ts';
import type { Host } from '../machine/host.ts';
import { readPending, secondsLeft } from '../machine/pending.ts';
import { type Context, type GlobalOptions, needRoot, painter, printJson } from './context.ts';
import { runInTurn, triggerOf } from './reload.ts';

export type RollbackOptions = GlobalOptions & { to?: number; list: boolean; unconfirmed?: string };

export async function rollback(context: Context, options: RollbackOptions): Promise<ExitStatus> {
  needRoot(context, 'rollback');
  if (options.list && options.to !== undefined) throw new UsageError('--list shows, --to changes: give one of them');
  if (options.list) return list(context, options);
  if (options.unconfirmed !== undefined) return takeBackInTime(context, options, options.unconfirmed);
  return runInTurn(context, options, {
    command: 'rollback',
    trigger: await triggerOf(context, options, 'rollback'),
    configPath: options.config,
    ...(options.renderer !== undefined && { renderer: options.renderer }),
    ...(options.to !== undefined && { to: options.to }),
  });
}

type Listed = { number: number; time: string; trigger: string; run: string; hash: string; lastGood: boolean };

async function list(context: Context, options: GlobalOptions): Promise<ExitStatus> {
  const host = context.host();
  const good = await readLastGood(host);
  const goodHash = good && hashOf(good);
  const configurations: Listed[] = [];
  for (const { number, time, trigger, run, path } of await readHistory(host)) {
    const bytes = await readEntryOf(host, path);
    // A run has just taken it away.
    if (bytes === undefined) continue;
    const hash = hashOf(bytes);
    const lastGood = hash === goodHash && !configurations.some((other) => other.lastGood);
    configurations.push({ number, time, trigger, run, hash, lastGood });
  }
  if (options.json) {
    printJson(context, { configurations });
    return EXIT.ok;
  }
  const paint = painter(context);
  for (const { number, time, trigger, run, hash, lastGood } of configurations)
    context.stdout(
      shown`${String(number).padStart(2)}  ${time}  ${trigger.padEnd(8)}  run ${run}  ${hash.slice(0, 12)}${lastGood ? shown`  ${paint('last good', 'green')}` : ''}\n`,
    );
  if (configurations.length === 0) context.stdout(shown`no configuration was applied yet\n`);
  return EXIT.ok;
}

/** Not longer, so that a confirmation is noticed, and a process that waits does not stay behind. */
const LOOK_MS = 1000;
const TRY_AGAIN_MS = 10_000;
/** Where a timer runs, it goes on trying. */
const MOST_TRIES = 6;

/** Sleeps until the time of that run's change is over, and takes it back then; ends at once when it is decided. */
async function takeBackInTime(context: Context, options: RollbackOptions, run: string): Promise<ExitStatus> {
  const host = context.host();
  let status: ExitStatus = EXIT.ok;
  for (let tries = 0; tries < MOST_TRIES; ) {
    const left = await timeLeft(host, run);
    if (left === undefined) return EXIT.ok;
    if (left > 0) {
      await sleep(Math.min(left * 1000, LOOK_MS));
      continue;
    }
    status = await takeBackNow(context, options, run);
    if ((await timeLeft(host, run)) !== 0) continue;
    tries++;
    await sleep(TRY_AGAIN_MS);
  }
  return status;
}

/** Seconds; undefined when it waits no longer. */
async function timeLeft(host: Host, run: string): Promise<number | undefined> {
  const change = await readPending(host);
  return change?.run === run && change.phase !== 'confirmed' ? secondsLeft(host, change) : undefined;
}

async function takeBackNow(context: Context, options: RollbackOptions, run: string): Promise<ExitStatus> {
  try {
    return await runInTurn(context, options, {
      command: 'lapse',
      trigger: 'timer',
      configPath: options.config,
      ...(options.renderer !== undefined && { renderer: options.renderer }),
      run,
    });
  } catch (error) {
    if (error instanceof LockedError) return error.status;
    throw error;
  }
}
