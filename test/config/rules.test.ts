import assert from 'node:assert/strict';
import { describe, it, test } from 'node:test';
import { errorsOf, notesOf, warningsOf } from './issues.ts';

// Three NICs on lines 2 to 4; what a test adds begins on line 5.
const UPLINK = '  - {ipaddr: 192.0.2.10, prefix: 24, mac: 52:54:00:00:00:01, gateway: 192.0.2.1}';
const NICS = [
  'if_list:',
  UPLINK,
  '  - {ipaddr: 10.0.1.1, prefix: 24, mac: 52:54:00:00:00:02}',
  '  - {ipaddr: 10.0.2.1, prefix: 24, mac: 52:54:00:00:00:03}',
];

const file = (...lines: string[]) => [...NICS, ...lines].join('\n');
const nics = (...lines: string[]) => file(...lines.map((fields) => `  - {${fields}}`));
const eips = (...lines: string[]) => file('eip_list:', ...lines.map((fields) => `  - {${fields}}`));
const forwards = (...lines: string[]) => file('port_forward_list:', ...lines.map((fields) => `  - {${fields}}`));
const routes = (...lines: string[]) => file('route_list:', ...lines.map((fields) => `  - {${fields}}`));
const snats = (...lines: string[]) => file('snat_list:', ...lines.map((fields) => `  - {${fields}}`));

type Case = { title: string; yaml: string; errors?: string[]; warnings?: string[] };

