import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { type Address, emptyState, type Route } from '../../src/network/state.ts';
import { goneSince, type Left, ourRoutes, settingsToReturn, toReturn, withStayed } from '../../src/planning/return.ts';

const NONE = { owned: new Set<string>(), ownedRoutes: new Set<string>() };
const foreign = (spec: string, device = 'eth2'): Address => ({ device, spec, foreign: true });
const found = (addresses: Address[]) => ({ state: { ...emptyState, addresses } });

describe('addresses that come back when a change is taken back', () => {
  it('of what is foreign what went, and not what stayed, and somebody took away later', () => {
    const [went, stayed] = [foreign('192.0.2.5/24'), foreign('192.0.2.6/24')];
    const once = toReturn(found([went, stayed]), [stayed], NONE);
    assert.deepEqual(once, { ...found([went]), stayed: [] });
    assert.deepEqual(toReturn(once, [], NONE), { ...found([went]), stayed: [] });
  });

  it('one that was foreign and is ours now, as what it was', () => {
    const address = foreign('192.0.2.5/24');
    const ours = { ...NONE, owned: new Set(['eth2 192.0.2.5/24']) };
    assert.deepEqual(toReturn(found([address]), [address], ours).state.addresses, [address]);
  });

  it('not one that somebody has put on another device since; that it was there as well before, or that we put it there, is nothing', () => {
    const on = (device: string): Address => ({ device, spec: '192.0.2.5/24' });
    const before = withStayed(found([foreign('192.0.2.5/24')]).state, [on('lo')], NONE);
    const back = (addresses: Address[], owned: string[] = []) =>
      toReturn(before, addresses, { ...NONE, owned: new Set(owned) }).state.addresses;
    assert.deepEqual(back([on('lo')]), [foreign('192.0.2.5/24')]);
    assert.deepEqual(back([on('lo'), on('eth1')]), []);
    assert.deepEqual(back([on('lo'), on('eth1')], ['eth1 192.0.2.5/24']), [foreign('192.0.2.5/24')]);
    assert.deepEqual(back([on('lo'), { device: 'eth1', spec: '192.0.2.5/32' }]), []);
    assert.deepEqual(back([on('lo'), { device: 'eth2', spec: '192.0.2.5/32' }]), []);
  });
});

describe('MTUs and settings that come back', () => {
  const state = (mtu: number, value: string) => ({
    ...emptyState,
    links: [{ device: 'eth2', up: true, mtu }],
    sysctls: [{ key: 'net/ipv4/conf/eth2/rp_filter', value }],
  });
  const back = (left: Left | undefined, now: Left) => {
    const { links, sysctls } = settingsToReturn(state(1500, '1'), left, now);
    return [links[0]?.mtu, sysctls[0]?.value];
  };

  it('are what the change made other, and nobody changed since', () => {
    assert.deepEqual(back(state(1400, '0'), state(1400, '0')), [1500, '1']);
    assert.deepEqual(back(state(1400, '0'), state(1300, '2')), [undefined, undefined]);
    assert.deepEqual(back(state(1500, '1'), state(1400, '0')), [undefined, undefined]);
    assert.deepEqual(back({ links: [{ device: 'eth2' }], sysctls: [] }, state(1400, '0')), [undefined, undefined]);
  });

  it('are all of them where nothing is known of that', () => {
    assert.deepEqual(back(undefined, state(1400, '0')), [1500, '1']);
  });
});

