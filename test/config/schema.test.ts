import assert from 'node:assert/strict';
import { test } from 'node:test';
import * as z from 'zod/mini';
import type { Config } from '../../src/config/config.ts';
import { parseConfig } from '../../src/config/parse.ts';
import { fileSchema } from '../../src/config/schema.ts';
import { errorsOf, warningsOf } from './issues.ts';

const nic = { ipaddr: '192.0.2.10', prefix: '24', mac: '52:54:00:00:00:01', gateway: '192.0.2.1' };
const forward = { eip: '192.0.2.20', protocal: 'tcp', port: '80', 'vm-port': '80', 'vm-ip': '10.0.0.5' };

/** A configuration in which one value is as given; undefined leaves the key out. */
function fileWith(list: string, key: string, value: string | undefined): string {
  const entries: Record<string, Record<string, string>> = {
    if_list: nic,
    eip_list: { eip: '192.0.2.21', 'vm-ip': '10.0.0.6' },
    port_forward_list: forward,
    route_list: { dest: '172.16.0.0/16', via: '192.0.2.254' },
    snat_list: { source: '172.16.0.0/16', to: 'none' },
  };
  const { [key]: _, ...others } = entries[list] ?? {};
  const fields = Object.entries({ ...others, ...(value === undefined ? {} : { [key]: value }) });
  entries[list] = Object.fromEntries(fields);
  return Object.entries(entries)
    .flatMap(([name, entry]) => [
      `${name}:`,
      ...Object.entries(entry).map(([k, v], n) => `${n === 0 ? '  - ' : '    '}${k}: ${v}`),
    ])
    .join('\n');
}

const ADDRESS = 'must be an IPv4 address';
const UNICAST = 'must be an address that a machine can have, not one of 0.0.0.0/8, 127.0.0.0/8 or 224.0.0.0/3';
const MAC = 'must be a MAC address, six pairs of hex digits with colons';
const NAME = 'must be 1 to 64 letters, digits, spaces, dots, dashes or underscores, with no space at an end';
const BRIDGE = 'must be the name of a link: 1 to 15 letters, digits, dots, dashes or underscores, no dot or dash first';
const OF_OPEN_VSWITCH = 'must be another name than those that Open vSwitch has for itself, such as br-ex';
const NETWORK = 'must be a network, such as 192.0.2.0/24';

