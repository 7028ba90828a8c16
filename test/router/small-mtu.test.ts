// With an MTU below 1280 the kernel takes IPv6 away from a link: what others have there is back with a larger one, whoever brings that.

import assert from 'node:assert/strict';
import { describe, it, type TestContext } from 'node:test';
import { apply, json, ok, type Report, shell, small, warningsOf } from '../confirm/router.ts';
import type { Lab } from '../lab/lab.ts';
import { createLabOn, NAME_OF } from '../lab/path.ts';
import { atVerification, recordTools } from '../lab/tools.ts';

const FOREIGN = '/run/kylin-vr/foreign.json';

const withMtu = (config: string, mtu: number) => config.replace(`11:00:04'`, `11:00:04', mtu: ${mtu}`);

/** A router whose subnet has IPv6 by others' hands; where NetworkManager does not see them with a link above it, and a NIC beside. */
async function labOf(t: TestContext, path: 'ip' | 'keyfile' = 'ip'): Promise<Lab> {
  const lab = await createLabOn(path);
  t.after(() => lab.close());
  await apply(lab, small);
  await shell(lab, path === 'ip' ? THEIRS + BESIDE : THEIRS);
  return lab;
}

const THEIRS = `
  ip -6 address add 2001:db8:1::5/64 dev eth1 nodad; ip -6 address add fe80::1/64 dev eth1 nodad
  ip -6 address add 2001:db8:1::6/64 dev eth1 nodad valid_lft 3600 preferred_lft 1800
  ip -6 route add 2001:db8:2::/48 via 2001:db8:1::9 dev eth1 proto bgp metric 20
  ip -6 route add default via fe80::9 dev eth1 metric 50 mtu 1400
  ip -6 route add 2001:db8:3::/48 via 2001:db8:1::9 dev eth1 table 100
  ip -6 neighbour add 2001:db8:1::77 lladdr 52:54:00:00:00:77 dev eth1 nud permanent
  ip -6 neighbour add proxy 2001:db8:1::88 dev eth1`;

const BESIDE = `
  ip link add link eth1 name upper up type macvlan; ip -6 address add 2001:db8:7::5/64 dev upper nodad
  ip link set eth2 up; ip -6 address add 2001:db8:9::5/64 dev eth2 nodad
  sysctl -qw net.ipv6.conf.default.disable_ipv6=1`;

const BRIDGE = `
  ip link add br0 type bridge; ip link add port type veth peer name beyond; ip link set port master br0 up; ip link set beyond up
  ip link set br0 up; ip -6 address add 2001:db8:5::5/64 dev br0 nodad; ip -6 address add fe80::1/64 dev br0 nodad
  ip -6 route add 2001:db8:55::/48 via 2001:db8:5::9 dev br0 proto bgp metric 20
  ip -6 neighbour add 2001:db8:5::77 lladdr 52:54:00:00:00:77 dev br0 nud permanent
  sysctl -qw net.ipv6.conf.default.disable_ipv6=1`;

/** Without what has an end of its own. */
const ipv6Of = (lab: Lab, device: string) =>
  shell(
    lab,
    `ip -6 -oneline address show dev ${device} permanent
     for table in main 100; do ip -6 -details -oneline route show table $table | grep 'dev ${device} ' || true; done
     ip -6 neighbour show dev ${device} nud permanent; ip -6 neighbour show proxy dev ${device}`,
  ).then((text) =>
    text
      .replace(/ nodad| tentative| stable-privacy| proto kernel_ll/g, '')
      .split('\n')
      .sort()
      .join('\n'),
  );

const waits = ({ warnings }: Report) =>
  warnings
    .map(({ message }) => message)
    .filter((text) => /not ours/.test(text))
    .map((text) => text.replace(/ route .* and (?=\d)/, ' route … and '));

const WAITS = [
  'address 2001:db8:1::5/64 dev eth1, address fe80::1/64 dev eth1, route … and 4 more: not ours, went with an MTU below 1280, and comes ' +
    'back with a larger one of eth1',
  'address 2001:db8:7::5/64 dev upper: not ours, went with an MTU below 1280, and comes back with a larger one of upper',
];

