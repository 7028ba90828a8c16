// What NetworkManager does, as far as the program relies on it: each test is one fact, seen on a real NetworkManager.

import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import {
  findDevice,
  isLoaded,
  loadFiles,
  parsePath,
  READ_CONFIGURATION,
  reapplyPreserving,
} from '../../src/dialects/busctl.ts';
import { eventually } from '../lab/eventually.ts';
import { NICS } from '../lab/lab.ts';
import {
  A_WHILE_MS,
  type Bed,
  EIP,
  eips,
  FOREIGN,
  KEYFILES,
  keyfile,
  OURS,
  OWN,
  watchKernel,
  withNetworkManager,
} from '../lab/profiles.ts';
import { createTraffic } from '../lab/traffic.ts';

const FILE = `${KEYFILES}/ours.nmconnection`;
const FOREIGN_FILE = `${KEYFILES}/foreign.nmconnection`;
const foreign = (addresses = ['203.0.113.99/24']) => keyfile({ name: 'foreign', uuid: FOREIGN, addresses });

const ACTIVE = `connected ours ${OURS}`;
const FOREIGN_ACTIVE = `connected foreign ${FOREIGN}`;
const IDLE = 'disconnected';

const reapply = (bed: Bed, device = 'eth0') => bed.nmcli('device', 'reapply', device);

async function activate(bed: Bed, text = keyfile()): Promise<void> {
  await bed.load(FILE, text);
  await eventually(() => bed.device(), ACTIVE);
}

describe('NetworkManager: a profile is made known', { concurrency: false }, () => {
  it('`connection load` alone activates an idle device, and gives it 1,000 addresses', () =>
    withNetworkManager({}, async (bed) => {
      const addresses = [OWN, ...eips(1000)];
      const { status } = await bed.load(FILE, keyfile({ addresses }));
      assert.equal(status, 0);
      await eventually(() => bed.addresses(), addresses);
      await eventually(() => bed.device(), ACTIVE);
    }));

  it('a file that it refuses: status 0, its words on standard error, and the old profile goes on', () =>
    withNetworkManager({}, async (bed) => {
      await activate(bed);
      const other = `${KEYFILES}/other.nmconnection`;
      await bed.lab.router.write(other, keyfile({ name: 'other', uuid: FOREIGN, mac: NICS.b.mac }), 0o600);
      for (const spoil of [`chmod 644 ${FILE}`, `chmod 600 ${FILE}; echo nonsense >> ${FILE}`]) {
        await bed.sh(spoil);
        const { status, stderr } = await bed.nmcli('connection', 'load', FILE, other);
        assert.deepEqual([status, stderr], [0, `Could not load file '${FILE}'\n`]);
      }
      assert.equal(await bed.device(), ACTIVE);
      // The other file of the same call was read.
      await eventually(() => bed.device('eth2'), `connected other ${FOREIGN}`);
    }));

  it('`connection load` of a file that is gone forgets the profile: addresses and routes go, the link stays up', () =>
    withNetworkManager({}, async (bed) => {
      await activate(bed);
      await bed.sh(`rm ${FILE}`);
      const { status, stderr } = await bed.nmcli('connection', 'load', FILE);
      assert.deepEqual([status, stderr], [0, '']);
      await eventually(() => bed.addresses(), []);
      await eventually(() => bed.device(), IDLE);
      assert.deepEqual(await bed.routes(), []);
      assert.match(await bed.sh('ip link show dev eth0'), /,UP,LOWER_UP>/);
      // And the next profile comes by itself.
      await activate(bed);
    }));

  it('in /etc a profile needs no .nmconnection, so a backup copy is one; what starts with a dot or ends with ~ is none', () =>
    withNetworkManager({}, async (bed) => {
      const write = (name: string) => bed.lab.router.write(`${KEYFILES}/${name}`, keyfile(), 0o600);
      for (const name of ['.ours.nmconnection', 'ours.nmconnection~', 'ours.nmconnection.a1B2c3']) await write(name);
      await bed.nmcli('connection', 'reload');
      await sleep(A_WHILE_MS);
      assert.equal(await bed.device(), IDLE);
      await write('ours.nmconnection.bak');
      await bed.nmcli('connection', 'reload');
      await eventually(() => bed.device(), ACTIVE);
    }));

  it('the file first, the NIC later; and again after it was unplugged', () =>
    withNetworkManager({ nics: [] }, async (bed) => {
      await bed.load(FILE, keyfile());
      for (let time = 0; time < 2; time++) {
        await bed.lab.router.plug(NICS.public);
        await eventually(() => bed.addresses(), [OWN, EIP]);
        await eventually(() => bed.device(), ACTIVE);
        await bed.lab.router.unplug(NICS.public);
        await eventually(() => bed.device(), '');
      }
    }));
});

