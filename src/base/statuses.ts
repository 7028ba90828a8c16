// What the exit statuses mean, for help and documents. Loads nothing else.

import type { EXIT } from './errors.ts';

/** What each one means: --help, the man page and the manual say it in these words (test/docs). */
export const STATUS_WORDS: Readonly<Record<keyof typeof EXIT, string>> = {
  ok: 'done, or in sync; also where `status` goes on (`--watch`) or feeds a collector (`--format prometheus`)',
  internal: 'internal error: please report it',
  notInSync: 'not in sync (`status`, `plan --exit-code`), or the kernel disagrees (`explain --live`)',
  usage: 'the command line is wrong, or nothing waits for `confirm`',
  config: 'the configuration is wrong, and not applied; `start`, and runs by themselves, bring up the last good one',
  failed: 'it could not be done; a change that failed is taken back, and `result` is `rolled-back`',
  locked: 'another run holds the lock, or a change waits to be confirmed; try again',
  notRoot: 'needs root',
};
