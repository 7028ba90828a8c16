// One configuration into one guest: written beside the guest's file, proved, checked there, renamed into place, reloaded.
// Whatever the guest answers ends as a report of that guest.

import { dirname, join } from 'node:path';
import { AgentError, EXIT, type ExitStatus } from '../base/errors.ts';
import type { Issue } from '../config/issue.ts';
import { brief } from '../dialects/guest-agent.ts';
import { type AgentChannel, GuestAgentError, nameOf, openChannel, type Target } from '../machine/guest-agent.ts';
import type { Host } from '../machine/host.ts';
import { checkAgent, failed, type GuestRun, proveGuestFile, runInGuest, writeGuestFile } from './guest.ts';
import { isAbandoned, newPushName, PUSH_NAMES } from './leftover.ts';
import { type GuestReport, readReport } from './report.ts';

export type PushOrder = {
  /** Where this host has it. */
  file: string;
  bytes: Uint8Array;
  /** Where the guest has its configuration. */
  path: string;
  /** Show what `plan` says in the guest, and change nothing. */
  dryRun: boolean;
  /** For each answer of the agent. */
  answerMs: number;
  /** For the reload in the guest; and for the file to get there. */
  reloadMs: number;
};

export type Pushed = { name: string; exitStatus: ExitStatus; report: GuestReport };

export type PushProgress = {
  say: (what: string) => void;
  /** Throws where the operator wants an end. */
  check: () => void;
};

/** Never throws: what went wrong with one guest, be it our own mistake, is in its report, and the others are served. */
export async function pushTo(host: Host, target: Target, order: PushOrder, progress: PushProgress): Promise<Pushed> {
  const name = nameOf(target);
  const started = performance.now();
  try {
    const channel = await openChannel(host, target, order.answerMs);
    try {
      await checkAgent(channel);
      const { status, report } = await deliver(channel, order, progress);
      return { name, exitStatus: status, report };
    } finally {
      channel.close();
    }
  } catch (error) {
    const known = error instanceof AgentError;
    const stack = error instanceof Error ? error.stack : String(error);
    return {
      name,
      exitStatus: known ? error.status : EXIT.internal,
      report: {
        ...failure(known ? error.message : `internal error, please report it: ${stack}`),
        durationMs: Math.round(performance.now() - started),
      },
    };
  }
}

async function deliver(channel: AgentChannel, order: PushOrder, progress: PushProgress) {
  const { file, bytes, path, dryRun, answerMs, reloadMs } = order;
  await sweep(channel, dirname(path), answerMs);
  const beside = join(dirname(path), newPushName());
  // What the guest knows it by is gone when this is read.
  const asPushed = (issue: Issue): Issue =>
    issue.line === undefined ? { ...issue, message: issue.message.replaceAll(beside, path) } : { ...issue, file };
  const config = ['--json', '--config'];
  const deadline = Date.now() + reloadMs;
  let isMoved = false;
  try {
    await writeGuestFile(channel, beside, bytes, answerMs, (n, all) => {
      progress.check();
      if (Date.now() > deadline)
        throw new AgentError(
          `the guest agent took ${n - 1} of ${all} pieces of the file in ${Math.round(reloadMs / 1000)} s: the guest's own ` +
            'file is as it was; push again when the guest has less to do, or with a longer --timeout',
          EXIT.failed,
        );
      progress.say(`writing, piece ${n} of ${all}`);
    });
    progress.say('checking in the guest');
    await proveGuestFile(channel, beside, bytes, answerMs);
    // The guest's kylin-vr may be another version, with other rules.
    const checked = await runInGuest(channel, ['kylin-vr', 'check', ...config, beside], reloadMs, progress.check);
    if (checked.status !== EXIT.ok) return reported(checked, asPushed);
    if (dryRun)
      return reported(
        await runInGuest(channel, ['kylin-vr', 'plan', ...config, beside], reloadMs, progress.check),
        asPushed,
      );
    progress.check();
    const move = ['mv', '-fT', beside, path];
    const moved = await told(`whether ${path} in the guest is the new one is not known`, () =>
      runInGuest(channel, move, answerMs),
    );
    if (moved.status !== 0) throw failed(move, moved);
    isMoved = true;
  } finally {
    // An agent that does not answer any more is what the operator has to hear of.
    if (!isMoved) await runInGuest(channel, ['rm', '-f', beside], answerMs).catch(() => {});
  }
  progress.say('reloading');
  const placed = `${path} in the guest is the new one`;
  return await told(placed, async () =>
    reported(
      await runInGuest(channel, ['kylin-vr', 'reload', ...config, path], reloadMs, progress.check),
      // An older one does not say in which file.
      (issue) => (issue.line === undefined ? issue : { ...issue, file: path }),
      `${placed}: `,
    ),
  );
}

/** Whoever hears that something failed has to know how far it had come. */
async function told<T>(state: string, act: () => Promise<T>): Promise<T> {
  try {
    return await act();
  } catch (error) {
    if (!(error instanceof AgentError)) throw error;
    throw new AgentError(`${state}: ${error.message}`, error.status, { cause: error });
  }
}

/** What pushes of this host that were killed left there; a guest without find keeps it. */
async function sweep(channel: AgentChannel, folder: string, answerMs: number): Promise<void> {
  const find = ['find', folder, '-maxdepth', '1', '-type', 'f', '-name', PUSH_NAMES, '-printf', '%f\\n'];
  const { stdout } = await runInGuest(channel, find, answerMs).catch((error: unknown) => {
    if (error instanceof AgentError && error.cause instanceof GuestAgentError) return { stdout: '' };
    throw error;
  });
  const left = stdout.split('\n', MOST_SWEPT).filter(isAbandoned());
  if (left.length > 0) await runInGuest(channel, ['rm', '-f', ...left.map((name) => join(folder, name))], answerMs);
}

const MOST_SWEPT = 100;

function reported(
  { status, stdout, stderr }: GuestRun,
  placed: (issue: Issue) => Issue,
  state = '',
): { status: ExitStatus; report: GuestReport } {
  const ended = Object.values(EXIT).find((each) => each === status) ?? EXIT.failed;
  const report = readReport(stdout);
  const succeeded = report !== undefined && SUCCESSES.includes(report.result);
  const known = ended === EXIT.ok && !succeeded ? EXIT.failed : ended;
  if (report !== undefined)
    return {
      status: known,
      report: { ...report, warnings: report.warnings.map(placed), errors: report.errors.map(placed) },
    };
  const said = brief(stderr) || brief(stdout) || 'nothing';
  const message = `${state}kylin-vr ended ${status} in the guest without a report; run kylin-vr status there; it said: ${said}`;
  return { status: known, report: failure(message) };
}

const SUCCESSES: readonly string[] = ['changed', 'unchanged'];

const failure = (message: string): GuestReport => ({
  result: 'failed',
  steps: [],
  warnings: [],
  errors: [{ message }],
});
