// What `reload` does where a real NetworkManager manages the NICs, whichever files it reads.

import assert from 'node:assert/strict';
import { basename } from 'node:path';
import type { Readable } from 'node:stream';
import { text } from 'node:stream/consumers';
import { after, before, describe, it } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { eventually } from '../lab/eventually.ts';
import { MARK, reloadScript } from '../lab/hotplug.ts';
import { ADDRESSES, NICS } from '../lab/lab.ts';
import { createManagedLab, type ManagedLab, NAME_OF } from '../lab/path.ts';
import { FOREIGN, ifcfg, KEYFILES, keyfile, OURS, watchKernel } from '../lab/profiles.ts';
import { networkOf } from '../lab/state.ts';
import { recordTools, type Tools } from '../lab/tools.ts';
import { createTraffic } from '../lab/traffic.ts';
import { inLabsOn } from './in-lab.ts';

type ManagedPath = 'keyfile' | 'ifcfg';

const [U, A, B] = [NICS.public.mac, NICS.a.mac, NICS.b.mac];
const { v } = ADDRESSES;
const uplink = `  - { ipaddr: 203.0.113.37, prefix: 24, mac: '${U}', gateway: 203.0.113.1 }\n`;
const subnetA = `  - { ipaddr: 10.10.1.254, prefix: 24, mac: '${A}' }\n`;
const nics = `if_list:\n${uplink}${subnetA}`;
const OF_BOOT = '/run/NetworkManager/system-connections';
const withEips = (eips: readonly string[]) =>
  `${nics}eip_list:${eips.length === 0 ? ' []' : ''}\n${eips.map((eip) => `  - { eip: ${eip}, vm-ip: ${v} }\n`).join('')}`;
const two = withEips(['203.0.113.50', '203.0.113.51']);
const three = withEips(['203.0.113.50', '203.0.113.51', '203.0.113.52']);

const FILES = {
  keyfile: (device: string) => `${KEYFILES}/kylin-vr-${device}.nmconnection`,
  ifcfg: (device: string) => `/etc/sysconfig/network-scripts/ifcfg-${device}`,
} as const;

export function managed(path: ManagedPath): void {
  describe(`reload: ${NAME_OF[path]}`, { concurrency: false }, () => {
    quiet(path);
    troubled(path);
    surroundings(path);
    arrivals(path);
    bystanders(path);
    switched(path);
  });
}

/** A change is just that change, and nothing is nothing. */
function quiet(path: ManagedPath): void {
  describe('one of 1,000 EIPs', { concurrency: false }, () => {
    const busy = '203.0.113.60';
    const thousand = [busy, ...Array.from({ length: 999 }, (_, n) => `198.18.${n >> 8}.${n & 255}`)];
    let lab: ManagedLab;
    let tools: Tools;
    before(async () => {
      lab = await createManagedLab(path);
      await reload(lab, withEips(thousand));
      tools = await recordTools(lab.router);
    });
    after(() => lab?.close());

    it('added and removed: no other address is touched, no packet of other flows lost', async () => {
      const watch = await watchKernel({ lab, sh: (script) => shell(lab, script) });
      const pings = await createTraffic(lab).startPings({ from: 'out', to: busy, perSecond: 100 });
      for (const [eips, change] of [
        [[...thousand, '203.0.113.50'], '+ 203.0.113.50/32'],
        [[...thousand.filter((eip) => eip !== '198.18.1.7'), '203.0.113.50'], '- 198.18.1.7/32'],
        [thousand.filter((eip) => eip !== '198.18.1.7'), '- 203.0.113.50/32'],
        [thousand, '+ 198.18.1.7/32'],
      ] as const) {
        await reload(lab, withEips(eips));
        assert.deepEqual(await watch.taken(1), [change]);
      }
      const { sent, lost } = await pings.stop();
      assert.ok(sent > 200, `${sent} pings`);
      assert.equal(lost, 0);
    });

    it('is loaded and reapplied, and no other profile is', async () => {
      await tools.taken();
      await reload(lab, withEips(thousand.slice(0, -1)));
      const [asked, ...calls] = await managerCalls(tools);
      assert.equal(asked, 'nmcli --terse --fields DEVICE,STATE,CON-UUID device status');
      assert.deepEqual(
        calls
          .map((call) => call.replace(/^busctl --auto-start=no call org\.freedesktop\.NetworkManager /, ''))
          .toSorted(),
        [
          '/org/freedesktop/NetworkManager org.freedesktop.NetworkManager GetDeviceByIpIface s eth0',
          '/org/freedesktop/NetworkManager/Devices/2 org.freedesktop.NetworkManager.Device Reapply a{sa{sv}}tu 0 0 1',
          `/org/freedesktop/NetworkManager/Settings org.freedesktop.NetworkManager.Settings LoadConnections as 1 ${FILES[path]('eth0')}`,
        ],
      );
      await reload(lab, withEips(thousand));
    });

    it('by nmcli where NetworkManager is older than 1.42, which refuses to preserve what is foreign', async () => {
      await tools.before('busctl', REFUSES);
      await tools.taken();
      await reload(lab, withEips(thousand.slice(0, -1)));
      // It is asked whether it is done where something foreign is on the NIC: an IPv6 link-local address, which the kernel makes
      // unless NetworkManager has the NIC before it is up.
      const calls = (await managerCalls(tools)).filter((call) => call !== 'nmcli --terse --get-values RUNNING general');
      assert.deepEqual(
        calls.filter((call) => call.startsWith('nmcli ')),
        [
          'nmcli --terse --fields DEVICE,STATE,CON-UUID device status',
          `nmcli connection load ${FILES[path]('eth0')}`,
          'nmcli device reapply eth0',
        ],
      );
      await reload(lab, withEips(thousand));
      await tools.before('busctl');
    });

    it('a run that changes nothing, plan, status and start ask it nothing, nor does a change of rules alone', async () => {
      await tools.taken();
      for (const args of [['reload'], ['plan'], ['status'], ['start']])
        assert.equal((await lab.kylin(...args)).status, 0, args.join(' '));
      await reload(
        lab,
        `${withEips(thousand)}port_forward_list:\n  - { eip: 203.0.113.37, protocal: tcp, port: 80, vm-port: 80, vm-ip: ${v} }\n`,
      );
      await lab.configure(two);
      assert.equal((await lab.kylin('start')).status, 0);
      assert.deepEqual(await managerCalls(tools), []);
    });

    it('all of them removed, and all NICs let go', async () => {
      await reload(lab, two);
      assert.deepEqual(await addresses(lab), ['203.0.113.37/24', '203.0.113.50/32', '203.0.113.51/32']);
      await reload(lab, 'if_list: []\n');
      assert.deepEqual([await addresses(lab), await addresses(lab, 'eth1')], [[], []]);
      assert.equal(await shell(lab, 'ip -4 route'), '');
    });
  });
}

