// A change of the configuration touches what it concerns, and nothing else: rules, counters, addresses, flows, neighbours.

import assert from 'node:assert/strict';
import { once } from 'node:events';
import type { Readable } from 'node:stream';
import { after, before, describe, it } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { ADDRESSES, createLab, type Lab, NICS } from '../lab/lab.ts';
import { recordTools, type Tools, writes } from '../lab/tools.ts';
import { createTraffic, type Stream, type Traffic } from '../lab/traffic.ts';

const [U, A, B] = [NICS.public.mac, NICS.a.mac, NICS.b.mac];
const { far, out, v, w, x, y } = ADDRESSES;
const BACKENDS = ['nft', 'legacy'] as const;

const uplink = `  - { ipaddr: 203.0.113.37, prefix: 24, mac: '${U}', gateway: 203.0.113.1 }\n`;
const subnetA = `  - { ipaddr: 10.10.1.254, prefix: 24, mac: '${A}' }\n`;
const subnetB = `  - { ipaddr: 10.10.2.254, prefix: 24, mac: '${B}' }\n`;
const nics = `if_list:\n${uplink}${subnetA}${subnetB}`;
const eip = (address: string, vm: string) => `  - { eip: ${address}, vm-ip: ${vm} }\n`;
const forward = (address: string, ports: string, vm: string, protocol = 'tcp') => {
  const [from = '', to = ''] = ports.split('>');
  const [port, end = port] = from.split('-');
  return `  - { eip: ${address}, protocal: ${protocol}, port: ${port}, end_port: ${end}, vm-port: ${to}, vm-ip: ${vm} }\n`;
};

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
          '-D KYLIN-VR-D28-198.18.1.0 -d 198.18.1.5/32 -j DNAT --to-destination 172.24.1.5',
          '-D KYLIN-VR-S28-172.24.1.0 -s 172.24.1.5/32 -j SNAT --to-source 198.18.1.5',
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
          '-A KYLIN-VR-D28-198.18.1.0 -d 198.18.1.5/32 -j DNAT --to-destination 172.24.1.5',
          '-A KYLIN-VR-S28-172.24.1.0 -s 172.24.1.5/32 -j SNAT --to-source 198.18.1.5',
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
          '-A KYLIN-VR-D24-198.18.9.0 -d 198.18.9.0/28 -j KYLIN-VR-D28-198.18.9.0',
          '-A KYLIN-VR-D28-198.18.9.0 -d 198.18.9.9/32 -j DNAT --to-destination 10.10.2.22',
          '-A KYLIN-VR-S24-10.10.2.0 -s 10.10.2.16/28 -j KYLIN-VR-S28-10.10.2.16',
          '-A KYLIN-VR-S28-10.10.2.16 -s 10.10.2.22/32 -j SNAT --to-source 198.18.9.9',
          '-A KYLIN-VR-DNAT -d 198.18.9.0/24 -j KYLIN-VR-D24-198.18.9.0',
          '-A KYLIN-VR-SOURCE -s 10.10.2.0/24 -j KYLIN-VR-S24-10.10.2.0',
          'COMMIT',
          '$ ip -batch -',
          'address replace 198.18.9.9/32 dev eth0',
          '$ arping -A -q -c 2 -w 3 -I eth0 198.18.9.9',
        ]);
        await change(thousand);
      });
    });
});

