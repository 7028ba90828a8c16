import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { ADDRESSES, createLab, type Lab, NICS } from '../lab/lab.ts';
import { killed } from './killed.ts';
import { DROP_IN, managedMoves } from './managed.ts';
import { bridged, shell } from './moves.ts';

managedMoves('keyfile', 'linux');
managedMoves('keyfile', 'ovs');
killed('keyfile');

describe('at boot', { concurrency: true }, () => {
  const carriers = async (lab: Lab) =>
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
    assert.deepEqual([status, await carriers(lab)], [0, [`br-ex ${ADDRESSES.router}/24`]]);
    assert.match(await shell(lab, 'ip -4 route show default'), /dev br-ex/);
    assert.match(await shell(lab, 'ip -o link show dev eth0'), / master br-ex state UP /);
  });

  it('where Open vSwitch is late that is no failure: its NIC has the addresses until then', async (t) => {
    const { lab, status, warnings } = await start('ovs');
    t.after(() => lab.close());
    assert.deepEqual([status, await carriers(lab)], [0, [`eth0 ${ADDRESSES.router}/24`]]);
    assert.match(warnings.join('; '), /^bridge br-ex is pending, /);
    assert.match((await lab.router.read(DROP_IN)) ?? '', /interface-name:=eth0;interface-name:=br-ex/);
  });
});
