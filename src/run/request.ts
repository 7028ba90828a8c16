// What a command asks of a run.

import type { Trigger } from '../base/trigger.ts';
import type { Early } from '../machine/known/early.ts';

export type RunRequest = {
  command: 'start' | 'reload' | 'confirm' | 'rollback' | 'edit';
  trigger: Trigger;
  configPath: string;
  /** Asked for with --renderer. */
  renderer?: string;
  /** For automatic runs: the hash that two reads of the file agreed on, `last good` where it is that, or `unsettled`. */
  settled?: string;
  /** For start and reload: what was asked before the turn of this run. */
  early?: Early;
  /** For reload: seconds until the change is taken back, and the command line that does it. */
  confirmWithin?: { seconds: number; takeBack: (run: string) => [string, ...string[]] };
  /** For confirm: when it was asked for, in seconds since boot; the wait for its turn counts not. */
  asked?: number;
  /** For rollback: the number in the history; the one before the last good one where there is none. */
  to?: number;
  /** For rollback: only the change of that run, and only when its time has run out. */
  unconfirmed?: string;
};