describe('NetworkManager: `device reapply`', { concurrency: false }, () => {
  it('adds and removes one of 1,000 addresses, touches no other, and loses no packet', () =>
    withNetworkManager({}, async (bed) => {
      const addresses = [OWN, ...eips(1000)];
      await activate(bed, keyfile({ addresses }));
      await eventually(() => bed.addresses(), addresses);
      const watch = await watchKernel(bed);
      const pings = await createTraffic(bed.lab).startPings({ from: 'out', to: '203.0.113.37', perSecond: 100 });

      for (const [wanted, changes] of [
        [addresses, []],
        [[...addresses, EIP], [`+ ${EIP}`]],
        [addresses, [`- ${EIP}`]],
        [addresses.filter((address) => address !== '198.18.1.7/32'), ['- 198.18.1.7/32']],
        [
          [OWN, EIP, ...eips(1000)],
          [`+ ${EIP}`, '+ 198.18.1.7/32'],
        ],
      ] as const) {
        await bed.load(FILE, keyfile({ addresses: wanted }));
        assert.equal((await reapply(bed)).status, 0);
        await eventually(async () => (await bed.addresses()).toSorted(), wanted.toSorted());
        assert.deepEqual((await watch.taken(changes.length)).toSorted(), changes.toSorted());
      }
      const { sent, lost } = await pings.stop();
      assert.ok(sent > 200, `${sent} pings`);
      assert.equal(lost, 0);
    }));

  it('a new gateway is there before the old one goes; routes come and go with the profile', () =>
    withNetworkManager({}, async (bed) => {
      await activate(bed);
      const watch = await watchKernel(bed);
      const via = (gateway: string) => `default via ${gateway} dev eth0 proto static metric 100`;
      for (const [profile, changes] of [
        [{ gateway: '203.0.113.2' }, [`+ ${via('203.0.113.2')}`, `- ${via('203.0.113.1')}`]],
        [{ gateway: undefined }, [`- ${via('203.0.113.2')}`]],
        [
          { routes: ['172.16.0.0/16,203.0.113.9,50'] },
          [`+ ${via('203.0.113.1')}`, '+ 172.16.0.0/16 via 203.0.113.9 dev eth0 proto static metric 50'],
        ],
        [{}, ['- 172.16.0.0/16 via 203.0.113.9 dev eth0 proto static metric 50']],
      ] as const) {
        await bed.load(FILE, keyfile(profile));
        assert.equal((await reapply(bed)).status, 0);
        const saw = await watch.taken(changes.length);
        assert.deepEqual(
          'routes' in profile ? saw.toSorted() : saw,
          'routes' in profile ? changes.toSorted() : changes,
        );
      }
    }));

  it('sets an MTU, and does not take it back when the profile names none any more', () =>
    withNetworkManager({}, async (bed) => {
      const mtu = () => bed.sh('cat /sys/class/net/eth0/mtu');
      await activate(bed, keyfile({ mtu: 1400 }));
      await eventually(mtu, '1400\n');
      await bed.load(FILE, keyfile());
      assert.equal((await reapply(bed)).status, 0);
      await sleep(A_WHILE_MS);
      assert.equal(await mtu(), '1400\n');
      await bed.load(FILE, keyfile({ mtu: 1500 }));
      assert.equal((await reapply(bed)).status, 0);
      await eventually(mtu, '1500\n');
    }));

  it('removes addresses and common routes that were added by hand, not those of a foreign routing protocol; repairs its own', () =>
    withNetworkManager({}, async (bed) => {
      await activate(bed);
      const routes = await bed.routes();
      const kept = '192.168.3.0/24 via 203.0.113.9 dev eth0 proto 175';
      await bed.sh(`
        ip address add 198.51.100.77/32 dev eth0
        ip address delete ${EIP} dev eth0
        ip route add 192.168.1.0/24 via 203.0.113.9
        ip route add 192.168.2.0/24 via 203.0.113.9 proto static
        ip route add ${kept}`);
      assert.equal((await reapply(bed)).status, 0);
      await eventually(() => bed.addresses(), [OWN, EIP]);
      await eventually(async () => (await bed.routes()).toSorted(), [...routes, kept].toSorted());
    }));

  it('status 6 and no change where it is refused: idle device, another MAC, another device name; 10 for an unknown device', () =>
    withNetworkManager({}, async (bed) => {
      assert.equal((await reapply(bed)).status, 6);
      assert.equal((await reapply(bed, 'eth9')).status, 10);
      await activate(bed);
      for (const profile of [{ mac: NICS.b.mac }, { device: 'eth0' }, { device: 'eth9' }]) {
        await bed.load(FILE, keyfile({ ...profile, addresses: [OWN] }));
        assert.equal((await reapply(bed)).status, 6, JSON.stringify(profile));
        assert.deepEqual([await bed.device(), await bed.addresses()], [ACTIVE, [OWN, EIP]]);
      }
      await bed.load(FILE, keyfile());
      assert.equal((await reapply(bed)).status, 0);
    }));
});

