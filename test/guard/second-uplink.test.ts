// A second NIC with a gateway stands in for the first: what is inside leaves by it with its address, flows that are under way
// follow, by themselves where they were masqueraded, and come back.

import assert from 'node:assert/strict';
import { after, before, describe, it } from 'node:test';
import { ADDRESSES, createLab, NICS, SECOND, SECOND_ADDRESS } from '../lab/lab.ts';
import { EIPS } from '../lab/table.ts';
import { asked, type Guarded, guarded, onEachEngine, reload, run, SUBNETS, sh, UPLINK, withGateway } from './router.ts';

const { alt, far, out, router: uplink, v, w, x } = ADDRESSES;
const TWO = `if_list:\n${UPLINK}${withGateway(SECOND_ADDRESS, SECOND, alt)}${SUBNETS}`;
const MAPPED = `${TWO}eip_list:
  - { eip: ${EIPS.v}, vm-ip: ${v} }
  - { eip: ${EIPS.x}, vm-ip: ${x} }
`;
const LAB = {
  beyond: true,
  nics: [NICS.public, SECOND, NICS.a, NICS.b],
  uplinks: ['public', 'second'],
} as const;

/** The ways in which the first goes without a run of kylin-vr, and how it comes back. */
const FAILURES: [what: string, goes: string, comes: string][] = [
  // Ours, and the one that came in its place.
  [
    'its default route is gone',
    `while ip route del default via ${out} 2> /dev/null; do :; done`,
    `ip route add default via ${out} dev eth0`,
  ],
  [
    'it is down',
    'ip link set eth0 down',
    `ip link set eth0 up; ip route add default via ${out} dev eth0; ip neigh flush all`,
  ],
];

onEachEngine('a second uplink', LAB, (on) => {
  before(async () => {
    await on.traffic.listen('far', 'tcp', 80);
    await on.traffic.listen('far', 'udp', 80);
    await on.raw.answer('far', 'udp', 7000);
    await reload(on, MAPPED);
  });

  it('while both are there all leaves by the first', async () => {
    assert.deepEqual(await leaving(on), [EIPS.v, uplink, EIPS.x].map(sees));
  });

  for (const [what, goes, comes] of FAILURES) {
    it(`the first: ${what}: what is inside leaves by the second, VMs with EIPs too, and afterwards by the first again`, async () => {
      await sh(on, 'router', goes);
      assert.deepEqual(await leaving(on), Array(3).fill(sees(SECOND_ADDRESS)));
      await sh(on, 'router', comes);
      assert.deepEqual(await leaving(on), [EIPS.v, uplink, EIPS.x].map(sees));
    });

    for (const from of ['v', 'w'] as const)
      it(`the first: ${what}: a flow of ${from} that began then goes on by the first when that is back, without a run`, async () => {
        await sh(on, 'router', goes);
        const flow = await on.raw.start(from, { protocol: 'udp', to: far, port: 7000, perSecond: 50 });
        assert.ok(await flow.answered(({ seenSource }) => seenSource === SECOND_ADDRESS));
        await sh(on, 'router', comes);
        const source = from === 'v' ? EIPS.v : uplink;
        assert.ok(await flow.answered(({ seenSource }) => seenSource === source), JSON.stringify(flow.count()));
        const { turns } = await flow.stop();
        assert.deepEqual(
          turns.map(({ seenSource }) => seenSource),
          [SECOND_ADDRESS, source],
        );
      });

    it(`the first: ${what}: with masquerade a flow follows there and back, without a run`, async () => {
      await reload(on, `${MAPPED}snat_list: [{ source: 10.10.1.0/24, to: masquerade }]\n`);
      const flow = await on.raw.start('w', { protocol: 'udp', to: far, port: 7000, perSecond: 50 });
      assert.ok(await flow.answered(({ seenSource }) => seenSource === uplink));
      await sh(on, 'router', goes);
      assert.ok(await flow.answered(({ seenSource }) => seenSource === SECOND_ADDRESS), JSON.stringify(flow.count()));
      await sh(on, 'router', comes);
      assert.ok(await flow.answered(({ seenSource }) => seenSource === uplink), JSON.stringify(flow.count()));
      await reload(on, MAPPED);
    });
  }

  it('the first is unplugged, and comes back: flows of all VMs follow, with the run that udev brings', async () => {
    const start = (from: 'v' | 'w' | 'x') =>
      on.raw.start(from, { protocol: 'udp', to: far, port: 7000, perSecond: 50 });
    const flows = await Promise.all([start('v'), start('w'), start('x')]);
    for (const flow of flows) assert.ok(await flow.answered());
    await on.lab.router.unplug(NICS.public);
    await run(on, 'reload', '--trigger', 'udev');
    for (const flow of flows)
      assert.ok(await flow.answered(({ seenSource }) => seenSource === SECOND_ADDRESS), JSON.stringify(flow.count()));
    await on.lab.router.plug(NICS.public);
    await run(on, 'reload', '--trigger', 'udev');
    for (const [index, source] of [EIPS.v, uplink, EIPS.x].entries())
      assert.ok(await flows[index]?.answered(({ seenSource }) => seenSource === source), source);
  });

  it('by the second, too, snat_list decides: an address, none, nothing', async () => {
    const given = '198.18.0.40';
    const leaves = async (list: string) => {
      await reload(on, `${MAPPED}snat_list: ${list}\n`);
      await sh(on, 'router', `ip route del default via ${out}`);
      const seen = await on.raw.arrivals('far', 'udp');
      for (const [from, text] of [
        ['w', 'w'],
        ['x', 'x'],
      ] as const)
        await on.raw.send(from, { protocol: 'udp', destination: far, sourcePort: 3000, destinationPort: 3001, text });
      await seen.first(({ text }) => text === 'x');
      seen.stop();
      return seen.seen().map(({ source, text }) => `${text} ${source}`);
    };
    assert.deepEqual(await leaves(`[{ source: 10.10.1.0/24, to: ${given} }]`), [`w ${given}`, `x ${SECOND_ADDRESS}`]);
    on.lab.witness.excuse('snat_list says so', ({ packet: { sourcePort } }) => sourcePort === 3000);
    assert.deepEqual(await leaves('[{ source: 10.10.1.0/24, to: none }]'), [`w ${w}`, `x ${SECOND_ADDRESS}`]);
    assert.deepEqual(await leaves('[]'), [`w ${w}`, `x ${x}`]);
    await reload(on, MAPPED);
  });

  it('what conntrack cannot place leaves by the second neither', async () => {
    await sh(on, 'router', `ip route del default via ${out}`);
    const seen = await on.raw.arrivals('far', 'tcp');
    for (const from of ['v', 'w'] as const)
      await on.raw.send(from, { protocol: 'tcp', destination: far, sourcePort: 5, destinationPort: 5, flags: 'RA' });
    await on.raw.send('w', { protocol: 'tcp', destination: far, sourcePort: 6, destinationPort: 6, flags: 'S' });
    await seen.first(({ destinationPort }) => destinationPort === 6);
    assert.deepEqual(
      seen.seen().map(({ source, flags }) => `${source} ${flags}`),
      [`${SECOND_ADDRESS} S`],
    );
    seen.stop();
    await reload(on, MAPPED);
  });

  it('what comes in by the second does not go out by it again', async () => {
    await sh(on, 'alt', `ip route add 198.18.77.0/24 via ${SECOND_ADDRESS}`);
    await sh(on, 'router', `ip route del default via ${out}`);
    await on.raw.send('alt', { protocol: 'udp', destination: '198.18.77.1', sourcePort: 1, destinationPort: 1 });
    assert.deepEqual(await on.lab.witness.leaks(), []);
    await reload(on, MAPPED);
  });
});

