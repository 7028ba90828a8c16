// Who is inside: the subnets, and what is behind routes through them.

import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { formatNetwork } from '../../src/base/ipv4.ts';
import type { Config } from '../../src/config/config.ts';
import { insideNetworks } from '../../src/config/inside.ts';
import { config, SECOND_UPLINK, SUBNET_A, SUBNET_B, UPLINK } from './fixtures.ts';

/** A is 192.0.2.0/26, B is 192.0.2.64/26, the uplink is in 203.0.113.0/24. */
const inside = (change: Partial<Config>): string[] =>
  insideNetworks(config(change)).map(
    ({ network, subnet }) => `${formatNetwork(network)} ${subnet === SUBNET_A ? 'A' : subnet === SUBNET_B ? 'B' : '?'}`,
  );
const SUBNETS = ['192.0.2.0/26 A', '192.0.2.64/26 B'];
const [BY_A, BY_B, BY_UPLINK] = ['192.0.2.9', '192.0.2.70', '203.0.113.9'];

describe('inside', () => {
  it('are the networks of NICs without a gateway', () => {
    assert.deepEqual(inside({}), SUBNETS);
    assert.deepEqual(inside({ nics: [UPLINK, SECOND_UPLINK] }), []);
  });

  it('is what is behind a route through one of them, in the order of the file', () => {
    const routes = [
      { dest: '198.18.5.0/24', via: BY_B },
      { dest: '10.0.0.0/8', via: BY_A },
      { dest: '10.7.0.0/16', via: BY_B },
    ];
    assert.deepEqual(inside({ routes }), [...SUBNETS, '198.18.5.0/24 B', '10.0.0.0/8 A', '10.7.0.0/16 B']);
    assert.deepEqual(inside({ routes, nics: [SUBNET_A] }), ['192.0.2.0/26 A', '10.0.0.0/8 A']);
  });

  it('is not what is behind a route through the uplink, or through nothing', () => {
    const routes = [
      { dest: '198.18.5.0/24', via: BY_UPLINK },
      { dest: '198.18.6.0/24', via: '198.18.9.9' },
    ];
    assert.deepEqual(inside({ routes }), SUBNETS);
  });

  const out: [what: string, dest: string, change?: Partial<Config>][] = [
    ['the network of an uplink', '203.0.0.0/8'],
    ['a part of it', '203.0.113.128/25'],
    ['the network of another uplink', '192.0.2.128/25', { nics: [UPLINK, SUBNET_A, SECOND_UPLINK] }],
    ['an EIP', '198.51.100.0/24', { eips: [{ eip: '198.51.100.255', vmIp: '192.0.2.5' }] }],
    [
      'the EIP of a forward',
      '198.51.100.0/24',
      {
        forwards: [{ eip: '198.51.100.0', protocol: 'tcp', port: 80, endPort: 80, vmPort: 80, vmIp: '192.0.2.5' }],
      },
    ],
    [
      'an address of snat_list',
      '198.51.100.7/32',
      { snats: [{ source: '192.0.2.0/26', to: { address: '198.51.100.7' } }] },
    ],
    ['everything', '0.0.0.0/0'],
    ['one half of everything', '0.0.0.0/1'],
    ['the other half', '128.0.0.0/1'],
  ];
  for (const [what, dest, change] of out)
    it(`is not a dest that has ${what} in it`, () => {
      assert.deepEqual(inside({ nics: [UPLINK, SUBNET_A], ...change, routes: [{ dest, via: BY_A }] }), [
        '192.0.2.0/26 A',
      ]);
    });

  it('is a dest beside elastic IPs', () => {
    const eips = ['198.51.100.255', '198.51.102.0'].map((eip) => ({ eip, vmIp: '192.0.2.5' }));
    assert.deepEqual(inside({ eips, routes: [{ dest: '198.51.101.0/24', via: BY_A }] }), [
      ...SUBNETS,
      '198.51.101.0/24 A',
    ]);
  });
});