describe('NetworkManager: defaults for connections', { concurrency: false }, () => {
  const mac = (bed: Bed) => bed.sh("ip -br link show eth0 | awk '{ print $3 }'");
  const OWN_MAC = `${NICS.public.mac}\n`;
  const section = (name: string, device: string, value: string) =>
    `[connection-${name}]\nmatch-device=${device}\nethernet.cloned-mac-address=${value}\n`;
  const configure = async (bed: Bed, name: string, text: string) => {
    await bed.lab.router.write(`/etc/NetworkManager/conf.d/${name}.conf`, text);
    await bed.lab.router.run(READ_CONFIGURATION, { check: true });
  };

  it('read anew they touch nothing; they hold from the next activation on, those of the file that is read last', () =>
    withNetworkManager({}, async (bed) => {
      await activate(bed);
      const watch = await watchKernel(bed);
      await configure(bed, 'zy', `${section('all', '*', 'random')}stop-match=yes\n`);
      await sleep(A_WHILE_MS);
      assert.equal((await reapply(bed)).status, 0);
      assert.deepEqual([await watch.taken(), await mac(bed)], [[], OWN_MAC]);
      const up = async () =>
        assert.equal((await bed.nmcli('--wait', '10', 'connection', 'up', 'uuid', OURS)).status, 0);
      await up();
      assert.notEqual(await mac(bed), OWN_MAC);
      // By its MAC it does not know a veth, which has none of its hardware.
      await configure(bed, 'zz', section('ours', `mac:${NICS.public.mac}`, 'preserve'));
      await up();
      assert.notEqual(await mac(bed), OWN_MAC);
      await configure(bed, 'zz', section('ours', `mac:${NICS.public.mac};interface-name:=eth0`, 'preserve'));
      await up();
      assert.equal(await mac(bed), OWN_MAC);
    }));

  it('a profile in which cloned-mac-address is new is not reapplied: status 6, and nothing changes', () =>
    withNetworkManager({}, async (bed) => {
      await activate(bed);
      const pinned = (addresses: string[]) =>
        keyfile({ addresses }).replace('[ipv4]', 'cloned-mac-address=preserve\n[ipv4]');
      await bed.load(FILE, pinned([OWN]));
      assert.equal((await reapply(bed)).status, 6);
      await sleep(A_WHILE_MS);
      assert.deepEqual([await bed.device(), await bed.addresses()], [ACTIVE, [OWN, EIP]]);
    }));
});

