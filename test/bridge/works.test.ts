// A move to a bridge, or back, is a success only where what passed before passes after it; and what does not is said.

import assert from 'node:assert/strict';
import { describe, it, type TestContext } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { json } from '../confirm/router.ts';
import { ADDRESSES, createLab, type Lab, NICS } from '../lab/lab.ts';
import { networkOf } from '../lab/state.ts';
import { EIPS, elastic } from '../lab/table.ts';
import { createTraffic } from '../lab/traffic.ts';
import { bridged, refused, reload, shell } from './moves.ts';
import { createOvsLab, type OvsLab } from './ovs.ts';

const { out, router: uplink } = ADDRESSES;
const NIC = NICS.public.device;
const MAC = '02:00:00:00:00:99';
const RECORD = '/var/lib/kylin-vr/owned.json';

type Kind<L extends Lab = Lab> = {
  type: 'linux' | 'ovs';
  create(): Promise<L>;
  make: string;
  mac: string;
  add: string;
};
const linux: Kind = {
  type: 'linux',
  create: createLab,
  make: 'ip link add br-ex type bridge',
  mac: `ip link set br-ex address ${MAC}`,
  add: `ip link set ${NIC} master br-ex`,
};
const ovs: Kind<OvsLab> = {
  type: 'ovs',
  create: createOvsLab,
  make: 'ovs-vsctl --timeout=10 add-br br-ex',
  mac: `ovs-vsctl --timeout=10 set Bridge br-ex other-config:hwaddr='"${MAC}"'`,
  add: `ovs-vsctl --timeout=10 add-port br-ex ${NIC}`,
};

const onBridge = ({ type }: Kind) => bridged(elastic.config, type);

async function labOf<L extends Lab>(t: TestContext, { create }: Kind<L>): Promise<L> {
  const lab = await create();
  t.after(() => lab.close());
  return lab;
}

/** On a busy machine neighbours hear of a bridge's MAC within some seconds. */
const reached = async (lab: Lab) =>
  (await lab.host('far').run(['sh', '-c', `for n in 1 2 3 4 5 6; do ping -c 1 -W 1 ${EIPS.x} && exit; done; exit 1`]))
    .status === 0;

const addressed = async (lab: Lab) =>
  (await shell(lab, `ip -4 -o address show | awk '$4 == "${uplink}/24" { print $2 }'`)).trim();

const says = (warnings: readonly { message: string }[], text: RegExp) =>
  assert.match(warnings.map(({ message }) => message).join('\n'), text);

type State = {
  inSync: boolean;
  nics: { state: string }[];
  eips: { state: string }[];
  warnings: { message: string }[];
};
const stateOf = async (lab: Lab) => {
  const { inSync, nics, eips, warnings } = await json<State>(lab, 'status');
  assert.ok(!inSync || nics.every(({ state }) => state !== 'error'));
  return { nic: nics[0]?.state, eip: eips[0]?.state, warnings };
};

/** As the port of a switch that lets known MACs pass only. */
const stop = (mac: string) =>
  `nft add table arp port; nft add chain arp port in '{ type filter hook input priority 0; }'; nft add rule arp port in arp saddr ether ${mac} drop`;
const stops = (lab: Lab, mac?: string) =>
  lab.host('out').run(['sh', '-ec', mac === undefined ? 'nft delete table arp port' : stop(mac)], { check: true });

/** Its links have no carrier once its memory is gone. Asked for one link the kernel would say NO-CARRIER at once. */
const KILL_SWITCH = `kill -9 $(cat /run/openvswitch/ovs-vswitchd.pid)
  timeout 30 sh -c 'while ip address show | grep -q " br-ex: .*LOWER_UP"; do sleep 0.01; done'`;

