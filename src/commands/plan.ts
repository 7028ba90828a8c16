// `plan`: what reload would do, step by step. Touches nothing.

import type { Issue } from '../config/issue.ts';
import { EXIT, type ExitStatus } from '../errors.ts';
import { readTrusted } from '../machine/config-file.ts';
import { readConfig } from '../machine/parsed.ts';
import { describe } from '../network/step.ts';
import { chooseRenderer, survey } from '../survey.ts';
import {
  type Context,
  count,
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
      : await readConfig(host, file.bytes, 'look');
  const text = 'bytes' in file ? new TextDecoder().decode(file.bytes) : undefined;
  const finish = (result: string, steps: { kind: string; text: string }[], warnings: Issue[], errors: Issue[]) => {
    const durationMs = Math.round(performance.now() - started);
    if (options.json) return printJson(context, { result, steps, warnings, errors, durationMs });
    const paint = painter(context);
    for (const step of steps) context.stdout(`${paintStep(paint, step.text)}\n`);
    for (const issue of warnings)
      context.stderr(`${problem(context, 'warning')}: ${issueText(options.config, text, issue)}\n`);
    for (const issue of errors)
      context.stderr(`${problem(context, 'error')}: ${issueText(options.config, text, issue)}\n`);
    if (errors.length === 0)
      context.stdout(steps.length === 0 ? `${paint('in sync', 'green')}\n` : `plan: ${count(steps.length, 'step')}\n`);
  };
  if (!parsed.ok) {
    finish('failed', [], parsed.warnings, parsed.errors);
    return EXIT.config;
  }
  const { steps, warnings } = await survey(host, parsed.config, await chooseRenderer(host, options.renderer), 'whole');
  finish(
    steps.length === 0 ? 'unchanged' : 'changed',
    steps.map((step) => ({ kind: step.kind, text: describe(step) })),
    [...('warnings' in file ? file.warnings : []), ...parsed.warnings, ...warnings.map((message) => ({ message }))],
    [],
  );
  return options.exitCode && steps.length > 0 ? EXIT.notInSync : EXIT.ok;
}
