// What a run asks the machine before it changes anything, and what the machine says: written down, so that the next run can
// ask the same again, all at once and early, and see whether anything is different.

import type { Host } from './host.ts';

/** Questions (a reading call of Host with its arguments, JSON), each with what was said. */
export type Conversation = readonly (readonly [question: string, said: string])[];

/** Answers of this run, by question. */
export type Answers = ReadonlyMap<string, Promise<unknown>>;

const READING = ['run', 'which', 'read', 'list', 'info', 'readLink', 'sysctl'] as const;

type Reading = Record<(typeof READING)[number], (...args: unknown[]) => Promise<unknown>>;

/** A host that takes down what it is asked; what has been asked ahead it knows. For one look: a second one may find another machine. */
export function attentive(
  host: Host,
  ahead: Answers = new Map(),
): { host: Host; heard: () => Conversation | undefined } {
  const heard = new Map<string, string>();
  let failed = false;
  const calls = READING.map((name) => [
    name,
    async (...args: unknown[]) => {
      const question = JSON.stringify([name, ...args]);
      try {
        const answer = await (ahead.get(question) ?? (host as unknown as Reading)[name](...args));
        heard.set(question, saidIn(args, answer));
        return answer;
      } catch (error) {
        failed = true;
        throw error;
      }
    },
  ]);
  return {
    host: { ...host, ...(Object.fromEntries(calls) as Partial<Host>) },
    // In an order of its own, since answers come as they come; backwards, iptables-save, which takes longest, is asked first.
    heard: () => (failed ? undefined : [...heard].sort().reverse()),
  };
}

/** `same`: every answer is as it was before; settles when all are there, and never fails. */
export function askAgain(host: Host, before: Conversation): { answers: Answers; same: Promise<boolean> } {
  const answers = new Map<string, Promise<unknown>>();
  const asBefore = before.map(async ([question, said]) => {
    const [name, ...args] = JSON.parse(question) as [keyof Reading, ...unknown[]];
    const answer = (host as unknown as Reading)[name](...args);
    answers.set(question, answer);
    try {
      return saidIn(args, await answer) === said;
    } catch {
      return false;
    }
  });
  return { answers, same: Promise.all(asBefore).then((all) => all.every(Boolean)) };
}

function saidIn([argv]: readonly unknown[], answer: unknown): string {
  const isOutput = typeof answer === 'object' && answer !== null && 'stdout' in answer;
  return isOutput && Array.isArray(argv) ? lasting(argv[0], String(answer.stdout)) : (JSON.stringify(answer) ?? '');
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
