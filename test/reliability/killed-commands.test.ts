// Killed where it is not a reload: in an edit of the file, and in a confirmation.

import assert from 'node:assert/strict';
import { join } from 'node:path';
import { after, before, describe, it } from 'node:test';
import {
  apply,
  everything,
  FILE,
  isPending,
  LAST_GOOD,
  ok,
  one,
  other,
  shell,
  until,
  waiters,
} from '../confirm/router.ts';
import { createLab, type Lab, PROGRAM } from '../lab/lab.ts';

const TRACE = '/run/trace';

describe('killed', { concurrency: false }, () => {
  let lab: Lab;
  before(async () => {
    lab = await createLab({ networkScripts: true });
    await apply(lab, one);
  });
  after(() => lab?.close());

  /** Kills it at that instant of kill-hook.cjs; without one it only notes the instants, which are given back. */
  async function run(args: readonly string[], at?: string): Promise<{ status: number; instants: string[] }> {
    await shell(lab, `: > ${TRACE}`);
    const hook = join(import.meta.dirname, 'kill-hook.cjs');
    const { status } = await lab.router.run([process.execPath, '--require', hook, PROGRAM, ...args], {
      env: { KYLIN_VR_KILL: JSON.stringify({ trace: TRACE, whom: 'node', ...(at !== undefined && { at }) }) },
    });
    const trace = (await lab.router.read(TRACE)) ?? '';
    return { status, instants: [...new Set(trace.split('\n').flatMap((line) => line.split(/(?<=^\S+) /)[1] ?? []))] };
  }

  const temporaries = () => shell(lab, 'find /etc /var/lib /run -name "*kylin-vr-new*"');

  for (const at of ['half', 'after fsyncSync', 'before renameSync'])
    it(`in the middle of eip add (${at}): the file is whole, and the next run sweeps what is left`, async () => {
      const network = await everything(lab);
      const { status } = await run(['eip', 'add', '203.0.113.70=10.10.1.70'], `${at} ${FILE}`);
      assert.equal(status, 137);
      assert.notEqual(await temporaries(), '');
      assert.equal(await lab.router.read(FILE), one);
      await lab.router.write('/etc/kylin-vr/.mine.12345678.kylin-vr-new', 'not of that file');
      assert.match((await ok(lab, 'reload')).stdout, /^reload: unchanged/m);
      assert.equal(await temporaries(), '/etc/kylin-vr/.mine.12345678.kylin-vr-new\n');
      await shell(lab, 'rm /etc/kylin-vr/.mine*');
      assert.equal(await everything(lab), network);
    });

  it('in a confirmation, at each file that it changes: the change is in force, and waits or is kept', async (t) => {
    await apply(lab, other, '--confirm-within', '600');
    const network = await everything(lab);
    const { status, instants } = await run(['confirm']);
    assert.equal(status, 0);
    const chosen = instants.filter((what) => /^(half|after (rename|unlink)Sync) \/var\/lib/.test(what));
    let kept = 0;
    for (const at of chosen) {
      await apply(lab, one);
      await apply(lab, other, '--confirm-within', '600');
      assert.equal((await run(['confirm'], at)).status, 137, at);
      assert.match((await ok(lab, 'reload', '--trigger', 'timer')).stdout, /^reload: unchanged/m, at);
      assert.equal(await everything(lab), network, at);
      if (await isPending(lab)) await ok(lab, 'confirm');
      else kept++;
      assert.equal(await isPending(lab), false, at);
      assert.equal(await lab.router.read(LAST_GOOD), other, at);
      const { configurations } = JSON.parse((await ok(lab, 'rollback', '--list', '--json')).stdout);
      assert.deepEqual([configurations[0].lastGood, configurations[1].lastGood], [true, false], at);
      assert.equal(await temporaries(), '', at);
      await until('the end of the process that waited', async () => waiters(lab).length === 0);
    }
    t.diagnostic(`killed at ${chosen.length} instants, kept at ${kept}`);
    assert.ok(kept > 0 && kept < chosen.length);
  });
});
