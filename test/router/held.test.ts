// NICs that cannot be used as they are: nothing is added to them, what is there stays, and what guards their addresses stays as long.

import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { createOvsLab } from '../bridge/ovs.ts';
import { apply, json, one, other, shell, warningsOf } from '../confirm/router.ts';
import { createLab, type Lab, NICS } from '../lab/lab.ts';
import { createTraffic } from '../lab/traffic.ts';

const { mac, device } = NICS.public;

type Status = { inSync: boolean; nics: { mac: string; state: string }[]; eips: { state: string }[] };

async function states(lab: Lab) {
  const { status, inSync, nics, eips } = await json<Status>(lab, 'status');
  return { status, inSync, uplink: nics.find((nic) => nic.mac === mac)?.state, eips: eips.map(({ state }) => state) };
}

const FAULTY = { status: 2, inSync: false, uplink: 'error', eips: ['error', 'error'] };
const WELL = { status: 0, inSync: true, uplink: 'active', eips: ['active', 'active'] };

/** As stack.sh of DevStack does it. */
const moveTo = (bridge: string) => `
  ip -4 -o address show dev ${device} | awk '{ print $4 }' > /run/moved
  ip address flush dev ${device}
  for spec in $(cat /run/moved); do ip address add $spec dev ${bridge}; done
  ip route replace default via 203.0.113.1 dev ${bridge}`;

const onLinks = (lab: Lab) => shell(lab, 'ip -4 -o address show; ip -4 route');

const TAKERS: [what: string, make: string, undo: string, said: string, key: string][] = [
  [
    'a Linux bridge, with its addresses',
    `ip link add br-op up type bridge; ip link set ${device} master br-op; ${moveTo('br-op')}`,
    'ip link delete br-op',
    `somebody made it a port of the bridge br-op, which takes what comes in by it: say bridge: br-op and bridge-type: linux where that is meant, or take it out with ip link set dev ${device} nomaster`,
    'bridge: br-op, bridge-type: linux',
  ],
  [
    'a Linux bridge, without its addresses',
    `ip link add br-op up type bridge; ip link set ${device} master br-op`,
    'ip link delete br-op',
    `somebody made it a port of the bridge br-op, which takes what comes in by it: say bridge: br-op and bridge-type: linux where that is meant, or take it out with ip link set dev ${device} nomaster`,
    'bridge: br-op, bridge-type: linux',
  ],
  [
    'a bridge of Open vSwitch',
    `ovs-vsctl --timeout=10 add-br br-op; ip link set br-op up; ovs-vsctl --timeout=10 add-port br-op ${device}; ${moveTo('br-op')}`,
    'ovs-vsctl --timeout=10 del-br br-op',
    `somebody made it a port of the bridge br-op, which takes what comes in by it: say bridge: br-op and bridge-type: ovs where that is meant, or take it out with ovs-vsctl del-port br-op ${device}`,
    'bridge: br-op, bridge-type: ovs',
  ],
];

describe('a NIC that somebody put into', { concurrency: 2 }, () => {
  for (const [what, make, undo, said, key] of TAKERS)
    it(`${what}: is in error, nothing is added to it, what is there stays, and the cure is said`, async (t) => {
      const lab = await (what.includes('Open vSwitch') ? createOvsLab() : createLab());
      t.after(() => lab.close());
      await apply(lab, one);
      assert.deepEqual(await states(lab), WELL);
      await shell(lab, make);
      const before = await onLinks(lab);
      for (const trigger of ['timer', 'operator']) {
        const report = await json(lab, 'reload', '--trigger', trigger);
        assert.deepEqual(
          [report.status, report.result, warningsOf(report)],
          [0, 'unchanged', [`NIC ${mac} (${device}) is left as it is: ${said}`]],
        );
      }
      assert.deepEqual(await states(lab), FAULTY);
      // Also where the file wants more of it, and less: the rest of the file is done.
      await lab.configure(other);
      const { status, steps } = await json(lab, 'reload');
      assert.deepEqual([status, steps.filter(({ text }) => / on | dev |route|ifcfg/.test(text))], [0, []]);
      assert.equal(await onLinks(lab), before);
      assert.match((await lab.router.run(['iptables-save', '-t', 'filter'])).stdout, /-d 203\.0\.113\.51\/32 -j DROP/);
      await apply(lab, one.replace('gateway: 203.0.113.1', `gateway: 203.0.113.1, ${key}`));
      assert.deepEqual(await states(lab), WELL);
      await shell(lab, `${undo} 2> /dev/null || true; ip link set ${device} nomaster up`);
      await apply(lab, one);
      assert.deepEqual(await states(lab), WELL);
    });
});

describe('the router itself does not answer on an EIP whose NIC', { concurrency: 2 }, () => {
  const LOST: [what: string, make: string, undo: string][] = [
    [
      'has another MAC',
      `ip link set ${device} down; ip link set ${device} address 52:54:84:99:99:99; ip link set ${device} up`,
      `ip link set ${device} down; ip link set ${device} address ${mac}; ip link set ${device} up`,
    ],
    [
      'has a name that cannot be used',
      `ip link set ${device} down; ip link set ${device} name a+; ip link set a+ up`,
      `ip link set a+ down; ip link set a+ name ${device}; ip link set ${device} up`,
    ],
    [
      'is a port of a bridge that somebody made',
      `ip link add br-op address ${mac} up type bridge; ip link set ${device} master br-op; ${moveTo('br-op')}`,
      `ip link set ${device} nomaster; ip link delete br-op`,
    ],
  ];
  for (const [what, make, undo] of LOST)
    it(what, async (t) => {
      const lab = await createLab();
      t.after(() => lab.close());
      const traffic = createTraffic(lab);
      await apply(lab, one);
      const eip = '203.0.113.50';
      await shell(lab, make);
      await traffic.listen('router', 'tcp', 22);
      // The kernel answers by what it has: there is an address, and somebody who listens.
      assert.equal((await json(lab, 'reload')).status, 0);
      assert.match(await shell(lab, 'ip -4 -o address show'), / 203\.0\.113\.50\/32 /);
      await shell(
        lab,
        'ip route replace 203.0.113.0/24 dev "$(ip -4 -o address show | awk \'$4 == "203.0.113.50/32" { print $2 }\')"',
      );
      const answer = await traffic.probe({ from: 'out', to: eip, port: 22, transport: 'tcp' });
      assert.notEqual(answer.reached && answer.by, 'router');
      assert.equal((await states(lab)).inSync, what.startsWith('has another MAC'));
      await shell(lab, undo);
      await apply(lab, one);
      assert.deepEqual(await states(lab), WELL);
    });
});
