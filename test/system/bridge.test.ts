// The uplink on a bridge under systemd: at boot, and with an Open vSwitch that comes late or dies.

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { bridged } from '../bridge/moves.ts';
import { eventually } from '../lab/eventually.ts';
import { ADDRESSES } from '../lab/lab.ts';
import { EIPS, elastic } from '../lab/table.ts';
import { bootWasClean, createPromises, failedUnits, installed } from './guest.ts';
import { withContainer } from './lab/container.ts';
import { uplinkOf, withUserSpaceOvs } from './ovs.ts';

const SOON_MS = 30_000;
const ON_BRIDGE = 'address on br-ex, eth0 is unmanaged, a port of br-ex';

test('Open vSwitch that comes late, at boot, and again: its bridge has the uplink at once, and nobody fails', async () => {
  const preparation = withUserSpaceOvs(installed(bridged(elastic.config, 'ovs')));
  await withContainer(preparation, async (machine) => {
    const { traffic } = await createPromises(machine);
    // What a sender's NIC was to fill in is missing behind a datapath in user space.
    await machine.lab.host('out').run(['ethtool', '-K', 'eth0', 'tx', 'off'], { check: true });
    const systemctl = (...args: string[]) => machine.run(['systemctl', ...args], { check: true });
    const reached = async (from: 'out' | 'w', to: string) =>
      (await traffic.probe({ from, to, port: 80, transport: 'tcp', timeoutMs: 3000 })).reached;
    const works = async () =>
      (await reached('out', EIPS.x)) && (await reached('w', ADDRESSES.far)) ? uplinkOf(machine) : 'nothing passes';

    await eventually(works, 'address on eth0, eth0 is unmanaged', SOON_MS);
    assert.equal(await failedUnits(machine), '');
    // What is seen from here on is not the timer's work.
    await systemctl('stop', 'kylin-vr-reload.timer');
    await systemctl('enable', '--now', 'openvswitch-switch');
    await eventually(works, ON_BRIDGE, SOON_MS);

    await machine.reboot();
    await systemctl('stop', 'kylin-vr-reload.timer');
    await eventually(works, ON_BRIDGE, SOON_MS);
    await bootWasClean(machine);

    // A restart leaves the bridge as it is. This takes it away, soon after it has answered, and what comes with the next start
    // has no address.
    await machine.run(['ovs-appctl', 'exit', '--cleanup'], { check: true });
    await eventually(() => uplinkOf(machine), 'eth0 is unmanaged, a port of br-ex', SOON_MS);
    for (const again of [
      ['restart', 'openvswitch-switch'],
      ['kill', '--signal=KILL', 'ovs-vswitchd'],
    ]) {
      await systemctl(...again);
      await eventually(works, ON_BRIDGE, SOON_MS);
    }
    assert.equal(await failedUnits(machine), '');
  });
});

test('a Linux bridge: up before NetworkManager, after a reboot and a power cut', async () => {
  await withContainer(installed(bridged(elastic.config, 'linux')), async (machine) => {
    const promises = await createPromises(machine);
    for (const again of [machine.reboot, () => machine.powerCut().then(machine.boot)]) {
      await again();
      await eventually(() => promises.broken(elastic), '', SOON_MS);
      assert.equal(await uplinkOf(machine), 'address on br-ex, eth0 is unmanaged, master br-ex');
      await bootWasClean(machine);
    }
  });
});
