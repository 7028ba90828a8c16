// What others have beside us where a change is taken back: many routes cost little, and what they changed meanwhile is theirs.

import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { createLab, type Lab } from '../lab/lab.ts';
import { atVerification, recordTools } from '../lab/tools.ts';
import {
  apply,
  everything,
  json,
  killWaiters,
  one,
  other,
  pass,
  resume,
  shell,
  small,
  warningsOf,
  x,
} from './router.ts';

/** `npm run bench -- take-back` has 50,000. */
const MANY = 20_000;

/** As a routing daemon has them: through a NIC of ours, through one that is to be ours, and through another device. */
async function manyRoutes(lab: Lab, gateway: string): Promise<void> {
  const ways = ['203.0.113.1 dev eth0', `${gateway} dev eth2`, '172.20.0.2 dev br-op'];
  const lines = Array.from({ length: MANY }, (_, n) => {
    const dest = `100.${64 + (n >> 14)}.${(n >> 6) & 255}.${(n & 63) << 2}/30`;
    return `route add ${dest} via ${ways[n % 3]} proto 186 metric 20\n`;
  });
  // Where others change their routes at the same time the kernel takes a thousand in a second: each part has its own minute.
  for (let at = 0; at < MANY; at += MANY / 10)
    await lab.router.run(['ip', '-batch', '-'], { input: lines.slice(at, at + MANY / 10).join(''), check: true });
}

const countIn = (network: string) => network.match(/^100\..* metric 20$/gm)?.length;

const OTHERS = `
  ip link add br-op up type bridge; ip address add 172.20.0.1/24 dev br-op
  ip link set eth2 up; ip address add 192.0.2.5/24 dev eth2`;