/** nmcli that fails, a NetworkManager that hangs, stops, starts or dies. */
function troubled(path: ManagedPath): void {
  describe('with a NetworkManager in trouble', { concurrency: false }, () => {
    let lab: ManagedLab;
    let tools: Tools;
    let whole: string;
    before(async () => {
      lab = await createManagedLab(path);
      await reload(lab, two);
      whole = await networkOf(lab.router);
      tools = await recordTools(lab.router);
    });
    after(() => lab?.close());

    async function mended(): Promise<void> {
      await reload(lab, two);
      assert.equal(await networkOf(lab.router), whole);
      assert.match(await shell(lab, 'nmcli -t -f DEVICE,STATE device'), /^eth0:connected$/m);
    }

    for (const [what, script] of [
      ['all its calls that write', 'case "$*" in *load*|*reapply*|*up*) exit 1;; esac'],
      ['to load', 'case "$*" in *load*) exit 1;; esac'],
      ['to reapply', 'case "$*" in *reapply*) exit 4;; esac'],
    ] as const)
      it(`nmcli fails ${what}: taken back, files byte for byte, 69`, async () => {
        await tools.before('busctl', 'exit 1');
        await tools.before('nmcli', script);
        await lab.configure(three);
        const { status, report } = await kylin(lab);
        await tools.before('nmcli');
        await tools.before('busctl');
        assert.deepEqual([status, report.result], [69, 'rolled-back']);
        assert.match(report.errors[0]?.message ?? '', /^nmcli .*status \d.*the network is as it was before/);
        assert.equal(await networkOf(lab.router), whole);
        await reload(lab, three);
        await mended();
      });

    it('it hangs: 69 after a bounded time, in words, nothing changed; when it goes on so does the next reload', async () => {
      process.kill(lab.manager.pid, 'SIGSTOP');
      await lab.configure(three);
      const begun = Date.now();
      const { status, report } = await kylin(lab);
      process.kill(lab.manager.pid, 'SIGCONT');
      assert.ok(Date.now() - begun < 30_000);
      assert.deepEqual([status, report.result, report.steps], [69, 'failed', []]);
      assert.match(
        report.errors[0]?.message ?? '',
        /^NetworkManager does not answer: see systemctl status NetworkManager, restart it.*nmcli .*no end after 20 s/,
      );
      assert.equal(await networkOf(lab.router), whole);
      await reload(lab, three);
      await mended();
    });

    for (const [tool, at, found] of [
      ['nmcli', 'connection load', 'before it reads the files, asked by nmcli'],
      ['nmcli', 'device reapply', 'before it reapplies, asked by nmcli'],
      ['busctl', 'LoadConnections', 'before it reads the files'],
      ['busctl', 'Reapply', 'before it reapplies'],
    ] as const)
      it(`it dies ${found}: 69, taken back; the next reload does it, with it and without it`, async () => {
        if (tool === 'nmcli') await tools.before('busctl', 'exit 1');
        await tools.before(tool, `case "$*" in *"${at}"*) kill -9 ${lab.manager.pid}; sleep 0.2;; esac`);
        await lab.configure(three);
        const { status, report } = await kylin(lab);
        await tools.before('nmcli');
        await tools.before('busctl');
        assert.deepEqual([status, report.result], [69, 'rolled-back']);
        assert.match(
          report.errors[0]?.message ?? '',
          /^NetworkManager ended while it was at work: see systemctl status NetworkManager/,
        );
        assert.equal(await networkOf(lab.router), whole);
        await reload(lab, three);
        await lab.manager.restart();
        await inSync(lab);
        await mended();
      });

    it('it says that it reapplied, and did not: nmcli is asked in the same run', async () => {
      await tools.before('busctl', 'case "$*" in *" Reapply "*) exit 0;; esac');
      await reload(lab, three);
      await tools.before('busctl');
      await mended();
    });

    it('it restarts while reloads run: each ends 0 or 69, and the next one is in sync', async () => {
      for (const [delay, config] of [
        [0, three],
        [100, two],
        [250, three],
        [400, two],
      ] as const) {
        const restarted = sleep(delay).then(() => lab.manager.restart());
        await lab.configure(config);
        const { status } = await kylin(lab);
        assert.ok([0, 69].includes(status), `status ${status}`);
        await restarted;
        await reload(lab, config);
        await inSync(lab);
      }
      await mended();
    });

    it('a reload that is killed at any call of nmcli or busctl: the next one does the rest', async () => {
      for (const [tool, call, config] of [
        ['nmcli', 'device status', three],
        ['busctl', 'LoadConnections', two],
        ['busctl', 'Reapply', three],
        ['nmcli', 'connection load', two],
        ['nmcli', 'device reapply', three],
        ['nmcli', 'connection reload', `if_list:\n${uplink}`],
        ['nmcli', 'connection load', two],
      ] as const) {
        if (tool === 'nmcli') await tools.before('busctl', 'exit 1');
        await tools.before(tool, `case "$*" in *"${call}"*) kill -9 $PPID; sleep 0.1; exit 1;; esac`);
        await lab.configure(config);
        assert.equal((await lab.kylin('reload')).status, 137, call);
        await tools.before('nmcli');
        await tools.before('busctl');
        await reload(lab, config);
        await inSync(lab);
      }
      await mended();
    });
  });
}

