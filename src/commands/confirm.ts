// `confirm`: keeps the change that waits for it.

import type { ExitStatus } from '../base/errors.ts';
import { uptimeOf } from '../machine/pending.ts';
import { type Context, type GlobalOptions, needRoot } from './context.ts';
import { runInTurn, triggerOf } from './reload.ts';

export async function confirm(context: Context, options: GlobalOptions): Promise<ExitStatus> {
  needRoot(context, 'confirm');
  const trigger = await triggerOf(context, options, 'confirm');
  const asked = await uptimeOf(context.host());
  return runInTurn(context, options, { command: 'confirm', trigger, configPath: options.config, asked });
}
