// Debian's real ifupdown beside kylin-vr: its networking.service flushes the NICs that its file names.

import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { mkdtemp, readdir, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { promisify } from 'node:util';
import { eventually } from '../lab/eventually.ts';
import { elastic } from '../lab/table.ts';
import { bootWasClean, createPromises, installed } from './guest.ts';
import { withContainer } from './lab/container.ts';
import type { Machine } from './lab/machine.ts';

const SOON_MS = 20_000;
const INTERFACES = `auto lo
iface lo inet loopback

auto eth0
iface eth0 inet static
    address 203.0.113.37/24
    gateway 203.0.113.1

auto eth1
iface eth1 inet static
    address 10.10.1.254/24

auto eth2
iface eth2 inet manual
`;

/** As apt-get downloads it. */
async function ifupdown(): Promise<Buffer> {
  const folder = await mkdtemp(join(tmpdir(), 'kylin-vr-ifupdown-'));
  try {
    await promisify(execFile)('apt-get', ['-qq', 'download', 'ifupdown'], { cwd: folder });
    const [name = ''] = await readdir(folder);
    return await readFile(join(folder, name));
  } finally {
    await rm(folder, { recursive: true });
  }
}

function guest(): Parameters<typeof withContainer>[0] {
  const image = installed(elastic.config);
  return {
    ...image,
    async prepare(router, root) {
      await image.prepare?.(router, root);
      const script = `
        base64 -d > "$1/root/ifupdown.deb"
        printf '%s' "$2" > "$1/interfaces"
        dpkg --root="$1" --force-depends --install "$1/root/ifupdown.deb"
        mkdir -p "$1/etc/network"
        mv "$1/interfaces" "$1/etc/network/interfaces"
        chroot "$1" systemctl enable networking.service`;
      const input = (await ifupdown()).toString('base64');
      await router.run(['sh', '-ec', script, 'sh', root, INTERFACES], { input, check: true });
    },
  };
}

const RESTART = `systemctl restart networking; began=$(date +%s%N)
  for i in $(seq 400); do
    ip -4 address show dev eth0 | grep -q ' 203\\.0\\.113\\.50/32' && ip -4 address show dev eth2 | grep -q 10.10.2.254 && break
    sleep 0.05
  done
  echo $((($(date +%s%N) - began) / 1000000))`;

/** How often it ran in this boot, `start` aside. */
async function reloads(machine: Machine): Promise<number> {
  const { stdout } = await machine.run(['kylin-vr', 'log', '-n', '100']);
  return (stdout.split('start by boot').at(-1) ?? '').match(/ reload by /g)?.length ?? 0;
}

test('a restart of networking.service: what it flushed is back at once, and a boot is clean', (t) =>
  withContainer(guest(), async (machine) => {
    const promises = await createPromises(machine);
    const whole = () => promises.broken(elastic);
    for (const boot of ['first', 'second']) {
      if (boot === 'second') await machine.reboot();
      await eventually(whole, '', SOON_MS);
      await bootWasClean(machine);
      const verified = await machine.run(['systemd-analyze', 'verify', '--man=no', 'multi-user.target']);
      assert.doesNotMatch(verified.stdout + verified.stderr, /ordering cycle/);
      // A second one where networking ended after the first had begun.
      const ran = await reloads(machine);
      assert.ok(ran >= 1 && ran <= 2, `${ran} runs`);
    }
    await machine.run(['systemctl', 'stop', 'kylin-vr-reload.timer'], { check: true });
    for (let restart = 0; restart < 3; restart++) {
      // From the end of the restart: what was flushed may be there again when that is seen.
      const { stdout } = await machine.run(['sh', '-c', RESTART], { check: true });
      t.diagnostic(`restart ${restart}: back after ${stdout.trim()} ms`);
      await eventually(whole, '', SOON_MS);
    }
    // As 1.0 was.
    await machine.run(['systemctl', 'mask', '--runtime', 'kylin-vr-mark'], { check: true });
    await machine.run(['systemctl', 'restart', 'networking'], { check: true });
    await sleep(5000);
    assert.match(await whole(), /203\.0\.113\.50/);
    await machine.run(['systemctl', 'unmask', '--runtime', 'kylin-vr-mark'], { check: true });
    await machine.run(['systemctl', 'restart', 'networking'], { check: true });
    await eventually(whole, '', SOON_MS);
  }));
