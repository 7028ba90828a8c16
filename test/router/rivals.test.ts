// Who else sets up a NIC of ours is named, with what ends it, as long as it does so.

import assert from 'node:assert/strict';
import { describe, it, type TestContext } from 'node:test';
import { apply, json, one, shell, until, warningsOf } from '../confirm/router.ts';
import { createLab, type Lab } from '../lab/lab.ts';

async function router(t: TestContext): Promise<Lab> {
  const lab = await createLab();
  t.after(() => lab.close());
  await apply(lab, one);
  return lab;
}

const warnings = async (lab: Lab) => warningsOf(await json(lab, 'reload', '--trigger', 'timer'));

describe('another manager on a NIC of ours is named', { concurrency: false }, () => {
  it('systemd-networkd, until it leaves the NIC alone', async (t) => {
    const lab = await router(t);
    const says = [
      'systemd-networkd sets up eth1 too, and takes away what is ours: write [Match] Name=eth1 and [Link] Unmanaged=yes ' +
        'to /etc/systemd/network/00-eth1.network, then networkctl reload',
    ];
    await lab.router.write(
      '/etc/systemd/network/10-lan.network',
      '[Match]\nName=eth1\n[Network]\nAddress=10.10.1.77/24\n',
    );
    const networkd = async () => {
      const pid = (
        await shell(
          lab,
          `mkdir -p /run/systemd/netif/links /run/systemd/netif/leases /run/systemd/netif/lldp
           chown -R systemd-network:systemd-network /run/systemd/netif
           # Else it waits for udev.
           mount -o remount,bind,ro /sys
           timeout 60 /lib/systemd/systemd-networkd > /run/networkd.log 2>&1 & echo $!`,
        )
      ).trim();
      return () => shell(lab, `kill ${pid} || true; while kill -0 ${pid} 2> /dev/null; do sleep 0.1; done`);
    };
    const state = (of: string) =>
      until(`networkd: ${of}`, async () =>
        (await shell(lab, 'cat /run/systemd/netif/links/* 2> /dev/null || true')).includes(`ADMIN_STATE=${of}`),
      );
    const end = await networkd();
    await state('configur');
    assert.deepEqual(await warnings(lab), says);
    await end();
    await lab.router.write('/etc/systemd/network/00-eth1.network', '[Match]\nName=eth1\n[Link]\nUnmanaged=yes\n');
    await shell(lab, 'rm -rf /run/systemd/netif');
    const endAgain = await networkd();
    await state('unmanaged');
    assert.deepEqual(await warnings(lab), []);
    await endAgain();
  });

  it('ifupdown, by what it has brought up, in any of its files', async (t) => {
    const lab = await router(t);
    await lab.router.write('/etc/network/interfaces', 'auto lo\niface lo inet loopback\nsource interfaces.d/*\n');
    await lab.router.write(
      '/etc/network/interfaces.d/cloud',
      'auto eth0\niface eth0 inet dhcp\niface eth1 inet static\n',
    );
    assert.deepEqual(await warnings(lab), [], 'it has brought up nothing');
    await shell(lab, 'mkdir -p /run/network; printf "lo=lo\\neth0=eth0\\n" > /run/network/ifstate');
    assert.deepEqual(await warnings(lab), [
      'ifupdown sets up eth0 too (iface eth0 inet dhcp in /etc/network/interfaces.d/cloud), and its DHCP client flushes the NIC ' +
        "when a lease ends: write manual for dhcp there, and end its DHCP client (pgrep -a 'dhclient|udhcpc|dhcpcd')",
    ]);
    await shell(lab, 'printf "eth1=eth1\\n" > /run/network/ifstate');
    assert.deepEqual(await warnings(lab), [
      'ifupdown sets up eth1 too (iface eth1 inet static in /etc/network/interfaces.d/cloud): write manual for static there',
    ]);
    await lab.router.write('/etc/network/interfaces.d/cloud', 'auto eth1\niface eth1 inet manual\n');
    assert.deepEqual(await warnings(lab), []);
  });
});
