// `log`: the last runs, each with who asked, what it did and what was wrong. For "the reload failed: how do I see why?"

import { EXIT, type ExitStatus } from '../errors.ts';
import { followRuns, type LoggedRun, readRuns } from '../machine/log-file.ts';
import { PATHS } from '../machine/paths.ts';
import {
  type Context,
  count,
  type GlobalOptions,
  issueText,
  needRoot,
  painter,
  paintStep,
  printJson,
} from './context.ts';

export type LogCommandOptions = GlobalOptions & { number: number; follow: boolean };

export async function log(context: Context, options: LogCommandOptions): Promise<ExitStatus> {
  needRoot(context, 'log');
  const runs = await readRuns(PATHS.log, options.number);
  if (options.json && !options.follow) printJson(context, { runs });
  else for (const run of runs) show(context, options, run);
  if (runs.length === 0 && !options.json) context.stdout('no run is logged yet\n');
  if (options.follow) for await (const run of followRuns(PATHS.log)) show(context, options, run);
  return EXIT.ok;
}

function show(context: Context, options: LogCommandOptions, logged: LoggedRun): void {
  // Of an unknown number of runs, one object a line.
  if (options.json) {
    context.stdout(`${JSON.stringify(logged)}\n`);
    return;
  }
  const paint = painter(context);
  const { time, run, command, trigger, result, durationMs, steps, stepsLeftOut = 0, warnings, errors } = logged;
  const bad = errors.length > 0 || result === 'failed' || result === 'rolled-back';
  const head = `${time}  ${run}  ${command} by ${trigger}: ${paint(result, bad ? 'red' : 'green')}`;
  context.stdout(`${head}, ${count(steps.length + stepsLeftOut, 'step')} in ${durationMs} ms\n`);
  for (const step of steps) context.stdout(`    ${paintStep(paint, step)}\n`);
  if (stepsLeftOut > 0) context.stdout(`    … and ${count(stepsLeftOut, 'step')} more\n`);
  for (const issue of warnings) context.stdout(`    warning: ${placed(issue, options)}\n`);
  for (const issue of errors) context.stdout(`    ${paint('error', 'red')}: ${placed(issue, options)}\n`);
}

/** The file may have changed since: the line, but not its text. */
function placed(issue: LoggedRun['errors'][number], { config }: LogCommandOptions): string {
  const text = issueText(config, undefined, issue);
  return issue.line === undefined ? text : `line ${issue.line}: ${text}`;
}
