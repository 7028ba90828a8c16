// snat_list: what leaves by the uplink, and as whom.

import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import type { Config, Snat } from '../../src/config/config.ts';
import { elasticAddresses } from '../../src/network/elastic.ts';
import { config, desired, forward, SUBNET_A, UPLINK } from './fixtures.ts';
import { trace } from './packet-trace.ts';

const [A1, A2, B1, BEHIND_A] = ['192.0.2.5', '192.0.2.6', '192.0.2.70', '198.18.5.5'];
const V_EIP = '198.51.100.5';
const snats = (...entries: [source: string, to: string][]): Snat[] =>
  entries.map(([source, to]) => ({ source, to: to === 'masquerade' || to === 'none' ? to : { address: to } }));

/** What an outside host sees of a sender. */
function seen(wanted: Config, from: string, device: string): string {
  const fate = trace(desired(wanted), { from, to: '203.0.113.200', protocol: 'tcp', port: 443, in: device });
  return fate.replace('eth0: 203.0.113.200:443 sees ', '');
}

const cases: [string, Snat[] | undefined, { a1: string; a2: string; b1: string; behindA: string }][] = [
  [
    'absent: every subnet leaves as the uplink, and what is behind it',
    undefined,
    { a1: UPLINK.ipaddr, a2: UPLINK.ipaddr, b1: UPLINK.ipaddr, behindA: UPLINK.ipaddr },
  ],
  ['[]: none leaves as another', [], { a1: A1, a2: A2, b1: B1, behindA: BEHIND_A }],
  [
    'an entry for what is behind a subnet overrides that; the default stays',
    snats(['198.18.5.0/24', '198.51.100.40']),
    { a1: UPLINK.ipaddr, a2: UPLINK.ipaddr, b1: UPLINK.ipaddr, behindA: '198.51.100.40' },
  ],
  [
    'an entry for a subnet overrides the default, also for what is behind it',
    snats(['192.0.2.0/26', '198.51.100.40']),
    { a1: '198.51.100.40', a2: '198.51.100.40', b1: UPLINK.ipaddr, behindA: '198.51.100.40' },
  ],
  [
    'an entry for one address overrides the one for its subnet, in whatever order',
    snats(['192.0.2.0/26', '198.51.100.40'], ['192.0.2.6/32', 'none']),
    { a1: '198.51.100.40', a2: A2, b1: UPLINK.ipaddr, behindA: '198.51.100.40' },
  ],
  ['none keeps the source', snats(['192.0.2.0/26', 'none']), { a1: A1, a2: A2, b1: UPLINK.ipaddr, behindA: BEHIND_A }],
  [
    'masquerade takes the address of the uplink as it is',
    snats(['192.0.2.64/26', 'masquerade']),
    { a1: UPLINK.ipaddr, a2: UPLINK.ipaddr, b1: 'address of eth0', behindA: UPLINK.ipaddr },
  ],
  [
    'an entry for everything stands behind those of the subnets',
    snats(['0.0.0.0/0', '198.51.100.40']),
    { a1: UPLINK.ipaddr, a2: UPLINK.ipaddr, b1: UPLINK.ipaddr, behindA: '198.51.100.40' },
  ],
];

describe('snat_list', () => {
  for (const [name, list, expected] of cases)
    it(name, () => {
      const wanted = config({ snats: list, routes: [{ dest: '198.18.5.0/24', via: '192.0.2.9' }] });
      const found = {
        a1: seen(wanted, A1, 'eth1'),
        a2: seen(wanted, A2, 'eth1'),
        b1: seen(wanted, B1, 'eth2'),
        behindA: seen(wanted, BEHIND_A, 'eth1'),
      };
      assert.deepEqual(found, expected);
    });

  for (const [name, list] of cases)
    it(`an EIP is the source of its VM whatever it says (${name.split(':')[0]})`, () => {
      const wanted = config({ eips: [{ eip: V_EIP, vmIp: A2 }], snats: list });
      assert.equal(seen(wanted, A2, 'eth1'), V_EIP);
    });

  for (const [name, list] of cases)
    it(`VMs without an EIP reach that of others as the uplink whatever it says (${name.split(':')[0]})`, () => {
      const state = desired(config({ eips: [{ eip: V_EIP, vmIp: A2 }], snats: list }));
      const fate = trace(state, { from: A1, to: V_EIP, protocol: 'tcp', port: 22, in: 'eth1' });
      assert.equal(fate, `eth1: ${A2}:22 sees ${UPLINK.ipaddr}`);
    });
});

describe('the addresses that the uplink carries beside its own', () => {
  it('are EIPs, forwarded ones and those of snat_list, each once, in order', () => {
    const wanted = config({
      eips: [{ eip: '198.51.100.40', vmIp: A1 }],
      forwards: [
        'tcp 198.51.100.9:80 → 192.0.2.5:80',
        'udp 198.51.100.9:80 → 192.0.2.5:80',
        'tcp 203.0.113.10:81 → 192.0.2.5:80',
      ].map(forward),
      snats: snats(['192.0.2.0/26', '198.51.100.40'], ['192.0.2.64/26', '198.51.100.7'], ['198.18.0.0/24', 'none']),
    });
    assert.deepEqual(elasticAddresses(wanted, UPLINK), ['198.51.100.7', '198.51.100.9', '198.51.100.40']);
  });

  it('are all closed, those of snat_list too', () => {
    const state = desired(config({ snats: snats(['192.0.2.0/26', '198.51.100.7']) }));
    const fate = trace(state, { from: '203.0.113.200', to: '198.51.100.7', protocol: 'tcp', port: 22, in: 'eth0' });
    assert.equal(fate, 'dropped in INPUT');
  });

  it('do not hold the uplink itself when an entry of snat_list names it: its services stay', () => {
    const state = desired(config({ nics: [UPLINK, SUBNET_A], snats: snats(['192.0.2.0/26', UPLINK.ipaddr]) }));
    const fate = trace(state, { from: '203.0.113.200', to: UPLINK.ipaddr, protocol: 'tcp', port: 22, in: 'eth0' });
    assert.equal(fate, `the router: ${UPLINK.ipaddr}:22 sees 203.0.113.200`);
  });
});