/** What makes a bridge that nothing passes through, and what to look at. */
const CLOSED: [what: string, kind: Kind, make: string, open: string, look: RegExp][] = [
  [
    'fail_mode=secure without flows',
    ovs,
    `${ovs.make} -- set-fail-mode br-ex secure`,
    'ovs-vsctl --timeout=10 del-fail-mode br-ex',
    /look at fail_mode \(ovs-vsctl get-fail-mode br-ex\), flows \(ovs-ofctl dump-flows br-ex\), the tag of eth0 and br-ex \(ovs-vsctl list Port\) and STP \(ovs-vsctl list Bridge\); /,
  ],
  [
    'the tag of another VLAN',
    ovs,
    `${ovs.make} -- set port br-ex tag=100`,
    'ovs-vsctl --timeout=10 clear port br-ex tag',
    /look at fail_mode /,
  ],
];

describe('a bridge that nothing passes through', { concurrency: 2 }, () => {
  for (const [what, kind, make, open, look] of CLOSED)
    it(`${what}: the move is taken back`, async (t) => {
      const lab = await labOf(t, kind);
      await reload(lab, elastic.config);
      await shell(lab, make);
      const found = await networkOf(lab.router);
      const [status, result, message] = await refused(lab, onBridge(kind));
      assert.deepEqual([status, result], [69, 'rolled-back']);
      assert.match(
        message,
        new RegExp(
          `^the gateway ${out} answered by ARP before, and does not on br-ex within \\d+ s: look at fail_mode `,
        ),
      );
      assert.match(message, look);
      assert.equal(await networkOf(lab.router), found);
      assert.equal(await reached(lab), true);
      await shell(lab, open);
      await reload(lab, onBridge(kind));
      assert.deepEqual([await addressed(lab), await reached(lab)], ['br-ex', true]);
    });

  it('one after the other, and after a bridge of ours of that name: each move is taken back', async (t) => {
    const lab = await labOf(t, ovs);
    await reload(lab, elastic.config);
    await reload(lab, onBridge(ovs));
    await reload(lab, elastic.config);
    for (const [what, , make] of CLOSED) {
      await shell(lab, make);
      const found = await networkOf(lab.router);
      const [status, result] = await refused(lab, onBridge(ovs));
      assert.deepEqual([status, result], [69, 'rolled-back'], what);
      assert.equal(await shell(lab, 'ovs-vsctl --timeout=10 list-ports br-ex'), '');
      assert.equal(await networkOf(lab.router), found);
      assert.equal(await reached(lab), true);
      await shell(lab, 'ovs-vsctl --timeout=10 del-br br-ex');
    }
  });

  for (const [times, end] of [
    [1, 'rolled-back'],
    [99, 'failed'],
  ] as const)
    it(`while Open vSwitch is silent, ${times === 1 ? 'once' : 'for longer'}: the port is taken out, or said to be there`, async (t) => {
      const lab = await labOf(t, ovs);
      await reload(lab, elastic.config);
      await shell(lab, `${ovs.make} -- set port br-ex tag=100`);
      const found = await networkOf(lab.router);
      const ports = () => shell(lab, 'ovs-vsctl --timeout=10 list-ports br-ex');
      const script = (await lab.router.read('/usr/bin/ovs-vsctl')) ?? '';
      const silent = `#!/bin/sh
left=$(cat /run/silent 2> /dev/null)
case "$*" in *'list Bridge'*) [ "\${left:-0}" = 0 ] || { echo $((left - 1)) > /run/silent; exit 1; } ;; esac
`;
      await lab.router.write('/usr/bin/ovs-vsctl', script.replace('#!/bin/sh\n', silent), 0o755);
      await lab.configure(onBridge(ovs));
      const running = json(lab, 'reload');
      while ((await ports()) === '') await sleep(50);
      // Its gateway is asked by now.
      await sleep(4000);
      await shell(lab, `echo ${times} > /run/silent`);
      const { status, result, warnings } = await running;
      assert.deepEqual([status, result], [69, end]);
      if (end === 'failed')
        says(
          warnings,
          /^eth0 may be a port of br-ex still: Open vSwitch is silent: it does not answer: .*; the next reload tries again$/m,
        );
      await shell(lab, 'rm -f /run/silent');
      if (end === 'failed') assert.equal((await json(lab, 'reload', '--trigger', 'timer')).status, 0);
      assert.deepEqual([await ports(), await reached(lab)], ['', true]);
      if (end === 'rolled-back') assert.equal(await networkOf(lab.router), found);
    });

  for (const kind of [linux, ovs])
    it(`a record that nobody can write: a move is taken back all the same, at once and when it waited: ${kind.type}`, async (t) => {
      const lab = await labOf(t, kind);
      await reload(lab, elastic.config);
      await shell(lab, `${kind.make}; ${kind.mac}; touch ${RECORD}; mount --bind ${RECORD} ${RECORD}`);
      const found = await networkOf(lab.router);
      for (const isClosed of [true, false]) {
        await stops(lab, isClosed ? MAC : undefined);
        await lab.configure(onBridge(kind));
        const { status, result, warnings } = await json(lab, 'reload', ...(isClosed ? [] : ['--confirm-within', '60']));
        assert.deepEqual([status, result], isClosed ? [69, 'rolled-back'] : [0, 'changed']);
        says(warnings, /^writing \S+owned\.json: EBUSY/m);
        if (!isClosed) assert.equal((await lab.kylin('rollback')).status, 0);
        assert.equal(await networkOf(lab.router), found);
        assert.equal(await reached(lab), true);
      }
    });

  it('a switch that lets other MACs pass only: taken back, there and back', async (t) => {
    const lab = await labOf(t, linux);
    await reload(lab, elastic.config);
    await shell(lab, `${linux.make}; ${linux.mac}`);
    for (const [mac, to, look] of [
      [
        MAC,
        onBridge(linux),
        'on br-ex within 8 s: look at STP (bridge link), the MAC and the VLANs of br-ex (bridge vlan), rules of others (nft list ruleset) and what the switch lets pass; ',
      ],
      [
        NICS.public.mac,
        elastic.config,
        'on eth0 within 8 s: look at the VLAN of eth0, rules of others (nft list ruleset) and what the switch lets pass; ',
      ],
    ] as const) {
      await stops(lab, mac);
      const found = await networkOf(lab.router);
      const [status, result, message] = await refused(lab, to);
      assert.deepEqual([status, result], [69, 'rolled-back']);
      assert.ok(message.replace(/within \d+ s/, 'within 8 s').includes(look), message);
      assert.equal(await networkOf(lab.router), found);
      assert.equal(await reached(lab), true);
      await stops(lab);
      await reload(lab, to);
      assert.equal(await reached(lab), true);
    }
  });

  it('is said by status when it came to that later', async (t) => {
    const lab = await labOf(t, ovs);
    await reload(lab, onBridge(ovs));
    assert.deepEqual(await stateOf(lab).then(({ nic, eip }) => [nic, eip]), ['active', 'active']);
    await shell(lab, 'ovs-vsctl --timeout=10 set-fail-mode br-ex secure; ovs-ofctl del-flows br-ex');
    const { nic, eip, warnings } = await stateOf(lab);
    assert.deepEqual([nic, eip], ['error', 'error']);
    says(
      warnings,
      new RegExp(
        `^the gateway ${out} does not answer by ARP on br-ex, so that nothing passes: look at fail_mode `,
        'm',
      ),
    );
    await shell(lab, `ip neighbour replace ${out} lladdr 02:00:00:00:00:01 dev br-ex nud permanent`);
    assert.equal((await stateOf(lab)).nic, 'active');
  });

  it('a run by itself that keeps the last good configuration says so, and makes the move once', async (t) => {
    const lab = await labOf(t, ovs);
    await reload(lab, onBridge(ovs));
    await shell(
      lab,
      `ovs-vsctl --timeout=10 del-port br-ex ${NIC} -- set-fail-mode br-ex secure; ovs-ofctl del-flows br-ex
       ip address add ${uplink}/24 dev ${NIC}; ip route add ${out} dev ${NIC}`,
    );
    const { status, result, warnings } = await json(lab, 'reload', '--trigger', 'timer');
    assert.deepEqual([status, result], [0, 'changed']);
    says(warnings, new RegExp(`^the gateway ${out} answered by ARP before, and does not on br-ex within `, 'm'));
    assert.equal((await json(lab, 'reload', '--trigger', 'timer')).result, 'unchanged');
  });

  for (const kind of [linux, ovs])
    it(`a reload with nothing to do says so, and one of the timer does not ask: ${kind.type}`, async (t) => {
      const lab = await labOf(t, kind);
      await reload(lab, onBridge(kind));
      const pure = await reload(lab, onBridge(kind));
      assert.deepEqual([pure.result, pure.warnings], ['unchanged', []]);
      await lab.host('out').run(['ip', 'link', 'set', 'eth0', 'arp', 'off'], { check: true });
      const SILENT = new RegExp(
        `^the gateway ${out} does not answer by ARP on br-ex, so that nothing passes: look at `,
        'm',
      );
      // What the last run found is known, or not.
      for (const forget of [':', 'rm -f /run/kylin-vr/quiet', ':']) {
        await shell(lab, forget);
        const { result, warnings } = await reload(lab, onBridge(kind));
        assert.equal(result, 'unchanged');
        says(warnings, SILENT);
        assert.deepEqual((await json(lab, 'reload', '--trigger', 'timer')).warnings, []);
      }
      await lab.host('out').run(['ip', 'link', 'set', 'eth0', 'arp', 'on'], { check: true });
      assert.deepEqual((await reload(lab, onBridge(kind))).warnings, []);
    });

  it('ports of others with a tag are named', async (t) => {
    const lab = await labOf(t, ovs);
    await reload(lab, elastic.config);
    await shell(
      lab,
      `${ovs.make} -- add-port br-ex vlan7 tag=7 -- set Interface vlan7 type=internal -- set port br-ex tag=100`,
    );
    const [status, , message] = await refused(lab, onBridge(ovs));
    assert.equal(status, 69);
    const [, named = ''] = /; ports of it with a tag: ([^;]+);/.exec(message) ?? [];
    assert.deepEqual(named.split(', ').sort(), ['br-ex (100)', 'vlan7 (7)'], message);
  });

  for (const kind of [linux, ovs])
    it(`a NIC that is pulled while its gateway is asked is pending: ${kind.type}`, async (t) => {
      const lab = await labOf(t, kind);
      await reload(lab, elastic.config);
      await shell(lab, `${kind.make}; ${kind.mac}`);
      await stops(lab, MAC);
      await lab.configure(onBridge(kind));
      const running = json(lab, 'reload');
      await sleep(4000);
      await lab.router.unplug(NICS.public);
      const { status, result, errors, warnings } = await running;
      assert.deepEqual([status, result, errors], [0, 'changed', []], JSON.stringify(warnings));
      const { nics } = await json<State>(lab, 'status');
      assert.equal(nics[0]?.state, 'pending');
      assert.equal(await addressed(lab), '');
      assert.equal((await reload(lab, onBridge(kind))).result, 'unchanged');
      await stops(lab);
      await lab.router.plug(NICS.public);
      await reload(lab, onBridge(kind));
      assert.deepEqual([await addressed(lab), await reached(lab)], ['br-ex', true]);
    });

  it('a gateway that did not answer before is no reason', async (t) => {
    const lab = await labOf(t, linux);
    await reload(lab, elastic.config);
    await lab.host('out').run(['ip', 'link', 'set', 'eth0', 'arp', 'off'], { check: true });
    for (const [config, device] of [
      [onBridge(linux), 'br-ex'],
      [elastic.config, NIC],
    ] as const)
      says(
        (await reload(lab, config)).warnings,
        new RegExp(
          `^the gateway ${out} does not answer by ARP on ${device}, and did not before either: whether anything passes is not known$`,
          'm',
        ),
      );
  });

  it('without a gateway, what route_list names is asked', async (t) => {
    const lab = await labOf(t, linux);
    const { mac, device } = NICS.a;
    const route = `route_list: [{ dest: 172.24.4.0/24, via: ${ADDRESSES.v} }]\n`;
    const plain = `if_list:\n  - { ipaddr: 10.10.1.254, prefix: 24, mac: '${mac}' }\n${route}`;
    await reload(lab, plain);
    await shell(lab, `ip link add br-in address ${MAC} type bridge`);
    await lab.host('v').run(['sh', '-ec', stop(MAC)], { check: true });
    const [status, result, message] = await refused(
      lab,
      plain.replace(`mac: '${mac}'`, `mac: '${mac}', bridge: br-in, bridge-type: linux`),
    );
    assert.deepEqual([status, result], [69, 'rolled-back']);
    assert.match(message, new RegExp(`^the gateway ${ADDRESSES.v} answered by ARP before, and does not on br-in `));
    assert.match(await shell(lab, `ip -4 -o address show dev ${device}`), /10\.10\.1\.254/);
  });
});

