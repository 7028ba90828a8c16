// Where NetworkManager has the NIC: it lets go of it, with all that is on it, and gets it back.

import assert from 'node:assert/strict';
import { after, before, describe, it } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { ADDRESSES, NICS } from '../lab/lab.ts';
import { createManagedLab, type ManagedLab, NAME_OF } from '../lab/path.ts';
import { IFCFGS, ifcfg, KEYFILES, keyfile } from '../lab/profiles.ts';
import { networkOf, onEveryPath } from '../lab/state.ts';
import { EIPS, elastic, listen } from '../lab/table.ts';
import { createTraffic, type Traffic } from '../lab/traffic.ts';
import { ADDRESS, advertise, has, hears } from './advertised.ts';
import { type BridgeType, bridged, reload, shell } from './moves.ts';
import { addOvs } from './ovs.ts';
import { ADD_ROUTES, by, FLUSH_ROUTES, routesOf } from './routes.ts';

export const DROP_IN = '/etc/NetworkManager/conf.d/90-kylin-vr-bridges.conf';

export function managedMoves(path: 'keyfile' | 'ifcfg', type: BridgeType): void {
  describe(`the uplink on a bridge (${type}): ${NAME_OF[path]}`, { concurrency: false }, () => {
    let lab: ManagedLab;
    let traffic: Traffic;
    let plain: string;
    const onBridge = bridged(elastic.config, type);
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
      lab = await createManagedLab(path);
      if (type === 'ovs') await addOvs(lab);
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

    it('it does so when it reads its configuration anew, and when it starts anew', async () => {
      const pings = await traffic.startPings({ from: 'far', to: EIPS.x, perSecond: 100 });
      for (const again of [() => shell(lab, 'nmcli general reload'), lab.manager.restart]) {
        await again();
        await sleep(1000);
        assert.deepEqual(await states(), ['br-ex:unmanaged', 'eth0:unmanaged']);
        assert.match(await shell(lab, 'ip -4 -o address show dev br-ex'), new RegExp(`${ADDRESSES.router}/24`));
        assert.equal((await reload(lab, onBridge)).result, 'unchanged');
      }
      assert.equal((await pings.stop()).lost, 0);
    });

    it('without the key it has the NIC again, with our profile', async () => {
      assert.ok((await gap(elastic.config)) < 1000);
      assert.deepEqual(await states(), ['eth0:connected']);
      assert.equal(await lab.router.read(DROP_IN), undefined);
      // A NetworkManager that has started meanwhile takes what is there for its own, as it is.
      assert.equal(onEveryPath(await networkOf(lab.router)), onEveryPath(plain));
      assert.match(await shell(lab, 'nmcli -g GENERAL.CONNECTION device show eth0'), /^kylin-vr-eth0$/m);
      assert.equal((await reload(lab, elastic.config)).result, 'unchanged');
    });

    it('a change that is taken back leaves the network as it was', async () => {
      await lab.configure(onBridge);
      assert.equal((await lab.kylin('reload', '--confirm-within', '60')).status, 0);
      assert.equal((await lab.kylin('rollback')).status, 0);
      assert.equal(await networkOf(lab.router), plain);
      assert.deepEqual(await states(), ['eth0:connected']);
    });

    it('foreign IPv4 routes go along, and come back with it', async () => {
      await shell(lab, ADD_ROUTES);
      const found = await routesOf(lab);
      for (const [config, other] of [
        [onBridge, elastic.config],
        [elastic.config, onBridge],
      ] as const) {
        const there = await routesOf(lab);
        await lab.configure(config);
        assert.equal((await lab.kylin('reload', '--confirm-within', '60')).status, 0);
        assert.deepEqual(await routesOf(lab), by(config === onBridge ? 'br-ex' : 'eth0', found));
        assert.equal((await lab.kylin('rollback')).status, 0);
        assert.deepEqual(await routesOf(lab), there, `taken back to ${other === onBridge ? 'the bridge' : 'the NIC'}`);
        await reload(lab, config);
        assert.deepEqual(await routesOf(lab), by(config === onBridge ? 'br-ex' : 'eth0', found));
      }
      assert.deepEqual(await routesOf(lab), found);
      await shell(lab, FLUSH_ROUTES);
    });

    it('IPv6 goes along, and comes back with the NIC, also what a router advertises', async (t) => {
      await advertise(lab, t);
      await hears(lab);
      await shell(lab, 'ip address add 2001:db8::5/64 dev eth0 nodad');
      await reload(lab, onBridge);
      await has(lab, 'br-ex', ADDRESS);
      await reload(lab, elastic.config);
      assert.deepEqual(await states(), ['eth0:connected']);
      assert.match(await shell(lab, 'nmcli -g GENERAL.CONNECTION device show eth0'), /^kylin-vr-eth0$/m);
      await has(lab, 'eth0', ADDRESS);
      assert.match(await shell(lab, 'ip -6 -o address show dev eth0'), / 2001:db8::5\/64 /);
      assert.equal((await reload(lab, elastic.config)).result, 'unchanged');
      await shell(lab, 'ip -6 address flush dev eth0 scope global; ip -6 route flush proto ra');
    });

    if (type === 'linux')
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

    it('as long as the port has another MAC NetworkManager leaves both alone, and an empty if_list takes all down', async () => {
      await reload(lab, onBridge);
      await shell(lab, 'ip link set eth0 address 52:54:84:99:00:01');
      for (const _ of [1, 2]) {
        await reload(lab, onBridge);
        await shell(lab, 'nmcli general reload');
        await sleep(500);
        assert.deepEqual(await states(), ['br-ex:unmanaged', 'eth0:unmanaged']);
        assert.match(await shell(lab, 'ip -4 -o address show dev br-ex'), new RegExp(`${ADDRESSES.router}/24`));
      }
      await reload(lab, 'if_list: []\n');
      assert.equal(await lab.router.read(DROP_IN), undefined);
      assert.equal((await lab.router.run(['ip', 'link', 'show', 'br-ex'])).status, 1);
      assert.doesNotMatch(await shell(lab, 'ip -4 -o address show dev eth0'), new RegExp(ADDRESSES.router));
      await shell(
        lab,
        `ip link set eth0 address ${NICS.public.mac}; nmcli general reload; sleep 0.5; nmcli device set eth0 managed yes`,
      );
      await reload(lab, elastic.config);
      assert.deepEqual(await states(), ['eth0:connected']);
    });

    it('a foreign profile that claims the NIC is put aside', async () => {
      const [file, text] =
        path === 'keyfile'
          ? [`${KEYFILES}/theirs.nmconnection`, keyfile({ name: 'theirs' })]
          : [`${IFCFGS}/ifcfg-theirs`, ifcfg({ name: 'theirs' })];
      await reload(lab, 'if_list: []\n');
      await lab.router.write(file, text, 0o600);
      await shell(lab, `nmcli connection load ${file}; nmcli --wait 20 connection up theirs`);
      await reload(lab, onBridge);
      assert.deepEqual(await states(), ['br-ex:unmanaged', 'eth0:unmanaged']);
      assert.equal(await lab.router.read(file), undefined);
      assert.equal((await lab.host('far').run(['ping', '-c', '3', '-i', '0.2', EIPS.x])).status, 0);
      assert.equal((await reload(lab, onBridge)).result, 'unchanged');
    });
  });
}
