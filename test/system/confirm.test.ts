// A change that waits for its confirmation where systemd runs: its timer outlives the session, and a reboot does not bring the
// change up again.

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { eventually } from '../lab/eventually.ts';
import { networkOf } from '../lab/state.ts';
import { elastic, snat } from '../lab/table.ts';
import { CONFIG, createPromises, installed } from './guest.ts';
import { withContainer } from './lab/container.ts';
import type { Machine } from './lab/machine.ts';

const SECONDS = 15;
const SOON_MS = 45_000;
const LAST_GOOD = '/var/lib/kylin-vr/last-good.yaml';

/** NetworkManager gives the routes of each activation another metric. */
const network = async (machine: Machine): Promise<string> =>
  (await networkOf(machine.lab.router)).replace(/(?<= scope link .*) metric \d+/g, '');

const isPending = async (machine: Machine): Promise<string> =>
  (await machine.run(['ls', '/var/lib/kylin-vr'])).stdout.includes('pending') ? 'pending' : 'decided';

const timers = async (machine: Machine): Promise<string> =>
  (await machine.run(['systemctl', 'list-units', '--no-legend', '--plain', 'kylin-vr-rollback-*'])).stdout;

test('the timer of systemd takes the change back when the session that made it is gone; confirm stops it', async () => {
  await withContainer(installed(snat.config), async (machine) => {
    const promises = await createPromises(machine);
    await eventually(() => promises.broken(snat), '', SOON_MS);
    // Of those who would take it back, too.
    await machine.run(['systemctl', 'stop', 'kylin-vr-reload.timer'], { check: true });
    const found = await network(machine);

    // Everything that is in the session's cgroup, as with KillUserProcesses=yes.
    await machine.write(CONFIG, elastic.config, 0o600);
    const session = ['systemd-run', '--quiet', '--scope', '--unit=session-ssh', '--', 'sh', '-c'];
    const { stdout } = await machine.run(
      [...session, `kylin-vr reload --confirm-within ${SECONDS}; sleep 600 > /dev/null 2>&1 & echo left`],
      {
        check: true,
      },
    );
    assert.match(stdout, /kylin-vr confirm keeps it; else it is taken back\nleft\n$/);
    assert.match(
      await timers(machine),
      /^kylin-vr-rollback-[0-9a-f]{8}\.timer +loaded active waiting +kylin-vr: take back the change of run [0-9a-f]{8} unless it is confirmed$/m,
    );
    await machine.run(['systemctl', 'kill', '--signal=KILL', 'session-ssh.scope'], { check: true });
    await eventually(() => isPending(machine), 'decided', SOON_MS);
    await eventually(() => network(machine), found, SOON_MS);
    assert.equal(await machine.read(LAST_GOOD), snat.config);
    await eventually(() => timers(machine), '', SOON_MS);
    assert.match(await machine.journal('-b', '-u', 'kylin-vr-rollback-*'), /rollback: changed, /);

    await machine.run(['kylin-vr', 'reload', '--confirm-within', `${SECONDS}`], { check: true });
    await machine.run(['kylin-vr', 'confirm'], { check: true });
    assert.equal(await timers(machine), '');
    assert.equal(await machine.read(LAST_GOOD), elastic.config);
  });
});

test('a reboot and a power cut bring up the last good configuration', async () => {
  await withContainer(installed(snat.config), async (machine) => {
    const promises = await createPromises(machine);
    await eventually(() => promises.broken(snat), '', SOON_MS);
    for (const goDown of [machine.reboot, async () => machine.powerCut().then(machine.boot)]) {
      await machine.write(CONFIG, elastic.config, 0o600);
      await machine.run(['kylin-vr', 'reload', '--confirm-within', '600'], { check: true });
      assert.equal(await promises.broken(elastic), '');
      await goDown();
      await eventually(() => promises.broken(snat), '', SOON_MS);
      const { notInForce } = JSON.parse((await machine.run(['kylin-vr', 'status', '--json'])).stdout);
      assert.equal(notInForce, 'the machine went down before it was confirmed: kylin-vr reload tries it again');
      assert.equal((await machine.run(['kylin-vr', 'confirm'])).status, 64);
      assert.equal(await machine.read(LAST_GOOD), snat.config);
    }
  });
});
