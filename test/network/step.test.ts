import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { describe as line } from '../../src/network/kinds.ts';
import type { Step, StepKind } from '../../src/network/step.ts';
import { address, route } from './planning.ts';

const file = { path: '/etc/x', content: '', mode: 0o644 };
const chain = { table: 'nat' as const, name: 'KYLIN-VR-DNAT', rules: ['-d 198.51.100.5/32 -j DROP'], ordered: false };
const jump = { table: 'filter' as const, hook: 'INPUT', rule: '-j KYLIN-VR-INPUT', place: 'first' as const };
const port = { device: 'eth0', bridge: 'br-ex', type: 'ovs' as const };
const addresses = (count: number) => Array.from({ length: count }, (_, n) => `198.51.100.${n + 1}`);

type Lines = { [Kind in StepKind]: [Extract<Step, { kind: Kind }>, string][] };
const LINES: Lines = {
  'set-sysctl': [
    [
      { kind: 'set-sysctl', key: 'net/ipv4/conf/eth0.5/rp_filter', value: '2', was: '1' },
      '~ net.ipv4.conf.eth0.5.rp_filter 1 → 2',
    ],
  ],
  'write-file': [
    [{ kind: 'write-file', file, was: 'absent' }, '+ file /etc/x'],
    [{ kind: 'write-file', file, was: 'different' }, '~ file /etc/x'],
  ],
  'remove-file': [[{ kind: 'remove-file', path: '/etc/x' }, '- file /etc/x']],
  'back-up-file': [
    [
      { kind: 'back-up-file', path: '/etc/x', to: '/var/x', reason: 'a foreign profile of eth0' },
      '- file /etc/x (a foreign profile of eth0), kept as /var/x',
    ],
  ],
  'set-link-up': [[{ kind: 'set-link-up', device: 'eth0' }, '~ link eth0 up']],
  'set-link-down': [[{ kind: 'set-link-down', device: 'eth0' }, '~ link eth0 down']],
  'set-mtu': [[{ kind: 'set-mtu', device: 'eth0', mtu: 1450, was: 1500 }, '~ link eth0 mtu 1500 → 1450']],
  'add-bridge': [
    [{ kind: 'add-bridge', bridge: { name: 'br-ex', type: 'linux' } }, '+ bridge br-ex (Linux bridge)'],
    [{ kind: 'add-bridge', bridge: { name: 'br-ex', type: 'ovs' } }, '+ bridge br-ex (Open vSwitch)'],
  ],
  'remove-bridge': [
    [{ kind: 'remove-bridge', bridge: { name: 'br-ex', type: 'linux' } }, '- bridge br-ex (Linux bridge)'],
  ],
  'add-port': [[{ kind: 'add-port', port }, '+ eth0 becomes a port of br-ex (Open vSwitch)']],
  'remove-port': [[{ kind: 'remove-port', port }, '- eth0 is no port of br-ex (Open vSwitch) any more']],
  'remove-port-route': [
    [
      { kind: 'remove-port-route', device: 'eth0', dest: '192.0.2.0/24' },
      '- route 192.0.2.0/24 on eth0 (foreign; the network is behind its bridge)',
    ],
  ],
  'move-foreign': [
    [
      {
        kind: 'move-foreign',
        foreign: { kind: 'address', family: 6, device: 'eth0', words: '2001:db8::1/64 dev eth0 scope global nodad' },
        to: 'br-ex',
      },
      '~ address 2001:db8::1/64 dev eth0 moves to br-ex',
    ],
    [
      {
        kind: 'move-foreign',
        foreign: {
          kind: 'route',
          family: 6,
          device: 'eth0',
          words: 'unicast default via fe80::1 dev eth0 metric 1024',
        },
        to: 'br-ex',
        there: true,
      },
      '- route default via fe80::1 dev eth0 metric 1024 (foreign; br-ex has it)',
    ],
  ],
  'remove-advertised': [
    [
      {
        kind: 'remove-advertised',
        foreign: {
          kind: 'route',
          family: 6,
          device: 'eth0',
          words: 'default via fe80::1 dev eth0 proto ra metric 1024',
        },
        to: 'br-ex',
      },
      '- route default via fe80::1 dev eth0 proto ra metric 1024 (advertised; br-ex hears it anew)',
    ],
  ],
  'ask-routers': [[{ kind: 'ask-routers', device: 'br-ex' }, '! routers asked on br-ex what they advertise']],
  'load-configuration': [[{ kind: 'load-configuration' }, '~ configuration read by NetworkManager']],
  'load-profiles': [
    [{ kind: 'load-profiles', paths: ['/etc/x', '/etc/y'] }, '~ profiles read by NetworkManager: /etc/x, /etc/y'],
    [{ kind: 'load-profiles', paths: [] }, '~ profiles read by NetworkManager'],
  ],
  'apply-profile': [
    [
      { kind: 'apply-profile', device: 'eth0', uuid: 'u', active: true },
      '~ profile of eth0 reapplied by NetworkManager',
    ],
    [
      { kind: 'apply-profile', device: 'eth0', uuid: 'u', active: false },
      '~ profile of eth0 activated by NetworkManager',
    ],
  ],
  'put-back': [
    [
      {
        kind: 'put-back',
        foreign: { kind: 'address', family: 6, device: 'eth0', words: '2001:db8::1/64 dev eth0 scope global nodad' },
      },
      '+ address 2001:db8::1/64 dev eth0 (foreign, put back)',
    ],
  ],
  'release-device': [[{ kind: 'release-device', device: 'eth0' }, '~ eth0 left alone by NetworkManager']],
  'return-device': [[{ kind: 'return-device', device: 'eth0', uuid: 'u' }, '~ eth0 managed by NetworkManager again']],
  'forget-profiles': [
    [
      { kind: 'forget-profiles', paths: ['/etc/x', '/etc/y'] },
      '- profiles forgotten by NetworkManager: /etc/x, /etc/y',
    ],
  ],
  'add-address': [
    [{ kind: 'add-address', address: address('192.0.2.1/26 on eth1') }, '+ address 192.0.2.1/26 on eth1'],
  ],
  'remove-address': [
    [
      { kind: 'remove-address', address: address('192.0.2.1/26 on eth1'), foreign: false },
      '- address 192.0.2.1/26 on eth1',
    ],
    [
      { kind: 'remove-address', address: address('192.0.2.1/26 on eth1'), foreign: true },
      '- address 192.0.2.1/26 on eth1 (foreign)',
    ],
  ],
  'add-route': [
    [{ kind: 'add-route', route: route('default via 203.0.113.1 on eth0') }, '+ route default via 203.0.113.1 on eth0'],
  ],
  'remove-route': [
    [
      { kind: 'remove-route', route: route('198.18.0.0/16 via 192.0.2.9 on eth1 metric 1000') },
      '- route 198.18.0.0/16 via 192.0.2.9 on eth1 metric 1000',
    ],
  ],
  'add-subnet-route': [
    [
      { kind: 'add-subnet-route', route: { dest: '192.0.2.0/26', device: 'eth1', source: '192.0.2.1' } },
      '+ route 192.0.2.0/26 on eth1',
    ],
  ],
  'add-chain': [[{ kind: 'add-chain', chain }, '+ chain KYLIN-VR-DNAT in nat (1 rule)']],
  'replace-chain': [
    [{ kind: 'replace-chain', chain: { ...chain, rules: [] } }, '~ chain KYLIN-VR-DNAT in nat (0 rules)'],
  ],
  'edit-chain': [
    [
      {
        kind: 'edit-chain',
        table: 'nat',
        name: 'KYLIN-VR-DNAT',
        remove: ['-s 192.0.2.1/32 -j A'],
        add: ['-s 192.0.2.2/32 -j B'],
      },
      '~ chain KYLIN-VR-DNAT in nat: - -s 192.0.2.1/32 -j A, + -s 192.0.2.2/32 -j B',
    ],
  ],
  'remove-chain': [[{ kind: 'remove-chain', table: 'nat', name: 'KYLIN-VR-DNAT' }, '- chain KYLIN-VR-DNAT in nat']],
  'add-jump': [[{ kind: 'add-jump', jump }, '+ jump in filter INPUT: -j KYLIN-VR-INPUT']],
  'remove-jump': [[{ kind: 'remove-jump', jump }, '- jump in filter INPUT: -j KYLIN-VR-INPUT']],
  'remove-stray-rules': [
    [
      { kind: 'remove-stray-rules', stray: { restore: 'iptables-legacy-restore', chains: [], hooks: [] } },
      '- our chains in the other iptables backend (iptables-legacy-restore)',
    ],
  ],
  'remove-unreadable-rules': [
    [
      { kind: 'remove-unreadable-rules', unreadable: { table: 'nat', chains: [], jumps: [], rules: [] } },
      '- our chains in nat, by nft',
    ],
  ],
  'cut-flows': [
    [{ kind: 'cut-flows', of: '198.51.100.5', count: 1 }, '- 1 established flow of 198.51.100.5'],
    [{ kind: 'cut-flows', of: '192.0.2.0/26', count: 20_000 }, '- 20000 established flows of 192.0.2.0/26'],
  ],
  'announce-addresses': [
    [
      { kind: 'announce-addresses', device: 'eth0', mac: '02:00:00:00:00:00', addresses: addresses(4) },
      '! announce 198.51.100.1, 198.51.100.2, 198.51.100.3, 198.51.100.4 on eth0',
    ],
    [
      { kind: 'announce-addresses', device: 'eth0', mac: '02:00:00:00:00:00', addresses: addresses(5) },
      '! announce 5 addresses on eth0',
    ],
  ],
};

describe('the line of a step', () => {
  for (const [step, text] of Object.values(LINES).flat() as [Step, string][])
    it(`${step.kind}: ${text}`, () => {
      assert.equal(line(step), text);
    });
});
