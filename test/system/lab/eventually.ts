// What comes true without anybody waiting for it in the machine: looks again until it is there.

import assert from 'node:assert/strict';
import { setTimeout as sleep } from 'node:timers/promises';

/** Fails with the difference between what is expected and what was seen last. */
export async function eventually(
  what: () => Promise<string>,
  expected: string | RegExp,
  timeoutMs: number,
): Promise<void> {
  const deadline = Date.now() + timeoutMs;
  for (;;) {
    const saw = await what();
    if (typeof expected === 'string' ? saw === expected : expected.test(saw)) return;
    if (Date.now() > deadline) {
      if (typeof expected === 'string') assert.equal(saw, expected, `after ${timeoutMs} ms`);
      else assert.match(saw, expected, `after ${timeoutMs} ms`);
    }
    await sleep(100);
  }
}
