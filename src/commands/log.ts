// `log`: the last runs, each with who asked, what it did and what was wrong. For "the reload failed: how do I see why?"

import { count } from '../base/count.ts';
import { EXIT, type ExitStatus } from '../base/errors.ts';
import { PATHS } from '../base/paths.ts';
import { shown, shownJson } from '../base/visible.ts';
import { inLine } from '../config/issue.ts';
import { followRuns, type LoggedRun, readRuns } from '../machine/log-file.ts';
import { type Context, type GlobalOptions, needRoot, painter, paintStep, printJson, problem } from './context.ts';

export type LogCommandOptions = GlobalOptions & { number: number; follow: boolean };

export async function log(context: Context, options: LogCommandOptions): Promise<ExitStatus> {
  needRoot(context, 'log');
  const warnings: { message: string }[] = [];
  const runs = await readRuns(PATHS.log, options.number, (message) => warnings.push({ message }));
  const say = (message: string) => context.stderr(shown`${problem(context, 'warning')}: ${message}\n`);
  if (options.json && !options.follow)
    printJson(context, { runs: runs.map(withoutSummary), ...(warnings.length > 0 && { warnings }) });
  else {
    for (const { message } of warnings) say(message);
    for (const run of runs) show(context, options, run);
  }
  if (runs.length === 0 && !options.json) context.stdout(shown`no run is logged yet\n`);
  if (options.follow && !context.unread?.())
    for await (const run of followRuns(PATHS.log, say)) {
      show(context, options, run);
      if (context.unread?.()) break;
    }
  return EXIT.ok;
}

/** JSON has the steps. */
const withoutSummary = ({ summary: _, ...run }: LoggedRun) => run;

function show(context: Context, options: LogCommandOptions, logged: LoggedRun): void {
  // Of an unknown number of runs, one object a line.
  if (options.json) {
    context.stdout(shownJson(`${JSON.stringify(withoutSummary(logged))}\n`));
    return;
  }
  const paint = painter(context);
  const { time, id, command, trigger, result, durationMs, steps, stepsLeftOut = 0, summary, warnings, errors } = logged;
  const bad = errors.length > 0 || result === 'failed' || result === 'rolled-back';
  const head = shown`${time}  ${id}  ${command} by ${trigger}: ${paint(result, bad ? 'red' : 'green')}`;
  context.stdout(shown`${head}, ${count(steps.length + stepsLeftOut, 'step')} in ${durationMs} ms\n`);
  const lines = options.verbose || summary === undefined ? steps.map(({ text }) => text) : summary;
  for (const line of lines) context.stdout(shown`    ${paintStep(paint, line)}\n`);
  if (stepsLeftOut > 0) context.stdout(shown`    ${'…'} and ${count(stepsLeftOut, 'step')} more\n`);
  // The file may have changed since: the place, but not its text.
  for (const issue of warnings) context.stdout(shown`    warning: ${inLine(issue)}\n`);
  for (const issue of errors) context.stdout(shown`    ${paint('error', 'red')}: ${inLine(issue)}\n`);
}