/** What is on eth0 beside IPv4 of global scope, and beside what the kernel makes of it. */
const foreignThings = async (bed: Bed) =>
  (
    await bed.sh(`
      ip -o address show dev eth0 | grep -e 'scope link eth0' -e inet6 | sed -E 's/.* (inet6? [^ ]+).*/\\1/'
      ip -4 route show dev eth0 | grep -v -e 'proto kernel' -e ^default || true
      ip -6 route show dev eth0 | grep -v 'proto kernel' | sed 's/ metric.*//'`)
  )
    .split('\n')
    .map((line) => line.trim())
    .filter((line) => line !== '');

const BY_HAND = [
  'inet 169.254.7.7/16',
  'inet6 2001:db8::1/64',
  'inet6 fe80::5054:84ff:fe00:846/64',
  '192.168.1.0/24 via 203.0.113.9',
  '2001:db8:2::/64 via 2001:db8::2',
];

async function addByHand(bed: Bed): Promise<void> {
  await bed.sh(`
    ip address add 169.254.7.7/16 scope link dev eth0
    ip -6 address add 2001:db8::1/64 dev eth0 nodad
    ip route add 192.168.1.0/24 via 203.0.113.9
    ip -6 route add 2001:db8:2::/64 via 2001:db8::2`);
  // The kernel's link-local address is left alone as long as the kernel is still asking who has it.
  await eventually(() => bed.sh('ip -6 -o address show dev eth0 tentative'), '');
  await eventually(async () => (await foreignThings(bed)).toSorted(), BY_HAND.toSorted());
}

/** Over D-Bus, as the program asks for it. */
async function reapplyOverBus(bed: Bed): Promise<void> {
  const ask = async (argv: readonly string[]) => (await bed.lab.router.run(argv, { check: true })).stdout;
  assert.ok(isLoaded(await ask(loadFiles([FILE]))));
  await ask(reapplyPreserving(parsePath(await ask(findDevice('eth0'))) ?? ''));
}

describe('NetworkManager: Reapply, told to preserve what it did not bring', { concurrency: false }, () => {
  it('adds and removes one of 1,000 addresses; no other is touched, and nothing that is on the device by hand', () =>
    withNetworkManager({}, async (bed) => {
      const addresses = [OWN, ...eips(1000)];
      await activate(bed, keyfile({ addresses }));
      await eventually(() => bed.addresses(), addresses);
      await addByHand(bed);
      const watch = await watchKernel(bed);
      for (const [wanted, change] of [
        [[...addresses, EIP], `+ ${EIP}`],
        [addresses, `- ${EIP}`],
      ] as const) {
        await bed.lab.router.write(FILE, keyfile({ addresses: wanted }), 0o600);
        await reapplyOverBus(bed);
        assert.deepEqual(await watch.taken(1), [change]);
        assert.deepEqual((await foreignThings(bed)).toSorted(), BY_HAND.toSorted());
      }
    }));

  it('brings nothing back that somebody took away: neither an address nor a route', () =>
    withNetworkManager({}, async (bed) => {
      await activate(bed, keyfile({ addresses: [OWN, EIP] }));
      await bed.sh(`ip address delete ${EIP} dev eth0; ip route delete default`);
      await reapplyOverBus(bed);
      await sleep(A_WHILE_MS);
      assert.deepEqual([await bed.addresses(), await bed.sh('ip route show default')], [[OWN], '']);
    }));

  it('an address that was there by hand before it was in the profile goes with that', () =>
    withNetworkManager({}, async (bed) => {
      await activate(bed, keyfile({ addresses: [OWN] }));
      await bed.sh(`ip address add ${EIP} dev eth0`);
      for (const addresses of [[OWN, EIP], [OWN]]) {
        await bed.lab.router.write(FILE, keyfile({ addresses }), 0o600);
        await reapplyOverBus(bed);
        await eventually(() => bed.addresses(), addresses);
      }
    }));

  it('a flag that it does not know it refuses, and does nothing', () =>
    withNetworkManager({}, async (bed) => {
      await activate(bed, keyfile({ addresses: [OWN] }));
      await bed.load(FILE, keyfile({ addresses: [OWN, EIP] }));
      const { stdout } = await bed.lab.router.run(findDevice('eth0'), { check: true });
      const argv = reapplyPreserving(parsePath(stdout) ?? '');
      const { status, stderr } = await bed.lab.router.run([...argv.slice(0, -1), '64']);
      assert.equal(status, 1);
      assert.match(stderr, /Invalid flags/);
      assert.deepEqual(await bed.addresses(), [OWN]);
    }));

  it('one that never was in the profile stays', () =>
    withNetworkManager({}, async (bed) => {
      await activate(bed, keyfile({ addresses: [OWN] }));
      await bed.sh(`ip address add ${EIP} dev eth0`);
      await reapplyOverBus(bed);
      await sleep(A_WHILE_MS);
      assert.deepEqual(await bed.addresses(), [OWN, EIP]);
    }));
});