/** What there is beside us: foreign profiles, neighbours with our addresses, NICs without a carrier; and a reboot. */
function surroundings(path: ManagedPath): void {
  const inLab = inLabsOn(path);

  inLab(
    "a cloud image's profile, active on the NIC: put aside, ours takes over, and has it after a restart",
    async (lab) => {
      const foreign = {
        name: 'System eth0',
        uuid: '22222222-2222-4222-8222-222222222222',
        addresses: ['203.0.113.37/24'],
      };
      const [file, text] =
        path === 'keyfile'
          ? [`${KEYFILES}/System eth0.nmconnection`, keyfile(foreign)]
          : ['/etc/sysconfig/network-scripts/ifcfg-System_eth0', ifcfg(foreign)];
      await lab.router.write(file, text, path === 'keyfile' ? 0o600 : 0o644);
      await shell(lab, `nmcli connection load '${file}'`);
      await eventually(() => active(lab), foreign.uuid);
      const pings = await createTraffic(lab).startPings({ from: 'out', to: '203.0.113.37', perSecond: 100 });
      const { steps } = await reload(lab, two);
      const { lost } = await pings.stop();
      assert.ok(lost <= 5, `${lost} pings lost`);
      assert.ok(steps.some(({ text }) => text.startsWith(`- file ${file} (a foreign profile of eth0), kept as /var/`)));
      assert.ok(steps.some(({ text }) => text === '~ profile of eth0 activated by NetworkManager'));
      const ours = await active(lab);
      assert.notEqual(ours, foreign.uuid);
      assert.deepEqual(await addresses(lab), ['203.0.113.37/24', '203.0.113.50/32', '203.0.113.51/32']);
      assert.match(await shell(lab, 'nmcli -t -f NAME connection show'), /^(?!.*System eth0)/s);
      await reboot(lab);
      assert.equal(await active(lab), ours);
    },
  );

  inLab(
    'at boot: what claims NICs of ours with the highest priority, in /etc and in /run, is put aside by start',
    async (lab) => {
      await reload(lab, two);
      await lab.manager.stop();
      await shell(
        lab,
        `for nic in eth0 eth1; do ip address flush dev $nic; done; rm -rf /run/NetworkManager; mkdir -p -m 700 ${OF_BOOT}`,
      );
      const ifcfgs = '/etc/sysconfig/network-scripts';
      const uplinks: Record<string, string> =
        path === 'keyfile'
          ? { [`${KEYFILES}/cloud-init-eth0.nmconnection`]: keyfile({ device: 'eth0', priority: 999 }) }
          : { [`${ifcfgs}/ifcfg-cloud`]: ifcfg({ device: 'eth0', uuid: OURS, lines: ['AUTOCONNECT_PRIORITY=999'] }) };
      const ofBoot = { [`${OF_BOOT}/netplan-eth1.nmconnection`]: keyfile({ uuid: FOREIGN, mac: A, priority: 999 }) };
      for (const [file, text] of Object.entries({ ...uplinks, ...ofBoot })) await lab.router.write(file, text, 0o600);
      const { status, stdout } = await lab.kylin('start', '--json');
      assert.equal(status, 0, stdout);
      const kept = (file: string, device: string, backup: string) =>
        `- file ${file} (a foreign profile of ${device}), kept as ${backup}/${basename(file)}`;
      assert.deepEqual(
        (JSON.parse(stdout) as Report).steps.flatMap(({ kind, text }) => (kind === 'back-up-file' ? [text] : [])),
        [
          ...Object.keys(uplinks).map((file) => kept(file, 'eth0', '/var/lib/kylin-vr/backup')),
          ...Object.keys(ofBoot).map((file) => kept(file, 'eth1', '/run/kylin-vr/backup')),
        ],
      );
      const before = lab.manager.log().length;
      await lab.manager.restart();
      await eventually(() => addresses(lab, 'eth1'), ['10.10.1.254/24']);
      await eventually(() => addresses(lab), ['203.0.113.37/24', '203.0.113.50/32', '203.0.113.51/32']);
      await inSync(lab);
      const activated = lab.manager
        .log()
        .slice(before)
        .matchAll(/device \(eth\d\): Activation: starting connection '(.*?)'/g);
      assert.deepEqual([...activated].map(([, name]) => name).sort(), ['kylin-vr-eth0', 'kylin-vr-eth1']);
    },
  );

  inLab('a profile of this boot alone: put aside, and back after uninstall', async (lab) => {
    await shell(
      lab,
      'nmcli connection add save no con-name temporary type ethernet ifname eth0 ipv4.method manual ipv4.addresses 203.0.113.99/24 ipv6.method ignore',
    );
    await eventually(() => addresses(lab), ['203.0.113.99/24']);
    const file = `${OF_BOOT}/temporary.nmconnection`;
    const text = await lab.router.read(file);
    const { steps } = await reload(lab, two);
    assert.ok(
      steps.some(
        ({ text }) =>
          text === `- file ${file} (a foreign profile of eth0), kept as /run/kylin-vr/backup/temporary.nmconnection`,
      ),
    );
    await inSync(lab);
    assert.deepEqual(await addresses(lab), ['203.0.113.37/24', '203.0.113.50/32', '203.0.113.51/32']);
    assert.doesNotMatch(await shell(lab, 'nmcli -t -f NAME connection show'), /temporary/);

    const pings = await createTraffic(lab).startPings({ from: 'out', to: '203.0.113.37', perSecond: 100 });
    await shell(
      lab,
      'nmcli connection add save no con-name idle autoconnect no type ethernet ifname eth0 ipv4.method auto ipv6.method ignore',
    );
    assert.deepEqual(
      (await reload(lab, two)).steps.map(({ kind }) => kind),
      ['back-up-file', 'forget-profiles'],
    );
    await inSync(lab);
    assert.equal((await pings.stop()).lost, 0);

    // In memory alone, and before the file.
    await shell(lab, 'nmcli connection modify --temporary kylin-vr-eth0 +ipv4.addresses 203.0.113.98/32');
    await reload(lab, two);
    await inSync(lab);
    assert.doesNotMatch(await shell(lab, 'nmcli connection show kylin-vr-eth0'), /203\.0\.113\.98/);

    assert.equal((await lab.kylin('uninstall')).status, 0);
    assert.equal(await lab.router.read(file), text);
    assert.equal(await shell(lab, `stat -c %a ${file}`), '600\n');
  });

  inLab('what NetworkManager itself made for a NIC that somebody else had set up is left to it', async (lab) => {
    await reload(lab, two);
    await lab.manager.stop();
    await shell(lab, 'rm -rf /run/NetworkManager; ip address flush dev eth0; ip address add 203.0.113.37/24 dev eth0');
    await lab.manager.restart();
    await eventually(() => shell(lab, `grep -l nm-generated=true ${OF_BOOT}/eth0*`), `${OF_BOOT}/eth0.nmconnection\n`);
    assert.doesNotMatch((await lab.kylin('plan')).stdout, /kept as/);
    await reload(lab, two);
    await inSync(lab);
  });

  inLab('a profile that is active and a failure: the foreign one is back, and active', async (lab) => {
    const file = `${KEYFILES}/foreign.nmconnection`;
    await lab.router.write(file, keyfile({ addresses: ['203.0.113.99/24'] }), 0o600);
    await shell(lab, `nmcli connection load ${file}`);
    await eventually(() => active(lab), OURS);
    const tools = await recordTools(lab.router);
    await tools.before('nmcli', `case "$*" in *" up "*) case "$*" in *${OURS}*) ;; *) exit 4;; esac;; esac`);
    await lab.configure(two);
    const { status, report } = await kylin(lab);
    assert.deepEqual([status, report.result], [69, 'rolled-back'], JSON.stringify(report.warnings));
    assert.deepEqual(await addresses(lab), ['203.0.113.99/24']);
    assert.equal(await lab.router.read(file), keyfile({ addresses: ['203.0.113.99/24'] }));
  });

  inLab('two uplinks: metrics as rendered, exchanged, and one of them gone; routes', async (lab) => {
    const second = `  - { ipaddr: 10.10.2.254, prefix: 24, mac: '${B}', gateway: 10.10.2.1 }\n`;
    const defaults = () => shell(lab, "ip route show default | sed 's/ *$//'");
    const byPublic = 'default via 203.0.113.1 dev eth0 proto static';
    const byB = 'default via 10.10.2.1 dev eth2 proto static';
    await reload(lab, `if_list:\n${uplink}${second}${subnetA}`);
    assert.equal(await defaults(), `${byPublic}\n${byB} metric 1000\n`);
    await reload(lab, `if_list:\n${second}${uplink}${subnetA}`);
    assert.equal(await defaults(), `${byB}\n${byPublic} metric 1000\n`);
    await reload(lab, `if_list:\n${uplink}${subnetA}`);
    assert.equal(await defaults(), `${byPublic}\n`);
    const route = (via: string) => `${nics}route_list: [{ dest: 172.16.0.0/16, via: ${via} }]\n`;
    await reload(lab, route('10.10.1.1'));
    assert.equal(
      await shell(lab, 'ip route show 172.16.0.0/16'),
      '172.16.0.0/16 via 10.10.1.1 dev eth1 proto static \n',
    );
    await reload(lab, route('203.0.113.9'));
    assert.equal(
      await shell(lab, 'ip route show 172.16.0.0/16'),
      '172.16.0.0/16 via 203.0.113.9 dev eth0 proto static \n',
    );
    await reload(lab, nics);
    assert.equal(await shell(lab, 'ip route show 172.16.0.0/16'), '');
  });

  inLab(
    'a NIC without a carrier is given its addresses by ip, and keeps them when the carrier is there',
    async (lab) => {
      await lab.router.unplug(NICS.a);
      await lab.router.plug(NICS.a);
      // The other end is in another namespace: ask the hypervisor.
      await lab.wire(NICS.a, 'down');
      await eventually(() => shell(lab, 'nmcli -t -f DEVICE,STATE device | grep eth1'), 'eth1:unavailable\n');
      await reload(lab, two);
      assert.deepEqual(await addresses(lab, 'eth1'), ['10.10.1.254/24']);
      await lab.wire(NICS.a, 'up');
      // NetworkManager takes what it finds there for somebody else's; the next change of the NIC makes it ours.
      await eventually(
        () => shell(lab, 'nmcli -t -f DEVICE,STATE device | grep -o eth1:connected'),
        'eth1:connected\n',
      );
      await inSync(lab);
      await reload(lab, two.replace('10.10.1.254', '10.10.1.253'));
      assert.deepEqual(await addresses(lab, 'eth1'), ['10.10.1.253/24']);
      await eventually(() => shell(lab, 'nmcli -t -f DEVICE,STATE device | grep eth1'), 'eth1:connected\n');
    },
  );

  for (const [how, steps] of Object.entries(STANDING))
    inLab(`addresses that are there without a profile (${how}) stay, through every change`, async (lab) => {
      await reload(lab, two);
      for (const step of steps) {
        if (step === 'timer') assert.equal((await lab.kylin('reload', '--trigger', 'timer')).status, 0);
        else if (step === 'up') await lab.wire(NICS.public, step);
        // NetworkManager does not see a carrier go while it takes a device over, and says "connected (externally)" for good.
        else if (step === 'taken over') await eventually(() => stateOf(lab), 'connected (externally)');
        else if (step === 'down') {
          await lab.wire(NICS.public, step);
          // NetworkManager waits six seconds for a carrier.
          await eventually(() => stateOf(lab), 'unavailable');
        } else await shell(lab, step);
      }
      await eventually(async () => (await stateOf(lab)).replace(/ .*/, '') === 'unavailable', false);
      await sleep(500);
      const watch = await watchKernel({ lab, sh: (script) => shell(lab, script) });
      for (const config of [three, two.replace("mac: '52:54:84:00", "mtu: 1400, mac: '52:54:84:00"), two])
        await reload(lab, config);
      assert.deepEqual(
        (await watch.taken(1)).filter((change) => /^- \S+\/\d+$/.test(change)),
        ['- 203.0.113.52/32'],
      );
      assert.equal(await stateOf(lab), 'connected');
      await inSync(lab);
    });

  inLab(
    'while a bridge waits for Open vSwitch, a run that changes nothing asks NetworkManager nothing',
    async (lab) => {
      const waiting = two.replace('gateway: 203.0.113.1 ', 'gateway: 203.0.113.1, bridge: br-ex ');
      const { warnings } = await reload(lab, waiting);
      assert.ok(warnings.some(({ message }) => message.includes('Open vSwitch')));
      const tools = await recordTools(lab.router);
      for (const option of [[], ['--renderer', path]]) assert.equal((await lab.kylin('reload', ...option)).status, 0);
      assert.deepEqual(await managerCalls(tools), []);
    },
  );

  inLab('a NIC that goes down while NetworkManager is stopped: ip brings its network back', async (lab) => {
    const routed = `${two}route_list: [{ dest: 172.16.0.0/16, via: 10.10.1.1 }]\n`;
    await reload(lab, routed);
    await lab.manager.stop();
    const routes = () => shell(lab, "ip -4 route show dev eth1 | sed 's/ proto.*//'");
    for (const script of ['ip link set eth1 down', 'ip link set eth1 down; ip link set eth1 up']) {
      await shell(lab, script);
      assert.equal(await routes(), '');
      await reload(lab, routed);
      assert.equal(await routes(), '10.10.1.0/24\n172.16.0.0/16 via 10.10.1.1\n', script);
      await inSync(lab);
    }
    await lab.manager.restart();
    await reload(lab, three);
    await inSync(lab);
  });

  inLab('after a reboot NetworkManager alone, from the files, makes what the last reload made', async (lab) => {
    await reload(
      lab,
      `${three}route_list: [{ dest: 172.16.0.0/16, via: 10.10.1.1 }]\n`.replace(
        "mac: '52:54:84:11",
        "mtu: 1400, mac: '52:54:84:11",
      ),
    );
    const made = await networkOf(lab.router);
    await reboot(lab);
    assert.equal(await networkOf(lab.router), made);
    assert.match(await shell(lab, 'ip link show dev eth1'), / mtu 1400 /);
    await inSync(lab);
  });

  if (path === 'ifcfg') {
    inLab(
      'a stale keyfile of ours, or a copy of it that NetworkManager wrote, does not beat the ifcfg file',
      async (lab) => {
        await shell(lab, 'mkdir -p /etc/NetworkManager/system-connections');
        assert.equal((await kylin(lab, two, '--renderer', 'keyfile')).status, 0);
        const stale = `${KEYFILES}/kylin-vr-eth0.nmconnection`;
        await reload(lab, three);
        assert.equal(await lab.router.read(stale), undefined);
        await inSync(lab);
        assert.match(
          await shell(lab, 'nmcli -t -f DEVICE,FILENAME connection show --active'),
          /^eth0:\/etc\/sysconfig\/.*ifcfg-eth0$/m,
        );
        await shell(lab, 'nmcli connection migrate kylin-vr-eth0 --plugin keyfile 2>&1 || true');
        await reload(lab, two);
        assert.deepEqual(await addresses(lab), ['203.0.113.37/24', '203.0.113.50/32', '203.0.113.51/32']);
        assert.match(
          await shell(lab, 'nmcli -t -f DEVICE,FILENAME connection show --active'),
          /^eth0:\/etc\/sysconfig\/.*ifcfg-eth0$/m,
        );
      },
      { manager: { plugins: 'keyfile,ifcfg-rh' } },
    );
  }
}

