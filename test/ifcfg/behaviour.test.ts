// What NetworkManager's ifcfg-rh plugin does, as far as the program relies on it: each test is one fact, seen on a real
// NetworkManager that has the plugin. Facts that do not depend on the format are in test/networkmanager.

import assert from 'node:assert/strict';
import { before, describe, it } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { eventually } from '../lab/eventually.ts';
import { NICS } from '../lab/lab.ts';
import { type NetworkManagerOptions, networkManagerIfcfg } from '../lab/networkmanager.ts';
import {
  A_WHILE_MS,
  type Bed,
  EIP,
  eips,
  FOREIGN,
  IFCFGS,
  ifcfg,
  KEYFILES,
  keyfile,
  OURS,
  OWN,
  watchKernel,
  withNetworkManager,
} from '../lab/profiles.ts';
import { createTraffic } from '../lab/traffic.ts';

const FILE = `${IFCFGS}/ifcfg-eth0`;
const KEYFILE = `${KEYFILES}/stale.nmconnection`;
const IDLE = 'disconnected';
/** Made from the path of the file: the same on every machine. */
const UUID = '5fb06bd0-0bb0-7ffb-45f1-d6edd65f3e03';
const ACTIVE = `connected ours ${UUID}`;

const reapply = (bed: Bed, device = 'eth0') => bed.nmcli('device', 'reapply', device);

async function activate(bed: Bed, text = ifcfg()): Promise<void> {
  await bed.load(FILE, text);
  await eventually(() => bed.device(), ACTIVE);
}

