// from-uplink: who on an uplink's side reaches VMs, and by what. Absent, all of them by private addresses, as in 1.0; with drop by
// what the file maps only, and nobody goes from one uplink to another.

import assert from 'node:assert/strict';
import { before, describe, it } from 'node:test';
import { ADDRESSES, BEHIND, NICS, SECOND, SECOND_ADDRESS } from '../lab/lab.ts';
import { EIPS, NEAR } from '../lab/table.ts';
import { asked, BASE, type Guarded, onEachEngine, reload, SUBNETS, sh, UPLINK, withGateway } from './router.ts';

const { alt, far, neighbour, out, router: uplink, v, w, x, z } = ADDRESSES;
const OUTER = '172.30.0.5';
const MAPPINGS = `eip_list:
  - { eip: ${EIPS.v}, vm-ip: ${v} }
  - { eip: ${EIPS.x}, vm-ip: ${x} }
port_forward_list:
  - { eip: ${NEAR}, protocal: tcp, port: 8080, vm-port: 80, vm-ip: ${w} }
  - { eip: ${NEAR}, protocal: udp, port: 5353, vm-port: 5354, vm-ip: ${w} }
  - { eip: ${uplink}, protocal: tcp, port: 8443, vm-port: 80, vm-ip: ${z} }
route_list:
  - { dest: ${BEHIND}, via: ${w} }
  - { dest: 172.30.0.0/16, via: ${out} }
`;
const CONFIG = BASE + MAPPINGS;
const TWO = `if_list:\n${UPLINK}${withGateway(SECOND_ADDRESS, SECOND, alt)}${SUBNETS}${MAPPINGS}`;