describe('what others have where a change is taken back', { concurrency: true }, () => {
  it(`${MANY} routes of a daemon: rollback, a lapsed change and a failed reload look each of them up, and all stay`, async (t) => {
    const lab = await createLab({ networkScripts: true });
    t.after(() => lab.close());
    await shell(lab, OTHERS);
    await apply(lab, small);
    await manyRoutes(lab, '192.0.2.1');
    const found = await everything(lab);
    assert.equal(countIn(found), MANY);

    // Each by itself has the minute that the lab gives a command; looked for among all of them, they took ten.
    await apply(lab, other, '--confirm-within', '600');
    assert.equal((await json(lab, 'rollback')).status, 0);
    assert.equal(await everything(lab), found);

    await apply(lab, other, '--confirm-within', '600');
    await takeBack(lab, 'lapse');
    assert.equal(await everything(lab), found);

    const tools = await recordTools(lab.router);
    await tools.before('ip', atVerification("echo 'made to fail' >&2; exit 4"));
    assert.deepEqual(await json(lab, 'reload').then(({ status, result }) => [status, result]), [69, 'rolled-back']);
    await tools.before('ip');
    assert.equal(await everything(lab), found);
  });

  it('routes that went with what a change removed come back with it, also thousands', async (t) => {
    const lab = await createLab({ networkScripts: true });
    t.after(() => lab.close());
    await shell(lab, OTHERS);
    await apply(lab, one);
    await manyRoutes(lab, x);
    const found = await everything(lab);
    await apply(lab, small, '--confirm-within', '600');
    assert.equal(countIn(await everything(lab)), MANY - Math.ceil((MANY - 1) / 3));
    assert.equal((await json(lab, 'rollback')).status, 0);
    assert.equal(await everything(lab), found);
  });

  for (const how of ['rollback', 'lapse'] as const)
    it(`what went comes back, but not what others deleted, moved or put elsewhere meanwhile: ${how}`, async (t) => {
      const lab = await createLab({ networkScripts: true });
      t.after(() => lab.close());
      await shell(lab, OTHERS);
      await apply(lab, one);
      const theirs = (dest: string, way: string) => `198.18.${dest}.0/24 via ${way} proto bgp`;
      const [atB, atUplink, elsewhere] = [`${x} dev eth2`, '203.0.113.1 dev eth0', '172.20.0.3 dev br-op'];
      const add = (routes: readonly string[]) => shell(lab, routes.map((each) => `ip route add ${each}\n`).join(''));
      await add([
        theirs('1', atB),
        theirs('2', atB),
        theirs('3', atUplink),
        theirs('4', atUplink),
        theirs('5', atUplink),
      ]);
      await apply(lab, small, '--confirm-within', '600');
      const routes = async () => (await everything(lab)).match(/^198\.18\..*$/gm);
      assert.deepEqual(await routes(), [theirs('3', atUplink), theirs('4', atUplink), theirs('5', atUplink)]);

      await add([theirs('2', elsewhere)]);
      await shell(lab, `ip route delete ${theirs('3', atUplink)}; ip route replace ${theirs('4', elsewhere)}`);
      await takeBack(lab, how);
      assert.deepEqual(await routes(), [
        theirs('1', atB),
        theirs('2', elsewhere),
        theirs('4', elsewhere),
        theirs('5', atUplink),
      ]);
    });

  for (const how of ['rollback', 'lapse', 'a reload that fails'] as const)
    it(`routes of every kind and neighbours that somebody entered come back word for word: ${how}`, async (t) => {
      const lab = await createLab({ networkScripts: true });
      t.after(() => lab.close());
      await apply(lab, one);
      await shell(lab, KINDS);
      const found = await kindsOf(lab);
      assert.equal(found.split('\n').length, 21, found);
      if (how === 'a reload that fails') {
        const tools = await recordTools(lab.router);
        await tools.before('ip', atVerification("echo 'made to fail' >&2; exit 4"));
        await lab.configure(small);
        const report = await json(lab, 'reload');
        assert.deepEqual([report.status, report.result, warningsOf(report)], [69, 'rolled-back', []]);
      } else {
        await apply(lab, small, '--confirm-within', '600');
        assert.equal(await kindsOf(lab), '');
        await takeBack(lab, how);
      }
      assert.equal(await kindsOf(lab), found);
      await lab.configure(one);
      assert.equal((await lab.kylin('plan')).stdout, 'in sync\n');
      assert.equal((await lab.kylin('status')).status, 0);
    });

  for (const how of ['rollback', 'lapse', 'a reload that fails'] as const)
    it(`addresses of every kind that a change removed come back word for word: ${how}`, async (t) => {
      const lab = await createLab({ networkScripts: true });
      t.after(() => lab.close());
      await apply(lab, small);
      await shell(lab, ADDRESSES_OF_OTHERS);
      const odd = '\u0001 "#';
      await lab.router.run(['ip', 'address', 'add', '172.31.7.1/32', 'dev', 'eth2', 'label', `eth2:${odd}`]);
      const found = await addressesOf(lab);
      assert.equal(found.split('\n').length, 11, found);
      const network = await everything(lab);
      if (how === 'a reload that fails') {
        const tools = await recordTools(lab.router);
        await tools.before('ip', atVerification("echo 'made to fail' >&2; exit 4"));
        await lab.configure(one);
        const report = await json(lab, 'reload');
        assert.deepEqual([report.status, report.result, warningsOf(report)], [69, 'rolled-back', []]);
      } else {
        await apply(lab, one, '--confirm-within', '600');
        assert.match(
          await addressesOf(lab),
          /^eth2 inet 10\.10\.2\.254\/24 scope global eth2\\ valid_lft forever preferred_lft forever\n$/,
        );
        await takeBack(lab, how);
      }
      assert.equal(await addressesOf(lab), found);
      assert.equal(await everything(lab), network);
    });

  it('a lease comes back with what it had left, also where the file made it an address for good; one that is over does not', async (t) => {
    const lab = await createLab({ networkScripts: true });
    t.after(() => lab.close());
    await apply(lab, small);
    await shell(
      lab,
      `ip link set eth2 up
       ip address add 10.10.2.254/24 dev eth2 valid_lft 90000 preferred_lft 80000
       ip address add 10.10.2.9/24 dev eth2 valid_lft 3000 preferred_lft 100
       ip address add 10.10.2.8/24 dev eth2 valid_lft 300 preferred_lft 300`,
    );
    await apply(lab, one, '--confirm-within', '600');
    assert.match(await lifetimesOf(lab), /^10\.10\.2\.254\/24 forever forever\n$/);
    await takeBack(lab, 'lapse');
    const lines = (await lifetimesOf(lab)).trim().split('\n');
    const left = lines.map((line) =>
      line.split(' ').map((word) => (/sec$/.test(word) ? Number.parseInt(word, 10) : word)),
    );
    const about = (seconds: number, real: unknown) =>
      assert.ok(typeof real === 'number' && real <= seconds && real > seconds - 300, `${real}: ${lines.join()}`);
    assert.deepEqual(
      left.map(([spec]) => spec),
      ['10.10.2.254/24', '10.10.2.9/24'],
    );
    about(90_000 - 601, left[0]?.[1]);
    about(80_000 - 601, left[0]?.[2]);
    about(3000 - 601, left[1]?.[1]);
    assert.equal(left[1]?.[2], 0);
    // They are somebody else's again.
    await apply(lab, 'if_list: []\n');
    assert.equal((await lifetimesOf(lab)).trim().split('\n').length, 2);
  });

  it('addresses in a checkpoint of the version before, which has no words, come back', async (t) => {
    const lab = await createLab({ networkScripts: true });
    t.after(() => lab.close());
    await apply(lab, small);
    await shell(lab, 'ip link set eth2 up; ip address add 10.10.2.7/24 dev eth2');
    const found = await everything(lab);
    await apply(lab, one, '--confirm-within', '600');
    const path = '/var/lib/kylin-vr/checkpoint.json';
    const checkpoint = JSON.parse((await lab.router.read(path)) ?? '');
    assert.equal(checkpoint.state.addresses.filter((each: { found?: unknown }) => each.found).length, 1);
    for (const address of checkpoint.state.addresses) delete address.found;
    delete checkpoint.at;
    await lab.router.write(path, JSON.stringify(checkpoint), 0o600);
    await takeBack(lab, 'rollback');
    assert.equal(await everything(lab), found);
  });

  for (const how of ['rollback', 'lapse'] as const)
    it(`MTUs and settings that others changed meanwhile are theirs, the rest is as it was: ${how}`, async (t) => {
      const lab = await createLab({ networkScripts: true });
      t.after(() => lab.close());
      await apply(lab, small);
      await shell(lab, 'ip link set eth2 mtu 1480; sysctl -qw net.ipv4.conf.eth2.send_redirects=1');
      const found = await everything(lab);
      const [was, redirects] = [await settingsOf(lab), await setting(lab, 'eth2.send_redirects')];
      assert.deepEqual([was, redirects], ['eth1 1500\neth2 1480\n', '1']);
      const mtus = (config: string) => config.replace(`11:00:04'`, `11:00:04', mtu: 1400`);
      await apply(lab, mtus(one), '--confirm-within', '600');
      assert.deepEqual(await setting(lab, 'eth2.send_redirects'), '0');
      assert.equal(await settingsOf(lab), 'eth1 1400\neth2 1480\n');
      await takeBack(lab, how);
      assert.equal(await settingsOf(lab), was);
      assert.equal(await everything(lab), found);

      await apply(lab, `${mtus(one)}# again\n`, '--confirm-within', '600');
      await shell(
        lab,
        `ip link set eth2 mtu 1350; ip link set eth1 mtu 1300
         sysctl -qw net.ipv4.conf.eth2.send_redirects=1 net.ipv4.conf.eth2.rp_filter=1`,
      );
      await takeBack(lab, how);
      assert.equal(await settingsOf(lab), 'eth1 1300\neth2 1350\n');
      assert.equal(await setting(lab, 'eth2.send_redirects'), '1');
      assert.equal(await setting(lab, 'eth2.rp_filter'), '1');
    });

  it('an address that others moved meanwhile does not come back beside theirs, whatever its prefix length', async (t) => {
    const lab = await createLab({ networkScripts: true });
    t.after(() => lab.close());
    await shell(lab, OTHERS);
    await apply(lab, small);
    await shell(
      lab,
      `ip address add 10.9.9.1/24 dev eth2; ip address add 10.9.9.2/24 dev eth2
       ip address add 10.9.9.3/24 dev eth2; ip address add 10.9.9.3/32 dev br-op`,
    );
    await apply(lab, one, '--confirm-within', '600');
    await shell(lab, 'ip address add 10.9.9.1/32 dev br-op');
    await takeBack(lab, 'rollback');
    const there = await shell(lab, "ip -4 -o address show to 10.9.9.0/24 | awk '{ print $2, $4 }' | sort");
    assert.equal(there, 'br-op 10.9.9.1/32\nbr-op 10.9.9.3/32\neth2 10.9.9.2/24\neth2 10.9.9.3/24\n');
  });

  it('a NIC that was down stays up where somebody uses it by now, and goes down where nobody does', async (t) => {
    const lab = await createLab({ networkScripts: true });
    t.after(() => lab.close());
    await shell(lab, 'ip link set eth2 down');
    await apply(lab, small);
    const isUp = async () => /[<,]UP[,>]/.test(await shell(lab, 'ip -o link show dev eth2'));
    for (const [use, used] of [
      [
        'ip -6 address add 2001:db8::5/64 dev eth2 nodad; ip -6 route add 2001:db8:9::/48 via 2001:db8::9 dev eth2',
        true,
      ],
      [
        'ip -6 address flush dev eth2; ip address add 172.29.0.1/24 dev eth2; ip route add 172.31.9.0/24 via 172.29.0.9',
        true,
      ],
      ['true', false],
    ] as const) {
      await shell(lab, 'ip address flush dev eth2; ip link set eth2 down');
      await apply(lab, one, '--confirm-within', '600');
      assert.equal(await isUp(), true);
      await shell(lab, use);
      const there = () =>
        shell(
          lab,
          '{ ip -6 -o address show dev eth2 scope global; ip -6 route show dev eth2; ip route show 172.31.9.0/24; } | grep -v fe80',
        );
      const before = used ? await there() : '';
      await takeBack(lab, 'rollback');
      assert.deepEqual([await isUp(), used ? await there() : ''], [used, before], use);
    }
  });

  it('a route that others put meanwhile through what the change brought goes with that, and the way back is whole', async (t) => {
    const lab = await createLab({ networkScripts: true });
    t.after(() => lab.close());
    await apply(lab, small);
    const found = await everything(lab);
    await apply(lab, one, '--confirm-within', '600');
    await shell(lab, `ip route add 198.18.1.0/24 via ${x} dev eth2 proto bgp`);
    const report = await json(lab, 'rollback');
    assert.deepEqual([report.status, report.errors], [0, []]);
    assert.equal(await everything(lab), found);
  });

  it('an address that somebody adds meanwhile to a NIC that is not ours any more then stays, beside the one that comes back', async (t) => {
    const lab = await createLab({ networkScripts: true });
    t.after(() => lab.close());
    await shell(lab, OTHERS);
    await apply(lab, small);
    await apply(lab, other, '--confirm-within', '600');
    await shell(lab, 'ip address add 192.0.2.9/32 dev eth2');
    assert.equal((await json(lab, 'rollback')).status, 0);
    const there = await shell(lab, "ip -4 -o address show dev eth2 | awk '{ print $4 }' | sort");
    assert.equal(there, '192.0.2.5/24\n192.0.2.9/32\n');
  });
});

