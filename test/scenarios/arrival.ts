// NICs that come, go and are renamed, and the subnets that go with them.

import assert from 'node:assert/strict';
import { after, before, describe, it } from 'node:test';
import { type Lab, NICS } from '../lab/lab.ts';
import { createLabOn, NAME_OF, type Path } from '../lab/path.ts';
import { networkOf } from '../lab/state.ts';

const [U, A, B] = [NICS.public.mac, NICS.a.mac, NICS.b.mac];
const uplink = `  - { ipaddr: 203.0.113.37, prefix: 24, mac: '${U}', gateway: 203.0.113.1, name: public }\n`;
const subnetA = `  - { ipaddr: 10.10.1.254, prefix: 24, mac: '${A.toUpperCase()}' }\n`;
const subnetB = `  - { ipaddr: 10.10.2.254, prefix: 24, mac: '${B}' }\n`;
const eipA = '  - { eip: 203.0.113.50, vm-ip: 10.10.1.11 }\n';
const eipB = '  - { eip: 203.0.113.51, vm-ip: 10.10.2.21 }\n';
const forwards =
  'port_forward_list:\n  - { eip: 203.0.113.60, protocal: tcp, port: 8080, vm-port: 80, vm-ip: 10.10.1.12 }\n';
const routes = 'route_list:\n  - { dest: 172.24.0.0/16, via: 10.10.2.9 }\n';

const config = `if_list:\n${uplink}${subnetA}${subnetB}eip_list:\n${eipA}${eipB}${forwards}${routes}`;
const withoutB = `if_list:\n${uplink}${subnetA}eip_list:\n${eipA}${forwards}`;
const withoutUplink = `if_list:\n${subnetA}${subnetB}${routes}`;

export function arrival(path: Path): void {
  describe(`NICs and subnets: ${NAME_OF[path]}`, { concurrency: false }, () => nics(path));
}

