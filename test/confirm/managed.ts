// Waiting, confirming and rolling back where NetworkManager manages the NICs: profiles byte for byte, and active as before.

import assert from 'node:assert/strict';
import { after, before, describe, it } from 'node:test';
import { NICS } from '../lab/lab.ts';
import { createManagedLab, type ManagedLab, NAME_OF } from '../lab/path.ts';
import { FOREIGN, IFCFGS, ifcfg, KEYFILES, keyfile } from '../lab/profiles.ts';
import {
  apply,
  everything as everythingOf,
  isPending,
  json,
  LAST_GOOD,
  ok,
  one,
  other,
  shell,
  small,
  until,
} from './router.ts';

/** A foreign profile on the NIC of subnet b. */
const FOREIGN_PROFILE = {
  name: 'lan',
  uuid: FOREIGN,
  mac: NICS.b.mac,
  addresses: ['192.0.2.5/24'],
  gateway: undefined,
};
const PROFILES = {
  keyfile: { file: `${KEYFILES}/lan.nmconnection`, text: keyfile(FOREIGN_PROFILE), mode: 0o600 },
  ifcfg: { file: `${IFCFGS}/ifcfg-lan`, text: ifcfg(FOREIGN_PROFILE), mode: 0o644 },
};

/** NetworkManager gives the routes of each activation another metric. */
const everything = async (lab: ManagedLab): Promise<string> =>
  (await everythingOf(lab)).replace(/(?<= scope link .*) metric \d+/g, '');

export function managedConfirm(path: 'keyfile' | 'ifcfg'): void {
  const { file, text, mode } = PROFILES[path];
  describe(`a change that waits for its confirmation: ${NAME_OF[path]}`, { concurrency: false }, () => {
    let lab: ManagedLab;
    /** `small`, beside a foreign profile on the NIC of subnet b. */
    let found: string;
    let active: string;
    const profiles = () => shell(lab, 'nmcli -t -f uuid,device connection show --active | grep -v :lo$ | sort');
    before(async () => {
      lab = await createManagedLab(path);
      await lab.router.write(file, text, mode);
      await shell(lab, `nmcli connection load ${file}; nmcli connection up uuid ${FOREIGN}`);
      await shell(lab, 'ip address add 172.31.1.1/24 dev eth2 label eth2:foo noprefixroute');
      await apply(lab, small);
      found = await everything(lab);
      active = await profiles();
      assert.match(active, new RegExp(`${FOREIGN}:eth2`));
    });
    after(() => lab?.close());

    it('is taken back after its time: every profile byte for byte, and active where it was', async () => {
      await apply(lab, other, '--confirm-within', '10');
      assert.notEqual(await profiles(), active);
      assert.equal(await lab.router.read(file), undefined);
      await until('the change is taken back', async () => !(await isPending(lab)));
      assert.equal(await everything(lab), found);
      assert.equal(await profiles(), active);
      assert.equal((await json(lab, 'reload', '--trigger', 'timer')).result, 'unchanged');
    });

    it('rollback takes it back at once', async () => {
      await ok(lab, 'reload', '--confirm-within', '600');
      assert.equal((await json(lab, 'reload', '--trigger', 'timer')).result, 'unchanged');
      assert.equal((await lab.kylin('reload')).status, 75);
      assert.equal((await json(lab, 'rollback')).status, 0);
      assert.equal(await everything(lab), found);
      assert.equal(await profiles(), active);
    });

    it('confirm keeps it, and rollback goes back to the configuration before', async () => {
      await ok(lab, 'reload', '--confirm-within', '600');
      const network = await everything(lab);
      await ok(lab, 'confirm');
      assert.equal(await lab.router.read(LAST_GOOD), other);
      assert.equal(await everything(lab), network);
      await apply(lab, one);
      assert.equal((await json(lab, 'rollback')).status, 0);
      assert.equal(await everything(lab), network);
      assert.equal((await json(lab, 'reload', '--trigger', 'timer')).result, 'unchanged');
    });
  });
}
