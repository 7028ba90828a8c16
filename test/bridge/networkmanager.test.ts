// Where NetworkManager has the NIC: it lets go of it, with all that is on it, and gets it back.

import assert from 'node:assert/strict';
import { after, before, describe, it } from 'node:test';
import { ADDRESSES, createLab, type Lab, NICS } from '../lab/lab.ts';
import { createManagedLab } from '../lab/path.ts';
import { networkOf } from '../lab/state.ts';
import { EIPS, elastic, listen } from '../lab/table.ts';
import { createTraffic, type Traffic } from '../lab/traffic.ts';
import { bridged, reload, shell } from './moves.ts';

const DROP_IN = '/etc/NetworkManager/conf.d/90-kylin-vr-bridges.conf';

describe('the uplink on a bridge, where NetworkManager is', { concurrency: false }, () => {
  let lab: Lab & { manager: { stop?: unknown } };
  let traffic: Traffic;
  let plain: string;
  const onBridge = bridged(elastic.config, 'linux');
  const states = async () =>
    (await shell(lab, 'nmcli -t -f DEVICE,STATE device'))
      .split('\n')
      .filter((line) => /^(eth0|br-ex):/.test(line))
      .sort();
  const gap = async (config: string) => {
    const pings = await traffic.startPings({ from: 'far', to: EIPS.x, perSecond: 100 });
    await reload(lab, config);
    const { longestGapMs } = await pings.stop();
    console.log(`# NetworkManager: longest gap ${longestGapMs} ms`);
    return longestGapMs;
  };

  before(async () => {
    lab = await createManagedLab('keyfile');
    traffic = createTraffic(lab);
    await listen(traffic);
    await reload(lab, elastic.config);
    plain = await networkOf(lab.router);
  });
  after(() => lab?.close());

  it('a NIC with our profile becomes a port, and NetworkManager leaves both alone', async () => {
    assert.ok((await gap(onBridge)) < 1000);
    assert.deepEqual(await states(), ['br-ex:unmanaged', 'eth0:unmanaged']);
    assert.match(
      (await lab.router.read(DROP_IN)) ?? '',
      /^unmanaged-devices\+=interface-name:=eth0;interface-name:=br-ex$/m,
    );
    assert.equal((await reload(lab, onBridge)).result, 'unchanged');
  });

  it('it does so after its next start', async () => {
    await shell(lab, 'nmcli general reload; sleep 1');
    assert.deepEqual(await states(), ['br-ex:unmanaged', 'eth0:unmanaged']);
    assert.match(await shell(lab, 'ip -4 -o address show dev br-ex'), new RegExp(`${ADDRESSES.router}/24`));
    assert.equal((await reload(lab, onBridge)).result, 'unchanged');
  });

  it('without the key it has the NIC again, with our profile', async () => {
    assert.ok((await gap(elastic.config)) < 1000);
    assert.deepEqual(await states(), ['eth0:connected']);
    assert.equal(await lab.router.read(DROP_IN), undefined);
    assert.equal(await networkOf(lab.router), plain);
    assert.equal((await reload(lab, elastic.config)).result, 'unchanged');
  });

  it('a change that is taken back leaves the network as it was', async () => {
    await lab.configure(onBridge);
    assert.equal((await lab.kylin('reload', '--confirm-within', '60')).status, 0);
    assert.equal((await lab.kylin('rollback')).status, 0);
    assert.equal(await networkOf(lab.router), plain);
    assert.deepEqual(await states(), ['eth0:connected']);
  });

  it('while Open vSwitch is down the addresses are on the NIC, NetworkManager leaves it alone, and gets it back', async () => {
    const pings = await traffic.startPings({ from: 'far', to: EIPS.x, perSecond: 100 });
    await reload(lab, bridged(elastic.config, 'ovs'));
    assert.deepEqual(await states(), ['eth0:unmanaged']);
    assert.match(await shell(lab, 'ip -4 -o address show dev eth0'), new RegExp(`${ADDRESSES.router}/24`));
    await shell(lab, 'ip address add 192.0.2.99/32 dev eth0');
    assert.equal((await reload(lab, bridged(elastic.config, 'ovs'))).result, 'unchanged');
    await shell(lab, 'ip address delete 192.0.2.99/32 dev eth0');
    await reload(lab, elastic.config);
    const { longestGapMs } = await pings.stop();
    assert.ok(longestGapMs < 1000, `${longestGapMs} ms without an answer`);
    assert.deepEqual(await states(), ['eth0:connected']);
    assert.equal(await networkOf(lab.router), plain);
  });

  it('a foreign profile that claims the NIC is put aside', async () => {
    const path = '/etc/NetworkManager/system-connections/theirs.nmconnection';
    await reload(lab, 'if_list: []\n');
    await lab.router.write(
      path,
      `[connection]\nid=theirs\ntype=ethernet\ninterface-name=eth0\n[ipv4]\nmethod=manual\naddress1=${ADDRESSES.router}/24,${ADDRESSES.out}\n`,
      0o600,
    );
    await shell(lab, `nmcli connection load ${path}; nmcli --wait 20 connection up theirs`);
    await reload(lab, onBridge);
    assert.deepEqual(await states(), ['br-ex:unmanaged', 'eth0:unmanaged']);
    assert.equal(await lab.router.read(path), undefined);
    assert.equal((await lab.host('far').run(['ping', '-c', '3', '-i', '0.2', EIPS.x])).status, 0);
    assert.equal((await reload(lab, onBridge)).result, 'unchanged');
  });
});

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
