// Disks that take nothing, for a whole run: a machine that boots becomes a router all the same, and who asks for a change learns that
// nothing was changed.

import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { HostError } from '../../src/base/errors.ts';
import { errno } from './files.ts';
import type { Machine } from './machine.ts';
import { addressesOf, differences, messagesOf, routerWith, runOn } from './router.ts';
import { ROUTER, yaml } from './scenes.ts';

const CAUSES = {
  ENOSPC: ['no space left on device', /make room there/],
  EROFS: ['read-only file system', /make it writable/],
  EACCES: ['permission denied', /root/],
} as const;

const MOVED = yaml({ ...ROUTER, eips: { '203.0.113.51': '10.10.1.12' }, routes: [] });

/** Below this folder. */
function refuse(machine: Machine, folder: string, code: string, words: string): void {
  machine.before = ({ method, args: [path, content] }) => {
    const isWrite = ['write', 'move', 'copy', 'link', 'remove', 'putAside'].includes(method);
    // What is so already is not written, and what is not there not removed.
    const there = machine.files.text(String(path));
    const isSo = there === (method === 'write' ? Buffer.from(content as string).toString() : undefined);
    if (isWrite && !isSo && String(path).startsWith(folder))
      throw new HostError(`${method === 'write' ? 'writing' : method} ${path}`, errno(code, words));
  };
}

for (const [code, [words, cure]] of Object.entries(CAUSES))
  describe(code, () => {
    test('a router boots, and says what could not be kept', async () => {
      const machine = await routerWith();
      machine.configure(MOVED);
      machine.reboot();
      refuse(machine, '/var/', code, words);
      const report = await runOn(machine, { command: 'start', trigger: 'boot' });
      machine.before = undefined;
      assert.match(messagesOf(report).join('\n'), cure);
      assert.deepEqual(addressesOf(machine, 'eth0'), ['203.0.113.37/24', '203.0.113.51/32', '203.0.113.60/32']);
    });

    test('a change is not begun, and made once there is room', async () => {
      const machine = await routerWith();
      const before = machine.copy();
      machine.configure(MOVED);
      refuse(machine, '/var/', code, words);
      const report = await runOn(machine);
      machine.before = undefined;
      assert.equal(report.result, 'failed');
      assert.match(messagesOf(report).join('\n'), /nothing was changed/);
      assert.match(messagesOf(report).join('\n'), cure);
      assert.deepEqual(differences(machine, before), []);
      assert.equal((await runOn(machine)).result, 'changed');
    });

    test('where nothing is to do that is no fault', async () => {
      const machine = await routerWith();
      refuse(machine, '/var/', code, words);
      const report = await runOn(machine);
      assert.deepEqual([report.result, report.exitStatus], ['unchanged', 0]);
    });
  });
