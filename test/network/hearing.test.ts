import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { parseForeignAddresses, parseForeignRoutes } from '../../src/dialects/foreign.ts';
import { fitting, owned } from '../../src/machine/kept-shapes.ts';
import { NOTHING_OWNED, type Owned } from '../../src/machine/recorded.ts';
import { advertisedRoutes, hearing, isAdvertised, type Settings, TAKEN_OVER } from '../../src/network/hearing.ts';
import type { BoundNic } from '../../src/network/nics.ts';
import { UPLINK } from './fixtures.ts';

const ON = { disable_ipv6: '0', forwarding: '0', accept_ra: '1' };
const place = { mac: UPLINK.mac, device: 'eth0' };

type Case = {
  port: Record<string, string>;
  bridge?: Record<string, string>;
  by?: Record<string, string>;
  recorded?: Owned['heard'];
  on?: boolean;
  ours?: boolean;
  program?: boolean;
};

/** `key value`, and the record. */
function heard({ port, bridge, by = ON, recorded = [], on = true, ours = false, program = false }: Case) {
  const nic: BoundNic = { ...UPLINK, device: 'eth0', ...(on && { bridge: { name: 'br-ex', type: 'linux' } }) };
  const settings = Object.entries({ eth0: port, default: by, ...(bridge && { 'br-ex': bridge }) });
  const { sysctls, heard } = hearing({
    nics: [nic],
    recorded: recorded.map((each) => ({ ...each, device: 'eth0' })),
    waiting: new Set(),
    settings: new Map(settings.map(([name, values]): [string, Settings] => [name, new Map(Object.entries(values))])),
    byProgram: new Set(program ? ['eth0'] : []),
    ours: new Set(ours ? ['br-ex linux', 'linux br-ex'] : []),
    placeOf: () => place,
  });
  return [sysctls.map(({ key, value }) => `${key.replace('net/ipv6/conf/', '')} ${value}`), heard] as const;
}

describe('advertisements that a NIC hears', () => {
  it('the bridge that is to be made hears, as far as that is not so by default', () => {
    assert.deepEqual(heard({ port: ON }), [['eth0/accept_ra 0'], [{ ...place, was: '1' }]]);
    const router = { ...ON, forwarding: '1', accept_ra: '2' };
    assert.deepEqual(heard({ port: router, by: { ...ON, forwarding: '1' } })[0], [
      'eth0/accept_ra 0',
      'br-ex/accept_ra 2',
    ]);
  });

  it('where the bridge will forward and the NIC does not, it hears all the same; a deaf NIC has a deaf bridge', () => {
    assert.deepEqual(heard({ port: ON, by: { ...ON, forwarding: '1' } })[0], ['eth0/accept_ra 0', 'br-ex/accept_ra 2']);
    assert.deepEqual(heard({ port: { ...ON, accept_ra: '0' } })[0], ['eth0/accept_ra 0', 'br-ex/accept_ra 0']);
    assert.deepEqual(heard({ port: { ...ON, forwarding: '1' } })[0], ['eth0/accept_ra 0', 'br-ex/accept_ra 0']);
  });

  it('a program that hears does so no more on the bridge: the kernel does', () => {
    assert.deepEqual(heard({ port: { ...ON, accept_ra: '0' }, program: true }), [
      ['eth0/accept_ra 0', 'br-ex/accept_ra 2'],
      [{ ...place, was: '0', stead: '2' }],
    ]);
  });

  it('IPv6 that is switched off, by default or on the NIC', () => {
    const off = { ...ON, disable_ipv6: '1' };
    assert.deepEqual(heard({ port: ON, by: off })[0], ['eth0/accept_ra 0', 'br-ex/disable_ipv6 0']);
    assert.deepEqual(heard({ port: off }), [[], []]);
  });

  it('an address of a secret is made so on the bridge, and one of its link always', () => {
    const secret = { ...ON, stable_secret: '2001:0db8::7', addr_gen_mode: '2' };
    const by = { ...ON, addr_gen_mode: '0' };
    assert.deepEqual(heard({ port: secret, by })[0].slice(1), [
      'br-ex/stable_secret 2001:0db8::7',
      'br-ex/addr_gen_mode 2',
    ]);
    assert.deepEqual(heard({ port: { ...ON, addr_gen_mode: '1' }, by })[0], ['eth0/accept_ra 0']);
  });

  it('a bridge of others that hears is left alone; one that does not is as it was afterwards', () => {
    const router = { ...ON, forwarding: '1', accept_ra: '2' };
    const deaf = { ...router, accept_ra: '1' };
    assert.deepEqual(heard({ port: ON, bridge: router })[0], ['eth0/accept_ra 0']);
    const theirs = { bridge: 'br-ex', settings: [{ name: 'accept_ra', value: '1' }] };
    const [sysctls, recorded] = heard({ port: router, bridge: deaf });
    assert.deepEqual(
      sysctls.filter((line) => line.includes('accept_ra')),
      ['eth0/accept_ra 0', 'br-ex/accept_ra 2'],
    );
    assert.deepEqual(recorded, [{ ...place, was: '2', theirs }]);
    const silent = { ...router, accept_ra: '0' };
    assert.deepEqual(heard({ port: silent, bridge: router, recorded, on: false }), [
      ['eth0/accept_ra 2', 'br-ex/accept_ra 1'],
      recorded,
    ]);
    assert.deepEqual(heard({ port: router, bridge: deaf, recorded, on: false })[1], []);
  });

  it('what somebody has set on the port since then is its own value', () => {
    const recorded = [{ ...place, was: '1' }];
    const there = { ...ON, accept_ra: '0' };
    assert.deepEqual(heard({ port: there, bridge: ON, recorded })[1], recorded);
    assert.deepEqual(heard({ port: { ...ON, accept_ra: '2' }, bridge: ON, recorded })[1], [{ ...place, was: '2' }]);
  });
});

