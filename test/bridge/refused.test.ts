// What Open vSwitch cannot do, and what a NIC is to it where that is no port of its own.

import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { NICS } from '../lab/lab.ts';
import { networkOf } from '../lab/state.ts';
import { elastic } from '../lab/table.ts';
import { recordTools } from '../lab/tools.ts';
import { bridged, refused, reload, shell } from './moves.ts';
import { createOvsLab, type OvsLab } from './ovs.ts';

const NIC = NICS.public.device;
const onBridge = bridged(elastic.config, 'ovs');
const vsctl = (...calls: string[]) => calls.map((call) => `ovs-vsctl --timeout=10 ${call}`).join('\n');
const BEFORE = '; the network is as it was before; mend the cause and run kylin-vr reload';

/** With what it numbers anew each time, and without. */
const database = async (lab: OvsLab) =>
  (await shell(lab, 'ovs-vsctl --timeout=10 show')).replace(/^.*\n/, '').replace(/ +error: .*\n/g, '');

describe('what Open vSwitch refuses is taken back, in its database too', { concurrency: 2 }, () => {
  for (const other of ['', vsctl('add-br br-op', 'add-port br-op p0 -- set Interface p0 type=internal')])
    it(`a bridge without a datapath${other === '' ? '' : ', beside one of somebody'}`, async (t) => {
      const lab = await createOvsLab();
      t.after(() => lab.close());
      await shell(lab, other);
      await reload(lab, elastic.config);
      const [network, found] = [await networkOf(lab.router), await database(lab)];
      await shell(lab, 'sed -i s/datapath_type=netdev/datapath_type=none/ /usr/bin/ovs-vsctl');
      for (const _ of [1, 2]) {
        assert.deepEqual(await refused(lab, onBridge), [
          69,
          'rolled-back',
          `Open vSwitch did not get br-ex to work: see /var/log/openvswitch/ovs-vswitchd.log; it may lack its module of the kernel: modprobe openvswitch${BEFORE}`,
        ]);
        assert.deepEqual([await networkOf(lab.router), await database(lab)], [network, found]);
      }
      await shell(lab, 'sed -i s/datapath_type=none/datapath_type=netdev/ /usr/bin/ovs-vsctl');
      assert.equal((await reload(lab, onBridge)).result, 'changed');
    });

  it('a port that is no link any more: the NIC is one by its new name', async (t) => {
    const lab = await createOvsLab();
    t.after(() => lab.close());
    await reload(lab, elastic.config);
    const tools = await recordTools(lab.router);
    await tools.before(
      'ovs-vsctl',
      `case "$*" in *" add-port br-ex ${NIC}"*) ip link set ${NIC} down; ip link set ${NIC} name gone; ip link set gone up ;; esac`,
    );
    await reload(lab, onBridge);
    await tools.before('ovs-vsctl');
    assert.equal(await shell(lab, 'ovs-vsctl --timeout=10 list-ports br-ex'), 'gone\n');
  });

  it('but not what nobody carries out yet: the NIC has its addresses until then', async (t) => {
    const lab = await createOvsLab();
    t.after(() => lab.close());
    await lab.stopSwitch();
    const { warnings } = await reload(lab, onBridge);
    assert.match(JSON.stringify(warnings), /its database names br-ex, and no such link is there: see systemctl status/);
    assert.match(await shell(lab, 'ip -4 route show default'), new RegExp(` dev ${NIC} `));
    await shell(lab, 'ovs-vswitchd --pidfile --detach --no-chdir --log-file -vconsole:off');
    await reload(lab, onBridge);
    assert.match(await shell(lab, 'ip -4 route show default'), / dev br-ex /);
  });

  it('all that it was asked for, by one that did it and ends 1', async (t) => {
    const lab = await createOvsLab();
    t.after(() => lab.close());
    await reload(lab, elastic.config);
    const [network, found] = [await networkOf(lab.router), await database(lab)];
    const tools = await recordTools(lab.router);
    for (const call of ['add-br', 'add-port']) {
      await tools.before('ovs-vsctl', `case "$*" in *" ${call} "*) $real "$@"; echo no >&2; exit 1 ;; esac`);
      const [status, result] = await refused(lab, onBridge);
      await tools.before('ovs-vsctl');
      assert.deepEqual([status, result], [69, 'rolled-back']);
      assert.deepEqual([await networkOf(lab.router), await database(lab)], [network, found]);
    }
  });
});