describe('NetworkManager: what is on a device by hand', { concurrency: false }, () => {
  it("reapply removes IPv6 addresses, the kernel's link-local one too, and those of link scope, and the routes with them", () =>
    withNetworkManager({}, async (bed) => {
      await activate(bed);
      await addByHand(bed);
      assert.equal((await reapply(bed)).status, 0);
      await bed.nmcli('--get-values', 'RUNNING', 'general');
      assert.deepEqual(await foreignThings(bed), []);
    }));

  it('so do `connection up` and forgetting the profile; it is done when the next call is answered', () =>
    withNetworkManager({}, async (bed) => {
      await activate(bed);
      await addByHand(bed);
      assert.equal((await bed.nmcli('--wait', '10', 'connection', 'up', 'uuid', OURS)).status, 0);
      assert.deepEqual(
        (await foreignThings(bed)).filter((line) => !line.startsWith('inet6 fe80')),
        [],
      );
      await addByHand(bed);
      await bed.sh(`rm ${FILE}; nmcli connection load ${FILE}; nmcli --get-values RUNNING general`);
      assert.deepEqual([await bed.addresses(), await foreignThings(bed)], [[], []]);
    }));

  it('a device that was set up by hand before its start, let alone and managed again, is given our profile, and nothing is flushed', () =>
    withNetworkManager(
      {},
      async (bed) => {
        await eventually(async () => (await bed.device()).split(' eth0 ')[0], 'connected (externally)');
        await bed.load(FILE, keyfile({ dadTimeout: 0 }));
        const watch = await watchKernel(bed);
        for (const managed of ['no', 'yes'])
          assert.equal((await bed.nmcli('device', 'set', 'eth0', 'managed', managed)).status, 0);
        await eventually(() => bed.device(), ACTIVE);
        assert.ok(!(await watch.taken(1)).some((change) => change.startsWith('- ') && change.includes('/32')));
        // What is not in the profile goes when it is reapplied.
        assert.deepEqual((await bed.addresses()).toSorted(), [EIP, OWN, '198.51.100.77/32'].toSorted());
        assert.equal((await reapply(bed)).status, 0);
        await eventually(async () => (await bed.addresses()).toSorted(), [EIP, OWN].toSorted());
      },
      async ({ router }) => {
        const script = `ip link set eth0 up; ip address add ${OWN} dev eth0; ip address add 198.51.100.77/32 dev eth0`;
        await router.run(['sh', '-ec', script], { check: true });
      },
    ));
});

