// A network namespace and the commands run in it. It has no name and no path: it lives as long as the process that holds
// it, and that process ends when its standard input does. A lab whose maker was killed is thus removed by the kernel.

import { type ChildProcess, type ChildProcessWithoutNullStreams, type SpawnOptions, spawn } from 'node:child_process';
import { once } from 'node:events';
import { readdirSync, readlinkSync } from 'node:fs';
import { constants } from 'node:os';
import { text } from 'node:stream/consumers';

export type RunOptions = {
  input?: string;
  env?: Record<string, string>;
  timeoutMs?: number;
  /** Throw when the command does not end with 0. */
  check?: boolean;
};

/** How a command ended; of one that was killed the status is 128 + signal, as in a shell. */
export type RunResult = { status: number; stdout: string; stderr: string };

export type Namespace = {
  /** The process that holds the namespace: `nsenter --target PID --net` enters it. */
  pid: number;
  run(argv: readonly string[], options?: RunOptions): Promise<RunResult>;
  /** Starts a command that is killed with its maker; the child's pid is the command's own. */
  spawn(argv: readonly string[], options?: SpawnOptions): ChildProcess;
  /** Kills every process in the namespace, and so ends it. */
  kill(): void;
  /** Kills, and waits for the end. */
  end(): Promise<void>;
};

/** Only what a guest agent would hand on; a developer's variables must not reach the program under test. */
const ENVIRONMENT = { PATH: '/usr/sbin:/usr/bin:/sbin:/bin', HOME: '/root' };

/** With `setup`, a shell script run in the namespace first, it also has mounts of its own. */
export async function createNamespace(setup?: string): Promise<Namespace> {
  const inside = setup === undefined ? ['cat'] : ['--mount', 'sh', '-ec', `${setup}\nexec cat`];
  const holder = spawn('unshare', ['--net', ...inside], { env: ENVIRONMENT });
  const ended = once(holder, 'exit');
  const complaint = text(holder.stderr);
  holder.stdin.write('\n');
  const alive = await Promise.race([once(holder.stdout, 'data').then(() => true), ended.then(() => false)]);
  const { pid } = holder;
  if (!alive || pid === undefined) throw new Error(`making a namespace: ${await complaint}`);
  const namespace = namespaceOf(pid) ?? '';

  const enter = ['--pdeathsig', 'KILL', 'nsenter', '--target', `${pid}`, '--net'];
  if (setup !== undefined) enter.push('--mount');
  // One that has not entered the namespace yet is not found in it.
  const children = new Set<ChildProcess>();
  const spawnInside = (argv: readonly string[], options: SpawnOptions = {}): ChildProcess => {
    const child = spawn('setpriv', [...enter, '--', ...argv], { ...options, env: { ...ENVIRONMENT, ...options.env } });
    children.add(child);
    child.on('exit', () => children.delete(child));
    return child;
  };

  const kill = () => {
    if (holder.exitCode !== null || holder.signalCode !== null) return;
    for (const child of children) child.kill('SIGKILL');
    for (const process of processesIn(namespace)) killProcess(process);
  };
  return {
    pid,
    spawn: spawnInside,
    run: (argv, options) => finish(argv, spawnInside, options),
    kill,
    async end() {
      kill();
      await ended;
    },
  };
}

async function finish(
  argv: readonly string[],
  start: Namespace['spawn'],
  options: RunOptions = {},
): Promise<RunResult> {
  const { input = '', env = {}, timeoutMs = 60_000, check = false } = options;
  const child = start(argv, { env, timeout: timeoutMs, killSignal: 'SIGKILL' }) as ChildProcessWithoutNullStreams;
  // A command may end without reading its input.
  child.stdin.on('error', () => {}).end(input);
  const [stdout, stderr, [code, signal]] = await Promise.all([
    text(child.stdout),
    text(child.stderr),
    once(child, 'close') as Promise<[number | null, NodeJS.Signals | null]>,
  ]);
  const status = code ?? 128 + (signal === null ? 0 : constants.signals[signal]);
  if (check && status !== 0) throw new Error(`${argv.join(' ')}: status ${status}: ${stderr.trim() || stdout.trim()}`);
  return { status, stdout, stderr };
}

/** The network namespace of a process, as the kernel names it. */
export function namespaceOf(pid: number): string | undefined {
  try {
    return readlinkSync(`/proc/${pid}/ns/net`);
  } catch {
    // It has ended.
    return undefined;
  }
}

export function processesIn(namespace: string): number[] {
  return readdirSync('/proc')
    .map(Number)
    .filter((pid) => pid > 0 && namespaceOf(pid) === namespace);
}

function killProcess(pid: number): void {
  try {
    process.kill(pid, 'SIGKILL');
  } catch {
    // It has ended already.
  }
}
