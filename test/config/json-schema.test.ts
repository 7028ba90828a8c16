import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { Ajv2020 } from 'ajv/dist/2020.js';
import { parse } from 'yaml';
import { jsonSchema } from '../../src/config/json-schema.ts';
import { parseConfig } from '../../src/config/parse.ts';

const valid = new Ajv2020({ strict: false, validateFormats: false }).compile(jsonSchema());

const nic = "{ ipaddr: 203.0.113.37, prefix: 24, mac: '52:54:84:00:08:46', gateway: 203.0.113.1 }";
const file = (lists: string) => `if_list:\n  - ${nic}\n${lists}`;

const right: [name: string, yaml: string][] = [
  ['no NIC', 'if_list: []'],
  ['an EIP', file('eip_list: [{ eip: 198.51.100.1, vm-ip: 10.0.0.1 }]')],
  ['an EIP in the other spelling', file('eip_list: [{ eip: 198.51.100.1, vm_ip: 10.0.0.1 }]')],
  ['numbers in quotes', file('').replace('prefix: 24', 'prefix: "24"')],
  [
    'a forward in the old spelling',
    file(
      'port_forward_list: [{ eip: 198.51.100.1, protocal: TCP, port: 80, end-port: 82, vm_port: 80, vm_ip: 10.0.0.1 }]',
    ),
  ],
  [
    'a route and source NAT',
    file('route_list: [{ dest: 10.0.0.0/8, via: 203.0.113.9 }]\nsnat_list: [{ source: 10.0.0.0/8, to: none }]'),
  ],
  ['new connections from the uplink', file('from-uplink: drop')],
];
const wrong: [name: string, yaml: string][] = [
  ['no if_list', 'eip_list: []'],
  ['a misspelt list', file('eip_lists: []')],
  ['a list that is null', file('eip_list:')],
  ['no address', file('eip_list: [{ eip: 198.51.100.1 }]')],
  ['an address of five parts', file('eip_list: [{ eip: 198.51.100.1.1, vm-ip: 10.0.0.1 }]')],
  ['a prefix of 33', file('').replace('prefix: 24', 'prefix: 33')],
  ['a MAC of five pairs', file('').replace('52:54:84:00:08:46', '52:54:84:00:08')],
  ['from-uplink that is null', file('from-uplink:')],
  ['from-uplink that is a list', file('from-uplink: [drop]')],
  ['from-uplink with a value of its own', file('from-uplink: accept')],
  ['from-uplink in another spelling', file('from_uplink: drop')],
  [
    'a protocol of its own',
    file('port_forward_list: [{ eip: 198.51.100.1, protocol: icmp, port: 80, vm-port: 80, vm-ip: 10.0.0.1 }]'),
  ],
];

describe('the JSON Schema', () => {
  for (const [name, yaml] of right)
    it(`takes what check takes: ${name}`, () => {
      assert.deepEqual([parseConfig(yaml).ok, valid(parse(yaml))], [true, true]);
    });
  for (const [name, yaml] of wrong)
    it(`refuses what check refuses: ${name}`, () => {
      assert.deepEqual([parseConfig(yaml).ok, valid(parse(yaml))], [false, false]);
    });
  it('describes every key, with an example', () => {
    const { properties } = jsonSchema() as {
      properties: Record<string, Described & { items?: { properties: Record<string, Described> } }>;
    };
    type Described = { description?: string; examples?: unknown[] };
    for (const [list, { description, examples, items }] of Object.entries(properties)) {
      assert.ok(description && (items ?? examples), list);
      if (items === undefined) continue;
      for (const [key, value] of Object.entries(items.properties))
        assert.ok(value.description && value.examples, `${list}.${key}`);
    }
  });
});
