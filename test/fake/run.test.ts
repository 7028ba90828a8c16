// Whole runs in this process, on the machine in memory: which configuration is brought about, and what becomes of a change that waits.

import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { LockedError, UsageError } from '../../src/base/errors.ts';
import { PATHS } from '../../src/base/paths.ts';
import type { Call } from './machine.ts';
import { NotKnown } from './refused.ts';
import { addressesOf, machineWith, messagesOf, networkOf, routerWith, runOn, within } from './router.ts';
import { ROUTER, yaml } from './scenes.ts';

const MOVED = yaml({ ...ROUTER, eips: { '203.0.113.51': '10.10.1.12' }, routes: [] });
const WRONG = yaml(ROUTER).replace('10.10.1.254', '10.10.1.300');
const EIPS = ['203.0.113.37/24', '203.0.113.50/32', '203.0.113.60/32'];
const MOVED_EIPS = ['203.0.113.37/24', '203.0.113.60/32', '203.0.113.51/32'];

describe('reload', () => {
  test('makes a router of a machine', async () => {
    const machine = machineWith();
    const report = await runOn(machine);
    assert.deepEqual([report.result, report.exitStatus, messagesOf(report)], ['changed', 0, []]);
    assert.deepEqual(addressesOf(machine, 'eth0'), EIPS);
    assert.equal(machine.network.settings.get('net/ipv4/ip_forward'), '1');
    assert.deepEqual(
      machine.netfilter.rulesOf('nat', 'KYLIN-VR-D28-203.0.113.48').map(({ text }) => text),
      ['-d 203.0.113.50/32 -j DNAT --to-destination 10.10.1.11', '-d 203.0.113.60/32 -j KYLIN-VR-P-203.0.113.60'],
    );
    assert.deepEqual(
      machine.launched.map((argv) => argv.at(-1)),
      ['203.0.113.37', '203.0.113.50', '203.0.113.60', '10.10.1.254'],
    );
  });

  test('changes nothing where nothing is to do', async () => {
    const machine = await routerWith();
    const before = networkOf(machine);
    const changing: Call[] = [];
    machine.before = (call) => {
      if (call.changes && call.method !== 'write') changing.push(call);
    };
    const report = await runOn(machine);
    assert.deepEqual([report.result, report.exitStatus, report.steps], ['unchanged', 0, []]);
    assert.deepEqual(
      changing.map(({ what }) => what),
      [`remove ${PATHS.foreign}`, `remove ${PATHS.refused}`],
    );
    assert.equal(networkOf(machine), before);
  });

  test('guards a new EIP before it maps it', async () => {
    const machine = await routerWith();
    const calls: string[] = [];
    machine.before = ({ method, args, changes }) => {
      const [argv, options] = args as [string[], { input?: string }];
      if (changes && method === 'run') calls.push(`${argv[0]}: ${options.input}`);
    };
    machine.configure(MOVED);
    await runOn(machine);
    const tables = [...calls.join('\n').matchAll(/^(?:iptables-restore: )?\*(\w+)$/gm)].map(([, table]) => table);
    assert.deepEqual(tables.slice(0, 2), ['filter', 'nat']);
    assert.deepEqual(addressesOf(machine, 'eth0'), MOVED_EIPS);
  });

  test('leaves all as it is where the file is wrong', async () => {
    const machine = await routerWith();
    const before = networkOf(machine);
    machine.configure(WRONG);
    const report = await runOn(machine);
    assert.deepEqual([report.result, report.exitStatus], ['failed', 65]);
    assert.match(messagesOf(report).join('\n'), /must be an IPv4 address, is 10\.10\.1\.300/);
    assert.equal(networkOf(machine), before);
  });

  test('waits for a NIC that is not there yet, and finishes the work when it comes', async () => {
    const machine = machineWith(
      yaml({ ...ROUTER, nics: [...ROUTER_NICS, "{ ipaddr: 10.10.3.1, prefix: 24, mac: '52:54:84:11:00:06' }"] }),
    );
    const report = await runOn(machine);
    assert.equal(report.exitStatus, 0);
    assert.match(messagesOf(report).join('\n'), /52:54:84:11:00:06/);
    machine.network.plug('eth3', '52:54:84:11:00:06');
    assert.equal((await runOn(machine, { trigger: 'udev', settled: 'last good' })).result, 'changed');
    assert.deepEqual(addressesOf(machine, 'eth3'), ['10.10.3.1/24']);
  });

  test('takes down what was ours, and nothing else', async () => {
    const machine = await routerWith();
    machine.network.ask(['address', 'add', '10.10.1.99/24', 'dev', 'eth1']);
    machine.netfilter.restore('*filter\n-A FORWARD -s 10.10.9.0/24 -j DROP\nCOMMIT\n');
    machine.configure('if_list: []\n');
    assert.equal((await runOn(machine)).exitStatus, 0);
    assert.deepEqual(addressesOf(machine, 'eth0'), []);
    assert.deepEqual(addressesOf(machine, 'eth1'), ['10.10.1.99/24']);
    assert.deepEqual(machine.netfilter.save('today').match(/^-A .*|KYLIN-VR/gm), [
      '-A FORWARD -s 10.10.9.0/24 -j DROP',
    ]);
  });

  test('cuts the flows that the new file would translate otherwise, and no others', async () => {
    const machine = await routerWith();
    const flow = (eip: string, vm: string, id: number) =>
      `tcp      6 431999 ESTABLISHED src=192.0.2.10 dst=${eip} sport=4000${id} dport=22 ` +
      `src=${vm} dst=192.0.2.10 sport=22 dport=4000${id} [ASSURED] mark=0 use=1 id=${id}`;
    const [moving, staying] = [flow('203.0.113.50', '10.10.1.11', 1), flow('203.0.113.70', '10.10.1.70', 2)];
    machine.configure(yaml({ ...ROUTER, eips: { '203.0.113.50': '10.10.1.11', '203.0.113.70': '10.10.1.70' } }));
    await runOn(machine);
    machine.flows.lines = [moving, staying];
    machine.configure(yaml({ ...ROUTER, eips: { '203.0.113.50': '10.10.1.12', '203.0.113.70': '10.10.1.70' } }));
    const report = await runOn(machine);
    assert.deepEqual(machine.flows.lines, [staying]);
    assert.match(report.steps.map(({ text }) => text).join('\n'), /flow/);
  });
});

