// Plans for NICs that NetworkManager manages: which steps are its, in what order, and that nothing is left to plan afterwards.

import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import fc from 'fast-check';
import { keyfileRenderer } from '../../src/dialects/keyfile.ts';
import { engine } from '../../src/engines/in-use.ts';
import type { Foreign } from '../../src/network/foreign.ts';
import { describe as line } from '../../src/network/kinds.ts';
import type { ManagedDevice, Observation } from '../../src/network/observation.ts';
import { profileUuid } from '../../src/network/renderer.ts';
import { addressKey, emptyState, type NetworkState, routeTargetKey } from '../../src/network/state.ts';
import type { Step } from '../../src/network/step.ts';
import { planSteps } from '../../src/planning/plan.ts';
import { runs } from '../quick.ts';
import { config, desired, LINKS, SECOND_UPLINK, SUBNET_A, SUBNET_B, UPLINK } from './fixtures.ts';
import { emptyObservation, isFirewallStep, Machine } from './machine.ts';
import { address, route, state } from './planning.ts';

const OURS = profileUuid(UPLINK.mac);
const FOREIGN = '22222222-2222-4222-8222-222222222222';
const active = (profile = OURS): ManagedDevice => ({ active: true, profile });

function stepsOf(
  wanted: Partial<NetworkState>,
  found: Partial<NetworkState>,
  managers: [string, ManagedDevice][],
  more = {},
): Step[] {
  const observed = state(found);
  const observation: Observation = {
    ...emptyObservation,
    links: LINKS,
    state: observed,
    owned: new Set(observed.addresses.map(addressKey)),
    ownedRoutes: new Set(observed.routes.map(routeTargetKey)),
    managers: new Map(managers),
    ...more,
  };
  return planSteps(state(wanted), observation, engine);
}

const plan = (...of: Parameters<typeof stepsOf>): string[] =>
  stepsOf(...of).map((step) => `${'by' in step ? 'by NetworkManager: ' : ''}${line(step)}`);

const own = address('203.0.113.10/24 on eth0');
const eip = address('198.51.100.8/32 on eth0');
const profiles = [{ device: 'eth0', uuid: OURS }];
const file = (content: string, path = '/etc/ours') => ({ path, content, mode: 0o600, device: 'eth0' });
const announce = '! announce 198.51.100.8 on eth0';

