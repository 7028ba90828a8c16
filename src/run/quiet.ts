// What the last run with nothing to do was told by the machine, in /run. What a survey finds depends on the configuration
// and on these answers alone, so where all are the same there is nothing to do again, and nothing need be read out of them.
// At 1,000 EIPs that saves half of a run, at 4,000 two thirds; and what is asked early is answered while the program loads.

import { BUNDLE } from '../base/bundle.ts';
import { AgentError } from '../base/errors.ts';
import { PATHS } from '../base/paths.ts';
import { anything, array, boolean, object, oneOf, optional, string, whole } from '../base/shape.ts';
import { isAutomatic } from '../base/trigger.ts';
import type { Issue } from '../config/issue.ts';
import { readKept } from '../machine/config-file.ts';
import { askAgain, type Conversation, isConversation } from '../machine/conversation.ts';
import { type Answers, askFirst, noting } from '../machine/early.ts';
import { hasNoFlows, readFlowRecord, writeFlowRecord } from '../machine/flow-record.ts';
import type { Host } from '../machine/host.ts';
import { fitting, flowModel as flowModelShape, issue, onBridges as onBridgesShape } from '../machine/kept-shapes.ts';
import { MOST_READ } from '../machine/regular-file.ts';
import type { FlowModel } from '../network/flows.ts';
import type { Convergence } from './convergence.ts';
import type { ChangeRequest, FileRequest } from './request.ts';

/** Of one program, of what it was asked for, and of a configuration. */
type Memory = {
  program: string;
  asked: string;
  /** Its bytes as ISO 8859-1. */
  config: string;
  /** What is wrong with the configuration, though it is valid. */
  configWarnings: Issue[];
  convergence: Quiet;
  /** What its flows were held against, JSON; a run of the timer has no use for it, and does not parse it. */
  flowModel: string;
  conversation: Conversation;
};

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
  const memory = BUNDLE === undefined ? undefined : await readKept(host, PATHS.quiet, memoryIn);
  const isOfThis = memory?.program === BUNDLE?.id && memory?.asked === askedBy(request);
  const convergence = memory && isOfThis ? await quietFor(host, request, memory) : undefined;
  const early = 'early' in request && request.early?.isGood() ? request.early : undefined;
  if (memory === undefined || convergence === undefined) {
    const answers: Answers = early?.answers ?? new Map();
    const answered = early?.answered ?? askFirst(noting(host, answers));
    return { answers, quiet: async () => undefined, answered };
  }
  const { answers, same, answered } = askAgain(host, memory.conversation, early?.answers);
  const { configWarnings } = memory;
  return {
    answers,
    quiet: async (bytes) =>
      textOf(bytes) === memory.config && (await same()) ? { convergence, configWarnings } : undefined,
    answered,
  };
}

/** Undefined where what somebody asks for is damaged. At 1,000 EIPs the model takes 3 ms to read: only where there are flows. */
async function quietFor(
  host: Host,
  { trigger }: FileRequest,
  { convergence, flowModel }: Memory,
): Promise<Quiet | undefined> {
  if (isAutomatic(trigger) || (await hasNoFlows(host))) return convergence;
  const model = fitting(flowModelShape, flowModel) as FlowModel | undefined;
  return model && { ...convergence, flowModel: model };
}

export async function rememberQuiet(
  host: Host,
  request: ChangeRequest,
  found: Pick<Memory, 'configWarnings'> & {
    bytes: Uint8Array;
    convergence: Convergence;
    heard: () => Conversation | undefined;
  },
): Promise<void> {
  const { bytes, configWarnings, convergence, heard } = found;
  const { result, flowModel, ...rest } = convergence;
  if (BUNDLE === undefined || result !== 'unchanged' || flowModel === undefined) return;
  const conversation = heard();
  // What the next run would not ask again is not worth keeping.
  if (conversation === undefined || !isConversation(conversation)) return;
  const memory: Memory = {
    program: BUNDLE.id,
    asked: askedBy(request),
    config: textOf(bytes),
    configWarnings,
    convergence: { ...rest, result },
    flowModel: JSON.stringify(flowModel()),
    conversation,
  };
  await host.write(PATHS.quiet, textFor(memory), 0o600).catch((error: unknown) => {
    // Without it the next run takes longer.
    if (!(error instanceof AgentError)) throw error;
  });
}

/** Where somebody asks for a reload, and nothing else is to do, flows and gateways behind bridges are looked at all the same. */
export async function cutQuietly(host: Host, remembered: Quiet): Promise<Convergence> {
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

/**
 * A line of JSON, and then the long texts as they are, by their lengths: of 4,000 EIPs they are two megabytes, which JSON.parse takes
 * 10 ms to read.
 */
type Head = Omit<Memory, 'config' | 'conversation' | 'flowModel'> & {
  configLength: number;
  modelLength: number;
  questions: [question: string, length: number][];
};

/** It has a question for each file and sysctl that is looked at, and the warnings. */
const LONGEST_HEAD = 4 * 1024 * 1024;

const head = object({
  program: string,
  asked: string,
  configLength: whole(0, MOST_READ),
  modelLength: whole(0, MOST_READ),
  configWarnings: array(issue),
  convergence: object({
    result: oneOf('unchanged'),
    whole: boolean,
    steps: noSteps,
    warnings: array(string),
    onBridges: optional(onBridgesShape),
  }),
  questions: array(question),
});

/** With nothing to do there are none. */
function noSteps(value: unknown): [] {
  if (!Array.isArray(value) || value.length > 0) throw new Error('must be an empty array');
  return [];
}

function question(value: unknown): [string, number] {
  const [text, length, ...more] = array(anything)(value);
  if (more.length > 0) throw new Error('must be a pair');
  return [string(text), whole(0, MOST_READ)(length)];
}

function textFor({ config, conversation, flowModel, ...rest }: Memory): string {
  const questions = conversation.map(([question, said]): [string, number] => [question, said.length]);
  const head: Head = { ...rest, configLength: config.length, modelLength: flowModel.length, questions };
  return [`${JSON.stringify(head)}\n`, config, flowModel, ...conversation.map(([, said]) => said)].join('');
}

function memoryIn(text: string): Memory {
  let at = text.indexOf('\n') + 1;
  if (at > LONGEST_HEAD) throw new Error('is too long');
  const { configLength, modelLength, questions, ...rest } = head(JSON.parse(text.slice(0, at))) as Head;
  const next = (length: number) => {
    at += length;
    return text.slice(at - length, at);
  };
  const config = next(configLength);
  const flowModel = next(modelLength);
  const conversation = questions.map(([question, length]): [string, string] => [question, next(length)]);
  if (at !== text.length) throw new Error('is cut off');
  if (!isConversation(conversation)) throw new Error('asks what no run asks');
  return { ...rest, config, flowModel, conversation };
}

const askedBy = ({ command, configPath, renderer }: ChangeRequest): string =>
  JSON.stringify([command, configPath, renderer]);

const textOf = (bytes: Uint8Array): string => Buffer.from(bytes).toString('latin1');
