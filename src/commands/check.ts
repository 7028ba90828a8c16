// `check`: is the file right? Touches nothing, needs no root and no network.

import { parseConfig } from '../config/parse.ts';
import { EXIT, type ExitStatus, HostError } from '../errors.ts';
import { type Context, count, type GlobalOptions, issueText, painter, printJson } from './context.ts';

export async function check(
  context: Context,
  options: GlobalOptions & { strict: boolean },
  file: string = options.config,
): Promise<ExitStatus> {
  const bytes = await context
    .host()
    .readBytes(file)
    .catch((error: unknown) => {
      if (error instanceof HostError) return error;
      throw error;
    });
  const parsed =
    bytes instanceof Uint8Array ? parseConfig(bytes) : unreadable(bytes?.message ?? `${file}: does not exist`);
  const warnings = options.strict ? [] : parsed.warnings;
  const errors = [...(parsed.ok ? [] : parsed.errors), ...(options.strict ? parsed.warnings : [])];
  const valid = errors.length === 0;
  const status = valid ? EXIT.ok : EXIT.config;
  if (options.json) {
    printJson(context, { valid, errors, warnings });
    return status;
  }
  const paint = painter(context);
  const text = bytes instanceof Uint8Array ? new TextDecoder().decode(bytes) : undefined;
  for (const issue of errors) context.stdout(`${paint('error', 'red')}: ${issueText(file, text, issue)}\n`);
  for (const issue of warnings) context.stdout(`${paint('warning', 'yellow')}: ${issueText(file, text, issue)}\n`);
  if (parsed.ok && valid) {
    const { nics, eips, forwards } = parsed.config;
    context.stdout(
      `${file}: ${paint('valid', 'green')} (${[count(nics.length, 'NIC'), count(eips.length, 'EIP'), count(forwards.length, 'forward')].join(', ')})\n`,
    );
  } else context.stdout(`${file}: ${paint('not valid', 'red')} (${count(errors.length, 'error')})\n`);
  return status;
}

const unreadable = (message: string) => ({ ok: false as const, errors: [{ message }], warnings: [] });