describe('a spanning tree that listens first', { concurrency: 2 }, () => {
  it('is waited for, on a Linux bridge', async (t) => {
    const lab = await labOf(t, linux);
    await reload(lab, elastic.config);
    await shell(lab, `${linux.make} stp_state 1 forward_delay 600`);
    const traffic = createTraffic(lab);
    const announcements = await traffic.announcements('out');
    await reload(lab, onBridge(linux));
    const isOpen = (await shell(lab, 'bridge link')).includes('state forwarding');
    assert.deepEqual([isOpen, await reached(lab)], [true, true]);
    const heard = () => announcements.heard().some(({ address }) => address === uplink);
    for (let tries = 0; !heard() && tries < 30; tries++) await sleep(100);
    announcements.stop();
    assert.ok(heard(), 'announced when it was heard');
    assert.equal((await reload(lab, onBridge(linux))).result, 'unchanged');
  });

  it('is waited for, on one of Open vSwitch', async (t) => {
    const lab = await labOf(t, ovs);
    await reload(lab, elastic.config);
    await shell(
      lab,
      `${ovs.make} -- set Bridge br-ex stp_enable=true other_config:stp-forward-delay=4 other_config:stp-max-age=6`,
    );
    await reload(lab, onBridge(ovs));
    assert.deepEqual([await addressed(lab), await reached(lab)], ['br-ex', true]);
  });

  it('is said where it began later', async (t) => {
    const lab = await labOf(t, linux);
    await reload(lab, onBridge(linux));
    await shell(
      lab,
      'ip link set br-ex type bridge stp_state 1 forward_delay 600; ip link set br-ex down; ip link set br-ex up',
    );
    await shell(lab, `ip route add default via ${out} dev br-ex proto 175 2> /dev/null || true`);
    const { eip, warnings } = await stateOf(lab);
    assert.equal(eip, 'error');
    says(warnings, /^nothing passes by eth0 as long as STP of br-ex has it (listening|learning): see bridge link$/m);
  });
});

