// NICs with a MAC of their hardware, by which NetworkManager knows them, as those of a laboratory have none: an image that gives every
// connection another MAC.

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { eventually } from '../lab/eventually.ts';
import { NICS } from '../lab/lab.ts';
import { elastic } from '../lab/table.ts';
import { bootWasClean, createPromises, installed } from './guest.ts';
import { withVm } from './lab/vm.ts';

const IN_VM_MS = 300_000;
const HARDENED = {
  '/etc/NetworkManager/conf.d/99-hardening.conf': '[connection]\nethernet.cloned-mac-address=random\n',
};

test('ethernet.cloned-mac-address=random in a whole machine: NICs keep their MACs at boot, at a reload, and when one is added', async () => {
  await withVm({ nics: [NICS.public, NICS.a], files: HARDENED, ...installed(elastic.config) }, async (machine) => {
    const promises = await createPromises(machine, { ownNamespace: false });
    const macs = async () =>
      (await machine.run(['ip', '-br', 'link'])).stdout.replace(/^(?!eth).*\n|^eth\d +\S+ +| <.*$/gm, '');
    await eventually(macs, `${NICS.public.mac}\n${NICS.a.mac}\n`, IN_VM_MS);
    await bootWasClean(machine);
    await machine.plug(NICS.b);
    await eventually(() => promises.broken(elastic), '', IN_VM_MS);
    assert.equal(await macs(), `${NICS.public.mac}\n${NICS.a.mac}\n${NICS.b.mac}\n`);
    // By what is active, and not by what is in the file alone.
    const { stdout } = await machine.run(['nmcli', '-t', '-f', 'DEVICE,STATE,CONNECTION', 'device']);
    assert.match(stdout, /^eth2:connected:kylin-vr-eth2$/m);
    const { status } = await machine.run(['kylin-vr', 'status', '--json'], { timeoutMs: IN_VM_MS });
    assert.equal(status, 0);
  });
});
