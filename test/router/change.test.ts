// A change of the configuration touches what it concerns, and nothing else: rules, counters, addresses, flows, neighbours.

import assert from 'node:assert/strict';
import { after, before, describe, it } from 'node:test';
import { ADDRESSES, createLab, type Lab } from '../lab/lab.ts';
import { recordTools, type Tools, writes } from '../lab/tools.ts';
import { createTraffic } from '../lab/traffic.ts';
import { announcements, eip, flows, forward, nics, reload } from '../scenarios/change.ts';

const { v, w, x, y } = ADDRESSES;
const BACKENDS = ['nft', 'legacy'] as const;

describe('one change among 1,000 EIPs', { concurrency: true }, () => {
  for (const iptables of BACKENDS)
    describe(iptables, { concurrency: false }, () => {
      let lab: Lab;
      let tools: Tools;
      /** In four networks; the VMs are behind a route. */
      const thousand = Array.from(
        { length: 1000 },
        (_, n) => [`198.18.${n >> 8}.${n & 255}`, `172.24.${n >> 8}.${n & 255}`] as const,
      );
      const config = (list: readonly (readonly [string, string])[]) =>
        `${nics}route_list: [{ dest: 172.24.0.0/16, via: ${v} }]\neip_list:\n${list.map((pair) => eip(...pair)).join('')}`;

      before(async () => {
        lab = await createLab({ iptables });
        await reload(lab, config([['203.0.113.50', v], ...thousand]));
        // For the counters.
        for (const _ of [1, 2]) await lab.host('out').run(['ping', '-c', '1', '203.0.113.50'], { check: true });
        tools = await recordTools(lab.router);
      });
      after(() => lab?.close());

      /** Gives what the tools were given, and checks that no counter of another rule changed. */
      async function change(list: readonly (readonly [string, string])[]): Promise<string[]> {
        const counted = await counters(lab);
        await tools.taken();
        await reload(lab, config([['203.0.113.50', v], ...list]));
        const calls = (await tools.taken()).filter(({ command }) => writes([{ command }]).length > 0);
        const [added, removed] = difference(counted, await counters(lab));
        const touched = calls
          .flatMap(({ input }) => input?.split('\n') ?? [])
          .map((line) => line.replace(/^-[AD] |^:| - \[.*/g, ''));
        const bystanders = [...added, ...removed]
          .map((line) => line.replace(/^\[.*?\] -A /, ''))
          .filter((rule) => !touched.includes(rule) && !touched.includes(rule.split(' ', 1)[0] ?? ''));
        assert.deepEqual(bystanders, []);
        return calls.flatMap(({ command, input }) => [`$ ${command}`, ...(input?.trimEnd().split('\n') ?? [])]);
      }
      const restore = '$ iptables-restore --noflush --wait 30';
      const block = Array.from({ length: 16 }, (_, n) => n);

      it('counters count', async () => {
        assert.match(
          (await counters(lab)).join('\n'),
          /^\[2:168\] -A KYLIN-VR-D28-203\.0\.113\.48 -d 203\.0\.113\.50\/32 /m,
        );
      });

      it('removed', async () => {
        assert.deepEqual(await change(thousand.filter(([address]) => address !== '198.18.1.5')), [
          '$ ip -batch -',
          'address delete 198.18.1.5/32 dev eth0',
          restore,
          '*filter',
          '-D KYLIN-VR-I28-198.18.1.0 -d 198.18.1.5/32 -j DROP',
          'COMMIT',
          '*nat',
          ':KYLIN-VR-H28-198.18.1.0 - [0:0]',
          ...block
            .filter((last) => last !== 5)
            .map(
              (last) =>
                `-A KYLIN-VR-H28-198.18.1.0 -m conntrack --ctorigdst 198.18.1.${last} -j KYLIN-VR-HAIRPIN-SOURCE`,
            ),
          '-D KYLIN-VR-D28-198.18.1.0 -d 198.18.1.5/32 -j DNAT --to-destination 172.24.1.5',
          '-D KYLIN-VR-S28-172.24.1.0 -s 172.24.1.5/32 -j SNAT --to-source 198.18.1.5',
          // The block was whole, and one rule.
          '-D KYLIN-VR-H24-198.18.1.0 -m conntrack --ctorigdst 198.18.1.0/28 -j KYLIN-VR-HAIRPIN-SOURCE',
          '-A KYLIN-VR-H24-198.18.1.0 -m conntrack --ctorigdst 198.18.1.0/28 -j KYLIN-VR-H28-198.18.1.0',
          'COMMIT',
        ]);
      });

      it('added', async () => {
        assert.deepEqual(await change(thousand), [
          restore,
          '*filter',
          '-A KYLIN-VR-I28-198.18.1.0 -d 198.18.1.5/32 -j DROP',
          'COMMIT',
          '*nat',
          ':KYLIN-VR-H28-198.18.1.0 - [0:0]',
          '-A KYLIN-VR-D28-198.18.1.0 -d 198.18.1.5/32 -j DNAT --to-destination 172.24.1.5',
          '-A KYLIN-VR-S28-172.24.1.0 -s 172.24.1.5/32 -j SNAT --to-source 198.18.1.5',
          '-D KYLIN-VR-H24-198.18.1.0 -m conntrack --ctorigdst 198.18.1.0/28 -j KYLIN-VR-H28-198.18.1.0',
          '-A KYLIN-VR-H24-198.18.1.0 -m conntrack --ctorigdst 198.18.1.0/28 -j KYLIN-VR-HAIRPIN-SOURCE',
          '-X KYLIN-VR-H28-198.18.1.0',
          'COMMIT',
          '$ ip -batch -',
          'address replace 198.18.1.5/32 dev eth0',
          '$ arping -A -q -c 2 -w 3 -I eth0 198.18.1.5',
        ]);
      });

      it('pointed to another VM', async () => {
        const repointed = thousand.map(([address, vm]) => [address, address === '198.18.1.5' ? w : vm] as const);
        assert.deepEqual(await change(repointed), [
          restore,
          '*nat',
          '-D KYLIN-VR-D28-198.18.1.0 -d 198.18.1.5/32 -j DNAT --to-destination 172.24.1.5',
          `-A KYLIN-VR-D28-198.18.1.0 -d 198.18.1.5/32 -j DNAT --to-destination ${w}`,
          `-A KYLIN-VR-S28-10.10.1.0 -s ${w}/32 -j SNAT --to-source 198.18.1.5`,
          '-D KYLIN-VR-S28-172.24.1.0 -s 172.24.1.5/32 -j SNAT --to-source 198.18.1.5',
          'COMMIT',
        ]);
        await change(thousand);
      });

      it('the first of a network, for the first VM of a network', async () => {
        assert.deepEqual(await change([...thousand, ['198.18.9.9', y]]), [
          restore,
          '*filter',
          ':KYLIN-VR-I24-198.18.9.0 - [0:0]',
          ':KYLIN-VR-I28-198.18.9.0 - [0:0]',
          '-A KYLIN-VR-I24-198.18.9.0 -d 198.18.9.0/28 -j KYLIN-VR-I28-198.18.9.0',
          '-A KYLIN-VR-I28-198.18.9.0 -d 198.18.9.9/32 -j DROP',
          '-A KYLIN-VR-INPUT -d 198.18.9.0/24 -j KYLIN-VR-I24-198.18.9.0',
          'COMMIT',
          '*nat',
          ':KYLIN-VR-D24-198.18.9.0 - [0:0]',
          ':KYLIN-VR-D28-198.18.9.0 - [0:0]',
          ':KYLIN-VR-S24-10.10.2.0 - [0:0]',
          ':KYLIN-VR-S28-10.10.2.16 - [0:0]',
          ':KYLIN-VR-H24-198.18.9.0 - [0:0]',
          ':KYLIN-VR-H28-198.18.9.0 - [0:0]',
          '-A KYLIN-VR-D24-198.18.9.0 -d 198.18.9.0/28 -j KYLIN-VR-D28-198.18.9.0',
          '-A KYLIN-VR-D28-198.18.9.0 -d 198.18.9.9/32 -j DNAT --to-destination 10.10.2.22',
          '-A KYLIN-VR-S24-10.10.2.0 -s 10.10.2.16/28 -j KYLIN-VR-S28-10.10.2.16',
          '-A KYLIN-VR-S28-10.10.2.16 -s 10.10.2.22/32 -j SNAT --to-source 198.18.9.9',
          '-A KYLIN-VR-H24-198.18.9.0 -m conntrack --ctorigdst 198.18.9.0/28 -j KYLIN-VR-H28-198.18.9.0',
          '-A KYLIN-VR-H28-198.18.9.0 -m conntrack --ctorigdst 198.18.9.9 -j KYLIN-VR-HAIRPIN-SOURCE',
          '-A KYLIN-VR-DNAT -d 198.18.9.0/24 -j KYLIN-VR-D24-198.18.9.0',
          '-A KYLIN-VR-SOURCE -s 10.10.2.0/24 -j KYLIN-VR-S24-10.10.2.0',
          '-A KYLIN-VR-TRANSLATED -m conntrack --ctorigdst 198.18.9.0/24 -j KYLIN-VR-H24-198.18.9.0',
          'COMMIT',
          '$ ip -batch -',
          'address replace 198.18.9.9/32 dev eth0',
          '$ arping -A -q -c 2 -w 3 -I eth0 198.18.9.9',
        ]);
        await change(thousand);
      });
    });
});

flows('ip');
announcements('ip');

describe('forwards', { concurrency: true }, () => {
  for (const iptables of BACKENDS)
    it(`${iptables}: a range that moves goes port by port, and many forwards of one EIP each go their way`, async (t) => {
      const NEAR = '203.0.113.60';
      // The blocks of ports that the chains tell apart end at 4096, 256 and 16.
      const single = [
        1, 15, 16, 255, 256, 4095, 4096, 4097, 8191, 20000, 20001, 20015, 20016, 20255, 20256, 30000, 40000, 50000,
        60000, 65535,
      ];
      const forwards = [
        ...single.map((port, index) => forward(NEAR, `${port}>${1000 + index}`, index % 2 ? w : v)),
        forward(NEAR, '4080-4094>2080', y),
        forward(NEAR, '20002-20014>2000', x),
        forward(NEAR, '30001-39999>30001', x),
        forward(NEAR, '40001-49999>40002', y),
        forward(NEAR, '1-100>101', x, 'udp'),
      ];
      const probes: [transport: 'tcp' | 'udp', port: number, by: 'v' | 'w' | 'x' | 'y', at: number][] = [
        ...single.map((port, index): [transport: 'tcp', port: number, by: 'v' | 'w', at: number] => [
          'tcp',
          port,
          index % 2 ? 'w' : 'v',
          1000 + index,
        ]),
        ['tcp', 4080, 'y', 2080],
        ['tcp', 4087, 'y', 2087],
        ['tcp', 4094, 'y', 2094],
        ['tcp', 20002, 'x', 2000],
        ['tcp', 20014, 'x', 2012],
        ['tcp', 30001, 'x', 30001],
        ['tcp', 36864, 'x', 36864],
        ['tcp', 39999, 'x', 39999],
        ['tcp', 40001, 'y', 40002],
        ['tcp', 49999, 'y', 50000],
        ['udp', 1, 'x', 101],
        ['udp', 100, 'x', 200],
      ];
      const lab = await createLab({ iptables });
      t.after(() => lab.close());
      const traffic = createTraffic(lab);
      await Promise.all([
        reload(lab, `${nics}port_forward_list:\n${forwards.join('')}`),
        ...probes.map(([transport, , by, at]) => traffic.listen(by, transport, at)),
      ]);
      const saw = await Promise.all(
        probes.map(async ([transport, port]) => {
          const answer = await traffic.probe({ from: 'out', to: NEAR, transport, port, timeoutMs: 3000 });
          return `${transport} ${port}: ${answer.reached ? `${answer.by}:${answer.port}` : answer.why}`;
        }),
      );
      assert.deepEqual(
        saw,
        probes.map(([transport, port, by, at]) => `${transport} ${port}: ${by}:${at}`),
      );
    });
});

/** Our rules with what they counted. */
async function counters(lab: Lab): Promise<string[]> {
  const { stdout } = await lab.router.run(['sh', '-c', '/usr/sbin/iptables-save -c'], { check: true });
  return stdout.split('\n').filter((line) => / -A \S*KYLIN|-j KYLIN/.test(line));
}

function difference(before: readonly string[], after: readonly string[]): [added: string[], removed: string[]] {
  const [old, young] = [new Set(before), new Set(after)];
  return [after.filter((line) => !old.has(line)), before.filter((line) => !young.has(line))];
}