const cases: Case[] = [
  // NICs
  {
    title: 'a MAC is of one NIC, in any case of letters',
    yaml: nics(
      'ipaddr: 10.0.3.1, prefix: 24, mac: 52:54:00:aa:00:01',
      'ipaddr: 10.0.4.1, prefix: 24, mac: 52:54:00:AA:00:01',
    ),
    errors: ['6:41 if_list[4].mac: 52:54:00:aa:00:01 is already used by if_list[3].mac on line 5'],
  },
  {
    title: 'an address is of one NIC',
    yaml: nics('ipaddr: 10.0.2.1, prefix: 24, mac: 52:54:00:00:00:04'),
    errors: ['5:14 if_list[3].ipaddr: 10.0.2.1 is already used by if_list[2].ipaddr on line 4'],
  },
  {
    title: 'a bridge has one NIC',
    yaml: nics(
      'ipaddr: 10.0.3.1, prefix: 24, mac: 52:54:00:00:00:04, bridge: br0',
      'ipaddr: 10.0.4.1, prefix: 24, mac: 52:54:00:00:00:05, bridge: br0, bridge-type: linux',
    ),
    errors: ['6:68 if_list[4].bridge: br0 is already used by if_list[3].bridge on line 5'],
  },
  {
    title: 'networks of NICs do not overlap',
    yaml: nics(
      'ipaddr: 10.0.1.130, prefix: 25, mac: 52:54:00:00:00:04',
      'ipaddr: 10.1.0.1, prefix: 8, mac: 52:54:00:00:00:05',
    ),
    errors: [
      '5:14 if_list[3].ipaddr: network 10.0.1.128/25 overlaps 10.0.1.0/24 of if_list[1] on line 3',
      '6:14 if_list[4].ipaddr: network 10.0.0.0/8 overlaps 10.0.1.0/24 of if_list[1] on line 3',
    ],
  },
  {
    title: 'a gateway is another machine in the network of its NIC',
    yaml: nics(
      'ipaddr: 10.0.3.1, prefix: 24, mac: 52:54:00:00:00:04, gateway: 10.0.4.1',
      'ipaddr: 10.0.5.1, prefix: 24, mac: 52:54:00:00:00:05, gateway: 10.0.5.1',
    ),
    errors: [
      "5:69 if_list[3].gateway: must be in the NIC's network 10.0.3.0/24, is 10.0.4.1",
      "6:69 if_list[4].gateway: must be another machine, is 10.0.5.1, the NIC's own address",
    ],
    warnings: [
      '5:69 if_list[3].gateway: the uplink is if_list[0] on line 2: the default route by 10.0.4.1 only stands in for its own',
      '6:69 if_list[4].gateway: the uplink is if_list[0] on line 2: the default route by 10.0.5.1 only stands in for its own',
    ],
  },
  {
    title: 'the first and last address of a network are for no NIC, but in a /31 and /32 they are',
    yaml: nics(
      'ipaddr: 10.0.3.0, prefix: 24, mac: 52:54:00:00:00:04',
      'ipaddr: 10.0.4.3, prefix: 30, mac: 52:54:00:00:00:05',
      'ipaddr: 10.0.5.0, prefix: 31, mac: 52:54:00:00:00:06',
      'ipaddr: 10.0.5.2, prefix: 32, mac: 52:54:00:00:00:07',
    ),
    warnings: [
      '5:14 if_list[3].ipaddr: 10.0.3.0 is the network address of 10.0.3.0/24',
      '6:14 if_list[4].ipaddr: 10.0.4.3 is the broadcast address of 10.0.4.0/30',
    ],
  },
  {
    title: 'a bridge-type alone means nothing',
    yaml: nics('ipaddr: 10.0.3.1, prefix: 24, mac: 52:54:00:00:00:04, bridge_type: linux'),
    warnings: ['5:73 if_list[3].bridge_type: means nothing without bridge'],
  },
  {
    title: 'an MTU that is too small for IPv6 is a warning',
    yaml: nics(
      'ipaddr: 10.0.3.1, prefix: 24, mac: 52:54:00:00:00:04, mtu: 1279',
      'ipaddr: 10.0.4.1, prefix: 24, mac: 52:54:00:00:00:05, mtu: 1280',
    ),
    warnings: [
      '5:65 if_list[3].mtu: below 1280 the kernel takes IPv6 away from the NIC, with its addresses and routes, until it is larger again',
    ],
  },
  {
    title: 'an address that is to be kept is not ours',
    yaml: file(
      '  - {ipaddr: 10.0.3.1, prefix: 24, mac: 52:54:00:00:00:04, keep-addresses: [10.0.3.9, 10.0.3.1/24, 192.0.2.20]}',
      '  - {ipaddr: 10.0.4.1, prefix: 24, mac: 52:54:00:00:00:05, keep_addresses: [192.0.2.21/32, 192.0.2.22]}',
      'eip_list:',
      '  - {eip: 192.0.2.20, vm-ip: 10.0.1.5}',
      'port_forward_list:',
      '  - {eip: 192.0.2.21, protocol: tcp, port: 80, vm-port: 80, vm-ip: 10.0.1.5}',
      'snat_list:',
      '  - {source: 10.0.1.0/24, to: 192.0.2.22}',
    ),
    errors: [
      '5:87 if_list[3].keep-addresses[1]: must be an address of others, is 10.0.3.1/24, ours by if_list[3].ipaddr on line 5',
      '5:100 if_list[3].keep-addresses[2]: must be an address of others, is 192.0.2.20, ours by eip_list[0].eip on line 8',
      '6:77 if_list[4].keep_addresses[0]: must be an address of others, is 192.0.2.21/32, ours by port_forward_list[0].eip on line 10',
      '6:92 if_list[4].keep_addresses[1]: must be an address of others, is 192.0.2.22, ours by snat_list[0].to on line 12',
    ],
  },
  // Elastic IPs
  {
    title: 'an EIP is mapped once',
    yaml: eips('eip: 192.0.2.20, vm-ip: 10.0.1.5', 'eip: 192.0.2.20, vm-ip: 10.0.1.6'),
    errors: ['7:11 eip_list[1].eip: 192.0.2.20 is already used by eip_list[0].eip on line 6'],
  },
  {
    title: 'an EIP is not the address of a NIC, nor the gateway',
    yaml: eips('eip: 192.0.2.10, vm-ip: 10.0.1.5', 'eip: 10.0.2.1, vm-ip: 10.0.1.6', 'eip: 192.0.2.1, vm-ip: 10.0.1.7'),
    errors: [
      '6:11 eip_list[0].eip: 192.0.2.10 is already used by if_list[0].ipaddr on line 2',
      '7:11 eip_list[1].eip: 10.0.2.1 is already used by if_list[2].ipaddr on line 4',
      '8:11 eip_list[2].eip: 192.0.2.1 is already used by if_list[0].gateway on line 2',
    ],
  },
  {
    title: 'two EIPs on one VM are a warning: the first is its source address',
    yaml: eips('eip: 192.0.2.20, vm-ip: 10.0.1.5', 'eip: 192.0.2.21, vm_ip: 10.0.1.5'),
    warnings: [
      '7:30 eip_list[1].vm_ip: 10.0.1.5 has the EIP 192.0.2.20 of eip_list[0] on line 6 already: both reach it, the first is its source address',
    ],
  },
  {
    title: 'a VM is in a subnet or behind a route, and is not the router',
    yaml: file(
      'route_list:',
      '  - {dest: 172.16.0.0/16, via: 10.0.1.9}',
      'eip_list:',
      '  - {eip: 192.0.2.20, vm-ip: 172.16.1.1}',
      '  - {eip: 192.0.2.21, vm-ip: 172.17.1.1}',
      '  - {eip: 192.0.2.22, vm-ip: 192.0.2.99}',
      '  - {eip: 192.0.2.23, vm-ip: 10.0.2.1}',
    ),
    warnings: [
      '9:30 eip_list[1].vm-ip: 172.17.1.1 is in no subnet of if_list and behind no route of route_list',
      '10:30 eip_list[2].vm-ip: 192.0.2.99 is in no subnet of if_list and behind no route of route_list',
      "11:30 eip_list[3].vm-ip: 10.0.2.1 is the router's own address, if_list[2].ipaddr on line 4",
    ],
  },
  {
    title: "an outer address that is an uplink's network or broadcast address is a warning, each address once",
    yaml: file(
      '  - {ipaddr: 198.51.100.2, prefix: 31, mac: 52:54:00:00:00:04, gateway: 198.51.100.3}',
      '  - {ipaddr: 198.51.100.6, prefix: 30, mac: 52:54:00:00:00:05, gateway: 198.51.100.5}',
      'eip_list:',
      '  - {eip: 192.0.2.255, vm-ip: 10.0.1.5}',
      '  - {eip: 192.0.2.254, vm-ip: 10.0.1.6}',
      'port_forward_list:',
      '  - {eip: 192.0.2.0, protocal: tcp, port: 80, vm-port: 80, vm-ip: 10.0.1.5}',
      '  - {eip: 192.0.2.0, protocal: tcp, port: 81, vm-port: 81, vm-ip: 10.0.1.5}',
      'snat_list:',
      '  - {source: 10.0.1.0/25, to: 198.51.100.7}',
    ),
    warnings: [
      '5:73 if_list[3].gateway: the uplink is if_list[0] on line 2: the default route by 198.51.100.3 only stands in for its own',
      '6:73 if_list[4].gateway: the uplink is if_list[0] on line 2: the default route by 198.51.100.5 only stands in for its own',
      '8:11 eip_list[0].eip: 192.0.2.255 is the broadcast address of 192.0.2.0/24, the network of if_list[0] on line 2: no neighbour will send to it',
      '11:11 port_forward_list[0].eip: 192.0.2.0 is the network address of 192.0.2.0/24, the network of if_list[0] on line 2: no neighbour will send to it',
      '14:31 snat_list[0].to: 198.51.100.7 is the broadcast address of 198.51.100.4/30, the network of if_list[4] on line 6: no neighbour will send to it',
    ],
  },
  {
    title: 'an outer address in a subnet is a warning, its network and broadcast address too, said once',
    yaml: file(
      'eip_list:',
      '  - {eip: 10.0.1.50, vm-ip: 10.0.2.5}',
      '  - {eip: 10.0.2.255, vm-ip: 10.0.2.6}',
      'port_forward_list:',
      '  - {eip: 10.0.1.0, protocal: tcp, port: 80, vm-port: 80, vm-ip: 10.0.1.5}',
      'snat_list:',
      '  - {source: 10.0.1.0/25, to: 10.0.1.51}',
    ),
    warnings: [
      '6:11 eip_list[0].eip: 10.0.1.50 is in the network of if_list[1] on line 3, a subnet: it takes that address away from a VM there',
      '7:11 eip_list[1].eip: 10.0.2.255 is in the network of if_list[2] on line 4, a subnet: it takes that address away from a VM there',
      '9:11 port_forward_list[0].eip: 10.0.1.0 is in the network of if_list[1] on line 3, a subnet: it takes that address away from a VM there',
      '11:31 snat_list[0].to: 10.0.1.51 is in the network of if_list[1] on line 3, a subnet: it takes that address away from a VM there',
    ],
  },
  // Port forwards
  {
    title: "a forward may be on the uplink's own address, not on another NIC's and not on the gateway",
    yaml: forwards(
      'eip: 192.0.2.10, protocal: tcp, port: 80, vm-port: 80, vm-ip: 10.0.1.5',
      'eip: 10.0.1.1, protocal: tcp, port: 80, vm-port: 80, vm-ip: 10.0.1.5',
      'eip: 192.0.2.1, protocal: tcp, port: 80, vm-port: 80, vm-ip: 10.0.1.5',
    ),
    errors: [
      '7:11 port_forward_list[1].eip: 10.0.1.1 is already used by if_list[1].ipaddr on line 3',
      '8:11 port_forward_list[2].eip: 192.0.2.1 is already used by if_list[0].gateway on line 2',
    ],
  },
  {
    title: 'a range ends after it starts, and not past 65535 on the VM',
    yaml: forwards(
      'eip: 192.0.2.20, protocal: tcp, port: 80, end_port: 79, vm-port: 80, vm-ip: 10.0.1.5',
      'eip: 192.0.2.20, protocal: udp, port: 80, end_port: 90, vm-port: 65530, vm-ip: 10.0.1.5',
    ),
    errors: [
      '6:58 port_forward_list[0].end_port: must not be less than port 80, is 79',
      '7:71 port_forward_list[1].vm-port: must leave room for the range: 65530..65540 ends past 65535',
    ],
  },
  {
    title: 'a shifted range may be of any length',
    yaml: forwards('eip: 192.0.2.20, protocal: tcp, port: 1, end_port: 65000, vm-port: 500, vm-ip: 10.0.1.5'),
  },
  {
    title: 'forwards of one EIP and protocol do not overlap',
    yaml: forwards(
      'eip: 192.0.2.20, protocal: tcp, port: 80, end_port: 90, vm-port: 80, vm-ip: 10.0.1.5',
      'eip: 192.0.2.20, protocal: udp, port: 85, vm-port: 85, vm-ip: 10.0.1.5',
      'eip: 192.0.2.21, protocal: tcp, port: 85, vm-port: 85, vm-ip: 10.0.1.5',
      'eip: 192.0.2.20, protocal: TCP, port: 90, end_port: 99, vm-port: 90, vm-ip: 10.0.1.6',
      'eip: 192.0.2.20, protocal: tcp, port: 100, vm-port: 90, vm-ip: 10.0.1.6',
      'eip: 192.0.2.20, protocal: tcp, port: 80, vm-port: 90, vm-ip: 10.0.1.6',
    ),
    errors: [
      '9:44 port_forward_list[3].port: tcp 90..99 of 192.0.2.20 overlaps 80..90 of port_forward_list[0] on line 6',
      '11:44 port_forward_list[5].port: tcp 80 of 192.0.2.20 overlaps 80..90 of port_forward_list[0] on line 6',
    ],
  },
  {
    title: 'of a forward and a 1:1 mapping of the same EIP the mapping wins',
    yaml: file(
      'eip_list:',
      '  - {eip: 192.0.2.20, vm-ip: 10.0.1.5}',
      'port_forward_list:',
      '  - {eip: 192.0.2.20, protocal: tcp, port: 80, vm-port: 80, vm-ip: 10.0.1.6}',
    ),
    warnings: [
      '8:11 port_forward_list[0].eip: 192.0.2.20 is mapped 1:1 by eip_list[0] on line 6, which wins: this forward has no effect',
    ],
  },
  // Routes
  {
    title: 'a dest is given once, and is neither a network of a NIC nor the default route',
    yaml: routes(
      'dest: 172.16.0.0/16, via: 10.0.1.9',
      'dest: 172.16.0.0/16, via: 10.0.2.9',
      'dest: 10.0.2.0/24, via: 10.0.1.9',
      'dest: 0.0.0.0/0, via: 10.0.1.9',
    ),
    errors: [
      '7:12 route_list[1].dest: 172.16.0.0/16 is already used by route_list[0].dest on line 6',
      '8:12 route_list[2].dest: 10.0.2.0/24 is the own network of if_list[2] on line 4',
      "9:12 route_list[3].dest: must not be 0.0.0.0/0: the default route is the uplink's, if_list[0].gateway on line 2",
    ],
  },
  {
    title: 'a via is another machine in the network of a NIC',
    yaml: routes('dest: 172.16.0.0/16, via: 10.0.9.9', 'dest: 172.17.0.0/16, via: 10.0.1.1'),
    errors: [
      '6:32 route_list[0].via: must be in the network of a NIC of if_list, is 10.0.9.9',
      "7:32 route_list[1].via: must be another machine, is 10.0.1.1, the router's own if_list[1].ipaddr on line 3",
    ],
  },
  // Source NAT
  {
    title:
      "a source is given once, an address being a /32; it may take the uplink's address, not another NIC's or the gateway",
    yaml: snats(
      'source: 172.16.0.5, to: 192.0.2.10',
      'source: 172.16.0.5/32, to: masquerade',
      'source: 172.16.0.6, to: 10.0.1.1',
      'source: 172.16.0.7, to: 192.0.2.1',
    ),
    errors: [
      '7:14 snat_list[1].source: 172.16.0.5/32 is already used by snat_list[0].source on line 6',
      '8:30 snat_list[2].to: 10.0.1.1 is already used by if_list[1].ipaddr on line 3',
      '9:30 snat_list[3].to: 192.0.2.1 is already used by if_list[0].gateway on line 2',
    ],
  },
  {
    title: 'without an uplink, EIPs, forwards and source NAT have no effect, and a default route is allowed',
    yaml: file(
      'eip_list: [{eip: 192.0.2.20, vm-ip: 10.0.1.5}]',
      'port_forward_list: [{eip: 192.0.2.21, protocal: tcp, port: 80, vm-port: 80, vm-ip: 10.0.1.5}]',
      'snat_list: [{source: 10.0.1.0/24, to: none}]',
      'route_list: [{dest: 0.0.0.0/0, via: 10.0.1.9}]',
    ).replace(`${UPLINK}\n`, ''),
    warnings: [
      '4:11 eip_list: needs an uplink, a NIC with a gateway: without one it has no effect',
      '5:20 port_forward_list: needs an uplink, a NIC with a gateway: without one it has no effect',
      '6:12 snat_list: needs an uplink, a NIC with a gateway: without one it has no effect',
    ],
  },
  // Entries that were refused
  {
    title: 'rules still compare the entries that are right, but conclude nothing from those that are not',
    yaml: file(
      '  - {ipaddr: 10.0.3.1, prefix: 240, mac: 52:54:00:00:00:04}',
      'eip_list:',
      '  - {eip: 192.0.2.20, vm-ip: 10.0.3.5}',
      '  - {eip: 192.0.2.20, vm-ip: 10.0.3.6}',
    ),
    errors: [
      '5:32 if_list[3].prefix: must be a whole number from 1 to 32, is 240',
      '8:11 eip_list[1].eip: 192.0.2.20 is already used by eip_list[0].eip on line 7',
    ],
  },
];