const ARRIVING = Array.from({ length: 20 }, (_, n) => ({
  segment: 'a' as const,
  device: `lan${n}`,
  mac: `52:54:84:12:00:${n + 10}`,
}));

/** NICs that come in a row: none of them waits for what NetworkManager is not asked for yet. */
function arrivals(path: ManagedPath): void {
  describe('many NICs arrive', { concurrency: false }, () => {
    let lab: ManagedLab;
    let tools: Tools;
    before(async () => {
      lab = await createManagedLab(path, { nics: [NICS.public, NICS.a] });
      const subnets = ARRIVING.map(({ mac }, n) => `  - { ipaddr: 10.20.${n}.254, prefix: 24, mac: '${mac}' }\n`);
      await reload(lab, nics + subnets.join(''));
      tools = await recordTools(lab.router);
    });
    after(() => lab?.close());

    /** As long as NetworkManager makes no headway a run looks ten times a second, for 8 s. */
    const noneStoodStill = async () => {
      const calls = (await tools.taken()).map(({ command }) => command);
      const looks = calls.map((call) => (/^nmcli connection load /.test(call) ? ',' : /-save$/.test(call) ? 'x' : ''));
      assert.doesNotMatch(looks.join(''), /x{20}/);
    };
    const ready = async (count: number) => {
      const all = await shell(lab, 'ip -4 -o address show');
      return ARRIVING.slice(0, count).every(({ device }, n) => all.includes(` ${device}    inet 10.20.${n}.254/24 `));
    };

    it('20 within 4 s, each with its mark: all have their addresses soon after the last one', async (t) => {
      let over = false;
      const service = (async () => {
        while (!over) {
          if ((await lab.router.run(['test', '-e', MARK])).status === 0) {
            const { status, stderr } = await lab.router.run(['sh', '-c', reloadScript()]);
            assert.equal(status, 0, stderr);
          }
          await sleep(20);
        }
      })();
      try {
        const begun = performance.now();
        for (const [n, nic] of ARRIVING.entries()) {
          await sleep(Math.max(0, begun + n * 200 - performance.now()));
          await lab.router.plug(nic);
          await lab.router.run(['touch', MARK]);
        }
        const last = performance.now();
        // It is a second or less; with all else that goes on while tests run it may be ten.
        while (!(await ready(20)) && performance.now() - last < 30_000) await sleep(50);
        t.diagnostic(`${Math.round(performance.now() - last)} ms after the last one`);
        assert.ok(await ready(20));
      } finally {
        over = true;
        await service;
      }
      await noneStoodStill();
      await inSync(lab);
    });

    it('one while the profile of the one before is loaded, ten times: one run brings them all up, and waits for none', async () => {
      for (const nic of ARRIVING) await lab.router.unplug(nic);
      await reload(lab, (await lab.router.read('/etc/kylin-vr/kylin-vr.yaml')) ?? '');
      const [first, ...others] = ARRIVING.slice(0, 10);
      assert.ok(first !== undefined);
      await tools.before(
        'nmcli',
        'case "$*" in *"connection load"*) touch /run/asked; while [ -e /run/asked ]; do sleep 0.02; done;; esac',
      );
      await lab.router.plug(first);
      await tools.taken();
      let over = false;
      const run = kylin(lab).finally(() => {
        over = true;
      });
      for (const nic of [...others, undefined]) {
        while (!over && (await lab.router.run(['test', '-e', '/run/asked'])).status !== 0) await sleep(20);
        if (nic !== undefined) await lab.router.plug(nic);
        else await tools.before('nmcli');
        await lab.router.run(['rm', '-f', '/run/asked']);
      }
      const { status, report } = await run;
      assert.deepEqual([status, report.result], [0, 'changed'], JSON.stringify(report.errors));
      assert.ok(await ready(10));
      await noneStoodStill();
      await inSync(lab);
    });
  });
}

