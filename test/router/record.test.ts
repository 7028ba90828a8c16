// The record of what is ours: it shrinks by what was seen to go, only.

import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { apply, everything, json, one, reboot, shell, warningsOf } from '../confirm/router.ts';
import { createLab, type Lab, NICS } from '../lab/lab.ts';

const NEW = '52:54:84:99:00:01';
const { mac, device } = NICS.a;
const change = (lab: Lab, to: string) => shell(lab, `ip link set ${device} address ${to}`);
const addressesOf = (lab: Lab) => shell(lab, `ip -4 -o address show dev ${device} | awk '{ print $4 }'`);
const recorded = async (lab: Lab) =>
  JSON.parse((await lab.router.read('/var/lib/kylin-vr/owned.json')) ?? '') as { addresses: { spec: string }[] };

/** The NIC is pending, and has what it had. */
async function reloadPending(lab: Lab): Promise<void> {
  const report = await json(lab, 'reload');
  assert.deepEqual([report.status, warningsOf(report)], [0, [`NIC ${mac} is not there yet: pending`]]);
  assert.equal(await addressesOf(lab), '10.10.1.254/24\n');
}

async function takesAllDown(lab: Lab): Promise<void> {
  await apply(lab, 'if_list: []\n');
  assert.doesNotMatch(await everything(lab), /10\.10\.1\.254|203\.0\.113\.|KYLIN/);
  assert.deepEqual((await recorded(lab)).addresses, []);
}

describe('a NIC whose MAC is changed', { concurrency: true }, () => {
  for (const [what, ...script] of [
    ['before the last reload', NEW],
    ['before two reloads', NEW, 'reload'],
    ['and changed back after a reload', NEW, 'reload', mac],
    ['and changed back between two reloads', NEW, 'reload', mac, 'reload'],
    ['and that is renamed, too', NEW, 'reload', 'rename'],
  ] as const)
    it(`${what}: an empty if_list takes everything down`, async (t) => {
      const lab = await createLab();
      t.after(() => lab.close());
      await apply(lab, one);
      for (const act of script) {
        if (act === 'reload') assert.equal((await json(lab, 'reload')).status, 0);
        else if (act === 'rename') await shell(lab, `ip link set ${device} down; ip link set ${device} name lan0 up`);
        else await change(lab, act);
      }
      await takesAllDown(lab);
    });

  it('by another NIC with the MAC that it had: the address moves there', async (t) => {
    const lab = await createLab();
    t.after(() => lab.close());
    await apply(lab, one);
    await change(lab, NEW);
    await reloadPending(lab);
    await lab.router.plug({ segment: 'a', device: 'lan1', mac });
    assert.equal((await json(lab, 'reload')).status, 0);
    assert.equal(await addressesOf(lab), '');
    assert.match(await shell(lab, 'ip -4 -o address show dev lan1'), / 10\.10\.1\.254\/24 /);
    await takesAllDown(lab);
  });

  for (const boot of ['in this boot, by its number', 'after a boot, by its name'] as const)
    it(`and a link of others with the MAC of a NIC, and its address: an empty if_list takes that of the NIC, known ${boot}`, async (t) => {
      const lab = await createLab();
      t.after(() => lab.close());
      await apply(lab, one);
      await shell(
        lab,
        `ip link add veth7 up address ${mac} type veth peer name veth8
         ip address add 10.10.1.254/24 dev veth7; ip route add 198.18.0.0/16 via 10.10.1.9 dev veth7`,
      );
      const theirs = () => shell(lab, 'ip -4 -o address show dev veth7; ip route show dev veth7');
      const found = await theirs();
      assert.match(found, /10\.10\.1\.254\/24/);
      if (boot === 'after a boot, by its name') await reboot(lab, 'machine');
      await apply(lab, 'if_list: []\n');
      assert.equal(await addressesOf(lab), '');
      assert.equal(await theirs(), found);
      assert.deepEqual((await recorded(lab)).addresses, []);
    });

  it('before the machine went down: what is there then was put there by others, and stays', async (t) => {
    const lab = await createLab();
    t.after(() => lab.close());
    await apply(lab, one);
    await change(lab, NEW);
    await reboot(lab, 'machine');
    await apply(lab, 'if_list: []\n');
    assert.equal(await addressesOf(lab), '10.10.1.254/24\n');
  });
});
