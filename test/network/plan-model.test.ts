// From any router to any other, among foreign things: a plan, carried out, makes the machine as desired, and leaves nothing to
// plan, nothing of ours behind, and nothing foreign changed.

import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import fc from 'fast-check';
import type { Config, Eip, Forward, Nic, Snat } from '../../src/config/config.ts';
import { ifcfgRenderer } from '../../src/dialects/ifcfg.ts';
import { isOurJump } from '../../src/dialects/our-rules.ts';
import { engine } from '../../src/engines/in-use.ts';
import { describe as line } from '../../src/network/kinds.ts';
import { addressKey, chainKey, jumpKey, type NetworkState, ROUTE_PROTOCOL, routeKey } from '../../src/network/state.ts';
import type { Step } from '../../src/network/step.ts';
import { planSteps } from '../../src/planning/plan.ts';
import { runs } from '../quick.ts';
import { config, desired, forward, LINKS, SECOND_UPLINK, SUBNET_A, SUBNET_B, UPLINK } from './fixtures.ts';
import { Machine } from './machine.ts';
import { trace } from './packet-trace.ts';

const VMS = ['192.0.2.5', '192.0.2.6', '192.0.2.70'];
const EIPS = Array.from({ length: 24 }, (_, n) => `198.51.100.${n + 8}`);
const FORWARDS = [
  ...Array.from({ length: 20 }, (_, n) => `tcp 198.51.100.40:${1000 + n} → 192.0.2.5:${1000 + n}`),
  'tcp 198.51.100.9:80-82 → 192.0.2.6:80',
  'udp 198.51.100.9:80-82 → 192.0.2.70:8080',
  'tcp 203.0.113.10:8443 → 192.0.2.6:443',
].map(forward);

const NIC_SETS: Nic[][] = [
  [],
  [UPLINK, SUBNET_A, SUBNET_B],
  [UPLINK, SUBNET_B],
  [SUBNET_A, SUBNET_B],
  [UPLINK, SECOND_UPLINK, SUBNET_A, SUBNET_B],
  [SECOND_UPLINK, UPLINK, SUBNET_A],
  [SECOND_UPLINK, SUBNET_A],
  // Another address, another prefix; the uplink's address on another NIC; subnets that changed places.
  [UPLINK, { ...SUBNET_A, ipaddr: '192.0.2.2', mtu: 1450 }, { ...SUBNET_B, prefix: 27 }],
  [{ ...UPLINK, mac: SECOND_UPLINK.mac }, SUBNET_A, SUBNET_B],
  [UPLINK, { ...SUBNET_A, mac: SUBNET_B.mac }, { ...SUBNET_B, mac: SUBNET_A.mac }],
];
const eips: fc.Arbitrary<Eip[]> = fc
  .tuple(fc.subarray(EIPS), fc.array(fc.constantFrom(...VMS), { minLength: 1 }))
  .map(([list, vms]) => list.map((eip, n) => ({ eip, vmIp: vms[n % vms.length] ?? '' })));
const snats: fc.Arbitrary<Snat[] | undefined> = fc.option(
  fc.subarray<Snat>([
    { source: '192.0.2.0/26', to: { address: '198.51.100.90' } },
    { source: '192.0.2.64/26', to: 'masquerade' },
    { source: '192.0.2.5/32', to: 'none' },
  ]),
  { nil: undefined },
);
const configs: fc.Arbitrary<Config> = fc
  .record({
    nics: fc.constantFrom(...NIC_SETS),
    eips,
    forwards: fc.subarray<Forward>(FORWARDS),
    snats,
    routes: fc.subarray([{ dest: '198.18.5.0/24', via: '192.0.2.9' }]),
  })
  .map(config);

const FOREIGN_RULES = ['-p tcp -m tcp --dport 22 -j ACCEPT', '-m comment --comment "as -j KYLIN-VR-INPUT" -j ACCEPT'];
const FOREIGN_ROUTES = ['default metric 100', 'default metric 0', '198.18.9.0/24 metric 0'].map((text) => {
  const [dest = '', , metric] = text.split(' ');
  return { dest, via: '203.0.113.1', device: 'eth0', metric: Number(metric), protocol: 'static' };
});

/** What others do to the machine: each is possible at any time. */
const DISTURBANCES: Record<string, (machine: Machine) => void> = {
  'a rule before ours': (machine) => machine.rules('filter INPUT').unshift(...FOREIGN_RULES),
  'a rule behind ours': (machine) => machine.rules('filter FORWARD').push(...FOREIGN_RULES),
  'all rules of a table twice, as iptables-restore -n of a save makes them': (machine) => {
    for (const [key, rules] of machine.chains) if (key.startsWith('filter ')) rules.push(...rules);
  },
  'rules of ours gone': (machine) => {
    for (const [key, rules] of machine.chains) if (key.includes('KYLIN-VR')) rules.splice(0, 1);
  },
  'jumps of ours gone': (machine) => {
    for (const [key, rules] of machine.chains)
      machine.chains.set(
        key,
        rules.filter((rule) => !isOurJump(rule)),
      );
  },
  'an address on a NIC': (machine) => {
    const added = { device: 'eth1', spec: '192.0.2.33/26' };
    machine.addresses = [...machine.addresses.filter(({ spec }) => spec !== added.spec), added];
  },
  routes: (machine) => {
    const own = machine.routes.filter(({ protocol }) => protocol === ROUTE_PROTOCOL);
    if (machine.addresses.some(({ device }) => device === 'eth0')) machine.routes = [...own, ...FOREIGN_ROUTES];
  },
  'a foreign profile': (machine) => {
    const path = '/etc/sysconfig/network-scripts/ifcfg-eth1';
    machine.files.set(path, { path, content: 'DEVICE=eth1\n', mode: 0o644 });
  },
  'a link down': (machine) => {
    for (const link of machine.links.values()) link.up = false;
  },
};