describe('NetworkManager: whose profile a device has', { concurrency: false }, () => {
  it('while a foreign profile is active ours waits, and reapply applies the foreign one, with status 0', () =>
    withNetworkManager({}, async (bed) => {
      await bed.load(FOREIGN_FILE, foreign());
      await eventually(() => bed.device(), FOREIGN_ACTIVE);
      await bed.load(FILE, keyfile());
      assert.equal((await reapply(bed)).status, 0);
      await sleep(A_WHILE_MS);
      assert.deepEqual([await bed.device(), await bed.addresses()], [FOREIGN_ACTIVE, ['203.0.113.99/24']]);
    }));

  it('one `connection load` of ours and of the removed foreign file changes over', () =>
    withNetworkManager({}, async (bed) => {
      await bed.load(FOREIGN_FILE, foreign());
      await eventually(() => bed.device(), FOREIGN_ACTIVE);
      await bed.lab.router.write(FILE, keyfile(), 0o600);
      await bed.sh(`rm ${FOREIGN_FILE}; nmcli connection load ${FILE} ${FOREIGN_FILE}`);
      await eventually(() => bed.device(), ACTIVE);
      await eventually(() => bed.addresses(), [OWN, EIP]);
    }));

  it('ours under the UUID of the removed foreign one: reapply changes over, and no packet is lost', () =>
    withNetworkManager({}, async (bed) => {
      await bed.load(FOREIGN_FILE, foreign([OWN, '198.51.100.9/32']));
      await eventually(() => bed.device(), FOREIGN_ACTIVE);
      const pings = await createTraffic(bed.lab).startPings({ from: 'out', to: '203.0.113.37', perSecond: 100 });
      await bed.lab.router.write(FILE, keyfile({ uuid: FOREIGN }), 0o600);
      await bed.sh(`rm ${FOREIGN_FILE}; nmcli connection load ${FOREIGN_FILE} ${FILE}; nmcli device reapply eth0`);
      await eventually(() => bed.addresses(), [OWN, EIP]);
      await sleep(A_WHILE_MS);
      assert.equal((await pings.stop()).lost, 0);
      assert.equal(await bed.device(), `connected ours ${FOREIGN}`);
    }));

  it('addresses from before its start: "connected (externally)"; load and reapply change nothing, `connection up` does', () =>
    withNetworkManager(
      {},
      async (bed) => {
        await eventually(async () => (await bed.device()).split(' eth0 ')[0], 'connected (externally)');
        await bed.load(FILE, keyfile());
        assert.equal((await reapply(bed)).status, 0);
        await sleep(A_WHILE_MS);
        assert.match(await bed.device(), /^connected \(externally\) eth0 /);
        assert.deepEqual(await bed.addresses(), [OWN, '198.51.100.77/32']);
        assert.equal((await bed.nmcli('--wait', '10', 'connection', 'up', 'uuid', OURS)).status, 0);
        await eventually(() => bed.addresses(), [OWN, EIP]);
      },
      async ({ router }) => {
        const script = `ip link set eth0 up; ip address add ${OWN} dev eth0; ip address add 198.51.100.77/32 dev eth0`;
        await router.run(['sh', '-ec', script], { check: true });
      },
    ));

  for (const [priority, winner] of [
    [0, FOREIGN_ACTIVE],
    [999, ACTIVE],
  ] as const)
    it(`of two for one MAC, at a start, autoconnect-priority of ours ${priority}: ${winner.split(' ')[1]}; the foreign one was used last`, () =>
      withNetworkManager({}, async (bed) => {
        await bed.load(FOREIGN_FILE, foreign());
        await eventually(() => bed.device(), FOREIGN_ACTIVE);
        await bed.load(FILE, keyfile({ priority }));
        await bed.manager.stop();
        // As after a boot: no address, nothing in /run; /var/lib/NetworkManager knows what was used.
        await bed.sh('ip address flush dev eth0; rm -r /run/NetworkManager');
        await bed.manager.restart();
        await eventually(() => bed.device(), winner);
      }));

  it('a profile for the MAC follows a device that is renamed, through a restart too', () =>
    withNetworkManager({}, async (bed) => {
      await activate(bed);
      await bed.sh('ip link set eth0 name wan0');
      await eventually(() => bed.device('wan0'), ACTIVE);
      assert.equal((await reapply(bed, 'wan0')).status, 0);
      await bed.manager.restart();
      await eventually(() => bed.device('wan0'), ACTIVE);
      assert.deepEqual(await bed.addresses('wan0'), [OWN, EIP]);
    }));

  it('a profile with an interface-name follows too, but only until the restart', () =>
    withNetworkManager({}, async (bed) => {
      await activate(bed, keyfile({ device: 'eth0' }));
      await bed.sh('ip link set eth0 name wan0');
      await eventually(() => bed.device('wan0'), ACTIVE);
      assert.equal((await reapply(bed, 'wan0')).status, 0);
      await bed.manager.restart();
      await eventually(async () => (await bed.device('wan0')).split(' wan0 ')[0], 'connected (externally)');
    }));
});