const ODD: [what: string, make: string, said: string, cure: string][] = [
  [
    'in a bond of the bridge',
    vsctl('add-br br-ex', `add-bond br-ex bond0 ${NIC} eth2`),
    `is in the bond bond0 of the bridge br-ex: take it out with ovs-vsctl del-bond-iface bond0 ${NIC}, or the bond with ovs-vsctl del-port br-ex bond0`,
    vsctl(`del-bond-iface bond0 ${NIC}`),
  ],
  [
    'in a bond of another bridge',
    vsctl('add-br br-op', `add-bond br-op bond0 ${NIC} eth2`),
    `is in the bond bond0 of the bridge br-op: take it out with ovs-vsctl del-bond-iface bond0 ${NIC}, or the bond with ovs-vsctl del-port br-op bond0`,
    vsctl('del-port br-op bond0'),
  ],
  [
    'a port by another name',
    vsctl(
      'add-br br-ex',
      `-- --id=@i create Interface name=${NIC} -- --id=@p create Port name=p0 interfaces=@i -- add Bridge br-ex ports @p`,
    ),
    'is in the bridge br-ex as the port p0, which has another name: take it out with ovs-vsctl del-port br-ex p0',
    vsctl('del-port br-ex p0'),
  ],
  [
    'called as a port is that is no link',
    vsctl('add-br br-ex', `add-port br-ex ${NIC} -- set Interface ${NIC} type=patch options:peer=p1`),
    `has the name of a port of the bridge br-ex that is no link of the machine (its type is patch): take it out with ovs-vsctl del-port br-ex ${NIC}`,
    vsctl(`del-port br-ex ${NIC}`),
  ],
  [
    'called as a tunnel is',
    vsctl('add-br br-op', `add-port br-op ${NIC} -- set Interface ${NIC} type=vxlan options:remote_ip=192.0.2.9`),
    `has the name of a port of the bridge br-op that is no link of the machine (its type is vxlan): take it out with ovs-vsctl del-port br-op ${NIC}`,
    vsctl(`del-port br-op ${NIC}`),
  ],
  [
    'where a mirror sends its copies',
    vsctl(
      'add-br br-ex',
      `add-port br-ex ${NIC} -- --id=@p get Port ${NIC} -- --id=@m create Mirror name=m0 select-all=true output-port=@p -- add Bridge br-ex mirrors @m`,
    ),
    'is where the mirror m0 of the bridge br-ex sends its copies, and carries nothing else: take that away with ovs-vsctl -- --id=@m get Mirror m0 -- remove Bridge br-ex mirrors @m',
    vsctl('-- --id=@m get Mirror m0 -- remove Bridge br-ex mirrors @m'),
  ],
];

describe('a NIC that is', { concurrency: 2 }, () => {
  for (const [what, make, said, cure] of ODD)
    it(`${what}: refused with the key, left as it is without, and the cure works`, async (t) => {
      const lab = await createOvsLab();
      t.after(() => lab.close());
      const config = elastic.config.replace(/.*52:54:84:11:00:05.*\n/, '').replace(/.*10\.10\.2\..*\n/g, '');
      await reload(lab, config);
      await shell(lab, make);
      const [network, found] = [await networkOf(lab.router), await database(lab)];
      assert.deepEqual(await refused(lab, bridged(config, 'ovs')), [
        65,
        'failed',
        `NIC ${NICS.public.mac} (${NIC}): ${said}`,
      ]);
      const { result, warnings } = await reload(lab, config);
      assert.deepEqual(
        [result, warnings.map(({ message }) => message)],
        ['unchanged', [`NIC ${NICS.public.mac} (${NIC}) is left as it is: it ${said}`]],
      );
      assert.equal((await lab.kylin('status')).status, 2);
      assert.deepEqual([await networkOf(lab.router), await database(lab)], [network, found]);
      await shell(lab, cure);
      await reload(lab, bridged(config, 'ovs'));
      assert.match(await shell(lab, 'ovs-vsctl --timeout=10 list-ports br-ex'), new RegExp(`^${NIC}$`, 'm'));
      assert.equal((await lab.kylin('status')).status, 0);
    });
});

describe('Open vSwitch whose ovs-vsctl is in a container, as in Kolla', { concurrency: 2 }, () => {
  const missing = (sign: string) =>
    `Open vSwitch is silent: ovs-vsctl is not in /usr/bin, but Open vSwitch is at work here (${sign}), in a container as it seems: install no second one, but ` +
    "make /usr/bin/ovs-vsctl a script that calls the container's, mode 0755, with the two lines #!/bin/sh and " +
    'exec docker exec openvswitch_vswitchd ovs-vsctl "$@" (podman and the container\'s name where they are others; ' +
    'ovs-vsctl of its own asks /run/openvswitch/db.sock)';
  const messages = ({ warnings }: { warnings: { message: string }[] }) => warnings.map(({ message }) => message);
  const held = `NIC ${NICS.public.mac} (${NIC}) is left as it is:`;

  it('a port of it is left as it is, with the key and without, until ovs-vsctl is there', async (t) => {
    const lab = await createOvsLab();
    t.after(() => lab.close());
    await reload(lab, elastic.config);
    await shell(lab, `${vsctl('add-br br-ex', `add-port br-ex ${NIC}`)}\nmv /usr/bin/ovs-vsctl /run/container`);
    const network = await networkOf(lab.router);
    assert.deepEqual(messages(await reload(lab, elastic.config)), [
      `${held} somebody made it a port of Open vSwitch, which does not say of which bridge: say bridge: NAME where that is meant, or take it out with ovs-vsctl del-port ${NIC}`,
      missing('ovs-netdev'),
    ]);
    const { result, warnings } = await reload(lab, onBridge);
    assert.deepEqual(
      [result, messages({ warnings })],
      [
        'unchanged',
        [`${held} it is a port of Open vSwitch, which does not say whether of br-ex`, missing('ovs-netdev')],
      ],
    );
    assert.equal(await networkOf(lab.router), network);
    assert.equal((await lab.kylin('status')).status, 2);
    await lab.router.write('/usr/bin/ovs-vsctl', '#!/bin/sh\nexec /run/container "$@"\n', 0o755);
    await reload(lab, onBridge);
    assert.equal((await lab.kylin('status')).status, 0);
    assert.match(await shell(lab, 'ip -4 route show default'), / dev br-ex /);
  });

  it('a NIC that is none has its addresses until then', async (t) => {
    const lab = await createOvsLab();
    t.after(() => lab.close());
    await lab.stopSwitch();
    await shell(lab, 'mv /usr/bin/ovs-vsctl /run/container');
    assert.deepEqual(messages(await reload(lab, onBridge)), [
      `bridge br-ex is pending, and its addresses are on ${NIC} until then: ${missing('/run/openvswitch/db.sock')}`,
    ]);
  });
});