function nics(path: Path): void {
  let lab: Lab;
  /** What routers have that were given the configuration with all their NICs there from the start. */
  let whole: string;
  let reducedToA: string;
  let subnetsOnly: string;
  let nothing: string;

  before(async () => {
    [whole, reducedToA, subnetsOnly, nothing] = (await Promise.all(
      [config, withoutB, withoutUplink, 'if_list: []\n'].map((yaml) => fresh(path, yaml)),
    )) as [string, string, string, string];
    lab = await createLabOn(path, {
      nics: [NICS.public, NICS.a],
      // An operator's own bridge.
      manager: { configuration: '[keyfile]\nunmanaged-devices=interface-name:br9\n' },
    });
  });
  after(() => lab?.close());

  it('the configuration first, a NIC later: all else is done, and its arrival finishes the work', async () => {
    await lab.configure(config);
    const { report } = await kylin(lab, 'reload');
    assert.deepEqual(report.warnings, [{ message: `NIC ${B} is not there yet: pending` }]);
    assert.deepEqual(await states(lab), [0, true, `eth0 active, eth1 active, ${B} pending`]);

    await lab.router.plug(NICS.b);
    assert.deepEqual(await states(lab), [2, false, 'eth0 active, eth1 active, eth2 error']);
    await kylin(lab, 'reload', '--trigger', 'udev');
    assert.deepEqual(await states(lab), [0, true, 'eth0 active, eth1 active, eth2 active']);
    assert.equal(await networkOf(lab.router), whole);
  });

  it('a NIC that is unplugged: nothing of it stays, and it comes back whole', async () => {
    await lab.router.unplug(NICS.b);
    await kylin(lab, 'reload', '--trigger', 'udev');
    const left = (await networkOf(lab.router)).split('\n').filter((line) => /eth2|10\.10\.2\.254|172\.24/.test(line));
    // What is behind it goes nowhere, and not out.
    assert.deepEqual(
      left.map((line) => line.trim()),
      ['nft mangle -A KYLIN-VR-NOWHERE -d 172.24.0.0/16 -j DROP'],
    );
    // Its EIP is the uplink's matter: the VM may be behind another route.
    assert.match(await networkOf(lab.router), /eth0 inet 203\.0\.113\.51\/32/);
    await lab.router.plug(NICS.b);
    await kylin(lab, 'reload', '--trigger', 'udev');
    assert.equal(await networkOf(lab.router), whole);
  });

  it('an uplink that is unplugged takes NAT along; the subnets go on without, and it comes back whole', async () => {
    await lab.router.unplug(NICS.public);
    const { report } = await kylin(lab, 'reload', '--trigger', 'udev');
    assert.deepEqual(report.warnings, [{ message: `NIC ${U} (public) is not there yet: pending` }]);
    assert.equal(await networkOf(lab.router), subnetsOnly);
    assert.deepEqual(await states(lab), [0, true, `${U} pending, eth1 active, eth2 active`]);
    const status = JSON.parse((await lab.kylin('status', '--json')).stdout);
    assert.deepEqual(
      [...status.eips, ...status.forwards].map(({ eip, state }) => `${eip} ${state}`),
      ['203.0.113.50 pending', '203.0.113.51 pending', '203.0.113.60 pending'],
    );
    await lab.router.plug(NICS.public);
    await kylin(lab, 'reload', '--trigger', 'udev');
    assert.equal(await networkOf(lab.router), whole);
  });

  it('a subnet that is taken out of the configuration: nothing of it stays', async () => {
    await lab.configure(withoutB);
    await kylin(lab, 'reload');
    assert.equal(await networkOf(lab.router), reducedToA);
  });

  it('a NIC first, its configuration later', async () => {
    await lab.configure(config);
    await kylin(lab, 'reload');
    assert.equal(await networkOf(lab.router), whole);
  });

  it('a NIC that is renamed: all of it is under its new name, and nothing under its old one', async () => {
    await shell(lab, 'ip link set eth2 down; ip link set eth2 name lan0');
    await kylin(lab, 'reload');
    assert.deepEqual(lines(await networkOf(lab.router)), inNames(whole, { eth2: 'lan0' }));
    await shell(lab, 'ip link set lan0 down; ip link set lan0 name eth2');
    await kylin(lab, 'reload');
    assert.equal(await networkOf(lab.router), whole);
  });

  it('two NICs whose names are exchanged', async () => {
    await shell(lab, exchange(path));
    await kylin(lab, 'reload');
    assert.deepEqual(lines(await networkOf(lab.router)), inNames(whole, { eth1: 'eth2', eth2: 'eth1' }));
    await shell(lab, exchange(path));
    await kylin(lab, 'reload');
    assert.equal(await networkOf(lab.router), whole);
  });

  it('a bridge, a bridge port, and links of other kinds with the MAC of a NIC are not taken for it', async () => {
    await shell(
      lab,
      `ip link add br9 address ${A} type bridge; ip address add 192.0.2.1/24 dev br9; ip link set br9 up`,
    );
    await kylin(lab, 'reload');
    assert.match(await shell(lab, 'ip -4 address show dev br9'), /inet 192\.0\.2\.1\/24/);
    const { stdout } = await lab.kylin('status', '--json');
    assert.equal(JSON.parse(stdout).nics[1].device, 'eth1');
    await shell(lab, 'ip link delete br9');
    assert.equal(await networkOf(lab.router), whole);
  });

  it('a second NIC with the MAC of one that is at work takes nothing from it, and is named', async () => {
    await lab.router.plug({ ...NICS.b, device: 'eth7' });
    const { report } = await kylin(lab, 'reload');
    assert.deepEqual(report.warnings, [
      { message: `eth7 has the MAC of eth2 too (${B}), which is used as before: give it another` },
    ]);
    assert.deepEqual(await states(lab), [0, true, 'eth0 active, eth1 active, eth2 active']);
    assert.match(await shell(lab, 'ip -4 -o address show dev eth2'), / 10\.10\.2\.254\/24 /);
    // As after a boot, where links have other numbers.
    await shell(lab, `sed -i 's/"boot":"[^"]*"/"boot":"another"/' /var/lib/kylin-vr/owned.json`);
    assert.deepEqual((await kylin(lab, 'reload')).report.warnings, report.warnings);
    assert.deepEqual(await states(lab), [0, true, 'eth0 active, eth1 active, eth2 active']);
    await lab.router.unplug({ ...NICS.b, device: 'eth7' });
    await kylin(lab, 'reload');
    assert.equal(await networkOf(lab.router), whole);
  });

  it('two NICs with one MAC that come together: neither is used, all else is done, and it is said', async () => {
    await lab.router.unplug(NICS.b);
    await kylin(lab, 'reload');
    await lab.router.plug(NICS.b);
    await lab.router.plug({ ...NICS.b, device: 'eth7' });
    const { report } = await kylin(lab, 'reload');
    assert.deepEqual(report.warnings, [
      { message: `NIC ${B} is not used: eth2 and eth7 have the same MAC: give one of them another` },
    ]);
    assert.deepEqual(await states(lab), [2, false, `eth0 active, eth1 active, ${B} error`]);
    const { status, stdout } = await lab.kylin('plan', '--exit-code');
    assert.deepEqual(
      [status, stdout],
      [2, 'not in sync: a NIC is in error, and reload cannot help: see the warning\n'],
    );
    await lab.router.unplug({ ...NICS.b, device: 'eth7' });
    await kylin(lab, 'reload');
    assert.equal(await networkOf(lab.router), whole);
  });

  it('a NIC that somebody put into a bridge is left as it is, until it is taken out', async () => {
    await shell(lab, `ip link add br9 type bridge; ip link set br9 up; ip link set eth2 master br9`);
    const before = await shell(lab, 'ip -4 -o address; ip -4 route');
    const { report } = await kylin(lab, 'reload', '--trigger', 'timer');
    assert.match(
      report.warnings[0]?.message ?? '',
      /^NIC \S+ \(eth2\) is left as it is: somebody made it a port of the bridge br9/,
    );
    await lab.configure(config.replace('10.10.2.254', '10.10.2.253'));
    assert.deepEqual((await kylin(lab, 'reload')).report.steps, []);
    assert.deepEqual(await states(lab), [2, false, 'eth0 active, eth1 active, eth2 error']);
    assert.equal(await shell(lab, 'ip -4 -o address; ip -4 route'), before);
    await lab.configure(config);
    await shell(lab, 'ip link set eth2 nomaster; ip link delete br9');
    await kylin(lab, 'reload');
    assert.equal(await networkOf(lab.router), whole);
  });

  it('a NIC that went down, lost an address and a route has them again', async () => {
    await shell(lab, 'ip link set eth0 down; ip address flush dev eth2');
    assert.deepEqual(await states(lab), [2, false, 'eth0 error, eth1 active, eth2 error']);
    await kylin(lab, 'reload', '--trigger', 'timer');
    assert.equal(await networkOf(lab.router), whole);
  });

  it('the route to a subnet that somebody took away is there again, and was missed', async () => {
    await shell(lab, 'ip route delete 10.10.1.0/24 dev eth1');
    const { stdout } = await lab.kylin('plan');
    assert.match(stdout, /^\+ route 10\.10\.1\.0\/24 on eth1$/m);
    assert.equal((await states(lab))[0], 2);
    if (path !== 'ip') {
      // Before the network is up NICs are not ours.
      await kylin(lab, 'start');
      assert.equal(await shell(lab, 'ip route show 10.10.1.0/24'), '');
    }
    await kylin(lab, 'reload', '--trigger', 'timer');
    assert.equal(await networkOf(lab.router), whole);
  });

  it('an MTU that is set, changed, and named no more: the NIC has it, and at last the one that it had before', async () => {
    await shell(lab, 'ip link set eth1 mtu 1480');
    const named = (mtu: number) => config.replace(`'${A.toUpperCase()}'`, `'${A.toUpperCase()}', mtu: ${mtu}`);
    for (const [yaml, mtu] of [
      [named(1400), 1400],
      [named(1450), 1450],
      [config, 1480],
    ] as const) {
      await lab.configure(yaml);
      await kylin(lab, 'reload');
      assert.match(await shell(lab, 'ip link show dev eth1'), new RegExp(` mtu ${mtu} `));
      assert.equal((await lab.kylin('plan')).stdout, 'in sync\n');
    }
    assert.equal(await networkOf(lab.router), whole);
  });

  it('everything taken down', async () => {
    await lab.configure('if_list: []\n');
    await kylin(lab, 'reload');
    assert.equal(await networkOf(lab.router), nothing);
  });
}

