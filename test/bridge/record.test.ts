// The record of bridges and their ports: whatever somebody has renamed or given another MAC, an empty if_list takes down what is ours,
// and nothing else.

import assert from 'node:assert/strict';
import { describe, it, type TestContext } from 'node:test';
import { json, killWaiters, reboot, warningsOf } from '../confirm/router.ts';
import { ADDRESSES, createLab, type Lab, NICS } from '../lab/lab.ts';
import { EIPS } from '../lab/table.ts';
import { recordTools } from '../lab/tools.ts';
import { eip } from '../scenarios/change.ts';
import { type BridgeType, bridged, refused, reload, shell } from './moves.ts';
import { createOvsLab } from './ovs.ts';

const { router: uplink, out, x } = ADDRESSES;
const { device: NIC, mac } = NICS.public;
const NEW = '52:54:84:99:00:01';
const RECORD = '/var/lib/kylin-vr/owned.json';

const config = `if_list:
  - { ipaddr: ${uplink}, prefix: 24, mac: '${mac}', gateway: ${out} }
  - { ipaddr: 10.10.2.254, prefix: 24, mac: '${NICS.b.mac}' }
eip_list:
${eip(EIPS.x, x)}`;

/** Of `ip`: when it has made a bridge its parent is killed. */
const KILL_WHEN_MADE = `case "$*" in *-batch*)
  cat > /mnt/input/$$
  grep -q 'link add' /mnt/input/$$ || exec $real "$@" < /mnt/input/$$
  $real "$@" < /mnt/input/$$
  kill -9 $PPID
  exit 0
esac`;

const rename = (device: string, name: string) => `ip link set ${device} down; ip link set ${device} name ${name} up`;
const is = async (lab: Lab, device: string) => (await lab.router.run(['ip', 'link', 'show', device])).status === 0;
const masterOf = async (lab: Lab, device: string) =>
  / master (\S+)/.exec(await shell(lab, `ip -o link show ${device}`))?.[1];
const carriersOf = async (lab: Lab) =>
  (await shell(lab, `ip -4 -o address show | awk '$4 == "${uplink}/24" || $4 == "${EIPS.x}/32" { print $2, $4 }'`))
    .split('\n')
    .filter((line) => line !== '');
const onlyOn = (device: string) => [`${device} ${uplink}/24`, `${device} ${EIPS.x}/32`];
const reached = async (lab: Lab) =>
  (await lab.host('far').run(['ping', '-c', '3', '-i', '0.2', '-W', '1', EIPS.x])).status === 0;
const recorded = async (lab: Lab) => JSON.parse((await lab.router.read(RECORD)) ?? '');

/** A router with its uplink on br-ex. */
async function router(t: TestContext, type: BridgeType): Promise<Lab> {
  const lab = await (type === 'ovs' ? createOvsLab() : createLab());
  t.after(() => lab.close());
  await reload(lab, bridged(config, type));
  return lab;
}

/** Gives what was warned of. */
async function again(lab: Lab): Promise<string[]> {
  const report = await json(lab, 'reload');
  assert.equal(report.status, 0, JSON.stringify(report));
  return warningsOf(report);
}

/** Nothing of ours is there, nor on record; `theirs`: what is to be there still, on which nobody has anything of ours. */
async function takesAllDown(lab: Lab, theirs: readonly string[] = []): Promise<void> {
  const { warnings } = await reload(lab, 'if_list: []\n');
  assert.deepEqual(warnings, []);
  assert.deepEqual(await carriersOf(lab), []);
  assert.doesNotMatch(await shell(lab, 'ip -4 route; iptables-save'), /proto 175|KYLIN/);
  const links = await shell(lab, "ip -br link show type bridge | awk '{ print $1 }'");
  assert.deepEqual(
    links.split('\n').filter((line) => line !== ''),
    theirs,
  );
  const { addresses, routes, bridges, ports } = await recorded(lab);
  assert.deepEqual({ addresses, routes, bridges, ports }, { addresses: [], routes: [], bridges: [], ports: [] });
  assert.equal((await reload(lab, 'if_list: []\n')).result, 'unchanged');
}