/** Addresses and routes that somebody else put on NICs of ours, which NetworkManager takes away. */
function bystanders(path: ManagedPath): void {
  describe('what is foreign on NICs of ours', { concurrency: false }, () => {
    let lab: ManagedLab;
    let tools: Tools;
    before(async () => {
      lab = await createManagedLab(path);
      await reload(lab, two);
      await shell(lab, `${BYSTANDERS}${STUBBORN}`);
      tools = await recordTools(lab.router);
    });
    after(() => lab?.close());

    it('is never away when EIPs come and go', async () => {
      const there = await bystandersOf(lab);
      const monitor = lab.router.spawn(['ip', '-o', 'monitor', 'address', 'route', 'dev', 'eth0']);
      const seen = text(monitor.stdout as Readable);
      await reload(lab, three);
      await reload(lab, two);
      await sleep(200);
      monitor.kill();
      const went = (await seen).split('\n').filter((line) => line.startsWith('Deleted '));
      assert.deepEqual(
        went.filter((line) => !line.includes('203.0.113.52')),
        [],
      );
      assert.ok(went.some((line) => line.includes('inet 203.0.113.52/32')));
      assert.equal(await bystandersOf(lab), there);
    });

    it('stays as it was when a profile is reapplied by nmcli, in the same run, and no packet of other flows is lost', async () => {
      const there = await bystandersOf(lab);
      assert.equal(there.split('\n').length, 28, there);
      await tools.before('busctl', REFUSES);
      const pings = await createTraffic(lab).startPings({ from: 'out', to: '203.0.113.50', perSecond: 100 });
      for (const config of [three, two, three, two]) {
        const { steps, warnings } = await reload(lab, config);
        assert.deepEqual(lostOnes(warnings), []);
        assert.ok(!steps.some(({ kind }) => kind === 'put-back'));
        assert.equal(await bystandersOf(lab), there);
      }
      assert.equal((await pings.stop()).lost, 0);
      assert.equal(await lab.router.read('/run/kylin-vr/foreign.json'), undefined);
      await tools.before('busctl');
    });

    it('stays when the NIC leaves if_list, also its global IPv4 address, and when it comes again', async () => {
      const there = await bystandersOf(lab);
      await shell(lab, 'ip address add 192.0.2.77/32 dev eth0');
      await reload(lab, `if_list:\n${subnetA}`);
      assert.equal(await bystandersOf(lab), there);
      assert.deepEqual(
        (await addresses(lab)).toSorted(),
        [...LINK_SCOPE, ...STUBBORN_SCOPE, '192.0.2.77/32'].toSorted(),
      );
      await inSync(lab);
      await reload(lab, two);
      assert.equal(await bystandersOf(lab), there);
      const ours = ['203.0.113.37/24', '203.0.113.50/32', '203.0.113.51/32'];
      assert.deepEqual((await addresses(lab)).toSorted(), [...LINK_SCOPE, ...STUBBORN_SCOPE, ...ours].toSorted());
    });

    it('stays when a change is taken back', async () => {
      const there = await bystandersOf(lab);
      const before = await addresses(lab);
      for (const call of ['load', 'reapply']) {
        // It does what it is asked for, once, and says that it did not; the other NIC is not tried any more.
        await tools.before(
          'nmcli',
          `case "$*" in *${call}*) mkdir /run/failed && /usr/bin/nmcli "$@" && exit 4;; esac 2> /dev/null`,
        );
        // Of global scope: removed by the change, and back when that is.
        await shell(lab, 'ip address add 192.0.2.77/32 dev eth0');
        await lab.configure(three.replace('10.10.1.254', '10.10.1.253'));
        const { status, report } = await kylin(lab);
        await tools.before('nmcli');
        await shell(lab, 'rmdir /run/failed');
        assert.deepEqual([status, report.result], [69, 'rolled-back'], JSON.stringify(report));
        assert.equal(await bystandersOf(lab), there, call);
        assert.deepEqual((await addresses(lab)).toSorted(), [...before, '192.0.2.77/32'].toSorted());
        await shell(lab, 'ip address delete 192.0.2.77/32 dev eth0');
      }
      await reload(lab, two);
    });

    it('is put back by the next run, and said, where one was killed before it could', async () => {
      const there = await bystandersOf(lab);
      await tools.before('busctl', REFUSES);
      await tools.before('nmcli', 'case "$*" in *reapply*) /usr/bin/nmcli "$@"; kill -9 $PPID; exit 1;; esac');
      await lab.configure(three);
      assert.equal((await lab.kylin('reload')).status, 137);
      await tools.before('nmcli');
      await tools.before('busctl');
      assert.notEqual(await bystandersOf(lab), there);
      const { stdout } = await lab.kylin('plan');
      assert.match(stdout, /^\+ address 2001:db8::1\/64 dev eth0 \(foreign, put back\)$/m);
      await tools.taken();
      const { steps } = await reload(lab, three);
      assert.ok(steps.every(({ kind }) => kind === 'put-back'));
      assert.deepEqual(await managerCalls(tools), []);
      assert.equal(await bystandersOf(lab), there);
      await inSync(lab);
      assert.equal(await lab.router.read('/run/kylin-vr/foreign.json'), undefined);
      await reload(lab, two);
    });

    it('of IPv6 stays where NetworkManager leaves that switched off', async () => {
      const there = await bystandersOf(lab);
      await tools.before('busctl', REFUSES);
      const off = 'echo 1 > /proc/sys/net/ipv6/conf/eth0/disable_ipv6';
      await tools.before('nmcli', `case "$*" in *reapply*) /usr/bin/nmcli "$@"; s=$?; ${off}; exit $s;; esac`);
      for (const config of [three, two]) {
        assert.deepEqual(lostOnes((await reload(lab, config)).warnings), []);
        assert.equal(await bystandersOf(lab), there);
      }
      await tools.before('nmcli');
      await tools.before('busctl');
    });

    it("stays when the NIC's own address changes, permanent neighbours included", async () => {
      const there = await bystandersOf(lab);
      await reload(lab, two.replace('203.0.113.37', '203.0.113.38'));
      assert.equal(await bystandersOf(lab), there);
      await reload(lab, two);
      assert.equal(await bystandersOf(lab), there);
    });

    it('what cannot be put back stays on record: each run says so, tries again and ends 69, and all else is done', async () => {
      const there = await bystandersOf(lab);
      await tools.before('busctl', REFUSES);
      await tools.before('ip', `case "$*" in *-force*) sed /172.20.0.0/d | /bin/ip "$@"; exit;; esac`);
      for (const config of [three, three, two]) {
        const { status, report } = await kylin(lab, config);
        const errors = report.errors.map(({ message }) => message.replace(' onlink', ''));
        assert.deepEqual([status, errors, lostOnes(report.warnings)], [69, [LOST], []]);
        assert.equal(await bystandersOf(lab), there.replace(/^unicast 172\.20\..*\n/m, ''));
        assert.equal(await lab.router.read('/var/lib/kylin-vr/last-good.yaml'), config);
      }
      assert.match(
        (await lab.kylin('plan')).stdout,
        /^\+ route 172\.20\.\S+ via 203\S+ dev eth0 proto boot (?:onlink )?\(foreign, put back\)$/m,
      );
      await tools.before('ip');
      await tools.before('busctl');
      assert.deepEqual(
        (await reload(lab, two)).steps.map(({ kind }) => kind),
        ['put-back'],
      );
      assert.equal(await bystandersOf(lab), there);
      await inSync(lab);
      assert.equal(await lab.router.read('/run/kylin-vr/foreign.json'), undefined);
    });

    it('nor is it forgotten where a later change loses more; what others put in its place is there instead', async () => {
      const there = await bystandersOf(lab);
      await tools.before('busctl', REFUSES);
      for (const [config, dropped] of [
        [three, '172.20'],
        [two, '172.2[01]'],
      ] as const) {
        await tools.before('ip', `case "$*" in *-force*) sed /${dropped}.0.0/d | /bin/ip "$@"; exit;; esac`);
        const { status, report } = await kylin(lab, config);
        assert.deepEqual([status, report.errors.length], [69, dropped === '172.20' ? 1 : 2], JSON.stringify(report));
      }
      await tools.before('busctl');
      await shell(
        lab,
        'ip route add 172.20.0.0/16 via 203.0.113.8 dev eth0; ip route add 172.21.0.0/16 via 203.0.113.8 dev eth0 metric 77',
      );
      const { status, report } = await kylin(lab, two);
      assert.deepEqual([status, report.result], [0, 'unchanged'], JSON.stringify(report));
      await tools.before('ip');
      assert.equal(await lab.router.read('/run/kylin-vr/foreign.json'), undefined);
      await shell(
        lab,
        `ip route delete 172.20.0.0/16; ip route delete 172.21.0.0/16
         ip route add 172.20.0.0/16 via 203.0.113.9 dev eth0
         ip route add 172.21.0.0/16 via 203.0.113.9 dev eth0 proto static metric 77`,
      );
      assert.equal(await bystandersOf(lab), there);
      await inSync(lab);
    });

    it('a route that the kernel does not take back, because its source address went, is said, and is no failure', async () => {
      const there = await bystandersOf(lab);
      await shell(lab, 'ip route add 172.30.0.0/16 via 203.0.113.9 dev eth0 src 203.0.113.51');
      const { warnings } = await reload(lab, withEips(['203.0.113.50']));
      assert.deepEqual(lostOnes(warnings), [
        'route 172.30.0.0/16 via 203.0.113.9 dev eth0 proto boot src 203.0.113.51 went with a change, ' +
          'and the kernel does not take it back: add it anew where it is still needed',
      ]);
      assert.equal(await bystandersOf(lab), there);
      await reload(lab, two);
    });
  });

  it('a NIC that somebody set up while NetworkManager was down is taken over without a flap, with what is foreign on it', async () => {
    const lab = await createManagedLab(path);
    try {
      await lab.manager.stop();
      await reload(lab, two);
      await shell(lab, `rm -rf /run/NetworkManager/devices; ${BYSTANDERS}`);
      await lab.manager.restart();
      await eventually(
        () => shell(lab, 'nmcli -t -f DEVICE,STATE device | grep ^eth0'),
        'eth0:connected (externally)\n',
      );
      const there = await bystandersOf(lab);
      const pings = await createTraffic(lab).startPings({ from: 'out', to: '203.0.113.50', perSecond: 100 });
      await reload(lab, three.replace('203.0.113.51', '203.0.113.53'));
      await sleep(300);
      const { sent, lost } = await pings.stop();
      assert.ok(sent > 30, `${sent} pings`);
      assert.equal(lost, 0);
      assert.equal(await bystandersOf(lab), there);
      assert.equal(await shell(lab, 'nmcli -t -f DEVICE,STATE device | grep ^eth0'), 'eth0:connected\n');
      const ours = ['203.0.113.37/24', '203.0.113.50/32', '203.0.113.52/32', '203.0.113.53/32'];
      assert.deepEqual((await addresses(lab)).toSorted(), [...LINK_SCOPE, ...ours].toSorted());
      await inSync(lab);
    } finally {
      await lab.close();
    }
  });
}

