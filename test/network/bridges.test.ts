import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { bindBridges, carriedOut, deadPorts, type OpenVSwitch, withoutGiven } from '../../src/network/bridges.ts';
import type { Foreign } from '../../src/network/foreign.ts';
import type { ObservedLink } from '../../src/network/nics.ts';
import type { BridgeType, Port } from '../../src/network/state.ts';
import { LINKS, link, UPLINK } from './fixtures.ts';

const silent: OpenVSwitch = { silent: 'it does not answer' };
const port = (device: string, bridge: string, type: BridgeType): Port => ({ device, bridge, type });

function bind(
  type: BridgeType | undefined,
  { links = LINKS, ovs, recorded = [] }: { links?: readonly ObservedLink[]; ovs?: OpenVSwitch; recorded?: Port[] } = {},
) {
  const nic = { ...UPLINK, device: 'eth0', ...(type !== undefined && { bridge: { name: 'br-ex', type } }) };
  const { binding, waiting } = bindBridges(
    { bound: [nic], pending: [], broken: [], doubled: [], held: [] },
    { links, ovs },
    recorded,
  );
  return [binding.bound[0]?.bridge?.name, waiting.map(({ reason }) => reason)];
}

const master = (name: string, kind: string) => [link('eth0', { master: name }), link(name, { mac: UPLINK.mac, kind })];

describe('a NIC with a bridge', () => {
  it('is bound to it where nothing is in the way', () => {
    assert.deepEqual(bind('linux'), ['br-ex', []]);
    assert.deepEqual(bind('ovs', { ovs: { bridges: [] } }), ['br-ex', []]);
    assert.deepEqual(bind('linux', { links: master('br-ex', 'bridge') }), ['br-ex', []]);
    assert.deepEqual(
      bind('ovs', {
        links: master('ovs-system', 'openvswitch'),
        ovs: { bridges: [{ name: 'br-ex', ports: ['eth0'] }] },
      }),
      ['br-ex', []],
    );
  });

  it('has no bridge while Open vSwitch is silent', () => {
    assert.deepEqual(bind('ovs', { ovs: silent }), [
      undefined,
      ['bridge br-ex is pending, and its addresses are on eth0 until then: Open vSwitch is silent: it does not answer'],
    ]);
  });

  it('stays on it where it was already, with the key or without', () => {
    const found = { links: [...LINKS, link('br-ex')], ovs: silent, recorded: [port('eth0', 'br-ex', 'ovs')] };
    const stays = ['eth0 stays as it is, a port of br-ex: Open vSwitch is silent: it does not answer'];
    assert.deepEqual(bind('ovs', found), ['br-ex', stays]);
    assert.deepEqual(bind(undefined, found), ['br-ex', stays]);
  });

  it('may come from another bridge that we put it on', () => {
    const recorded = [port('eth0', 'br0', 'linux')];
    assert.deepEqual(bind('linux', { links: master('br0', 'bridge'), recorded }), ['br-ex', []]);
  });

  describe('without the key', () => {
    const held = (found: { links?: readonly ObservedLink[]; ovs?: OpenVSwitch; recorded?: Port[] }) => {
      const { links = LINKS, ovs, recorded = [] } = found;
      const nics = { bound: [{ ...UPLINK, device: 'eth0' }], pending: [], broken: [], doubled: [], held: [] };
      const { binding } = bindBridges(nics, { links, ovs }, recorded);
      return [binding.bound.length, ...binding.held.map(({ reason }) => reason)];
    };

    it('is held where it belongs to somebody else, and what to say or do is said', () => {
      const linux =
        'somebody made it a port of the bridge br0, which takes what comes in by it: say bridge: br0 and bridge-type: linux where that is meant, or take it out with ip link set dev eth0 nomaster';
      assert.deepEqual(held({ links: master('br0', 'bridge') }), [1, linux]);
      assert.deepEqual(held({ ovs: { bridges: [{ name: 'br0', ports: ['eth0'] }] } }), [
        1,
        'somebody made it a port of the bridge br0, which takes what comes in by it: say bridge: br0 and bridge-type: ovs where that is meant, or take it out with ovs-vsctl del-port br0 eth0',
      ]);
      assert.deepEqual(held({ links: master('ovs-system', 'openvswitch'), ovs: silent }), [
        1,
        'somebody made it a port of Open vSwitch, which does not say of which bridge: say bridge: NAME where that is meant, or take it out with ovs-vsctl del-port eth0',
      ]);
      for (const [name, kind] of [
        ['bond0', 'bond'],
        ['team0', 'team'],
        ['vrf0', 'vrf'],
      ] as const)
        assert.deepEqual(held({ links: master(name, kind) }), [
          1,
          `it belongs to ${name}, which takes what comes in by it: take it out with ip link set dev eth0 nomaster`,
        ]);
    });

    it('is held also where others took it from where we had put it', () => {
      const ours = { recorded: [port('eth0', 'br-ex', 'linux')] };
      const [, reason = ''] = held({ links: master('br0', 'bridge'), ...ours });
      assert.match(String(reason), /^somebody made it a port of the bridge br0, /);
      const [, bond = ''] = held({ links: master('bond0', 'bond'), ...ours });
      assert.match(String(bond), /^it belongs to bond0, /);
    });

    it('is not where it is free, or where we put it', () => {
      assert.deepEqual(held({}), [1]);
      assert.deepEqual(
        held({
          links: master('ovs-system', 'openvswitch'),
          ovs: silent,
          recorded: [port('eth0', 'br-ex', 'ovs')],
        }),
        [1],
      );
      assert.deepEqual(held({ links: master('br0', 'bridge'), recorded: [port('eth0', 'br0', 'linux')] }), [1]);
    });
  });

  const FAULTS: [what: string, type: BridgeType, found: Parameters<typeof bind>[1], message: RegExp][] = [
    [
      'a bridge that is not ours',
      'linux',
      { links: master('br0', 'bridge') },
      /\(eth0\): is a port of the bridge br0 already: take it out with ip link set dev eth0 nomaster, or say bridge: br0 and bridge-type: linux$/,
    ],
    [
      'a bridge of Open vSwitch that is not ours',
      'ovs',
      { ovs: { bridges: [{ name: 'br0', ports: ['eth0'] }] } },
      /is a port of the bridge br0 already: take it out with ovs-vsctl del-port br0 eth0, or say/,
    ],
    [
      'a bond',
      'linux',
      { links: master('bond0', 'bond') },
      /\(eth0\): belongs to bond0: take it out with ip link set dev eth0 nomaster, or take bridge away$/,
    ],
    [
      'a Linux bridge where one of Open vSwitch is asked for',
      'ovs',
      { links: [...LINKS, link('br-ex', { kind: 'bridge' })], ovs: { bridges: [] } },
      /br-ex is there as a Linux bridge: say bridge-type: linux, or remove it with ip link delete br-ex$/,
    ],
    [
      'another link under its name',
      'linux',
      { links: [...LINKS, link('br-ex', { kind: 'openvswitch' })] },
      /br-ex is there and is no Linux bridge: choose another name, or another bridge-type$/,
    ],
    [
      'another link under the name of one of Open vSwitch',
      'ovs',
      { links: [...LINKS, link('br-ex', { kind: 'veth' })], ovs: { bridges: [] } },
      /br-ex is there and is no bridge of Open vSwitch: choose another name$/,
    ],
  ];
  for (const [what, type, found, message] of FAULTS)
    it(`is refused (65), with the cure: ${what}`, () => {
      assert.throws(() => bind(type, found), { status: 65, message });
    });
});

