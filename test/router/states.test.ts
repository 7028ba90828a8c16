// An EIP or forward is `active` where a packet gets through, and only there: held against real packets, whatever is wrong.

import assert from 'node:assert/strict';
import { after, before, describe, it } from 'node:test';
import { json, ok, shell } from '../confirm/router.ts';
import { ADDRESSES, createLab, type HostName, type Lab, NICS } from '../lab/lab.ts';
import { EIPS, elastic, NEAR } from '../lab/table.ts';
import { createTraffic, type Traffic } from '../lab/traffic.ts';

type Status = { eips: Row[]; forwards: (Row & { port: number })[]; warnings: { message: string }[] };
type Row = { eip: string; state: string };

const UPLINK = 'the uplink';
const SUBNET = "v's subnet";

/** Who is cut off; the rest is reached. */
const CUT = { [UPLINK]: ['v', 'w', 'x'], [SUBNET]: ['v', 'w'], v: ['v'], x: ['x'], w: ['w'] } as const;

/** arping goes on announcing for three seconds, and would tell neighbours of what is gone. */
const gone = (address: string) => `sleep 3; ip address delete ${address}/32 dev eth0`;

type Fault = [what: string, cut: keyof typeof CUT, make: string, undo?: string];
const FAULTS: Fault[] = [
  ['the uplink down', UPLINK, 'ip link set eth0 down'],
  ['the uplink without ARP', UPLINK, 'ip link set eth0 arp off', 'ip link set eth0 arp on'],
  [
    'ARP for no address',
    UPLINK,
    'sysctl -qw net.ipv4.conf.all.arp_ignore=8',
    'sysctl -qw net.ipv4.conf.all.arp_ignore=0',
  ],
  ['ARP for no address of the uplink', UPLINK, 'sysctl -qw net.ipv4.conf.eth0.arp_ignore=8'],
  ['no default route', UPLINK, 'ip route delete default'],
  ["no route to the uplink's network, nor out", UPLINK, 'ip route flush dev eth0'],
  ['no address on the uplink', UPLINK, 'ip address flush dev eth0'],
  ['the address of an EIP gone', 'v', gone(EIPS.v)],
  ['the address of a forward gone', 'w', gone(NEAR)],
  ['no forwarding', UPLINK, 'sysctl -qw net.ipv4.ip_forward=0'],
  ['no forwarding of what comes in by the uplink', UPLINK, 'sysctl -qw net.ipv4.conf.eth0.forwarding=0'],
  ['no forwarding of what comes in by a subnet', SUBNET, 'sysctl -qw net.ipv4.conf.eth1.forwarding=0'],
  [
    'the uplink in a bridge of somebody',
    UPLINK,
    'ip link add br-op up type bridge; ip link set eth0 master br-op',
    'ip link delete br-op',
  ],
  ['a subnet down', SUBNET, 'ip link set eth1 down'],
  ['a subnet without ARP', SUBNET, 'ip link set eth1 arp off', 'ip link set eth1 arp on'],
  ['a subnet without its address', SUBNET, 'ip address flush dev eth1'],
  ['a subnet without its route', SUBNET, 'ip route delete 10.10.1.0/24 dev eth1'],
  [
    'another default route before ours, which does not count any more',
    UPLINK,
    'ip route delete default; ip route add default via 10.10.2.21 dev eth2; ip route append default via 203.0.113.1 dev eth0 proto 175',
    'ip route delete default via 10.10.2.21',
  ],
  [
    'a half of all addresses by another way',
    UPLINK,
    'ip route add 128.0.0.0/1 via 10.10.2.21',
    'ip route delete 128.0.0.0/1',
  ],
  [
    'another default route before ours, by another gateway of the same network',
    UPLINK,
    'ip route prepend default via 203.0.113.99',
    'ip route delete default via 203.0.113.99',
  ],
  [
    'a VM by a gateway in its own subnet',
    'v',
    `ip route add ${ADDRESSES.v} via 10.10.1.99`,
    `ip route delete ${ADDRESSES.v}`,
  ],
  [
    "the VM's part of a subnet by another way",
    SUBNET,
    'ip route add 10.10.1.0/28 dev eth2',
    'ip route delete 10.10.1.0/28 || true',
  ],
  ['no way to a VM', 'v', `ip route add unreachable ${ADDRESSES.v}`, `ip route delete unreachable ${ADDRESSES.v}`],
  [
    'the address of a VM on the router itself',
    'v',
    `ip address add ${ADDRESSES.v}/32 dev lo`,
    `ip address delete ${ADDRESSES.v}/32 dev lo`,
  ],
  ...(['blackhole', 'prohibit', 'throw'] as const).flatMap((type): Fault[] => [
    [`a VM: ${type}`, 'v', `ip route add ${type} ${ADDRESSES.v}`, `ip route delete ${type} ${ADDRESSES.v}`],
    [
      `a part of a subnet: ${type}`,
      SUBNET,
      `ip route add ${type} 10.10.1.0/28`,
      `ip route delete ${type} 10.10.1.0/28`,
    ],
    [
      `a half of all addresses: ${type}`,
      UPLINK,
      `ip route add ${type} 128.0.0.0/1`,
      `ip route delete ${type} 128.0.0.0/1`,
    ],
    [`all addresses: ${type}`, UPLINK, `ip route prepend ${type} default`, `ip route delete ${type} default`],
  ]),
  // By `throw` the next table is asked.
  ...(['blackhole', 'prohibit'] as const).map(
    (type): Fault => [
      `a subnet, by a table that is asked before: ${type}`,
      SUBNET,
      `ip route add ${type} 10.10.1.0/24 table 77; ip route add unreachable default table 77 metric 9; ip rule add priority 10 to 10.10.1.0/24 lookup 77`,
      'ip rule delete priority 10; ip route flush table 77',
    ],
  ),
  [
    'a rule that swallows what a VM sends',
    'v',
    `ip rule add priority 10 from ${ADDRESSES.v} blackhole`,
    'ip rule delete priority 10',
  ],
  [
    'a rule that lets nothing to a VM',
    'v',
    `ip rule add priority 10 to ${ADDRESSES.v} unreachable`,
    'ip rule delete priority 10',
  ],
  [
    'a rule that leads what a VM sends by another table',
    'v',
    `ip route add default via 10.10.2.21 table 77; ip rule add priority 10 from ${ADDRESSES.v} lookup 77`,
    'ip rule delete priority 10; ip route flush table 77',
  ],
  ['a rule that prohibits all', UPLINK, 'ip rule add priority 10 prohibit', 'ip rule delete priority 10'],
  [
    'a rule that swallows what comes in',
    UPLINK,
    'ip rule add priority 10 iif eth0 blackhole',
    'ip rule delete priority 10',
  ],
  [
    'a subnet in a bridge of somebody',
    SUBNET,
    'ip link add br-op up type bridge; ip link set eth1 master br-op',
    'ip link delete br-op',
  ],
];