describe('an MTU too small for IPv6', { concurrency: true }, () => {
  for (const path of ['ip', 'keyfile'] as const)
    it(`what others have of IPv6 waits, is named by each run, and is back with a larger one: ${NAME_OF[path]}`, async (t) => {
      const lab = await labOf(t, path);
      const [found, elsewhere] = [await ipv6Of(lab, 'eth1'), await ipv6Of(lab, 'eth2')];
      const waiting = path === 'ip' ? WAITS : WAITS.slice(0, 1);
      await lab.configure(withMtu(small, 1000));
      for (const [command, result] of [
        ['reload', 'changed'],
        ['reload', 'unchanged'],
        ['reload', 'unchanged'],
      ] as const) {
        const report = await json(lab, command);
        assert.deepEqual([report.status, report.result, waits(report)], [0, result, waiting], JSON.stringify(report));
        assert.equal((await ipv6Of(lab, 'eth1')).trim(), '');
        assert.equal(await ipv6Of(lab, 'eth2'), elsewhere);
      }
      assert.equal((await lab.kylin('plan')).stdout, 'in sync\n');
      assert.match((await lab.kylin('status')).stdout, /went with an MTU below 1280/);

      await lab.configure(small);
      assert.match((await lab.kylin('plan')).stdout, /^\+ address 2001:db8:1::5\/64 dev eth1 \(foreign, put back\)$/m);
      const { status, steps, warnings } = await json(lab, 'reload');
      assert.deepEqual([status, warnings.map(({ message }) => message)], [0, waiting.slice(1)]);
      assert.equal(steps.filter(({ kind }) => kind === 'put-back').length, 7);
      assert.equal(await ipv6Of(lab, 'eth1'), found);
      if (path === 'ip') {
        // Its MTU nobody of ours makes large again.
        assert.equal((await ipv6Of(lab, 'upper')).trim(), '');
        await shell(lab, 'ip link set upper mtu 1500; sysctl -qw net.ipv6.conf.upper.disable_ipv6=0');
        await ok(lab, 'reload');
        assert.match(await ipv6Of(lab, 'upper'), / 2001:db8:7::5\/64 /);
      }
      assert.equal(await lab.router.read(FOREIGN), undefined);
      assert.deepEqual(warningsOf(await json(lab, 'reload')), []);
    });

  for (const how of ['rollback', 'a reload that fails'] as const)
    it(`with the change that is taken back: ${how}`, async (t) => {
      const lab = await labOf(t);
      const found = await ipv6Of(lab, 'eth1');
      if (how === 'rollback') {
        await apply(lab, withMtu(small, 1000), '--confirm-within', '600');
        assert.equal((await ipv6Of(lab, 'eth1')).trim(), '');
        assert.equal((await json(lab, 'rollback')).status, 0);
      } else {
        const tools = await recordTools(lab.router);
        await tools.before('ip', atVerification("echo 'made to fail' >&2; exit 4"));
        await lab.configure(withMtu(small, 1000));
        const { status, result } = await json(lab, 'reload');
        assert.deepEqual([status, result], [69, 'rolled-back']);
        await tools.before('ip');
      }
      assert.equal(await ipv6Of(lab, 'eth1'), found);
    });

  it('not what others have put elsewhere meanwhile', async (t) => {
    const lab = await labOf(t);
    await apply(lab, withMtu(small, 1000));
    await shell(lab, 'ip -6 route add 2001:db8:2::/48 via 2001:db8:9::9 dev eth2 proto bgp metric 20');
    await apply(lab, withMtu(small, 1280));
    const routes = await shell(lab, 'ip -6 route show 2001:db8:2::/48');
    assert.equal(
      routes.replace(/ pref medium *\n$/, ''),
      '2001:db8:2::/48 via 2001:db8:9::9 dev eth2 proto bgp metric 20',
    );
    assert.match(await ipv6Of(lab, 'eth1'), /^unicast default via fe80::9 dev eth1 /m);
  });

  it('on a bridge, whose MTU follows that of its port, and where the NIC becomes one with it', async (t) => {
    const lab = await labOf(t);
    const bridged = (mtu: number) =>
      withMtu(small, mtu).replace(`mtu: ${mtu}`, `mtu: ${mtu}, bridge: br0, bridge-type: linux`);
    // The kernel takes no port with a link above it.
    await shell(lab, 'ip link delete upper; sysctl -qw net.ipv6.conf.default.disable_ipv6=0');
    // What stays on a port, and leads nowhere from there, is no matter of the MTU.
    await shell(lab, 'ip -6 route delete 2001:db8:2::/48; ip -6 route delete 2001:db8:3::/48 table 100');
    await apply(lab, bridged(1500));
    const found = await ipv6Of(lab, 'br0');
    assert.match(found, / 2001:db8:1::5\/64 [\s\S]* default via fe80::9 dev br0 /);
    await apply(lab, bridged(1000));
    assert.equal((await ipv6Of(lab, 'br0')).trim(), '');
    await apply(lab, bridged(1400));
    assert.equal(await ipv6Of(lab, 'br0'), found);

    await apply(lab, small);
    await shell(lab, 'ip -6 address replace 2001:db8:4::5/64 dev eth1 nodad');
    await apply(lab, bridged(1000));
    await apply(lab, small);
    assert.match(await ipv6Of(lab, 'eth1'), / 2001:db8:4::5\/64 /);
  });

  it('is nothing to a kernel that has no IPv6', async (t) => {
    const lab = await labOf(t);
    await shell(lab, 'mount -t tmpfs tmpfs /proc/sys/net/ipv6');
    const tools = await recordTools(lab.router);
    await tools.before('ip', `case "$*" in *-6*) exit 1 ;; esac`);
    await apply(lab, withMtu(small, 1000));
    assert.equal(await lab.router.read(FOREIGN), undefined);
  });

  for (const how of ['reload', 'rollback', 'a kill'] as const)
    it(`on a bridge of others that gets a port with such an MTU, and is back when that leaves: ${how}`, async (t) => {
      const lab = await createLabOn('ip');
      t.after(() => lab.close());
      const narrow = withMtu(small, 1000);
      await apply(lab, narrow);
      await shell(lab, BRIDGE);
      const found = await ipv6Of(lab, 'br0');
      await lab.configure(narrow.replace('mtu: 1000', 'mtu: 1000, bridge: br0, bridge-type: linux'));
      if (how === 'a kill') {
        const tools = await recordTools(lab.router);
        await tools.before(
          'ip',
          `case "$*" in '-batch -') cat > /run/batch; $real -batch /run/batch; ! grep -q master /run/batch || kill -9 $PPID ;; esac`,
        );
        assert.notEqual((await lab.kylin('reload')).status, 0);
        await tools.before('ip');
      } else {
        const report = await json(lab, 'reload', ...(how === 'rollback' ? ['--confirm-within', '600'] : []));
        assert.deepEqual([report.status, waits(report).length], [0, 1], JSON.stringify(report));
      }
      assert.equal((await ipv6Of(lab, 'br0')).trim(), '');
      await lab.configure(narrow);
      const back = await json(lab, how === 'rollback' ? 'rollback' : 'reload');
      assert.deepEqual([back.status, waits(back)], [0, []], JSON.stringify(back));
      assert.equal(await ipv6Of(lab, 'br0'), found);
      assert.equal(await lab.router.read(FOREIGN), undefined);
    });

  it('what a killed run took along is back, too', async (t) => {
    const lab = await labOf(t);
    const found = await ipv6Of(lab, 'eth1');
    const tools = await recordTools(lab.router);
    await tools.before(
      'ip',
      `case "$*" in '-batch -') cat > /run/batch; $real -batch /run/batch; kill -9 $PPID ;; esac`,
    );
    await lab.configure(withMtu(small, 1000));
    assert.notEqual((await lab.kylin('reload')).status, 0);
    await tools.before('ip');
    assert.equal((await ipv6Of(lab, 'eth1')).trim(), '');
    await apply(lab, small);
    assert.equal(await ipv6Of(lab, 'eth1'), found);
  });
});
