// `check`: is the file right? Touches nothing, needs no root and no network.

import { resolve } from 'node:path';
import type { Issue } from '../config/issue.ts';
import { firstOf } from '../config/issue.ts';
import { loadConfig } from '../config/load.ts';
import { LARGEST } from '../config/position.ts';
import { EXIT, type ExitStatus, UnreadableError } from '../errors.ts';
import { readTrusted } from '../machine/config-file.ts';
import { PATHS } from '../machine/paths.ts';
import { type Shown, shown } from '../visible.ts';
import { type Context, count, type GlobalOptions, issueText, painter, printJson } from './context.ts';

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
  const trust = await trustIn(context, file);
  const found = [...trust.warnings, ...parsed.warnings];
  const warnings = options.strict ? [] : found;
  const errors = [...trust.errors, ...(parsed.ok ? [] : parsed.errors), ...(options.strict ? found : [])];
  const notes = parsed.ok ? parsed.notes : [];
  const valid = errors.length === 0;
  const status = valid ? EXIT.ok : EXIT.config;
  if (options.json) {
    printJson(context, { valid, errors, warnings, notes });
    return status;
  }
  const paint = painter(context);
  const show = (kind: Shown, issues: readonly Issue[]) => {
    const text = issues.length === 0 || typeof bytes === 'string' ? undefined : new TextDecoder().decode(bytes);
    for (const issue of firstOf(issues)) context.stdout(shown`${kind}: ${issueText(file, text, issue)}\n`);
  };
  show(paint('error', 'red'), errors);
  show(paint('warning', 'yellow'), warnings);
  show(paint('note', 'dim'), notes);
  if (parsed.ok && valid) {
    const { nics, eips, forwards } = parsed.config;
    context.stdout(
      shown`${file}: ${paint('valid', 'green')} (${[count(nics.length, 'NIC'), count(eips.length, 'EIP'), count(forwards.length, 'forward')].join(', ')})\n`,
    );
  } else context.stdout(shown`${file}: ${paint('not valid', 'red')} (${count(errors.length, 'error')})\n`);
  return status;
}

/** Of the file that root acts on, owner and mode as `reload` will judge them; of any other they mean nothing. */
async function trustIn(context: Context, file: string): Promise<{ errors: Issue[]; warnings: Issue[] }> {
  if (resolve(file) !== PATHS.config || (await context.host().info(file)) === undefined)
    return { errors: [], warnings: [] };
  return { errors: [], warnings: [], ...(await readTrusted(context.host(), file, 'look')) };
}

/** The file's bytes, or why there are none. */
async function read(context: Context, file: string): Promise<Uint8Array | string> {
  try {
    const bytes = await context.host().readBytes(file, { most: LARGEST });
    return bytes ?? `${file}: does not exist: write it, or name another one`;
  } catch (error) {
    // One that may not be read, or not just now, is no wrong file.
    if (error instanceof UnreadableError) return error.message;
    throw error;
  }
}
