// What a terminal shows of a run changes nothing of what is done.

import assert from 'node:assert/strict';
import { it } from 'node:test';
import { watched } from '../../src/commands/progress.ts';
import type { Host } from '../../src/machine/host.ts';

it('the host gets all that it is asked with, whoever looks on', async () => {
  const calls: unknown[][] = [];
  const host = {
    run: async (...args: unknown[]) => ({ stdout: `${calls.push(args)}`, status: 0 }),
    write: async (...args: unknown[]) => calls.push(args) > 0,
  } as unknown as Host;
  const shown: string[] = [];
  const line = { live: true, show: (text: string) => shown.push(text), say: () => undefined, end: () => undefined };
  const seen = watched(host, line);
  await seen.run(['ip', '-batch', '-'], { input: 'a\nb\n', accept: [1] });
  await seen.write('/etc/kylin-vr/kylin-vr.yaml', 'text', 0o640, 1000);
  assert.deepEqual(calls, [
    [['ip', '-batch', '-'], { input: 'a\nb\n', accept: [1] }],
    ['/etc/kylin-vr/kylin-vr.yaml', 'text', 0o640, 1000],
  ]);
  assert.deepEqual(shown, ['ip -batch - (2 lines)', 'writing /etc/kylin-vr/kylin-vr.yaml']);
});