describe('links that are down', { concurrency: 2 }, () => {
  for (const kind of [linux, ovs])
    it(`the bridge, and its port, are brought up: ${kind.type}`, async (t) => {
      const lab = await labOf(t, kind);
      await reload(lab, onBridge(kind));
      for (const device of ['br-ex', NIC]) {
        await shell(lab, `ip link set ${device} down`);
        assert.equal((await lab.kylin('status')).status, 2);
        const { result, steps } = await reload(lab, onBridge(kind));
        assert.equal(result, 'changed');
        assert.ok(
          steps.some(({ text }) => text === `~ link ${device} up`),
          JSON.stringify(steps),
        );
        assert.equal(await reached(lab), true);
      }
    });

  it('ovs-vswitchd was killed: the addresses are on the NIC until it is back', async (t) => {
    const lab = await labOf(t, ovs);
    await reload(lab, onBridge(ovs));
    for (const change of ['', 'ip link set br-ex down']) {
      await shell(lab, `${KILL_SWITCH}; ${change}`);
      const { warnings } = await reload(lab, onBridge(ovs));
      says(
        warnings,
        /^bridge br-ex is pending, and its addresses are on eth0 until then: Open vSwitch is silent: its database names br-ex, and nobody is at such a link: see systemctl status ovs-vswitchd$/m,
      );
      assert.deepEqual([await addressed(lab), await reached(lab)], [NIC, true]);
      assert.equal((await stateOf(lab)).nic, 'pending');
      assert.equal((await reload(lab, onBridge(ovs))).result, 'unchanged');
      await shell(
        lab,
        'rm -f /run/openvswitch/ovs-vswitchd.pid; ovs-vswitchd --pidfile --detach --no-chdir --log-file -vconsole:off',
      );
      await reload(lab, onBridge(ovs));
      assert.deepEqual([await addressed(lab), await reached(lab)], ['br-ex', true]);
    }
    await shell(lab, KILL_SWITCH);
    await reload(lab, elastic.config);
    assert.deepEqual([await addressed(lab), await reached(lab)], [NIC, true]);
  });
});

