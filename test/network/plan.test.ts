import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { engine } from '../../src/engines/in-use.ts';
import { describe as line } from '../../src/network/kinds.ts';
import { type Address, FILE_MARK, type File, type NetworkState } from '../../src/network/state.ts';
import type { Step } from '../../src/network/step.ts';
import { planSteps } from '../../src/planning/plan.ts';
import { config, desired, LINKS, link } from './fixtures.ts';
import { isFirewallStep, Machine } from './machine.ts';
import { address, plan, route, state } from './planning.ts';

describe('the order of addresses', () => {
  const cases: [string, string[], string[], string[]][] = [
    ['an address that comes is added', ['192.0.2.1/26 on eth1'], [], ['+ address 192.0.2.1/26 on eth1']],
    [
      'a new address of a NIC is added before the old one goes',
      ['192.0.2.2/26 on eth1'],
      ['192.0.2.1/26 on eth1'],
      ['+ address 192.0.2.2/26 on eth1', '- address 192.0.2.1/26 on eth1'],
    ],
    [
      'an address whose prefix changes is added before the old one goes',
      ['192.0.2.1/25 on eth1'],
      ['192.0.2.1/26 on eth1'],
      ['+ address 192.0.2.1/25 on eth1', '- address 192.0.2.1/26 on eth1'],
    ],
    [
      'an address that moves to another NIC goes first and comes then',
      ['192.0.2.1/26 on eth2'],
      ['192.0.2.1/26 on eth1'],
      ['- address 192.0.2.1/26 on eth1', '+ address 192.0.2.1/26 on eth2'],
    ],
    [
      'an EIP goes before others come',
      ['203.0.113.10/24 on eth0', '198.51.100.6/32 on eth0'],
      ['203.0.113.10/24 on eth0', '198.51.100.5/32 on eth0'],
      ['- address 198.51.100.5/32 on eth0', '+ address 198.51.100.6/32 on eth0'],
    ],
    [
      'an EIP that is the only address of its NIC goes after the new one has come',
      ['203.0.113.10/24 on eth0'],
      ['198.51.100.5/32 on eth0'],
      ['+ address 203.0.113.10/24 on eth0', '- address 198.51.100.5/32 on eth0'],
    ],
  ];
  for (const [name, wanted, found, steps] of cases)
    it(name, () => {
      assert.deepEqual(plan({ addresses: wanted.map(address) }, { addresses: found.map(address) }), steps);
    });

  it('a subnet that goes is gone before the first uplink is there: nothing would give what comes from it a source', () => {
    const leaving = {
      table: 'mangle',
      name: 'KYLIN-VR-LEAVING',
      rules: ['-o eth0 -j KYLIN-VR-UPLINK'],
      ordered: true,
    } as const;
    const uplink = address('203.0.113.37/24 on eth0');
    const there = ['10.10.1.254/24 on eth1', '10.10.2.254/24 on eth2', '10.10.2.9/24 on eth2'].map(address);
    const order = (chains: NetworkState['chains'], foreign: string[] = []) =>
      plan(
        { addresses: [uplink, there[0] as Address], chains: [leaving] },
        { chains, addresses: there, foreign },
      ).filter((step) => / address /.test(step));
    assert.deepEqual(order([], ['10.10.2.9/24 on eth2']), [
      '- address 10.10.2.254/24 on eth2',
      '+ address 203.0.113.37/24 on eth0',
      '- address 10.10.2.9/24 on eth2 (foreign)',
    ]);
    // Guarded as it is, it goes last: what is under way goes on as long.
    assert.deepEqual(order([leaving]).slice(0, 1), ['+ address 203.0.113.37/24 on eth0']);
  });

  it('a foreign address of a NIC is removed, and said to be foreign', () => {
    const foreign = ['192.0.2.9/26 on eth1', '192.0.2.20 peer 192.0.2.21/32 on eth1'];
    assert.deepEqual(
      plan({ addresses: [address('192.0.2.1/26 on eth1')] }, { addresses: foreign.map(address), foreign }),
      [
        '+ address 192.0.2.1/26 on eth1',
        '- address 192.0.2.9/26 on eth1 (foreign)',
        '- address 192.0.2.20 peer 192.0.2.21/32 on eth1 (foreign)',
      ],
    );
  });
});