describe('a Linux bridge of ours, recorded', { concurrency: 4 }, () => {
  for (const [what, ...script] of [
    ['renamed', rename('br-ex', 'brq')],
    ['renamed, and its NIC too', rename('br-ex', 'brq'), rename(NIC, 'wan0')],
    ['renamed, with another MAC', rename('br-ex', 'brq'), `ip link set brq address ${NEW}`],
    ['renamed, and its NIC taken out', rename('br-ex', 'brq'), `ip link set ${NIC} nomaster`],
    ['renamed to what no rule and no batch could name', rename('br-ex', "'br\"+'")],
    [
      'renamed, and its NIC has another MAC and name',
      `ip link set ${NIC} address ${NEW}`,
      rename('br-ex', 'brq'),
      rename(NIC, 'wan0'),
    ],
    ['whose NIC has another MAC', `ip link set ${NIC} address ${NEW}`],
    ['whose NIC has another MAC, and two reloads', `ip link set ${NIC} address ${NEW}`, 'reload', 'reload'],
    [
      'whose NIC has another MAC, a reload, and another name',
      `ip link set ${NIC} address ${NEW}`,
      'reload',
      rename(NIC, 'wan0'),
    ],
    [
      'whose NIC has another MAC, a reload, renamed then',
      `ip link set ${NIC} address ${NEW}`,
      'reload',
      rename('br-ex', 'brq'),
    ],
  ] as const)
    it(`${what}: an empty if_list takes all of it down`, async (t) => {
      const lab = await router(t, 'linux');
      for (const act of script) await (act === 'reload' ? again(lab) : shell(lab, act));
      await takesAllDown(lab);
    });

  it('renamed: a reload makes br-ex again, and all is on it', async (t) => {
    const lab = await router(t, 'linux');
    await shell(lab, rename('br-ex', 'brq'));
    await again(lab);
    assert.deepEqual(await carriersOf(lab), onlyOn('br-ex'));
    assert.deepEqual([await is(lab, 'brq'), await masterOf(lab, NIC), await reached(lab)], [false, 'br-ex', true]);
    assert.equal((await reload(lab, bridged(config, 'linux'))).result, 'unchanged');
    await shell(lab, rename('br-ex', 'brq'));
    await takesAllDown(lab);
  });

  it('renamed, and the file says so: it stays, with all that is on it, and ours', async (t) => {
    const lab = await router(t, 'linux');
    const number = () => shell(lab, 'cat /sys/class/net/br[-q]*/ifindex');
    const made = await number();
    await shell(lab, rename('br-ex', 'brq'));
    const { steps } = await reload(lab, bridged(config, 'linux').replace('bridge: br-ex', 'bridge: brq'));
    assert.deepEqual(
      steps.filter(({ kind }) => /bridge|port|-address$/.test(kind)),
      [],
    );
    assert.deepEqual([await number(), await carriersOf(lab), await reached(lab)], [made, onlyOn('brq'), true]);
    await takesAllDown(lab);
  });

  it('renamed, and others have made one with its name and with an address of ours: theirs stays as it is', async (t) => {
    const lab = await router(t, 'linux');
    await shell(lab, `${rename('br-ex', 'brq')}; ip link add br-ex type bridge; ip address add ${EIPS.x}/32 dev br-ex`);
    await reload(lab, 'if_list: []\n');
    assert.deepEqual(await carriersOf(lab), [`br-ex ${EIPS.x}/32`]);
    assert.deepEqual([await is(lab, 'brq'), await masterOf(lab, NIC)], [false, undefined]);
    assert.deepEqual((await recorded(lab)).bridges, []);
  });

  it('renamed, and a reload finds one of others with its name: it is used, and stays in the end', async (t) => {
    const lab = await router(t, 'linux');
    await shell(lab, `${rename('br-ex', 'brq')}; ip link add br-ex type bridge`);
    await again(lab);
    assert.deepEqual(await carriersOf(lab), onlyOn('br-ex'));
    assert.deepEqual([await is(lab, 'brq'), await masterOf(lab, NIC), await reached(lab)], [false, 'br-ex', true]);
    await takesAllDown(lab, ['br-ex']);
  });

  it('removed by others, who made one of its name with the NIC and an address of ours: all of that stays', async (t) => {
    const lab = await router(t, 'linux');
    await shell(
      lab,
      `ip link delete br-ex; ip link add br-ex up type bridge; ip link set ${NIC} master br-ex; ip address add ${EIPS.x}/32 dev br-ex`,
    );
    await reload(lab, 'if_list: []\n');
    assert.deepEqual(await carriersOf(lab), [`br-ex ${EIPS.x}/32`]);
    assert.equal(await masterOf(lab, NIC), 'br-ex');
    const { addresses, bridges, ports } = await recorded(lab);
    assert.deepEqual([addresses, bridges, ports], [[], [], []]);
  });

  it('removed by others, who made another link with its number: that stays', async (t) => {
    for (const link of ['brz index $n type bridge', 'brz index $n type veth peer name veth9']) {
      const lab = await router(t, 'linux');
      await shell(lab, `n=$(cat /sys/class/net/br-ex/ifindex); ip link delete br-ex; ip link add ${link}`);
      await reload(lab, 'if_list: []\n');
      assert.deepEqual([await is(lab, 'brz'), await carriersOf(lab)], [true, []]);
      assert.deepEqual((await recorded(lab)).bridges, []);
    }
  });

  it('from before the machine went down: one that is there then was made by others, and stays', async (t) => {
    const lab = await router(t, 'linux');
    await reboot(lab, 'machine');
    await shell(lab, 'ip link delete br-ex; ip link add br-ex type bridge');
    await again(lab);
    assert.deepEqual(await carriersOf(lab), onlyOn('br-ex'));
    await takesAllDown(lab, ['br-ex']);
  });

  it('a NIC of it that others moved to another bridge stays there, and ours goes', async (t) => {
    const lab = await router(t, 'linux');
    await shell(
      lab,
      `ip link add brz up type bridge; ip link set ${NIC} master brz; ip link set ${NIC} address ${NEW}`,
    );
    await takesAllDown(lab, ['brz']);
    assert.equal(await masterOf(lab, NIC), 'brz');
  });

  it('a link of others with the MAC that the NIC had: nothing of it is touched', async (t) => {
    const lab = await router(t, 'linux');
    await shell(
      lab,
      `ip link set ${NIC} address ${NEW}
       ip link add veth7 up address ${mac} type veth peer name veth8
       ip link add brz type bridge; ip link set veth7 master brz`,
    );
    await takesAllDown(lab, ['brz']);
    assert.deepEqual([await masterOf(lab, 'veth7'), await masterOf(lab, NIC)], ['brz', undefined]);
  });

  it('a second link with the MAC of its NIC takes nothing from it, and is named', async (t) => {
    const lab = await router(t, 'linux');
    await lab.router.plug({ ...NICS.public, device: 'eth7' });
    assert.deepEqual(await again(lab), [
      `eth7 has the MAC of ${NIC} too (${mac}), which is used as before: give it another`,
    ]);
    assert.deepEqual([await carriersOf(lab), await masterOf(lab, NIC)], [onlyOn('br-ex'), 'br-ex']);
  });

  it('as long as its NIC has another MAC all stays as it is, and goes on when it has its own', async (t) => {
    const lab = await router(t, 'linux');
    await shell(lab, `ip link set ${NIC} address ${NEW}`);
    for (const _ of [1, 2]) {
      assert.deepEqual(await again(lab), [`NIC ${mac} is not there yet: pending`]);
      assert.deepEqual([await carriersOf(lab), await masterOf(lab, NIC)], [onlyOn('br-ex'), 'br-ex']);
    }
    await shell(lab, `ip link set ${NIC} address ${mac}`);
    assert.deepEqual(await again(lab), []);
    assert.deepEqual([await carriersOf(lab), await reached(lab)], [onlyOn('br-ex'), true]);
    await takesAllDown(lab);
  });

  it('whose NIC is gone while others use it stays ours: with the NIC it is used again, and goes in the end', async (t) => {
    const lab = await router(t, 'linux');
    await shell(lab, 'ip address add 172.31.0.5/24 dev br-ex');
    await lab.router.unplug(NICS.public);
    await again(lab);
    assert.equal(await is(lab, 'br-ex'), true);
    await lab.router.plug(NICS.public);
    await again(lab);
    assert.deepEqual([await carriersOf(lab), await reached(lab)], [onlyOn('br-ex'), true]);
    await shell(lab, 'ip address delete 172.31.0.5/24 dev br-ex');
    await takesAllDown(lab);
  });

  it('renamed to what is no text: its NIC is taken out, what stays is said, and goes when it has another name', async (t) => {
    const lab = await router(t, 'linux');
    const number = (await shell(lab, 'cat /sys/class/net/br-ex/ifindex')).trim();
    await shell(lab, `ip link set br-ex down; ip link set br-ex name "$(printf 'b\\377')" up`);
    for (const _ of [1, 2]) {
      await lab.configure('if_list: []\n');
      const { status, errors } = await json(lab, 'reload');
      assert.deepEqual(
        [status, errors],
        [
          69,
          [
            {
              message:
                `${uplink}/24, ${EIPS.x}/32 stays on b\ufffd, whose name is no text that a command could be given: ` +
                `give it another: ip link set dev if${number} name ANOTHER, then run kylin-vr reload`,
            },
          ],
        ],
      );
      assert.equal(await masterOf(lab, NIC), undefined);
    }
    await shell(lab, `ip link set dev if${number} name brq`);
    await takesAllDown(lab);
  });

  for (const isKilled of [false, true])
    it(`that a rollback made again${isKilled ? ', which was killed then,' : ''} has another number: it is known by that`, async (t) => {
      const lab = await router(t, 'linux');
      await lab.configure(config);
      assert.equal((await lab.kylin('reload', '--confirm-within', '60')).status, 0);
      assert.equal(await is(lab, 'br-ex'), false);
      if (isKilled) {
        const tools = await recordTools(lab.router);
        await tools.before('ip', KILL_WHEN_MADE);
        assert.equal((await lab.kylin('rollback')).status, 128 + 9);
        await tools.before('ip');
        assert.equal(await is(lab, 'br-ex'), true);
        await killWaiters(lab);
      }
      assert.equal((await lab.kylin('rollback')).status, 0);
      assert.deepEqual(await carriersOf(lab), onlyOn('br-ex'));
      await shell(lab, `${rename('br-ex', 'brq')}; ip link set ${NIC} address ${NEW}`);
      await takesAllDown(lab);
    });

  for (const [what, strip] of [
    ['before', 's/"(id|index)":[0-9]+,?//g'],
    ['of 1.0', 's/"(id|index)":[0-9]+,?//g; s/,"boot":"[^"]*"//'],
  ] as const)
    it(`by a version ${what}, by its name alone: an empty if_list takes it down`, async (t) => {
      const lab = await router(t, 'linux');
      await shell(lab, `sed -Ei '${strip}; s/,\\}/}/g' ${RECORD}`);
      const { bridges, ports } = await recorded(lab);
      assert.deepEqual(
        [bridges, ports],
        [[{ name: 'br-ex', type: 'linux', mac }], [{ mac, device: NIC, bridge: 'br-ex', type: 'linux' }]],
      );
      await takesAllDown(lab);
    });
});

