// What comes true without anybody waiting for it in the machine: looks again until it is there.

import assert from 'node:assert/strict';
import { setTimeout as sleep } from 'node:timers/promises';
import { isDeepStrictEqual } from 'node:util';

/** Fails with the difference between what is expected and what was seen last. `expected`: of text a pattern, too. */
export async function eventually<T>(
  read: () => Promise<T>,
  expected: NoInfer<T> | RegExp,
  withinMs = 15_000,
): Promise<void> {
  const isThere = (saw: T) =>
    expected instanceof RegExp ? expected.test(String(saw)) : isDeepStrictEqual(saw, expected);
  const deadline = Date.now() + withinMs;
  let saw = await read();
  while (!isThere(saw) && Date.now() < deadline) {
    await sleep(50);
    saw = await read();
  }
  if (expected instanceof RegExp) assert.match(String(saw), expected);
  else assert.deepEqual(saw, expected);
}
