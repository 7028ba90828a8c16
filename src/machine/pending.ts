// A change that waits for its confirmation, on disk: it outlives the process, the SSH session and the machine's power.
// Writing is for the holder of the lock.
//
//   pending.json     there = such a change is under way; written after the two below, removed before them
//   pending.yaml     its configuration
//   checkpoint.json  what it found: where it is taken back, that comes again
//
// Time is what /proc/uptime says (CLOCK_BOOTTIME): a wall clock that steps neither shortens nor lengthens the wait.

import type { Bounds } from '../base/bounded-json.ts';
import { AgentError } from '../base/errors.ts';
import { hashOf } from '../base/hash.ts';
import { PATHS } from '../base/paths.ts';
import type { Trigger } from '../base/trigger.ts';
import { LARGEST } from '../config/position.ts';
import type { Checkpoint } from './checkpoint.ts';
import type { Host } from './host.ts';
import { checkpoint as checkpointShape, fitting, type PHASES, pending as pendingShape } from './kept-shapes.ts';

export type PendingChange = {
  /** The run that made it. */
  run: string;
  time: string;
  trigger: Trigger;
  /** Of its configuration. */
  hash: string;
  /**
   * `applying`: that run is at work, or was killed. `waiting`: applied and verified. `confirmed`, `returning`: decided; who
   * finds it so carries on where another run was killed.
   */
  phase: (typeof PHASES)[number];
  /** How long it waits. */
  seconds: number;
  boot: string;
  /** Seconds since that boot. */
  deadline: number;
};

/** Written in one piece by us alone: what is not that is not ours. */
export async function readPending(host: Host): Promise<PendingChange | undefined> {
  const text = await host.read(PATHS.pending, { orNothing: true });
  return text === undefined ? undefined : fitting(pendingShape, text);
}

/** Before the first change: whatever happens from here on, the change is taken back unless it is confirmed. */
export async function beginPending(
  host: Host,
  change: Pick<PendingChange, 'run' | 'time' | 'trigger' | 'hash' | 'seconds'>,
  bytes: Uint8Array,
  checkpoint: Checkpoint,
): Promise<PendingChange> {
  const begun: PendingChange = { ...change, phase: 'applying', ...(await deadlineIn(host, change.seconds)) };
  await writeCheckpoint(host, checkpoint);
  await host.write(PATHS.pendingConfig, bytes, 0o600);
  await writePending(host, begun);
  return begun;
}

/** The whole time counts from when the change was verified. `found`: what it took away is known now. */
export async function startWaiting(host: Host, change: PendingChange, found?: Checkpoint): Promise<PendingChange> {
  if (found !== undefined) await writeCheckpoint(host, found);
  const waiting: PendingChange = { ...change, phase: 'waiting', ...(await deadlineIn(host, change.seconds)) };
  await writePending(host, waiting);
  return waiting;
}

async function writeCheckpoint(host: Host, checkpoint: Checkpoint): Promise<void> {
  await host.write(PATHS.checkpoint, `${JSON.stringify(checkpoint)}\n`, 0o600);
}

export async function writePending(host: Host, change: PendingChange): Promise<void> {
  await host.write(PATHS.pending, `${JSON.stringify(change)}\n`, 0o600);
}

export async function removePending(host: Host): Promise<void> {
  for (const path of [PATHS.pending, PATHS.pendingConfig, PATHS.checkpoint]) await host.remove(path);
}

/** Its configuration; undefined where it is not the one that was applied. */
export async function pendingBytes(host: Host, { hash }: PendingChange): Promise<Uint8Array | undefined> {
  const bytes = await host.readBytes(PATHS.pendingConfig, { most: LARGEST, orNothing: true });
  return bytes !== undefined && hashOf(bytes) === hash ? bytes : undefined;
}

/** Bytes. 217 for each route of others: a routing daemon has a million. */
const MOST_FOUND = 256 * 1024 * 1024;

/** Of the memory that Node has: the text and what is in it are there together. */
const SHARE = 0.35;

