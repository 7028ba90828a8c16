// A change that waits for its confirmation: who may do what meanwhile, and what confirm and rollback make of it.

import assert from 'node:assert/strict';
import { after, before, describe, it } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { createLab, type Lab, NICS } from '../lab/lab.ts';
import { networkOf } from '../lab/state.ts';
import { recordTools, type Tools } from '../lab/tools.ts';
import {
  apply,
  everything,
  FILE,
  isPending,
  json,
  LAST_GOOD,
  LIB,
  ok,
  one,
  other,
  shell,
  until,
  waiters,
  warningsOf,
} from './router.ts';

const KEPT = 'a change waits for its confirmation: it stays in force until then';

describe('a change that waits for its confirmation', { concurrency: false }, () => {
  let lab: Lab;
  let tools: Tools;
  /** Of `one`. */
  let first: string;
  before(async () => {
    // The NIC of subnet b comes later.
    lab = await createLab({ nics: [NICS.public, NICS.a], networkScripts: true });
    tools = await recordTools(lab.router);
    await apply(lab, one);
    first = await everything(lab);
  });
  after(() => lab?.close());

  it('is in force, and not the last good one; what to do until when is said', async () => {
    await lab.configure(other);
    const report = await json(lab, 'reload', '--confirm-within', '600');
    assert.deepEqual([report.status, report.result, report.pending?.secondsLeft], [0, 'changed', 600]);
    const { deadline = '' } = report.pending ?? {};
    assert.ok(Math.abs(Date.parse(deadline) - Date.now() - 600_000) < 60_000, deadline);
    assert.equal(report.advice, `within 600 s (until ${deadline}): kylin-vr confirm keeps it; else it is taken back`);
    assert.notEqual(await everything(lab), first);
    assert.equal(await lab.router.read(LAST_GOOD), one);
    assert.equal(waiters(lab).length, 1);
  });

  it('status shows the time that is left', async () => {
    const { status, inSync, pending, notInForce } = await json<Status>(lab, 'status');
    assert.deepEqual(
      [status, inSync, notInForce, pending?.phase, pending?.trigger],
      [0, true, undefined, 'waiting', 'operator'],
    );
    assert.ok(pending !== undefined && pending.secondsLeft > 400 && pending.secondsLeft <= 600);
    // One instant, whichever part of a second is asked in.
    const deadlines: number[] = [];
    for (let n = 0; n < 5; n++) {
      const { pending: again } = await json<Status>(lab, 'status');
      deadlines.push(Date.parse(again?.deadline ?? ''));
      await sleep(n * 230);
    }
    assert.ok(Math.max(...deadlines) - Math.min(...deadlines) < 250, deadlines.join(' '));
    const { stdout } = await lab.kylin('status');
    assert.match(
      stdout,
      /^to be confirmed: the change of \S+ \(run [0-9a-f]{8}\) is taken back in \d+ s \(\S+Z\): kylin-vr confirm keeps it$/m,
    );
  });

  for (const args of [['reload'], ['reload', '--confirm-within', '30']])
    it(`a second ${args.join(' ')} ends 75 with the time left, and changes nothing`, async () => {
      const network = await everything(lab);
      const pending = await lab.router.read(`${LIB}/pending.json`);
      await lab.configure(one);
      const { status, result, errors } = await json(lab, ...args);
      await lab.configure(other);
      assert.deepEqual([status, result], [75, 'failed']);
      assert.match(
        errors[0]?.message ?? '',
        /^a change waits for its confirmation, \d+ s left: kylin-vr confirm keeps it, kylin-vr rollback takes it back$/,
      );
      assert.equal(await everything(lab), network);
      assert.equal(await lab.router.read(`${LIB}/pending.json`), pending);
    });

  it('uninstall ends 75, with and without --flush: nobody could take the change back then', async () => {
    for (const args of [['uninstall'], ['uninstall', '--flush']]) {
      const { status, stderr } = await lab.kylin(...args);
      const message = 'a change waits for its confirmation: first kylin-vr confirm, or kylin-vr rollback';
      assert.deepEqual([status, stderr], [75, `kylin-vr: ${message}\n`]);
    }
  });

  for (const args of [['start'], ['reload', '--trigger', 'timer'], ['reload', '--trigger', 'udev']])
    it(`${args.join(' ')} keeps and repairs it, and neither confirms nor extends it`, async () => {
      const network = await everything(lab);
      const pending = await lab.router.read(`${LIB}/pending.json`);
      const still = await json(lab, ...args);
      assert.deepEqual([still.status, still.result], [0, 'unchanged']);
      assert.ok(warningsOf(still).includes(KEPT));
      // At boot NICs are left to what brings them up from their files.
      const address = args[0] === 'start' ? '' : 'ip address delete 203.0.113.51/32 dev eth0';
      await shell(lab, `iptables -t nat -F; ${address}`);
      const { status, result } = await json(lab, ...args);
      assert.deepEqual([status, result], [0, 'changed']);
      assert.equal(await everything(lab), network);
      assert.equal(await lab.router.read(`${LIB}/pending.json`), pending);
      assert.equal(await lab.router.read(LAST_GOOD), one);
    });

  it('a file that is written meanwhile is left alone by automatic runs, and status says so', async () => {
    const network = await everything(lab);
    for (const text of [one, 'if_list:\n', `${other}# once more\n`]) {
      await lab.configure(text);
      const { status, result } = await json(lab, 'reload', '--trigger', 'timer');
      assert.deepEqual([status, result], [0, 'unchanged']);
    }
    assert.equal(await everything(lab), network);
    const { notInForce } = await json<Status>(lab, 'status');
    assert.equal(notInForce, 'a change that waits for its confirmation is, the file is another since');
    await lab.configure(other);
  });

  it('a NIC that comes is served', async () => {
    await lab.router.plug(NICS.b);
    const { status, result } = await json(lab, 'reload', '--trigger', 'udev');
    assert.deepEqual([status, result], [0, 'changed']);
    assert.match(await networkOf(lab.router), /^eth2 inet 10\.10\.2\.254\/24 /m);
    assert.equal(await lab.router.read(LAST_GOOD), one);
  });

  it('confirm keeps it: the last good configuration, and the first in the list', async () => {
    const network = await everything(lab);
    const { pending } = await json<Status>(lab, 'status');
    const { status, result, steps, advice } = await json(lab, 'confirm');
    assert.deepEqual([status, result, steps], [0, 'unchanged', []]);
    assert.equal(
      advice,
      `kept: the change of ${pending?.time} (run ${pending?.run}) is the last good configuration now`,
    );
    assert.equal(await everything(lab), network);
    assert.equal(await lab.router.read(LAST_GOOD), other);
    const { configurations } = await json<{ configurations: { run: string; time: string; lastGood: boolean }[] }>(
      lab,
      'rollback',
      '--list',
    );
    assert.deepEqual(
      [configurations.length, configurations[0]?.run, configurations[0]?.lastGood],
      [2, pending?.run, true],
    );
    assert.equal((await json<Status>(lab, 'status')).pending, undefined);
    assert.equal(await shell(lab, `ls ${LIB} | grep -e pending -e checkpoint || true`), '');
    await until('the end of the process that waited', async () => waiters(lab).length === 0);
    assert.equal((await json(lab, 'reload', '--trigger', 'timer')).result, 'unchanged');
  });

  it('confirm with nothing that waits ends 64', async () => {
    const { status, stderr } = await lab.kylin('confirm');
    assert.deepEqual(
      [status, stderr],
      [64, 'kylin-vr: nothing waits for a confirmation: kylin-vr status shows what is in force\n'],
    );
  });

  it('where the network stays as it is there is nothing to confirm', async () => {
    for (const text of [other, `${other}# the same in other words\n`]) {
      await lab.configure(text);
      const { status, result, pending, advice } = await json(lab, 'reload', '--confirm-within', '600');
      assert.deepEqual(
        [status, result, pending, advice],
        [0, 'unchanged', undefined, 'the network is as it was: there is nothing to confirm'],
      );
      assert.equal(await isPending(lab), false);
      assert.equal(await lab.router.read(LAST_GOOD), text);
    }
  });

  it('nor where the last good one is repaired', async () => {
    await apply(lab, other);
    const network = await everything(lab);
    await shell(lab, 'iptables -t nat -F');
    const { status, result, pending, advice } = await json(lab, 'reload', '--confirm-within', '600');
    assert.deepEqual(
      [status, result, pending, advice],
      [0, 'changed', undefined, 'this was the last good configuration before: there is nothing to confirm'],
    );
    assert.equal(await isPending(lab), false);
    assert.equal(await everything(lab), network);
  });

  it('rollback takes it back at once, and the file is out of force until it changes', async () => {
    await apply(lab, other);
    const network = await everything(lab);
    await apply(lab, one, '--confirm-within', '600');
    const { status, result, steps, advice, warnings } = await json(lab, 'rollback');
    assert.deepEqual([status, result], [0, 'changed']);
    assert.ok(steps.length > 0);
    assert.match(
      warnings[0]?.message ?? '',
      /^the change of \S+ \(run \S+\) was taken back: kylin-vr rollback took it back$/,
    );
    assert.equal(
      advice,
      `${FILE} stays as it is, and is not in force until it changes: cp ${LAST_GOOD} ${FILE} makes this permanent, kylin-vr reload tries it again`,
    );
    assert.equal(await everything(lab), network);
    assert.equal(await lab.router.read(FILE), one);
    assert.equal((await json(lab, 'reload', '--trigger', 'timer')).result, 'unchanged');
    assert.equal(await everything(lab), network);
    const { notInForce } = await json<Status>(lab, 'status');
    assert.equal(notInForce, 'kylin-vr rollback took it back: kylin-vr reload tries it again');
    await until('the end of the process that waited', async () => waiters(lab).length === 0);
    await ok(lab, 'reload');
    assert.equal(await lab.router.read(LAST_GOOD), one);
  });

  it('a reload that ends 65 or 69 leaves nothing that waits', async () => {
    const network = await everything(lab);
    await lab.configure('if_list:\n');
    assert.equal((await json(lab, 'reload', '--confirm-within', '600')).status, 65);
    await lab.configure(other);
    await tools.before(
      'ip',
      `case "$*" in *-batch*) [ -e /mnt/once ] || { touch /mnt/once; echo 'made to fail' >&2; exit 1; } ;; esac`,
    );
    const { status, result } = await json(lab, 'reload', '--confirm-within', '600');
    await tools.before('ip');
    assert.deepEqual([status, result, await isPending(lab)], [69, 'rolled-back', false]);
    assert.equal(await everything(lab), network);
    assert.equal((await lab.kylin('confirm')).status, 64);
    await until('the end of the process that waited', async () => waiters(lab).length === 0);
  });

  it('a time that is none, or a run that nobody asked for: 64', async () => {
    for (const args of [
      '--confirm-within 0',
      '--confirm-within 1.5',
      '--confirm-within 86401',
      '--confirm-within soon',
    ])
      assert.equal((await lab.kylin('reload', ...args.split(' '))).status, 64, args);
    const { status, errors } = await json(lab, 'reload', '--confirm-within', '60', '--trigger', 'timer');
    assert.deepEqual(
      [status, errors[0]?.message],
      [64, '--confirm-within is for people: nobody confirms a run by timer'],
    );
  });
});

type Status = {
  inSync: boolean;
  notInForce?: string;
  pending?: { secondsLeft: number; deadline: string; phase: string; trigger: string; run: string; time: string };
};
