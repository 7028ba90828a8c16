// What a run that found nothing to do was told by the machine, and what followed from it, in /run: where the next one is told the same,
// the same follows, and nothing need be read out of what it was told. This file is the way to it: `attentive` listens, `remember` keeps,
// `recall` asks again.

import { BUNDLE } from '../../base/bundle.ts';
import { AgentError } from '../../base/errors.ts';
import { PATHS } from '../../base/paths.ts';
import { anything, array, object, type Shape, string, whole } from '../../base/shape.ts';
import { readKept } from '../config-file.ts';
import type { Host } from '../host.ts';
import { MOST_READ } from '../regular-file.ts';
import type { Answers } from './early.ts';
import { areQuestions } from './questions.ts';

/** Questions (a reading call of Host with its arguments, JSON), each with what was said. */
type Conversation = readonly (readonly [question: string, said: string])[];

const READING = ['run', 'which', 'read', 'list', 'info', 'readLink', 'sysctl'] as const;

/** Whether all of it may be asked again. */
const isConversation = (conversation: Conversation): boolean =>
  areQuestions(conversation.map(([question]): unknown => JSON.parse(question)));

/** What a run was about, and what it found. */
export type FoundRun<F> = {
  /** What was asked for. */
  about: string;
  /** The configuration, as ISO 8859-1. */
  config: string;
  follows: F;
  /** The same, as text: what hardly a run needs, and so need not be parsed. */
  model: string;
};

export type Recalled<F> = FoundRun<F> & {
  /** Asks all of it, but for what was asked early. `same`: whether every answer is as it was. `answered` settles when all are there. */
  ask: (early?: Answers) => { answers: Answers; same: () => Promise<boolean>; answered: Promise<unknown> };
};

/** What this program found when it was last asked for that. */
export async function recall<F>(host: Host, about: string, shape: Shape<F>): Promise<Recalled<F> | undefined> {
  if (BUNDLE === undefined) return undefined;
  const kept = await readKept(host, PATHS.quiet, (text) => memoryIn(text, shape));
  if (kept?.program !== BUNDLE.id || kept.about !== about) return undefined;
  return { ...kept, ask: (early) => askAgain(host, kept.conversation, early) };
}

/** For the holder of the lock. What the next run would not ask again is not worth keeping. */
export async function remember<F>(
  host: Host,
  found: () => FoundRun<F>,
  heard: () => Conversation | undefined,
): Promise<void> {
  if (BUNDLE === undefined) return;
  const conversation = heard();
  if (conversation === undefined || !isConversation(conversation)) return;
  const memory = { ...found(), program: BUNDLE.id, conversation };
  await host.write(PATHS.quiet, textFor(memory), 0o600).catch((error: unknown) => {
    // Without it the next run takes longer.
    if (!(error instanceof AgentError)) throw error;
  });
}

type Reading = Record<(typeof READING)[number], (...args: unknown[]) => Promise<unknown>>;

/** A host that takes down what it is asked; what has been asked ahead it knows. For one look: a second one may find another machine. */
export function attentive(
  host: Host,
  ahead: Answers = new Map(),
): { host: Host; heard: () => Conversation | undefined } {
  const heard = new Map<string, { args: unknown[]; answer: unknown }>();
  let failed = false;
  const calls = READING.map((name) => [
    name,
    async (...args: unknown[]) => {
      const question = JSON.stringify([name, ...args]);
      try {
        const answer = await (ahead.get(question) ?? (host as unknown as Reading)[name](...args));
        heard.set(question, { args, answer });
        return answer;
      } catch (error) {
        failed = true;
        throw error;
      }
    },
  ]);
  return {
    host: { ...host, ...(Object.fromEntries(calls) as Partial<Host>) },
    heard: () => {
      if (failed) return undefined;
      // In an order of its own, since answers come as they come; backwards, iptables-save, which takes longest, is asked first.
      const backwards = [...heard].sort(([a], [b]) => (a < b ? 1 : -1));
      return backwards.map(([question, { args, answer }]) => [question, saidIn(args, answer)]);
    },
  };
}

/**
 * But for what was asked early. `same`: whether every answer is as it was before. `answered` settles when all are there. Neither fails.
 */