onEachEngine(
  'from-uplink',
  { beyond: true, nics: [NICS.public, SECOND, NICS.a, NICS.b], uplinks: ['public', 'second'] },
  (on) => {
    before(async () => {
      // Answers to what came in by a private address leave with it; what route_list leads back leaves where it came in.
      on.lab.witness.excuse(
        'it is an answer, or route_list leads it',
        ({ kind, packet: { destination = '', source = '' } }) =>
          (kind === 'private source' && [neighbour, alt].some((each) => each === destination)) ||
          (kind === 'bounced' && [destination, source].includes(OUTER)),
      );
      on.lab.witness.excuse(
        'from-uplink: forward leads from one uplink to the other',
        ({ packet: { source = '', destination = '' } }) => [source, destination].includes(alt),
      );
      for (const host of ['far', 'out', 'neighbour', 'v', 'w', 'x', 'z', 'alt'] as const)
        await on.traffic.listen(host, 'tcp', 80);
      await sh(on, 'neighbour', `for net in 10.10.0.0/16 172.16.0.0/12; do ip route add $net via ${uplink}; done`);
      await sh(on, 'alt', `for net in 10.10.0.0/16 ${BEHIND}; do ip route add $net via ${SECOND_ADDRESS}; done`);
      await sh(on, 'out', `ip address add ${OUTER}/32 dev lo`);
    });

    describe('absent, or forward', () => {
      before(() => reload(on, CONFIG));
      it('a neighbour of the uplink reaches VMs by their private addresses, as in 1.0', async () => {
        for (const [to, by] of [
          [v, 'v'],
          [w, 'w'],
          [x, 'x'],
          [z, 'z'],
        ] as const)
          assert.equal(await asked(on, 'neighbour', to), `${by}:80 sees ${neighbour}`);
        await reload(on, `${CONFIG}from-uplink: forward\n`);
        assert.equal(await asked(on, 'neighbour', w), `w:80 sees ${neighbour}`);
      });
    });

    describe('drop', () => {
      before(() => reload(on, `${CONFIG}from-uplink: drop\n`));

      it('a neighbour of the uplink reaches no VM by its private address', async () => {
        const answers = await Promise.all([v, w, x, z].map((to) => asked(on, 'neighbour', to)));
        assert.deepEqual(answers, Array(4).fill('no answer'));
        const pongs = await Promise.all([v, w, x, z].map((to) => on.traffic.ping('neighbour', to)));
        assert.deepEqual(
          pongs.map(({ reached }) => reached),
          Array(4).fill(false),
        );
      });

      it('nor with segments that conntrack cannot place, nor with errors about nothing', async () => {
        const arrivals = await on.raw.arrivals('w', 'tcp', 'icmp', 'udp');
        for (const flags of ['R', 'RA', 'FA', 'SA', 'A', 'S'])
          await on.raw.send('neighbour', {
            protocol: 'tcp',
            destination: w,
            sourcePort: 80,
            destinationPort: 5000,
            flags,
            seq: 1,
            ack: 1,
          });
        await on.raw.send('x', { protocol: 'udp', destination: w, sourcePort: 1, destinationPort: 1, text: 'end' });
        await arrivals.first(({ text }) => text === 'end');
        assert.deepEqual(
          arrivals.seen().map(({ protocol }) => protocol),
          ['udp'],
        );
        arrivals.stop();
      });

      rest(on);

      it('related errors arrive, from a hop that is not the peer', async () => {
        const [errors, questions] = [await on.raw.arrivals('w', 'icmp'), await on.raw.arrivals('out', 'udp')];
        await on.raw.send('w', {
          protocol: 'udp',
          destination: out,
          sourcePort: 3002,
          destinationPort: 3003,
          text: 'x',
        });
        const about = (await questions.first(({ destinationPort }) => destinationPort === 3003)) ?? assert.fail();
        await on.raw.send('neighbour', { protocol: 'icmp', destination: about.source, flags: '3/10', about });
        assert.equal((await errors.first(({ flags }) => flags === '3/10'))?.source, neighbour);
      });

      it('a connection by a private address that was there before goes on until it ends', async () => {
        await reload(on, CONFIG);
        const stream = await on.traffic.openStream({ from: 'neighbour', to: w, port: 80 });
        await reload(on, `${CONFIG}from-uplink: drop\n`);
        assert.ok(await stream.carries());
        await stream.close();
      });
    });

    describe('two uplinks', () => {
      it('absent: from the second, VMs are reached by private addresses, and the first uplink', async () => {
        await reload(on, TWO);
        assert.equal(await asked(on, 'alt', w), `w:80 sees ${alt}`);
        await sh(on, 'alt', `ip route replace ${neighbour} via ${SECOND_ADDRESS}`);
        await sh(on, 'neighbour', `ip route replace ${alt} via ${uplink}`);
        assert.equal(await asked(on, 'alt', neighbour), `neighbour:80 sees ${alt}`);
      });

      it('drop: neither', async () => {
        await reload(on, `${TWO}from-uplink: drop\n`);
        const answers = await Promise.all([
          asked(on, 'alt', w),
          asked(on, 'alt', neighbour),
          asked(on, 'neighbour', alt),
          asked(on, 'neighbour', w),
        ]);
        assert.deepEqual(answers, Array(4).fill('no answer'));
      });

      rest(on);

      it('drop, and the first is gone: the inside leaves by the second, and what does not belong inside stays out', async () => {
        await sh(on, 'router', `ip route del default via ${out}`);
        assert.equal(await asked(on, 'w', far), `far:80 sees ${SECOND_ADDRESS}`);
        assert.equal(await asked(on, 'alt', w), 'no answer');
        await reload(on, `${TWO}from-uplink: drop\n`);
      });
    });
  },
);

/** What goes on with drop. */
function rest(on: Guarded): void {
  const rows: [
    from: 'far' | 'out' | 'neighbour' | 'v' | 'w' | 'x' | 'z' | 'router',
    to: string,
    port: number,
    expected: string,
  ][] = [
    ['neighbour', EIPS.v, 80, `v:80 sees ${neighbour}`],
    ['far', EIPS.x, 80, `x:80 sees ${far}`],
    ['neighbour', NEAR, 8080, `w:80 sees ${neighbour}`],
    ['out', uplink, 8443, `z:80 sees ${out}`],
    ['w', out, 80, `out:80 sees ${uplink}`],
    ['z', far, 80, `far:80 sees ${uplink}`],
    ['v', far, 80, `far:80 sees ${EIPS.v}`],
    ['w', EIPS.v, 80, `v:80 sees ${uplink}`],
    ['v', EIPS.v, 80, `v:80 sees ${EIPS.v}`],
    ['v', x, 80, `x:80 sees ${v}`],
    ['x', z, 80, `z:80 sees ${x}`],
    ['w', OUTER, 80, `out:80 sees ${uplink}`],
    ['neighbour', OUTER, 80, `out:80 sees ${neighbour}`],
    ['router', EIPS.x, 80, 'x:80 sees ROUTER'],
  ];
  for (const [from, to, port, expected] of rows)
    it(`goes on: ${from} asks ${to}:${port}: ${expected}`, async () => {
      const seen = await asked(on, from, to, port);
      assert.equal(expected.endsWith('ROUTER') ? seen.replace(/sees .*/, 'sees ROUTER') : seen, expected);
    });
}
