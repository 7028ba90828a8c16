// The order of a boot: kylin-vr after what writes profiles of its NICs (cloud-init) and what sets sysctls (tuned).

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { eventually } from '../lab/eventually.ts';
import { NICS } from '../lab/lab.ts';
import { elastic } from '../lab/table.ts';
import { bootWasClean, createPromises, installed, monotonic } from './guest.ts';
import { withContainer } from './lab/container.ts';
import type { Machine } from './lab/machine.ts';

const SOON_MS = 20_000;
const FORWARD = '/proc/sys/net/ipv4/ip_forward';
const UNITS = '/etc/systemd/system';

const foreign = (name: string, claim: string) => `[connection]
id=cloud-init ${name}
type=ethernet
autoconnect-priority=999
${claim}

[ipv4]
method=manual
address1=192.0.2.9${name.slice(-1)}/24
`;

/** What cloud-init writes, by name and by MAC, and netplan, whose profiles are of one boot. */
const FOREIGN = {
  '/etc/NetworkManager/system-connections/cloud-init-eth0.nmconnection': foreign('eth0', 'interface-name=eth0'),
  '/etc/NetworkManager/system-connections/cloud-init-eth1.nmconnection': foreign(
    'eth1',
    `[ethernet]\nmac-address=${NICS.a.mac.toUpperCase()}`,
  ),
  '/run/NetworkManager/system-connections/netplan-eth2.nmconnection': foreign('eth2', 'interface-name=eth2'),
};

/** At each boot anew, and not at once. */
const WRITER = `#!/bin/sh
sleep 1
mkdir -p /run/NetworkManager/system-connections
${Object.entries(FOREIGN)
  .map(([path, text]) => `umask 077; cat > ${path} <<'END'\n${text}END\n`)
  .join('')}`;

/** As in Debian's cloud-init 22.4 and ifupdown: sysinit.target waits for the network. */
const DEBIAN = {
  'cloud-init-local.service': `DefaultDependencies=no
Wants=network-pre.target
After=hv_kvp_daemon.service systemd-remount-fs.service
Before=NetworkManager.service network-pre.target shutdown.target sysinit.target
Conflicts=shutdown.target
RequiresMountsFor=/var/lib/cloud`,
  'networking.service': `DefaultDependencies=no
Wants=network.target
Requires=ifupdown-pre.service
After=local-fs.target network-pre.target apparmor.service systemd-sysctl.service systemd-modules-load.service
Before=network.target shutdown.target network-online.target
Conflicts=shutdown.target`,
  'cloud-init.service': `DefaultDependencies=no
Wants=cloud-init-local.service networking.service
After=cloud-init-local.service systemd-networkd-wait-online.service networking.service
Before=network-online.target sysinit.target shutdown.target systemd-user-sessions.service
Conflicts=shutdown.target`,
};

/** As in cloud-init 23.4 of EL 9. */
const EL = {
  'cloud-init-local.service': `DefaultDependencies=no
Wants=network-pre.target
Requires=dbus.socket
After=hv_kvp_daemon.service systemd-remount-fs.service dbus.socket
Before=NetworkManager.service network.service network-pre.target shutdown.target firewalld.target
Conflicts=shutdown.target
RequiresMountsFor=/var/lib/cloud`,
  'cloud-init.service': `Wants=cloud-init-local.service
After=cloud-init-local.service NetworkManager.service NetworkManager-wait-online.service
Before=network-online.target systemd-user-sessions.service`,
};

/** As in tuned 2.20: the unit is started when the profile is in force. Slower than a reload, which waits two seconds for the file to settle. */
const TUNED = `[Unit]
After=systemd-sysctl.service network.target dbus.service polkit.service
Requires=dbus.service
[Service]
Type=oneshot
RemainAfterExit=yes
ExecStart=/bin/sh -c 'sleep 4; sysctl -w net.ipv4.ip_forward=0'
[Install]
WantedBy=multi-user.target
`;

const oneshot = (unit: string, command: string) =>
  `[Unit]\n${unit}\n[Service]\nType=oneshot\nRemainAfterExit=yes\nExecStart=${command}\n[Install]\nWantedBy=multi-user.target\n`;

function guest(cloudInit: Readonly<Record<string, string>>): Parameters<typeof withContainer>[0] {
  const image = installed(elastic.config);
  return {
    ...image,
    async prepare(router, root) {
      await image.prepare?.(router, root);
      await router.write(`${root}/usr/local/bin/cloud-init`, WRITER, 0o755);
      for (const [name, unit] of Object.entries(cloudInit)) {
        const command = name === 'cloud-init-local.service' ? '/usr/local/bin/cloud-init' : '/bin/true';
        await router.write(`${root}${UNITS}/${name}`, oneshot(unit, command));
      }
      await router.write(`${root}${UNITS}/tuned.service`, TUNED);
      const enable = ['systemctl', 'enable', 'tuned.service', ...Object.keys(cloudInit)];
      await router.run(['chroot', root, ...enable], { check: true });
    },
  };
}

/** `eth0 kylin-vr-eth0`: each activation of this boot, sorted by NIC. */
async function activations(machine: Machine): Promise<string[]> {
  const journal = await machine.journal('-b', '-u', 'NetworkManager', '-o', 'cat');
  const found = journal.matchAll(/device \((eth\d)\): Activation: starting connection '(.*?)'/g);
  return [...found].map(([, device, name]) => `${device} ${name}`).sort();
}

for (const [name, cloudInit] of Object.entries({ Debian: DEBIAN, EL }))
  test(`cloud-init of ${name} and tuned: each NIC is activated once, by our profile, and the router forwards`, () =>
    withContainer(guest(cloudInit), async (machine) => {
      const promises = await createPromises(machine);
      for (const boot of ['first', 'second']) {
        if (boot === 'second') await machine.reboot();
        assert.equal(await machine.read(FORWARD), '1\n', boot);
        await eventually(() => promises.broken(elastic), '', SOON_MS);
        assert.deepEqual(
          await activations(machine),
          ['eth0', 'eth1', 'eth2'].map((device) => `${device} kylin-vr-${device}`),
          boot,
        );
        await bootWasClean(machine);
        const verified = await machine.run(['systemd-analyze', 'verify', '--man=no', 'multi-user.target']);
        assert.doesNotMatch(verified.stdout + verified.stderr, /ordering cycle/);
        for (const path of Object.keys(FOREIGN)) assert.equal(await machine.read(path), undefined, path);
        const tuned = await monotonic(machine, 'tuned.service', 'ExecMainExitTimestampMonotonic');
        const reload = await monotonic(machine, 'kylin-vr-reload.service', 'ExecMainStartTimestampMonotonic');
        assert.ok(tuned > 0 && tuned <= reload, `tuned was ready at ${tuned} µs, the reload began at ${reload} µs`);
      }
      await machine.run(['systemctl', 'stop', 'kylin-vr-reload.timer'], { check: true });
      await machine.run(['systemctl', 'restart', 'tuned'], { check: true });
      await eventually(async () => (await machine.read(FORWARD)) ?? '', '1\n', SOON_MS);
    }));
