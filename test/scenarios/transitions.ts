// From every configuration to every other: what is there afterwards is what a router has that never knew another one.

import assert from 'node:assert/strict';
import { after, before, describe, it } from 'node:test';
import { type Lab, NICS } from '../lab/lab.ts';
import { backendsOf, createLabOn, NAME_OF, type Path } from '../lab/path.ts';
import { filesTouched, markFiles, networkOf, onEveryPath } from '../lab/state.ts';
import { recordTools, type Tools, writes } from '../lab/tools.ts';

const [U, A, B] = [NICS.public.mac, NICS.a.mac, NICS.b.mac];
const nics = (...lines: string[]) => `if_list:\n${lines.map((line) => `  - { ${line} }\n`).join('')}`;
const list = (key: string, ...lines: string[]) => `${key}:\n${lines.map((line) => `  - { ${line} }\n`).join('')}`;

const uplink = `ipaddr: 203.0.113.37, prefix: 24, mac: '${U}', gateway: 203.0.113.1`;
const subnetA = `ipaddr: 10.10.1.254, prefix: 24, mac: '${A}'`;
const subnetB = `ipaddr: 10.10.2.254, prefix: 24, mac: '${B}'`;
const both = nics(uplink, subnetA, subnetB);
const eips = list(
  'eip_list',
  'eip: 203.0.113.50, vm-ip: 10.10.1.11',
  'eip: 203.0.113.51, vm-ip: 10.10.1.12',
  'eip: 198.51.100.20, vm-ip: 10.10.2.21',
);
const manyForwards = Array.from(
  { length: 24 },
  (_, n) =>
    `eip: 203.0.113.60, protocal: ${n % 4 ? 'tcp' : 'udp'}, port: ${2000 + 100 * n}, vm-port: 80, vm-ip: 10.10.1.11`,
);

export const CONFIGS = {
  nothing: 'if_list: []\n',
  'one subnet': nics(uplink, subnetA),
  'two subnets': both,
  'no uplink': nics(subnetA, subnetB),
  EIPs: both + eips,
  'other EIPs':
    both +
    list(
      'eip_list',
      'eip: 203.0.113.50, vm-ip: 10.10.1.12',
      'eip: 203.0.113.51, vm-ip: 10.10.1.11',
      'eip: 203.0.113.70, vm-ip: 10.10.2.21',
      'eip: 192.0.2.77, vm-ip: 10.10.2.22',
    ),
  forwards:
    both +
    list(
      'port_forward_list',
      'eip: 203.0.113.50, protocal: tcp, port: 80, vm-port: 8080, vm-ip: 10.10.1.11',
      'eip: 203.0.113.37, protocal: tcp, port: 8443, vm-port: 443, vm-ip: 10.10.1.12',
      'eip: 198.51.100.20, protocal: udp, port: 7000, end_port: 7002, vm-port: 7100, vm-ip: 10.10.2.21',
      'eip: 198.51.100.20, protocal: tcp, port: 7000, end_port: 7002, vm-port: 7000, vm-ip: 10.10.2.21',
      ...manyForwards,
    ),
  'another uplink address': nics(uplink.replace('.37', '.38'), subnetA, subnetB) + eips,
  'another uplink network':
    nics(
      `ipaddr: 198.51.100.20, prefix: 25, mac: '${U}', gateway: 198.51.100.1`,
      subnetA.replace('24', '28').replace('.254', '.14'),
    ) + list('eip_list', 'eip: 203.0.113.50, vm-ip: 10.10.1.11', 'eip: 203.0.113.37, vm-ip: 10.10.1.12'),
  'another uplink NIC': nics(uplink.replace(U, B), subnetA, subnetB.replace(B, U)) + eips,
  snat_list:
    both +
    list('eip_list', 'eip: 203.0.113.50, vm-ip: 10.10.1.11') +
    list(
      'snat_list',
      'source: 10.10.1.0/24, to: 203.0.113.51',
      'source: 10.10.1.128/25, to: none',
      'source: 172.24.4.0/24, to: masquerade',
    ) +
    list('route_list', 'dest: 172.24.4.0/24, via: 10.10.1.1', 'dest: 172.24.4.9/32, via: 10.10.2.1'),
  'two uplinks':
    nics(uplink.replace('24', '25'), `${subnetB}, gateway: 10.10.2.1, mtu: 1400`, subnetA) +
    eips +
    'snat_list: []\n' +
    list('route_list', 'dest: 172.24.4.0/24, via: 10.10.2.1'),
} as const;