/** Through the NIC that `small` does not name. */
const KINDS = `
  ip neighbour add 10.10.2.99 lladdr 02:00:00:00:00:09 nud permanent dev eth2
  ip neighbour add 10.10.2.98 lladdr 02:00:00:00:00:08 nud noarp dev eth2
  ip neighbour add proxy 10.10.2.97 dev eth2
  ip neighbour add 10.10.2.96 lladdr 02:00:00:00:00:06 nud permanent dev eth2 extern_learn
  ip neighbour add 10.10.2.95 lladdr 03:bf:0a:0a:02:5f nud permanent dev eth2
  ip neighbour add 10.10.2.94 lladdr ff:ff:ff:ff:ff:ff nud permanent dev eth2
  ip neighbour add 10.10.2.93 lladdr 00:00:00:00:00:00 nud permanent dev eth2
  ip route add 172.19.0.0/16 via ${x} dev eth2 proto 99 metric 5
  ip route add 172.20.0.0/16 via ${x} dev eth2 mtu lock 1300 rto_min 50ms
  ip route add 172.21.0.0/16 via ${x} dev eth2 src 10.10.2.254
  ip route add 172.22.0.0/16 dev eth2 scope link
  ip route add 172.23.0.0/16 via ${x} dev eth2 table 100
  ip route add 172.24.9.0/24 nexthop via ${x} dev eth2 nexthop via 10.10.2.9 dev eth2 weight 2
  ip route add 172.25.0.0/16 via 192.0.2.99 dev eth2 onlink
  ip route add 172.26.0.0/16 tos 0x10 via ${x} dev eth2
  ip route add 172.27.0.0/16 via ${x} dev eth2 proto kernel
  ip route add 172.28.0.0/16 dev eth2 proto kernel scope link
  ip route add unreachable 172.29.0.0/16 src 10.10.2.254 metric 7
  ip route add blackhole 172.30.0.0/16 src 10.10.2.254
  ip route add default via ${x} dev eth2 metric 900`;

