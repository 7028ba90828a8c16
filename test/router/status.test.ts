// What `status` shows: counters, what is foreign, the screen that is drawn anew, the numbers for node_exporter.

import assert from 'node:assert/strict';
import { once } from 'node:events';
import { after, before, describe, it } from 'node:test';
import type { Status } from '../../src/run/status.ts';
import { ADDRESSES, createLab, type Lab, PROGRAM } from '../lab/lab.ts';
import { EIPS, elastic, NEAR } from '../lab/table.ts';
import { createTraffic } from '../lab/traffic.ts';

describe('status', { concurrency: false }, () => {
  let lab: Lab;
  before(async () => {
    lab = await createLab();
    await lab.configure(elastic.config);
    assert.equal((await lab.kylin('reload')).status, 0);
  });
  after(() => lab?.close());

  it('--counters: the connections of an EIP and of a forward', async () => {
    const traffic = createTraffic(lab);
    await traffic.listen('w', 'tcp', 80);
    await traffic.listen('v', 'tcp', 80);
    await traffic.listen('far', 'tcp', 80);
    const streams = [
      await traffic.openStream({ from: 'w', to: ADDRESSES.far, port: 80 }),
      await traffic.openStream({ from: 'out', to: NEAR, port: 8080 }),
      await traffic.openStream({ from: 'far', to: EIPS.v, port: 80 }),
    ];
    const { stdout } = await lab.kylin('status', '--counters');
    for (const stream of streams) await stream.close();
    assert.match(stdout, /^ {2}203\.0\.113\.50 +→ +10\.10\.1\.11 +1 now +1 since +active$/m);
    assert.match(stdout, /^ {2}203\.0\.113\.60:8080\/tcp +→ +10\.10\.1\.12:80 +1 now +1 since +active$/m);
    assert.match(stdout, /^ {2}203\.0\.113\.60:5353\/udp +→ +10\.10\.1\.12:53 +0 now +0 since +active$/m);
    assert.match(stdout, /^ {2}10\.10\.1\.0\/24 +→ +the uplink's own address +1 now +1 since +active$/m);
    assert.match(stdout, /^ {2}10\.10\.2\.0\/24 +→ +the uplink's own address +0 now +0 since +active$/m);
    assert.doesNotMatch((await lab.kylin('status')).stdout, /now|Sources/);
  });

  it('many forwards on one EIP: each has its own connections, and what is broken is what a packet would miss', async (t) => {
    const eip = '203.0.113.61';
    const last = 8080 + 16;
    const forwards = Array.from(
      { length: 17 },
      (_, n) => `  - { eip: ${eip}, protocol: tcp, port: ${8080 + n}, vm-port: 81, vm-ip: ${ADDRESSES.w} }\n`,
    );
    await lab.configure(elastic.config.replace('port_forward_list:\n', `$&${forwards.join('')}`));
    assert.equal((await lab.kylin('reload')).status, 0);
    t.after(async () => {
      await lab.configure(elastic.config);
      assert.equal((await lab.kylin('reload')).status, 0);
    });
    const traffic = createTraffic(lab);
    await traffic.listen('w', 'tcp', 81);
    for (let connection = 0; connection < 3; connection++)
      await (await traffic.openStream({ from: 'out', to: eip, port: last })).close();
    const look = async (...args: string[]): Promise<Status> =>
      JSON.parse((await lab.kylin('status', '--json', ...args)).stdout);
    const counted = (await look('--counters')).forwards.filter((each) => each.eip === eip);
    assert.deepEqual(
      counted.map(({ port, counters }) => [port, counters?.since]),
      forwards.map((_, n) => [8080 + n, 8080 + n === last ? 3 : 0]),
    );

    const rules = (await lab.router.run(['iptables-save'], { check: true })).stdout.split('\n');
    const ofTable = (table: string) =>
      rules.slice(rules.indexOf(`*${table}`), rules.indexOf('COMMIT', rules.indexOf(`*${table}`)));
    const ruleOf = (table: string, words: RegExp) =>
      ofTable(table).find((rule) => words.test(rule)) ?? assert.fail(String(words));
    const cases: [table: string, rule: RegExp, broken: (of: { eip: string; port?: number }) => boolean][] = [
      ['nat', new RegExp(`--dport ${last} -j DNAT`), ({ eip: of, port }) => of === eip && port === last],
      ['nat', new RegExp(`-d ${eip}/32 -j KYLIN-VR-P-`), ({ eip: of }) => of === eip],
      ['nat', /-A PREROUTING .*-j KYLIN-VR-DNAT$/, () => true],
      ['filter', new RegExp(`-d ${EIPS.v}/32 -j DROP`), ({ eip: of }) => of === EIPS.v],
      ['nat', new RegExp(`-j SNAT --to-source ${EIPS.v}$`), ({ eip: of }) => of === EIPS.v],
      ['mangle', /-A FORWARD .*-j KYLIN-VR-GUARD$/, () => false],
    ];
    for (const [table, words, broken] of cases) {
      const rule = ruleOf(table, words);
      await lab.router.run(['sh', '-ec', `iptables -w -t ${table} ${rule.replace('-A', '-D')}`], { check: true });
      const { eips, forwards: mapped, inSync } = await look();
      await lab.kylin('reload');
      assert.equal(inSync, false, rule);
      assert.deepEqual(
        [...eips, ...mapped].filter(({ state }) => state === 'error').map(({ eip: of }) => of),
        [...eips, ...mapped].filter(broken).map(({ eip: of }) => of),
        rule,
      );
    }
  });

  it('--format prometheus: samples with help and type, and status 0 even when something is wrong', async () => {
    const sound = await lab.kylin('status', '--format', 'prometheus', '--counters');
    assert.equal(sound.status, 0);
    const lines = sound.stdout.trimEnd().split('\n');
    for (const line of lines)
      assert.match(
        line,
        /^(# HELP kylin_vr_\w+ \S.*|# TYPE kylin_vr_\w+ gauge|kylin_vr_\w+(\{\w+="[^"]*"(,\w+="[^"]*")*\})? [\d.]+)$/,
      );
    const names = lines.flatMap((line) => /^# TYPE (\w+)/.exec(line)?.[1] ?? []);
    assert.equal(new Set(names).size, names.length);
    for (const sample of [
      'kylin_vr_in_sync 1',
      'kylin_vr_nics{state="active"} 3',
      'kylin_vr_eips{state="error"} 0',
      'kylin_vr_forwards{state="active"} 7',
      'kylin_vr_last_run_info{command="reload",trigger="operator",result="changed"} 1',
    ])
      assert.ok(lines.includes(sample), sample);
    await lab.configure(`${elastic.config}\nnonsense: 1\n`);
    const wrong = await lab.kylin('status', '--format', 'prometheus');
    await lab.configure(elastic.config);
    assert.equal(wrong.status, 0);
    assert.match(wrong.stdout, /^kylin_vr_in_sync 0$/m);
    assert.match(wrong.stdout, /^kylin_vr_config_errors 1$/m);
  });

  it('shows what is foreign on our NICs and in nat, and what of it reload removes', async (t) => {
    const shell = (script: string) => lab.router.run(['sh', '-ec', script], { check: true });
    assert.deepEqual(JSON.parse((await lab.kylin('status', '--json')).stdout).foreign, []);
    t.after(() =>
      shell(`
        ip address delete 10.10.1.77/24 dev eth1
        ip -6 address delete 2001:db8::5/64 dev eth0
        ip route delete 172.30.0.0/16
        ip route delete 172.31.0.0/16 table 77
        iptables -t nat -D PREROUTING 1
        iptables -t nat -D POSTROUTING 2
        ip link delete br-op`),
    );
    await shell(`
      ip address add 10.10.1.77/24 dev eth1
      ip -6 address add 2001:db8::5/64 dev eth0
      ip route add 172.30.0.0/16 via 10.10.1.9 dev eth1
      ip route add 172.31.0.0/16 dev eth2 table 77
      iptables -t nat -I PREROUTING -d 203.0.113.50 -p tcp --dport 80 -j REDIRECT
      iptables -t nat -A POSTROUTING -o br-op -j MASQUERADE
      ip link add br-op up type bridge
      ip address add 192.0.2.7/24 dev br-op`);
    const { stdout } = await lab.kylin('status');
    assert.equal(
      /^Foreign\n(?: .*\n)*/m.exec(stdout)?.[0],
      `Foreign
  eth0             address  2001:db8::5/64
  eth1             address  10.10.1.77/24  (reload removes it)
  eth1             route    172.30.0.0/16 via 10.10.1.9 proto boot
  eth2             route    172.31.0.0/16 table 77 proto boot
  nat PREROUTING   rule     -d 203.0.113.50/32 -p tcp -m tcp --dport 80 -j REDIRECT  (before ours)
  nat POSTROUTING  rule     -o br-op -j MASQUERADE
`,
    );
    const { foreign } = JSON.parse((await lab.kylin('status', '--json')).stdout) as { foreign: object[] };
    assert.deepEqual(foreign, [
      { kind: 'address', device: 'eth0', text: '2001:db8::5/64', goes: false },
      { kind: 'address', device: 'eth1', text: '10.10.1.77/24', goes: true },
      { kind: 'route', device: 'eth1', text: '172.30.0.0/16 via 10.10.1.9 proto boot', goes: false },
      { kind: 'route', device: 'eth2', text: '172.31.0.0/16 table 77 proto boot', goes: false },
      {
        kind: 'rule',
        chain: 'PREROUTING',
        beforeOurs: true,
        text: '-d 203.0.113.50/32 -p tcp -m tcp --dport 80 -j REDIRECT',
        goes: false,
      },
      { kind: 'rule', chain: 'POSTROUTING', beforeOurs: false, text: '-o br-op -j MASQUERADE', goes: false },
    ]);
  });

  it('of many foreign things it shows twenty, and says how many more there are', async (t) => {
    const routes = Array.from({ length: 30 }, (_, n) => `172.30.${n}.0/24`);
    const batch = (verb: string) =>
      lab.router.run(['ip', '-batch', '-'], {
        input: routes.map((route) => `route ${verb} ${route} via 10.10.1.9\n`).join(''),
        check: true,
      });
    await batch('add');
    t.after(() => batch('delete'));
    const { stdout } = await lab.kylin('status');
    assert.equal(stdout.match(/^ {2}eth1 {2}route /gm)?.length, 20);
    assert.match(stdout, /^ {2}and 10 more: kylin-vr status --json has all of them$/m);
    const { foreign } = JSON.parse((await lab.kylin('status', '--json')).stdout) as { foreign: object[] };
    assert.equal(foreign.length, 30);
  });

  it('in sync is said with the NICs that are pending, and not where all are', async (t) => {
    t.after(() => lab.configure(elastic.config));
    const last = async () => (await lab.kylin('status')).stdout.trimEnd().split('\n').at(-1);
    const nic = (n: number) => `  - { ipaddr: 192.0.2.${n}, prefix: 32, mac: '52:54:84:99:00:0${n}' }\n`;
    for (const [config, said] of [
      [elastic.config.replace('if_list:\n', (line) => line + nic(1)), 'in sync, but for 1 NIC that is pending'],
      [
        elastic.config.replace('if_list:\n', (line) => line + nic(1) + nic(2)),
        'in sync, but for 2 NICs that are pending',
      ],
    ] as const) {
      await lab.configure(config);
      await lab.kylin('reload');
      assert.equal(await last(), said);
    }
    await lab.configure(`if_list:\n${nic(1)}${nic(2)}`);
    await lab.kylin('reload');
    assert.equal(await last(), 'pending: none of the NICs is ready, and nothing is routed: plug them in, or mend mac');
    await lab.configure('if_list: []\n');
    const said = 'if_list is empty, so no NIC has an address of ours: write the file, then run kylin-vr reload';
    const { stderr } = await lab.kylin('start');
    assert.equal(stderr, `warning: ${said}\n`);
    await lab.kylin('reload');
    assert.equal(await last(), said);
  });

  it('a unit that is disabled or masked is said by status and reload, with the cure', async (t) => {
    const shell = (script: string) => lab.router.run(['sh', '-ec', script], { check: true });
    t.after(() =>
      shell('umount /usr/lib/systemd/system; rmdir /run/systemd/system; rm -rf /etc/systemd/system/kylin-vr.service'),
    );
    await lab.configure(elastic.config);
    await lab.kylin('reload');
    await shell(
      'mount -t tmpfs tmpfs /usr/lib/systemd/system; touch /usr/lib/systemd/system/kylin-vr.service; mkdir -p /run/systemd/system',
    );
    const says = async (said: string | undefined) => {
      const warnings = said === undefined ? [] : [{ message: said }];
      for (const command of ['status', 'reload'])
        assert.deepEqual(JSON.parse((await lab.kylin(command, '--json')).stdout).warnings, warnings, command);
      assert.deepEqual((await lab.kylin('reload', '--trigger', 'timer')).stderr, '');
    };
    await says(
      'kylin-vr.service is disabled, so nothing comes back after a boot: systemctl enable --now kylin-vr.service',
    );
    const profiles = '/etc/sysconfig/network-scripts';
    await shell(`mkdir -p ${profiles}`);
    await lab.kylin('reload');
    await says(
      'kylin-vr.service is disabled, so after a boot our profiles bring up addresses, with nothing translated, and this machine ' +
        'itself answering on them: systemctl enable --now kylin-vr.service; or kylin-vr uninstall, which takes the profiles away',
    );
    await shell(`rm -r ${profiles}`);
    await shell('ln -s /dev/null /etc/systemd/system/kylin-vr.service');
    await says(
      'kylin-vr.service is masked, so nothing comes back after a boot, and no NIC that comes is served: systemctl unmask kylin-vr.service, then systemctl enable --now kylin-vr.service',
    );
    await shell(`
      rm /etc/systemd/system/kylin-vr.service
      mkdir -p /etc/systemd/system/multi-user.target.wants
      ln -s /usr/lib/systemd/system/kylin-vr.service /etc/systemd/system/multi-user.target.wants/kylin-vr.service`);
    await says(undefined);
    await shell('rm /etc/systemd/system/multi-user.target.wants/kylin-vr.service');
  });

  it('check of the real file judges owner and mode as reload does', async (t) => {
    const shell = (script: string) => lab.router.run(['sh', '-ec', script], { check: true });
    const file = '/etc/kylin-vr/kylin-vr.yaml';
    t.after(() => shell(`chown root ${file}; chmod 0600 ${file}; chmod 0700 /etc/kylin-vr`));
    for (const [wrong, status] of [
      [`chown 1000 ${file}`, 65],
      [`chown root ${file}; chmod 0755 /etc/kylin-vr; chmod 0666 ${file}`, 65],
      [`chmod 0777 /etc/kylin-vr`, 65],
      [`chmod 0700 /etc/kylin-vr`, 0],
    ] as const) {
      await shell(wrong);
      const checked = await lab.kylin('check', '--json');
      const { errors, warnings } = JSON.parse(checked.stdout);
      const planned = JSON.parse((await lab.kylin('plan', '--json')).stdout);
      assert.deepEqual([checked.status, errors, warnings], [status, planned.errors, planned.warnings], wrong);
      assert.equal(errors.length + warnings.length, 1);
    }
    await shell(`cp ${file} /mnt/other.yaml; chown 1000 /mnt/other.yaml`);
    assert.equal((await lab.kylin('check', '/mnt/other.yaml')).status, 0);
  });

  it('without python2 it says that old clients cannot call, where something is installed', async (t) => {
    const shell = (script: string) => lab.router.run(['sh', '-ec', script], { check: true });
    t.after(() => shell('rm -f /var/lib/kylin-vr/installed.json'));
    const hints = async () => JSON.parse((await lab.kylin('status', '--json')).stdout).hints;
    assert.equal(await hints(), undefined);
    await shell('echo "{}" > /var/lib/kylin-vr/installed.json');
    const said =
      'old clients, where there are any, cannot call: they run python2 /usr/bin/kylin-vr.py, and there is no /usr/bin/python2: install python2 (Debian 12 and EL 9 have none), or have them run kylin-vr reload; what they write, the timer applies within a minute';
    const there = (await lab.router.run(['sh', '-c', 'command -v python2'])).status === 0;
    assert.deepEqual(await hints(), there ? undefined : [said]);
    if (!there) assert.ok((await lab.kylin('status')).stdout.includes(`note: ${said}\n`));
  });

  it('--watch shows it again and again', async () => {
    const watcher = lab.router.spawn([process.execPath, PROGRAM, 'status', '--watch', '0.2']);
    let shown = '';
    for await (const piece of watcher.stdout ?? []) {
      shown += String(piece);
      if (shown.split('in sync').length > 3) break;
    }
    watcher.kill();
    await once(watcher, 'exit');
    assert.equal((await lab.kylin('status', '--watch', '--json')).status, 64);
  });
});