describe('a plan where NetworkManager manages the NIC', () => {
  it('reapplies the profile that is active', () => {
    assert.deepEqual(
      plan({ addresses: [own, eip], profiles, files: [file('new')] }, { addresses: [own], files: [file('old')] }, [
        ['eth0', active()],
      ]),
      [
        '~ file /etc/ours',
        '~ profiles read by NetworkManager: /etc/ours',
        'by NetworkManager: + address 198.51.100.8/32 on eth0',
        '~ profile of eth0 reapplied by NetworkManager',
        announce,
      ],
    );
  });

  it('tells it nothing of a file that says no more to it than before: one of 1.0, which has no ARPUPDATE', () => {
    const old = 'IPADDR=203.0.113.10\nARPCHECK=no\nIPADDR1=198.51.100.8\nARPCHECK1=no\n';
    const now = 'IPADDR=203.0.113.10\nARPCHECK=no\nARPUPDATE=no\nIPADDR1=198.51.100.8\nARPCHECK1=no\nARPUPDATE1=no\n';
    const rewritten = (content: string, found: { content: string; mode?: number }) =>
      plan(
        { addresses: [own], profiles, files: [file(content)] },
        { addresses: [own], files: [{ ...file(''), ...found }] },
        [['eth0', active()]],
      );
    assert.deepEqual(rewritten(now, { content: old }), ['~ file /etc/ours']);
    const applied = [
      '~ file /etc/ours',
      '~ profiles read by NetworkManager: /etc/ours',
      '~ profile of eth0 reapplied by NetworkManager',
    ];
    assert.deepEqual(rewritten(now, { content: old.replace('IPADDR1=198', 'IPADDR1=199') }), applied);
    // It passes over a keyfile that others may read.
    assert.deepEqual(rewritten(now, { content: now, mode: 0o644 }), applied);
  });

  it('lets it preserve what is foreign where only addresses of ours come and go', () => {
    const preserves = (...of: Parameters<typeof stepsOf>) =>
      stepsOf(...of).some((step) => step.kind === 'apply-profile' && step.preserves);
    const wanted = { addresses: [own, eip], profiles, files: [file('new')] };
    const found = { addresses: [own], files: [file('old')] };
    const managers: [string, ManagedDevice][] = [['eth0', active()]];
    assert.equal(preserves(wanted, found, managers), true);
    const other = address('198.51.100.9/32 on eth0');
    assert.equal(preserves(wanted, { ...found, addresses: [own, other] }, managers), true, 'and one goes');

    const owned = (...addresses: NetworkState['addresses'][number][]) => ({
      owned: new Set(addresses.map(addressKey)),
    });
    assert.equal(preserves(wanted, found, managers, owned(own, eip)), false, 'somebody took it away');
    assert.equal(
      preserves(wanted, { ...found, addresses: [own, other] }, managers, owned(own)),
      false,
      'a foreign one goes',
    );
    const routes = [route('default via 203.0.113.1 on eth0')];
    assert.equal(preserves({ ...wanted, routes }, found, managers), false, 'a route comes');
    assert.equal(preserves(wanted, found, [['eth0', active(FOREIGN)]]), false, 'another profile is active');
    assert.equal(preserves({ ...wanted, addresses: [own] }, found, managers), false, 'only the file is another');
  });

  it('activates it on a NIC that has none, or a foreign one, which is forgotten last', () => {
    const claim = {
      path: '/etc/foreign',
      to: '/backup/foreign',
      reason: 'a foreign profile of eth0',
      content: 'x',
      mode: 0o600,
    };
    for (const manager of [{ active: false }, active(FOREIGN)])
      assert.deepEqual(
        plan({ addresses: [own, eip], profiles, files: [file('new')] }, { addresses: [own] }, [['eth0', manager]], {
          claims: [claim],
        }),
        [
          '+ file /etc/ours',
          '- file /etc/foreign (a foreign profile of eth0), kept as /backup/foreign',
          '~ profiles read by NetworkManager: /etc/ours',
          'by NetworkManager: + address 198.51.100.8/32 on eth0',
          '~ profile of eth0 activated by NetworkManager',
          '- profiles forgotten by NetworkManager: /etc/foreign',
          announce,
        ],
      );
  });

  it('has a copy of our profile forgotten before ours is applied', () => {
    const claim = { path: '/etc/copy', to: '/backup/copy', reason: 'r', content: `uuid=${OURS}`, mode: 0o600 };
    assert.deepEqual(
      plan({ addresses: [own], profiles, files: [file('new')] }, { addresses: [own] }, [['eth0', active()]], {
        claims: [claim],
      }).slice(-2),
      ['~ profiles read by NetworkManager: /etc/copy, /etc/ours', '~ profile of eth0 reapplied by NetworkManager'],
    );
  });

  it('lets go of a NIC that left, also where a killed run has taken its file away: all files are read', () => {
    for (const files of [[file('old')], []])
      assert.deepEqual(plan({}, { addresses: [own], files }, [['eth0', active()]]), [
        ...files.map(({ path }) => `- file ${path}`),
        '~ profiles read by NetworkManager',
        'by NetworkManager: - address 203.0.113.10/24 on eth0',
      ]);
  });

  it('leaves to ip what is on a NIC without a profile of ours, links, and routes with our protocol number', () => {
    assert.deepEqual(
      plan({ addresses: [own] }, { addresses: [eip], links: [] }, [['eth0', active(FOREIGN)]]).filter((text) =>
        / address /.test(text),
      ),
      ['+ address 203.0.113.10/24 on eth0', '- address 198.51.100.8/32 on eth0'],
    );
    assert.deepEqual(
      plan(
        { addresses: [own], profiles, links: [{ device: 'eth0', up: true, mtu: 1400 }] },
        {
          addresses: [own],
          links: [{ device: 'eth0', up: false, mtu: 1500 }],
          routes: [route('default via 203.0.113.1 on eth0')],
        },
        [['eth0', active()]],
      ),
      ['~ link eth0 mtu 1500 → 1400', '~ link eth0 up', '- route default via 203.0.113.1 on eth0'],
    );
  });

  it('adds our own route beside its where a foreign one goes before that', () => {
    const wanted = route('default via 203.0.113.1 on eth0');
    const its = route('default via 203.0.113.1 on eth0 proto static');
    const foreign = route('default via 192.0.2.190 on eth3 proto boot');
    const found = { addresses: [own], routes: [foreign, its] };
    const ownedRoutes = new Set([routeTargetKey(its)]);
    assert.deepEqual(
      plan({ addresses: [own], routes: [wanted], profiles }, found, [['eth0', active()]], { ownedRoutes }),
      ['+ route default via 203.0.113.1 on eth0'],
    );
    const both = { addresses: [own], routes: [wanted, foreign, its] };
    assert.deepEqual(
      plan({ addresses: [own], routes: [wanted], profiles }, both, [['eth0', active()]], { ownedRoutes }),
      [],
    );
    // While its check of connectivity fails NetworkManager makes the metric worse; that is not ours to mend.
    const penalized = {
      addresses: [own],
      routes: [route('default via 203.0.113.1 on eth0 metric 20000 proto static')],
    };
    assert.deepEqual(plan({ addresses: [own], routes: [wanted], profiles }, penalized, []), []);
  });

  it('applies the NIC that gives an address up before the one that gets it', () => {
    const uuids = [UPLINK, SUBNET_A].map(({ mac }) => profileUuid(mac));
    const steps = plan(
      {
        addresses: [own],
        profiles: [
          { device: 'eth0', uuid: OURS },
          { device: 'eth1', uuid: uuids[1] ?? '' },
        ],
      },
      { addresses: [address('203.0.113.10/24 on eth1')] },
      [
        ['eth0', active()],
        ['eth1', active(uuids[1])],
      ],
    );
    assert.deepEqual(
      steps.filter((text) => text.startsWith('~ profile of')),
      ['~ profile of eth1 reapplied by NetworkManager', '~ profile of eth0 reapplied by NetworkManager'],
    );
  });

  it('closes an EIP to the router itself before it comes, and opens it when it is gone', () => {
    const chain = (rules: string[]) => ({ table: 'filter', name: 'KYLIN-VR-X', rules, ordered: false }) as const;
    const other = address('198.51.100.9/32 on eth0');
    for (const [before, after] of [
      [
        ['-d 198.51.100.8/32 -j DROP', '-s 1 -j DROP', '-s 2 -j DROP'],
        ['-d 198.51.100.9/32 -j DROP', '-s 1 -j DROP', '-s 2 -j DROP'],
      ],
      [['-d 198.51.100.8/32 -j DROP'], ['-d 198.51.100.9/32 -j DROP']],
    ] as const) {
      const steps = plan(
        { addresses: [own, other], profiles, chains: [chain([...after])] },
        { addresses: [own, eip], chains: [chain([...before])] },
        [['eth0', active()]],
      );
      assert.match(steps.join('\n'), /chain KYLIN-VR-X[\s\S]*reapplied by NetworkManager[\s\S]*chain KYLIN-VR-X/);
    }
  });
});