async function fresh(path: Path, yaml: string): Promise<string> {
  const lab = await createLabOn(path);
  try {
    await lab.configure(yaml);
    await kylin(lab, 'reload');
    return await networkOf(lab.router);
  } finally {
    await lab.close();
  }
}

/**
 * Of the names of eth1 and eth2. NetworkManager sees each step: one that sees two devices with one name forgets one of them
 * (test/scenarios/managed.ts).
 */
function exchange(path: Path): string {
  const seen = (name: string) =>
    path === 'ip'
      ? ''
      : `timeout 10 sh -c 'until nmcli --terse --fields DEVICE device | grep -qx ${name}; do sleep 0.02; done'`;
  return `
    for nic in eth1 eth2; do ip link set $nic down; done
    ip link set eth1 name tmp0
    ${seen('tmp0')}
    ip link set eth2 name eth1
    ${seen('eth1')}
    ip link set tmp0 name eth2`;
}

/** The lines of a network, sorted: with other names of NICs, they stand in another order. */
const lines = (network: string) => network.split('\n').sort();

/** What a network would be with other names of NICs. */
const inNames = (network: string, names: Record<string, string>) =>
  lines(network.replace(/eth\d/g, (name) => names[name] ?? name));

/** Exit status of `status`, whether in sync, and each NIC by its device, or by its MAC where it has none. */
async function states(lab: Lab): Promise<[number, boolean, string]> {
  const { status, stdout } = await lab.kylin('status', '--json');
  const { inSync, nics } = JSON.parse(stdout);
  const nicText = ({ device, mac, state }: { device?: string; mac: string; state: string }) =>
    `${device ?? mac} ${state}`;
  return [status, inSync, nics.map(nicText).join(', ')];
}

async function shell(lab: Lab, script: string): Promise<string> {
  return (await lab.router.run(['sh', '-ec', script], { check: true })).stdout;
}

type Report = { result: string; steps: { kind: string; text: string }[]; warnings: { message: string }[] };

async function kylin(lab: Lab, ...args: string[]): Promise<{ report: Report }> {
  const { status, stdout, stderr } = await lab.kylin(...args, '--json');
  assert.equal(status, 0, stdout + stderr);
  return { report: JSON.parse(stdout) };
}
