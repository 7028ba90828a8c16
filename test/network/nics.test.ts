import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { bindNics, isNic, type ObservedLink } from '../../src/network/nics.ts';
import { link, SUBNET_A, SUBNET_B, UPLINK } from './fixtures.ts';

describe('what counts as a NIC', () => {
  const kinds: [string | undefined, boolean][] = [
    [undefined, true],
    ['veth', true],
    ['bond', false],
    ['team', false],
    ['bridge', false],
    ['vlan', false],
    ['macvlan', false],
    ['ipvlan', false],
    ['dummy', false],
    ['tun', false],
    ['openvswitch', false],
    ['vrf', false],
  ];
  for (const [kind, expected] of kinds)
    it(`a link of ${kind === undefined ? 'no kind of the kernel, as hardware is,' : `kind ${kind}`} ${expected ? 'is one' : 'is none'}`, () => {
      assert.equal(isNic(link('eth0', kind === undefined ? {} : { kind })), expected);
    });

  it('a link that is not Ethernet is none', () => {
    assert.equal(isNic(link('ib0', { ethernet: false })), false);
  });

  const names: [string, boolean][] = [
    ['eth0', true],
    ['enp0s3f1np0', true],
    ['eth0.5', true],
    ['en_0-1@x', true],
    ['abcdefghijklmno', true],
    ['-x', false],
    ['.x', false],
    ['e th0', false],
    ['eth0;reboot', false],
    ["eth'0", false],
    ['$(id)', false],
    ['eth"0', false],
    ['eth\n0', false],
    ['éth0', false],
    // iptables takes a + at the end for "and everything that begins so".
    ['eth+', false],
  ];
  for (const [device, expected] of names)
    it(`a NIC named ${JSON.stringify(device)} ${expected ? 'can' : 'cannot'} be used: its name stands in rules and sourced files`, () => {
      assert.equal(isNic(link(device)), expected);
    });
});

describe('binding NICs to links', () => {
  const { mac } = UPLINK;
  const bindOne = (...links: ObservedLink[]) => {
    const { bound, pending, broken } = bindNics([UPLINK], links);
    return bound[0]?.device ?? broken[0]?.reason ?? (pending.length === 1 ? 'pending' : assert.fail());
  };

  const cases: [string, ObservedLink[], string][] = [
    ['one that is not there is pending', [link('eth1')], 'pending'],
    ['the MAC decides, not the name', [link('eth7', { mac }), link('eth0', { mac: '02:00:00:00:00:09' })], 'eth7'],
    [
      'a bond that took the MAC of its port is not it',
      [link('bond0', { mac, kind: 'bond' }), link('eth0', { mac, master: 'bond0' })],
      'eth0',
    ],
    ['a VLAN above it is not it', [link('eth0.5', { mac, kind: 'vlan' }), link('eth0', { mac })], 'eth0'],
    ['a macvlan above it is not it', [link('mv0', { mac, kind: 'macvlan' }), link('eth0', { mac })], 'eth0'],
    [
      'a bridge that took its MAC is not it',
      [link('br0', { mac, kind: 'bridge' }), link('eth0', { mac, master: 'br0' })],
      'eth0',
    ],
    ['a bridge alone with its MAC leaves it pending', [link('br0', { mac, kind: 'bridge' })], 'pending'],
    [
      'of the ports of a bond the one that came with the MAC is it',
      [link('eth0', { mac }), link('eth1', { mac, permanentMac: '02:00:00:00:00:01' })],
      'eth0',
    ],
    [
      'a NIC whose MAC was changed is found by the one it came with',
      [link('eth0', { mac: '02:00:00:00:00:77', permanentMac: mac })],
      'eth0',
    ],
    [
      'the MAC in use counts where no NIC came with it',
      [link('eth0', { mac, permanentMac: '02:00:00:00:00:77' })],
      'eth0',
    ],
    [
      'two that came with one MAC are ambiguous: neither is used',
      [link('eth0', { mac }), link('eth8', { mac })],
      'eth0 and eth8 have the same MAC: give one of them another',
    ],
    ...['eth;0', '-foo', 'a+', 'é', 'q"q', '.x'].map((name): [string, ObservedLink[], string] => [
      `one named ${name} is named, with what is wrong with it`,
      [link(name, { mac })],
      `its name ${name} cannot stand in rules and files: letters, digits, _ . @ and - can, with a letter, a digit or _ in front; give it another: ip link set dev NAME name ANOTHER`,
    ]),
    [
      'one whose name cannot be used does not stand in the way of one whose name can',
      [link('a+', { mac }), link('eth0', { mac })],
      'eth0',
    ],
  ];
  for (const [name, links, expected] of cases)
    it(name, () => {
      assert.equal(bindOne(...links), expected);
    });

  it('each NIC is bound, pending or broken, in the order of the file, and keeps what the file says of it', () => {
    const nics = [SUBNET_B, UPLINK, SUBNET_A];
    const links = [link('eth0'), link('eth1'), link('eth8', { mac: SUBNET_A.mac })];
    assert.deepEqual(bindNics(nics, links), {
      bound: [{ ...UPLINK, device: 'eth0' }],
      pending: [SUBNET_B],
      broken: [{ nic: SUBNET_A, reason: 'eth1 and eth8 have the same MAC: give one of them another' }],
      doubled: [],
      held: [],
    });
  });

  describe('of two with one MAC', () => {
    const [one, other] = [link('eth0', { mac, index: 2 }), link('eth8', { mac, index: 9 })];
    it('the one that it was on before is it still, and the other one is named', () => {
      for (const links of [
        [one, other],
        [other, one],
      ])
        assert.deepEqual(bindNics([UPLINK], links, new Map([[mac, { index: 2, device: 'eth8' }]])), {
          bound: [{ ...UPLINK, device: 'eth0' }],
          pending: [],
          broken: [],
          doubled: [{ nic: { ...UPLINK, device: 'eth0' }, others: ['eth8'] }],
          held: [],
        });
    });
    it('neither is where it was on another before', () => {
      assert.equal(bindNics([UPLINK], [one, other], new Map([[mac, { index: 5, device: 'eth0' }]])).broken.length, 1);
    });
    it('after a boot the one with the name that it had is it still', () => {
      const before = (device: string) => new Map([[mac, { index: undefined, device }]]);
      assert.deepEqual(bindNics([UPLINK], [one, other], before('eth8')).bound, [{ ...UPLINK, device: 'eth8' }]);
      assert.equal(bindNics([UPLINK], [one, other], before('eth5')).broken.length, 1);
    });
    it('the upper one of a pair for failover is it, whatever its MACs and its name', () => {
      const [lower, standby] = [link('eth8', { mac, master: 'eth0' }), link('eth9', { mac, master: 'eth0' })];
      const elsewhere = '02:00:00:00:00:77';
      for (const [what, upper, ...below] of [
        ['eth0', one, lower],
        ['eth0', one, lower, standby],
        ['eth0', link('eth0', { mac, permanentMac: elsewhere }), lower],
        ['eth0', one, link('eth8', { mac: elsewhere, permanentMac: mac, master: 'eth0' })],
      ] as const)
        for (const links of [
          [upper, ...below],
          [...below, upper],
        ])
          assert.equal(bindOne(...links), what);
      assert.match(bindOne(link('a+', { mac }), link('eth8', { mac, master: 'a+' })), /^its name a\+ cannot stand/);
    });
  });
});