describe('the state of EIPs and forwards', { concurrency: false }, () => {
  let lab: Lab;
  let traffic: Traffic;
  before(async () => {
    lab = await createLab();
    traffic = createTraffic(lab);
    await traffic.listen('w', 'tcp', 80);
    await lab.configure(elastic.config);
    await ok(lab, 'reload');
  });
  after(() => lab?.close());

  const states = async (): Promise<Record<string, string | undefined>> => {
    const { eips, forwards } = await json<Status>(lab, 'status');
    const of = (eip: string) => eips.find((each) => each.eip === eip)?.state;
    return { v: of(EIPS.v), w: forwards.find(({ eip, port }) => eip === NEAR && port === 8080)?.state, x: of(EIPS.x) };
  };

  /** Neighbours forget each other: what is known still would hide that nobody is found. */
  const reached = async (): Promise<Record<string, boolean>> => {
    for (const host of ['out', 'v', 'w', 'x'] as HostName[])
      await lab.host(host).run(['ip', 'neigh', 'flush', 'all'], { check: true });
    await shell(lab, 'ip neigh flush all');
    const pong = async (eip: string) => {
      const answer = await traffic.ping('far', eip);
      return answer.reached && answer.hops > 1;
    };
    const [v, x, w] = await Promise.all([
      pong(EIPS.v),
      pong(EIPS.x),
      traffic.probe({ from: 'far', to: NEAR, port: 8080, transport: 'tcp', timeoutMs: 3000 }),
    ]);
    return { v, w: w.reached && w.by === 'w', x };
  };

  const expected = <T>(cut: keyof typeof CUT, yes: T, no: T) =>
    Object.fromEntries(['v', 'w', 'x'].map((vm) => [vm, (CUT[cut] as readonly string[]).includes(vm) ? no : yes]));

  const well = async () => {
    assert.deepEqual([await states(), await reached()], [expected('v', 'active', 'active'), expected('v', true, true)]);
  };

  for (const [what, cut, make, undo = 'true'] of FAULTS)
    it(what, async (t) => {
      await well();
      t.after(async () => {
        await shell(lab, undo);
        await ok(lab, 'reload');
      });
      await shell(lab, make);
      assert.deepEqual(await states(), expected(cut, 'active', 'error'));
      assert.deepEqual(await reached(), expected(cut, true, false));
    });

  for (const [nic, cut] of [
    [NICS.public, UPLINK],
    [NICS.a, SUBNET],
  ] as const) {
    it(`${nic.device} without a carrier, which is said, and in sync all the same`, async (t) => {
      await well();
      t.after(() => lab.wire(nic, 'up'));
      await lab.wire(nic, 'down');
      assert.deepEqual(await states(), expected(cut, 'active', 'error'));
      assert.deepEqual(await reached(), expected(cut, true, false));
      const { status, warnings } = await json<Status>(lab, 'status');
      assert.deepEqual(
        [status, warnings.map(({ message }) => message)],
        [
          0,
          [
            `${nic.device} has no carrier, so nothing comes or goes by it: see its cable, or virsh domif-getlink on the host`,
          ],
        ],
      );
    });

    it(`${nic.device} unplugged`, async (t) => {
      await well();
      t.after(async () => {
        await lab.router.plug(nic);
        await ok(lab, 'reload');
      });
      await lab.router.unplug(nic);
      assert.deepEqual(await states(), expected(cut, 'active', 'pending'));
      assert.deepEqual(await reached(), expected(cut, true, false));
    });
  }

  for (const [vms, named] of [
    [['v'], ADDRESSES.v],
    [['v', 'w', 'x'], `${ADDRESSES.v}, ${ADDRESSES.x} and 1 more`],
  ] as const)
    it(`says where the kernel leads instead, in words that may be tried: ${vms.join(', ')}`, async (t) => {
      await well();
      const routes = (what: string) => vms.map((vm) => `ip route ${what} unreachable ${ADDRESSES[vm]}`).join('; ');
      t.after(() => shell(lab, routes('delete')));
      await shell(lab, routes('add'));
      const { status, warnings } = await json<Status>(lab, 'status');
      assert.deepEqual(
        [status, warnings.map(({ message }) => message)],
        [
          0,
          [
            `packets for ${named}, or their answers, do not go as the file says: ip route get ${ADDRESSES.v} from 203.0.113.1 iif eth0 gives ` +
              'unreachable; take away the route, rule or address that leads there',
          ],
        ],
      );
    });

  it('of what is behind a route is that of the route', async (t) => {
    const behind = elastic.config.replace(ADDRESSES.x, '172.30.0.5');
    await lab.configure(`${behind}route_list:\n  - { dest: 172.30.0.0/16, via: 10.10.2.21 }\n`);
    t.after(async () => {
      await lab.configure(elastic.config);
      await ok(lab, 'reload');
    });
    await ok(lab, 'reload');
    assert.deepEqual(await states(), expected('x', 'active', 'active'));
    await shell(lab, 'ip route delete 172.30.0.0/16');
    assert.deepEqual(await states(), expected('x', 'active', 'error'));
  });
});
