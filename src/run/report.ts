// What a run says of itself, and how its stages put it together.

import { EXIT, type ExitStatus } from '../base/errors.ts';
import type { Trigger } from '../base/trigger.ts';
import type { Issue } from '../config/issue.ts';
import type { Chain } from '../network/state.ts';
import type { Step, StepKind } from '../network/step.ts';
import type { Return } from './convergence.ts';
import type { RunCommand } from './request.ts';

/** What a run did: printed by --json, kept as the last run, logged. Survives JSON. */
export type Report = {
  id: string;
  command: RunCommand;
  trigger: Trigger;
  /** When it began, ISO 8601 UTC. */
  time: string;
  result: 'unchanged' | 'changed' | 'rolled-back' | 'failed';
  steps: { kind: StepKind; text: string }[];
  /** The steps in an operator's words, where those are others. */
  summary?: string[];
  warnings: Issue[];
  errors: Issue[];
  durationMs: number;
  exitStatus: ExitStatus;
  /** The change waits for its confirmation. */
  pending?: { secondsLeft: number; deadline: string };
  /** What to do now. */
  advice?: string;
};

export type End = { goesOn: boolean; seen?: Return['seen'] };

export const GOES_ON: End = { goesOn: true };

/** What an operator reads of it. */
export const summaryOf = ({ steps, summary }: Pick<Report, 'steps' | 'summary'>): readonly string[] =>
  summary ?? steps.map(({ text }) => text);

/** Steps that are none need no words. `found`: our chains before them. */
export async function addSteps(report: Report, steps: readonly Step[], found?: readonly Chain[]): Promise<void> {
  if (steps.length === 0) return;
  const [{ describe }, { spoken }] = await Promise.all([import('../network/kinds.ts'), import('../engines/spoken.ts')]);
  if (found !== undefined || report.summary !== undefined)
    report.summary = [...summaryOf(report), ...(found === undefined ? steps.map(describe) : spoken(steps, found))];
  for (const step of steps) report.steps.push({ kind: step.kind, text: describe(step) });
}

export function fail(report: Report, message: string): void {
  report.errors.push({ message });
  report.exitStatus = EXIT.failed;
}
