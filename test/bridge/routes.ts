// IPv4 routes of others through the uplink's NIC, in every table: they go along with it, there and back.

import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { killWaiters } from '../confirm/router.ts';
import { ADDRESSES, type Lab, NICS } from '../lab/lab.ts';
import { elastic } from '../lab/table.ts';
import { bridged, type Kind, refused, reload, shell } from './moves.ts';

const { out, router: uplink, neighbour, v } = ADDRESSES;
const NIC = NICS.public.device;

/** By all that a route can say of itself, and in the order of those that need another one. */
export const ADD_ROUTES = `
  ip route add 10.50.0.0/16 via ${out} dev ${NIC} metric 50 mtu lock 1400 advmss 1300
  ip route add 10.50.0.0/16 via ${neighbour} dev ${NIC} metric 60 proto 99 src ${uplink}
  ip route add default via ${out} dev ${NIC} table 100 proto static
  ip route add 10.51.0.0/16 via ${out} dev ${NIC} table 100 src ${uplink}
  ip route add 198.51.100.1 dev ${NIC} table 101 scope link
  ip route add 10.52.0.0/16 via 198.51.100.1 dev ${NIC} table 101 proto bird
  ip route add 10.53.0.0/16 via 198.51.100.9 dev ${NIC} onlink table 102
  ip route add 10.54.0.0/16 table 102 nexthop via ${out} dev ${NIC} weight 2 nexthop via ${neighbour} dev ${NIC}
  ip route add 10.55.0.0/16 table 103 nexthop via ${v} dev eth1 nexthop via ${out} dev ${NIC}
  ip route add 203.0.113.0/24 dev ${NIC} table 103 proto kernel scope link src ${uplink}
  ip route add 10.56.0.0/16 dev ${NIC} tos 0x10 table 100000`;

export const FLUSH_ROUTES = `
  ip route flush 10.50.0.0/16
  for table in 100 101 102 103 100000; do ip route flush table $table; done`;

/** Without those of the kernel and ours. */
export async function routesOf(lab: Lab): Promise<string[]> {
  const { stdout } = await lab.router.run(['ip', '-4', '-details', '-oneline', 'route', 'show', 'table', 'all']);
  const lines = stdout.split('\n').map((line) =>
    line
      .replace(/\\|\s+/g, ' ')
      .replace(/ linkdown\b/g, '')
      .replace(/ +/g, ' ')
      .trim(),
  );
  return lines
    .filter(
      (line) =>
        line !== '' &&
        !/ table local | proto 175 | table main proto kernel |^unicast default .* table main /.test(line),
    )
    .sort();
}

export const by = (device: string, lines: readonly string[]): string[] =>
  lines.map((line) => line.replace(/ dev (?:eth0|br-\w+)(?= |$)/g, ` dev ${device}`)).sort();

const macOf = async (lab: Lab): Promise<string> => {
  const { stdout } = await lab.host('out').run(['ip', '-o', 'link', 'show', 'dev', 'eth0'], { check: true });
  return /link\/ether (\S+)/.exec(stdout)?.[1] ?? '';
};