const refused: [list: string, key: string, value: string, message: string][] = [
  ['if_list', 'ipaddr', '192.0.2', `${ADDRESS}, is 192.0.2`],
  ['if_list', 'ipaddr', '192.0.2.256', `${ADDRESS}, is 192.0.2.256`],
  ['if_list', 'ipaddr', '192.0.2.010', `${ADDRESS}, is 192.0.2.010`],
  ['if_list', 'ipaddr', '192.0.2.10/24', `${ADDRESS}, is 192.0.2.10/24`],
  ['if_list', 'ipaddr', '2001:db8::1', `${ADDRESS}, is 2001:db8::1`],
  ['if_list', 'ipaddr', '"192.0.2.10 "', `${ADDRESS}, is "192.0.2.10 "`],
  ['if_list', 'ipaddr', '192.0', `${ADDRESS}, is 192.0`],
  ['if_list', 'ipaddr', '', `${ADDRESS}, is empty`],
  ['if_list', 'ipaddr', '{a: 1}', `${ADDRESS}, is a mapping`],
  ['if_list', 'ipaddr', '[192.0.2.10]', `${ADDRESS}, is a list`],
  ['if_list', 'ipaddr', 'true', `${ADDRESS}, is true`],
  ['if_list', 'ipaddr', '0.0.0.0', `${UNICAST}, is 0.0.0.0`],
  ['if_list', 'ipaddr', '127.0.0.1', `${UNICAST}, is 127.0.0.1`],
  ['if_list', 'ipaddr', '224.0.0.1', `${UNICAST}, is 224.0.0.1`],
  ['if_list', 'ipaddr', '255.255.255.255', `${UNICAST}, is 255.255.255.255`],
  ['if_list', 'prefix', '0', 'must be a whole number from 1 to 32, is 0'],
  ['if_list', 'prefix', '33', 'must be a whole number from 1 to 32, is 33'],
  ['if_list', 'prefix', '"33"', 'must be a whole number from 1 to 32, is "33"'],
  ['if_list', 'prefix', '24.5', 'must be a whole number from 1 to 32, is 24.5'],
  ['if_list', 'prefix', '"0x18"', 'must be a whole number from 1 to 32, is "0x18"'],
  ['if_list', 'prefix', '.nan', 'must be a whole number from 1 to 32, is .nan'],
  ['if_list', 'prefix', '255.255.255.0', 'must be a whole number from 1 to 32, is 255.255.255.0'],
  ['if_list', 'mac', '52:54:00:00:00', `${MAC}, is 52:54:00:00:00`],
  ['if_list', 'mac', '52-54-00-00-00-01', `${MAC}, is 52-54-00-00-00-01`],
  ['if_list', 'mac', '525400000001', `${MAC}, in quotes, is 525400000001`],
  ['if_list', 'mac', '00:00:00:00:00:00', 'must be the MAC address of a NIC, not zero, is 00:00:00:00:00:00'],
  [
    'if_list',
    'mac',
    'FF:ff:ff:ff:ff:ff',
    'must be the MAC address of one NIC, not multicast or broadcast, is FF:ff:ff:ff:ff:ff',
  ],
  [
    'if_list',
    'mac',
    '01:00:5e:00:00:01',
    'must be the MAC address of one NIC, not multicast or broadcast, is 01:00:5e:00:00:01',
  ],
  ['if_list', 'gateway', '', `${ADDRESS}, is empty`],
  ['if_list', 'name', '1', `${NAME}, in quotes, is 1`],
  ['if_list', 'name', '" a"', `${NAME}, is " a"`],
  ['if_list', 'name', '""', `${NAME}, is ""`],
  ['if_list', 'name', 'a'.repeat(65), `${NAME}, is ${'a'.repeat(40)}…`],
  ['if_list', 'mtu', '575', 'must be a whole number from 576 to 65535, is 575'],
  ['if_list', 'mtu', '65536', 'must be a whole number from 576 to 65535, is 65536'],
  ['if_list', 'bridge', 'sixteen-letters-', `${BRIDGE}, is sixteen-letters-`],
  ['if_list', 'bridge', '.', `${BRIDGE}, is .`],
  ['if_list', 'bridge', '"-br"', `${BRIDGE}, is "-br"`],
  ['if_list', 'bridge', 'br/0', `${BRIDGE}, is br/0`],
  ['if_list', 'bridge', 'all', 'must not be all, default or lo, is all'],
  ['if_list', 'bridge', 'ovs-system', `${OF_OPEN_VSWITCH}, is ovs-system`],
  ['if_list', 'bridge', 'ovs-netdev', `${OF_OPEN_VSWITCH}, is ovs-netdev`],
  ['if_list', 'bridge', 'vxlan_sys_4789', `${OF_OPEN_VSWITCH}, is vxlan_sys_4789`],
  ['if_list', 'bridge-type', 'ovn', 'must be ovs or linux, is ovn'],
  ['eip_list', 'eip', 'x', `${ADDRESS}, is x`],
  ['eip_list', 'vm-ip', '10.0.0.300', `${ADDRESS}, is 10.0.0.300`],
  ['port_forward_list', 'protocal', 'icmp', 'must be tcp or udp, is icmp'],
  ['port_forward_list', 'protocal', '6', 'must be tcp or udp, is 6'],
  ['port_forward_list', 'port', '0', 'must be a port from 1 to 65535, is 0'],
  ['port_forward_list', 'port', '65536', 'must be a port from 1 to 65535, is 65536'],
  ['port_forward_list', 'port', '-1', 'must be a port from 1 to 65535, is -1'],
  ['port_forward_list', 'port', '80-82', 'must be a port from 1 to 65535, is 80-82'],
  ['port_forward_list', 'end-port', 'x', 'must be a port from 1 to 65535, is x'],
  ['port_forward_list', 'vm-port', '1e9', 'must be a port from 1 to 65535, is 1e9'],
  ['route_list', 'dest', '172.16.0.0', `${NETWORK}, is 172.16.0.0`],
  ['route_list', 'dest', '172.16.0.0/33', `${NETWORK}, is 172.16.0.0/33`],
  ['route_list', 'dest', '172.16.0.0/016', `${NETWORK}, is 172.16.0.0/016`],
  ['route_list', 'dest', '172.16.0.1/16', 'must have no host bits: its network is 172.16.0.0/16, is 172.16.0.1/16'],
  ['route_list', 'dest', '224.0.0.0/4', `${UNICAST}, is 224.0.0.0/4`],
  ['route_list', 'via', 'eth0', `${ADDRESS}, is eth0`],
  ['snat_list', 'source', 'all', 'must be a network, such as 192.0.2.0/24, or an address, is all'],
  ['snat_list', 'source', '172.16.0.1/16', 'must have no host bits: its network is 172.16.0.0/16, is 172.16.0.1/16'],
  ['snat_list', 'to', 'None', 'must be an IPv4 address, masquerade or none, is None'],
  ['snat_list', 'to', '', 'must be an IPv4 address, masquerade or none, is empty'],
  ['snat_list', 'to', '127.0.0.1', `${UNICAST}, is 127.0.0.1`],
];