const ROUTER_NICS = [
  "{ ipaddr: 203.0.113.37, prefix: 24, mac: '52:54:84:00:08:46', gateway: 203.0.113.1 }",
  "{ ipaddr: 10.10.1.254, prefix: 24, mac: '52:54:84:11:00:04' }",
];

describe('start', () => {
  test('brings up the router after a reboot', async () => {
    const machine = await routerWith();
    const before = networkOf(machine);
    machine.reboot();
    assert.deepEqual(addressesOf(machine, 'eth0'), []);
    const report = await runOn(machine, { command: 'start', trigger: 'boot' });
    assert.equal(report.exitStatus, 0);
    assert.equal(withoutIpv6(networkOf(machine)), withoutIpv6(before));
  });

  test('brings up the last good configuration where the file is wrong', async () => {
    const machine = await routerWith();
    machine.configure(WRONG);
    machine.reboot();
    const report = await runOn(machine, { command: 'start', trigger: 'boot' });
    assert.equal(report.exitStatus, 65);
    assert.deepEqual(addressesOf(machine, 'eth0'), EIPS);
  });

  test('leaves links to NetworkManager where that is about to come', async () => {
    const machine = await routerWith();
    machine.tools.set('NetworkManager', '/usr/sbin/NetworkManager');
    machine.files.putFolder('/etc/NetworkManager/system-connections', 0o700);
    machine.reboot();
    const report = await runOn(machine, { command: 'start', trigger: 'boot' });
    assert.equal(report.exitStatus, 0);
    assert.deepEqual(addressesOf(machine, 'eth0'), []);
    assert.match(
      machine.files.text('/etc/NetworkManager/system-connections/kylin-vr-eth0.nmconnection') ?? '',
      /203\.0\.113\.50\/32/,
    );
    assert.ok(machine.netfilter.rulesOf('nat', 'PREROUTING').length > 0);
  });
});

/** `start` ends IPv6 where no link is up yet. */
const withoutIpv6 = (network: string): string => network.replace(/^net\/ipv6\/.*\n/gm, '');

