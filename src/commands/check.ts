// `check`: is the file right? Touches nothing, needs no root and no network.

import type { Issue } from '../config/issue.ts';
import { loadConfig } from '../config/load.ts';
import { AgentError, EXIT, type ExitStatus } from '../errors.ts';
import { type Context, count, type GlobalOptions, issueText, painter, printJson } from './context.ts';

/** Of each kind; --json has them all. */
const MOST_SHOWN = 100;

export async function check(
  context: Context,
  options: GlobalOptions & { strict: boolean },
  file: string = options.config,
): Promise<ExitStatus> {
  const bytes = await read(context, file);
  const parsed =
    typeof bytes === 'string'
      ? { ok: false as const, errors: [{ message: bytes }], warnings: [] }
      : await loadConfig(bytes);
  const warnings = options.strict ? [] : parsed.warnings;
  const errors = [...(parsed.ok ? [] : parsed.errors), ...(options.strict ? parsed.warnings : [])];
  const valid = errors.length === 0;
  const status = valid ? EXIT.ok : EXIT.config;
  if (options.json) {
    printJson(context, { valid, errors, warnings });
    return status;
  }
  const paint = painter(context);
  const show = (kind: string, issues: readonly Issue[]) => {
    const text = issues.length === 0 || typeof bytes === 'string' ? undefined : new TextDecoder().decode(bytes);
    for (const issue of issues.slice(0, MOST_SHOWN)) context.stdout(`${kind}: ${issueText(file, text, issue)}\n`);
    if (issues.length > MOST_SHOWN) context.stdout(`${kind}: and ${issues.length - MOST_SHOWN} more\n`);
  };
  show(paint('error', 'red'), errors);
  show(paint('warning', 'yellow'), warnings);
  if (parsed.ok && valid) {
    const { nics, eips, forwards } = parsed.config;
    context.stdout(
      `${file}: ${paint('valid', 'green')} (${[count(nics.length, 'NIC'), count(eips.length, 'EIP'), count(forwards.length, 'forward')].join(', ')})\n`,
    );
  } else context.stdout(`${file}: ${paint('not valid', 'red')} (${count(errors.length, 'error')})\n`);
  return status;
}

/** The file's bytes, or why there are none. */
async function read(context: Context, file: string): Promise<Uint8Array | string> {
  try {
    return (await context.host().readBytes(file)) ?? `${file}: does not exist: write it, or name another one`;
  } catch (error) {
    if (error instanceof AgentError) return error.message;
    throw error;
  }
}