describe('NetworkManager: how a device is let go', { concurrency: false }, () => {
  it('`device set managed no` leaves the addresses in the kernel', () =>
    withNetworkManager({}, async (bed) => {
      await activate(bed);
      assert.equal((await bed.nmcli('device', 'set', 'eth0', 'managed', 'no')).status, 0);
      await eventually(() => bed.device(), 'unmanaged');
      assert.deepEqual(await bed.addresses(), [OWN, EIP]);
      assert.equal((await reapply(bed)).status, 6);
    }));

  it('`device disconnect` keeps the device idle whatever is loaded, until `device connect`', () =>
    withNetworkManager({}, async (bed) => {
      await activate(bed);
      assert.equal((await bed.nmcli('--wait', '10', 'device', 'disconnect', 'eth0')).status, 0);
      assert.deepEqual(await bed.addresses(), []);
      await bed.load(FILE, keyfile({ addresses: [OWN] }));
      await bed.nmcli('connection', 'reload');
      await sleep(A_WHILE_MS);
      assert.deepEqual([await bed.device(), await bed.addresses()], [IDLE, []]);
      assert.equal((await bed.nmcli('--wait', '10', 'device', 'connect', 'eth0')).status, 0);
      assert.deepEqual(await bed.addresses(), [OWN]);
    }));

  it('a device that becomes a port of a bridge keeps its profile and its addresses', () =>
    withNetworkManager({}, async (bed) => {
      await activate(bed);
      await bed.sh('ip link add name br-ex type bridge; ip link set eth0 master br-ex; ip link set br-ex up');
      await sleep(A_WHILE_MS);
      assert.deepEqual([await bed.device(), await bed.addresses()], [ACTIVE, [OWN, EIP]]);
    }));
});

describe('NetworkManager: looking for neighbours with the same address', { concurrency: false }, () => {
  const manager = { configuration: '[connection]\nipv4.dad-timeout=3000' };
  const give = (bed: Bed, address: string) =>
    bed.lab.host('out').run(['ip', 'address', 'add', address, 'dev', 'eth0'], { check: true });

  it('by its configured default: a taken address keeps the device from coming up', () =>
    withNetworkManager({ manager }, async (bed) => {
      await give(bed, OWN);
      await bed.load(FILE, keyfile());
      await eventually(() => bed.device(), `connecting (getting IP configuration) ours ${OURS}`);
      await eventually(() => bed.device(), IDLE);
      assert.deepEqual(await bed.addresses(), []);
    }));

  it('by its configured default: a taken EIP that reapply adds takes the whole device down', () =>
    withNetworkManager({ manager }, async (bed) => {
      await activate(bed);
      await give(bed, '198.51.100.3/32');
      await bed.load(FILE, keyfile({ addresses: [OWN, EIP, '198.51.100.3/32'] }));
      assert.equal((await reapply(bed)).status, 0);
      await eventually(() => bed.addresses(), []);
    }));

  it('with dad-timeout=0 in the profile: all addresses at once, taken or not', () =>
    withNetworkManager({ manager }, async (bed) => {
      await give(bed, OWN);
      await give(bed, '198.51.100.3/32');
      await bed.load(FILE, keyfile({ dadTimeout: 0 }));
      await eventually(() => bed.addresses(), [OWN, EIP]);
      const addresses = [OWN, EIP, '198.51.100.3/32'];
      await bed.load(FILE, keyfile({ dadTimeout: 0, addresses }));
      assert.equal((await reapply(bed)).status, 0);
      await eventually(() => bed.addresses(), addresses);
      await sleep(4000);
      assert.deepEqual([await bed.device(), await bed.addresses()], [ACTIVE, addresses]);
    }));
});