for (const iptables of ['nft', 'legacy'] as const)
  describe(`a second uplink where the first is pending from the start: iptables-${iptables}`, {
    concurrency: false,
  }, () => {
    const on = {} as Guarded;
    before(async () => {
      const lab = await createLab({ ...LAB, iptables, nics: [SECOND, NICS.a, NICS.b] });
      Object.assign(on, guarded(lab));
      await on.traffic.listen('far', 'tcp', 80);
      await on.traffic.listen('far', 'udp', 80);
      await on.raw.answer('far', 'udp', 7000);
    });
    after(() => on.lab?.close());

    it('what is inside leaves by the second, from the first packet on', async () => {
      const flow = await on.raw.start('v', { protocol: 'udp', to: far, port: 7000, perSecond: 50 });
      await reload(on, MAPPED);
      assert.ok(await flow.answered(({ seenSource }) => seenSource === SECOND_ADDRESS));
      assert.deepEqual(await leaving(on), Array(3).fill(sees(SECOND_ADDRESS)));
      await on.lab.router.plug(NICS.public);
      await run(on, 'reload', '--trigger', 'udev');
      assert.ok(await flow.answered(({ seenSource }) => seenSource === EIPS.v), JSON.stringify(flow.count()));
      assert.deepEqual(await leaving(on), [EIPS.v, uplink, EIPS.x].map(sees));
    });
  });

const sees = (source: string) => `far:80 sees ${source}`;

/** What far sees of v, w and x, by TCP, and the same by UDP. */
async function leaving(on: Guarded): Promise<string[]> {
  const seen = await Promise.all(
    (['v', 'w', 'x'] as const).map(async (from) => {
      const [tcp, udp] = await Promise.all([asked(on, from, far), asked(on, from, far, 80, 'udp')]);
      return tcp === udp ? tcp : `${tcp}, but by UDP ${udp}`;
    }),
  );
  return seen;
}