for (const { title, yaml, errors = [], warnings = [] } of cases) {
  test(title, () => {
    assert.deepEqual({ errors: errorsOf(yaml), warnings: warningsOf(yaml) }, { errors, warnings });
  });
}

const note = (place: string, dest: string, source = '192.0.2.10') =>
  `${place} route_list[0].dest: hosts behind ${dest} leave by the uplink as those of their subnet do, with the source ${source} ` +
  `(1.0 kept their own): { source: ${dest}, to: none } in snat_list keeps it`;

describe('hosts behind a route through a subnet leave as it does: check notes it', () => {
  const route = (dest: string, ...more: string[]) => file('route_list:', `  - {dest: ${dest}, via: 10.0.1.9}`, ...more);
  const noted: [name: string, yaml: string, notes: string[]][] = [
    ['where the file does not speak of them', route('172.16.0.0/16'), [note('6:12', '172.16.0.0/16')]],
    [
      'where it speaks of some of them, or of others',
      route('172.16.0.0/16', 'snat_list: [{source: 172.16.0.0/17, to: none}, {source: 10.0.2.0/24, to: none}]'),
      [note('6:12', '172.16.0.0/16')],
    ],
    [
      'with the source that their subnet has',
      route('172.16.0.0/16', 'snat_list: [{source: 10.0.1.0/24, to: 192.0.2.40}]'),
      [note('6:12', '172.16.0.0/16', '192.0.2.40')],
    ],
    ['where the subnet is a part of it', route('10.0.0.0/16'), [note('6:12', '10.0.0.0/16')]],
  ];
  for (const [name, yaml, notes] of noted)
    it(name, () => assert.deepEqual([notesOf(yaml), warningsOf(yaml), errorsOf(yaml)], [notes, [], []]));

  const unsaid: [name: string, yaml: string][] = [
    ['snat_list names them', route('172.16.0.0/16', 'snat_list: [{source: 172.16.0.0/16, to: masquerade}]')],
    ['snat_list names a network around them', route('172.16.0.0/16', 'snat_list: [{source: 172.16.0.0/12, to: none}]')],
    ['nobody is translated', route('172.16.0.0/16', 'snat_list: []')],
    ['their subnet is not', route('172.16.0.0/16', 'snat_list: [{source: 10.0.1.0/24, to: none}]')],
    ['they are in a subnet', route('10.0.2.128/25')],
    ['an elastic IP is among them', route('172.16.0.0/16', 'eip_list: [{eip: 172.16.9.9, vm-ip: 10.0.1.5}]')],
    ['the uplink is among them', route('192.0.0.0/8')],
    ['there is no uplink', route('172.16.0.0/16').replace(`${UPLINK}\n`, '')],
    ['the route is through the uplink', route('172.16.0.0/16').replace('10.0.1.9', '192.0.2.9')],
    ['something is wrong with the file', route('172.16.0.0/16', 'eip_list: {}')],
  ];
  for (const [name, yaml] of unsaid) it(`but not where ${name}`, () => assert.deepEqual(notesOf(yaml), []));
});