/** How a NIC with our addresses comes to have no profile of ours. */
const STANDING: Readonly<Record<string, readonly string[]>> = {
  'a carrier lost, and a run of the timer meanwhile': ['down', 'timer', 'up'],
  'the same, and lost again': ['down', 'timer', 'up', 'taken over', 'down', 'up'],
  'NetworkManager left it alone for a while': [
    'nmcli device set eth0 managed no',
    'timer',
    'nmcli device set eth0 managed yes',
  ],
  'a carrier lost, without a run': ['down', 'up'],
  'disconnected by hand, and a run': ['nmcli device disconnect eth0', 'timer'],
};

const stateOf = async (lab: ManagedLab): Promise<string> =>
  (await shell(lab, 'nmcli -t -f DEVICE,STATE device | sed -n s/^eth0://p')).trim();

const LOST =
  'route 172.20.0.0/16 via 203.0.113.9 dev eth0 proto boot is not ours, went with a change, and cannot be put back as it was: ' +
  'add it by hand, or remove /run/kylin-vr/foreign.json where nobody needs it; each run tries again';

const lostOnes = (warnings: Report['warnings']): string[] =>
  warnings.flatMap(({ message }) => (message.includes('went with a change') ? [message] : []));

/** Of every kind, with everything that `ip` can say of it. */
const BYSTANDERS = `
  ip -6 address add 2001:db8::1/64 dev eth0 nodad
  ip -6 address add 2001:db8:1::1/64 dev eth0 nodad noprefixroute valid_lft 10000 preferred_lft 9000
  ip -6 address add fe80::77/64 dev eth0 scope link nodad
  ip address add 169.254.7.7/16 scope link broadcast 169.254.255.255 label eth0:op metric 5 dev eth0
  ip address add 169.254.8.8/32 scope link noprefixroute valid_lft 10000 preferred_lft 9000 dev eth0
  ip address add 192.168.77.1 peer 192.168.77.2/32 scope link dev eth0
  ip -6 route add 2001:db8:2::/64 via 2001:db8::2 dev eth0
  ip -6 route add 2001:db8:3::/64 via fe80::2 dev eth0 proto static metric 7 expires 9000
  ip -6 route add 2001:db8:4::/64 nexthop via 2001:db8::2 dev eth0 nexthop via 2001:db8::3 dev eth0 weight 2
  ip -6 route add default via fe80::2 dev eth0 table 100
  ip route add 172.20.0.0/16 via 203.0.113.9 dev eth0
  ip route add 172.21.0.0/16 via 203.0.113.9 dev eth0 proto static metric 77
  ip route add 172.22.0.0/16 dev eth0 proto 99 scope link src 169.254.7.7 mtu lock 1300 initcwnd 20
  ip route add 172.23.0.0/16 nexthop via 203.0.113.8 dev eth0 weight 2 nexthop via 203.0.113.9 dev eth0
  ip route add 172.24.0.0/16 via 192.0.2.99 dev eth0 onlink
  ip route add default via 203.0.113.9 dev eth0 table 100`;

