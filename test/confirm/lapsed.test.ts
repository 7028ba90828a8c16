// A change that nobody confirms: taken back when its time is over, whoever was killed, and whatever a clock says.

import assert from 'node:assert/strict';
import { after, before, describe, it } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { createLab, type Lab, NICS, PROGRAM } from '../lab/lab.ts';
import { recordTools } from '../lab/tools.ts';
import {
  apply,
  everything,
  FILE,
  isPending,
  json,
  killWaiters,
  LAST_GOOD,
  LIB,
  ok,
  one,
  other,
  pass,
  reboot,
  resume,
  shell,
  small,
  until,
  waiters,
  warningsOf,
} from './router.ts';

const FOREIGN = '/etc/sysconfig/network-scripts/ifcfg-eth2';
const back = (lab: Lab) => until('the change is taken back', async () => !(await isPending(lab)));
/** By process or by systemd it is armed before the first change; it must not come while the test still looks. */
const SOON = '8';

describe('a change that nobody confirms', { concurrency: true }, () => {
  describe('in time', { concurrency: false }, () => {
    let lab: Lab;
    before(async () => {
      lab = await createLab({ networkScripts: true });
      // As somebody else set up the NIC of subnet b.
      await shell(
        lab,
        `
        printf 'DEVICE=eth2\\nBOOTPROTO=none\\nIPADDR=192.0.2.5\\nPREFIX=24\\n' > ${FOREIGN}
        chmod 640 ${FOREIGN}
        ip link set eth2 up mtu 1400
        ip address add 192.0.2.5/24 dev eth2
        ip route add 198.18.0.0/15 via 192.0.2.1 dev eth2`,
      );
      await apply(lab, small);
    });
    after(() => lab?.close());

    it('is taken back after its time, not before: foreign addresses, routes and files, settings, all as it was', async () => {
      const found = await everything(lab);
      assert.match(found, /IPADDR=192\.0\.2\.5/);
      await lab.configure(other);
      await ok(lab, 'reload', '--confirm-within', SOON);
      const from = performance.now();
      const changed = await everything(lab);
      assert.doesNotMatch(changed, /192\.0\.2\.5/);
      await back(lab);
      assert.ok(performance.now() - from > 2500, `${performance.now() - from} ms`);
      assert.equal(await everything(lab), found);
      assert.equal(await lab.router.read(LAST_GOOD), small);
      assert.equal(await lab.router.read(FILE), other);
    });

    it('is not applied again by itself, and the last run and status say why', async () => {
      const network = await everything(lab);
      for (const args of [['start'], ['reload', '--trigger', 'timer'], ['reload', '--trigger', 'udev']]) {
        const { status, result } = await json(lab, ...args);
        assert.deepEqual([status, result], [0, 'unchanged']);
      }
      assert.equal(await everything(lab), network);
      const { notInForce } = await json<{ notInForce: string }>(lab, 'status');
      assert.equal(notInForce, `it was not confirmed within ${SOON} s: kylin-vr reload tries it again`);
      const log = (await lab.router.read('/var/log/kylin-vr/kylin-vr.log')) ?? '';
      assert.match(log, /"command":"rollback","trigger":"timer","result":"changed"/);
    });

    it('confirm comes too late: 64, and says who was first', async () => {
      const { status, stderr } = await lab.kylin('confirm');
      assert.deepEqual(
        [status, stderr],
        [
          64,
          `kylin-vr: nothing waits for a confirmation; the last change was taken back: it was not confirmed within ${SOON} s; kylin-vr reload --confirm-within SECONDS tries it again\n`,
        ],
      );
    });

    it('other bytes in the file are taken by the next automatic run, and the same ones by a reload', async () => {
      const found = await everything(lab);
      await lab.configure(`${other}# once more\n`);
      assert.equal((await json(lab, 'reload', '--trigger', 'timer')).result, 'changed');
      await ok(lab, 'rollback');
      // The foreign profile of eth2 is in the backup: rollback goes to a configuration, which names that NIC no more.
      assert.notEqual(await everything(lab), found);
      await ok(lab, 'reload');
      assert.equal((await lab.kylin('plan', '--exit-code')).status, 0);
    });

    for (const signal of ['HUP', 'KILL'])
      it(`outlives the session that began it, ended by SIG${signal}`, async () => {
        await apply(lab, one);
        const found = await everything(lab);
        await lab.configure(other);
        // As sshd ends a session: everything that still has its session id.
        await shell(
          lab,
          `
          setsid sh -c '${process.execPath} ${PROGRAM} reload --confirm-within ${SOON} > /run/out 2>&1; echo $? > /run/status; sleep 60' < /dev/null &
          session=$!
          while [ ! -s /run/status ]; do sleep 0.05; done
          [ "$(cat /run/status)" = 0 ]; rm /run/status
          pkill -${signal} -s $session`,
        );
        assert.equal(await isPending(lab), true);
        await back(lab);
        assert.equal(await everything(lab), found);
      });

    it('where nobody waits any more, the next automatic run after its time takes it back', async (t) => {
      t.after(() => resume(lab));
      await apply(lab, one);
      const found = await everything(lab);
      await apply(lab, other, '--confirm-within', '300');
      await killWaiters(lab);
      assert.equal((await json(lab, 'reload', '--trigger', 'timer')).result, 'unchanged');
      assert.equal(await isPending(lab), true);
      await pass(lab, 301);
      const { status, result, warnings } = await json(lab, 'reload', '--trigger', 'timer');
      assert.deepEqual([status, result, await isPending(lab)], [0, 'changed', false]);
      assert.match(
        warnings[0]?.message ?? '',
        /^the change of \S+ \(run \S+\) was taken back: it was not confirmed within 300 s$/,
      );
      assert.equal(await everything(lab), found);
    });

    it('after its time a confirmation comes too late, and a reload takes it back first', async (t) => {
      t.after(() => resume(lab));
      await apply(lab, one);
      await apply(lab, other, '--confirm-within', '300');
      await killWaiters(lab);
      await pass(lab, 301);
      const { status, stderr } = await lab.kylin('confirm');
      assert.equal(status, 64);
      assert.match(
        stderr,
        /^kylin-vr: too late: it was not confirmed within 300 s; the change is being taken back, kylin-vr rollback does it now\n$/,
      );
      const report = await json(lab, 'reload');
      assert.deepEqual([report.status, report.result], [0, 'changed']);
      assert.equal(await lab.router.read(LAST_GOOD), other);
      assert.equal((await lab.kylin('plan', '--exit-code')).status, 0);
    });

    it('a wall clock that steps by years neither ends nor lengthens the time', async () => {
      for (const years of [-10, 10]) {
        await apply(lab, one);
        const found = await everything(lab);
        await lab.configure(other);
        const at = async (shift: number, ...args: string[]) => {
          await lab.router.write(
            '/run/clock.cjs',
            `const now = Date.now; globalThis.Date = class extends Date {
               constructor(...given) { super(...(given.length ? given : [now() + ${shift} * 31536e6])); }
               static now() { return now() + ${shift} * 31536e6; }
             };`,
          );
          return lab.router.run([process.execPath, '--require', '/run/clock.cjs', PROGRAM, ...args]);
        };
        assert.equal((await at(0, 'reload', '--confirm-within', SOON)).status, 0);
        assert.equal((await at(years, 'reload', '--trigger', 'timer')).status, 0);
        assert.equal(await isPending(lab), true);
        await back(lab);
        assert.equal(await everything(lab), found);
        assert.equal((await at(0, 'reload', '--confirm-within', '600')).status, 0);
        assert.equal((await at(years, 'confirm')).status, 0);
        assert.equal(await lab.router.read(LAST_GOOD), other);
      }
    });

    it('confirm at the last moment: one of the two is first, and both say the same', async () => {
      for (const early of [0.35, 0.2, 0.05, -0.1]) {
        await apply(lab, one);
        const [kept, found] = [other, await everything(lab)];
        await apply(lab, other, '--confirm-within', '2');
        const changed = await everything(lab);
        const left = async () => {
          const { deadline } = JSON.parse((await lab.router.read(`${LIB}/pending.json`)) ?? '{"deadline":0}');
          return deadline - Number((await shell(lab, 'cut -d " " -f 1 /proc/uptime')).trim());
        };
        await sleep(Math.max(0, (await left()) - early) * 1000);
        const { status, stdout, stderr } = await lab.kylin('confirm');
        if (status === 0) assert.match(stdout, /^kept: /m);
        else
          assert.match(
            `${status} ${stderr.trim().split('\n').at(-1)}`,
            /^64 kylin-vr: (too late: |nothing waits .* was taken back: )it was not confirmed within 2 s/,
          );
        await back(lab);
        // The time in which the one who lost would do its work.
        await until('the end of the process that waited', async () => waiters(lab).length === 0);
        assert.equal(await everything(lab), status === 0 ? changed : found);
        assert.equal(await lab.router.read(LAST_GOOD), status === 0 ? kept : one);
      }
    });
  });

  describe('and whose run, or machine, goes down', { concurrency: false }, () => {
    const CRASH = `case "$*" in *--noflush*) kill -KILL $(cat /run/kylin-vr/lock/* | sed 's/.*"pid":\\([0-9]*\\).*/\\1/'); sleep 60 ;; esac`;

    /** `other` half applied, by a run that was killed in the middle of it. */
    async function crashed(lab: Lab, seconds: string): Promise<{ lab: Lab; found: string }> {
      const tools = await recordTools(lab.router);
      await apply(lab, one);
      const found = await everything(lab);
      await lab.configure(other);
      await tools.before('iptables-nft-restore', CRASH);
      const { status } = await lab.kylin('reload', '--confirm-within', seconds);
      assert.equal(status, 137);
      await tools.before('iptables-nft-restore');
      assert.notEqual(await everything(lab), found);
      return { lab, found };
    }

    it('killed in the middle: taken back when the time is over', async (t) => {
      const lab = await createLab({ networkScripts: true });
      t.after(() => lab.close());
      const { found } = await crashed(lab, SOON);
      await back(lab);
      assert.equal(await everything(lab), found);
      assert.equal(await lab.router.read(LAST_GOOD), one);
    });

    it('killed in the middle: the next automatic run takes it back at once, and it cannot be confirmed', async (t) => {
      const lab = await createLab({ networkScripts: true });
      t.after(() => lab.close());
      const { found } = await crashed(lab, '600');
      const { status, stderr } = await lab.kylin('confirm');
      assert.equal(status, 64);
      assert.match(stderr, /too late: the run that applied it was killed/);
      assert.equal((await json(lab, 'reload', '--trigger', 'timer')).status, 0);
      assert.equal(await everything(lab), found);
      assert.equal((await json(lab, 'reload', '--trigger', 'timer')).result, 'unchanged');
      const { notInForce } = await json<{ notInForce: string }>(lab, 'status');
      assert.equal(notInForce, 'the run that applied it was killed: kylin-vr reload tries it again');
    });

    it('killed in the middle: the next reload takes it back, and does it', async (t) => {
      const lab = await createLab({ networkScripts: true });
      t.after(() => lab.close());
      await crashed(lab, '600');
      await ok(lab, 'reload');
      assert.equal((await lab.kylin('plan', '--exit-code')).status, 0);
      assert.equal(await lab.router.read(LAST_GOOD), other);
      assert.equal(await isPending(lab), false);
    });

    for (const of of ['machine', 'container'] as const)
      it(`a reboot of the ${of} brings up the last good one, and says so`, async (t) => {
        // Without profiles start brings the NICs up itself, whether this machine has NetworkManager or not.
        const lab = await createLab();
        t.after(() => lab.close());
        await apply(lab, one);
        const found = await everything(lab);
        await apply(lab, other, '--confirm-within', '600');
        await killWaiters(lab);
        await goDown(lab);
        await reboot(lab, of);
        const { status, stderr } = await lab.kylin('confirm');
        assert.equal(status, 64);
        assert.match(stderr, /too late: the machine went down before it was confirmed/);
        const report = await json(lab, 'start');
        assert.deepEqual([report.status, report.result, await isPending(lab)], [0, 'changed', false]);
        assert.match(warningsOf(report)[0] ?? '', /was taken back: the machine went down before it was confirmed$/);
        assert.ok(warningsOf(report).includes('the last good configuration stays in force'));
        assert.equal(await everything(lab), found);
        assert.equal((await json(lab, 'reload', '--trigger', 'timer')).result, 'unchanged');
      });

    it('a reboot where there is no last good one: nothing of ours stays, the foreign profile is there again', async (t) => {
      const lab = await createLab({ networkScripts: true });
      t.after(() => lab.close());
      await shell(lab, `printf 'DEVICE=eth2\\nIPADDR=192.0.2.5\\nPREFIX=24\\n' > ${FOREIGN}; chmod 640 ${FOREIGN}`);
      const files = () => shell(lab, 'cd /etc/sysconfig/network-scripts; stat -c "%a %n" *; cat *');
      const found = await files();
      await apply(lab, other, '--confirm-within', '600');
      await killWaiters(lab);
      assert.notEqual(await files(), found);
      await goDown(lab);
      await reboot(lab, 'machine');
      assert.equal((await json(lab, 'start')).status, 0);
      assert.equal(await files(), found);
      assert.doesNotMatch(await everything(lab), /KYLIN/);
    });

    it('the first configuration of all is taken back to what was there before it', async (t) => {
      const lab = await createLab({ networkScripts: true });
      t.after(() => lab.close());
      await shell(
        lab,
        `
        printf 'DEVICE=eth0\\nIPADDR=203.0.113.99\\nPREFIX=24\\n' > /etc/sysconfig/network-scripts/ifcfg-eth0
        ip link set eth0 up; ip address add 203.0.113.99/24 dev eth0; ip route add default via 203.0.113.1`,
      );
      const found = await everything(lab);
      await apply(lab, one, '--confirm-within', SOON);
      assert.doesNotMatch(await everything(lab), /203\.0\.113\.99/);
      await back(lab);
      assert.equal(await everything(lab), found);
      assert.equal(await lab.router.read(LAST_GOOD), undefined);
      assert.equal((await json(lab, 'reload', '--trigger', 'timer')).status, 0);
      assert.equal(await everything(lab), found);
    });

    it('a take-back that fails is tried again, and an automatic run brings nothing else about until then', async (t) => {
      const lab = await createLab({ networkScripts: true });
      t.after(() => lab.close());
      const tools = await recordTools(lab.router);
      await apply(lab, one);
      const found = await everything(lab);
      await apply(lab, other, '--confirm-within', '300');
      await killWaiters(lab);
      await pass(lab, 301);
      await tools.before('iptables-nft-restore', 'echo "made to fail" >&2; exit 4');
      const failed = await json(lab, 'reload', '--trigger', 'timer');
      assert.deepEqual([failed.status, failed.result, await isPending(lab)], [69, 'failed', true]);
      assert.match(failed.errors[0]?.message ?? '', /could not be brought back .*; the next run tries again$/);
      await tools.before('iptables-nft-restore');
      assert.equal((await json(lab, 'reload', '--trigger', 'timer')).status, 0);
      assert.equal(await everything(lab), found);
    });

    it('where the disk is full the network comes back all the same, and the rest when there is room again', async (t) => {
      const lab = await createLab({ networkScripts: true });
      t.after(() => lab.close());
      await shell(lab, `mkdir -p ${LIB}; mount -t tmpfs -o size=256k,mode=700 tmpfs ${LIB}`);
      await apply(lab, one);
      const found = await everything(lab);
      await apply(lab, other, '--confirm-within', '300');
      await killWaiters(lab);
      await shell(lab, `! head -c 1M /dev/zero > ${LIB}/full 2> /dev/null`);
      await pass(lab, 301);
      const { status, errors } = await json(lab, 'reload', '--trigger', 'timer');
      assert.equal(status, 69);
      assert.match(errors[0]?.message ?? '', /ENOSPC.*; the next run tries again$/);
      assert.equal(await everything(lab), found);
      assert.equal((await lab.kylin('confirm')).status, 64);
      await shell(lab, `rm ${LIB}/full`);
      assert.equal((await json(lab, 'reload', '--trigger', 'timer')).status, 0);
      assert.equal(await everything(lab), found);
      assert.equal(await isPending(lab), false);
      assert.equal((await json(lab, 'reload', '--trigger', 'timer')).result, 'unchanged');
    });

    it('a confirmation that was killed after its first write is completed', async (t) => {
      const lab = await createLab({ networkScripts: true });
      t.after(() => lab.close());
      await apply(lab, one);
      await apply(lab, other, '--confirm-within', '600');
      await killWaiters(lab);
      const changed = await everything(lab);
      await shell(lab, `sed -i 's/"phase":"waiting"/"phase":"confirmed"/' ${LIB}/pending.json`);
      await pass(lab, 601);
      assert.equal((await json(lab, 'reload', '--trigger', 'timer')).result, 'unchanged');
      assert.equal(await lab.router.read(LAST_GOOD), other);
      assert.equal(await everything(lab), changed);
    });
  });
});

/** What a machine that goes down forgets. */
const goDown = (lab: Lab): Promise<string> =>
  shell(
    lab,
    `
    for table in filter nat; do iptables -t $table -F; iptables -t $table -X; done
    for nic in ${Object.values(NICS)
      .map(({ device }) => device)
      .join(' ')}; do ip address flush dev $nic; ip link set $nic down; done`,
  );