/** `4 192.0.2.1/24 dev eth0 scope link`, or a route when it says so. */
const foreign = (text: string): Foreign => {
  const [, family, route, words = ''] = /^([46]) (route )?(.*)$/.exec(text) ?? [];
  const [, device = ''] = / dev (\S+)/.exec(words) ?? [];
  const [, asked] =
    /^((?:default|\S+\/\d+) via \S+ dev \S+)(?: proto (?:static|boot))?(?: metric \d+)?$/.exec(words) ?? [];
  const target = asked && `${asked} metric ${/ metric (\d+)/.exec(words)?.[1] ?? 0}`;
  return {
    kind: route === undefined ? 'address' : 'route',
    family: family === '4' ? 4 : 6,
    device,
    words,
    ...(route === undefined && { global: !/ scope link/.test(words) }),
    ...(target !== undefined && { target }),
    ...(route !== undefined && { protocol: / proto (\S+)/.exec(words)?.[1] ?? 'boot' }),
  };
};

describe('what has to be there as before when NetworkManager has applied or forgotten a profile', () => {
  const onManaged = [
    '6 2001:db8::1/64 dev eth0',
    '6 fe80::1/64 dev eth0 scope link',
    '6 2001:db8::1/64 dev eth1',
    '6 route 2001:db8:2::/64 via fe80::2 dev eth0 proto static',
    '4 169.254.7.7/16 dev eth0 scope link',
    '4 203.0.113.10/24 dev eth0',
    '4 192.0.2.77/32 dev eth0',
    '4 route 203.0.113.0/24 dev eth0 proto kernel',
    '4 route default via 203.0.113.1 dev eth0 proto static',
    '4 route default via 203.0.113.1 dev eth0 proto dhcp metric 100',
    '4 route default via 203.0.113.2 dev eth0 proto dhcp metric 100',
    '4 route 172.16.0.0/16 via 203.0.113.2 dev eth0 proto static',
    '4 route 172.17.0.0/16 via 203.0.113.2 dev eth0 proto 175',
    '4 route 172.18.0.0/16 via 203.0.113.2 dev eth0',
  ].map(foreign);

  function kept(wanted: Partial<NetworkState>, manager: ManagedDevice): string[] {
    const observation: Observation = {
      ...emptyObservation,
      links: LINKS,
      state: state({ addresses: [own], files: [file('old')] }),
      owned: new Set([addressKey(own)]),
      ownedRoutes: new Set(['default via 203.0.113.1 dev eth0 metric 0']),
      managers: new Map([['eth0', manager]]),
      onManaged,
    };
    return planSteps(state(wanted), observation, engine).flatMap((step) =>
      'keep' in step ? (step.keep ?? []).map(({ words }) => words) : [],
    );
  }
  const wanted = {
    addresses: [own, eip],
    routes: [route('default via 203.0.113.1 on eth0')],
    profiles,
    files: [file('new')],
  };
  const always = [
    '2001:db8::1/64 dev eth0',
    'fe80::1/64 dev eth0 scope link',
    '2001:db8:2::/64 via fe80::2 dev eth0 proto static',
    '169.254.7.7/16 dev eth0 scope link',
  ];
  const routes = [
    'default via 203.0.113.1 dev eth0 proto dhcp metric 100',
    'default via 203.0.113.2 dev eth0 proto dhcp metric 100',
    '172.16.0.0/16 via 203.0.113.2 dev eth0 proto static',
    '172.18.0.0/16 via 203.0.113.2 dev eth0',
  ];

  it('on a NIC of ours: all but its addresses of global scope, its own routes, and what leads where one of those does', () => {
    for (const manager of [active(), { active: false }, { active: false, external: true } as const])
      assert.deepEqual(kept(wanted, manager), [...always, ...routes]);
  });

  it('on a NIC with a foreign profile not the routes that this one brought', () => {
    assert.deepEqual(kept(wanted, active(FOREIGN)), [...always, '172.18.0.0/16 via 203.0.113.2 dev eth0']);
  });

  it('on a NIC that leaves its foreign addresses of global scope, too', () => {
    assert.deepEqual(kept({}, active()), [...always, '192.0.2.77/32 dev eth0', ...routes]);
  });

  it('what a run before this one lost comes last, by itself', () => {
    assert.deepEqual(plan({}, {}, [], { lost: onManaged.slice(0, 1) }), [
      '+ address 2001:db8::1/64 dev eth0 (foreign, put back)',
    ]);
  });
});