it('a port without a carrier is seen', () => {
  const links = [link('eth0', { noCarrier: true }), link('eth1')];
  const ports = [port('eth0', 'br0', 'linux'), port('eth1', 'br0', 'linux')];
  assert.deepEqual(deadPorts(ports, links), [ports[0]]);
});

describe('the database of Open vSwitch', () => {
  const found: OpenVSwitch = { bridges: [{ name: 'br-ex', ports: ['eth0'] }] };

  it('is believed where one of its bridges is there, or it names none', () => {
    assert.equal(carriedOut(found, [link('br-ex')]), found);
    assert.deepEqual(carriedOut({ bridges: [] }, []), { bridges: [] });
    assert.equal(carriedOut(silent, []), silent);
  });

  it('is not where nobody carries it out', () => {
    assert.deepEqual(carriedOut(found, LINKS), {
      silent: 'its database names br-ex, and no such link is there: see systemctl status ovs-vswitchd',
    });
    assert.deepEqual(carriedOut({ ...found, deserted: true }, [link('br-ex')]), {
      silent: 'its database names br-ex, and ovs-vswitchd does not run: see systemctl status ovs-vswitchd',
    });
  });
});

describe('a bridge of ours stays', () => {
  const address = (words: string): Foreign => ({ kind: 'address', family: 6, device: 'br-ex', global: true, words });
  const left = (words: string, moved: string[] = []) =>
    [...withoutGiven(new Set(['linux br-ex', 'ovs br0']), [address(words)], new Set(moved))].join();

  it('where somebody gave it an IPv6 address', () => {
    assert.equal(left('2001:db8::7/64 dev br-ex scope global nodad'), 'ovs br0');
  });

  it('but not for one that came with the NIC, or that a router advertised', () => {
    assert.equal(left('2001:db8::7/64 dev br-ex scope global nodad', ['2001:db8::7/64']), 'linux br-ex,ovs br0');
    assert.equal(
      left('2001:db8::7/64 dev br-ex scope global valid_lft 90 preferred_lft 80 mngtmpaddr nodad'),
      'linux br-ex,ovs br0',
    );
  });
});
