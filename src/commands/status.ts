// `status`: what is, as people and machines read it. Touches nothing.

import { setTimeout as sleep } from 'node:timers/promises';
import { prometheusText } from '../dialects/prometheus.ts';
import { EXIT, type ExitStatus, UsageError } from '../errors.ts';
import { type Counters, readStatus, type State, type Status } from '../status.ts';
import {
  type Context,
  count,
  type GlobalOptions,
  issueText,
  needRoot,
  painter,
  paintStep,
  printJson,
} from './context.ts';

export type StatusOptions = GlobalOptions & {
  format: 'text' | 'prometheus';
  counters: boolean;
  /** Seconds. */
  watch?: number;
};

const CLEAR_SCREEN = '\u001b[H\u001b[2J';

export async function status(context: Context, options: StatusOptions): Promise<ExitStatus> {
  needRoot(context, 'status');
  if (options.watch === undefined) return show(context, options);
  if (options.json || options.format !== 'text')
    throw new UsageError('--watch is for people: without --json and --format');
  for (;;) {
    // Read first, so that the screen is empty for no time.
    await show({ ...context, stdout: (text) => context.stdout(context.colour ? CLEAR_SCREEN + text : text) }, options);
    await sleep(options.watch * 1000);
  }
}

async function show(context: Context, options: StatusOptions): Promise<ExitStatus> {
  const { report, valid, text } = await readStatus(context.host(), options);
  if (options.format === 'prometheus') {
    context.stdout(prometheusText(report));
    // What is wrong is in the numbers: a collector's script must not stop at it.
    return EXIT.ok;
  }
  if (options.json) printJson(context, report);
  else print(context, options, report, text);
  if (!valid) return EXIT.config;
  return report.inSync ? EXIT.ok : EXIT.notInSync;
}

function print(context: Context, options: StatusOptions, report: Status, text: string | undefined): void {
  const paint = painter(context);
  const paintState = (state: State) =>
    paint(state, state === 'active' ? 'green' : state === 'pending' ? 'yellow' : 'red');
  const lines: string[] = [];
  const table = (title: string, rows: readonly (readonly string[])[]) => {
    if (rows.length === 0) return;
    lines.push(title);
    const widths = (rows[0] ?? []).map((_, column) => Math.max(...rows.map((row) => row[column]?.length ?? 0)));
    for (const row of rows) {
      const cells = row.map((cell, column) =>
        column === row.length - 1 ? paintState(cell as State) : cell.padEnd(widths[column] ?? 0),
      );
      lines.push(`  ${cells.join('  ')}`);
    }
  };
  table(
    'NICs',
    report.nics.map((nic) => [
      nic.name ?? '',
      nic.bridge === undefined ? (nic.device ?? '-') : `${nic.device ?? '-'} in ${nic.bridge}`,
      nic.mac,
      nic.address,
      nic.role,
      nic.state,
    ]),
  );
  table(
    'EIPs',
    report.eips.map(({ eip, vmIp, counters, state }) => [eip, '→', vmIp, ...counted(counters), state]),
  );
  table(
    'Forwards',
    report.forwards.map(({ eip, protocol, port, endPort, vmPort, vmIp, counters, state }) => [
      `${eip}:${ports(port, endPort)}/${protocol}`,
      '→',
      `${vmIp}:${ports(vmPort, vmPort + endPort - port)}`,
      ...counted(counters),
      state,
    ]),
  );
  lines.push(...foreignLines(report.foreign));
  for (const issue of report.warnings)
    lines.push(`${paint('warning', 'yellow')}: ${issueText(options.config, text, issue)}`);
  for (const issue of report.errors) lines.push(`${paint('error', 'red')}: ${issueText(options.config, text, issue)}`);
  if (report.running !== undefined) lines.push(`at work: ${report.running}`);
  if (report.pending !== undefined) lines.push(`${paint('to be confirmed', 'yellow')}: ${pendingText(report.pending)}`);
  if (report.notInForce !== undefined) lines.push(`${options.config} is not in force: ${report.notInForce}`);
  if (report.lastRun !== undefined) {
    const { time, command, trigger, result, durationMs, error } = report.lastRun;
    const how = result === 'failed' || result === 'rolled-back' ? paint(result, 'red') : result;
    lines.push(
      `last run: ${time} ${command} (${trigger}): ${how} in ${durationMs} ms${error === undefined ? '' : `: ${error}`}`,
    );
  }
  if (report.inSync) lines.push(paint('in sync', 'green'));
  else if (report.errors.length === 0) {
    lines.push(`${paint('not in sync', 'red')}: reload would do ${count(report.steps.length, 'step')}`);
    lines.push(...report.steps.map((step) => `  ${paintStep(paint, step.text)}`));
  }
  context.stdout(`${lines.join('\n')}\n`);
}

/** A machine with a routing daemon or containers has thousands; --json has all of them. */
const MOST_FOREIGN = 20;

function foreignLines(foreign: Status['foreign']): string[] {
  if (foreign.length === 0) return [];
  const shown = foreign.slice(0, MOST_FOREIGN);
  const places = shown.map(({ kind, device, chain }) => (kind === 'rule' ? `nat ${chain}` : (device ?? '')));
  const width = Math.max(...places.map((place) => place.length));
  const left = foreign.length - shown.length;
  return [
    'Foreign',
    ...shown.map(({ kind, text, goes, beforeOurs }, n) => {
      const note = goes ? '  (reload removes it)' : kind === 'rule' && beforeOurs ? '  (before ours)' : '';
      return `  ${places[n]?.padEnd(width)}  ${kind.padEnd('address'.length)}  ${text}${note}`;
    }),
    ...(left === 0 ? [] : [`  and ${left} more: kylin-vr status --json has all of them`]),
  ];
}

function pendingText({ secondsLeft, deadline, time, run, phase }: NonNullable<Status['pending']>): string {
  const of = `the change of ${time} (run ${run})`;
  if (phase === 'applying') return `${of} is being applied`;
  if (phase !== 'waiting' || secondsLeft === 0) return `${of} is being taken back`;
  return `${of} is taken back in ${secondsLeft} s (${deadline}): kylin-vr confirm keeps it`;
}

const ports = (from: number, to: number): string => (from === to ? `${from}` : `${from}-${to}`);

const counted = (counters: Counters | undefined): string[] =>
  counters === undefined ? [] : [`${counters.now} now`, `${counters.since} since`];
