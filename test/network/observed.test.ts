import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { jumpsIn } from '../../src/dialects/our-rules.ts';
import type { ObservedLink } from '../../src/network/nics.ts';
import type { ObservedAddress } from '../../src/network/observation.ts';
import { cutOff, isMoving, observeBridges, portRoutes, ruledBy, underOurRule } from '../../src/network/observed.ts';
import { addressKey, type Bridge, type Port } from '../../src/network/state.ts';
import { address } from './planning.ts';

const ETH0 = '02:00:00:00:00:01';
const nic = { mac: ETH0, device: 'eth0', ipaddr: '192.0.2.1', prefix: 24 };
const link = (device: string, more: Partial<ObservedLink> = {}): ObservedLink => ({
  device,
  mac: ETH0,
  up: true,
  mtu: 1500,
  ethernet: true,
  ...more,
});
const there = (text: string, more: Partial<ObservedAddress> = {}): ObservedAddress => ({
  ...address(text),
  dynamic: false,
  ...more,
});
const keys = (...texts: string[]) => new Set(texts.map((text) => addressKey(address(text))));
const bridge: Bridge = { name: 'br-ex', type: 'linux' };
const port: Port = { device: 'eth0', bridge: 'br-ex', type: 'linux' };
const BRIDGED = { links: [link('br-ex', { kind: 'bridge' }), link('eth0', { master: 'br-ex' })], ovs: undefined };

describe('bridges', () => {
  const view = { ...BRIDGED, addresses: [], ownedBridges: [bridge], ownedPorts: [port] };
  const none = { bridges: [], ports: [] };

  it('of ours are seen when they are not wanted any more, and empty where nothing else is on them', () => {
    const { emptied, ...seen } = observeBridges(view, none, new Set());
    assert.deepEqual(seen, { bridges: [bridge], ports: [port], formerPorts: [] });
    assert.deepEqual([...emptied], ['linux br-ex']);
  });

  it('of ours with an address or a port of somebody else are not empty', () => {
    const found = [
      { ...view, addresses: [there('198.51.100.7/24 on br-ex')] },
      { ...view, links: [...view.links, link('eth9', { master: 'br-ex' })] },
    ];
    for (const each of found) assert.equal(observeBridges(each, none, new Set()).emptied.size, 0);
  });

  it('of somebody else are not seen, unless they are wanted', () => {
    const theirs = { ...view, ownedBridges: [], ownedPorts: [] };
    assert.deepEqual(observeBridges(theirs, none, new Set()).bridges, []);
    assert.deepEqual(observeBridges(theirs, { bridges: [bridge], ports: [port] }, new Set()).bridges, [bridge]);
  });

  it('of Open vSwitch that is silent are as wanted', () => {
    const ovs = { silent: 'it does not answer' };
    const wanted = { bridges: [{ name: 'br-int', type: 'ovs' as const }], ports: [{ ...port, type: 'ovs' as const }] };
    const { bridges, ports } = observeBridges({ ...view, ovs, ownedBridges: [], ownedPorts: [] }, wanted, new Set());
    assert.deepEqual({ bridges, ports }, wanted);
  });
});

describe('a NIC is on its way to a bridge', () => {
  const bridged = { bridges: [bridge], ports: [port], formerPorts: [], emptied: new Set<string>() };
  const desired = { ports: [port], addresses: [address('192.0.2.1/24 on br-ex')] };

  it('where it is no port yet, or has its own address still', () => {
    assert.equal(isMoving({ addresses: [] }, desired, { ...bridged, ports: [] }), true);
    assert.equal(isMoving({ addresses: [there('192.0.2.1/24 on eth0')] }, desired, bridged), true);
  });

  it('and has arrived where it is its port, whatever else is on it', () => {
    assert.equal(isMoving({ addresses: [there('198.51.100.7/24 on eth0')] }, desired, bridged), false);
  });
});

describe('routes to networks', () => {
  const wanted = [address('192.0.2.1/24 on eth0'), address('203.0.113.5/32 on eth0')];
  const route = { device: 'eth0', dest: '192.0.2.0/24', protocol: 'kernel' };
  const view = { links: [link('eth0')], addresses: wanted.map((each) => ({ ...each, dynamic: false })) };

  it('are missed where the address is there', () => {
    const missing = { device: 'eth0', dest: '192.0.2.0/24', source: '192.0.2.1' };
    assert.deepEqual(cutOff({ ...view, subnetRoutes: [] }, wanted), [missing]);
    assert.deepEqual(cutOff({ ...view, subnetRoutes: [route] }, wanted), []);
  });

  it('are not missed where the kernel brings them with the link', () => {
    assert.deepEqual(cutOff({ ...view, links: [link('eth0', { up: false })], subnetRoutes: [] }, wanted), []);
  });

  it('are too many on a port with an address of somebody else in the network of its bridge', () => {
    const desired = { ports: [port], addresses: [address('192.0.2.1/24 on br-ex')] };
    const found = { addresses: [there('192.0.2.9/24 on eth0')], subnetRoutes: [route] };
    assert.deepEqual(portRoutes(found, desired, new Set()), [route]);
    assert.deepEqual(portRoutes(found, desired, keys('192.0.2.9/24 on eth0')), []);
  });
});

describe('under our rule', () => {
  const seen = (found: ObservedAddress[], bridged: boolean, owned = keys(), wanted = ['192.0.2.1/24 on eth0']) =>
    underOurRule(
      found,
      ruledBy([bridged ? { ...nic, bridge: { name: 'br-ex', type: 'linux' } } : nic], []),
      owned,
      wanted.map(address),
    );

  it('are all addresses of a NIC, and elsewhere ours', () => {
    const found = [there('192.0.2.1/24 on eth0'), there('198.51.100.7/24 on eth0'), there('198.51.100.8/24 on eth9')];
    assert.deepEqual(seen(found, false, keys('192.0.2.1/24 on eth0')), [
      address('192.0.2.1/24 on eth0'),
      { ...address('198.51.100.7/24 on eth0'), foreign: true },
    ]);
  });

  it('are on a port and on its bridge those alone that are wanted somewhere', () => {
    const found = [there('192.0.2.1/24 on eth0'), there('198.51.100.7/24 on br-ex')];
    assert.deepEqual(seen(found, true, keys(), ['192.0.2.1/24 on br-ex']), [
      { ...address('192.0.2.1/24 on eth0'), foreign: true },
    ]);
  });

  it('is no wanted address that a lease would take away again', () => {
    assert.deepEqual(seen([there('192.0.2.1/24 on eth0', { dynamic: true })], false), []);
  });
});

it('our jumps are found with their place', () => {
  const rules = ['-j KYLIN-VR-INPUT', '-j ACCEPT', '-j KYLIN-VR-INPUT', '-j THEIRS', '-j KYLIN-VR-INPUT'];
  assert.deepEqual(
    jumpsIn([{ table: 'filter', hook: 'INPUT', rules }]).map(({ place }) => place),
    ['first', 'anywhere', 'last'],
  );
});
