// `status`: what is, as people and machines read it. Touches nothing.

import { setTimeout as sleep } from 'node:timers/promises';
import { count } from '../base/count.ts';
import { EXIT, type ExitStatus, UsageError } from '../base/errors.ts';
import { joined, own, type Shown, shown, shownLines, visible } from '../base/visible.ts';
import { NO_NICS } from '../config/config.ts';
import { firstOf } from '../config/issue.ts';
import { spoken } from '../engines/spoken.ts';
import { keysText } from '../network/profile-keys.ts';
import type { State } from '../network/reach.ts';
import { prometheusText } from '../run/prometheus.ts';
import { type Counters, readStatus, type Status } from '../run/status.ts';
import { type Context, type GlobalOptions, issueText, needRoot, painter, paintStep, printJson } from './context.ts';

export type StatusOptions = GlobalOptions & {
  format: 'text' | 'prometheus';
  counters: boolean;
  /** Seconds. */
  watch?: number;
};

const CLEAR_SCREEN = own('\u001b[H\u001b[2J');

export async function status(context: Context, options: StatusOptions): Promise<ExitStatus> {
  needRoot(context, 'status');
  if (options.watch === undefined) return show(context, options);
  if (options.json || options.format !== 'text')
    throw new UsageError('--watch is for people: without --json and --format');
  for (;;) {
    // Read first, so that the screen is empty for no time.
    await show(
      { ...context, stdout: (text) => context.stdout(context.colour ? joined([CLEAR_SCREEN, text]) : text) },
      options,
    );
    if (context.unread?.()) return EXIT.ok;
    await sleep(options.watch * 1000);
  }
}

async function show(context: Context, options: StatusOptions): Promise<ExitStatus> {
  const { report, valid, text, found } = await readStatus(context.host(), options);
  if (options.format === 'prometheus') {
    context.stdout(shownLines(prometheusText(report)));
    // What is wrong is in the numbers: a collector's script must not stop at it.
    return EXIT.ok;
  }
  if (options.json) printJson(context, report);
  else {
    const isWordy = options.verbose || found === undefined;
    const steps = isWordy ? report.steps.map((step) => step.text) : spoken(found.steps, found.observation.state.chains);
    print(context, options, report, text, steps);
  }
  if (!valid) return EXIT.config;
  return report.inSync ? EXIT.ok : EXIT.notInSync;
}

/** One whose bridge is not there yet has its addresses on itself. */
function placeOf({ device, bridge, state }: Status['nics'][number]): string {
  const nic = device ?? '-';
  if (bridge === undefined) return nic;
  return state === 'pending' && device !== undefined ? `${nic}, not yet in ${bridge}` : `${nic} in ${bridge}`;
}

