// What a change of the configuration does to flows and to neighbours.

import assert from 'node:assert/strict';
import { once } from 'node:events';
import type { Readable } from 'node:stream';
import { after, before, describe, it } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { ADDRESSES, type Lab, NICS } from '../lab/lab.ts';
import { backendsOf, createLabOn, NAME_OF, type Path } from '../lab/path.ts';
import { createTraffic, type Traffic } from '../lab/traffic.ts';

const [U, A, B] = [NICS.public.mac, NICS.a.mac, NICS.b.mac];
const { far, out, v, w, x, y } = ADDRESSES;

const uplink = `  - { ipaddr: 203.0.113.37, prefix: 24, mac: '${U}', gateway: 203.0.113.1 }\n`;
const subnetA = `  - { ipaddr: 10.10.1.254, prefix: 24, mac: '${A}' }\n`;
const subnetB = `  - { ipaddr: 10.10.2.254, prefix: 24, mac: '${B}' }\n`;
export const nics = `if_list:\n${uplink}${subnetA}${subnetB}`;
export const eip = (address: string, vm: string) => `  - { eip: ${address}, vm-ip: ${vm} }\n`;
export const forward = (address: string, ports: string, vm: string, protocol = 'tcp') => {
  const [from = '', to = ''] = ports.split('>');
  const [port, end = port] = from.split('-');
  return `  - { eip: ${address}, protocal: ${protocol}, port: ${port}, end_port: ${end}, vm-port: ${to}, vm-ip: ${vm} }\n`;
};

export function flows(path: Path): void {
  describe(`established flows: ${NAME_OF[path]}`, { concurrency: true }, () => flowsOn(path));
}

function flowsOn(path: Path): void {
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
  const outgoing: Name = 'w → far as the uplink';

  const CHANGES: [what: string, config: string, cut: Name[]][] = [
    ['nothing', base, []],
    ['an EIP for a VM that had none', base.replace(eips, eips + eip('203.0.113.51', w)), [outgoing]],
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
    ['another address for the uplink', base.replace('.37', '.38'), [outgoing, 'y → EIP of x', 'out → the router']],
    ['a snat_list', `${base}snat_list:\n  - { source: 10.10.1.0/24, to: 203.0.113.40 }\n`, [outgoing]],
    ['a route', `${base}route_list:\n  - { dest: 172.24.0.0/16, via: 10.10.1.11 }\n`, []],
  ];

  for (const iptables of backendsOf(path))
    describe(iptables, { concurrency: false }, () => {
      let lab: Lab;
      let traffic: Traffic;
      before(async () => {
        lab = await createLabOn(path, { iptables });
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
          const known = await entries(lab);
          assert.equal(known.length, names.length);
          await reload(lab, config);
          const kept = await entries(lab);
          const goesOn = (name: Name) => !cut.includes(name);
          const states = await Promise.all(
            streams.map(async (stream, index) =>
              (await stream.carries(goesOn(names[index] as Name))) ? 'goes on' : 'ends',
            ),
          );
          const expected = names.map((name) => `${name} ${goesOn(name) ? 'goes on' : 'ends'}`);
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
  async function entries(lab: Lab): Promise<string[]> {
    const { stdout } = await lab.router.run(['conntrack', '-L', '-p', 'tcp', '-o', 'id']);
    return stdout.split('\n').flatMap((line) => /(?:ESTABLISHED|SYN_RECV).* id=(\d+)/.exec(line)?.[1] ?? []);
  }
}

export function announcements(path: Path): void {
  describe(`gratuitous ARP: ${NAME_OF[path]}`, { concurrency: true }, () => announcementsOn(path));
}

function announcementsOn(path: Path): void {
  const many = Array.from({ length: 200 }, (_, n) => `198.51.100.${n + 1}`);
  const config = (list: readonly string[]) => `${nics}eip_list:\n${list.map((address) => eip(address, v)).join('')}`;

  for (const [what, addresses, permanent] of [
    ['a few addresses', many.slice(0, 3), true],
    ['200 addresses', many, false],
    ['200 addresses beside a permanent neighbour', many, true],
  ] as const)
    it(`${what}: all are heard outside, and permanent neighbours stay`, async (t) => {
      const lab = await createLabOn(path);
      t.after(() => lab.close());
      await reload(lab, nics);
      const neighbour = '203.0.113.9 dev eth0 lladdr 52:54:84:99:00:01 PERMANENT \n';
      if (permanent)
        await lab.router.run(`ip neigh add 203.0.113.9 lladdr 52:54:84:99:00:01 dev eth0`.split(' '), { check: true });
      const heard = await listen(lab);
      await reload(lab, config(addresses));
      const unheard = () => addresses.filter((address) => !heard().includes(`${address} is-at ${U}`));
      for (let waited = 0; unheard().length > 0 && waited < 5000; waited += 100) await sleep(100);
      assert.deepEqual(unheard(), []);
      const { stdout } = await lab.router.run(['ip', 'neigh', 'show', 'nud', 'permanent']);
      assert.equal(stdout, permanent ? neighbour : '');
    });
}

/** With room for 200 at once: tcpdump's buffer holds 32 frames of its usual length in immediate mode, and drops the others. */
async function listen(lab: Lab): Promise<() => string[]> {
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

export async function reload(lab: Lab, config: string): Promise<void> {
  await lab.configure(config);
  const { status, stdout, stderr } = await lab.kylin('reload');
  assert.equal(status, 0, stdout + stderr);
}
