// `uninstall`: the network that runs stays, and the next boot has none of ours, but what was there before.

import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { apply, ok, one, shell } from '../confirm/router.ts';
import { createLab, NICS } from '../lab/lab.ts';
import { createManagedLab } from '../lab/path.ts';
import { networkOf } from '../lab/state.ts';

const CONNECTIONS = '/etc/NetworkManager/system-connections';
const theirs = `[connection]
id=theirs
type=ethernet
interface-name=${NICS.public.device}

[ipv4]
method=manual
address1=203.0.113.99/24
`;

describe('uninstall', { concurrency: true }, () => {
  it('leaves NetworkManager the profiles that were there before ours, and the network until the next boot', async (t) => {
    const lab = await createManagedLab('keyfile');
    t.after(() => lab.close());
    await lab.router.write(`${CONNECTIONS}/theirs.nmconnection`, theirs, 0o600);
    await shell(lab, `nmcli connection load ${CONNECTIONS}/theirs.nmconnection`);
    await apply(lab, one);
    assert.equal(await lab.router.read(`${CONNECTIONS}/theirs.nmconnection`), undefined);
    const addresses = await shell(lab, 'ip -4 -o address show scope global');

    const { stdout } = await ok(lab, 'uninstall');
    assert.match(stdout, /^- file \/etc\/NetworkManager\/system-connections\/kylin-vr-eth0\.nmconnection$/m);
    assert.match(stdout, /^\+ file \S+\/theirs\.nmconnection \(as it was before kylin-vr\)$/m);
    assert.match(stdout, /^- file \/etc\/NetworkManager\/conf\.d\/zz-kylin-vr\.conf$/m);
    assert.equal(await shell(lab, 'ls /etc/NetworkManager/conf.d'), '90-laboratory.conf\n');
    assert.equal(await shell(lab, `ls ${CONNECTIONS}`), 'theirs.nmconnection\n');
    assert.equal(await lab.router.read(`${CONNECTIONS}/theirs.nmconnection`), theirs);
    assert.equal((await shell(lab, `stat -c %a ${CONNECTIONS}/theirs.nmconnection`)).trim(), '600');
    assert.equal(await shell(lab, 'ip -4 -o address show scope global'), addresses);

    // As a boot: NetworkManager and the kernel have forgotten all.
    await lab.manager.stop();
    await shell(
      lab,
      'rm -rf /run/NetworkManager /var/lib/NetworkManager; for nic in eth0 eth1 eth2; do ip address flush dev $nic; ip link set $nic down; done',
    );
    await lab.manager.restart();
    await shell(lab, `timeout 20 sh -c 'until ip -4 -o address show | grep -q 203.0.113.99/24; do sleep 0.1; done'`);
    assert.doesNotMatch(await shell(lab, 'ip -4 -o address show'), /203\.0\.113\.50|198\.51\.100|10\.10\.1\.254/);
  });

  it('leaves initscripts the files that were there before ours, the last ones', async (t) => {
    const lab = await createLab({ networkScripts: true });
    t.after(() => lab.close());
    const folder = '/etc/sysconfig/network-scripts';
    for (const address of ['203.0.113.98', '203.0.113.99']) {
      await lab.router.write(`${folder}/ifcfg-eth0`, `DEVICE=eth0\nIPADDR=${address}\n`);
      await apply(lab, one);
    }
    const network = (await networkOf(lab.router)).replace(/^(-rw| {2}).*\n/gm, '');
    await ok(lab, 'uninstall');
    assert.equal(
      await shell(lab, `cd ${folder}; ls; cat ifcfg-eth0`),
      'ifcfg-eth0\nDEVICE=eth0\nIPADDR=203.0.113.99\n',
    );
    assert.equal((await networkOf(lab.router)).replace(/^(-rw| {2}).*\n/gm, ''), network);
    assert.match((await ok(lab, 'uninstall')).stdout, /^uninstall: unchanged/m);
  });

  it('leaves alone what somebody made since', async (t) => {
    const lab = await createLab({ networkScripts: true });
    t.after(() => lab.close());
    const file = '/etc/sysconfig/network-scripts/ifcfg-eth0';
    await lab.router.write(file, 'DEVICE=eth0\n');
    await apply(lab, one);
    await lab.router.write(file, 'DEVICE=eth0\nBOOTPROTO=dhcp\n');
    await ok(lab, 'uninstall');
    assert.equal(await lab.router.read(file), 'DEVICE=eth0\nBOOTPROTO=dhcp\n');
    assert.equal(await lab.router.read('/var/lib/kylin-vr/backup/ifcfg-eth0'), 'DEVICE=eth0\n');
  });
});