/** On the NIC that `small` does not name. */
const ADDRESSES_OF_OTHERS = `
  ip link set eth2 up
  ip address add 172.31.1.1/24 dev eth2 noprefixroute
  ip address add 10.10.2.7/24 dev eth2 label eth2:foo
  ip address add 172.31.4.1/24 dev eth2 metric 77
  ip address add 172.31.6.1/24 broadcast 172.31.6.9 dev eth2
  ip address add 172.31.8.1 peer 172.31.8.2/32 dev eth2
  ip address add 10.10.2.9/24 dev eth2 valid_lft 30000 preferred_lft 10000
  ip address add 10.10.2.10/24 dev eth2 valid_lft 30000 preferred_lft 0
  ip address add 10.10.2.11/24 dev eth2 preferred_lft 0
  ip address add 224.0.1.5/32 dev eth2 autojoin`;

/** Without the seconds, which go on. */
const addressesOf = (lab: Lab) =>
  shell(
    lab,
    `ip -4 -oneline -details address show dev eth2 | sed -E 's/^[0-9]+: //; s/ secondary//; s/ +/ /g; s/ [1-9][0-9]*sec/ some/g' | sort`,
  );

const settingsOf = (lab: Lab) =>
  shell(lab, `for nic in eth1 eth2; do echo "$nic $(cat /sys/class/net/$nic/mtu)"; done`);