function converge(machine: Machine, wanted: NetworkState): void {
  machine.owned = new Set([...machine.owned, ...wanted.addresses.map(addressKey)]);
  const steps = planSteps(wanted, machine.observe(wanted), engine);
  const before = machine.addresses.map(addressKey);
  const stays = wanted.addresses.map(addressKey).filter((key) => before.includes(key));
  machine.carryOut(steps, () => {
    const now = machine.addresses.map(addressKey);
    assert.deepEqual(
      stays.filter((key) => !now.includes(key)),
      [],
      'addresses that stay are always there',
    );
  });
  machine.owned = new Set(wanted.addresses.map(addressKey));
}

const foreignRules = (machine: Machine) =>
  [...machine.chains].flatMap(([key, rules]) =>
    key.includes('KYLIN-VR') ? [] : rules.filter((rule) => !isOurJump(rule)).map((rule) => `${key} ${rule}`),
  );
const lines = (steps: readonly Step[]) => steps.map(line);

describe('a plan that is carried out', () => {
  it('has no step that this machine does not know: it would prove nothing', () => {
    const machine = new Machine([]);
    const step: Step = { kind: 'add-bridge', bridge: { name: 'br-ex', type: 'linux' } };
    assert.throws(() => machine.carryOut([step]), /refuses: it knows no add-bridge$/);
  });

  const run = fc.tuple(configs, fc.subarray(Object.keys(DISTURBANCES)));

  it('makes the machine as desired, and leaves nothing to plan and nothing foreign changed', () => {
    fc.assert(
      fc.property(fc.array(run, { minLength: 2, maxLength: 4 }), (runs) => {
        const machine = new Machine(LINKS);
        for (const [each, disturbances] of runs) {
          const wanted = desired(each, { renderer: ifcfgRenderer });
          for (const name of disturbances) DISTURBANCES[name]?.(machine);
          const [rules, routes] = [
            foreignRules(machine),
            machine.routes.filter(({ protocol }) => protocol !== ROUTE_PROTOCOL),
          ];
          converge(machine, wanted);

          assert.deepEqual(lines(planSteps(wanted, machine.observe(wanted), engine)), []);
          assert.deepEqual(foreignRules(machine), rules);
          const nicsLeft = (device: string) => machine.addresses.some((address) => address.device === device);
          assert.deepEqual(
            machine.routes
              .filter(({ protocol }) => protocol !== ROUTE_PROTOCOL)
              .map(routeKey)
              .sort(),
            routes
              .filter(({ device }) => nicsLeft(device))
              .map(routeKey)
              .sort(),
          );
          const devices = new Set(wanted.links.map(({ device }) => device));
          const onOurs = machine.addresses.filter(({ device }) => devices.has(device)).map(addressKey);
          assert.deepEqual(onOurs.sort(), wanted.addresses.map(addressKey).sort());
          const chains = [...machine.chains.keys()].filter((key) => key.includes('KYLIN-VR'));
          assert.deepEqual(chains.sort(), wanted.chains.map(chainKey).sort());
        }
      }),
      runs(100),
    );
  });

  it('never forwards without the rules, from a machine that has none', () => {
    fc.assert(
      fc.property(configs, (each) => {
        const machine = new Machine(LINKS);
        const wanted = desired(each);
        machine.carryOut(planSteps(wanted, machine.observe(wanted), engine), (step) => {
          const forwards = [...machine.sysctls].some(([key, value]) => /forward/.test(key) && value === '1');
          if (!forwards) return;
          const chains = [...machine.chains.keys()].filter((key) => key.includes('KYLIN-VR'));
          const jumps = [...machine.chains].flatMap(([key, rules]) =>
            rules.filter((rule) => isOurJump(rule) && !key.includes('KYLIN-VR')).map((rule) => `${key} ${rule}`),
          );
          assert.deepEqual(
            [chains.sort(), jumps.sort()],
            [wanted.chains.map(chainKey).sort(), wanted.jumps.map(jumpKey).sort()],
            `after ${line(step)}`,
          );
        });
      }),
      runs(50),
    );
  });

  it('never leaves an EIP open to the router itself, not between two steps either', () => {
    fc.assert(
      fc.property(configs, configs, (first, second) => {
        const machine = new Machine(LINKS);
        const onlyNics = { nics: [UPLINK, SUBNET_A, SUBNET_B] };
        converge(machine, desired({ ...first, ...onlyNics }));
        const wanted = desired({ ...second, ...onlyNics });
        machine.carryOut(planSteps(wanted, machine.observe(wanted), engine), (step) => {
          if (step.kind === 'set-sysctl') return;
          const { chains } = machine.observe(wanted).state;
          const now = { ...wanted, addresses: machine.addresses, chains };
          for (const { spec } of machine.addresses.filter(({ spec }) => spec.endsWith('/32'))) {
            const fate = trace(now, {
              from: '203.0.113.200',
              to: spec.slice(0, -3),
              protocol: 'tcp',
              port: 22,
              in: 'eth0',
            });
            assert.doesNotMatch(fate, /^the router/, `${spec} after ${line(step)}`);
          }
        });
      }),
      runs(25),
    );
  });
});
