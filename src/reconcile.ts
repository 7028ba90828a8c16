// One run of `start` or `reload`: which configuration, then converge, then the report. The order of the stages, on a screen.

import { randomBytes } from 'node:crypto';
import type { Config } from './config/config.ts';
import type { Issue } from './config/issue.ts';
import { parseConfig } from './config/parse.ts';
import { converge } from './converge.ts';
import { AgentError, EXIT, type ExitStatus } from './errors.ts';
import { hashOf, readSettled, readTrusted } from './machine/config-file.ts';
import type { Host } from './machine/host.ts';
import { PATHS } from './machine/paths.ts';
import { describe, type StepKind } from './network/step.ts';
import { chooseRenderer } from './survey.ts';

/** Who asked for a run. The first three are automatic: nobody vouches for the file. */
export const TRIGGERS = ['boot', 'udev', 'timer', 'operator', 'agent'] as const;
export type Trigger = (typeof TRIGGERS)[number];

export const isAutomatic = (trigger: Trigger): boolean =>
  trigger === 'boot' || trigger === 'udev' || trigger === 'timer';

export type RunRequest = {
  command: 'start' | 'reload';
  trigger: Trigger;
  configPath: string;
  /** Asked for with --renderer. */
  renderer?: string;
  /** For automatic runs: the hash that two reads of the file agreed on, or `unsettled`. */
  settled?: string;
};

/** What a run did: printed by --json, kept as the last run, logged. Survives JSON. */
export type Report = {
  id: string;
  command: 'start' | 'reload';
  trigger: Trigger;
  /** When it began, ISO 8601 UTC. */
  time: string;
  result: 'unchanged' | 'changed' | 'rolled-back' | 'failed';
  steps: { kind: StepKind; text: string }[];
  warnings: Issue[];
  errors: Issue[];
  durationMs: number;
  exitStatus: ExitStatus;
};

/**
 * For `settled` of a request: what an automatic run may take as whole. Waits two seconds where the file is neither the one
 * that was applied last nor the one that was taken back, so it is called before the lock is taken.
 */
export async function settle(host: Host, path: string): Promise<string> {
  const lastGood = await host.readBytes(PATHS.lastGood);
  const file = await readSettled(host, path, [lastGood && hashOf(lastGood), await host.read(PATHS.refused)]);
  if (file === 'unsettled') return file;
  return 'hash' in file ? file.hash : '';
}

/** Holds the lock already. Bugs are thrown; everything else is in the report. */
export async function run(host: Host, request: RunRequest): Promise<Report> {
  const started = performance.now();
  const report: Report = {
    id: randomBytes(4).toString('hex'),
    command: request.command,
    trigger: request.trigger,
    time: new Date().toISOString(),
    result: 'failed',
    steps: [],
    warnings: [],
    errors: [],
    durationMs: 0,
    exitStatus: EXIT.ok,
  };
  try {
    const order = await chooseOrder(host, request);
    report.warnings.push(...order.warnings);
    report.errors.push(...order.errors);
    if (order.errors.length > 0) report.exitStatus = EXIT.config;
    if (order.config !== undefined) await carryOut(host, request, order, order.config, report);
  } catch (error) {
    if (!(error instanceof AgentError)) throw error;
    report.errors.push({ message: error.message });
    report.exitStatus = error.status;
  }
  if (report.exitStatus !== EXIT.ok && report.result !== 'rolled-back') report.result = 'failed';
  report.durationMs = Math.round(performance.now() - started);
  return report;
}

async function carryOut(host: Host, request: RunRequest, order: Order, config: Config, report: Report): Promise<void> {
  const renderer = await chooseRenderer(host, request.renderer);
  const convergence = await converge(host, config, renderer, request.command === 'start' ? 'boot' : 'whole');
  report.result = convergence.result;
  report.steps = convergence.steps.map((step) => ({ kind: step.kind, text: describe(step) }));
  report.warnings.push(...convergence.warnings.map((message) => ({ message })));
  const { error } = convergence;
  if (error !== undefined) {
    if (order.fromFile) await host.write(PATHS.refused, order.hash, 0o600);
    if (!(error instanceof AgentError)) throw error;
    const end =
      convergence.result === 'rolled-back'
        ? 'the network is as it was before; mend the cause and run kylin-vr reload'
        : 'the network could not be put back whole; mend the cause and run kylin-vr reload';
    report.errors.push({ message: `${error.message}; ${end}` });
    report.exitStatus = EXIT.failed;
  } else if (order.fromFile && convergence.whole) {
    await host.write(PATHS.lastGood, order.bytes, 0o600);
    await host.remove(PATHS.refused);
  }
}

/** The configuration that a run carries out. */
type Order = {
  config?: Config;
  bytes: Uint8Array;
  hash: string;
  /** False: the last good configuration stands in for the file. */
  fromFile: boolean;
  warnings: Issue[];
  errors: Issue[];
};

/**
 * Who runs a reload says that the file is whole and meant. An automatic run keeps, and repairs, the last good configuration
 * where the file is invalid, was rolled back before, or may still be being written.
 */
async function chooseOrder(host: Host, request: RunRequest): Promise<Order> {
  const nothing = { bytes: new Uint8Array(), hash: '', fromFile: false };
  const file = await readTrusted(host, request.configPath, 'mend');
  if ('errors' in file) return standIn(host, request, { ...nothing, warnings: [], errors: file.errors });
  const { bytes, hash, warnings } = file;
  if (isAutomatic(request.trigger)) {
    const lastGood = await host.readBytes(PATHS.lastGood);
    const known = lastGood !== undefined && hashOf(lastGood) === hash;
    const refused = (await host.read(PATHS.refused)) === hash;
    if (refused)
      warnings.push({ message: 'this configuration was taken back before: run kylin-vr reload to try it again' });
    const unsettled = !known && request.settled !== undefined && request.settled !== hash;
    if (unsettled) warnings.push({ message: 'the file is being written: left for the next run' });
    if (refused || unsettled) return standIn(host, request, { ...nothing, warnings, errors: [] });
  }
  const parsed = parseConfig(bytes);
  if (!parsed.ok)
    return standIn(host, request, { ...nothing, warnings: [...warnings, ...parsed.warnings], errors: parsed.errors });
  return {
    config: parsed.config,
    bytes,
    hash,
    fromFile: true,
    warnings: [...warnings, ...parsed.warnings],
    errors: [],
  };
}

async function standIn(host: Host, request: RunRequest, order: Order): Promise<Order> {
  if (!isAutomatic(request.trigger)) return order;
  const bytes = await host.readBytes(PATHS.lastGood);
  const parsed = bytes && parseConfig(bytes);
  if (bytes === undefined || !parsed?.ok) {
    const message = 'there is no last good configuration: files and NICs stay as they are';
    return { ...order, warnings: [...order.warnings, { message }] };
  }
  const message = 'the last good configuration stays in force';
  return { ...order, config: parsed.config, bytes, hash: hashOf(bytes), warnings: [...order.warnings, { message }] };
}