function askAgain(
  host: Host,
  before: Conversation,
  early: Answers = new Map(),
): { answers: Answers; same: () => Promise<boolean>; answered: Promise<unknown> } {
  const answers: Answers = new Map();
  const asked = before.map(([question, said]) => {
    const [name, ...args] = JSON.parse(question) as [keyof Reading, ...unknown[]];
    const answer = early.get(question) ?? (host as unknown as Reading)[name](...args);
    answers.set(question, answer);
    return { args, said, answer };
  });
  const answered = Promise.allSettled(asked.map(({ answer }) => answer));
  const same = async () => {
    for (const { args, said, answer } of asked)
      if (!(await answer.then((now) => isStill(said, args, now)).catch(() => false))) return false;
    return true;
  };
  return { answers, same, answered };
}

/** Most of what commands print has nothing in it that does not last: it is compared as it is. */
const isStill = (said: string, args: readonly unknown[], answer: unknown): boolean =>
  (isOutput(answer) && answer.stdout === said) || saidIn(args, answer) === said;

const isOutput = (answer: unknown): answer is { stdout: string } =>
  typeof answer === 'object' && answer !== null && 'stdout' in answer;

function saidIn([argv]: readonly unknown[], answer: unknown): string {
  return isOutput(answer) && Array.isArray(argv) ? lasting(argv[0], answer.stdout) : (JSON.stringify(answer) ?? '');
}

/**
 * Without what a command prints anew each time although nothing has changed: the date and the counters of iptables-save, and in
 * `ip -details` the timers of bridges and the rest of the life of an address (4294967295 is for ever).
 */
function lasting(command: string, output: string): string {
  if (command.endsWith('-save'))
    return output.replace(/# (?:Generated|Completed) .*/g, '').replace(/(ACCEPT|DROP) \[\d+:\d+\]/g, '$1');
  if (command === 'ip')
    return output.replace(/(?<="(?:\w+_timer|(?:valid|preferred)_life_time)":)(?!4294967295)[\d.]+/g, '');
  return output;
}

type KeptRun<F> = FoundRun<F> & { program: string; conversation: Conversation };

/** A line of JSON, and then the long texts as they are, by their lengths: of 4,000 EIPs they are two megabytes, slow to parse. */
type Head<F> = Pick<KeptRun<F>, 'program' | 'about' | 'follows'> & {
  configLength: number;
  modelLength: number;
  questions: [question: string, length: number][];
};

/** It has a question for each file and sysctl that is looked at, and the warnings. */
const LONGEST_HEAD = 4 * 1024 * 1024;

const head = object({
  program: string,
  about: string,
  follows: anything,
  configLength: whole(0, MOST_READ),
  modelLength: whole(0, MOST_READ),
  questions: array(question),
});

function question(value: unknown): [string, number] {
  const [text, length, ...more] = array(anything)(value);
  if (more.length > 0) throw new Error('must be a pair');
  return [string(text), whole(0, MOST_READ)(length)];
}

function textFor<F>({ config, conversation, model, ...rest }: KeptRun<F>): string {
  const questions = conversation.map(([question, said]): [string, number] => [question, said.length]);
  const head: Head<F> = { ...rest, configLength: config.length, modelLength: model.length, questions };
  return [`${JSON.stringify(head)}\n`, config, model, ...conversation.map(([, said]) => said)].join('');
}

function memoryIn<F>(text: string, shape: Shape<F>): KeptRun<F> {
  let at = text.indexOf('\n') + 1;
  if (at > LONGEST_HEAD) throw new Error('is too long');
  const { configLength, modelLength, questions, program, about, follows } = head(JSON.parse(text.slice(0, at)));
  const next = (length: number) => {
    at += length;
    return text.slice(at - length, at);
  };
  const config = next(configLength);
  const model = next(modelLength);
  const conversation = questions.map(([question, length]): [string, string] => [question, next(length)]);
  if (at !== text.length) throw new Error('is cut off');
  if (!isConversation(conversation)) throw new Error('asks what no run asks');
  return { program, about, follows: shape(follows), config, model, conversation };
}
