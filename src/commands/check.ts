// `check`: is the file right? Touches nothing, needs no root and no network.

import { resolve } from 'node:path';
import { count } from '../base/count.ts';
import { EXIT, type ExitStatus } from '../base/errors.ts';
import { PATHS } from '../base/paths.ts';
import { type Shown, shown } from '../base/visible.ts';
import type { Issue } from '../config/issue.ts';
import { firstOf, ofFile } from '../config/issue.ts';
import { loadConfig } from '../config/load.ts';
import { readAnyones, readTrusted } from '../machine/config-file.ts';
import { type Context, type GlobalOptions, issueText, painter, printJson } from './context.ts';

export async function check(
  context: Context,
  options: GlobalOptions & { strict: boolean },
  file: string = options.config,
): Promise<ExitStatus> {
  const read = await readAnyones(context.host(), file, 'write it, or name another one');
  const trust = await trustIn(context, file);
  const parsed =
    'bytes' in read
      ? ofFile(file, await loadConfig(read.bytes))
      : { ok: false as const, errors: trust.errors.length > 0 ? [] : read.errors, warnings: [] };
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
    const text = issues.length > 0 && 'bytes' in read ? new TextDecoder().decode(read.bytes) : undefined;
    for (const issue of firstOf(issues)) context.stdout(shown`${kind}: ${issueText(text, issue)}\n`);
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