for (const [list, key, value, message] of refused) {
  test(`${list} refuses ${value === '' ? 'nothing' : value} as ${key}`, () => {
    const yaml = fileWith(list, key, value);
    const line =
      yaml.split('\n').findIndex((text) => text.includes(`${key}: ${value}`) && (value !== '' || text.endsWith(': '))) +
      1;
    const column = (yaml.split('\n')[line - 1] ?? '').indexOf(`${key}: `) + key.length + 3;
    assert.deepEqual(errorsOf(yaml), [`${line}:${column} ${list}[0].${key}: ${message}`]);
  });
}

for (const [list, key] of [
  ['if_list', 'ipaddr'],
  ['if_list', 'prefix'],
  ['if_list', 'mac'],
  ['eip_list', 'eip'],
  ['eip_list', 'vm-ip'],
  ['port_forward_list', 'port'],
  ['port_forward_list', 'vm-port'],
  ['route_list', 'via'],
  ['snat_list', 'to'],
] as const) {
  test(`an entry of ${list} needs ${key}`, () => {
    const yaml = fileWith(list, key, undefined);
    const line = yaml.split('\n').indexOf(`${list}:`) + 2;
    assert.deepEqual(errorsOf(yaml), [`${line}:5 ${list}[0]: needs ${key}`]);
  });
}

test('a forward without its protocol is told the key by its right name', () => {
  assert.match(errorsOf(fileWith('port_forward_list', 'protocal', undefined)).join(), /needs protocol$/);
});

const shellWords = [
  '$(reboot)',
  '`reboot`',
  'a; reboot',
  'a && b',
  'a|b',
  'a\nb',
  "a'b",
  'a"b',
  'a$b',
  'a>b',
  'a\\b',
  'a*',
  'ä',
  'a#',
  '~',
  '!',
];
const everyKey: [string, string][] = [
  ...['ipaddr', 'prefix', 'mac', 'gateway', 'name', 'mtu', 'bridge', 'bridge-type'].map((key): [string, string] => [
    'if_list',
    key,
  ]),
  ...['eip', 'vm-ip'].map((key): [string, string] => ['eip_list', key]),
  ...['eip', 'protocal', 'port', 'end_port', 'vm-port', 'vm-ip'].map((key): [string, string] => [
    'port_forward_list',
    key,
  ]),
  ...['dest', 'via'].map((key): [string, string] => ['route_list', key]),
  ...['source', 'to'].map((key): [string, string] => ['snat_list', key]),
];

for (const [list, key] of everyKey) {
  test(`${key} of ${list} takes nothing that a shell would act on, and no other type`, () => {
    for (const word of shellWords) {
      assert.equal(errorsOf(fileWith(list, key, JSON.stringify(word))).length, 1, word);
    }
    for (const other of ['null', 'true', '[]', '{}', '[a]', '1.5', '.inf', '-1', '1e400', '"a\\u0000"']) {
      assert.equal(errorsOf(fileWith(list, key, other)).length, 1, other);
    }
  });
}

