// What the last run with nothing to do was told by the machine, in /run. What a survey finds depends on the configuration
// and on these answers alone, so where all are the same there is nothing to do again, and nothing need be read out of them.
// At 1,000 EIPs that saves half of a run, at 4,000 two thirds; and what is asked early is answered while the program loads.

import { BUNDLE } from './bundle.ts';
import type { Issue } from './config/issue.ts';
import type { Convergence } from './converge.ts';
import { AgentError } from './errors.ts';
import { readKept } from './machine/config-file.ts';
import { type Answers, askAgain, type Conversation, noting } from './machine/conversation.ts';
import type { Host } from './machine/host.ts';
import { PATHS } from './machine/paths.ts';
import type { RunRequest } from './order.ts';

/** Of one program, of what it was asked for, and of a configuration. */
type Memory = {
  program: string;
  asked: string;
  /** Its bytes as ISO 8859-1. */
  config: string;
  /** What is wrong with the configuration, though it is valid. */
  configWarnings: Issue[];
  convergence: Quiet;
  conversation: Conversation;
};

export type Quiet = Convergence & { result: 'unchanged' };

/** What was asked ahead. */
export type Ahead = {
  answers: Answers;
  /** How a run of this configuration ends, where it would find nothing else than last time. */
  quiet: (bytes: Uint8Array) => Promise<{ convergence: Quiet; configWarnings: Issue[] } | undefined>;
  /** All of it is answered: no command is under way any more. */
  answered: Promise<unknown>;
};

/**
 * For the holder of the lock: what is asked before another run has ended is of no use. Without a memory, what every run asks: the
 * answers are there when the configuration is read.
 */
export async function askAhead(host: Host, request: RunRequest): Promise<Ahead> {
  const memory = BUNDLE === undefined ? undefined : await readKept(host, PATHS.quiet, memoryIn);
  if (memory === undefined || memory.program !== BUNDLE?.id || memory.asked !== askedBy(request)) {
    const answers: Answers = new Map();
    const { askMachine } = await import('./machine/observe.ts');
    return { answers, quiet: async () => undefined, answered: askMachine(noting(host, answers)) };
  }
  const { answers, same, answered } = askAgain(host, memory.conversation);
  const { convergence, configWarnings } = memory;
  return {
    answers,
    quiet: async (bytes) =>
      textOf(bytes) === memory.config && (await same()) ? { convergence, configWarnings } : undefined,
    answered,
  };
}

export async function rememberQuiet(
  host: Host,
  request: RunRequest,
  found: Pick<Memory, 'configWarnings'> & {
    bytes: Uint8Array;
    convergence: Convergence;
    heard: () => Conversation | undefined;
  },
): Promise<void> {
  const { bytes, configWarnings, convergence, heard } = found;
  const { result } = convergence;
  if (BUNDLE === undefined || result !== 'unchanged') return;
  const conversation = heard();
  if (conversation === undefined) return;
  const memory: Memory = {
    program: BUNDLE.id,
    asked: askedBy(request),
    config: textOf(bytes),
    configWarnings,
    convergence: { ...convergence, result },
    conversation,
  };
  await host.write(PATHS.quiet, textFor(memory), 0o600).catch((error: unknown) => {
    // Without it the next run takes longer.
    if (!(error instanceof AgentError)) throw error;
  });
}

/**
 * A line of JSON, and then the long texts as they are, by their lengths: of 4,000 EIPs they are two megabytes, which JSON.parse takes
 * 10 ms to read.
 */
type Head = Omit<Memory, 'config' | 'conversation'> & {
  configLength: number;
  questions: [question: string, length: number][];
};

function textFor({ config, conversation, ...rest }: Memory): string {
  const questions = conversation.map(([question, said]): [string, number] => [question, said.length]);
  const head: Head = { ...rest, configLength: config.length, questions };
  return [`${JSON.stringify(head)}\n`, config, ...conversation.map(([, said]) => said)].join('');
}

function memoryIn(text: string): Memory {
  let at = text.indexOf('\n') + 1;
  const { configLength, questions, ...rest } = JSON.parse(text.slice(0, at)) as Head;
  const next = (length: number) => {
    at += length;
    return text.slice(at - length, at);
  };
  const config = next(configLength);
  return { ...rest, config, conversation: questions.map(([question, length]) => [question, next(length)]) };
}

const askedBy = ({ command, renderer }: RunRequest): string => JSON.stringify([command, renderer]);

const textOf = (bytes: Uint8Array): string => Buffer.from(bytes).toString('latin1');
