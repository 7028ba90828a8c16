import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { small } from '../confirm/router.ts';
import { ADDRESSES, NICS } from '../lab/lab.ts';
import { networkOf } from '../lab/state.ts';
import { EIPS, elastic } from '../lab/table.ts';
import { recordTools } from '../lab/tools.ts';
import { bridged, moves, refused, reload, shell } from './moves.ts';
import { createOvsLab, OVS, type OvsLab } from './ovs.ts';

describe('the uplink on a bridge of Open vSwitch', { concurrency: true }, () => {
  moves(OVS);

  it('keeps its IPv6 for the time after a port with an MTU too small for that', async (t) => {
    const lab = await createOvsLab();
    t.after(() => lab.close());
    const narrow = small.replace(`11:00:04'`, `11:00:04', mtu: 1000`);
    await reload(lab, narrow);
    await shell(
      lab,
      `ovs-vsctl --timeout=10 add-br br0; ip link set br0 up; ip -6 address add 2001:db8:5::5/64 dev br0 nodad
       ip -6 route add 2001:db8:55::/48 via 2001:db8:5::9 dev br0`,
    );
    const ipv6 = () =>
      shell(lab, 'ip -6 -oneline address show dev br0 scope global; ip -6 route show 2001:db8:55::/48');
    const found = await ipv6();
    const { warnings } = await reload(lab, narrow.replace('mtu: 1000', 'mtu: 1000, bridge: br0, bridge-type: ovs'));
    assert.match(
      warnings.at(-1)?.message ?? '',
      /: not ours, went with an MTU below 1280, and comes back with a larger one of br0$/,
    );
    assert.equal(await ipv6(), '');
    await reload(lab, narrow);
    assert.equal(await ipv6(), found);
  });

  describe('as far as Open vSwitch answers', { concurrency: 2 }, () => {
    const { router: uplink } = ADDRESSES;
    const NIC = NICS.public.device;
    const onBridge = bridged(elastic.config, 'ovs');
    const addressed = async (lab: OvsLab) =>
      (await shell(lab, `ip -4 -o address show | awk '$4 == "${uplink}/24" { print $2 }'`)).trim();
    const reached = async (lab: OvsLab) =>
      (await lab.host('far').run(['ping', '-c', '3', '-i', '0.2', '-W', '1', EIPS.x])).status === 0;

    it('it is asked once by a run that changes nothing, with a timeout, and not at all where nobody names it', async (t) => {
      const lab = await createOvsLab();
      t.after(() => lab.close());
      await reload(lab, elastic.config);
      assert.deepEqual(await lab.calls(), []);
      await reload(lab, onBridge);
      const changes = (await lab.calls()).filter((call) => !call.includes(' list Bridge '));
      assert.deepEqual(changes, [
        `--timeout=10 --may-exist add-br br-ex -- set Bridge br-ex other-config:hwaddr="${NICS.public.mac}"`,
        `--timeout=10 --may-exist add-port br-ex ${NIC}`,
      ]);
      await reload(lab, onBridge);
      assert.deepEqual(await lab.calls(), [
        '--timeout=5 --format=json --columns=_uuid,name,ports list Bridge -- --columns=_uuid,name,interfaces list Port' +
          ' -- --columns=_uuid,name,type,ofport,error list Interface -- --columns=name,output_port list Mirror',
      ]);
    });

    it('down at first: the addresses are on the NIC, and go to the bridge when it is there', async (t) => {
      const lab = await createOvsLab();
      t.after(() => lab.close());
      await lab.stopOvs();
      const { warnings } = await reload(lab, onBridge);
      const said = warnings.map(({ message }) => message).join('; ');
      assert.match(
        said,
        /^bridge br-ex is pending, and its addresses are on eth0 until then: Open vSwitch is silent: it does not answer: see systemctl status openvswitch-switch \(openvswitch on RPM systems\) \(.*\)/,
      );
      assert.deepEqual([await addressed(lab), await reached(lab)], [NIC, true]);
      const { nics } = JSON.parse((await lab.kylin('status', '--json')).stdout);
      assert.deepEqual(
        nics.map(({ state }: { state: string }) => state),
        ['pending', 'active', 'active'],
      );
      const uplink = `ipaddr: ${ADDRESSES.router}, prefix: 24, mac: '${NICS.public.mac}', gateway: ${ADDRESSES.out}`;
      const alone = `if_list:\n  - { ${uplink}, bridge: br-ex }\n`;
      await reload(lab, alone);
      const { stdout } = await lab.kylin('status');
      assert.match(stdout, /^ .* eth0, not yet in br-ex .* pending$/m);
      assert.match(stdout, /^in sync, but for 1 NIC that is pending$/m);
      await reload(lab, onBridge);
      const { stdout: explained } = await lab.kylin(
        'explain',
        '--live',
        '--from',
        '203.0.113.99',
        '--to',
        '203.0.113.50',
      );
      assert.doesNotMatch(explained, /br-ex/);
      assert.equal((await reload(lab, onBridge)).result, 'unchanged');
      await lab.startOvs();
      await reload(lab, onBridge);
      assert.deepEqual([await addressed(lab), await reached(lab)], ['br-ex', true]);
    });

    it('stopped, with its bridge gone, and started again, as at a reboot', async (t) => {
      const lab = await createOvsLab();
      t.after(() => lab.close());
      await reload(lab, onBridge);
      await lab.stopOvs();
      assert.equal((await lab.router.run(['ip', 'link', 'show', 'br-ex'])).status, 1);
      await reload(lab, onBridge);
      assert.deepEqual([await addressed(lab), await reached(lab)], [NIC, true]);
      await lab.startOvs();
      await reload(lab, onBridge);
      assert.deepEqual([await addressed(lab), await reached(lab)], ['br-ex', true]);
      await reload(lab, elastic.config);
      assert.deepEqual([await addressed(lab), await reached(lab)], [NIC, true]);
      assert.equal(
        (await lab.router.run(['ovs-vsctl', '--timeout=5', 'br-exists', 'br-ex'])).status,
        2,
        'the bridge was ours',
      );
    });

    it('it refuses in the middle of a move: taken back, either way', async (t) => {
      const lab = await createOvsLab();
      t.after(() => lab.close());
      const tools = await recordTools(lab.router);
      for (const [from, to, refuses] of [
        [elastic.config, onBridge, 'add-port'],
        [onBridge, elastic.config, 'del-port'],
      ] as const) {
        await reload(lab, from);
        const found = await networkOf(lab.router);
        await tools.before('ovs-vsctl', `case "$*" in *${refuses}*) echo no >&2; exit 1 ;; esac`);
        const [status, result, message] = await refused(lab, to);
        await tools.before('ovs-vsctl');
        assert.deepEqual([status, result], [69, 'rolled-back']);
        assert.match(
          message,
          /^Open vSwitch did not do it: see systemctl status openvswitch-switch \(openvswitch on RPM systems\) \(ovs-vsctl .*: status 1: no\); the network is as it was before; mend the cause and run kylin-vr reload$/,
        );
        assert.equal(await networkOf(lab.router), found);
        assert.equal(await reached(lab), true);
      }
    });

    it('its database alone answers: what is in it is nothing that anybody carries out', async (t) => {
      const lab = await createOvsLab();
      t.after(() => lab.close());
      await reload(lab, onBridge);
      await lab.stopSwitch();
      const { warnings } = await reload(lab, onBridge);
      assert.match(
        warnings.map(({ message }) => message).join('; '),
        /^bridge br-ex is pending, .*: its database names br-ex, and no such link is there: see systemctl status ovs-vswitchd$/,
      );
      assert.deepEqual([await addressed(lab), await reached(lab)], [NIC, true]);
      assert.equal((await reload(lab, onBridge)).result, 'unchanged');
      await reload(lab, elastic.config);
      assert.deepEqual([await addressed(lab), await reached(lab)], [NIC, true]);
      await reload(lab, onBridge);
      await shell(lab, 'ovs-vswitchd --pidfile --detach --no-chdir --log-file -vconsole:off');
      await reload(lab, onBridge);
      assert.deepEqual([await addressed(lab), await reached(lab)], ['br-ex', true]);
    });

    it('its database alone is down: the NIC stays on the bridge, also where the key is gone', async (t) => {
      const lab = await createOvsLab();
      t.after(() => lab.close());
      await reload(lab, onBridge);
      await lab.stopDatabase();
      assert.equal((await reload(lab, onBridge)).result, 'unchanged');
      const { steps, warnings } = await reload(lab, elastic.config);
      assert.match(
        warnings.map(({ message }) => message).join('; '),
        /^eth0 stays as it is, a port of br-ex: Open vSwitch is silent: /,
      );
      // Whether it still forwards is Open vSwitch's matter: in user space it does not.
      assert.deepEqual([steps, await addressed(lab)], [[], 'br-ex']);
    });

    it('where ovs-vswitchd was stopped, and the kernel goes on: the NIC stays a port; in a container it is somebody with another number', async (t) => {
      const lab = await createOvsLab();
      t.after(() => lab.close());
      await reload(lab, onBridge);
      const said = async () => (await reload(lab, onBridge)).warnings.map(({ message }) => message).join('; ');
      assert.equal(await said(), '');
      // This machine's kernel has no datapath: what tells alone is tried.
      await shell(lab, 'mv /run/openvswitch/ovs-vswitchd.pid /run/pid');
      assert.match(
        await said(),
        /^eth0 stays as it is, a port of br-ex: Open vSwitch is silent: its database names br-ex, and ovs-vswitchd does not run: /,
      );
      assert.deepEqual([await addressed(lab), await reached(lab)], ['br-ex', true]);
      await shell(
        lab,
        'mv /run/openvswitch/ovs-vswitchd.$(cat /run/pid).ctl /run/openvswitch/ovs-vswitchd.1.ctl; echo 1 > /run/openvswitch/ovs-vswitchd.pid',
      );
      assert.equal(await said(), '');
      assert.equal((await reload(lab, onBridge)).result, 'unchanged');
    });

    it('not installed: the same, with what to install', async (t) => {
      const lab = await createOvsLab();
      t.after(() => lab.close());
      await lab.stopOvs();
      await shell(lab, 'rm /usr/bin/ovs-vsctl');
      const { warnings } = await reload(lab, onBridge);
      assert.match(
        warnings.map(({ message }) => message).join('; '),
        /ovs-vsctl is missing: install openvswitch-switch \(openvswitch on RPM systems\)/,
      );
      assert.equal(await addressed(lab), NIC);
    });
  });
});
