// Whose translation it was: what our rules led back inside gets a source that the answer comes back by; what an operator's own
// rules led somewhere keeps the one that it has.

import assert from 'node:assert/strict';
import { before, it } from 'node:test';
import { ADDRESSES, GATEWAYS } from '../lab/lab.ts';
import { EIPS, NEAR } from '../lab/table.ts';
import { asked, BASE, onEachEngine, reload, sh } from './router.ts';

const { out, router: uplink, v, w, x, y } = ADDRESSES;
const CONFIG = `${BASE}eip_list:\n  - { eip: ${EIPS.v}, vm-ip: ${v} }
port_forward_list:\n  - { eip: ${NEAR}, protocal: tcp, port: 8080, vm-port: 80, vm-ip: ${w} }
`;

onEachEngine("an operator's own DNAT beside ours", {}, (on) => {
  before(async () => {
    for (const host of ['out', 'v', 'w', 'x', 'y'] as const) await on.traffic.listen(host, 'tcp', 80);
    const dnat = (rest: string, to: string) => `iptables -t nat -A PREROUTING -p tcp ${rest} -j DNAT --to ${to}:80`;
    await sh(
      on,
      'router',
      [
        dnat(`-d ${GATEWAYS.b} --dport 8001`, v),
        dnat(`-d ${GATEWAYS.a} --dport 8002`, x),
        dnat(`-d 10.10.1.200 --dport 8003`, w),
        // On an address of ours, but a port that is not: it decides.
        dnat(`-d ${NEAR} --dport 8004`, x),
        dnat(`-i eth0 -d ${uplink} --dport 8005`, y),
      ].join('\n'),
    );
    await reload(on, CONFIG);
  });

  for (const [from, to, port, expected] of [
    ['x', GATEWAYS.b, 8001, `v:80 sees ${x}`],
    ['w', GATEWAYS.a, 8002, `x:80 sees ${w}`],
    // With an EIP of its own, too: it does not leave.
    ['v', GATEWAYS.a, 8002, `x:80 sees ${v}`],
    ['x', '10.10.1.200', 8003, `w:80 sees ${x}`],
    ['out', uplink, 8005, `y:80 sees ${out}`],
    ['w', EIPS.v, 80, `v:80 sees ${uplink}`],
    ['x', EIPS.v, 80, `v:80 sees ${uplink}`],
    ['v', NEAR, 8080, `w:80 sees ${EIPS.v}`],
    ['x', NEAR, 8080, `w:80 sees ${uplink}`],
  ] as const)
    it(`${from} asks ${to}:${port}: ${expected}`, async () => {
      assert.equal(await asked(on, from, to, port), expected);
    });

  it('its flows are not cut by a change, nor by a reload that changes nothing', async () => {
    const streams = [
      await on.traffic.openStream({ from: 'x', to: GATEWAYS.b, port: 8001 }),
      await on.traffic.openStream({ from: 'w', to: GATEWAYS.a, port: 8002 }),
      await on.traffic.openStream({ from: 'out', to: uplink, port: 8005 }),
      await on.traffic.openStream({ from: 'out', to: NEAR, port: 8004 }),
    ];
    await reload(on, BASE);
    await reload(on, CONFIG);
    await reload(on, CONFIG);
    for (const stream of streams) {
      assert.ok(await stream.carries());
      await stream.close();
    }
  });
});