const setting = async (lab: Lab, name: string) => (await shell(lab, `sysctl -n net.ipv4.conf.${name}`)).trim();

const lifetimesOf = (lab: Lab) =>
  shell(
    lab,
    `ip -4 -oneline address show dev eth2 | sed -E 's/.* inet (\\S+) .*valid_lft (\\S+) preferred_lft (\\S+)/\\1 \\2 \\3/'`,
  );

const kindsOf = (lab: Lab) =>
  shell(
    lab,
    `for table in main 100; do ip -oneline -details -4 route show table $table; done | grep -e 'dev eth2' -e 'src 10.10.2.254' | grep -v -e 'proto kernel scope link src' -e 'proto 175' | sed 's/ linkdown//g' || true
     ip neighbour show dev eth2 nud permanent nud noarp | grep -v 'lladdr 33:33:' | sort
     ip neighbour show proxy dev eth2`,
  );

async function takeBack(lab: Lab, how: 'rollback' | 'lapse'): Promise<void> {
  if (how === 'rollback') {
    assert.equal((await json(lab, 'rollback')).status, 0);
    return;
  }
  await killWaiters(lab);
  await pass(lab, 601);
  assert.equal((await json(lab, 'reload', '--trigger', 'timer')).status, 0);
  await resume(lab);
}