/** Carries out what `ip` and `iptables-restore` would, and what NetworkManager does once it has applied the profiles. */
class ManagedMachine extends Machine {
  managers = new Map<string, ManagedDevice>();
  ownedRoutes = new Set<string>();

  override observe(wanted: NetworkState): Observation {
    return { ...super.observe(wanted), managers: this.managers, ownedRoutes: this.ownedRoutes };
  }

  run(wanted: NetworkState): void {
    for (const each of wanted.addresses) this.owned.add(addressKey(each));
    for (const each of wanted.routes) this.ownedRoutes.add(routeTargetKey(each));
    const asIp: Step[] = [];
    for (const step of planSteps(wanted, this.observe(wanted), engine)) {
      if (step.kind === 'apply-profile') this.managers.set(step.device, active(step.uuid));
      else if (isFirewallStep(step) || !/-profiles?$/.test(step.kind)) asIp.push(asStatic(step));
    }
    this.carryOut(asIp);
    for (const device of this.managers.keys())
      if (!wanted.profiles.some((profile) => profile.device === device)) this.managers.set(device, { active: false });
  }
}

/** A route that NetworkManager makes is marked as static. */
function asStatic(step: Step): Step {
  if (step.kind !== 'add-route' || step.by === undefined) return step;
  return { ...step, route: { ...step.route, protocol: 'static' } };
}

describe('a plan that is carried out with NetworkManager', () => {
  const NIC_SETS = [
    [],
    [UPLINK, SUBNET_A, SUBNET_B],
    [UPLINK, SUBNET_B],
    [UPLINK, SECOND_UPLINK, SUBNET_A],
    [SECOND_UPLINK, UPLINK, SUBNET_A],
    [UPLINK, { ...SUBNET_A, mac: SUBNET_B.mac }, { ...SUBNET_B, mac: SUBNET_A.mac }],
  ];
  const eips = fc.subarray(Array.from({ length: 6 }, (_, n) => ({ eip: `198.51.100.${n + 8}`, vmIp: '192.0.2.5' })));
  const configs = fc.record({ nics: fc.constantFrom(...NIC_SETS), eips }).map(config);
  const managed = fc.subarray(['eth0', 'eth1', 'eth2', 'eth3']);

  it('leaves nothing to plan, whichever NICs it manages from run to run', () => {
    fc.assert(
      fc.property(fc.array(fc.tuple(configs, managed), { minLength: 2, maxLength: 5 }), (runs) => {
        const machine = new ManagedMachine(LINKS);
        for (const [each, devices] of runs) {
          const wanted = desired(each, { renderer: keyfileRenderer });
          machine.managers = new Map(
            devices.map((device) => [device, machine.managers.get(device) ?? { active: false }]),
          );
          machine.run(wanted);
          assert.deepEqual(planSteps(wanted, machine.observe(wanted), engine).map(line), []);
        }
      }),
      runs(200),
    );
  });

  it('empties the machine with an empty configuration', () => {
    const machine = new ManagedMachine(LINKS);
    machine.managers = new Map([['eth0', { active: false }]]);
    machine.run(desired(config(), { renderer: keyfileRenderer }));
    machine.run(emptyState);
    assert.deepEqual([machine.addresses, machine.routes, [...machine.files]], [[], [], []]);
  });
});
