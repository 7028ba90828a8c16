// What a run says of itself, put together of what its stages say.

import { EXIT, type ExitStatus } from '../base/errors.ts';
import { shortName } from '../base/hash.ts';
import type { Trigger } from '../base/trigger.ts';
import type { Issue } from '../config/issue.ts';
import { monotonicMs } from '../machine/process.ts';
import type { Chain } from '../network/state.ts';
import type { Step, StepKind } from '../network/step.ts';
import { commandOf, type RunCommand, type RunRequest } from './request.ts';

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

/** What is known of a run when it begins. */
export type Heading = Pick<Report, 'id' | 'command' | 'trigger' | 'time'> & { startedMs: number };

/** What one stage says. Of `result`, `exitStatus`, `pending` and `advice` the last one holds. `chains`: ours, before its steps. */
export type ReportPart = Partial<
  Pick<Report, 'result' | 'warnings' | 'errors' | 'exitStatus' | 'pending' | 'advice'>
> & {
  steps?: readonly Step[];
  chains?: readonly Chain[] | undefined;
};

/** A stage that says more than once. */
export type Said<Gives = void> = AsyncGenerator<ReportPart, Gives>;

/** What an operator reads of it. */
export const summaryOf = ({ steps, summary }: Pick<Report, 'steps' | 'summary'>): readonly string[] =>
  summary ?? steps.map(({ text }) => text);

export const headingOf = (request: RunRequest): Heading => ({
  id: shortName(),
  command: commandOf(request),
  trigger: request.trigger,
  time: new Date().toISOString(),
  startedMs: monotonicMs(),
});

export const failed = (message: string, exitStatus: ExitStatus = EXIT.failed): ReportPart => ({
  errors: [{ message }],
  exitStatus,
});

/** The report of a run, of what its stages said. */
export async function reportOf({ startedMs, ...heading }: Heading, parts: readonly ReportPart[]): Promise<Report> {
  const last = <K extends keyof ReportPart>(key: K) => parts.findLast((part) => part[key] !== undefined)?.[key];
  const { steps, summary } = await stepsOf(parts);
  const result = last('result') ?? 'failed';
  const exitStatus = last('exitStatus') ?? EXIT.ok;
  const [pending, advice] = [last('pending'), last('advice')];
  return {
    ...heading,
    // Of one that took a change back, what follows may have nothing to do.
    result:
      exitStatus !== EXIT.ok && result !== 'rolled-back'
        ? 'failed'
        : result === 'unchanged' && steps.length > 0
          ? 'changed'
          : result,
    steps,
    warnings: parts.flatMap(({ warnings = [] }) => warnings),
    errors: parts.flatMap(({ errors = [] }) => errors),
    durationMs: Math.round(monotonicMs() - startedMs),
    exitStatus,
    ...(summary && { summary }),
    ...(pending && { pending }),
    ...(advice !== undefined && { advice }),
  };
}

/** Steps that are none need no words. */
async function stepsOf(parts: readonly ReportPart[]): Promise<Pick<Report, 'steps' | 'summary'>> {
  const stepped = parts.filter(({ steps = [] }) => steps.length > 0);
  if (stepped.length === 0) return { steps: [] };
  const [{ describe }, { spoken }] = await Promise.all([import('../network/kinds.ts'), import('../engines/spoken.ts')]);
  const steps = stepped.flatMap(({ steps = [] }) => steps.map((step) => ({ kind: step.kind, text: describe(step) })));
  if (stepped.every(({ chains }) => chains === undefined)) return { steps };
  const wordsOf = ({ steps = [], chains }: ReportPart) =>
    chains === undefined ? steps.map(describe) : spoken(steps, chains);
  return { steps, summary: stepped.flatMap(wordsOf) };
}