function print(
  context: Context,
  options: StatusOptions,
  report: Status,
  text: string | undefined,
  steps: readonly string[],
): void {
  const paint = painter(context);
  const paintState = (state: State) =>
    paint(state, state === 'active' ? 'green' : state === 'pending' ? 'yellow' : 'red');
  const lines: Shown[] = [];
  const table = (title: string, rows: readonly (readonly string[])[]) => {
    if (rows.length === 0) return;
    lines.push(own(title));
    const seen = rows.map((row) => row.map(visible));
    const widths = (seen[0] ?? []).map((_, column) => Math.max(...seen.map((row) => row[column]?.length ?? 0)));
    for (const row of seen) {
      const cells = row.map((cell, column) =>
        column === row.length - 1 ? paintState(cell as State) : own(cell.padEnd(widths[column] ?? 0)),
      );
      lines.push(shown`  ${joined(cells, '  ')}`);
    }
  };
  table(
    'NICs',
    report.nics.map((nic) => [nic.name ?? '', placeOf(nic), nic.mac, nic.address, nic.role, nic.state]),
  );
  lines.push(...keptLines(report.nics));
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
  // Where all is well they are a line each for nothing.
  const told = report.sources.filter(({ state, counters }) => state === 'error' || counters !== undefined);
  table(
    'Sources',
    told.map(({ source, to, counters, state }) => [source, '→', leavingBy(to), ...counted(counters), state]),
  );
  lines.push(...foreignLines(report.foreign));
  for (const { of, count: flows } of report.staleFlows ?? [])
    lines.push(
      shown`${paint('warning', 'yellow')}: ${count(flows, 'established flow')} of ${of} ${flows === 1 ? 'goes' : 'go'} on as the file does not say: kylin-vr reload cuts ${flows === 1 ? 'it' : 'them'}`,
    );
  for (const issue of firstOf(report.warnings))
    lines.push(shown`${paint('warning', 'yellow')}: ${issueText(text, issue)}`);
  for (const issue of firstOf(report.errors)) lines.push(shown`${paint('error', 'red')}: ${issueText(text, issue)}`);
  for (const hint of report.hints ?? []) lines.push(shown`${paint('note', 'dim')}: ${hint}`);
  if (report.running !== undefined) lines.push(shown`at work: ${report.running}`);
  if (report.pending !== undefined)
    lines.push(shown`${paint('to be confirmed', 'yellow')}: ${pendingText(report.pending)}`);
  if (report.notInForce !== undefined) lines.push(shown`${options.config} is not in force: ${report.notInForce}`);
  if (report.lastRun !== undefined) {
    const { time, command, trigger, result, durationMs, error } = report.lastRun;
    const how = result === 'failed' || result === 'rolled-back' ? paint(result, 'red') : result;
    lines.push(
      shown`last run: ${time} ${command} (${trigger}): ${how} in ${durationMs} ms${error === undefined ? '' : `: ${error}`}`,
    );
  }
  const away = report.nics.filter(({ state }) => state === 'pending').length;
  if (
    report.inSync &&
    away > 0 &&
    report.nics.every(({ state, device }) => state === 'pending' && device === undefined)
  )
    lines.push(
      shown`${paint('pending', 'yellow')}: none of the NICs is ready, and nothing is routed: plug them in, or mend mac`,
    );
  else if (report.inSync)
    lines.push(
      shown`${paint('in sync', 'green')}${away === 0 ? '' : `, but for ${count(away, 'NIC')} that ${away === 1 ? 'is' : 'are'} pending`}`,
    );
  else if (report.errors.length === 0) {
    const why =
      report.steps.length === 0
        ? shown`a NIC is in error, and reload cannot help: see the warning`
        : shown`reload would do ${count(report.steps.length, 'step')}`;
    lines.push(shown`${paint('not in sync', 'red')}: ${why}`);
    lines.push(...steps.map((step) => shown`  ${paintStep(paint, step)}`));
  }
  if (report.inSync && report.nics.length === 0) lines.push(shown`${NO_NICS}`);
  context.stdout(shown`${joined(lines, '\n')}\n`);
}

function keptLines(nics: Status['nics']): Shown[] {
  const kept = nics.flatMap(({ device, kept }) =>
    device === undefined || kept === undefined ? [] : [{ device, kept }],
  );
  if (kept.length === 0) return [];
  const width = Math.max(...kept.map(({ device }) => device.length));
  return [
    own('Kept in profiles'),
    ...kept.map(({ device, kept }) => shown`  ${device.padEnd(width)}  ${keysText(kept)}`),
  ];
}

/** A machine with a routing daemon or containers has thousands; --json has all of them. */
const MOST_FOREIGN = 20;

function foreignLines(foreign: Status['foreign']): Shown[] {
  if (foreign.length === 0) return [];
  const first = foreign.slice(0, MOST_FOREIGN);
  const places = first.map(({ kind, device, chain }) => visible(kind === 'rule' ? `nat ${chain}` : (device ?? '')));
  const width = Math.max(...places.map((place) => place.length));
  const left = foreign.length - first.length;
  return [
    own('Foreign'),
    ...first.map(({ kind, text, goes, beforeOurs }, n) => {
      const note = goes ? '  (reload removes it)' : kind === 'rule' && beforeOurs ? '  (before ours)' : '';
      return shown`  ${(places[n] ?? '').padEnd(width)}  ${kind.padEnd('address'.length)}  ${text}${note}`;
    }),
    ...(left === 0 ? [] : [shown`  and ${left} more: kylin-vr status --json has all of them`]),
  ];
}

function pendingText({ secondsLeft, deadline, time, run, phase }: NonNullable<Status['pending']>): string {
  const of = `the change of ${time} (run ${run})`;
  if (phase === 'applying') return `${of} is being applied`;
  if (phase !== 'waiting' || secondsLeft === 0) return `${of} is being taken back`;
  return `${of} is taken back in ${secondsLeft} s (${deadline}): kylin-vr confirm keeps it`;
}

const leavingBy = (to: string): string =>
  to === 'none' ? 'as it is' : to === 'uplink' || to === 'masquerade' ? "the uplink's own address" : to;

const ports = (from: number, to: number): string => (from === to ? `${from}` : `${from}-${to}`);

const counted = (counters: Counters | undefined): string[] =>
  counters === undefined ? [] : [`${counters.now} now`, `${counters.since} since`];