export function routesGo(kind: Kind): void {
  const plain = elastic.config;
  const onBridge = bridged(plain, kind.type);
  const keeping = (config: string) =>
    config.replace(`mac: '${NICS.public.mac}'`, `mac: '${NICS.public.mac}', keep-addresses: [192.0.2.99/24]`);
  const plainLab = async (t: { after(run: () => unknown): void }) => {
    const lab = await kind.createLab();
    t.after(() => lab.close());
    await reload(lab, plain);
    return lab;
  };
  const router = async (t: { after(run: () => unknown): void }) => {
    const lab = await plainLab(t);
    await shell(lab, ADD_ROUTES);
    return { lab, found: await routesOf(lab) };
  };

  describe('foreign IPv4 routes', { concurrency: 2 }, () => {
    it('go along with the NIC, in every table, to another bridge, and back', async (t) => {
      const { lab, found } = await router(t);
      await reload(lab, onBridge);
      assert.deepEqual(await routesOf(lab), by('br-ex', found));
      assert.equal((await reload(lab, onBridge)).result, 'unchanged');
      await shell(lab, `ip route add 10.60.0.0/16 via ${out} dev br-ex table 100`);
      const all = await routesOf(lab);
      await reload(lab, onBridge.replace('bridge: br-ex', 'bridge: br-other'));
      assert.deepEqual(await routesOf(lab), by('br-other', all));
      await reload(lab, plain);
      assert.deepEqual(await routesOf(lab), by(NIC, all));
      assert.equal((await reload(lab, plain)).result, 'unchanged');
    });

    it('go back to the NIC from a bridge of others, and what is by an address of theirs stays there', async (t) => {
      const { lab, found } = await router(t);
      await shell(lab, `${kind.make}; ip link set br-ex up; ip addr add 198.51.100.200/25 dev br-ex`);
      const theirs = ['10.70.0.0/16 via 198.51.100.129 dev br-ex', '10.71.0.0/16 dev br-ex table 100'];
      await shell(lab, theirs.map((route) => `ip route add ${route}`).join('; '));
      const both = await routesOf(lab);
      await reload(lab, onBridge);
      assert.deepEqual(await routesOf(lab), by('br-ex', both));
      await reload(lab, plain);
      assert.deepEqual(await routesOf(lab), both);
      assert.equal(both.length, found.length + 2);
    });

    for (const end of ['rolled back', 'lapsed'] as const)
      it(`are back when the move is ${end}, there and back`, async (t) => {
        const { lab, found } = await router(t);
        const takenBack = async (config: string, meanwhile = ':') => {
          await lab.configure(config);
          const seconds = end === 'lapsed' ? '3' : '60';
          assert.equal((await lab.kylin('reload', '--confirm-within', seconds)).status, 0);
          await shell(lab, meanwhile);
          if (end === 'lapsed') {
            await killWaiters(lab);
            await sleep(3000);
          }
          const taken = await lab.kylin(...(end === 'lapsed' ? ['reload', '--trigger', 'timer'] : ['rollback']));
          assert.equal(taken.status, 0, taken.stderr);
        };
        await takenBack(onBridge);
        assert.deepEqual(await routesOf(lab), found);
        await takenBack(onBridge, `${kind.remove}; ip link set ${NIC} up`);
        assert.deepEqual(await routesOf(lab), found);
        await takenBack(onBridge, `ip route delete 10.51.0.0/16 dev br-ex table 100`);
        assert.deepEqual(
          await routesOf(lab),
          found.filter((line) => !line.includes('10.51.0.0/16')),
        );
        await reload(lab, onBridge);
        const onIt = await routesOf(lab);
        await takenBack(plain);
        assert.deepEqual(await routesOf(lab), onIt);
      });

    it('are back beside an address of others in the network of ours, which stays on the port', async (t) => {
      const lab = await kind.createLab();
      t.after(() => lab.close());
      const beside = (config: string) => keeping(config).replace('192.0.2.99/24', '203.0.113.99/24');
      await reload(lab, beside(plain));
      await shell(lab, `${ADD_ROUTES}; ip address add 203.0.113.99/24 dev ${NIC}`);
      const found = await routesOf(lab);
      await lab.configure(beside(onBridge));
      assert.equal((await lab.kylin('reload', '--confirm-within', '60')).status, 0);
      assert.deepEqual(await routesOf(lab), by('br-ex', found));
      const taken = await lab.kylin('rollback');
      assert.equal(taken.status, 0, taken.stderr);
      assert.deepEqual(await routesOf(lab), found);
      await reload(lab, beside(onBridge));
      await reload(lab, beside(plain));
      assert.deepEqual(await routesOf(lab), found);
    });

    it('are as before where the reload fails', async (t) => {
      const { lab, found } = await router(t);
      await lab.wire(NICS.public, 'down');
      const [status, result] = await refused(lab, onBridge);
      await lab.wire(NICS.public, 'up');
      assert.deepEqual([status, result], [69, 'rolled-back']);
      assert.deepEqual(await routesOf(lab), found);
    });

    it('with if_list: [] are on the NIC, but for those whose source goes, which are named', async (t) => {
      const { lab, found } = await router(t);
      await reload(lab, onBridge);
      const { warnings } = await reload(lab, 'if_list: []\n');
      const withoutOnlink = (lines: readonly string[]) => lines.map((line) => line.replaceAll(' onlink', ''));
      const left = found.filter((line) => !/ src | eth1 /.test(line));
      assert.deepEqual(
        withoutOnlink(await routesOf(lab)).filter((line) => !line.includes('eth1')),
        withoutOnlink(left),
      );
      assert.ok(
        warnings.some(({ message }) => message.startsWith('route 10.51.0.0/16 via ')),
        JSON.stringify(warnings),
      );
    });

    it('of which one has lost its source: that one ends, there and back twice', async (t) => {
      const lab = await plainLab(t);
      await shell(
        lab,
        `ip address add 203.0.113.99/24 dev ${NIC}
         ip route add 10.59.0.0/16 via ${out} src 203.0.113.99 table 100
         ip address delete 203.0.113.99/24 dev ${NIC}; ip address add 192.0.2.77/32 dev lo
         ip route add 10.60.0.0/16 via ${out} src 192.0.2.77 table 100`,
      );
      const found = await routesOf(lab);
      const left = found.filter((line) => !line.includes('10.59.0.0/16'));
      assert.equal(left.length, found.length - 1);
      const { warnings } = await reload(lab, onBridge);
      assert.ok(
        warnings.some(({ message }) => message.startsWith(`route 10.59.0.0/16 via ${out} dev ${NIC} table 100 `)),
      );
      assert.deepEqual(await routesOf(lab), by('br-ex', left));
      for (const [config, device] of [
        [plain, NIC],
        [onBridge, 'br-ex'],
        [plain, NIC],
      ] as const) {
        await reload(lab, config);
        assert.deepEqual(await routesOf(lab), by(device, left));
      }
    });

    it('by objects of next hops, and groups of them, go along with these, of both families, and all is back where it is taken back', async (t) => {
      const lab = await plainLab(t);
      await shell(
        lab,
        `ip address add 2001:db8::5/64 dev ${NIC} nodad
         ip nexthop add id 1 via ${out} dev ${NIC}
         ip nexthop add id 2 via ${v} dev eth1
         ip nexthop add id 3 via ${neighbour} dev ${NIC} proto 99
         ip nexthop add id 4 dev ${NIC}
         ip nexthop add id 5 via 198.51.100.1 dev ${NIC} onlink
         ip nexthop add id 6 via fe80::1 dev ${NIC}
         ip nexthop add id 10 group 1/2,3
         ip nexthop add id 11 group 1/3
         ip route add 10.57.0.0/16 nhid 1; ip route add 10.58.0.0/16 nhid 1 table 100 src ${uplink}
         ip route add 10.59.0.0/16 nhid 10; ip route add 10.60.0.0/16 nhid 11 table 100
         ip route add 10.61.0.0/16 nhid 4 table 100; ip route add 10.62.0.0/16 nhid 5; ip route add 10.63.0.0/16 nhid 6
         ip nexthop add id 21 via 2001:db8::1 dev ${NIC}
         ip -6 nexthop add id 22 dev eth1
         ip -6 nexthop add id 23 dev ${NIC}
         ip nexthop add id 20 group 21/22
         ip -6 route add 2001:db8:7::/48 nhid 20; ip -6 route add 2001:db8:8::/48 nhid 21 table 100
         ip -6 route add 2001:db8:9::/48 nhid 23`,
      );
      const all = async () => {
        const script = 'ip -6 route show table all | grep nhid; ip nexthop show';
        return [...(await routesOf(lab)), ...(await shell(lab, script)).split('\n').map((line) => line.trim())].sort();
      };
      const found = await all();
      assert.equal(found.filter((line) => line.includes('nhid')).length, 10, found.join('\n'));
      const takenBack = async (config: string, back: readonly string[]) => {
        await lab.configure(config);
        const taken = await lab.kylin('reload', '--confirm-within', '60');
        assert.equal(taken.status, 0, taken.stderr);
        const rolled = await lab.kylin('rollback');
        assert.deepEqual([rolled.status, rolled.stderr.includes('not ours')], [0, false], rolled.stderr);
        assert.deepEqual(await all(), back);
      };
      await takenBack(onBridge, found);
      const { steps } = await reload(lab, onBridge);
      assert.ok(
        steps.some(({ text }) => text === `~ nexthop id 1 via ${out} dev ${NIC} moves to br-ex`),
        JSON.stringify(steps),
      );
      assert.deepEqual(await all(), by('br-ex', found));
      assert.equal((await reload(lab, onBridge)).result, 'unchanged');
      await takenBack(plain, by('br-ex', found));
      await reload(lab, plain);
      assert.deepEqual(await all(), found);
      // What is by them is somewhere else when the bridge goes by another hand.
      await lab.configure(onBridge);
      assert.equal((await lab.kylin('reload', '--confirm-within', '60')).status, 0);
      await shell(lab, `${kind.remove}; ip link set ${NIC} up`);
      assert.equal((await lab.kylin('rollback')).status, 0);
      const back = await routesOf(lab);
      for (const dest of ['10.57.0.0/16', '10.58.0.0/16', '10.61.0.0/16'])
        assert.ok(
          back.some((line) => line.startsWith(`unicast ${dest} `) && line.includes(` dev ${NIC} `)),
          `${dest} is not in\n${back.join('\n')}`,
        );
    });

    it('go along to a bridge of others that is there, and has no address yet', async (t) => {
      const { lab, found } = await router(t);
      await reload(lab, onBridge);
      await shell(lab, `${kind.make.replace('br-ex', 'br-other')}; ip link set br-other up`);
      await reload(lab, onBridge.replace('bridge: br-ex', 'bridge: br-other'));
      const withoutOnlink = (lines: readonly string[]) => lines.map((line) => line.replaceAll(' onlink', '')).sort();
      assert.deepEqual(withoutOnlink(await routesOf(lab)), withoutOnlink(by('br-other', found)));
    });

    it('by two NICs go along with both, at once or one after the other', async (t) => {
      const lab = await kind.createLab();
      t.after(() => lab.close());
      const second = (config: string) =>
        config.replace(`'${NICS.b.mac}' }`, `'${NICS.b.mac}', bridge: br-in, bridge-type: ${kind.type} }`);
      assert.notEqual(second(plain), plain);
      await reload(lab, plain);
      await shell(
        lab,
        `ip route add 10.55.0.0/16 table 103 nexthop via 10.10.2.21 dev ${NICS.b.device} weight 2 nexthop via ${out} dev ${NIC}`,
      );
      const found = await routesOf(lab);
      const of = (uplinkOn: string, subnetOn: string) =>
        found.map((line) =>
          line.replace(/ dev eth\d/g, (hop) => (hop === ` dev ${NIC}` ? ` dev ${uplinkOn}` : ` dev ${subnetOn}`)),
        );
      for (const [config, uplinkOn, subnetOn] of [
        [second(onBridge), 'br-ex', 'br-in'],
        [plain, NIC, NICS.b.device],
        [second(plain), NIC, 'br-in'],
        [second(onBridge), 'br-ex', 'br-in'],
      ] as const) {
        await reload(lab, config);
        assert.deepEqual(await routesOf(lab), of(uplinkOn, subnetOn));
      }
      await lab.configure(plain);
      assert.equal((await lab.kylin('reload', '--confirm-within', '60')).status, 0);
      assert.equal((await lab.kylin('rollback')).status, 0);
      assert.deepEqual(await routesOf(lab), of('br-ex', 'br-in'));
    });

    it('go with neighbours that somebody entered, of both families: a gateway that answers nobody is reached', async (t) => {
      const lab = await kind.createLab();
      t.after(() => lab.close());
      await reload(lab, keeping(plain));
      const mac = await macOf(lab);
      await lab.host('out').run(['sysctl', '-qw', 'net.ipv4.conf.eth0.arp_ignore=8'], { check: true });
      await shell(
        lab,
        `ip address add 192.0.2.99/24 dev ${NIC}; ip address add 2001:db8::5/64 dev ${NIC} nodad
         for neighbour in ${out} 192.0.2.1 2001:db8::1; do ip neighbour replace $neighbour lladdr ${mac} dev ${NIC} nud permanent; done
         ip neighbour add proxy 203.0.113.78 dev ${NIC}`,
      );
      const entered = async () =>
        (
          await shell(
            lab,
            'ip neighbour show nud permanent; ip -6 neighbour show nud permanent; ip neighbour show proxy',
          )
        )
          .split('\n')
          .map((line) => line.trim())
          .filter((line) => line !== '')
          .sort();
      const reached = async () => (await lab.router.run(['ping', '-c', '1', '-W', '1', out])).status;
      const found = await entered();
      const stays = (line: string) => line.startsWith('192.0.2.1 ');
      const moved = [
        ...found.filter(stays),
        ...by(
          'br-ex',
          found.filter((line) => !stays(line)),
        ),
      ].sort();
      assert.equal(await reached(), 0);
      await reload(lab, keeping(onBridge));
      assert.deepEqual([await entered(), await reached()], [moved, 0]);
      await reload(lab, keeping(plain));
      assert.deepEqual([await entered(), await reached()], [found, 0]);
      await lab.configure(keeping(onBridge));
      assert.equal((await lab.kylin('reload', '--confirm-within', '60')).status, 0);
      assert.deepEqual(await entered(), moved);
      assert.equal((await lab.kylin('rollback')).status, 0);
      assert.deepEqual([await entered(), await reached()], [found, 0]);
      // Who takes one away while the change waits has decided.
      await lab.configure(keeping(onBridge));
      assert.equal((await lab.kylin('reload', '--confirm-within', '60')).status, 0);
      await shell(lab, 'ip neighbour delete 2001:db8::1 dev br-ex; ip neighbour delete proxy 203.0.113.78 dev br-ex');
      assert.equal((await lab.kylin('rollback')).status, 0);
      const left = found.filter((line) => !/^(2001:db8::1|203\.0\.113\.78) /.test(line));
      assert.deepEqual([await entered(), left.length < found.length], [left, true]);
    });

    it('of IPv6 go along in every table', async (t) => {
      const lab = await plainLab(t);
      await shell(
        lab,
        `ip address add 2001:db8::5/64 dev ${NIC} nodad
         ip -6 route add 2001:db8:2::/48 dev ${NIC} table 100 src 2001:db8::5
         ip -6 route add 2001:db8:1::/48 via 2001:db8::1 dev ${NIC} proto static metric 50 mtu 1400
         ip -6 route add 2001:db8:3::/48 via fe80::1 dev ${NIC}
         ip -6 route add default via 2001:db8::1 dev ${NIC} table 100`,
      );
      const there = async () =>
        (await shell(lab, 'ip -6 route show table 100; ip -6 route show | grep -v "proto kernel"')).replace(
          / +\n/g,
          '\n',
        );
      const found = await there();
      await reload(lab, onBridge);
      assert.equal(await there(), found.replaceAll(NIC, 'br-ex'));
      assert.equal((await reload(lab, onBridge)).result, 'unchanged');
      await shell(lab, `ip -6 route add 2001:db8:4::/48 via fe80::1 dev br-ex table 100`);
      const all = await there();
      await reload(lab, plain);
      assert.equal(await there(), all.replaceAll('br-ex', NIC));
    });

    it('of IPv6, default routes of several makers, go along as they are', async (t) => {
      const lab = await plainLab(t);
      await shell(
        lab,
        `ip addr add 2001:db8::5/64 dev ${NIC} nodad
         for way in 'static metric 10' '99 metric 20' 'static metric 30'; do
           ip -6 route add default via 2001:db8::1 dev ${NIC} proto $way
         done`,
      );
      const defaults = async () => (await shell(lab, 'ip -6 route show default')).replace(/ pref medium| (?=\n)/g, '');
      const found = await defaults();
      await reload(lab, onBridge);
      assert.equal(await defaults(), found.replaceAll(NIC, 'br-ex'));
      await reload(lab, plain);
      assert.equal(await defaults(), found);
    });

    it('stay on the port with an address of others that they go by, and are named; so are rules', async (t) => {
      const lab = await kind.createLab();
      t.after(() => lab.close());
      await reload(lab, keeping(plain));
      await shell(
        lab,
        `${ADD_ROUTES}
         ip address add 192.0.2.99/24 dev ${NIC}
         ip route add 10.61.0.0/16 via 192.0.2.1 dev ${NIC} table 100
         ip nexthop add id 7 via 192.0.2.1 dev ${NIC}
         ip route add 10.62.0.0/16 via ${out} dev ${NIC} src 192.0.2.99 table 100
         ip rule add iif ${NIC} lookup 100; ip rule add from 192.0.2.99 lookup 100; ip -6 rule add oif ${NIC} lookup 101`,
      );
      const all = await routesOf(lab);
      const stays = (line: string) => /^unicast 10\.6[12]\./.test(line);
      const { warnings } = await reload(lab, keeping(onBridge));
      const goes = all.filter((line) => !stays(line));
      assert.deepEqual(await routesOf(lab), [...all.filter(stays), ...by('br-ex', goes)].sort());
      const said = warnings.map(({ message }) => message);
      for (const message of [
        `the rule "from all iif ${NIC} lookup 100" stays as it is, and packets come and leave by br-ex in place of ${NIC}: add one for br-ex`,
        `the rule "from all oif ${NIC} lookup 101" stays as it is, and packets come and leave by br-ex in place of ${NIC}: add one for br-ex`,
        `nexthop id 7 via 192.0.2.1 dev ${NIC}: stays there, and the routes by it do not work: ip nexthop replace, with the device that they are to go by`,
        `route 10.61.0.0/16 via 192.0.2.1 dev ${NIC} table 100 proto boot: stays with an address of others, and does not work there: move both, or take them away`,
      ])
        assert.ok(said.includes(message), `${message}\n${said.join('\n')}`);
      assert.ok(!said.some((message) => message.includes('from 192.0.2.99 lookup')));
      await reload(lab, keeping(plain));
      assert.deepEqual(await routesOf(lab), all);
      assert.match(await shell(lab, 'ip nexthop show'), new RegExp(`^id 7 via 192.0.2.1 dev ${NIC} `));
    });
  });
}