/** Those routes, and what 40,000 EIPs come to. */
const FOUND: Bounds = { depth: 16, values: 2_000_000 };

/** Undefined also where it is damaged, or more than that. */
export async function readCheckpoint(host: Host): Promise<Checkpoint | undefined> {
  const { getHeapStatistics } = await import('node:v8');
  const most = Math.min(MOST_FOUND, getHeapStatistics().heap_size_limit * SHARE);
  const text = await host.read(PATHS.checkpoint, { most, orNothing: true });
  return text === undefined ? undefined : (fitting(checkpointShape, text, FOUND) as Checkpoint | undefined);
}

/** Whether the time has run out, or nobody is there any more who waits: for the holder of the lock. */
export async function hasLapsed(host: Host, change: PendingChange): Promise<boolean> {
  return change.phase !== 'waiting' || (await secondsLeft(host, change)) <= 0;
}

/** None in another boot than that in which it was made. `now`: seconds since boot. */
export async function secondsLeft(host: Host, change: PendingChange, now?: number): Promise<number> {
  if (!(await isOfThisBoot(host, change))) return 0;
  return Math.max(0, change.deadline - (now ?? (await uptimeOf(host))));
}

/** A container that boots again keeps the machine's boot id, but its own uptime begins anew (lxcfs). */
export async function isOfThisBoot(host: Host, { boot, deadline, seconds }: PendingChange): Promise<boolean> {
  return boot === (await bootOf(host)) && deadline - (await uptimeOf(host)) <= seconds;
}

async function deadlineIn(host: Host, seconds: number): Promise<Pick<PendingChange, 'boot' | 'deadline'>> {
  return { boot: await bootOf(host), deadline: (await uptimeOf(host)) + seconds };
}

/**
 * As PID 1 sees it: systemd-nspawn gives a container an id of its own, which ProtectKernelTunables hides from units in it (systemd 252).
 */
export async function bootOf(host: Host): Promise<string> {
  const seenByInit = await host.read(`/proc/1/root${BOOT_ID}`, { orNothing: true });
  return (seenByInit ?? (await host.read(BOOT_ID)))?.trim() ?? '';
}

const BOOT_ID = '/proc/sys/kernel/random/boot_id';

export const uptimeOf = async (host: Host): Promise<number> => Number((await host.read('/proc/uptime'))?.split(' ')[0]);

const unitOf = ({ run }: PendingChange): string => `kylin-vr-rollback-${run}`;

/**
 * Makes `takeBack`, a command line, run when the time is over: by a timer of systemd, which outlives an SSH session and all
 * that is in its cgroup; where systemd does not run, or will not, by a process in a session of its own. The command itself
 * waits for the rest of the time: there is more of it once the change is verified.
 */
export async function armTimer(
  host: Host,
  change: PendingChange,
  takeBack: readonly [string, ...string[]],
): Promise<void> {
  if (await hasSystemd(host)) {
    const description = `kylin-vr: take back the change of run ${change.run} unless it is confirmed`;
    const timer: [string, ...string[]] = [
      'systemd-run',
      '--quiet',
      '--collect',
      `--unit=${unitOf(change)}`,
      `--description=${description}`,
      `--on-active=${change.seconds}s`,
      '--timer-property=AccuracySec=100ms',
      ...takeBack,
    ];
    try {
      await host.run(timer);
      return;
    } catch (error) {
      if (!(error instanceof AgentError)) throw error;
    }
  }
  await host.launch(takeBack);
}

/** A process that waits sees by itself that the change is decided. So does a timer that stays: its command finds nothing to do. */
export async function disarmTimer(host: Host, change: PendingChange): Promise<void> {
  if (!(await hasSystemd(host))) return;
  await host.run(['systemctl', 'stop', `${unitOf(change)}.timer`]).catch((error: unknown) => {
    if (!(error instanceof AgentError)) throw error;
  });
}

const hasSystemd = async (host: Host): Promise<boolean> => (await host.info('/run/systemd/system')) !== undefined;