test('keep-addresses takes a list of addresses, and says which of them is none', () => {
  const RULE = 'must be an IPv4 address, such as 192.0.2.5 or 192.0.2.5/32';
  for (const [written, ...messages] of [
    ['[]'],
    ['[10.0.0.5, 10.0.0.6/32, 10.0.0.7/24, 10.0.0.0/31]'],
    ['10.0.0.5', 'keep-addresses: must be a list of addresses, such as [192.0.2.5/32], is 10.0.0.5'],
    ['', 'keep-addresses: must be a list of addresses, such as [192.0.2.5/32], is empty'],
    ['{a: 1}', 'keep-addresses: must be a list of addresses, such as [192.0.2.5/32], is a mapping'],
    ['[x, 5]', `keep-addresses[0]: ${RULE}, is x`, `keep-addresses[1]: ${RULE}, is 5`],
    ['[10.0.0.5, [10.0.0.6]]', `keep-addresses[1]: ${RULE}, is a list`],
    ['[10.0.0.5/33]', `keep-addresses[0]: ${RULE}, is 10.0.0.5/33`],
    [
      '[10.0.0.0/24]',
      'keep-addresses[0]: must be an address, not the network or broadcast address of 10.0.0.0/24, is 10.0.0.0/24',
    ],
    [
      '[10.0.0.255/24]',
      'keep-addresses[0]: must be an address, not the network or broadcast address of 10.0.0.255/24, is 10.0.0.255/24',
    ],
    ['[224.0.0.18/32]', `keep-addresses[0]: ${UNICAST}, is 224.0.0.18/32`],
  ] as const)
    assert.deepEqual(
      errorsOf(fileWith('if_list', 'keep-addresses', written)).map((error) => error.replace(/^\S+ /, '')),
      messages.map((message) => `if_list[0].${message}`),
      written,
    );
});

test('every spelling, decimal strings and any case give one canonical Config', () => {
  const yaml = `
if_list:
  - {ipaddr: 192.0.2.10, prefix: "24", mac: 52:54:00:AB:CD:01, gateway: 192.0.2.1, name: public 1, mtu: "1450", bridge: br-ex}
  - {ipaddr: 10.0.0.1, prefix: 24, mac: 52:54:00:ab:cd:02, bridge: br1, bridge_type: linux, keep_addresses: [10.0.0.9/32]}
eip_list:
  - {eip: 192.0.2.20, vm_ip: 10.0.0.5}
port_forward_list:
  - {eip: 192.0.2.21, protocal: TCP, port: "80", end-port: 82, vm_port: 8080, vm_ip: 10.0.0.6}
  - {eip: 192.0.2.21, protocol: udp, port: 80, vm-port: 80, vm-ip: 10.0.0.6}
route_list:
  - {dest: 172.16.0.0/16, via: 10.0.0.2}
snat_list:
  - {source: 172.16.0.0/16, to: 192.0.2.30}
  - {source: 172.16.0.5, to: masquerade}
  - {source: 10.0.0.0/24, to: none}
from-uplink: 'drop'
`;
  const config: Config = {
    nics: [
      {
        ipaddr: '192.0.2.10',
        prefix: 24,
        mac: '52:54:00:ab:cd:01',
        gateway: '192.0.2.1',
        name: 'public 1',
        mtu: 1450,
        bridge: { name: 'br-ex', type: 'ovs' },
      },
      {
        ipaddr: '10.0.0.1',
        prefix: 24,
        mac: '52:54:00:ab:cd:02',
        bridge: { name: 'br1', type: 'linux' },
        keepAddresses: ['10.0.0.9/32'],
      },
    ],
    eips: [{ eip: '192.0.2.20', vmIp: '10.0.0.5' }],
    forwards: [
      { eip: '192.0.2.21', protocol: 'tcp', port: 80, endPort: 82, vmPort: 8080, vmIp: '10.0.0.6' },
      { eip: '192.0.2.21', protocol: 'udp', port: 80, endPort: 80, vmPort: 80, vmIp: '10.0.0.6' },
    ],
    routes: [{ dest: '172.16.0.0/16', via: '10.0.0.2' }],
    snats: [
      { source: '172.16.0.0/16', to: { address: '192.0.2.30' } },
      { source: '172.16.0.5/32', to: 'masquerade' },
      { source: '10.0.0.0/24', to: 'none' },
    ],
    fromUplink: 'drop',
  };
  assert.deepEqual(parseConfig(yaml), { ok: true, config, warnings: [], notes: [] });
});

test('two spellings of one key in one entry are an error', () => {
  const yaml = 'if_list: []\neip_list:\n  - eip: 192.0.2.20\n    vm-ip: 10.0.0.5\n    vm_ip: 10.0.0.5\n';
  assert.deepEqual(errorsOf(yaml), ['5:5 eip_list[0].vm_ip: is the same key as vm-ip on line 4']);
});

