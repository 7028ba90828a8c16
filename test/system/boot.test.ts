// kylin-vr on a machine with systemd, udev, NetworkManager and a guest agent: boot, hotplug, power cut, firewalld.

import assert from 'node:assert/strict';
import { mkdtemp, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { bridged } from '../bridge/moves.ts';
import { eventually } from '../lab/eventually.ts';
import { ADDRESSES, NICS, type Router } from '../lab/lab.ts';
import { networkOf } from '../lab/state.ts';
import { EIPS, elastic, snat } from '../lab/table.ts';
import { stubDeb } from '../packages/built.ts';
import { bootWasClean, CONFIG, createPromises, debOf, disturb, failedUnits, installed } from './guest.ts';
import { withContainer } from './lab/container.ts';
import type { Machine } from './lab/machine.ts';
import { withVm } from './lab/vm.ts';
import { uplinkOf, withOvs } from './ovs.ts';

const SOON_MS = 20_000;
/** What waits for the timer, which has 50 s: the same in five. */
const QUICK_TIMER = {
  '/etc/systemd/system/kylin-vr-reload.timer.d/laboratory.conf':
    '[Timer]\nOnActiveSec=\nOnUnitInactiveSec=\nOnActiveSec=5s\nOnUnitInactiveSec=5s\nAccuracySec=1s\n',
};
/** Without KVM a run takes ten seconds and more; one whose NIC was pulled while it ran was seen to take over a minute. */
const IN_VM_MS = 300_000;
/** The file is read twice, two seconds apart, before an automatic run takes it; the run that waits for it included. */
const AUTOMATIC = ['systemctl', 'start', 'kylin-vr-reload.service'];
/** In the kernel, where the uplink's NIC is `ovs-system`'s. */
const ON_BRIDGE = 'address on br-ex, eth0 is unmanaged, a port of br-ex, master ovs-system';
const BAD = elastic.config.replace(`mac: '${NICS.a.mac}'`, 'mac: nonsense');
const withoutB = {
  ...elastic,
  config: elastic.config.replace(/.*10\.10\.2\.254.*\n/, '').replace(/.*vm-ip: 10\.10\.2\..*\n/g, ''),
};

const network = (machine: Machine) => networkOf(machine.lab.router);
/** Without the profiles. */
const running = async (machine: Machine) => (await network(machine)).replace(/^(?:-rw| {2}).*\n/gm, '');

/** A call that does not come back: the run stands still before what it would change next. */
const holdAt = (call: string) => `case "$*" in *${call}*) : > /run/held; exec sleep 600 ;; esac`;
const held = async (machine: Machine) => ((await machine.run(['test', '-e', '/run/held'])).status === 0 ? 'held' : '');

const OVS_DROP_INS = '/run/systemd/system/ovs-vswitchd.service.d';

/** The package that runs with the guest's own Node, which this tree has in a place of its own. */
const bring = (nodejs: Buffer) => async (router: Router, root: string) => {
  const place = (name: string, content: Buffer) =>
    router.run(['sh', '-ec', 'base64 -d > "$1"', 'sh', `${root}/root/${name}.deb`], {
      input: content.toString('base64'),
      check: true,
    });
  await place('nodejs', nodejs);
  await place('kylin-vr', await readFile(debOf('kylin-vr')));
  await router.run(['ln', '-s', '/opt/node/bin/node', `${root}/usr/bin/node`], { check: true });
};

/** What the machine has of the NIC b and its subnet: addresses, routes, profiles. */
async function ofNicB(machine: Machine): Promise<string> {
  const files = '/etc/NetworkManager/system-connections/*';
  return ofB(machine, `ip -4 address; ip -4 route show table all; cat ${files} 2> /dev/null`);
}

/** And the rules of VMs there, which stay as long as the configuration names the VMs. */
const rulesOfB = (machine: Machine) => ofB(machine, 'iptables-save');

async function ofB(machine: Machine, script: string): Promise<string> {
  const { stdout } = await machine.run(['sh', '-c', script]);
  return stdout
    .split('\n')
    .filter((line) => /\b10\.10\.2\.|52:54:84:11:00:05/i.test(line))
    .join('\n');
}

test('1. install the package, write the configuration, reboot: routed traffic without anyone logging in', async () => {
  const folder = await mkdtemp(join(tmpdir(), 'kylin-vr-system-'));
  const nodejs = await readFile(await stubDeb(folder, 'nodejs', '20.19.0-1'));
  await rm(folder, { recursive: true });
  await withContainer({ prepare: bring(nodejs) }, async (machine) => {
    const promises = await createPromises(machine);
    const { stdout } = await machine.run(['dpkg', '-i', '/root/nodejs.deb', '/root/kylin-vr.deb'], { check: true });
    assert.match(stdout, /takes effect with the next boot/);
    assert.match((await machine.run(['kylin-vr', 'check'])).stdout, /valid \(0 NICs/);
    await machine.write(CONFIG, elastic.config, 0o600);
    await machine.reboot();
    await eventually(() => promises.broken(elastic), '', SOON_MS);
    await bootWasClean(machine);
    const again = await machine.run(['kylin-vr', 'install']);
    assert.doesNotMatch(again.stdout, /^[+~-] /m);
  });
});

test('2. the host writes the file through the guest agent, reloads, and reads how it ended', async () => {
  await withContainer(installed(snat.config), async (machine) => {
    const promises = await createPromises(machine);
    const { agent } = machine;
    await agent.write(CONFIG, elastic.config);
    const good = await agent.run(['/usr/bin/kylin-vr', 'reload', '--json']);
    assert.equal(good.status, 0, good.stdout + good.stderr);
    assert.equal(JSON.parse(good.stdout).result, 'changed');
    assert.equal(await promises.broken(elastic), '');
    assert.match((await machine.run(['stat', '-c', '%a', CONFIG])).stdout, /^600/);

    // As the callers of 0.1 do it: by its own first line, and through an interpreter.
    await agent.write(CONFIG, snat.config);
    const old = await agent.run(['/usr/bin/kylin-vr.py', '-c', 'reload']);
    assert.equal(old.status, 0, old.stdout + old.stderr);
    assert.equal(await promises.broken(snat), '');
    await agent.write(CONFIG, elastic.config);
    assert.equal((await agent.run(['sh', '/usr/local/bin/kylin-vr.py', '--reload'])).status, 0);
    assert.equal(await promises.broken(elastic), '');

    await agent.write(CONFIG, BAD);
    const bad = await agent.run(['/usr/bin/kylin-vr', 'reload']);
    assert.equal(bad.status, 65);
    assert.match(bad.stdout + bad.stderr, /kylin-vr\.yaml:3:\d+: if_list\[1\]\.mac: /);
    assert.equal(await promises.broken(elastic), '');
  });
});

test('3. a NIC that comes after its configuration, or before it; one that goes leaves nothing', async () => {
  const nics = [NICS.public, NICS.a];
  await withContainer({ nics, ...installed(elastic.config) }, async (machine) => {
    const promises = await createPromises(machine);
    await machine.plug(NICS.b);
    await eventually(() => promises.broken(elastic), '', SOON_MS);

    await machine.unplug(NICS.b);
    await eventually(() => ofNicB(machine), '', SOON_MS);
    assert.equal(await failedUnits(machine), '');
    assert.equal((await machine.run(['kylin-vr', 'status', '--json'])).status, 0);
    await machine.agent.write(CONFIG, withoutB.config);
    assert.equal((await machine.agent.run(['kylin-vr', 'reload'])).status, 0);
    assert.equal(await ofNicB(machine), '');
    assert.equal(await rulesOfB(machine), '');
  });

  await withContainer({ nics, ...installed(withoutB.config), files: QUICK_TIMER }, async (machine) => {
    const promises = await createPromises(machine);
    await machine.plug(NICS.b);
    await sleep(1000);
    await machine.agent.write(CONFIG, elastic.config);
    await eventually(() => promises.broken(elastic), '', SOON_MS);
    assert.equal(await failedUnits(machine), '');
  });
});

test('4. twenty NICs that come and go in a row: the last word counts', async () => {
  await withContainer(installed(elastic.config), async (machine) => {
    const promises = await createPromises(machine);
    await eventually(() => promises.broken(elastic), '', SOON_MS);
    const before = await network(machine);
    for (let round = 0; round < 20; round++) {
      await machine.unplug(NICS.b);
      if (round % 3 === 0) await sleep(100);
      await machine.plug(NICS.b);
      if (round % 4 === 0) await sleep(150);
    }
    // NetworkManager activates the NIC by itself as soon as it is there, and the reload that was under way then
    // activates it again (two "Activation: starting" 50 ms apart in its journal): right, away, right again.
    await eventually(() => promises.broken(elastic), '', SOON_MS);
    await eventually(() => network(machine), before, SOON_MS);

    for (let round = 0; round < 20; round++) {
      if (round > 0) await machine.plug(NICS.b);
      await machine.unplug(NICS.b);
    }
    await eventually(() => ofNicB(machine), '', SOON_MS);
    assert.equal(await failedUnits(machine), '');
  });
});

test('5. a reboot, and a power cut in the middle of a reload: the same network again', async () => {
  await withContainer(installed(elastic.config), async (machine) => {
    const promises = await createPromises(machine);
    await eventually(() => promises.broken(elastic), '', SOON_MS);
    const before = await network(machine);
    await machine.reboot();
    await eventually(() => promises.broken(elastic), '', SOON_MS);
    await eventually(() => network(machine), before, SOON_MS);

    // Between two of the calls that change the network, and at an instant of no choice.
    for (const where of ['[Ll]oad', '[Rr]eapply', undefined]) {
      await machine.write(CONFIG, snat.config, 0o600);
      if (where !== undefined)
        for (const tool of ['nmcli', 'busctl']) await disturb(machine, `/usr/bin/${tool}`, holdAt(where));
      await machine.agent.call('guest-exec', { path: '/usr/bin/kylin-vr', arg: ['reload'] });
      if (where === undefined) await sleep(120);
      else {
        await eventually(() => held(machine), 'held', SOON_MS);
        assert.notEqual(await network(machine), before);
      }
      const middle = await network(machine);
      await machine.powerCut();
      await machine.boot();
      await eventually(() => promises.broken(snat), '', SOON_MS);
      if (where !== undefined) assert.notEqual(await network(machine), middle);
      assert.equal(await failedUnits(machine), '');

      await machine.write(CONFIG, elastic.config, 0o600);
      await machine.run(['kylin-vr', 'reload'], { check: true });
      await eventually(() => network(machine), before, SOON_MS);
    }
  });
});

test('6. a bad configuration at boot: the last good one routes, status and journal say why', async () => {
  await withContainer(installed(elastic.config), async (machine) => {
    const promises = await createPromises(machine);
    await eventually(() => promises.broken(elastic), '', SOON_MS);
    await machine.write(CONFIG, BAD, 0o600);
    await machine.reboot();
    await eventually(() => promises.broken(elastic), '', SOON_MS);
    const status = await machine.run(['kylin-vr', 'status']);
    assert.match(status.stdout + status.stderr, /if_list\[1\]\.mac/);
    assert.match(await machine.journal('-b', '-u', 'kylin-vr'), /if_list\[1\]\.mac/);
    assert.match((await machine.run(['systemctl', 'is-active', 'kylin-vr'])).stdout, /^active/);
  });
});

test('7. uninstall and removal leave the running network, --flush takes it down', async () => {
  await withContainer(installed(elastic.config), async (machine) => {
    const promises = await createPromises(machine);
    await eventually(() => promises.broken(elastic), '', SOON_MS);
    const [before, runs] = [await network(machine), await running(machine)];
    const units = () => machine.run(['systemctl', 'list-units', '--plain', '--no-legend', '--all', 'kylin-vr*']);

    const { stdout } = await machine.run(['kylin-vr', 'uninstall'], { check: true });
    assert.match(stdout, /^- link .*multi-user\.target\.wants\/kylin-vr\.service/m);
    assert.equal(await running(machine), runs);
    assert.equal(await promises.broken(elastic), '');
    assert.doesNotMatch((await units()).stdout, / active /);

    await machine.run(['kylin-vr', 'install', '--now'], { check: true });
    assert.equal(await network(machine), before);
    assert.match((await units()).stdout, /kylin-vr\.service .* active /);

    // As an operator who changes his mind.
    await machine.run(['dpkg', '--remove', 'kylin-vr-standalone'], { check: true });
    assert.equal(await running(machine), runs);
    assert.equal(await promises.broken(elastic), '');
    assert.equal((await units()).stdout, '');
    assert.equal(await failedUnits(machine), '');
    assert.equal(await machine.read(CONFIG), elastic.config);
    await machine.reboot();
    assert.equal(await failedUnits(machine), '');
    const left = 'iptables-save; ip -4 -o address; ls /etc/NetworkManager/system-connections';
    assert.doesNotMatch((await machine.run(['sh', '-c', left])).stdout, /KYLIN-VR|kylin-vr|203\.0\.113\.|10\.10\./);
  });

  await withContainer(installed(elastic.config), async (machine) => {
    const promises = await createPromises(machine);
    await eventually(() => promises.broken(elastic), '', SOON_MS);
    await machine.run(['kylin-vr', 'uninstall', '--flush'], { check: true });
    const left = 'iptables-save; ip -4 -o address; ls /etc/NetworkManager/system-connections';
    assert.doesNotMatch((await machine.run(['sh', '-c', left])).stdout, /KYLIN-VR|kylin-vr|203\.0\.113\.|10\.10\./);
    assert.equal(await machine.read(CONFIG), elastic.config);
  });
});

test('8. firewalld: routed traffic after boot, and after its reload', async () => {
  await withContainer(installed(elastic.config, '--firewalld'), async (machine) => {
    const promises = await createPromises(machine);
    await machine.run(['systemctl', 'enable', 'firewalld'], { check: true });
    await machine.reboot();
    assert.match((await machine.run(['systemctl', 'is-active', 'firewalld'])).stdout, /^active/);
    // Its zone admits ssh and little else to the router itself.
    const passing = {
      ...elastic,
      promises: elastic.promises.filter(({ promise }) => !promise.startsWith("the router's own services")),
    };
    await eventually(() => promises.broken(passing), '', SOON_MS);
    await machine.run(['systemctl', 'stop', 'kylin-vr-reload.timer'], { check: true });
    for (const how of ['--reload', '--complete-reload', '--reload']) {
      await machine.run(['firewall-cmd', how], { check: true });
      await eventually(() => promises.broken(passing), '', SOON_MS);
    }
    await bootWasClean(machine);
    const waits = async () => (await machine.run(['systemctl', 'is-active', 'kylin-vr-firewalld'])).stdout.trim();
    await machine.run(['systemctl', 'stop', 'firewalld'], { check: true });
    assert.equal(await waits(), 'inactive');
    await machine.run(['systemctl', 'start', 'firewalld'], { check: true });
    assert.equal(await waits(), 'active');
    // An upgrade brings it to a machine where firewalld runs already.
    await machine.run(['systemctl', 'stop', 'kylin-vr-firewalld'], { check: true });
    await machine.run(['kylin-vr', 'install', '--now', '--firewalld'], { check: true });
    assert.equal(await waits(), 'active');
  });
});

test('8. what flushes every rule, or foreign addresses, when it starts: ours are back at once', async () => {
  await withContainer(installed(elastic.config), async (machine) => {
    const promises = await createPromises(machine);
    await eventually(() => promises.broken(elastic), '', SOON_MS);
    await machine.run(['systemctl', 'stop', 'kylin-vr-reload.timer'], { check: true });
    await machine.run(['systemctl', 'unmask', 'systemd-networkd'], { check: true });
    await machine.write('/etc/systemd/network/a.network', '[Match]\nName=eth1\n[Network]\nLLDP=no\n');
    for (const unit of ['nftables', 'systemd-networkd', 'nftables', 'systemd-networkd']) {
      await machine.run(['systemctl', 'restart', unit], { check: true });
      await eventually(() => promises.broken(elastic), '', SOON_MS);
    }
  });
});

/** As /etc/init.d/network does beside its NICs: apply_sysctl when it starts, no forwarding when it stops. */
const NETWORK_SERVICE = `[Service]
Type=oneshot
RemainAfterExit=yes
ExecStart=/usr/lib/systemd/systemd-sysctl
ExecStop=/sbin/sysctl -qw net.ipv4.ip_forward=0
`;

test('8. service network restart of EL: forwarding is back at once, IPv6 stays with who brought it back', async () => {
  await withContainer(installed(elastic.config), async (machine) => {
    const promises = await createPromises(machine);
    await eventually(() => promises.broken(elastic), '', SOON_MS);
    const disabled = async () => {
      const names = ['all', 'default', 'eth0'].map((name) => `/proc/sys/net/ipv6/conf/${name}/disable_ipv6`);
      return (await machine.run(['cat', ...names], { check: true })).stdout.replaceAll('\n', '');
    };
    assert.equal(await disabled(), '111');
    await machine.run(['sysctl', '-qw', 'net.ipv6.conf.all.disable_ipv6=0'], { check: true });
    await machine.run(['systemctl', 'stop', 'kylin-vr-reload.timer'], { check: true });
    await machine.write('/etc/systemd/system/network.service', NETWORK_SERVICE);
    await machine.run(['systemctl', 'daemon-reload'], { check: true });
    await machine.run(['systemctl', 'start', 'network'], { check: true });
    for (let restart = 0; restart < 2; restart++) {
      await machine.run(['systemctl', 'restart', 'network'], { check: true });
      await eventually(() => promises.broken(elastic), '', SOON_MS);
      assert.equal(await disabled(), '000');
    }
    await machine.run(['systemctl', 'restart', 'kylin-vr'], { check: true });
    assert.equal(await disabled(), '000');
  });
});

test('9. an invalid configuration, then three runs of the timer: the last good one stays, nothing flaps', async () => {
  await withContainer(installed(elastic.config), async (machine) => {
    const promises = await createPromises(machine);
    await eventually(() => promises.broken(elastic), '', SOON_MS);
    const before = await network(machine);
    await machine.write(CONFIG, BAD, 0o600);
    const pings = await promises.traffic.startPings({ from: 'far', to: EIPS.x, perSecond: 50 });
    for (let run = 0; run < 3; run++) {
      await machine.run(AUTOMATIC);
      assert.equal(await network(machine), before);
    }
    assert.equal((await pings.stop()).lost, 0);
    // What a foreign tool wiped meanwhile is repaired all the same.
    await machine.run(['iptables', '-t', 'nat', '-F'], { check: true });
    await machine.run(AUTOMATIC);
    assert.equal(await promises.broken(elastic), '');
  });
});

test('9. a configuration that was rolled back, or not confirmed: the timer does not try it again', async () => {
  await withContainer(installed(elastic.config), async (machine) => {
    const promises = await createPromises(machine);
    await eventually(() => promises.broken(elastic), '', SOON_MS);
    const before = await network(machine);
    const staysSo = async () => {
      const pings = await promises.traffic.startPings({ from: 'far', to: EIPS.x, perSecond: 50 });
      for (let run = 0; run < 3; run++) {
        await machine.run(AUTOMATIC);
        assert.equal(await network(machine), before);
      }
      assert.equal((await pings.stop()).lost, 0);
      assert.equal(await failedUnits(machine), '');
    };

    await machine.write(CONFIG, snat.config, 0o600);
    const busctl = await disturb(machine, '/usr/bin/busctl', 'exit 1');
    const nmcli = await disturb(machine, '/usr/bin/nmcli', 'case "$*" in *reapply*) exit 4 ;; esac');
    const failed = await machine.run(['kylin-vr', 'reload', '--json']);
    assert.deepEqual([failed.status, JSON.parse(failed.stdout).result], [69, 'rolled-back'], failed.stdout);
    await nmcli.mend();
    await busctl.mend();
    await staysSo();

    const unconfirmed = await machine.run(['kylin-vr', 'reload', '--confirm-within', '2']);
    assert.equal(unconfirmed.status, 0, unconfirmed.stderr);
    assert.equal(await promises.broken(snat), '');
    await eventually(() => network(machine), before, SOON_MS);
    await staysSo();
  });
});

/** Open vSwitch with the kernel's module, which a container has not. */
test('1, 3, 5 in a whole machine: boot, PCI hotplug, onto a bridge and back, reboot, power cut', async (t) => {
  await withVm({ nics: [NICS.public, NICS.a], ...withOvs(installed(elastic.config)) }, async (machine) => {
    const promises = await createPromises(machine, { ownNamespace: false });
    const broken = () => promises.broken(elastic);
    const { traffic } = promises;
    const reaches = async (to: string) => {
      const answer = await traffic.probe({ from: 'out', to, port: 80, transport: 'tcp', timeoutMs: 3000 });
      return answer.reached ? answer.by : answer.why;
    };
    await eventually(() => reaches(EIPS.v), 'v', IN_VM_MS);
    await bootWasClean(machine);

    await machine.plug(NICS.b);
    await eventually(() => reaches(EIPS.x), 'x', IN_VM_MS);
    await eventually(broken, '', IN_VM_MS);
    t.diagnostic('hot-added');
    await machine.agent.write(CONFIG, bridged(elastic.config, 'ovs'));
    const reload = ['kylin-vr', 'reload', '--lock-timeout', `${IN_VM_MS / 1000}`];
    await machine.run(reload, { check: true, timeoutMs: IN_VM_MS });
    assert.equal(await uplinkOf(machine), ON_BRIDGE);
    assert.equal(await reaches(EIPS.v), 'v');
    t.diagnostic('on the bridge');

    // The bridge and its ports stay, with a carrier, and the kernel goes on with what it knows. A stop of the unit stops ovsdb-server
    // too (Debian 12), and killed it is started again.
    await machine.run(['mkdir', '-p', OVS_DROP_INS], { check: true });
    await machine.agent.write(`${OVS_DROP_INS}/stays-dead.conf`, '[Service]\nRestart=no\n');
    await machine.run(['systemctl', 'daemon-reload'], { check: true });
    await machine.run(['systemctl', 'kill', '--signal=KILL', 'ovs-vswitchd'], { check: true });
    const left = await machine.run(['kylin-vr', 'reload', '--json'], { timeoutMs: IN_VM_MS });
    const { warnings } = JSON.parse(left.stdout) as { warnings: { message: string }[] };
    assert.match(
      warnings.map(({ message }) => message).join('\n'),
      /stays as it is, a port of br-ex: Open vSwitch is silent: its database names br-ex, and ovs-vswitchd does not run: /,
    );
    assert.equal(await uplinkOf(machine), ON_BRIDGE);
    await machine.run(['systemctl', 'start', 'ovs-vswitchd'], { check: true });
    await eventually(() => reaches(EIPS.v), 'v', IN_VM_MS);
    t.diagnostic('without ovs-vswitchd, and with it again');

    await machine.unplug(NICS.b);
    await eventually(() => ofNicB(machine), '', IN_VM_MS);
    t.diagnostic('hot-removed');

    await machine.plug(NICS.b);
    await machine.reboot();
    await eventually(broken, '', IN_VM_MS);
    assert.equal(await uplinkOf(machine), ON_BRIDGE);
    await bootWasClean(machine);
    t.diagnostic('rebooted');

    // The last of the move back: NetworkManager gets the NIC.
    await machine.agent.write(CONFIG, snat.config);
    await disturb(machine, '/usr/bin/nmcli', holdAt('managed'));
    await machine.run(['sync']);
    await machine.agent.call('guest-exec', { path: '/usr/bin/kylin-vr', arg: ['reload'] });
    await eventually(() => held(machine), 'held', IN_VM_MS);
    // Addresses are new, rules still old: status says that, and who is at work.
    const status = await machine.run(['kylin-vr', 'status', '--json']);
    const { inSync, running } = JSON.parse(status.stdout);
    assert.deepEqual([status.status, inSync], [2, false]);
    assert.match(running, /reload/);
    t.diagnostic(`cut off in the middle: ${running}`);
    await machine.powerCut();
    await machine.boot();
    await eventually(() => promises.broken(snat), '', IN_VM_MS);
    await eventually(() => uplinkOf(machine), 'address on eth0, eth0 is connected', IN_VM_MS);
    await bootWasClean(machine);
    assert.equal(await reaches(ADDRESSES.router), 'refused');
  });
});