describe('neighbours are told', { concurrency: 2 }, () => {
  const address = `ip link set br-ex up; ip address add ${uplink}/24 dev br-ex; ip address add ${EIPS.x}/32 dev br-ex`;
  for (const kind of [linux, ovs])
    for (const [what, make] of [
      ['an address that the bridge has already', `${kind.make}; ${kind.mac}; ${address}`],
      ['a bridge that is set up already', `${kind.make}; ${kind.mac}; ip link set ${NIC} up; ${kind.add}; ${address}`],
    ] as const)
      it(`of ${what}: ${kind.type}`, async (t) => {
        const lab = await labOf(t, kind);
        await reload(lab, elastic.config);
        await lab.host('out').run(['ping', '-c', '1', '-W', '1', uplink]);
        await shell(lab, `ip address flush dev ${NIC}; ${make}`);
        await shell(lab, 'rm -f /var/lib/kylin-vr/owned.json');
        const traffic = createTraffic(lab);
        const announcements = await traffic.announcements('out');
        const { steps } = await reload(lab, onBridge(kind));
        assert.ok(
          steps.some(({ text }) => /^! announce 6 addresses on br-ex$/.test(text)),
          JSON.stringify(steps),
        );
        const heard = (wanted: string) =>
          announcements.heard().some(({ address, mac }) => address === wanted && mac === MAC);
        for (let tries = 0; !(heard(uplink) && heard(EIPS.x)) && tries < 30; tries++) await sleep(100);
        announcements.stop();
        assert.deepEqual([heard(uplink), heard(EIPS.x)], [true, true], JSON.stringify(announcements.heard()));
        assert.equal(await reached(lab), true);
        assert.equal((await reload(lab, onBridge(kind))).result, 'unchanged');
      });

  for (const kind of [linux, ovs])
    it(`when somebody gave it another MAC: ${kind.type}`, async (t) => {
      const lab = await labOf(t, kind);
      await reload(lab, onBridge(kind));
      const traffic = createTraffic(lab);
      const announcements = await traffic.announcements('out');
      await shell(lab, kind.mac);
      // Open vSwitch sets the link down for that, and routes go.
      await reload(lab, onBridge(kind));
      const heard = () => announcements.heard().some(({ address, mac }) => address === uplink && mac === MAC);
      for (let tries = 0; !heard() && tries < 30; tries++) await sleep(100);
      announcements.stop();
      assert.ok(heard());
      assert.equal(await reached(lab), true);
    });

  it('of more addresses than arping is started for, by the MAC that the bridge has then', async (t) => {
    const lab = await labOf(t, linux);
    const many = `eip_list:\n${Array.from({ length: 12 }, (_, n) => `  - { eip: 203.0.113.${100 + n}, vm-ip: 10.10.1.${50 + n} }\n`).join('')}`;
    const config = `if_list:
  - { ipaddr: ${uplink}, prefix: 24, mac: '${NICS.public.mac}', gateway: ${out} }
  - { ipaddr: 10.10.1.254, prefix: 24, mac: '${NICS.a.mac}' }\n${many}`;
    await reload(lab, config);
    await shell(lab, `${linux.make}`);
    await reload(lab, bridged(config, 'linux'));
    assert.match(await shell(lab, 'ip link show br-ex'), new RegExp(NICS.public.mac));
    assert.equal((await lab.host('out').run(['ping', '-c', '2', '-W', '1', '203.0.113.100'])).status, 1);
    assert.match(
      (await lab.host('out').run(['ip', 'neighbour', 'show', '203.0.113.100'])).stdout,
      new RegExp(NICS.public.mac),
    );
  });
});

