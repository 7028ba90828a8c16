// A change that waits for its confirmation: kept, or taken back, whoever decides it. For the holder of the lock.

import { AgentError } from '../base/errors.ts';
import { PATHS } from '../base/paths.ts';
import { NOTHING } from '../config/config.ts';
import type { Checkpoint } from '../machine/checkpoint.ts';
import { setAside } from '../machine/damaged.ts';
import { forgetRefusal, promote, readRefusal, refuse } from '../machine/history.ts';
import type { Host } from '../machine/host.ts';
import {
  disarmTimer,
  isOfThisBoot,
  type PendingChange,
  pendingBytes,
  readCheckpoint,
  readPending,
  removePending,
  writePending,
} from '../machine/pending.ts';
import type { Renderer } from '../network/renderer.ts';
import { isOurFile } from '../network/state.ts';
import type { Step } from '../network/step.ts';
import type { Return } from './convergence.ts';
import type { Scope } from './survey.ts';

/** The change that waits, if one does. A confirmation that was killed half way is completed. */
export async function pendingChange(host: Host): Promise<PendingChange | undefined> {
  const change = await readPending(host);
  if (change?.phase !== 'confirmed') return change;
  await complete(host, change);
  return undefined;
}

/** Makes it the last good configuration. From the first write on it is kept, wherever this is killed. */
export async function keep(host: Host, change: PendingChange): Promise<void> {
  await writePending(host, { ...change, phase: 'confirmed' });
  await complete(host, change);
}

async function complete(host: Host, change: PendingChange): Promise<void> {
  const bytes = await pendingBytes(host, change);
  if (bytes !== undefined) await promote(host, bytes, change);
  await forgetRefusal(host);
  await removePending(host);
  await disarmTimer(host, change);
}

/** Why a change ends that is not confirmed; `asked`: by somebody who says so. */
export async function reasonOf(host: Host, change: PendingChange, asked: boolean): Promise<string> {
  if (asked) return 'kylin-vr rollback took it back';
  const refusal = change.phase === 'returning' ? await readRefusal(host) : undefined;
  if (refusal !== undefined) return refusal.why;
  if (!(await isOfThisBoot(host, change))) return 'the machine went down before it was confirmed';
  if (change.phase === 'applying') return 'the run that applied it was killed';
  return `it was not confirmed within ${change.seconds} s`;
}

/**
 * Puts the network back to what the change found. Where that does not succeed, or is killed, the next run tries again; its
 * configuration is not applied again by itself.
 */
export async function takeBack(
  host: Host,
  change: PendingChange,
  renderer: Renderer,
  scope: Scope,
  why: string,
): Promise<Return> {
  // A full disk keeps nobody from his router; but then the change stays on record, and with it the next attempt.
  const unrecorded = await recordReturn(host, change, why).then(
    () => undefined,
    (error: unknown) => {
      if (error instanceof AgentError) return error;
      throw error;
    },
  );
  const found = await readCheckpoint(host);
  const damage =
    found === undefined ? await setAside(host, PATHS.checkpoint, 'what the change found is not known any more') : [];
  const back = await goBack(host, change, found, renderer, scope).catch((error: unknown): Return => {
    if (!(error instanceof AgentError)) throw error;
    return { result: 'failed', whole: false, steps: [], warnings: [], error };
  });
  back.warnings.push(...damage);
  if (back.error !== undefined) return back;
  if (unrecorded !== undefined) return { ...back, error: unrecorded };
  await removePending(host);
  await disarmTimer(host, change);
  return back;
}

async function goBack(
  host: Host,
  change: PendingChange,
  found: Checkpoint | undefined,
  renderer: Renderer,
  scope: Scope,
): Promise<Return> {
  if (found === undefined || !(await isOfThisBoot(host, change)))
    return takeBackAfterBoot(host, found?.state.files ?? [], renderer, scope);
  const { restore } = await import('./take-back.ts');
  return restore(host, found);
}

/** The change is nobody's any more: no run tries again to take it back. Gives what to say. */
export async function giveUp(host: Host, change: PendingChange): Promise<string[]> {
  const said = await setAside(host, PATHS.checkpoint, 'what the change found could not be brought back');
  try {
    await removePending(host);
    await disarmTimer(host, change);
  } catch (error) {
    if (!(error instanceof AgentError)) throw error;
    said.push(error.message);
  }
  return said;
}

async function recordReturn(host: Host, change: PendingChange, why: string): Promise<void> {
  await refuse(host, { hash: change.hash, why });
  await writePending(host, { ...change, phase: 'returning' });
}

/**
 * The kernel has forgotten everything, so the last good configuration, which is brought up next, is all there is to do; where there is
 * none, nothing of ours may stay. Foreign profiles that the change put aside come back; those that the last good one puts aside go again.
 */
async function takeBackAfterBoot(
  host: Host,
  files: readonly { path: string; content: string; mode: number }[],
  renderer: Renderer,
  scope: Scope,
): Promise<Return> {
  const steps: Step[] = [];
  for (const file of files) {
    const there = await host.read(file.path, { orNothing: true });
    if (isOurFile(file.content) || (there !== undefined && !isOurFile(there))) continue;
    await host.write(file.path, file.content, file.mode);
    steps.push({ kind: 'write-file', file, was: there === undefined ? 'absent' : 'different' });
  }
  const result = steps.length === 0 ? 'unchanged' : 'changed';
  if ((await host.info(PATHS.lastGood)) !== undefined) return { result, whole: true, steps, warnings: [] };
  const { converge } = await import('./converge.ts');
  const convergence = await converge(host, { config: NOTHING, renderer, scope, ways: 'today' });
  return { ...convergence, steps: [...steps, ...convergence.steps] };
}
