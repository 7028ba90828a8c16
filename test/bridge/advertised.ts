// IPv6 that a router advertises, where the uplink becomes a port of a bridge: there, back, and taken back.

import assert from 'node:assert/strict';
import { resolve } from 'node:path';
import { describe, it, type TestContext } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { ADDRESSES, type Lab, NICS } from '../lab/lab.ts';
import { EIPS } from '../lab/table.ts';
import { eip } from '../scenarios/change.ts';
import { bridged, type Kind, reload, shell } from './moves.ts';

const NIC = NICS.public.device;
export const PREFIX = '2001:db8:5:5::';
const START = PREFIX.replace(/:$/, '');
/** Of the MAC of the NIC. */
export const ADDRESS = `${START}5054:84ff:fe00:846`;
const SCRIPT = resolve(import.meta.dirname, '../lab/advertise.pl');
const PATIENCE_MS = 20_000;

const plain = `if_list:
  - { ipaddr: ${ADDRESSES.router}, prefix: 24, mac: '${NICS.public.mac}', gateway: ${ADDRESSES.out} }
eip_list:
${eip(EIPS.x, ADDRESSES.x)}`;

/** `every`: seconds between two that nobody asked for. */
export async function advertise(lab: Lab, t: TestContext, { lifetime = 600, every = 300 } = {}): Promise<void> {
  const out = lab.host('out');
  await out.run(['ip', 'address', 'add', `${PREFIX}1/64`, 'dev', 'eth0', 'nodad'], { check: true });
  const child = out.spawn(['perl', SCRIPT, 'eth0', PREFIX, `${lifetime}`, `${every}`], {
    stdio: ['pipe', 'ignore', 'inherit'],
  });
  t.after(() => child.kill());
}

/** What it is heard by, as a router or a host, and what came of that. */
export async function hears(lab: Lab, as: 'host' | 'router' = 'router'): Promise<void> {
  const forwards = as === 'router' ? 1 : 0;
  await shell(
    lab,
    `sysctl -qw net.ipv6.conf.all.forwarding=${forwards} net.ipv6.conf.${NIC}.accept_ra=${forwards + 1}; ip link set ${NIC} up`,
  );
  await has(lab, NIC);
}

const addressesOn = (lab: Lab, device: string) =>
  shell(lab, `ip -6 -o address show dev ${device} scope global | awk '{ print $4 }' | sort`);

/** Routes but for the link's own, without what changes by itself. */
const routesOn = (lab: Lab, device: string) =>
  shell(
    lab,
    `ip -6 route show dev ${device} | grep -v ^fe80::/64 | sed -E 's/ (metric|expires|hoplimit|pref) [^ ]+//g; s/ +$//' || true`,
  );

/** `address`: undefined for one of the bridge's own MAC. */
export const has = (lab: Lab, device: string, address?: string) =>
  until(async () => {
    const there = (await addressesOn(lab, device)).split('\n').filter((each) => each.startsWith(START));
    const [one = ''] = address === undefined ? there : there.filter((each) => each === `${address}/64`);
    assert.match(await routesOn(lab, device), /^default via fe80::\S+ proto ra$/m);
    const host = one.replace('/64', '');
    const { status } = await lab.host('out').run(['ping', '-c', '1', '-W', '1', host]);
    assert.equal(status, 0, `no answer from ${host}, of ${there.join(', ')}, on ${device}`);
  });

async function until(holds: () => Promise<void>): Promise<void> {
  for (const end = Date.now() + PATIENCE_MS; ; await sleep(200))
    try {
      return await holds();
    } catch (error) {
      if (Date.now() > end) throw error;
    }
}

const setting = async (lab: Lab, device: string, name = 'accept_ra') =>
  (await shell(lab, `cat /proc/sys/net/ipv6/conf/${device}/${name}`)).trim();

