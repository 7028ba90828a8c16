// One configuration into one guest: written beside the guest's file, proved, checked there, renamed into place, reloaded.

import { randomBytes } from 'node:crypto';
import { dirname } from 'node:path';
import type { Issue } from '../config/issue.ts';
import { AgentError, EXIT, type ExitStatus } from '../errors.ts';
import { type AgentChannel, nameOf, openChannel, type Target } from '../machine/guest-agent.ts';
import type { Host } from '../machine/host.ts';
import { checkAgent, type GuestRun, mustRun, proveGuestFile, runInGuest, writeGuestFile } from './guest.ts';

export type PushOrder = {
  bytes: Uint8Array;
  /** Where the guest has its configuration. */
  path: string;
  /** Show what `plan` says in the guest, and change nothing. */
  dryRun: boolean;
  /** For each answer of the agent. */
  answerMs: number;
  /** For the reload in the guest. */
  reloadMs: number;
};

/** What the guest's own `reload --json`, `plan --json` or `check --json` said. */
export type GuestReport = {
  result?: string;
  steps?: { kind: string; text: string }[];
  warnings?: Issue[];
  errors?: Issue[];
  durationMs?: number;
};

export type Pushed = { name: string; exitStatus: ExitStatus; report: GuestReport };

export type Progress = {
  say: (what: string) => void;
  /** Throws where the operator wants an end. */
  check: () => void;
};

/** Never throws what an operator can act on: it is the report's error. */
export async function pushTo(host: Host, target: Target, order: PushOrder, progress: Progress): Promise<Pushed> {
  const name = nameOf(target);
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
    if (!(error instanceof AgentError)) throw error;
    return { name, exitStatus: error.status, report: { result: 'failed', errors: [{ message: error.message }] } };
  }
}

async function deliver(channel: AgentChannel, order: PushOrder, progress: Progress) {
  const { bytes, path, dryRun, answerMs, reloadMs } = order;
  const beside = `${dirname(path)}/.push-${randomBytes(4).toString('hex')}.yaml`;
  const config = ['--json', '--config'];
  try {
    await writeGuestFile(channel, beside, bytes, (n, all) => {
      progress.check();
      progress.say(`writing, piece ${n} of ${all}`);
    });
    progress.say('checking in the guest');
    await proveGuestFile(channel, beside, bytes, answerMs);
    await mustRun(channel, ['chmod', '0600', beside], answerMs);
    // The guest's kylin-vr may be another version, with other rules.
    const checked = await runInGuest(channel, ['kylin-vr', 'check', ...config, beside], reloadMs, progress.check);
    if (checked.status !== EXIT.ok) return reported(checked);
    if (dryRun)
      return reported(await runInGuest(channel, ['kylin-vr', 'plan', ...config, beside], reloadMs, progress.check));
    progress.check();
    await mustRun(channel, ['mv', '-fT', beside, path], answerMs);
    progress.say('reloading');
    return reported(await runInGuest(channel, ['kylin-vr', 'reload', ...config, path], reloadMs, progress.check));
  } finally {
    // Gone already where all went well; an agent that does not answer any more is what the operator has to hear of.
    await runInGuest(channel, ['rm', '-f', beside], answerMs).catch(() => {});
  }
}

function reported({ status, stdout, stderr }: GuestRun): { status: ExitStatus; report: GuestReport } {
  const known = Object.values(EXIT).find((each) => each === status) ?? EXIT.failed;
  try {
    const { result = status === EXIT.ok ? 'unchanged' : 'failed', ...report } = JSON.parse(stdout) as GuestReport;
    return { status: known, report: { result, ...report } };
  } catch {
    const message = `kylin-vr ended ${status} in the guest without a report; run kylin-vr status there; it said: ${(stderr || stdout).trim() || 'nothing'}`;
    return { status: known === EXIT.ok ? EXIT.failed : known, report: { result: 'failed', errors: [{ message }] } };
  }
}