describe('routes and neighbours of others', () => {
  const GONE =
    'unicast 198.18.0.0/24 via 192.0.2.1 dev eth2 table main proto 186 scope global metric 20 mtu lock 1300 ';
  const STAYS = 'unicast 198.18.1.0/24 via 203.0.113.1 dev eth0 table main proto 186 scope global metric 20 ';
  const neighbour = (lladdr: string) => ({
    kind: 'neighbour' as const,
    family: 4 as const,
    device: 'eth2',
    words: `192.0.2.9 lladdr ${lladdr} dev eth2 nud permanent`,
  });
  const standing = (routes: string[], lladdr?: string) => ({
    routes,
    neighbours: JSON.stringify(lladdr === undefined ? [] : [{ dst: '192.0.2.9', dev: 'eth2', lladdr }]),
  });
  const DEVICES = ['eth0', 'eth1', 'eth2'];
  const gone = (before: string[], now: string[], ours = NONE) =>
    goneSince(standing(before), standing(now), DEVICES, ours).map(({ words }) => words);

  it('what is not there any more, in the words of ip', () => {
    assert.deepEqual(gone([GONE, STAYS], [STAYS]), [GONE.replace(' table main', '').trim()]);
    assert.deepEqual(goneSince(standing([], '02:00:00:00:00:09'), standing([]), DEVICES, NONE), [
      neighbour('02:00:00:00:00:09'),
    ]);
  });

  it('not what was on another device: that was somebody else', () => {
    assert.deepEqual(gone([GONE.replace('eth2', 'br-op')], []), []);
  });

  it('but what was so with a source of ours: the kernel takes that along with it', () => {
    const ours = { ...NONE, owned: new Set(['eth2 10.10.2.254/24']) };
    const route = (source: string) =>
      `unicast 10.99.0.0/16 via 172.20.0.2 dev br-op table main proto static scope global src ${source} `;
    assert.equal(gone([route('10.10.2.254')], [], ours).length, 1);
    assert.deepEqual(gone([route('172.20.0.1')], [], ours), []);
  });

  it('routes without a device, with a source of ours, too', () => {
    const ours = { ...NONE, owned: new Set(['eth2 10.10.2.254/24']) };
    const route = (source: string) => `unreachable 10.99.0.0/16 table main proto boot scope global${source} `;
    assert.equal(gone([route(' src 10.10.2.254')], [], ours).length, 1);
    assert.deepEqual(gone([route('')], [], ours), []);
    assert.deepEqual(gone([route(' src 10.10.2.254')], [route('')], ours), []);
  });

  it("of those with the kernel's name what the kernel would not have made", () => {
    const route = (words: string) => `unicast 10.99.0.0/16 ${words} `;
    assert.equal(gone([route('via 10.10.2.9 dev eth2 table main proto kernel scope global')], []).length, 1);
    assert.equal(gone([route('dev eth2 table main proto kernel scope link')], []).length, 1);
    assert.deepEqual(gone([route('dev eth2 table main proto kernel scope link src 10.99.0.1')], []), []);
  });

  it('not what is there in another state, or with onlink', () => {
    assert.deepEqual(gone([GONE], [`${GONE}linkdown `]), []);
    assert.deepEqual(gone([GONE], [`${GONE}onlink `]), []);
  });

  it('nor what somebody has led elsewhere, with the same metric in the same table; by another metric is beside it', () => {
    const elsewhere = GONE.replace('192.0.2.1 dev eth2', '10.10.1.11 dev eth1');
    assert.deepEqual(gone([GONE], [elsewhere]), []);
    assert.equal(gone([GONE], [elsewhere.replace('metric 20', 'metric 30')]).length, 1);
    assert.equal(gone([GONE], [elsewhere.replace('table main', 'table 100')]).length, 1);
    assert.deepEqual(
      goneSince(standing([], '02:00:00:00:00:09'), standing([], '02:00:00:00:00:0a'), DEVICES, NONE),
      [],
    );
  });

  it('one of two ways to a network, though the other one stayed', () => {
    const second = GONE.replace('192.0.2.1 dev eth2', '203.0.113.2 dev eth0');
    assert.equal(gone([GONE, second], [second]).length, 1);
  });

  it('none of ours, and none of ours is in their place', () => {
    const ours = { ...NONE, ownedRoutes: new Set(['172.32.0.0/12 via 10.10.1.1 dev eth1 metric 0']) };
    const made = 'unicast 172.32.0.0/12 via 10.10.1.1 dev eth1 table main proto static scope global ';
    const own = 'unicast 198.18.0.0/24 via 10.10.1.1 dev eth1 table main proto 175 scope global metric 20 ';
    assert.deepEqual(gone([made, own], [], ours), []);
    assert.equal(gone([made], []).length, 1);
    assert.equal(gone([GONE], [own]).length, 1);
  });

  it('routes of ours are part of the state', () => {
    const route = (dest: string, protocol: string): Route => ({
      dest,
      via: '10.10.1.1',
      device: 'eth1',
      metric: 0,
      protocol,
    });
    const ours = { ...NONE, ownedRoutes: new Set(['172.32.0.0/12 via 10.10.1.1 dev eth1 metric 0']) };
    const routes = [route('172.16.0.0/12', '175'), route('172.32.0.0/12', 'static')];
    assert.deepEqual(
      ourRoutes([...routes, route('172.48.0.0/12', 'static'), route('198.18.0.0/24', '186')], ours),
      routes,
    );
  });
});