describe('NetworkManager with ifcfg-rh', { concurrency: false }, () => {
  let prefix: string;
  before(async () => {
    prefix = await networkManagerIfcfg();
  });
  const withIfcfg = (test: (bed: Bed) => Promise<void>, options: NetworkManagerOptions = {}) =>
    withNetworkManager({ manager: { ...options, prefix } }, test);

  it('`connection load` of a file with ONBOOT=yes activates an idle device, with ONBOOT=no it does not', () =>
    withIfcfg(async (bed) => {
      await bed.load(FILE, ifcfg().replace('ONBOOT=yes', 'ONBOOT=no'));
      await sleep(A_WHILE_MS);
      assert.equal(await bed.device(), IDLE);
      const addresses = [OWN, ...eips(1000)];
      await activate(bed, ifcfg({ addresses }));
      await eventually(() => bed.addresses(), addresses);
      const { stdout } = await bed.nmcli(
        '--terse',
        '--fields',
        'DEVICE,UUID,FILENAME',
        'connection',
        'show',
        '--active',
      );
      assert.equal(stdout.split('\n')[0], `eth0:${UUID}:${FILE}`);
    }));

  it('reapply adds and removes one of 1,000 addresses, touches no other, and loses no packet', () =>
    withIfcfg(async (bed) => {
      const addresses = [OWN, ...eips(1000)];
      await activate(bed, ifcfg({ addresses }));
      await eventually(() => bed.addresses(), addresses);
      const watch = await watchKernel(bed);
      const pings = await createTraffic(bed.lab).startPings({ from: 'out', to: '203.0.113.37', perSecond: 100 });
      for (const [wanted, changes] of [
        [addresses, []],
        [[...addresses, EIP], [`+ ${EIP}`]],
        [addresses.filter((address) => address !== '198.18.1.7/32'), [`- ${EIP}`, '- 198.18.1.7/32']],
      ] as const) {
        await bed.load(FILE, ifcfg({ addresses: wanted }));
        assert.equal((await reapply(bed)).status, 0);
        await eventually(async () => (await bed.addresses()).toSorted(), wanted.toSorted());
        assert.deepEqual((await watch.taken(changes.length)).toSorted(), changes.toSorted());
      }
      assert.equal((await pings.stop()).lost, 0);
    }));

  it('an address after a gap in the numbers is passed over, and nothing is said', () =>
    withIfcfg(async (bed) => {
      const { status, stderr } = await bed.load(FILE, ifcfg({ lines: ['IPADDR3=198.51.100.3', 'PREFIX3=32'] }));
      assert.deepEqual([status, stderr], [0, '']);
      await eventually(() => bed.addresses(), [OWN, EIP]);
      await sleep(A_WHILE_MS);
      assert.deepEqual(await bed.addresses(), [OWN, EIP]);
    }));

  it('a bad address: status 0, its words on standard error, and the old profile goes on', () =>
    withIfcfg(async (bed) => {
      await activate(bed);
      const { status, stderr } = await bed.load(FILE, ifcfg({ addresses: ['203.0.113.300/24'] }));
      assert.deepEqual([status, stderr], [0, `Could not load file '${FILE}'\n`]);
      assert.equal((await reapply(bed)).status, 0);
      await sleep(A_WHILE_MS);
      assert.deepEqual([await bed.device(), await bed.addresses()], [ACTIVE, [OWN, EIP]]);
    }));

  it('gateway, MTU and the routes of route-eth0 by load of the ifcfg file and reapply', () =>
    withIfcfg(async (bed) => {
      await activate(bed);
      const own = '203.0.113.0/24 dev eth0 proto kernel scope link src 203.0.113.37 metric 100';
      const via = (gateway: string) => `default via ${gateway} dev eth0 proto static metric 100`;
      const mtu = () => bed.sh('cat /sys/class/net/eth0/mtu');
      const change = async (text: string, routes: string[]) => {
        await bed.load(FILE, text);
        assert.equal((await reapply(bed)).status, 0);
        await eventually(async () => (await bed.routes()).toSorted(), [own, ...routes].toSorted());
      };
      await change(ifcfg({ gateway: '203.0.113.2' }), [via('203.0.113.2')]);
      await change(ifcfg({ gateway: undefined }), []);
      await bed.lab.router.write(
        `${IFCFGS}/route-eth0`,
        '# a comment\n172.16.0.0/16 via 203.0.113.9 dev eth0\n172.17.0.0/16 via 203.0.113.9 metric 50\n',
      );
      await change(ifcfg({ mtu: 1400 }), [
        via('203.0.113.1'),
        '172.16.0.0/16 via 203.0.113.9 dev eth0 proto static metric 100',
        '172.17.0.0/16 via 203.0.113.9 dev eth0 proto static metric 50',
      ]);
      assert.equal(await mtu(), '1400\n');
      await bed.sh(`rm ${IFCFGS}/route-eth0`);
      await change(ifcfg(), [via('203.0.113.1')]);
      // Left out, it is not taken back.
      assert.equal(await mtu(), '1400\n');
      await change(ifcfg({ mtu: 1500 }), [via('203.0.113.1')]);
      assert.equal(await mtu(), '1500\n');
    }));

  it('reapply is refused with status 6, and nothing changes, where HWADDR or DEVICE changed', () =>
    withIfcfg(async (bed) => {
      await activate(bed);
      for (const profile of [{ mac: NICS.b.mac }, { device: 'eth0' }, { device: 'eth9' }]) {
        await bed.load(FILE, ifcfg({ ...profile, addresses: [OWN] }));
        assert.equal((await reapply(bed)).status, 6, JSON.stringify(profile));
        assert.deepEqual([await bed.device(), await bed.addresses()], [ACTIVE, [OWN, EIP]]);
      }
    }));

  for (const [device, state] of [
    [undefined, ACTIVE],
    ['eth0', 'connected (externally) wan0'],
  ] as const)
    it(`a device that is renamed, after a restart, with DEVICE=${device ?? ' left out'}: ${state}`, () =>
      withIfcfg(async (bed) => {
        await activate(bed, ifcfg(device === undefined ? {} : { device }));
        await bed.sh('ip link set eth0 name wan0');
        await eventually(() => bed.device('wan0'), ACTIVE);
        assert.equal((await reapply(bed, 'wan0')).status, 0);
        await bed.manager.restart();
        await eventually(async () => (await bed.device('wan0')).slice(0, state.length), state);
        assert.deepEqual(await bed.addresses('wan0'), [OWN, EIP]);
      }));

  it("IPV6INIT=no leaves IPv6 to others until reapply, which removes it, the kernel's link-local address too", () =>
    withIfcfg(async (bed) => {
      const six = async () => [...(await bed.sh('ip -6 -o address show dev eth0')).matchAll(/ inet6 (\S+)/g)].length;
      await activate(bed);
      await bed.sh(
        'ip -6 address add 2001:db8::1/64 dev eth0 nodad; ip address add 169.254.7.7/16 scope link dev eth0',
      );
      await eventually(() => bed.sh('ip -6 -o address show dev eth0 tentative'), '');
      assert.deepEqual([await six(), (await bed.addresses()).length], [2, 3]);
      assert.equal(await bed.sh('nmcli -g ipv6.method connection show ours'), 'ignore\n');
      assert.equal((await reapply(bed)).status, 0);
      await eventually(six, 0);
      await eventually(() => bed.addresses(), [OWN, EIP]);
    }));

  it('`connection load` of a file that is gone forgets the profile: addresses and routes go', () =>
    withIfcfg(async (bed) => {
      await activate(bed);
      await bed.sh(`rm ${FILE}; nmcli connection load ${FILE}`);
      await eventually(() => bed.addresses(), []);
      await eventually(() => bed.device(), IDLE);
      await activate(bed);
    }));

  it('of what editors and rpm leave behind .rpmsave is a profile like any other; what starts with a dot is none', () =>
    withIfcfg(async (bed) => {
      for (const name of [
        'ifcfg-eth0.bak',
        'ifcfg-eth0~',
        'ifcfg-eth0.orig',
        'ifcfg-eth0.rej',
        'ifcfg-eth0.rpmnew',
        '.ifcfg-eth0',
      ])
        await bed.lab.router.write(`${IFCFGS}/${name}`, ifcfg());
      await bed.nmcli('connection', 'reload');
      await sleep(A_WHILE_MS);
      assert.equal(await bed.device(), IDLE);
      await bed.load(`${FILE}.rpmsave`, ifcfg());
      await eventually(() => bed.addresses(), [OWN, EIP]);
    }));

  it('an alias file, ifcfg-eth0:NAME, adds its address to the profile of ifcfg-eth0', () =>
    withIfcfg(async (bed) => {
      const alias = ['DEVICE=eth0:1', 'IPADDR=198.51.100.9', 'PREFIX=32', ''].join('\n');
      await bed.lab.router.write(`${IFCFGS}/ifcfg-eth0:1`, alias);
      await activate(bed);
      await eventually(() => bed.addresses(), [OWN, EIP, '198.51.100.9/32']);
    }));

  it('the file first, the NIC later', () =>
    withNetworkManager({ nics: [], manager: { prefix } }, async (bed) => {
      await bed.load(FILE, ifcfg());
      await bed.lab.router.plug(NICS.public);
      await eventually(() => bed.addresses(), [OWN, EIP]);
      await eventually(() => bed.device(), ACTIVE);
    }));

  for (const [lines, comesUp] of [
    [['ARPCHECK=no', 'ARPCHECK1=no'], false],
    [['ARPING_WAIT=0'], true],
    [['ACD_TIMEOUT=0'], true],
  ] as const)
    it(`a neighbour has the same address, ipv4.dad-timeout=3000 is the default, and ${lines.join(' ')}: ${comesUp ? 'up at once' : 'not up'}`, () =>
      withIfcfg(
        async (bed) => {
          await bed.lab.host('out').run(['ip', 'address', 'add', OWN, 'dev', 'eth0'], { check: true });
          await bed.load(FILE, ifcfg({ lines }));
          if (comesUp) {
            await eventually(() => bed.addresses(), [OWN, EIP]);
            await sleep(4000);
            assert.deepEqual([await bed.device(), await bed.addresses()], [ACTIVE, [OWN, EIP]]);
          } else {
            await eventually(() => bed.device(), `connecting (getting IP configuration) ours ${UUID}`);
            await eventually(() => bed.device(), IDLE);
            assert.deepEqual(await bed.addresses(), []);
          }
        },
        { configuration: '[connection]\nipv4.dad-timeout=3000' },
      ));

  for (const [plugins, winner] of [
    ['ifcfg-rh,keyfile', 'ours'],
    ['keyfile,ifcfg-rh', 'stale'],
  ] as const)
    it(`a keyfile with the same UUID and plugins=${plugins}: ${winner}, silently`, () =>
      withIfcfg(
        async (bed) => {
          await bed.manager.stop();
          await bed.lab.router.write(FILE, ifcfg({ uuid: OURS }));
          await bed.lab.router.write(KEYFILE, keyfile({ name: 'stale', addresses: ['203.0.113.99/24'] }), 0o600);
          await bed.manager.restart();
          await eventually(() => bed.device(), `connected ${winner} ${OURS}`);
          // Without the keyfile it is ours in any case; what the device has comes with reapply.
          await bed.sh(`rm ${KEYFILE}; nmcli connection load ${KEYFILE}`);
          await eventually(() => bed.device(), `connected ours ${OURS}`);
          assert.equal((await reapply(bed)).status, 0);
          await eventually(() => bed.addresses(), [OWN, EIP]);
        },
        { plugins },
      ));

  for (const [lines, winner] of [
    [[], `connected stale ${FOREIGN}`],
    [['AUTOCONNECT_PRIORITY=999'], ACTIVE],
  ] as const)
    it(`a keyfile for the same MAC that was used last, at a start, and ours with ${lines[0] ?? 'no priority'}: ${winner.split(' ')[1]}`, () =>
      withIfcfg(async (bed) => {
        await bed.load(KEYFILE, keyfile({ name: 'stale', uuid: FOREIGN, addresses: ['203.0.113.99/24'] }));
        await eventually(() => bed.device(), `connected stale ${FOREIGN}`);
        await bed.load(FILE, ifcfg({ lines }));
        await bed.manager.stop();
        await bed.sh('ip address flush dev eth0; rm -r /run/NetworkManager');
        await bed.manager.restart();
        await eventually(() => bed.device(), winner);
      }));
});
