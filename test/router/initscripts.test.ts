// A guest on which initscripts bring NICs up from the ifcfg files.

import assert from 'node:assert/strict';
import { it, type TestContext } from 'node:test';
import { eventually } from '../lab/eventually.ts';
import { IFUP, IFUP_ETH } from '../lab/initscripts.ts';
import { ADDRESSES, createLab, NICS } from '../lab/lab.ts';
import { type Announcements, createTraffic } from '../lab/traffic.ts';
import { eip, nics } from '../scenarios/change.ts';

it('more addresses than ifup-eth brings up are said, and reload adds them all', async (t) => {
  const lab = await createLab({ networkScripts: true });
  t.after(() => lab.close());
  await lab.router.write(IFUP, '#!/bin/bash\n', 0o755);
  const reload = async (count: number) => {
    const eips = Array.from({ length: count }, (_, n) =>
      eip(`198.18.${n >> 8}.${n & 255}`, `10.10.${(n % 2) + 1}.${(n >> 1) + 1}`),
    );
    await lab.configure(`${nics}eip_list:\n${eips.join('')}`);
    const { status, stdout } = await lab.kylin('reload', '--json');
    assert.equal(status, 0, stdout);
    const { stdout: shown } = await lab.router.run(['ip', '-4', '-o', 'address', 'show', 'dev', 'eth0']);
    assert.equal(shown.trim().split('\n').length, count + 1);
    // One VM has them all, which is said of each EIP, with its place in the file.
    return JSON.parse(stdout).warnings.filter((issue: { path?: string }) => issue.path === undefined);
  };
  assert.deepEqual(await reload(255), []);
  assert.deepEqual(await reload(256), [
    {
      message:
        'eth0 has more than 256 addresses: initscripts bring up the first 256 of them at boot, ' +
        'the next kylin-vr reload adds the rest',
    },
  ]);
});

const LEFT = '/run/kylin-vr/left.json';

async function booting(t: TestContext, eips: readonly string[]) {
  const lab = await createLab({ networkScripts: true });
  t.after(() => lab.close());
  const { router } = lab;
  await router.write(IFUP, IFUP_ETH, 0o755);
  const withEips = (wanted: readonly string[]) =>
    lab.configure(`${nics}eip_list:\n${wanted.map((address) => eip(address, ADDRESSES.v)).join('')}`);
  await withEips(eips);
  const traffic = createTraffic(lab);
  const [out, a] = [await traffic.announcements('out'), await traffic.announcements('v')];
  const heard = (of: Announcements) => [...new Set(of.heard().map(({ address, mac }) => `${address} ${mac}`))].sort();
  return {
    lab,
    withEips,
    start: async () => assert.equal((await lab.kylin('start')).status, 0),
    ifup: async (...devices: string[]) => {
      for (const device of devices) await router.run([IFUP, device], { check: true });
    },
    reload: async () => {
      const { status, stdout } = await lab.kylin('reload', '--trigger', 'timer', '--json');
      assert.equal(status, 0, stdout);
      return (JSON.parse(stdout).steps as { text: string }[]).map(({ text }) => text);
    },
    onUplink: () => heard(out),
    onSubnet: () => heard(a),
    isLeft: async () => (await router.read(LEFT)) !== undefined,
  };
}

const by = (mac: string, addresses: readonly string[]) => addresses.map((address) => `${address} ${mac}`).sort();
/** One more and they are announced by the MAC, set again. */
const EIGHT = Array.from({ length: 7 }, (_, n) => `203.0.113.${50 + n}`);
const MANY = Array.from({ length: 40 }, (_, n) => `203.0.113.${50 + n}`);
const UPLINK = NICS.public.mac;
const OWN = '203.0.113.37';

for (const [name, eips] of [
  ['some', EIGHT],
  ['many', MANY],
] as const)
  it(`${name} addresses: initscripts bring them up without a second for each, the reload after the boot announces them, once`, async (t) => {
    const bed = await booting(t, eips);
    await bed.start();
    const began = performance.now();
    await bed.ifup('eth0', 'eth1', 'eth2');
    assert.ok(performance.now() - began < 1000 * (eips.length / 2), `${Math.round(performance.now() - began)} ms`);
    assert.deepEqual([bed.onUplink(), bed.onSubnet()], [[], []]);

    const said =
      eips.length > 3
        ? `! announce ${eips.length + 1} addresses on eth0`
        : `! announce ${[OWN, ...eips].join(', ')} on eth0`;
    assert.deepEqual(await bed.reload(), [said, '! announce 10.10.1.254 on eth1', '! announce 10.10.2.254 on eth2']);
    await eventually(async () => bed.onUplink(), by(UPLINK, [OWN, ...eips]));
    await eventually(async () => bed.onSubnet(), by(NICS.a.mac, ['10.10.1.254']));
    assert.equal(await bed.isLeft(), false);
    for (let again = 0; again < 2; again++) assert.deepEqual(await bed.reload(), []);

    // Nor after a start of the unit alone.
    await bed.start();
    assert.equal(await bed.isLeft(), false);
    assert.deepEqual(await bed.reload(), []);
  });

it('what a run has announced since the boot is not announced again, what has no carrier when it has one', async (t) => {
  const bed = await booting(t, EIGHT.slice(0, 1));
  await bed.start();
  await bed.lab.wire(NICS.a, 'down');
  await bed.ifup('eth1', 'eth2');
  const added = (await bed.reload()).filter((text) => text.startsWith('! announce'));
  assert.deepEqual(added, [`! announce ${OWN}, ${EIGHT[0]} on eth0`, '! announce 10.10.2.254 on eth2']);
  assert.deepEqual(await bed.reload(), []);
  await bed.lab.wire(NICS.a, 'up');
  await eventually(async () => (await bed.reload()).join(), '! announce 10.10.1.254 on eth1');
  await eventually(async () => bed.onSubnet(), by(NICS.a.mac, ['10.10.1.254']));
  assert.equal(await bed.isLeft(), false);
  assert.deepEqual(await bed.reload(), []);
});

it('what the file wants no more when they have brought it up is not announced, nor what a boot before this one left', async (t) => {
  const bed = await booting(t, EIGHT.slice(0, 2));
  await bed.start();
  await bed.ifup('eth0', 'eth1', 'eth2');
  await bed.withEips(EIGHT.slice(0, 1));
  assert.ok((await bed.reload()).includes(`! announce ${OWN}, ${EIGHT[0]} on eth0`));
  const left = JSON.stringify({ boot: 'another', addresses: [{ device: 'eth0', spec: `${EIGHT[0]}/32` }] });
  for (const text of [left, 'damaged']) {
    await bed.lab.router.write(LEFT, text, 0o600);
    // What a run asked the machine before answers for this one, too.
    await bed.lab.router.run(['rm', '-f', '/run/kylin-vr/quiet']);
    assert.deepEqual(await bed.reload(), []);
    assert.equal(await bed.isLeft(), false);
  }
});
