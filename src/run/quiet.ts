// A run that finds what the last one found ends there. What a survey finds depends on the configuration and on the machine's answers
// alone: where all are the same there is nothing to do again. machine/known/memory.ts remembers them.

import { array, boolean, object, oneOf, optional, type Shape, string } from '../base/shape.ts';
import { isAutomatic } from '../base/trigger.ts';
import type { Issue } from '../config/issue.ts';
import { hasNoFlows, readFlowRecord, writeFlowRecord } from '../machine/flow-record.ts';
import type { Host } from '../machine/host.ts';
import { fitting, flowModel as flowModelShape, issue, onBridges as onBridgesShape } from '../machine/kept-shapes.ts';
import { type Answers, askFirst, noting } from '../machine/known/early.ts';
import { type FoundRun, recall, remember } from '../machine/known/memory.ts';
import type { FlowModel } from '../network/flows.ts';
import type { Convergence, InLine } from './convergence.ts';
import type { ChangeRequest, FileRequest } from './request.ts';

/** What followed: `configWarnings`: what is wrong with the configuration, though it is valid. */
type Follows = { configWarnings: Issue[]; convergence: Quiet };

/** `flowModel`: where somebody asks, whose run looks at the flows. */
export type Quiet = Omit<Convergence, 'flowModel'> & { result: 'unchanged'; flowModel?: FlowModel };

/** What was asked ahead. */
export type Ahead = {
  answers: Answers;
  /** How a run of this configuration ends, where it would find nothing else than last time. */
  quiet: (bytes: Uint8Array) => Promise<{ convergence: Quiet; configWarnings: Issue[] } | undefined>;
  /** All of it is answered: no command is under way any more. */
  answered: Promise<unknown>;
};

/**
 * For the holder of the lock: what is asked before another run has ended is of no use. Without a memory, what every run asks first: the
 * answers are there when the configuration is read.
 */
export async function askAhead(host: Host, request: FileRequest): Promise<Ahead> {
  const memory = await recall(host, askedBy(request), follows);
  const convergence = memory && (await quietFor(host, request, memory));
  const early = 'early' in request && request.early?.isGood() ? request.early : undefined;
  if (memory === undefined || convergence === undefined) {
    const answers: Answers = early?.answers ?? new Map();
    const answered = early?.answered ?? askFirst(noting(host, answers));
    return { answers, quiet: async () => undefined, answered };
  }
  const { answers, same, answered } = memory.ask(early?.answers);
  const { configWarnings } = memory.follows;
  return {
    answers,
    quiet: async (bytes) =>
      textOf(bytes) === memory.config && (await same()) ? { convergence, configWarnings } : undefined,
    answered,
  };
}

/** Undefined where what somebody asks for is damaged. The model is read only where there are flows. */
async function quietFor(
  host: Host,
  { trigger }: FileRequest,
  { follows: { convergence }, model: text }: FoundRun<Follows>,
): Promise<Quiet | undefined> {
  if (isAutomatic(trigger) || (await hasNoFlows(host))) return convergence;
  const model = fitting(flowModelShape, text) as FlowModel | undefined;
  return model && { ...convergence, flowModel: model };
}

export async function rememberQuiet(
  host: Host,
  request: ChangeRequest,
  {
    bytes,
    configWarnings,
    convergence,
    heard,
  }: Pick<Follows, 'configWarnings'> & {
    bytes: Uint8Array;
    convergence: Convergence;
    heard: Parameters<typeof remember>[2];
  },
): Promise<void> {
  const { result, flowModel, ...rest } = convergence;
  if (result !== 'unchanged' || flowModel === undefined) return;
  const found = (): FoundRun<Follows> => ({
    about: askedBy(request),
    config: textOf(bytes),
    follows: { configWarnings, convergence: { ...rest, result } },
    model: JSON.stringify(flowModel()),
  });
  await remember(host, found, heard);
}

/** Where somebody asks for a reload, and nothing else is to do, flows and gateways behind bridges are looked at all the same. */
export async function endQuietly(host: Host, { trigger }: ChangeRequest, remembered: Quiet): Promise<InLine> {
  if (isAutomatic(trigger)) return remembered;
  const { flowModel, ...rest } = remembered;
  const quiet = { ...rest, warnings: [...rest.warnings, ...(await silences(host, rest))] };
  if (flowModel === undefined || (await hasNoFlows(host))) return quiet;
  const { cutStale } = await import('./stale.ts');
  const { steps, warnings, clean } = await cutStale(host, flowModel);
  const record = clean ? undefined : await readFlowRecord(host);
  if (record !== undefined) await writeFlowRecord(host, { ...record, clean });
  const result = steps.length === 0 ? 'unchanged' : 'changed';
  return { ...quiet, result, steps, warnings: [...quiet.warnings, ...warnings] };
}

/** Of one with nothing to do: gateways that answer nobody. */
export async function silences(host: Host, { result, onBridges = [] }: Pick<Convergence, 'result' | 'onBridges'>) {
  if (result !== 'unchanged' || onBridges.length === 0) return [];
  const { silentGateways } = await import('./gateways.ts');
  return (await silentGateways(host, onBridges)).map(({ message }) => message);
}

const follows = object({
  configWarnings: array(issue),
  convergence: object({
    result: oneOf('unchanged'),
    whole: boolean,
    steps: noSteps,
    warnings: array(string),
    onBridges: optional(onBridgesShape),
  }),
}) as Shape<Follows>;

/** With nothing to do there are none. */
function noSteps(value: unknown): [] {
  if (!Array.isArray(value) || value.length > 0) throw new Error('must be an empty array');
  return [];
}

const askedBy = ({ command, configPath, renderer }: ChangeRequest): string =>
  JSON.stringify([command, configPath, renderer]);

const textOf = (bytes: Uint8Array): string => Buffer.from(bytes).toString('latin1');
