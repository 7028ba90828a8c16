// A scene that is played on the machine in memory and on the kernel alike: files that somebody writes, commands that somebody gives, and
// runs. What is seen of it is the same on both, but for what nobody looks at.

import { PATHS } from '../../src/base/paths.ts';
import { parseAnswers } from '../../src/dialects/ctnetlink.ts';
import type { Host } from '../../src/machine/host.ts';
import { readMachine } from '../../src/machine/observe.ts';
import { run } from '../../src/run/reconcile.ts';
import { readStatus } from '../../src/run/status.ts';
import { type Asked, requestOf } from './asked.ts';

/** `folder`, `file`: of somebody's. `refused`: the status that the command ends with. `wait`, `reloadWithin`: seconds. */
export type Stage =
  | { config: string }
  | { folder: string }
  | { file: string; content: string }
  | { command: string; input?: string; refused?: number }
  | { wait: number }
  | { status: true }
  | { run: Asked }
  | { reloadWithin: number };

/** Of a run: how it ended, what it asked and was answered, and the machine as it is then. */
export type Seen = {
  result: string;
  exitStatus: number;
  steps: string[];
  warnings: string[];
  errors: string[];
  answers: Record<string, unknown[]>;
  state: Record<string, unknown>;
};

export async function play(
  host: Host,
  stages: readonly Stage[],
  wait: (seconds: number) => Promise<void>,
): Promise<Seen[]> {
  const seen: Seen[] = [];
  for (const stage of stages) {
    if ('config' in stage) await host.write(PATHS.config, stage.config, 0o600);
    else if ('folder' in stage) await host.write(`${stage.folder}/.kept`, '', 0o644);
    else if ('file' in stage) await host.write(stage.file, stage.content, 0o644);
    else if ('wait' in stage) await wait(stage.wait);
    else if ('command' in stage) await give(host, stage);
    else if ('status' in stage) seen.push(await statusOf(host));
    else if ('run' in stage) seen.push(await seenOf(host, stage.run));
    else seen.push(await seenOf(host, { confirmWithin: { seconds: stage.reloadWithin, takeBack: () => ['true'] } }));
  }
  return seen;
}

async function give(host: Host, { command, input, refused = 0 }: Extract<Stage, { command: string }>): Promise<void> {
  const options = { accept: [1, 2, 4], ...(input !== undefined && { input }) };
  const { status } = await host.run(command.split(' ') as [string, ...string[]], options);
  if (status !== refused) throw new Error(`${command} ended with ${status}, not with ${refused}: ${input}`);
}

async function seenOf(host: Host, asked: Asked): Promise<Seen> {
  const answers: Seen['answers'] = {};
  const report = await run(noting(host, answers), requestOf(asked));
  const without = (text: string) => text.replaceAll(/[0-9a-f]{8}(?=\))|\d{4}-\d\d-\d\dT[\d:.]+Z/g, '…');
  return {
    result: report.result,
    exitStatus: report.exitStatus,
    steps: report.steps.map(({ text }) => text),
    warnings: report.warnings.map(({ message }) => without(message)),
    errors: report.errors.map(({ message }) => without(message)),
    answers,
    state: await stateOf(host),
  };
}

async function statusOf(host: Host): Promise<Seen> {
  const answers: Seen['answers'] = {};
  const { report } = await readStatus(noting(host, answers), { config: PATHS.config, counters: true });
  const { steps, warnings, errors, pending: _, ...state } = report;
  return {
    ...{ result: 'status', exitStatus: 0, answers, state },
    steps: steps.map(({ text }) => text),
    warnings: warnings.map(({ message }) => message),
    errors: errors.map(({ message }) => message),
  };
}

/** What the host answers, by what it was asked: one answer behind another where they differ. */
function noting(host: Host, answers: Seen['answers']): Host {
  const note = (question: string, answer: unknown) => {
    answers[question] ??= [];
    const known = answers[question];
    if (known.length === 0 || JSON.stringify(known.at(-1)) !== JSON.stringify(answer)) known.push(answer);
  };
  return {
    ...host,
    async run(argv, options = {}) {
      // The program that passes messages on to the kernel, and the messages, which have ids in them.
      const words =
        argv[0] === 'perl' ? ['perl'] : [argv.join(' '), ...(options.input === undefined ? [] : [options.input])];
      const question = words.join('\n');
      try {
        const { stdout, status } = await host.run(argv, options);
        note(question, { status, stdout: shapeOf(argv, stdout) });
        return { stdout, status };
      } catch (error) {
        note(question, { failed: 'exitCode' in (error as object) });
        throw error;
      }
    },
    async stream(argv, onLine, options) {
      const lines: string[] = [];
      const add = (line: string) => {
        lines.push(withoutTimes(line));
        onLine(line);
      };
      const ended = await host.stream(argv, add, options);
      // Of a table that is sorted by nothing.
      note(argv.join(' '), { ...ended, lines: lines.sort() });
      return ended;
    },
    async launch(argv) {
      note(`launch ${argv.join(' ')}`, true);
      return host.launch(argv);
    },
    async sysctl(key) {
      const value = await host.sysctl(key);
      note(`sysctl ${key}`, value ?? 'none');
      return value;
    },
    async setSysctl(key, value) {
      note(`sysctl ${key}: ${value}`, true);
      return host.setSysctl(key, value);
    },
  };
}

const withoutTimes = (flow: string): string => flow.replace(/^(\S+ +\d+) \d+| use=\d+| id=\d+/g, '$1');

/** Without what says nothing of the network: times, counters, the other ends of wires, and what IPv6 does by itself. */
function shapeOf([command, family]: readonly string[], stdout: string): unknown {
  if (command === 'conntrack') return stdout.split('\n').map(withoutTimes).sort();
  if (command === 'perl') return [...parseAnswers(Buffer.from(stdout, 'latin1'))];
  if (command === 'iptables-save')
    return stdout.replace(/^# (?:Generated|Completed).*\n|\[\d+:\d+\]/gm, '').split('\n');
  if (!/^[[{]/.test(stdout))
    return stdout.split('\n').filter((line) => !(family === '-6' && / proto kernel /.test(line)));
  return stdout
    .split('\n')
    .filter((line) => line !== '')
    .map((line) => JSON.parse(line, withoutOwn) as unknown);
}

function withoutOwn(key: string, value: unknown): unknown {
  if (key === 'link_index' || key === 'link_netnsid') return undefined;
  if (key === 'handle' || key === 'packets' || key === 'bytes') return 0;
  if (!Array.isArray(value)) return value;
  return value.filter(({ family, dst }) => family !== 'inet6' && !`${dst}`.startsWith('ff02:'));
}

/** The machine as our own readers see it. */
async function stateOf(host: Host): Promise<Record<string, unknown>> {
  const machine = await readMachine(host);
  const files = [PATHS.lastGood, PATHS.refused, PATHS.flows];
  const { boot: _, ...owned } = JSON.parse((await host.read(PATHS.owned)) ?? '{}') as { boot?: string };
  return {
    links: machine.links,
    addresses: machine.addresses,
    routes: machine.routes,
    subnetRoutes: machine.subnetRoutes,
    rules: machine.rules,
    profiles: machine.files,
    owned,
    pending: (await host.info(PATHS.pending)) !== undefined,
    history: (await host.list(PATHS.history)).length,
    kept: await Promise.all(files.map((path) => host.read(path))),
  };
}
