import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { ADDRESSES, createLab, type Lab, NICS } from '../lab/lab.ts';
import { createManagedLab } from '../lab/path.ts';
import { elastic } from '../lab/table.ts';
import { killed } from './killed.ts';
import { DROP_IN, managedMoves } from './managed.ts';
import { bridged, reload, shell } from './moves.ts';

managedMoves('keyfile', 'linux');
managedMoves('keyfile', 'ovs');
killed('keyfile');

describe('a file of its configuration that is read after ours', { concurrency: true }, () => {
  const CONF = '/etc/NetworkManager/conf.d';
  const said = (devices: string, path: string) =>
    `NetworkManager may take ${devices}, with what is on them, when it starts or reads its configuration, by unmanaged-devices in ` +
    `${path}, which is read after 90-kylin-vr-bridges.conf: take that line out, or give the file a name that sorts before 90-kylin-vr-bridges.conf, ` +
    'then nmcli general reload and kylin-vr reload';
  const FILES: [path: string, line: string, lost: string][] = [
    [`${CONF}/99-theirs.conf`, 'unmanaged-devices=none', 'eth0 and br-ex'],
    [`${CONF}/91-theirs.conf`, 'unmanaged-devices-=interface-name:=br-ex', 'br-ex'],
    [`${CONF}/99-theirs.conf`, 'unmanaged-devices = *;except:interface-name:eth*', 'eth0'],
    [`${CONF}/99-theirs.conf`, 'unmanaged-devices+=type:wifi', ''],
    [`${CONF}/99-theirs.conf`, 'unmanaged-devices=interface-name:eth*,interface-name:=br-ex', ''],
    [`${CONF}/89-theirs.conf`, 'unmanaged-devices=none', ''],
    ['/run/NetworkManager/conf.d/99-theirs.conf', 'unmanaged-devices=none', ''],
  ];
  it('is named with the cure where NetworkManager would not leave them alone by it, and only there', async (t) => {
    const lab = await createManagedLab('keyfile');
    t.after(() => lab.close());
    await reload(lab, bridged(elastic.config, 'linux'));
    const unmanaged = async () => {
      await shell(lab, 'nmcli general reload; sleep 0.5');
      // What it was told by hand it goes on with.
      return /^br-ex:unmanaged$/m.test(await shell(lab, 'nmcli -t -f DEVICE,STATE device'));
    };
    for (const [path, line, lost] of FILES) {
      await shell(lab, 'mkdir -p /run/NetworkManager/conf.d');
      await lab.router.write(path, `[keyfile]\n${line}\n`);
      const { warnings } = await reload(lab, bridged(elastic.config, 'linux'));
      assert.deepEqual(
        [warnings.map(({ message }) => message), await unmanaged()],
        [lost === '' ? [] : [said(lost, path)], !lost.includes('br-ex')],
        `${path}: ${line}`,
      );
      await shell(lab, `rm ${path}`);
      assert.equal(await unmanaged(), true);
      await reload(lab, bridged(elastic.config, 'linux'));
      assert.equal((await lab.kylin('status')).status, 0);
    }
  });
});

describe('at boot', { concurrency: true }, () => {
  const addressed = async (lab: Lab) =>
    (await shell(lab, "ip -4 -o address show scope global | awk '{ print $2, $4 }'")).trimEnd().split('\n');
  const start = async (type: 'linux' | 'ovs') => {
    const lab = await createLab();
    await shell(lab, 'mkdir -p -m 700 /etc/NetworkManager/system-connections');
    await lab.configure(bridged(`if_list:\n${NIC_LINES}`, type));
    const { status, stdout } = await lab.kylin('start', '--json');
    return { lab, status, warnings: JSON.parse(stdout).warnings.map(({ message }: { message: string }) => message) };
  };
  const NIC_LINES = `  - { ipaddr: ${ADDRESSES.router}, prefix: 24, mac: '${NICS.public.mac}', gateway: ${ADDRESSES.out} }
  - { ipaddr: 10.10.2.254, prefix: 24, mac: '${NICS.b.mac}' }
`;

  it('a Linux bridge is up before NetworkManager, which has the other NICs', async (t) => {
    const { lab, status } = await start('linux');
    t.after(() => lab.close());
    assert.deepEqual([status, await addressed(lab)], [0, [`br-ex ${ADDRESSES.router}/24`]]);
    assert.match(await shell(lab, 'ip -4 route show default'), /dev br-ex/);
    assert.match(await shell(lab, 'ip -o link show dev eth0'), / master br-ex state UP /);
  });

  it('where Open vSwitch is late that is no failure: its NIC has the addresses until then', async (t) => {
    const { lab, status, warnings } = await start('ovs');
    t.after(() => lab.close());
    assert.deepEqual([status, await addressed(lab)], [0, [`eth0 ${ADDRESSES.router}/24`]]);
    assert.match(warnings.join('; '), /^bridge br-ex is pending, /);
    assert.match((await lab.router.read(DROP_IN)) ?? '', /interface-name:=eth0;interface-name:=br-ex/);
  });
});