describe('the order of all things', () => {
  const wanted = desired(config({ eips: [{ eip: '198.51.100.5', vmIp: '192.0.2.5' }] }));

  it('is: sysctls, rules, links, addresses, routes, then the announcement', () => {
    const machine = new Machine(LINKS.map((link) => ({ ...link, up: false })));
    const kinds = planSteps(wanted, machine.observe(wanted), engine).map(({ kind }) => kind);
    assert.deepEqual(
      [...new Set(kinds)],
      ['set-sysctl', 'add-chain', 'add-jump', 'set-link-up', 'add-address', 'add-route', 'announce-addresses'],
    );
  });

  const ON = /^~ net\.ipv4\.\S*(ip_forward|forwarding) 0 → 1$/;
  const OFF = /^~ net\.ipv4\.\S*(ip_forward|forwarding) 1 → 0$/;
  /** What each step is about, one after the other, each once where it follows itself. */
  const stages = (steps: readonly Step[]): string[] =>
    steps
      .map((step) => {
        if (isFirewallStep(step)) return 'rules';
        const text = line(step);
        return ON.test(text) ? 'forwarding on' : OFF.test(text) ? 'forwarding off' : step.kind;
      })
      .filter((stage, index, all) => stage !== all[index - 1]);

  it('is: forwarding is on only when the rules are there, with what conntrack has from its first rule on', () => {
    const machine = new Machine(LINKS);
    const steps = planSteps(wanted, machine.observe(wanted), engine);
    assert.deepEqual(stages(steps).slice(0, 4), ['set-sysctl', 'rules', 'forwarding on', 'set-sysctl']);
    assert.equal(
      steps.map(line).findLast((text) => text.startsWith('~ net.')),
      '~ net.netfilter.nf_conntrack_tcp_be_liberal unset → 1',
    );
  });

  it('is: what goes with forwarding off, as when a change is taken back, goes after that', () => {
    const machine = new Machine(LINKS);
    machine.carryOut(planSteps(wanted, machine.observe(wanted), engine));
    const before = state({ sysctls: wanted.sysctls.map(({ key }) => ({ key, value: '0' })) });
    const kinds = stages(planSteps(before, machine.observe(before), engine));
    assert.ok(kinds.lastIndexOf('forwarding off') < kinds.indexOf('rules'), kinds.join(', '));
  });

  it('when an EIP goes is: its address, then its rules', () => {
    const machine = new Machine(LINKS);
    machine.carryOut(planSteps(wanted, machine.observe(wanted), engine));
    machine.owned = new Set(['eth0 198.51.100.5/32']);
    const without = desired(config());
    const kinds = planSteps(without, machine.observe(without), engine).map(({ kind }) => kind);
    assert.deepEqual([...new Set(kinds)], ['remove-address', 'replace-chain', 'remove-chain']);
  });
});

describe('routes', () => {
  const ours = 'default via 203.0.113.1 on eth0';
  const profiles = [{ device: 'eth0', uuid: 'ours' }];
  const cases: [string, string[], string[], string[], Partial<NetworkState>?][] = [
    ['one that is not there is added', [ours], [], [`+ route ${ours}`]],
    ['ours that is not wanted is removed', [], [ours], [`- route ${ours}`]],
    [
      'foreign ones are never removed',
      [],
      ['default via 203.0.113.1 on eth0 proto static', '198.18.0.0/16 via 203.0.113.9 on eth0 proto boot'],
      [],
    ],
    ['ours stays beside the same one of somebody else', [ours], [`${ours} proto boot`, ours], []],
    ...[
      `${ours} metric 500 proto boot`,
      `${ours} metric 20000 proto boot`,
      `${ours} metric 100 proto static`,
      `${ours} metric 1024 proto dhcp src 203.0.113.77`,
      `${ours} proto static src 203.0.113.77`,
      `${ours} proto dhcp`,
    ].flatMap((other): typeof cases => [
      [`ours stays beside ${other}`, [ours], [ours, other], [], { profiles }],
      [`ours is added beside ${other}`, [ours], [other], [`+ route ${ours}`], { profiles }],
    ]),
    ...[`${ours} proto static`, `${ours} metric 20000 proto static`, `${ours} proto boot`].flatMap(
      (made): typeof cases => [
        [`${made} is what a profile of ours asked for`, [ours], [made], [], { profiles }],
        [
          `ours goes where there is ${made} by a profile of ours`,
          [ours],
          [made, ours],
          [`- route ${ours}`],
          { profiles },
        ],
        [`${made} does not do it without a profile of ours`, [ours], [made], [`+ route ${ours}`]],
        [
          `${made} does not do it behind another`,
          [ours],
          ['default via 203.0.113.9 on eth0 proto boot', made],
          [`+ route ${ours}`],
          { profiles },
        ],
      ],
    ),
    [
      'a foreign one to another gateway does not do it',
      [ours],
      ['default via 203.0.113.9 on eth0 proto static'],
      [`+ route ${ours}`],
    ],
    [
      'a foreign one by another NIC does not do it',
      [ours],
      ['default via 203.0.113.1 on eth3 proto static'],
      [`+ route ${ours}`],
    ],
    [
      'one whose gateway changes is added before the old one goes',
      ['default via 203.0.113.2 on eth0'],
      [ours],
      ['+ route default via 203.0.113.2 on eth0', '- route default via 203.0.113.1 on eth0'],
    ],
    [
      'one of ours whose metric changes is added before the old one goes',
      [ours],
      [`${ours} metric 1000`],
      [`+ route ${ours}`, `- route ${ours} metric 1000`],
    ],
  ];
  for (const [name, wanted, found, steps, more] of cases)
    it(name, () => {
      assert.deepEqual(plan({ routes: wanted.map(route), ...more }, { routes: found.map(route) }), steps);
    });

  it('that our record names go when nobody wants them, whoever made them; by another metric they are foreign', () => {
    const second = 'default via 192.0.2.190 on eth3 metric 1000';
    const made = [`${ours} proto boot`, `${second} proto boot`, '198.18.5.0/24 via 192.0.2.9 on eth1 proto static'];
    const foreign = [
      `${ours} metric 500 proto boot`,
      `${ours} metric 100 proto static`,
      `${ours} proto dhcp`,
      `${ours} proto static src 203.0.113.77`,
      'default via 203.0.113.9 on eth0 proto boot',
    ];
    assert.deepEqual(
      plan(
        {},
        {
          routes: [...made, ...foreign].map(route),
          recorded: [ours, second, '198.18.5.0/24 via 192.0.2.9 on eth1'],
        },
      ),
      [`- route ${ours}`, `- route ${second}`, '- route 198.18.5.0/24 via 192.0.2.9 on eth1'],
    );
  });

  it('of a NIC whose address moves away go before it: they would go with it, and could not be removed any more', () => {
    const steps = plan(
      { addresses: [address('203.0.113.10/24 on eth3')], routes: [route('default via 203.0.113.1 on eth3')] },
      { addresses: [address('203.0.113.10/24 on eth0')], routes: [route(ours)] },
    );
    assert.deepEqual(steps, [
      `- route ${ours}`,
      '- address 203.0.113.10/24 on eth0',
      '+ address 203.0.113.10/24 on eth3',
      '+ route default via 203.0.113.1 on eth3',
    ]);
  });
});

