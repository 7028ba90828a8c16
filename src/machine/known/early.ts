// What every run asks the machine first, and asked before most of the program is loaded: that takes as long.

import { lstatSync } from 'node:fs';
import { PATHS } from '../../base/paths.ts';
import { runCommand, standardFiles } from '../command.ts';
import type { Host } from '../host.ts';
import { COMMAND_TIMEOUT_MS, ENVIRONMENT, isJson } from '../linux-host.ts';

/** Answers of this run, by question (a reading call of Host with its arguments, JSON). */
export type Answers = Map<string, Promise<unknown>>;

/** What was asked before this run had the lock. */
export type Early = {
  answers: Answers;
  /** No command is under way any more. Never fails. */
  answered: Promise<unknown>;
  /** Whether the holder of the lock may take it for what the machine says now: it did not wait, and nobody else had it since. */
  isGood: () => boolean;
};

/** Arguments of `Host.run`. */
type Question = Parameters<Host['run']>;

/** For `ip -json -details -b -`: without a family ip shows the routes of IPv4. */
const SHOW_NICS = 'address show\nroute show table main\n';

/**
 * Addresses and routes, by one process: to start another one takes longer, above all where the CPUs have work.
 */
export const NICS_ASKED: Question = [['ip', '-json', '-details', '-b', '-'], { input: SHOW_NICS }];

const RULES_ASKED: Question = [['iptables-save']];

export const FIRST: readonly Question[] = [RULES_ASKED, NICS_ASKED];

/** For who looks at them next. */
export function askRules(host: Host): Answers {
  const answers: Answers = new Map();
  void noting(host, answers).run(...RULES_ASKED);
  return answers;
}

/** Never fails. */
export const askFirst = (host: Host): Promise<unknown> =>
  Promise.allSettled(FIRST.map((question) => host.run(...question)));

/**
 * Both side by side, by a shell, whose standard error is what ip prints. For each process that Node starts it copies its page tables: a
 * shell has few.
 */
const BOTH = `${RULES_ASKED[0].join(' ')} 2>/dev/null & ${NICS_ASKED[0].join(' ')} >&2 2>/dev/null; nics=$?; wait $! && exit $nics`;

/** Until then a run that need not wait has come to its turn, also where the CPUs have work. */
const GOOD_S = 0.5;

/** Undefined where another run has the lock: it may change what is asked. What fails, or hangs, is asked again, one by one. */
export function askEarly(host: Host): Early | undefined {
  if (markOf(`${PATHS.run}/lock`) !== '') return undefined;
  const [trace, asked] = [traceOfRuns(), process.uptime()];
  const streams = standardFiles(SHOW_NICS);
  if (streams === undefined) return undefined;
  const both = runCommand('sh', ['-c', BOTH], { env: ENVIRONMENT, timeoutMs: COMMAND_TIMEOUT_MS / 6, streams });
  const answers: Answers = new Map();
  for (const [question, stream] of [
    [RULES_ASKED, 'stdout'],
    [NICS_ASKED, 'stderr'],
  ] as const) {
    const answer = both.then((ended) =>
      ended.exitCode === 0 && isJson(ended.stderr) ? { stdout: ended[stream], status: 0 } : host.run(...question),
    );
    // A failure is for who asks.
    answer.catch(() => {});
    answers.set(keyOf(question), answer);
  }
  return {
    answers,
    answered: Promise.allSettled(answers.values()),
    isGood: () => process.uptime() - asked < GOOD_S && traceOfRuns() === trace,
  };
}

const keyOf = (question: Question): string => JSON.stringify(['run', ...question]);

/** A host whose answers to commands are there for who asks the same later. */
export const noting = (host: Host, answers: Answers): Host => ({
  ...host,
  run: (...question) => {
    const answer = host.run(...question);
    // A failure is for who asks.
    answer.catch(() => {});
    answers.set(keyOf(question), answer);
    return answer;
  },
});

/** A host that knows these answers. */
export const knowing = (host: Host, answers: Answers): Host => ({
  ...host,
  run: (...question) => (answers.get(keyOf(question)) as ReturnType<Host['run']> | undefined) ?? host.run(...question),
});

/**
 * Who leaves the lock touches the folder; in it is what one that was killed left, until that is cleared (lock.ts). The file: a run of
 * a version that does not.
 */
const traceOfRuns = (): string => `${markOf(`${PATHS.run}/last-run.json`)} ${markOf(`${PATHS.run}/dead`, true)}`;

/**
 * Another one for each file that was in this place; empty where there is none. `folder`: for whatever was done in it; empty where
 * nothing was since it was made.
 */
function markOf(path: string, folder = false): string {
  try {
    const { ino, mtimeNs, birthtimeNs } = lstatSync(path, { bigint: true });
    return folder && mtimeNs === birthtimeNs ? '' : `${ino} ${mtimeNs}`;
  } catch {
    return '';
  }
}
