// The table of flows around a change: not known to be right from before the first step on, cut after the last.

import { type FlowRecord, hasNoFlows, writeFlowRecord } from '../machine/flow-record.ts';
import type { Host } from '../machine/host.ts';
import { holds } from '../network/kinds.ts';
import type { Step } from '../network/step.ts';
import { type Cut, NO_CUT, spentOn, united, worldOf } from './cut.ts';
import { type Aim, flowModelOf, recordedWorld, type Survey, translationIn } from './survey.ts';

/** Before the first change: entries are not known to be right from here on, whoever ends this run. */
export async function beginFlows(
  host: Host,
  aim: Aim,
  first: Survey,
  record: FlowRecord | undefined,
): Promise<FlowRecord> {
  const former = record?.former ?? recordedWorld(first.machine);
  const begun = { clean: false, ways: aim.ways, former: united(former, worldOf(translationIn(aim, first))) };
  await writeFlowRecord(host, begun);
  return begun;
}

/** When the network is as it should be. */
export async function endFlows(
  host: Host,
  aim: Aim,
  found: Survey,
  record: FlowRecord | undefined,
  { done = [], cuts = [] }: { done?: readonly Step[]; cuts?: readonly Cut[] } = {},
): Promise<Cut> {
  // What goes is looked for, whatever the kernel counts: who cannot look is told.
  const cut =
    !done.some((step) => holds(step, 'endsFlows')) && (await hasNoFlows(host))
      ? NO_CUT
      : await (await import('./stale.ts')).cutStale(host, flowModelOf(aim, found, record?.former), spentOn(cuts));
  if (record === undefined && cut.steps.length === 0) return cut;
  const world = worldOf(translationIn(aim, found));
  const former = cut.clean ? world : united(record?.former ?? recordedWorld(found.machine), world);
  const unwritten = await writeFlowRecord(host, { clean: cut.clean, ways: aim.ways, former });
  return unwritten === undefined ? cut : { ...cut, warnings: [...cut.warnings, unwritten] };
}
