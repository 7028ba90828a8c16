// Units and udev rule as systemd's own tools read them; no systemd runs for it. Needs Debian's packages systemd and udev.

import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { cpSync, existsSync, readFileSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { before, describe, it } from 'node:test';
import { parseAddresses } from '../../src/dialects/iproute.ts';
import { SOURCES, type Source } from '../../src/installation/sources.ts';
import { parseSystemd, textFor, unitSetFor } from '../../src/installation/units.ts';
import { payload } from '../../src/machine/payload.ts';
import { isNic } from '../../src/network/nics.ts';
import { type Files, imageOf, listing, run } from './image.ts';

const SERVICES = [
  'kylin-vr.service',
  'kylin-vr-reload.service',
  'kylin-vr-firewalld.service',
  'kylin-vr-mark.service',
] as const;
const UNITS = [...SERVICES, 'kylin-vr-reload.path', 'kylin-vr-reload.timer'] as const;
const RULES = resolve(import.meta.dirname, '../../udev/90-kylin-vr.rules');

before(() => {
  const missing = ['systemd-analyze systemd', 'udevadm udev']
    .filter((tool) => spawnSync('sh', ['-c', `command -v ${tool.split(' ')[0]}`]).status !== 0)
    .map((tool) => tool.split(' ')[1] ?? '');
  if (missing.length === 0) return;
  const { status, stderr } = spawnSync('bash', [resolve(import.meta.dirname, '../apt-install.sh'), ...missing], {
    encoding: 'utf8',
  });
  assert.equal(status, 0, stderr);
});

const EXECUTABLE = { content: '#!/bin/sh\n', mode: 0o755 };

/** This machine's units and ours in a tree of their own, with these beside them. */
async function treeOf(t: Parameters<typeof imageOf>[0], files: Files = {}): Promise<string> {
  const root = imageOf(t, {
    '/usr/bin/kylin-vr': EXECUTABLE,
    '/bin/sh': EXECUTABLE,
    '/sbin/modprobe': EXECUTABLE,
    ...files,
  });
  cpSync('/lib/systemd/system', join(root, 'usr/lib/systemd/system'), { recursive: true, verbatimSymlinks: true });
  await run(['install', '--root', root]);
  return root;
}

function verify(root: string, ...units: string[]): string {
  const { status, stdout, stderr } = spawnSync('systemd-analyze', ['verify', '--man=no', `--root=${root}`, ...units], {
    encoding: 'utf8',
  });
  const said = (stdout + stderr).split('\n').filter((line) => /kylin|cycle/.test(line));
  return [...said, ...(said.length === 0 && status !== 0 ? [`status ${status}: ${stderr}`] : [])].join('\n');
}

describe('the units', () => {
  for (const unit of UNITS) it(`${unit} verifies clean`, async (t) => assert.equal(verify(await treeOf(t), unit), ''));

  for (const unit of SERVICES)
    it(`${unit} is exposed to 3.0 at most`, () => {
      const file = resolve(import.meta.dirname, '../../systemd', unit);
      const { stdout } = spawnSync('systemd-analyze', ['security', '--offline=true', file], { encoding: 'utf8' });
      const exposure = Number(/Overall exposure level for \S+: ([\d.]+)/.exec(stdout)?.[1]);
      assert.ok(exposure <= 3, `${exposure}\n${stdout}`);
    });

  it('both services have one sandbox', () => {
    const sandbox = (unit: (typeof SERVICES)[number]) =>
      /\nCapabilityBoundingSet=[\s\S]*\nUMask=.*\n/.exec(payload[`systemd/${unit}`])?.[0].replaceAll(/^#.*\n/gm, '');
    assert.ok(sandbox('kylin-vr.service'));
    assert.equal(sandbox('kylin-vr.service'), sandbox('kylin-vr-reload.service'));
  });

  it('a reload goes on with the privileges that a look at a killed run needs', () => {
    // Without CAP_SYS_PTRACE, /proc/PID/environ of what an operator's run left behind cannot be read: EACCES, seen.
    assert.match(payload['systemd/kylin-vr-reload.service'], /^CapabilityBoundingSet=.*CAP_SYS_PTRACE/m);
    assert.doesNotMatch(
      payload['systemd/kylin-vr-reload.service'],
      /^(ProtectProc|ProcSubset|MemoryDenyWriteExecute)=/m,
    );
  });

  describe('are in no ordering cycle', () => {
    /** The orderings of Debian 12's ifupdown and cloud-init 22.4: sysinit.target waits for the network. */
    const beforeSysinit = {
      '/usr/lib/systemd/system/networking.service':
        '[Unit]\nDefaultDependencies=no\nWants=network.target\nAfter=local-fs.target network-pre.target\nBefore=network.target network-online.target\n[Service]\nType=oneshot\nExecStart=/bin/sh\n',
      '/usr/lib/systemd/system/cloud-init-local.service':
        '[Unit]\nDefaultDependencies=no\nWants=network-pre.target\nAfter=systemd-remount-fs.service\nBefore=NetworkManager.service network-pre.target sysinit.target\n[Service]\nType=oneshot\nExecStart=/bin/sh\n',
      '/usr/lib/systemd/system/cloud-init.service':
        '[Unit]\nDefaultDependencies=no\nWants=cloud-init-local.service\nAfter=cloud-init-local.service networking.service\nBefore=network-online.target sysinit.target\n[Service]\nType=oneshot\nExecStart=/bin/sh\n',
      '/usr/lib/systemd/system/multi-user.target.d/all.conf':
        '[Unit]\nWants=cloud-init.service networking.service dbus.socket\n',
    };
    /** EL's cloud-init 23.4, which has that of openEuler come after sysinit.target, and tuned 2.20. */
    const cloudInitOfEl = (unit: string) => ({
      '/usr/lib/systemd/system/cloud-init-local.service': `[Unit]\n${unit}\nWants=network-pre.target\nRequires=dbus.socket\nAfter=systemd-remount-fs.service dbus.socket\nBefore=NetworkManager.service network.service network-pre.target firewalld.target\n[Service]\nType=oneshot\nExecStart=/bin/sh\n`,
      '/usr/lib/systemd/system/cloud-init.service':
        '[Unit]\nWants=cloud-init-local.service\nAfter=cloud-init-local.service NetworkManager.service network.service\nBefore=network-online.target systemd-user-sessions.service\n[Service]\nType=oneshot\nExecStart=/bin/sh\n',
      '/usr/lib/systemd/system/NetworkManager.service':
        '[Unit]\nWants=network.target\nAfter=network-pre.target dbus.service\nBefore=network.target network.service\n[Service]\nExecStart=/bin/sh\n',
      '/usr/lib/systemd/system/tuned.service':
        '[Unit]\nAfter=systemd-sysctl.service network.target dbus.service polkit.service\nRequires=dbus.service\n[Service]\nType=oneshot\nExecStart=/bin/sh\n',
      '/usr/lib/systemd/system/multi-user.target.d/all.conf':
        '[Unit]\nWants=cloud-init.service NetworkManager.service tuned.service\n',
    });
    const flushing = {
      '/usr/lib/systemd/system/nftables.service':
        '[Unit]\nDefaultDependencies=no\nWants=network-pre.target\nBefore=network-pre.target shutdown.target\nConflicts=shutdown.target\n[Service]\nType=oneshot\nExecStart=/bin/sh\n',
      '/usr/lib/systemd/system/iptables.service':
        '[Unit]\nWants=network-pre.target\nAfter=syslog.target\nBefore=network-pre.target\n[Service]\nType=oneshot\nExecStart=/bin/sh\n',
      '/usr/lib/systemd/system/netfilter-persistent.service':
        '[Unit]\nDefaultDependencies=no\nWants=network-pre.target systemd-modules-load.service local-fs.target\nBefore=network-pre.target shutdown.target\nAfter=systemd-modules-load.service local-fs.target\nConflicts=shutdown.target\n[Service]\nType=oneshot\nExecStart=/bin/sh\n',
      '/usr/lib/systemd/system/firewalld.service':
        '[Unit]\nWants=network-pre.target\nBefore=network-pre.target\nAfter=dbus.service\n[Service]\nType=oneshot\nExecStart=/bin/sh\n',
      '/usr/lib/systemd/system/multi-user.target.d/all.conf':
        '[Unit]\nWants=nftables.service iptables.service netfilter-persistent.service firewalld.service dbus.socket\n',
    };

    it('where sysinit.target waits for the network', async (t) =>
      assert.equal(verify(await treeOf(t, beforeSysinit), 'multi-user.target', 'kylin-vr.service'), ''));

    it('with everything that flushes rules at boot', async (t) =>
      assert.equal(verify(await treeOf(t, flushing), 'multi-user.target', 'kylin-vr.service'), ''));

    for (const dependencies of ['no', 'yes'])
      it(`with cloud-init and tuned of EL, DefaultDependencies=${dependencies}`, async (t) => {
        const root = await treeOf(t, cloudInitOfEl(`DefaultDependencies=${dependencies}`));
        assert.equal(verify(root, 'multi-user.target', ...SERVICES), '');
      });

    it('and one would be seen: after dbus.socket there is', async (t) => {
      const root = await treeOf(t, {
        ...beforeSysinit,
        '/etc/systemd/system/kylin-vr.service.d/x.conf': '[Unit]\nAfter=dbus.socket\n',
      });
      assert.match(verify(root, 'multi-user.target', 'kylin-vr.service'), /ordering cycle/);
    });
  });
});

describe('the udev rule leaves the mark for NICs, by the same list as the program', () => {
  // In a network namespace of their own, with a /run of its own; udevadm test runs no program.
  const look = `
    set -e
    mount --make-rprivate /
    mount -t tmpfs tmpfs /run
    mkdir -p /run/udev/rules.d
    cp "$1" /run/udev/rules.d/
    ip link add eth0 type veth peer name eth1
    ip link add br0 type bridge
    ip tuntap add tap0 mode tap
    ip link add vlan0 link eth0 type vlan id 5 2> /dev/null || true
    ip link add dummy0 type dummy 2> /dev/null || true
    ip link add bond0 type bond 2> /dev/null || true
    ip -json -details address show
    for device in $(ls /sys/class/net); do
      [ -d "/sys/class/net/$device" ] || continue
      for action in add remove move change; do
        echo
        printf '%s %s ' "$device" "$action"
        udevadm test --action=$action "/sys/class/net/$device" 2> /dev/null | grep '^run: .*/run/kylin-vr/reload' || true
      done
    done`;
  const seen = () => {
    const name = `kylin-vr-udev-${process.pid}`;
    spawnSync('ip', ['netns', 'add', name]);
    try {
      const { status, stdout, stderr } = spawnSync(
        'ip',
        ['netns', 'exec', name, 'unshare', '-m', 'bash', '--norc', '-c', look, 'look', RULES],
        { encoding: 'utf8' },
      );
      assert.equal(status, 0, stderr);
      const [json = '', ...lines] = stdout.split('\n').filter((line) => line !== '');
      const nics = parseAddresses(json)
        .links.filter(isNic)
        .map(({ device }) => device);
      const devices = new Set(lines.map((line) => line.split(' ')[0] ?? ''));
      const marks = lines.filter((line) => line.includes('run: ')).map((line) => line.split(' ').slice(0, 2).join(' '));
      return { nics, devices, marks };
    } finally {
      spawnSync('ip', ['netns', 'del', name]);
    }
  };

  it('when one is added, removed or renamed', () => {
    const { nics, devices, marks } = seen();
    assert.deepEqual(nics.sort(), ['eth0', 'eth1']);
    for (const device of ['lo', 'br0', 'tap0']) assert.ok(devices.has(device), device);
    assert.deepEqual(
      marks.sort(),
      nics.flatMap((device) => ['add', 'move', 'remove'].map((action) => `${device} ${action}`)),
    );
  });

  it('and what it runs makes the mark, and its folder for root alone', (t) => {
    const [, command = ''] = /RUN\+="\/bin\/sh -c '(.*)'"/.exec(readFileSync(RULES, 'utf8')) ?? [];
    const folder = imageOf(t);
    const inFolder = command.replaceAll('/run/', `${folder}/`);
    for (const time of ['once', 'twice']) assert.equal(spawnSync('/bin/sh', ['-c', inFolder]).status, 0, time);
    assert.ok(existsSync(join(folder, 'kylin-vr/reload')));
    const { stdout } = spawnSync('stat', ['-c', '%a', join(folder, 'kylin-vr')], { encoding: 'utf8' });
    assert.equal(stdout, '700\n');
  });
});

describe('the units for systemd 219', () => {
  const sources = SOURCES.filter((source) => source.startsWith('systemd/'));
  const of219 = (source: Source) => textFor('219', source, payload[source]);

  it('say nothing of what it refused of ours, in its own words', () => {
    const sample = readFileSync(join(import.meta.dirname, 'samples/analyze-verify.systemd-219.txt'), 'utf8');
    const refused = new Set([...sample.matchAll(/Unknown lvalue '(\w+)'/g)].map(([, name = '']) => name));
    assert.ok(refused.size > 20);
    for (const source of sources)
      for (const line of of219(source).split('\n')) {
        const [, name, value = ''] = /^(\w+)=(.*)$/.exec(line) ?? [];
        assert.ok(name === undefined || !refused.has(name), `${source}: ${line}`);
        assert.ok(!(name === 'ProtectSystem' && value === 'strict'), source);
        assert.doesNotMatch(line, /^Exec\w+=[^/]*\+/, source);
      }
  });

  it('say nothing that came after it', () => {
    // systemd.directives(7) of 219, as far as we use it.
    const known =
      /^(Description|DefaultDependencies|Wants|After|Before|Conflicts|PartOf|Requisite|RequiresMountsFor|Type|RemainAfterExit|ExecStartPre|ExecStart|ExecReload|SuccessExitStatus|TimeoutStartSec|TimeoutStopSec|KillMode|StandardOutput|StandardError|SyslogIdentifier|SyslogLevel|StartLimitInterval|PermissionsStartOnly|CapabilityBoundingSet|NoNewPrivileges|ProtectSystem|ProtectHome|PrivateTmp|PrivateDevices|PrivateNetwork|ReadWriteDirectories|RestrictAddressFamilies|SystemCallArchitectures|UMask|WantedBy|Also|PathExists|OnActiveSec|OnUnitInactiveSec|AccuracySec)$/;
    for (const source of sources)
      for (const [, name = ''] of of219(source).matchAll(/^(\w+)=/gm)) assert.match(name, known, source);
  });

  it('limit no starts, write where a run writes, and load ip_tables with every privilege', () => {
    for (const source of ['systemd/kylin-vr.service', 'systemd/kylin-vr-reload.service'] as const) {
      assert.match(of219(source), /^\[Service\]\nStartLimitInterval=0$/m);
      assert.match(
        of219(source),
        /^ProtectSystem=full\n(#.*\n)?ReadWriteDirectories=-\/etc\/kylin-vr -\/etc\/sysconfig\/network-scripts -\/etc\/NetworkManager$/m,
      );
    }
    assert.match(
      of219('systemd/kylin-vr.service'),
      /^PermissionsStartOnly=yes\nExecStartPre=-\/sbin\/modprobe -q ip_tables$/m,
    );
  });

  it('are otherwise ours: what is started, when, and in what order', () => {
    const said = (text: string) =>
      text
        .split('\n')
        .filter((line) =>
          /^(\[|(Wants|After|Before|Conflicts|PartOf|Requisite|WantedBy|Also|Exec(Start|Reload)|On\w+|Path\w+)=)/.test(
            line,
          ),
        );
    for (const source of sources) {
      assert.deepEqual(said(of219(source)), said(payload[source]));
      const head = '# For systemd before 236, in which much of the sandbox is unknown.\n[Unit]\n';
      assert.ok(of219(source).startsWith(head), source);
    }
    assert.equal(textFor('219', 'udev/90-kylin-vr.rules', 'a'), 'a');
  });

  it('install puts them where that systemd is, with the folders that it does not make', async (t) => {
    const root = imageOf(t, { '/usr/lib/systemd/systemd-activate': EXECUTABLE });
    await run(['install', '--root', root]);
    const source = 'systemd/kylin-vr-reload.service';
    const unit = join(root, 'usr/lib/systemd/system/kylin-vr-reload.service');
    assert.equal(readFileSync(unit, 'utf8'), of219(source));
    for (const folder of ['d0700 /var/lib/kylin-vr', 'd0750 /var/log/kylin-vr', 'd0700 /var/cache/kylin-vr'])
      assert.ok(listing(root).includes(folder), folder);
    await run(['uninstall', '--root', root]);
    assert.deepEqual(
      listing(root).filter((line) => line.includes('kylin')),
      [],
    );
  });

  for (const [said, set] of [
    ['systemd 219\n+PAM +AUDIT -SECCOMP\n', '219'],
    ['systemd 235\n', '219'],
    ['systemd 236\n', 'today'],
    ['systemd 252 (252.38-1~deb12u1)\n+PAM\n', 'today'],
    ['what?\n', 'today'],
  ] as const)
    it(`are chosen by what systemctl --version says: ${said.split('\n')[0]}`, () =>
      assert.equal(unitSetFor(parseSystemd(said)), set));
});