describe('links and sysctls', () => {
  const sysctl = (key: string, value: string) => ({ key: `net/ipv4/${key}`, value });

  it('are set where they differ, and left where nothing is said of them', () => {
    const machine = new Machine([
      link('eth0', { up: false }),
      link('eth1', { mtu: 9000 }),
      link('eth2', { up: false, mtu: 9000 }),
    ]);
    machine.sysctls.set('net/ipv4/ip_forward', '1');
    const wanted = state({
      links: [
        { device: 'eth0', up: true, mtu: 1450 },
        { device: 'eth1', up: true },
        { device: 'eth2', up: false },
      ],
      sysctls: [sysctl('ip_forward', '1'), sysctl('conf/eth0.5/rp_filter', '2')],
    });
    assert.deepEqual(planSteps(wanted, machine.observe(wanted), engine).map(line), [
      '~ net.ipv4.conf.eth0.5.rp_filter 0 → 2',
      '~ link eth0 mtu 1500 → 1450',
      '~ link eth0 up',
    ]);
  });
});

describe('files', () => {
  const folder = '/etc/sysconfig/network-scripts';
  const file = (name: string, content: string, mode = 0o644): File => ({ path: `${folder}/${name}`, content, mode });
  const ours = file('ifcfg-eth0', `${FILE_MARK}\nDEVICE=eth0\n`);
  const foreign = file('ifcfg-eth0', 'DEVICE=eth0\n', 0o600);
  const claim = { ...foreign, to: '/var/lib/kylin-vr/backup/ifcfg-eth0', reason: 'a foreign profile of eth0' };
  const put = `- file ${folder}/ifcfg-eth0 (a foreign profile of eth0), kept as /var/lib/kylin-vr/backup/ifcfg-eth0`;

  const cases: [string, Parameters<typeof plan>[0], Parameters<typeof plan>[1], string[]][] = [
    ['one that is not there is written', { files: [ours] }, {}, [`+ file ${ours.path}`]],
    ['one that is as it should be is left', { files: [ours] }, { files: [ours] }, []],
    [
      'one with other content is written',
      { files: [ours] },
      { files: [{ ...ours, content: FILE_MARK }] },
      [`~ file ${ours.path}`],
    ],
    [
      'one with another mode is written',
      { files: [ours] },
      { files: [{ ...ours, mode: 0o666 }] },
      [`~ file ${ours.path}`],
    ],
    ['ours that is not wanted is removed', {}, { files: [ours] }, [`- file ${ours.path}`]],
    [
      'a foreign one that claims a NIC of ours is put aside before ours is written',
      { files: [ours] },
      { claims: [claim] },
      [put, `+ file ${ours.path}`],
    ],
    [
      'a foreign one that is to come back is written over ours',
      { files: [foreign] },
      { files: [ours] },
      [`~ file ${ours.path}`],
    ],
    ['a foreign one that has come back is left', { files: [foreign] }, { claims: [claim] }, []],
  ];
  for (const [name, wanted, found, steps] of cases)
    it(name, () => {
      assert.deepEqual(plan(wanted, found), steps);
    });
});