describe('a bridge of Open vSwitch of ours, recorded', { concurrency: 2 }, () => {
  const vsctl = (...words: string[]) => `ovs-vsctl --timeout=10 ${words.join(' ')}`;
  const isBridge = async (lab: Lab) =>
    (await lab.router.run(['ovs-vsctl', '--timeout=10', 'br-exists', 'br-ex'])).status === 0;

  for (const [what, ...script] of [
    ['whose link is renamed', rename('br-ex', 'brq')],
    ['whose NIC has another MAC', `ip link set ${NIC} address ${NEW}`],
    ['whose NIC has another MAC, and two reloads', `ip link set ${NIC} address ${NEW}`, 'reload', 'reload'],
    ['whose NIC has another name', rename(NIC, 'wan0')],
    ['whose NIC has another MAC and name', `ip link set ${NIC} address ${NEW}`, rename(NIC, 'wan0')],
  ] as const)
    it(`${what}: an empty if_list takes all of it down`, async (t) => {
      const lab = await router(t, 'ovs');
      for (const act of script) await (act === 'reload' ? again(lab) : shell(lab, act));
      await takesAllDown(lab);
      assert.deepEqual([await isBridge(lab), await is(lab, 'brq')], [false, false]);
    });

  it('whose link is renamed is refused, with the cure', async (t) => {
    const lab = await router(t, 'ovs');
    await shell(lab, rename('br-ex', 'brq'));
    const [status, , message] = await refused(lab, bridged(config, 'ovs'));
    assert.equal(status, 65);
    assert.match(
      message,
      /the link of the bridge br-ex has the name brq now: give it its own again: ip link set dev brq name br-ex/,
    );
    assert.deepEqual(await carriersOf(lab), onlyOn('brq'));
    await shell(lab, 'ip link set brq down; ip link set brq name br-ex up');
    assert.deepEqual(await again(lab), []);
    assert.deepEqual([await carriersOf(lab), await reached(lab)], [onlyOn('br-ex'), true]);
    await takesAllDown(lab);
    assert.equal(await isBridge(lab), false);
  });

  it('whose link is renamed, with addresses of others: the bridge stays, with what is theirs', async (t) => {
    for (const address of ['192.0.2.55/24', '2001:db8:1::7/64']) {
      const lab = await router(t, 'ovs');
      await shell(lab, `${rename('br-ex', 'brq')}; ip address add ${address} dev brq`);
      const { warnings } = await reload(lab, 'if_list: []\n');
      assert.deepEqual(warnings, [
        { message: 'the bridge br-ex stays: it has other ports, or addresses that are not ours' },
      ]);
      assert.deepEqual(await carriersOf(lab), []);
      assert.ok((await shell(lab, 'ip -o address show dev brq')).includes(address));
      assert.equal(await shell(lab, vsctl('list-ports br-ex')), '');
    }
  });

  it('removed by others, who made one of its name with the NIC in it: that stays, also when it has been used', async (t) => {
    const lab = await router(t, 'ovs');
    await shell(lab, vsctl('del-br br-ex -- add-br br-ex -- add-port br-ex', NIC));
    await reload(lab, 'if_list: []\n');
    assert.deepEqual([await isBridge(lab), await shell(lab, vsctl('list-ports br-ex'))], [true, `${NIC}\n`]);
    await reload(lab, bridged(config, 'ovs'));
    assert.deepEqual([await carriersOf(lab), await reached(lab)], [onlyOn('br-ex'), true]);
    await takesAllDown(lab);
    assert.equal(await isBridge(lab), true);
  });

  it('used, made by others, stays theirs while Open vSwitch is silent', async (t) => {
    const lab = await createOvsLab();
    t.after(() => lab.close());
    await shell(lab, vsctl('add-br br-ex'));
    await reload(lab, bridged(config, 'ovs'));
    await lab.stopDatabase();
    await again(lab);
    await shell(
      lab,
      'ovsdb-server /etc/openvswitch/conf.db --remote=punix:/run/openvswitch/db.sock --pidfile --detach --no-chdir --log-file -vconsole:off',
    );
    await again(lab);
    assert.deepEqual(await carriersOf(lab), onlyOn('br-ex'));
    await takesAllDown(lab);
    assert.equal(await isBridge(lab), true);
  });

  it('from before the machine went down is ours still', async (t) => {
    const lab = await router(t, 'ovs');
    await reboot(lab, 'machine');
    await takesAllDown(lab);
    assert.equal(await isBridge(lab), false);
  });
});
