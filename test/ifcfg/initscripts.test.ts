// What our ifcfg files say to initscripts alone is nothing to NetworkManager, whose profiles of 1.0 do not have it.

import assert from 'node:assert/strict';
import { it } from 'node:test';
import { eventually } from '../lab/eventually.ts';
import { IFUP, IFUP_ETH } from '../lab/initscripts.ts';
import { ADDRESSES } from '../lab/lab.ts';
import { createManagedLab } from '../lab/path.ts';
import { watchKernel } from '../lab/profiles.ts';
import { recordTools } from '../lab/tools.ts';
import { eip, nics } from '../scenarios/change.ts';
import { builtRelease, RELEASE_1_0 } from '../upgrade/release.ts';

const FOLDER = '/etc/sysconfig/network-scripts';
const LEFT = '/run/kylin-vr/left.json';
const DEVICES = ['eth0', 'eth1', 'eth2'];

it('an upgrade of a router at work rewrites its ifcfg files: NetworkManager reads, reapplies and activates nothing', async (t) => {
  const program = await builtRelease(RELEASE_1_0);
  const lab = await createManagedLab('ifcfg');
  t.after(() => lab.close());
  const { router } = lab;
  const configure = (eips: readonly string[]) =>
    lab.configure(`${nics}eip_list:\n${eips.map((address) => eip(address, ADDRESSES.v)).join('')}`);
  const reload = async () => {
    const { status, stdout } = await lab.kylin('reload', '--trigger', 'timer', '--json');
    assert.equal(status, 0, stdout);
    return (JSON.parse(stdout).steps as { text: string }[]).map(({ text }) => text);
  };
  await configure(['203.0.113.50', '203.0.113.51']);
  await router.run([process.execPath, program, 'reload'], { check: true });
  assert.doesNotMatch((await router.read(`${FOLDER}/ifcfg-eth0`)) ?? '', /ARPUPDATE/);

  const tools = await recordTools(router);
  const sh = async (script: string) => (await router.run(['sh', '-c', script], { check: true })).stdout;
  const watch = await watchKernel({ lab, sh });
  assert.deepEqual(await reload(), [
    '+ file /etc/NetworkManager/conf.d/zz-kylin-vr.conf',
    ...DEVICES.map((device) => `~ file ${FOLDER}/ifcfg-${device}`),
    '~ configuration read by NetworkManager',
  ]);
  assert.match((await router.read(`${FOLDER}/ifcfg-eth0`)) ?? '', /^ARPUPDATE2=no$/m);
  const asked = (await tools.taken())
    .map(({ command }) => command)
    .filter((command) => /^(nmcli|busctl)/.test(command));
  assert.deepEqual(asked, [
    'nmcli --terse --fields DEVICE,STATE,CON-UUID device status',
    'busctl --auto-start=no call org.freedesktop.NetworkManager /org/freedesktop/NetworkManager ' +
      'org.freedesktop.NetworkManager Reload u 1',
  ]);
  assert.deepEqual(await reload(), []);
  assert.deepEqual(await watch.taken(), []);

  // What NetworkManager has of it goes on as before.
  await configure(['203.0.113.50', '203.0.113.51', '203.0.113.52']);
  assert.ok((await reload()).includes('~ profile of eth0 reapplied by NetworkManager'));
  assert.deepEqual(await watch.taken(1), ['+ 203.0.113.52/32']);
  assert.deepEqual(await reload(), []);
});

it('at boot, beside initscripts that are there too: what NetworkManager brings up it has announced itself', async (t) => {
  const lab = await createManagedLab('ifcfg');
  t.after(() => lab.close());
  const { router } = lab;
  await router.write(IFUP, IFUP_ETH, 0o755);
  await lab.configure(nics);
  assert.equal((await lab.kylin('start')).status, 0);
  assert.notEqual(await router.read(LEFT), undefined);
  await router.run(['nmcli', 'connection', 'reload'], { check: true });
  const addresses = async () => (await router.run(['ip', '-4', '-br', 'address', 'show', 'scope', 'global'])).stdout;
  await eventually(async () => ((await addresses()).match(/\.(37|254)\/24/g) ?? []).length, DEVICES.length);
  const { stdout } = await lab.kylin('reload', '--trigger', 'timer', '--json');
  assert.doesNotMatch(stdout, /announce/);
  assert.equal(await router.read(LEFT), undefined);
});
