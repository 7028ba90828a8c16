// What install and uninstall share: one line for everything done, and the calls that make the running system see it.

import { count } from '../base/count.ts';
import { CommandError, EXIT, type ExitStatus, UnsupportedError } from '../base/errors.ts';
import { PATHS } from '../base/paths.ts';
import { shown } from '../base/visible.ts';
import { QEMU_GA_FILES } from '../dialects/qemu-ga.ts';
import { type Change, kindOf } from '../installation/plan.ts';
import { FIREWALLD_POLICY, NETWORKMANAGER_FILE, UNIT_FOLDER } from '../installation/tree.ts';
import type { Host } from '../machine/host.ts';
import { type Context, type GlobalOptions, painter, paintStep, printJson, problem } from './context.ts';
import { type ProgressLine, progressLine } from './progress.ts';

export type ChangeReport = {
  result: 'unchanged' | 'changed';
  steps: { kind: string; text: string }[];
  warnings: { message: string }[];
  errors: [];
  durationMs: number;
};

export class Progress {
  readonly #context: Context;
  readonly #options: GlobalOptions;
  readonly #started = performance.now();
  readonly line: ProgressLine;
  readonly steps: ChangeReport['steps'] = [];
  readonly warnings: string[] = [];

  constructor(context: Context, options: GlobalOptions) {
    this.#context = context;
    this.#options = options;
    this.line = progressLine(context);
  }

  done(kind: string, text: string): void {
    this.steps.push({ kind, text });
    if (!this.#options.json) this.#context.stdout(shown`${paintStep(painter(this.#context), text)}\n`);
  }

  changed(change: Change): void {
    this.done(kindOf(change), change.text);
  }

  warn(message: string): void {
    this.warnings.push(message);
    if (!this.#options.json) this.#context.stderr(shown`${problem(this.#context, 'warning')}: ${message}\n`);
  }

  /** Runs a command that is part of the work; one that fails is a warning: the files are in place. */
  async run(host: Host, ...argv: [string, ...string[]]): Promise<void> {
    this.line.show(argv.join(' '));
    try {
      await host.run(argv, { timeoutMs: 200_000 }).finally(this.line.end);
      this.done('run-command', `! ${argv.join(' ')}`);
    } catch (error) {
      if (!(error instanceof CommandError || error instanceof UnsupportedError)) throw error;
      this.warn(`${error.message}; run it again when the cause is gone`);
    }
  }

  finish(command: string): ExitStatus {
    const result = this.steps.length === 0 ? 'unchanged' : 'changed';
    const durationMs = Math.round(performance.now() - this.#started);
    const warnings = this.warnings.map((message) => ({ message }));
    if (this.#options.json)
      printJson(this.#context, { result, steps: this.steps, warnings, errors: [], durationMs } satisfies ChangeReport);
    else {
      const paint = painter(this.#context);
      this.#context.stdout(
        shown`${command}: ${paint(result, 'green')}, ${count(this.steps.length, 'step')} in ${durationMs} ms\n`,
      );
    }
    return EXIT.ok;
  }
}

/** Makes what runs take up what changed on disk; nothing where systemd does not run. udevd looks by itself. */
export async function takeUp(host: Host, progress: Progress, changes: readonly Change[]): Promise<void> {
  const changed = (test: (path: string) => boolean) => changes.some(({ path }) => test(path));
  if ((await host.info('/run/systemd/system')) === undefined) return;
  if (changed((path) => path.startsWith(`${UNIT_FOLDER}/`) || path.startsWith('/etc/systemd/system/')))
    await progress.run(host, 'systemctl', 'daemon-reload');
  if (changed((path) => path === NETWORKMANAGER_FILE) && (await isActive(host, 'NetworkManager.service')))
    await progress.run(host, 'systemctl', 'reload', 'NetworkManager.service');
  if (changed((path) => path === FIREWALLD_POLICY) && (await isActive(host, 'firewalld.service')))
    await reloadFirewalld(host, progress, changes);
  if (changed((path) => QEMU_GA_FILES.some((file) => file === path))) await restartGuestAgent(host, progress);
}

/** firewalld flushes our rules too when it reloads (seen with 1.3): only where we put them back at once. */
async function reloadFirewalld(host: Host, progress: Progress, changes: readonly Change[]): Promise<void> {
  const gone = changes.some(({ path, to }) => path === FIREWALLD_POLICY && to.kind === 'absent');
  const reloads = await isActive(host, 'kylin-vr-reload.path');
  if (gone)
    progress.warn(
      'firewalld keeps the policy that was removed until firewall-cmd --reload, which flushes our rules too: run it when the ' +
        'network that still runs is not needed any more',
    );
  else if (!reloads && (await host.info(PATHS.owned)) !== undefined)
    progress.warn(
      'firewalld does not know its new policy yet: run firewall-cmd --reload, which flushes our rules, and then kylin-vr reload',
    );
  else {
    await progress.run(host, 'firewall-cmd', '--reload');
    if (reloads) await progress.run(host, 'systemctl', 'start', 'kylin-vr-reload.service');
  }
}

/** Not from within: it would end us, and the host would never learn how this ended. */
async function restartGuestAgent(host: Host, progress: Progress): Promise<void> {
  if (!(await isActive(host, AGENT))) return;
  if (((await host.read('/proc/self/cgroup')) ?? '').includes(`/${AGENT}`))
    progress.warn(
      `the guest agent runs this, and its restart would end it: it takes up its new settings with systemctl restart ${AGENT} in the guest`,
    );
  else await progress.run(host, 'systemctl', 'restart', AGENT);
}

const AGENT = 'qemu-guest-agent.service';

export async function isActive(host: Host, unit: string): Promise<boolean> {
  // 3: not active; 4: no such unit.
  return (await host.run(['systemctl', 'is-active', '--quiet', unit], { accept: [3, 4] })).status === 0;
}
