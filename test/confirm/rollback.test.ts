// What was applied before: kept, listed, gone back to. And what systemd is asked where it runs.

import assert from 'node:assert/strict';
import { after, before, describe, it } from 'node:test';
import { createLab, type Lab } from '../lab/lab.ts';
import { recordTools } from '../lab/tools.ts';
import { eip, nics } from '../scenarios/change.ts';
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
  v,
  waiters,
} from './router.ts';

type Listed = { number: number; time: string; trigger: string; run: string; hash: string; lastGood: boolean };

const listed = async (lab: Lab): Promise<Listed[]> =>
  (await json<{ configurations: Listed[] }>(lab, 'rollback', '--list')).configurations;

const hashOf = async (lab: Lab, file: string): Promise<string> =>
  (await shell(lab, `sha256sum < ${file}`)).slice(0, 64);

describe('rollback', { concurrency: true }, () => {
  describe('of what was confirmed, or needed no confirmation', { concurrency: false }, () => {
    let lab: Lab;
    /** Of `one` and of `other`. */
    let networks: string[];
    before(async () => {
      lab = await createLab({ networkScripts: true });
      await apply(lab, one);
      const first = await everything(lab);
      await apply(lab, other);
      networks = [first, await everything(lab)];
    });
    after(() => lab?.close());

    it('takes the last change back; the file stays, and automatic runs leave it alone', async () => {
      const { status, result, advice } = await json(lab, 'rollback');
      assert.deepEqual([status, result], [0, 'changed']);
      assert.equal(
        advice,
        `${FILE} stays as it is, and is not in force until it changes: cp ${LAST_GOOD} ${FILE} makes this permanent, kylin-vr reload tries it again`,
      );
      for (const args of [['start'], ['reload', '--trigger', 'timer'], ['reload', '--trigger', 'udev']])
        assert.equal((await json(lab, ...args)).result, 'unchanged');
      assert.equal(await everything(lab), networks[0]);
      assert.equal(await lab.router.read(FILE), other);
      assert.equal(await lab.router.read(LAST_GOOD), one);
    });

    it('status says what is in force, and why', async () => {
      const { status, stdout } = await lab.kylin('status');
      assert.equal(status, 2);
      assert.match(
        stdout,
        new RegExp(`^${FILE} is not in force: kylin-vr rollback took it back: kylin-vr reload tries it again$`, 'm'),
      );
    });

    it('again: takes the rollback back', async () => {
      const { advice } = await json(lab, 'rollback');
      // The file is this one.
      assert.equal(advice, undefined);
      assert.equal(await everything(lab), networks[1]);
      assert.equal(await lab.router.read(`${LIB}/refused`), undefined);
      assert.equal((await json<{ notInForce?: string }>(lab, 'status')).notInForce, undefined);
      const numbers = (await listed(lab)).map(({ number, lastGood }) => [number, lastGood]);
      assert.deepEqual(numbers, [
        [1, true],
        [2, false],
        [3, false],
        [4, false],
      ]);
    });

    it('what it advises makes it permanent', async () => {
      const { advice = '' } = await json(lab, 'rollback');
      const [copy = ''] = /cp \S+ \S+/.exec(advice) ?? [];
      await shell(lab, copy);
      assert.equal(await shell(lab, `stat -c %a ${FILE}`), '600\n');
      assert.equal((await json(lab, 'reload', '--trigger', 'timer')).result, 'unchanged');
      const { status, notInForce } = await json<{ notInForce?: string }>(lab, 'status');
      assert.deepEqual([status, notInForce], [0, undefined]);
      assert.equal(await everything(lab), networks[0]);
    });

    it('that fails: 69, and nothing has changed, what is remembered included', async () => {
      const tools = await recordTools(lab.router);
      await apply(lab, other);
      const network = await everything(lab);
      const files = await shell(lab, `cd ${LIB}; find . -type f | sort | xargs sha256sum`);
      await tools.before(
        'iptables-nft-restore',
        '[ -e /mnt/once ] || { touch /mnt/once; echo "made to fail" >&2; exit 4; }',
      );
      const { status, result, errors } = await json(lab, 'rollback');
      await tools.before('iptables-nft-restore');
      assert.deepEqual([status, result], [69, 'rolled-back']);
      assert.match(
        errors[0]?.message ?? '',
        /made to fail; the network is as it was before; mend the cause and run kylin-vr rollback again$/,
      );
      assert.equal(await everything(lab), network);
      assert.equal(await shell(lab, `cd ${LIB}; find . -type f | sort | xargs sha256sum`), files);
    });

    it('where the file is not valid: it goes back all the same', async () => {
      await apply(lab, other);
      await lab.configure('if_list:\n');
      const { status, result } = await json(lab, 'rollback');
      assert.deepEqual([status, result], [0, 'changed']);
      assert.equal(await everything(lab), networks[0]);
    });
  });

  it('the last 10 are kept, each by its bytes, time, trigger and run; --to goes to any of them', async (t) => {
    const lab = await createLab({ networkScripts: true });
    t.after(() => lab.close());
    const texts = Array.from({ length: 12 }, (_, n) => `# ${n}\n${nics}eip_list:\n${eip(`203.0.113.${100 + n}`, v)}`);
    const runs: string[] = [];
    let third = '';
    for (const [n, text] of texts.entries()) {
      await lab.configure(text);
      const { status, id } = await json(lab, 'reload', '--trigger', n % 2 === 0 ? 'operator' : 'agent');
      assert.equal(status, 0);
      // A second time is no new entry.
      await ok(lab, 'reload');
      runs.unshift(id);
      if (n === 9) third = await everything(lab);
    }
    const list = await listed(lab);
    assert.deepEqual(
      list.map(({ number, trigger, run, lastGood }) => [number, trigger, run, lastGood]),
      runs.slice(0, 10).map((run, n) => [n + 1, n % 2 === 0 ? 'agent' : 'operator', run, n === 0]),
    );
    for (const { time } of list) assert.ok(Math.abs(Date.parse(time) - Date.now()) < 600_000, time);
    const kept = (await shell(lab, `ls -r ${LIB}/history`)).trim().split('\n');
    const bytes = await Promise.all(kept.map((name) => lab.router.read(`${LIB}/history/${name}`)));
    assert.deepEqual(bytes, texts.toReversed().slice(0, 10));
    assert.equal(await shell(lab, `stat -c '%a %U' ${LIB}/history ${LIB}/history/* | sort -u`), '600 root\n700 root\n');
    assert.equal(list[0]?.hash, await hashOf(lab, LAST_GOOD));
    const { stdout } = await lab.kylin('rollback', '--list');
    assert.match(stdout, /^ 1 {2}\S+Z {2}agent {5}run [0-9a-f]{8} {2}[0-9a-f]{12} {2}last good$/m);
    assert.match(stdout, /^10 {2}/m);

    assert.equal((await json(lab, 'rollback', '--to', '3')).status, 0);
    assert.equal(await everything(lab), third);
    assert.equal(await lab.router.read(LAST_GOOD), texts[9]);
    assert.equal((await json(lab, 'reload', '--trigger', 'timer')).result, 'unchanged');
    assert.deepEqual(
      (await listed(lab)).map(({ hash }) => hash),
      [list[2], ...list.slice(0, 9)].map((entry) => entry?.hash),
    );
    assert.equal((await json(lab, 'rollback', '--to', '10')).status, 0);
    assert.equal(await lab.router.read(LAST_GOOD), texts[3]);
  });

  it('files of numbers that no run gave make none of later ones nameless', async (t) => {
    const lab = await createLab({ networkScripts: true });
    t.after(() => lab.close());
    const text = (n: number) => `# ${n}\n${nics}`;
    const reload = async (n: number) => {
      await lab.configure(text(n));
      assert.equal((await json(lab, 'reload')).status, 0);
    };
    await reload(0);
    const odd = ['9'.repeat(23), '9'.repeat(400), '9007199254740993', '0'.repeat(30), '1000000000', '999999999'];
    for (const [n, number] of odd.entries()) {
      // The names of files end at 255 bytes.
      const name = `${number.slice(0, 200)}-20240101T000000Z-operator-abcdef01.yaml`;
      await shell(lab, `cp ${LAST_GOOD} ${LIB}/history/${name}`);
      await reload(2 * n + 1);
      await reload(2 * n + 2);
      await shell(lab, `rm -f ${LIB}/history/${name}`);
      const names = (await shell(lab, `ls ${LIB}/history`)).trim().split('\n');
      assert.ok(
        names.every((each) => /^\d{6}-\d{8}T\d{6}Z-operator-[0-9a-f]{8}\.yaml$/.test(each)),
        names.join('\n'),
      );
      assert.equal((await json(lab, 'rollback')).status, 0);
      assert.equal(await lab.router.read(LAST_GOOD), text(2 * n + 1));
    }
  });

  it('to what there is not, or with nothing before: 64 or 69, and nothing changes', async (t) => {
    const lab = await createLab();
    t.after(() => lab.close());
    assert.equal((await ok(lab, 'rollback', '--list')).stdout, 'no configuration was applied yet\n');
    await apply(lab, one);
    const network = await everything(lab);
    for (const [args, message, ends = 64] of [
      ['', 'there is no configuration before the last good one: nothing was rolled back', 69],
      ['--to 2', 'there is no configuration 2: kylin-vr rollback --list shows those that are kept'],
      ['--to 1 --list', '--list shows, --to changes: give one of them'],
    ] as const) {
      const { status, stderr } = await lab.kylin('rollback', ...args.split(' ').filter((word) => word !== ''));
      assert.deepEqual([status, stderr], [ends, `kylin-vr: ${message}\n`]);
    }
    for (const number of ['0', '-1', 'x', '1.5'])
      assert.equal((await lab.kylin('rollback', '--to', number)).status, 64, number);
    assert.equal(await everything(lab), network);
  });

  it('where systemd runs a timer of its own takes the change back, and confirm stops it', async (t) => {
    const lab = await createLab({ networkScripts: true });
    t.after(() => lab.close());
    const tools = await recordTools(lab.router);
    const asked = async () =>
      (await tools.taken()).map(({ command }) => command).filter((call) => call.startsWith('system'));
    await shell(lab, 'mkdir -p /run/systemd/system');
    await lab.router.write('/usr/sbin/systemctl', '#!/bin/sh\necho "$$ systemctl $*" >> /mnt/log\n', 0o755);
    await lab.router.write(
      '/usr/sbin/systemd-run',
      '#!/bin/sh\necho "$$ systemd-run $*" >> /mnt/log\nprintf "%s\\n" "$@" > /run/timer\nexit $(cat /run/fails 2> /dev/null || echo 0)\n',
      0o755,
    );
    await apply(lab, one);
    const found = await everything(lab);
    await tools.taken();

    await lab.configure(other);
    const { id } = await json(lab, 'reload', '--confirm-within', '600');
    const [armed = ''] = await asked();
    assert.match(armed, new RegExp(`^systemd-run .*--unit=kylin-vr-rollback-${id} .*--on-active=600s `));
    assert.equal(waiters(lab).length, 0);
    const { status, stdout } = await lab.kylin('confirm');
    assert.deepEqual(
      [status, stdout.replace(/ of .*\)/, '')],
      [0, 'kept: the change is the last good configuration now\n'],
    );
    assert.deepEqual(await asked(), [`systemctl stop kylin-vr-rollback-${id}.timer`]);

    // The words after the timer's options are the command: run when the time is over, it takes the change back.
    await apply(lab, one);
    await apply(lab, other, '--confirm-within', '8');
    const [, command = ''] = /AccuracySec=100ms\n([\s\S]*)/.exec((await lab.router.read('/run/timer')) ?? '') ?? [];
    assert.equal((await lab.router.run(command.trim().split('\n'))).status, 0);
    assert.equal(await isPending(lab), false);
    assert.equal(await everything(lab), found);
    // A timer that could not be stopped finds nothing to do.
    assert.equal((await lab.router.run(command.trim().split('\n'))).status, 0);
    assert.equal(await everything(lab), found);

    await lab.router.write('/run/fails', '1');
    await apply(lab, other, '--confirm-within', '8');
    assert.equal(waiters(lab).length, 1);
    await until('the change is taken back', async () => !(await isPending(lab)));
    assert.equal(await everything(lab), found);
  });
});