/** What `ip` takes in other words than it prints, or not in a batch. */
const STUBBORN = `
  ip address add 169.254.5.5/32 scope link preferred_lft 0 dev eth0
  ip address add 169.254.6.6/32 scope link label 'eth0:a #"b' dev eth0
  ip -6 address add 2001:db8:9::1/64 dev eth0 nodad preferred_lft 0
  ip -6 route add 2001:db8:1f::/64 via 2001:db8::2 dev eth0 rto_min 50ms
  ip route add 172.19.0.0/16 via 203.0.113.9 dev eth0 rto_min 50ms
  ip neighbour add 203.0.113.9 lladdr 02:00:00:00:00:09 nud permanent dev eth0
  ip neighbour add 2001:db8::9 lladdr 02:00:00:00:00:09 nud permanent dev eth0`;
const STUBBORN_SCOPE = ['169.254.5.5/32', '169.254.6.6/32'];
const LINK_SCOPE = ['169.254.7.7/16', '169.254.8.8/32', '192.168.77.1'];

/** All of them, without what counts down, the mark that a gateway is out of reach, and the kernel's own link-local address. */
const bystandersOf = async (lab: ManagedLab): Promise<string> =>
  (
    await shell(
      lab,
      `ip -oneline -4 address show dev eth0 scope link
       ip neighbour show dev eth0 nud permanent
       ip -oneline -6 address show dev eth0 | grep -v fe80::5054 || true
       for table in main 100; do ip -oneline -details -4 route show table $table; done | grep -v -e '^unicast 10\\.' -e '^unicast 203' -e ' proto static scope global *$' -e ' proto 175 ' || true
       for table in main 100; do ip -oneline -details -6 route show table $table; done | grep 'dev eth0' || true`,
    )
  )
    .replace(/ (valid_lft|preferred_lft) \d+sec| expires \d+sec| onlink\b|\\/g, '')
    .replace(/ +/g, ' ')
    .replace(/^\d+: /gm, '')
    .split('\n')
    .map((line) => line.trim())
    .filter((line) => line !== '')
    .toSorted()
    .join('\n');