it('what the kernel made of advertisements, with and without an end', () => {
  const text = `unicast 2001:db8:1::/64 dev eth0 proto kernel scope global metric 256 expires 599sec pref medium
unicast 2001:db8:2::/64 dev eth0 proto kernel scope global metric 256 pref medium
unicast fe80::/64 dev eth0 proto kernel scope global metric 256 pref medium
unicast default via fe80::1 dev eth0 proto ra scope global metric 1024 expires 599sec hoplimit 64 pref medium
unicast 2001:db8:3::/64 via fe80::2 dev eth0 proto static scope global metric 1024 pref medium`;
  const routes = parseForeignRoutes(text, 6);
  const gone = [
    '2001:db8:1::/64 dev eth0 proto kernel metric 256',
    '2001:db8:2::/64 dev eth0 proto kernel metric 256',
    'default via fe80::1 dev eth0 proto ra metric 1024',
  ];
  assert.deepEqual(
    advertisedRoutes(routes).map(({ words }) => words),
    gone,
  );
  const info = { family: 'inet6', local: '2001:db8:2::5', prefixlen: 64, scope: 'global' };
  const address = (more: object) =>
    parseForeignAddresses(JSON.stringify([{ ifname: 'eth0', addr_info: [{ ...info, ...more }] }]), new Set(['eth0']));
  const given = address({ mngtmpaddr: true });
  assert.deepEqual(
    advertisedRoutes([...routes, ...given]).map(({ words }) => words),
    [gone[0], gone[2]],
  );
  for (const more of [
    { protocol: 'kernel_ra' },
    { dynamic: true, mngtmpaddr: true },
    { dynamic: true, temporary: true },
  ])
    assert.deepEqual(address(more).map(isAdvertised), [true]);
  for (const more of [{ mngtmpaddr: true }, { dynamic: true }, { protocol: 'kernel_ll' }])
    assert.deepEqual(address(more).map(isAdvertised), [false]);
});

it('every setting of a bridge of others is read from the record again', () => {
  const settings = TAKEN_OVER.map((name) => ({ name, value: name === 'stable_secret' ? '' : '1' }));
  const heard = [{ ...place, was: '2', theirs: { bridge: 'br-ex', settings } }];
  const record = { ...NOTHING_OWNED, heard };
  assert.deepEqual(fitting(owned, JSON.stringify(record)), record);
});

it('what a bridge of others has of us stays wanted, so that a way back gives it up', () => {
  const theirs = { bridge: 'br-ex', settings: [{ name: 'accept_ra', value: '1' }] };
  const router = { ...ON, forwarding: '1', accept_ra: '2' };
  const now = { port: { ...router, accept_ra: '0' }, bridge: router, by: { ...ON, forwarding: '1' } };
  const recorded = [{ ...place, was: '2', theirs }];
  assert.deepEqual(heard({ ...now, recorded }), [['eth0/accept_ra 0', 'br-ex/accept_ra 2'], recorded]);
  assert.deepEqual(heard({ ...now, recorded: [{ ...place, was: '2' }] })[0], ['eth0/accept_ra 0']);
});