export function advertised(kind: Kind): void {
  const onBridge = bridged(plain, kind.type);
  const labOf = async (t: TestContext): Promise<Lab> => {
    const lab = await kind.createLab();
    t.after(() => lab.close());
    return lab;
  };

  describe('IPv6 that a router advertises', { concurrency: 2 }, () => {
    it('NIC and bridge both have it, since somebody has moved the NIC', async (t) => {
      const lab = await labOf(t);
      await advertise(lab, t);
      await hears(lab);
      await shell(
        lab,
        `${kind.make}; sysctl -qw net.ipv6.conf.br-ex.accept_ra=2; ${kind.addPort(NIC)}; ip link set br-ex up`,
      );
      await has(lab, 'br-ex');
      await reload(lab, onBridge);
      await has(lab, 'br-ex');
      assert.equal(await routesOn(lab, NIC), '');
      assert.equal((await reload(lab, onBridge)).result, 'unchanged');
    });

    it('a router hears it on the bridge, for longer than it lasts, and on the NIC again', async (t) => {
      const lab = await labOf(t);
      await advertise(lab, t, { lifetime: 12, every: 4 });
      await hears(lab);
      await lab.configure(onBridge);
      const { stdout } = await lab.kylin('plan');
      for (const line of [
        '~ net.ipv6.conf.br-ex.accept_ra unset → 2',
        `~ net.ipv6.conf.${NIC}.accept_ra 2 → 0`,
        `- route ${PREFIX}/64 dev ${NIC} proto kernel metric 256 (advertised; br-ex hears it anew)`,
        '! routers asked on br-ex what they advertise',
      ])
        assert.ok(stdout.split('\n').includes(line), `${line} is not in\n${stdout}`);
      await reload(lab, onBridge);
      assert.equal(await routesOn(lab, NIC), '');
      await sleep(13_000);
      await has(lab, 'br-ex', ADDRESS);
      assert.equal(await routesOn(lab, NIC), '');
      assert.deepEqual(
        [await addressesOn(lab, NIC), await setting(lab, 'br-ex'), await setting(lab, NIC)],
        ['', '2', '0'],
      );
      assert.equal((await reload(lab, onBridge)).result, 'unchanged');
      await reload(lab, plain);
      await has(lab, NIC, ADDRESS);
      assert.equal(await setting(lab, NIC), '2');
      assert.equal((await reload(lab, plain)).result, 'unchanged');
    });

    it('what is taken back, or lapses, hears as before, either way', async (t) => {
      const lab = await labOf(t);
      await advertise(lab, t);
      await hears(lab);
      for (const [from, to, device] of [
        [plain, onBridge, NIC],
        [onBridge, plain, 'br-ex'],
      ] as const) {
        await reload(lab, from);
        await lab.configure(to);
        for (const [within, end] of [
          ['60', () => lab.kylin('rollback')],
          ['1', () => sleep(1500)],
        ] as const) {
          assert.equal((await lab.kylin('reload', '--confirm-within', within)).status, 0);
          await end();
          await until(async () => assert.equal(await setting(lab, device), '2'));
          await has(lab, device, ADDRESS);
          if (device !== NIC) assert.deepEqual([await setting(lab, NIC), await routesOn(lab, NIC)], ['0', '']);
        }
      }
    });

    it('a host hears as its NIC did, with the same address, and if_list: [] gives that back', async (t) => {
      const lab = await labOf(t);
      await advertise(lab, t);
      const OWN = {
        stable_secret: '2001:0db8:0000:0000:0000:0000:0000:0007',
        use_tempaddr: '2',
        accept_ra_rtr_pref: '0',
      };
      const names = Object.keys(OWN);
      await shell(
        lab,
        `sysctl -qw ${Object.entries(OWN)
          .map(([name, value]) => `net.ipv6.conf.${NIC}.${name}=${value}`)
          .join(' ')}`,
      );
      await hears(lab, 'host');
      const address = async (device: string) =>
        shell(lab, `ip -6 -o address show dev ${device} scope global -temporary | awk '{ print $4 }'`);
      const found = await address(NIC);
      assert.match(found, new RegExp(START));
      await reload(lab, onBridge);
      await has(lab, 'br-ex');
      assert.deepEqual(await Promise.all(names.map((name) => setting(lab, 'br-ex', name))), Object.values(OWN));
      assert.deepEqual([await address('br-ex'), await setting(lab, 'br-ex')], [found, '1']);
      await reload(lab, 'if_list: []\n');
      assert.equal(await setting(lab, NIC), '1');
      await has(lab, NIC);
    });

    for (const [how, name, before] of [
      ['hears none', 'accept_ra', '1'],
      ['has no IPv6', 'disable_ipv6', '1'],
    ] as const)
      it(`a bridge of others that ${how} hears in its port's stead, and is as before afterwards, or where it is taken back`, async (t) => {
        const lab = await labOf(t);
        await advertise(lab, t);
        await hears(lab);
        await shell(lab, `${kind.make}; sysctl -qw net.ipv6.conf.br-ex.${name}=${before}; ip link set br-ex up`);
        await reload(lab, plain);
        for (const isKept of [false, true]) {
          await lab.configure(onBridge);
          const { status, stderr } = await lab.kylin('reload', ...(isKept ? [] : ['--confirm-within', '60']));
          assert.equal(status, 0, stderr);
          await has(lab, 'br-ex');
          if (isKept) await reload(lab, plain);
          else assert.equal((await lab.kylin('rollback')).status, 0);
          await has(lab, NIC, ADDRESS);
          assert.deepEqual([await setting(lab, 'br-ex', name), await setting(lab, NIC)], [before, '2']);
          assert.equal(await routesOn(lab, 'br-ex'), '');
          assert.equal(await shell(lab, 'ip -4 -o address show dev br-ex'), '');
        }
      });

    it('a route that somebody entered goes along, by a gateway that only the advertised network leads to', async (t) => {
      const lab = await labOf(t);
      await advertise(lab, t);
      await hears(lab);
      await shell(lab, `ip -6 route add 2001:db8:9::/48 via ${PREFIX}1 dev ${NIC}`);
      for (const [config, device] of [
        [onBridge, 'br-ex'],
        [plain, NIC],
      ] as const) {
        await reload(lab, config);
        await has(lab, device, ADDRESS);
        assert.match(
          await shell(lab, 'ip -6 route show 2001:db8:9::/48'),
          new RegExp(` via ${PREFIX}1 dev ${device} `),
        );
      }
    });

    it('where a program hears on the NIC, as NetworkManager does, the kernel hears on the bridge', async (t) => {
      const lab = await labOf(t);
      await advertise(lab, t);
      await shell(
        lab,
        `sysctl -qw net.ipv6.conf.${NIC}.accept_ra=0; ip link set ${NIC} up
         ip address add ${PREFIX}7/64 dev ${NIC} valid_lft 600 preferred_lft 600 noprefixroute nodad
         ip -6 route add ${PREFIX}/64 dev ${NIC} proto ra metric 100
         ip -6 route add default via fe80::1 dev ${NIC} proto ra metric 100`,
      );
      await reload(lab, onBridge);
      await has(lab, 'br-ex', ADDRESS);
      assert.deepEqual([await setting(lab, 'br-ex'), await setting(lab, NIC)], ['2', '0']);
      assert.deepEqual([await routesOn(lab, NIC), await addressesOn(lab, NIC)], ['', '']);
      assert.ok((await addressesOn(lab, 'br-ex')).includes(`${PREFIX}7/64`));
      assert.equal((await reload(lab, onBridge)).result, 'unchanged');
      await reload(lab, plain);
      assert.equal(await setting(lab, NIC), '0');
    });

    it('a default route that somebody gave to both is on the bridge alone', async (t) => {
      const lab = await labOf(t);
      await shell(
        lab,
        `${kind.make}; for link in ${NIC} br-ex; do ip link set $link up; ip addr add 2001:db8::5/64 dev $link nodad; done
         for link in ${NIC} br-ex; do ip -6 route append default via 2001:db8::1 dev $link; done`,
      );
      const { steps } = await reload(lab, onBridge);
      assert.ok(
        steps.some(({ text }) => text.endsWith(' (foreign; br-ex has it)')),
        JSON.stringify(steps),
      );
      assert.match(await shell(lab, 'ip -6 route show default'), /^default via 2001:db8::1 dev br-ex [^\n]*\n$/);
      await reload(lab, plain);
      assert.match(
        await shell(lab, 'ip -6 route show default'),
        new RegExp(`^default via 2001:db8::1 dev ${NIC} [^\\n]*\n$`),
      );
    });
  });
}