describe('NetworkManager: whether it runs, and what it knows', { concurrency: false }, () => {
  it('stopped: nmcli ends with 8; addresses and routes stay; started again it touches nothing', () =>
    withNetworkManager({}, async (bed) => {
      await activate(bed);
      const routes = await bed.routes();
      const watch = await watchKernel(bed);
      for (const end of [() => bed.manager.stop(), () => bed.manager.kill()]) {
        await end();
        for (const call of [['general'], ['device'], ['connection', 'load', FILE], ['device', 'reapply', 'eth0']])
          assert.equal((await bed.nmcli(...call)).status, 8, call.join(' '));
        await bed.manager.restart();
        await eventually(() => bed.device(), ACTIVE);
      }
      assert.deepEqual([await bed.addresses(), await bed.routes(), await watch.taken()], [[OWN, EIP], routes, []]);
    }));

  it('hung: --wait bounds `connection reload` alone; other calls go on for 25 s, and a killed one leaves nothing behind', () =>
    withNetworkManager({}, async (bed) => {
      await activate(bed);
      process.kill(bed.manager.pid, 'SIGSTOP');
      assert.equal((await bed.nmcli('--wait', '1', 'connection', 'reload')).status, 1);
      await bed.lab.router.write(FILE, keyfile({ addresses: [OWN] }), 0o600);
      const KILLED = 128 + 9;
      for (const call of [
        ['device'],
        ['connection', 'load', FILE],
        ['device', 'reapply', 'eth0'],
        ['connection', 'up', 'ours'],
      ]) {
        const { status } = await bed.lab.router.run(['nmcli', '--wait', '1', ...call], { timeoutMs: 2500 });
        assert.equal(status, KILLED, call.join(' '));
      }
      process.kill(bed.manager.pid, 'SIGCONT');
      await sleep(A_WHILE_MS);
      assert.deepEqual([await bed.device(), await bed.addresses()], [ACTIVE, [OWN, EIP]]);
    }));

  it('dies during a call: 8', () =>
    withNetworkManager({}, async (bed) => {
      await activate(bed);
      process.kill(bed.manager.pid, 'SIGSTOP');
      const call = reapply(bed);
      await sleep(500);
      await bed.manager.kill();
      assert.equal((await call).status, 8);
    }));

  it('/run/NetworkManager/devices tells whether a device is managed and which profile it has, and stays when it is stopped', () =>
    withNetworkManager({}, async (bed) => {
      const file = async () => {
        const text = await bed.sh('cat /run/NetworkManager/devices/$(cat /sys/class/net/eth0/ifindex)');
        return text
          .split('\n')
          .filter((line) => /^(managed|connection-uuid)=/.test(line))
          .join(' ');
      };
      await eventually(file, 'managed=true');
      await activate(bed);
      await eventually(file, `managed=true connection-uuid=${OURS}`);
      await bed.manager.stop();
      assert.equal(await file(), `managed=true connection-uuid=${OURS}`);
      await bed.manager.restart();
      await bed.nmcli('device', 'set', 'eth0', 'managed', 'no');
      await eventually(file, 'managed=false');
      // As a service (--no-daemon) it writes no file with its process id.
      assert.equal((await bed.lab.router.run(['ls', '/run/NetworkManager/NetworkManager.pid'])).status, 2);
    }));

  it('one call names the file of each active profile', () =>
    withNetworkManager({}, async (bed) => {
      await activate(bed);
      const { stdout } = await bed.nmcli(
        '--terse',
        '--fields',
        'DEVICE,UUID,FILENAME',
        'connection',
        'show',
        '--active',
      );
      assert.equal(stdout.split('\n')[0], `eth0:${OURS}:${FILE}`);
    }));
});