test('an unknown key is an error at top level and a warning below, with the key that was meant', () => {
  const yaml =
    'if_list: []\nelp_list: []\nthings: []\nroute_list:\n  - {dest: 172.16.0.0/16, vai: 10.0.0.1, __proto__: 1}\n';
  assert.deepEqual(errorsOf(yaml), [
    '2:1 elp_list: is an unknown key, did you mean eip_list',
    '3:1 things: is an unknown key, known are if_list, eip_list, port_forward_list, route_list, snat_list, from-uplink, pci-rescan',
    '5:5 route_list[0]: needs via',
  ]);
  assert.deepEqual(warningsOf(yaml), [
    '5:27 route_list[0].vai: is an unknown key, did you mean via',
    '5:42 route_list[0].__proto__: is an unknown key, known are dest, via',
  ]);
});

for (const list of ['if_list', 'eip_list', 'port_forward_list', 'route_list', 'snat_list']) {
  test(`${list} must be a list of mappings`, () => {
    const file = (value: string) => `${list === 'if_list' ? '' : 'if_list: []\n'}${list}: ${value}`;
    const [line, column] = [list === 'if_list' ? 1 : 2, list.length + 3];
    const place = `${line}:${column} ${list}`;
    assert.deepEqual(errorsOf(file('')), [`${place}: must be a list, is empty: write ${list}: []`]);
    assert.deepEqual(errorsOf(file('~')), [`${place}: must be a list, is ~: write ${list}: []`]);
    assert.deepEqual(errorsOf(file('{}')), [`${place}: must be a list, is a mapping`]);
    assert.deepEqual(errorsOf(file('7')), [`${place}: must be a list, is 7`]);
    assert.match(errorsOf(file('[~]')).join(), /\[0\]: must be a mapping with the keys \w+, .+; is ~$/);
    assert.match(errorsOf(file('[7, []]')).join(), /\[0\]: .*; is 7,.*\[1\]: .*; is a list$/);
  });
}

const noSetting: [value: string, is: string][] = [
  ['', 'empty'],
  ['null', 'null'],
  ['no', 'no'],
  ['false', 'false'],
  ['Drop', 'Drop'],
  ['7', '7'],
  ['[drop]', 'a list'],
  ['{drop: true}', 'a mapping'],
];
for (const [value, is] of noSetting)
  test(`from-uplink must be drop or forward, not ${is}`, () => {
    assert.deepEqual(errorsOf(`if_list: []\nfrom-uplink: ${value}\n`), [
      `2:14 from-uplink: must be drop or forward, is ${is}`,
    ]);
  });

test('pci-rescan is true or false, and true where it is not said', () => {
  for (const [value, said] of [
    ['false', false],
    ['true', undefined],
  ] as const) {
    const parsed = parseConfig(`if_list: []\npci-rescan: ${value}\n`);
    assert.equal(parsed.ok && parsed.config.pciRescan, said);
  }
  for (const value of ['no', '0', "'false'"])
    assert.deepEqual(errorsOf(`if_list: []\npci-rescan: ${value}\n`), [
      `2:13 pci-rescan: must be true or false, is ${value}`,
    ]);
});

test('from-uplink has one spelling, and is given once', () => {
  assert.deepEqual(errorsOf('if_list: []\nfrom_uplink: drop\n'), [
    '2:1 from_uplink: is an unknown key, did you mean from-uplink',
  ]);
  assert.deepEqual(errorsOf('if_list: []\nfrom-uplink: drop\nfrom-uplink: forward\n'), [
    '3:1 from-uplink: is already given on line 2',
  ]);
});

test('an absent list is empty, but source NAT tells absent from empty', () => {
  const empty = { nics: [], eips: [], forwards: [], routes: [], fromUplink: 'forward' };
  assert.deepEqual(parseConfig('if_list: []'), {
    ok: true,
    config: { ...empty, snats: undefined },
    warnings: [],
    notes: [],
  });
  assert.deepEqual(parseConfig('if_list: []\nsnat_list: []'), {
    ok: true,
    config: { ...empty, snats: [] },
    warnings: [],
    notes: [],
  });
});

test('the schema describes every key for editors', () => {
  const json = z.toJSONSchema(fileSchema, { io: 'input' });
  assert.deepEqual(json.required, ['if_list']);
  for (const [name, list] of Object.entries(json.properties ?? {})) {
    assert.ok(typeof list === 'object' && list.description, name);
    const { properties = {} } = (list.items ?? {}) as { properties?: Record<string, { description?: string }> };
    for (const [key, value] of Object.entries(properties)) assert.ok(value.description, `${name}.${key}`);
  }
});