describe('an MTU that a bridge has not', { concurrency: 2 }, () => {
  const wide = (kind: Kind) => onBridge(kind).replace('bridge: br-ex', 'mtu: 9000, bridge: br-ex');
  const mtuOf = async (lab: Lab) => /mtu (\d+)/.exec(await shell(lab, 'ip link show br-ex'))?.[1];
  const other = 'ip link add p0 type veth peer name p1; ip link set p0 up';
  for (const kind of [linux, ovs]) {
    it(`a port that has less: ${kind.type}`, async (t) => {
      const lab = await labOf(t, kind);
      const add = kind.type === 'ovs' ? 'ovs-vsctl --timeout=10 add-port br-ex p0' : 'ip link set p0 master br-ex';
      await shell(lab, `${kind.make}; ${other}; ${add}`);
      const HELD =
        /^br-ex has an MTU of 1500, and not the 9000 of the file: its port p0 has no more; where it can have more, ip link set dev p0 mtu 9000, else say mtu: 1500$/m;
      says((await reload(lab, wide(kind))).warnings, HELD);
      const again = await reload(lab, wide(kind));
      assert.equal(again.result, 'unchanged');
      says(again.warnings, HELD);
      says((await stateOf(lab)).warnings, HELD);
      await shell(lab, 'ip link set dev p0 mtu 9000; sleep 0.5');
      const cured = await reload(lab, wide(kind));
      assert.deepEqual([cured.result, cured.warnings, await mtuOf(lab)], ['unchanged', [], '9000']);
    });

    it(`somebody set it: ${kind.type}`, async (t) => {
      const lab = await labOf(t, kind);
      const set = (mtu: number) =>
        kind.type === 'ovs' ? `ovs-vsctl set Interface br-ex mtu_request=${mtu}` : `ip link set dev br-ex mtu ${mtu}`;
      await reload(lab, wide(kind));
      assert.equal(await mtuOf(lab), '9000');
      await shell(lab, `${set(1400)}; sleep 0.5`);
      const low = await reload(lab, wide(kind));
      assert.equal(low.result, 'unchanged');
      says(
        low.warnings,
        new RegExp(
          `^br-ex has an MTU of 1400, and not the 9000 of the file, since somebody set it: ${set(9000)}$`,
          'm',
        ),
      );
      await shell(lab, `${set(9000)}; sleep 0.5`);
      const narrow = onBridge(kind).replace('bridge: br-ex', 'mtu: 1500, bridge: br-ex');
      says(
        (await reload(lab, narrow)).warnings,
        new RegExp(
          `^br-ex has an MTU of 9000, and its port eth0 has 1500: packets in between are lost: ${set(1500)}$`,
          'm',
        ),
      );
      await shell(lab, `${set(1500)}; sleep 0.5`);
      assert.deepEqual((await reload(lab, narrow)).warnings, []);
    });
  }
});
