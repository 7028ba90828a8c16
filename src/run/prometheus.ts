// The status in Prometheus' text format, for node_exporter's textfile collector. Pure.

import type { State } from '../network/reach.ts';
import type { Status } from './status.ts';

type Sample = { labels?: Record<string, string>; value: number };

const STATES: readonly State[] = ['active', 'pending', 'error'];

export function prometheusText(status: Status): string {
  const { inSync, steps, errors, warnings, lastRun, pending, eips, forwards } = status;
  const inState = (things: readonly { state: State }[]): Sample[] =>
    STATES.map((state) => ({ labels: { state }, value: things.filter((thing) => thing.state === state).length }));
  const metrics: [name: string, help: string, samples: Sample[]][] = [
    ['in_sync', 'Whether the network is as the file wants it.', [{ value: Number(inSync) }]],
    ['steps_to_do', 'Steps that a reload would take.', [{ value: steps.length }]],
    ['config_errors', 'Errors in the file.', [{ value: errors.length }]],
    [
      'stale_flows',
      'Flows that conntrack translates as the file does not say any more.',
      [{ value: (status.staleFlows ?? []).reduce((sum, { count }) => sum + count, 0) }],
    ],
    ['warnings', 'Warnings about the file and the machine.', [{ value: warnings.length }]],
    ['nics', 'NICs of the file, by state.', inState(status.nics)],
    ['eips', 'Elastic IPs of the file, by state.', inState(eips)],
    ['forwards', 'Forwarded ports of the file, by state.', inState(forwards)],
    [
      'eip_connections',
      'Connections of an elastic IP that conntrack knows now (with --counters).',
      eips.flatMap(({ eip, counters }) => (counters === undefined ? [] : [{ labels: { eip }, value: counters.now }])),
    ],
    [
      'confirm_seconds_left',
      'Until the change that waits for its confirmation is taken back.',
      pending === undefined ? [] : [{ value: pending.secondsLeft }],
    ],
  ];
  if (lastRun !== undefined) {
    const { time, durationMs, result, trigger, command } = lastRun;
    metrics.push(
      ['last_run_timestamp_seconds', 'When the last run began.', [{ value: Date.parse(time) / 1000 }]],
      ['last_run_duration_seconds', 'How long it took.', [{ value: durationMs / 1000 }]],
      ['last_run_info', 'How it ended, and who asked.', [{ labels: { command, trigger, result }, value: 1 }]],
    );
  }
  return metrics
    .filter(([, , samples]) => samples.length > 0)
    .map(([name, help, samples]) => {
      const lines = samples.map(({ labels, value }) => `kylin_vr_${name}${labelText(labels)} ${value}`);
      return `# HELP kylin_vr_${name} ${help}\n# TYPE kylin_vr_${name} gauge\n${lines.join('\n')}\n`;
    })
    .join('');
}

function labelText(labels: Record<string, string> | undefined): string {
  if (labels === undefined) return '';
  return `{${Object.entries(labels)
    .map(([name, value]) => `${name}="${value.replaceAll(/["\\\n]/g, '_')}"`)
    .join(',')}}`;
}