describe('established flows', { concurrency: true }, () => {
  const [X, V, NEAR] = ['198.51.100.20', '203.0.113.50', '203.0.113.60'];
  const eips = `eip_list:\n${eip(V, v)}${eip(X, x)}`;
  const forwards = `port_forward_list:\n${forward(NEAR, '8080>80', w)}${forward(NEAR, '9000-9002>9000', y)}${forward(NEAR, '53>53', w, 'udp')}`;
  const base = nics + eips + forwards;

  const STREAMS = {
    'out → EIP of v': { from: 'out', to: V, port: 80 },
    'v → far as its EIP': { from: 'v', to: far, port: 80 },
    'out → EIP of x': { from: 'out', to: X, port: 80 },
    'x → out as its EIP': { from: 'x', to: out, port: 80 },
    'y → EIP of x': { from: 'y', to: X, port: 80 },
    'out → forward to w': { from: 'out', to: NEAR, port: 8080 },
    'v → forward to w': { from: 'v', to: NEAR, port: 8080 },
    'out → range of forwards to y': { from: 'out', to: NEAR, port: 9001 },
    'w → far as the uplink': { from: 'w', to: far, port: 80 },
    'v → x, private': { from: 'v', to: x, port: 80 },
    'out → the router': { from: 'out', to: '203.0.113.37', port: 22 },
  } as const;
  type Name = keyof typeof STREAMS;
  const ofX: Name[] = ['out → EIP of x', 'x → out as its EIP', 'y → EIP of x'];
  const toW: Name[] = ['out → forward to w', 'v → forward to w'];
  const range: Name = 'out → range of forwards to y';

  const CHANGES: [what: string, config: string, cut: Name[]][] = [
    ['nothing', base, []],
    ['an EIP for a VM that had none', base.replace(eips, eips + eip('203.0.113.51', w)), []],
    ["x's EIP removed", base.replace(eip(X, x), ''), ofX],
    ["x's EIP given to y", base.replace(eip(X, x), eip(X, y)), ofX],
    ['another EIP for x', base.replace(eip(X, x), eip('198.51.100.21', x)), ofX],
    [
      'the EIPs of v and x exchanged',
      base.replace(eip(X, x), eip(V, x)).replace(eip(V, v), eip(X, v)),
      [...ofX, 'out → EIP of v', 'v → far as its EIP', 'v → forward to w'],
    ],
    ['a forward removed', base.replace(forward(NEAR, '8080>80', w), ''), toW],
    ['a forward to another VM', base.replace(forward(NEAR, '8080>80', w), forward(NEAR, '8080>80', v)), toW],
    [
      'a forward to another port',
      base.replace('8080, end_port: 8080, vm-port: 80', '8080, end_port: 8080, vm-port: 22'),
      toW,
    ],
    ['a range grown', base.replace('end_port: 9002', 'end_port: 9009'), []],
    ['a range moved away', base.replace('end_port: 9002, vm-port: 9000', 'end_port: 9002, vm-port: 9100'), [range]],
    ['all forwards removed', nics + eips, [...toW, range]],
    ['an EIP in place of the forwards', nics + eips + eip(NEAR, v), [...toW, range]],
    [
      'another address for the uplink',
      base.replace('.37', '.38'),
      ['w → far as the uplink', 'y → EIP of x', 'out → the router'],
    ],
    ['a snat_list', `${base}snat_list:\n  - { source: 10.10.1.0/24, to: 203.0.113.40 }\n`, []],
    ['a route', `${base}route_list:\n  - { dest: 172.24.0.0/16, via: 10.10.1.11 }\n`, []],
  ];

  for (const iptables of BACKENDS)
    describe(iptables, { concurrency: false }, () => {
      let lab: Lab;
      let traffic: Traffic;
      before(async () => {
        lab = await createLab({ iptables });
        traffic = createTraffic(lab);
        const ports: [keyof typeof ADDRESSES, number][] = [
          ['v', 80],
          ['x', 80],
          ['w', 80],
          ['y', 9001],
          ['far', 80],
          ['out', 80],
          ['router', 22],
        ];
        await Promise.all(ports.map(([host, port]) => traffic.listen(host, 'tcp', port)));
        await reload(lab, base);
      });
      after(() => lab?.close());

      for (const [what, config, cut] of CHANGES)
        it(`${what}: ${cut.length === 0 ? 'none is cut' : `cut are ${cut.join(', ')}`}`, async (t) => {
          t.after(async () => {
            await reload(lab, base);
            await lab.router.run(['conntrack', '-F']);
          });
          const names = Object.keys(STREAMS) as Name[];
          const streams = await Promise.all(names.map((name) => traffic.openStream(STREAMS[name])));
          const known = await flows(lab);
          assert.equal(known.length, names.length);
          await reload(lab, config);
          const kept = await flows(lab);
          const state = async (stream: Stream) => ((await stream.carries()) ? 'goes on' : 'is cut');
          const states = await Promise.all(streams.map(state));
          const expected = names.map((name) => `${name} ${cut.includes(name) ? 'is cut' : 'goes on'}`);
          assert.deepEqual(
            names.map((name, index) => `${name} ${states[index]}`),
            expected,
          );
          // A stream may go on although its entry was deleted: the kernel picks it up again. So look at the entries.
          assert.equal(known.filter((id) => !kept.includes(id)).length, cut.length);
          await Promise.all(streams.map((stream) => stream.close()));
        });
    });

  /** The ids of the entries of streams. */
  async function flows(lab: Lab): Promise<string[]> {
    const { stdout } = await lab.router.run(['conntrack', '-L', '-p', 'tcp', '-o', 'id']);
    return stdout.split('\n').flatMap((line) => /(?:ESTABLISHED|SYN_RECV).* id=(\d+)/.exec(line)?.[1] ?? []);
  }
});

