// `plan`: what reload would do, step by step. Touches nothing.

import { count } from '../base/count.ts';
import { EXIT, type ExitStatus } from '../base/errors.ts';
import { shown } from '../base/visible.ts';
import type { Issue } from '../config/issue.ts';
import { firstOf } from '../config/issue.ts';
import { spoken } from '../engines/spoken.ts';
import { readTrusted } from '../machine/config-file.ts';
import { readFlowRecord } from '../machine/flow-record.ts';
import { readConfig } from '../machine/known/parsed.ts';
import { describe } from '../network/kinds.ts';
import { faultyNics } from '../network/nics.ts';
import { plannedCuts } from '../run/stale.ts';
import { type Aim, chooseRenderer, flowModelOf, survey } from '../run/survey.ts';
import { newWays } from '../run/upgrade.ts';
import {
  type Context,
  type GlobalOptions,
  issueText,
  needRoot,
  painter,
  paintStep,
  printJson,
  problem,
} from './context.ts';

export async function plan(context: Context, options: GlobalOptions & { exitCode: boolean }): Promise<ExitStatus> {
  needRoot(context, 'plan');
  const started = performance.now();
  const host = context.host();
  const file = await readTrusted(host, options.config, 'look');
  const parsed =
    'errors' in file
      ? { ok: false as const, errors: file.errors, warnings: [] }
      : await readConfig(host, options.config, file.bytes, 'look');
  const text = 'bytes' in file ? new TextDecoder().decode(file.bytes) : undefined;
  const finish = (
    result: string,
    steps: { kind: string; text: string }[],
    warnings: Issue[],
    errors: Issue[],
    isFaulty = false,
    lines: readonly string[] = [],
  ) => {
    const durationMs = Math.round(performance.now() - started);
    if (options.json) return printJson(context, { result, steps, warnings, errors, durationMs });
    const paint = painter(context);
    for (const line of lines) context.stdout(shown`${paintStep(paint, line)}\n`);
    for (const issue of firstOf(warnings))
      context.stderr(shown`${problem(context, 'warning')}: ${issueText(text, issue)}\n`);
    for (const issue of firstOf(errors))
      context.stderr(shown`${problem(context, 'error')}: ${issueText(text, issue)}\n`);
    if (errors.length === 0)
      context.stdout(
        steps.length > 0
          ? shown`plan: ${count(steps.length, 'step')}\n`
          : isFaulty
            ? shown`${paint('not in sync', 'red')}: a NIC is in error, and reload cannot help: see the warning\n`
            : shown`${paint('in sync', 'green')}\n`,
      );
  };
  if (!parsed.ok) {
    finish('failed', [], parsed.warnings, parsed.errors);
    return EXIT.config;
  }
  const renderer = await chooseRenderer(host, options.renderer);
  const aim: Aim = { config: parsed.config, renderer, scope: 'whole', ways: 'today' };
  const found = await survey(host, aim);
  const isFaulty = faultyNics(found.binding).length > 0;
  const record = await readFlowRecord(host);
  const cuts = await plannedCuts(host, flowModelOf(aim, found, record?.former));
  const steps = [...found.steps, ...cuts.steps];
  const warnings = [...found.going, ...found.warnings, ...(await newWays(host, parsed.config)), ...cuts.warnings];
  finish(
    steps.length === 0 ? 'unchanged' : 'changed',
    steps.map((step) => ({ kind: step.kind, text: describe(step) })),
    [...('warnings' in file ? file.warnings : []), ...parsed.warnings, ...warnings.map((message) => ({ message }))],
    [],
    isFaulty,
    options.verbose ? steps.map(describe) : spoken(steps, found.observation.state.chains),
  );
  return options.exitCode && (steps.length > 0 || isFaulty) ? EXIT.notInSync : EXIT.ok;
}
