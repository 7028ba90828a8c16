// What a run asks the machine before it changes anything, and what the machine says: written down, so that the next run can
// ask the same again, all at once and early, and see whether anything is different.

import type { Host } from '../host.ts';
import type { Answers } from './early.ts';
import { areQuestions } from './questions.ts';

/** Questions (a reading call of Host with its arguments, JSON), each with what was said. */
export type Conversation = readonly (readonly [question: string, said: string])[];

const READING = ['run', 'which', 'read', 'list', 'info', 'readLink', 'sysctl'] as const;

/** Whether all of it may be asked again. */
export const isConversation = (conversation: Conversation): boolean =>
  areQuestions(conversation.map(([question]): unknown => JSON.parse(question)));

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
export function askAgain(
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