describe('a change that waits for its confirmation', () => {
  test('stays where it is confirmed', async () => {
    const machine = await routerWith();
    machine.configure(MOVED);
    const report = await runOn(machine, within(60));
    assert.equal(report.pending?.secondsLeft, 60);
    assert.deepEqual(
      machine.launched.filter(([command]) => command === '/usr/bin/kylin-vr'),
      [['/usr/bin/kylin-vr', 'rollback', '--unconfirmed', report.id]],
    );
    machine.uptime += 59;
    const confirmed = await runOn(machine, { command: 'confirm', asked: machine.uptime });
    assert.equal(confirmed.exitStatus, 0);
    assert.equal(machine.files.text(PATHS.lastGood), MOVED);
    for (const path of [PATHS.pending, PATHS.pendingConfig, PATHS.checkpoint])
      assert.equal(machine.files.text(path), undefined);
    machine.uptime += 60;
    assert.equal((await runOn(machine, { trigger: 'timer', settled: 'last good' })).result, 'unchanged');
    assert.deepEqual(addressesOf(machine, 'eth0'), MOVED_EIPS);
  });

  test('lapses: its own command takes it back, and not before its time', async () => {
    const machine = await routerWith();
    const before = networkOf(machine);
    machine.configure(MOVED);
    const { id } = await runOn(machine, within(60));
    const takeBack = { command: 'lapse', trigger: 'timer', run: id } as const;
    machine.uptime += 59;
    assert.equal((await runOn(machine, takeBack)).result, 'unchanged');
    assert.deepEqual(addressesOf(machine, 'eth0'), MOVED_EIPS);
    machine.uptime += 2;
    const report = await runOn(machine, takeBack);
    assert.equal(report.exitStatus, 0);
    assert.match(messagesOf(report).join('\n'), /it was not confirmed within 60 s/);
    assert.deepEqual(sorted(networkOf(machine)), sorted(before));
    // Runs by themselves leave the file alone until it changes.
    assert.equal((await runOn(machine, { trigger: 'timer', settled: 'unsettled' })).result, 'unchanged');
    assert.deepEqual(sorted(networkOf(machine)), sorted(before));
    const late = runOn(machine, { command: 'confirm', asked: machine.uptime });
    await assert.rejects(late, (error) => error instanceof UsageError && /nothing waits/.test(error.message));
  });

  test('goes with a reboot', async () => {
    const machine = await routerWith();
    const before = networkOf(machine);
    machine.configure(MOVED);
    await runOn(machine, within(60));
    machine.reboot();
    const report = await runOn(machine, { command: 'start', trigger: 'boot' });
    assert.match(messagesOf(report).join('\n'), /the machine went down before it was confirmed/);
    assert.deepEqual(sorted(withoutIpv6(networkOf(machine))), sorted(withoutIpv6(before)));
  });

  test('keeps others from another change, and is brought about by runs of the timer', async () => {
    const machine = await routerWith();
    machine.configure(MOVED);
    await runOn(machine, within(60));
    await assert.rejects(runOn(machine), LockedError);
    machine.network.ask(['address', 'delete', '203.0.113.51/32', 'dev', 'eth0']);
    assert.equal((await runOn(machine, { trigger: 'timer', settled: 'unsettled' })).result, 'changed');
    assert.deepEqual(addressesOf(machine, 'eth0'), MOVED_EIPS);
  });

  test('is taken back by rollback at once', async () => {
    const machine = await routerWith();
    const before = networkOf(machine);
    machine.configure(MOVED);
    await runOn(machine, within(60));
    assert.equal((await runOn(machine, { command: 'rollback' })).exitStatus, 0);
    assert.deepEqual(sorted(networkOf(machine)), sorted(before));
  });
});

const sorted = (text: string): string[] => text.split('\n').sort();

describe('rollback', () => {
  test('goes to the configuration before, and to an older one', async () => {
    const machine = await routerWith();
    const first = networkOf(machine);
    for (const config of [MOVED, yaml({})]) {
      machine.configure(config);
      await runOn(machine);
    }
    assert.equal((await runOn(machine, { command: 'rollback' })).exitStatus, 0);
    assert.equal(machine.files.text(PATHS.lastGood), MOVED);
    assert.equal((await runOn(machine, { command: 'rollback', to: 4 })).exitStatus, 0);
    assert.deepEqual(sorted(networkOf(machine)), sorted(first));
    assert.match((await runOn(machine, { trigger: 'timer', settled: 'unsettled' })).result, /unchanged/);
  });
});

test('what the machine in memory does not know ends the run', async () => {
  const machine = machineWith();
  machine.network.ask(['link', 'set', 'eth1', 'up']);
  const host = machine.host();
  await assert.rejects(host.run(['ip', 'tunnel', 'show']), NotKnown);
  await assert.rejects(host.run(['reboot']), NotKnown);
  await assert.rejects(host.sysctl('net/ipv4/conf/all/log_martians'), NotKnown);
  await assert.rejects(host.read('/proc/mounts'), NotKnown);
  await assert.rejects(host.which('dhclient'), NotKnown);
  await assert.rejects(
    host.run(['iptables-restore', '--noflush'], { input: '*nat\n-A PREROUTING -m recent -j ACCEPT\nCOMMIT\n' }),
    NotKnown,
  );
  assert.equal(machine.notKnown.length, 6);
});