export type Name = keyof typeof CONFIGS;
const NAMES = Object.keys(CONFIGS) as Name[];

/**
 * Each pair once, in one walk: there and back, except to the next one, to which the walk goes on; and all the way back. By steps of 2
 * half of them.
 */
function walk(step: 1 | 2 = 1): [Name, Name][] {
  const stops: number[] = [0];
  for (let from = 0; from < NAMES.length - 1; from++) {
    for (let to = from + 2; to < NAMES.length; to += step) stops.push(to, from);
    stops.push(from + 1);
  }
  for (let to = NAMES.length - 2; to >= 0; to--) stops.push(to);
  const names = stops.map((stop) => NAMES[stop] as Name);
  return names.slice(1).map((to, index) => [names[index] as Name, to]);
}

/** Who sets up NICs, and which backend takes the rules, shows itself in what is added and removed, not in each pair. */
const shortWalk = (): [Name, Name][] =>
  NAMES.slice(1).flatMap((name, index): [Name, Name][] => [
    [NAMES[index] as Name, name],
    [name, 'nothing'],
    ['nothing', name],
  ]);

/** All pairs are the soak's. */
const STEP = process.env.KYLIN_VR_WALK === 'whole' ? 1 : 2;

export const walkOn = (path: Path, iptables: string) =>
  path === 'ip' && iptables === 'nft' ? walk(STEP) : shortWalk();

it('the walk goes each way between two configurations once', () => {
  const ways = walk().map((way) => way.join(' → '));
  assert.equal(new Set(ways).size, ways.length);
  assert.equal(ways.length, NAMES.length * (NAMES.length - 1));
});

/** All that a reload without work may touch. */
const TOUCHED = [
  '/run/kylin-vr',
  '/run/kylin-vr/dead',
  '/run/kylin-vr/last-run.json',
  '/run/kylin-vr/quiet',
  '/var/log/kylin-vr/kylin-vr.log',
];

export function transitions(path: Path): void {
  for (const iptables of backendsOf(path)) {
    describe(`transitions: ${NAME_OF[path]}, ${iptables}`, { concurrency: false }, () => {
      let lab: Lab;
      let tools: Tools;
      const fresh = new Map<Name, string>();

      before(async () => {
        for (const name of NAMES) fresh.set(name, await freshNetwork(path, iptables, CONFIGS[name]));
        lab = await createLabOn(path, { iptables });
        tools = await recordTools(lab.router);
        await reload(lab, NAMES[0] as Name);
      });
      after(() => lab?.close());

      for (const [from, to] of walkOn(path, iptables)) {
        it(`${from} → ${to}`, async () => {
          await reload(lab, to);
          assert.equal(await networkOf(lab.router), fresh.get(to));

          const { stdout, status } = await lab.kylin('plan', '--exit-code');
          assert.deepEqual({ stdout, status }, { stdout: 'in sync\n', status: 0 });

          await tools.taken();
          await markFiles(lab.router);
          const again = await lab.kylin('reload', '--json');
          const { result, steps } = JSON.parse(again.stdout);
          assert.deepEqual({ result, steps, status: again.status }, { result: 'unchanged', steps: [], status: 0 });
          assert.deepEqual(writes(await tools.taken()), []);
          assert.deepEqual(await filesTouched(lab.router), TOUCHED);
        });
      }

      if (path !== 'ip')
        for (const name of NAMES)
          it(`${name} is what plain ip makes`, async () => {
            const byIp = await freshNetwork('ip', iptables, CONFIGS[name]);
            assert.equal(onEveryPath(fresh.get(name) ?? ''), onEveryPath(byIp));
          });
    });
  }
}

async function reload(lab: Lab, name: Name): Promise<void> {
  await lab.configure(CONFIGS[name]);
  const { status, stderr } = await lab.kylin('reload');
  assert.equal(status, 0, stderr);
}

async function freshNetwork(path: Path, iptables: 'nft' | 'legacy', config: string): Promise<string> {
  const lab = await createLabOn(path, { iptables });
  try {
    await lab.configure(config);
    const { status, stderr } = await lab.kylin('reload');
    assert.equal(status, 0, stderr);
    return await networkOf(lab.router);
  } finally {
    await lab.close();
  }
}