/** NetworkManager stops, or loses a NIC, and comes back: each path takes over what the other left. */
function switched(path: ManagedPath): void {
  it('names that are exchanged in one go: NetworkManager knows one NIC less until it starts again, and ip serves that one', async () => {
    const lab = await createManagedLab(path);
    try {
      await reload(lab, two);
      const devices = () => shell(lab, 'nmcli --terse --fields DEVICE device | grep ^eth | sort | xargs');
      const check = async () => {
        await reload(lab, three);
        const all = ['203.0.113.37/24', '203.0.113.50/32', '203.0.113.51/32', '203.0.113.52/32'];
        assert.deepEqual((await addresses(lab, 'eth1')).toSorted(), all);
        assert.deepEqual(await addresses(lab, 'eth0'), ['10.10.1.254/24']);
        assert.match(await shell(lab, 'ip route show default'), /^default via 203\.0\.113\.1 dev eth1 .*\n$/);
        assert.match(await shell(lab, 'ip route show 10.10.1.0/24'), /^10\.10\.1\.0\/24 dev eth0 .*\n$/);
        await inSync(lab);
      };
      // Hearing of both at once, it takes the device that had the name for a part of the one that has it now (device_ip_iface_changed
      // in NetworkManager 1.42): after one exchange in 200, and after each during which it sleeps.
      process.kill(lab.manager.pid, 'SIGSTOP');
      await shell(
        lab,
        `for nic in eth0 eth1; do ip link set $nic down; done
        ip link set eth0 name tmp0; ip link set eth1 name eth0; ip link set tmp0 name eth1`,
      );
      process.kill(lab.manager.pid, 'SIGCONT');
      await check();
      assert.equal(await devices(), 'eth1 eth2\n');
      await lab.manager.restart();
      await check();
      assert.equal(await devices(), 'eth0 eth1 eth2\n');
    } finally {
      await lab.close();
    }
  });

  it('paths switch: NetworkManager, ip, NetworkManager again, with another gateway each time: one default route, no address lost', async () => {
    const lab = await createManagedLab(path);
    try {
      const gateway = (last: number) => three.replace('gateway: 203.0.113.1 ', `gateway: 203.0.113.${last} `);
      const defaults = () => shell(lab, "ip route show default | sed 's/ proto.*//'");
      const all = ['203.0.113.37/24', '203.0.113.50/32', '203.0.113.51/32', '203.0.113.52/32'];
      const check = async (last: number) => {
        assert.equal(await defaults(), `default via 203.0.113.${last} dev eth0\n`);
        assert.deepEqual((await addresses(lab)).toSorted(), all);
        await inSync(lab);
      };
      await lab.manager.stop();
      await reload(lab, gateway(1));
      await check(1);
      await lab.manager.restart();
      await reload(lab, gateway(2));
      await check(2);
      const pings = await createTraffic(lab).startPings({ from: 'out', to: '203.0.113.37', perSecond: 100 });
      await lab.manager.stop();
      await reload(lab, gateway(1));
      await check(1);
      await lab.manager.restart();
      await reload(lab, gateway(2));
      await check(2);
      assert.equal((await pings.stop()).lost, 0);
    } finally {
      await lab.close();
    }
  });
}

/** What a reboot leaves: the files. */
export async function reboot(lab: ManagedLab): Promise<void> {
  const before = await networkOf(lab.router);
  await lab.manager.stop();
  await shell(
    lab,
    'for nic in eth0 eth1 eth2; do ip link set $nic down; ip address flush dev $nic; done; rm -rf /run/NetworkManager',
  );
  await lab.manager.restart();
  for (let waited = 0; waited < 5000 && (await networkOf(lab.router)) !== before; waited += 100) await sleep(100);
}

const active = async (lab: ManagedLab) =>
  /^eth0:(.*)$/m.exec(await shell(lab, 'nmcli -t -f DEVICE,CON-UUID device'))?.[1] ?? '';

export const addresses = async (lab: ManagedLab, device = 'eth0') =>
  [...(await shell(lab, `ip -4 -o address show dev ${device}`)).matchAll(/ inet (\S+)/g)].map(([, spec = '']) => spec);

const managerCalls = async (tools: Tools) =>
  (await tools.taken()).map(({ command }) => command).filter((command) => /^(nmcli|busctl) /.test(command));

/** As NetworkManager before 1.42 does, of whose calls the last is the one: the flag that preserves what is foreign is unknown there. */
const REFUSES = 'case "$*" in *" Reapply "*) echo "Call failed: Invalid flags specified" >&2; exit 1;; esac';

export const shell = async (lab: ManagedLab, script: string): Promise<string> =>
  (await lab.router.run(['sh', '-ec', script], { check: true })).stdout;

export async function inSync(lab: ManagedLab): Promise<void> {
  assert.equal((await lab.kylin('plan')).stdout, 'in sync\n');
}

export type Report = {
  result: string;
  steps: { kind: string; text: string }[];
  warnings: { message: string }[];
  errors: { message: string }[];
};

export async function kylin(
  lab: ManagedLab,
  config?: string,
  ...args: string[]
): Promise<{ status: number; report: Report }> {
  if (config !== undefined) await lab.configure(config);
  const { status, stdout } = await lab.kylin('reload', '--json', ...args);
  return { status, report: JSON.parse(stdout) };
}

export async function reload(lab: ManagedLab, config: string): Promise<Report> {
  const { status, report } = await kylin(lab, config);
  assert.equal(status, 0, JSON.stringify([report.errors, report.warnings, report.steps.slice(0, 20)], null, 1));
  return report;
}