describe('gratuitous ARP', { concurrency: true }, () => {
  const many = Array.from({ length: 200 }, (_, n) => `198.51.100.${n + 1}`);
  const config = (list: readonly string[]) => `${nics}eip_list:\n${list.map((address) => eip(address, v)).join('')}`;

  for (const [what, addresses, permanent] of [
    ['a few addresses', many.slice(0, 3), true],
    ['200 addresses', many, false],
    ['200 addresses beside a permanent neighbour', many, true],
  ] as const)
    it(`${what}: all are heard outside, and permanent neighbours stay`, async (t) => {
      const lab = await createLab();
      t.after(() => lab.close());
      await reload(lab, nics);
      const neighbour = '203.0.113.9 dev eth0 lladdr 52:54:84:99:00:01 PERMANENT \n';
      if (permanent)
        await lab.router.run(`ip neigh add 203.0.113.9 lladdr 52:54:84:99:00:01 dev eth0`.split(' '), { check: true });
      const heard = await announcements(lab);
      await reload(lab, config(addresses));
      const unheard = () => addresses.filter((address) => !heard().includes(`${address} is-at ${U}`));
      for (let waited = 0; unheard().length > 0 && waited < 5000; waited += 100) await sleep(100);
      assert.deepEqual(unheard(), []);
      const { stdout } = await lab.router.run(['ip', 'neigh', 'show', 'nud', 'permanent']);
      assert.equal(stdout, permanent ? neighbour : '');
    });
});

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

/** With room for 200 at once: tcpdump's buffer holds 32 frames of its usual length in immediate mode, and drops the others. */
async function announcements(lab: Lab): Promise<() => string[]> {
  const child = lab.host('out').spawn('tcpdump -tlne -Z root --immediate-mode -s 64 -i eth0 arp'.split(' '));
  let text = '';
  child.stdout?.on('data', (data) => {
    text += data;
  });
  await once(child.stderr as Readable, 'data');
  return () => [
    ...Array.from(text.matchAll(/Reply (\S+) is-at ([0-9a-f:]+)/g), ([, address, mac]) => `${address} is-at ${mac}`),
    ...Array.from(
      text.matchAll(/^(\S+) > .* who-has (\S+) .*tell \2,/gm),
      ([, mac, address]) => `${address} is-at ${mac}`,
    ),
  ];
}

async function reload(lab: Lab, config: string): Promise<void> {
  await lab.configure(config);
  const { status, stdout, stderr } = await lab.kylin('reload');
  assert.equal(status, 0, stdout + stderr);
}

/** Our rules with what they counted. */
async function counters(lab: Lab): Promise<string[]> {
  const { stdout } = await lab.router.run(['sh', '-c', '/usr/sbin/iptables-save -c'], { check: true });
  return stdout.split('\n').filter((line) => / -A \S*KYLIN|-j KYLIN/.test(line));
}

function difference(before: readonly string[], after: readonly string[]): [added: string[], removed: string[]] {
  const [old, young] = [new Set(before), new Set(after)];
  return [after.filter((line) => !old.has(line)), before.filter((line) => !young.has(line))];
}
