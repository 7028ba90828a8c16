// What stays on its segment whatever routes say: broadcasts, multicast, and the router's own loopback. NAT does not come by it.

import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { ADDRESSES, createLab, GATEWAYS } from '../lab/lab.ts';
import { configOf, entries, reload, shown } from './lab.ts';

const { v, w } = ADDRESSES;

/** Repeats a datagram for ever. */
const speaker = (from: string, to: string, port: number) => `
  const socket = require('node:dgram').createSocket('udp4').on('error', () => {});
  socket.bind(0, '${from}', () => {
    socket.setBroadcast(true);
    if (/^2[23]\\d/.test('${to}')) socket.setMulticastInterface('${from}');
    setInterval(() => socket.send('x', ${port}, '${to}'), 50);
  });`;

for (const iptables of ['nft', 'legacy'] as const)
  describe(`flows that stay on a segment: ${iptables}`, { concurrency: false }, () => {
    for (const [what, rest] of [
      ['by default', ''],
      ['where everything is to leave as an address', 'snat_list:\n  - { source: 0.0.0.0/0, to: 203.0.113.40 }\n'],
    ] as const)
      it(`are not cut ${what}`, async (t) => {
        const lab = await createLab({ iptables });
        t.after(() => lab.close());
        await reload(lab, configOf({ rest }));
        const speak = (host: 'w' | 'router', from: string, to: string, port: number) =>
          lab.host(host).spawn([process.execPath, '-e', speaker(from, to, port)], { stdio: 'ignore' });
        speak('w', w, '255.255.255.255', 5001);
        speak('w', w, '10.10.1.255', 5002);
        speak('router', GATEWAYS.a, '255.255.255.255', 5003);
        speak('router', GATEWAYS.a, '224.0.0.251', 5004);
        speak('router', '127.0.0.1', '127.0.0.53', 5005);
        const table = async () => (await entries(lab, '-p', 'udp')).map((flow) => `${flow.id} ${shown(flow)}`).sort();
        for (let waited = 0; waited < 5000 && (await table()).length < 5; waited += 50) await sleep(50);
        const known = await table();
        assert.ok(known.length >= 4, known.join('\n'));
        for (const config of [undefined, configOf({ eips: { '203.0.113.50': v }, rest }), undefined]) {
          const { steps, warnings } = await reload(lab, config);
          assert.deepEqual([steps.filter(({ kind }) => kind === 'cut-flows'), warnings], [[], []]);
          assert.deepEqual(await table(), known);
        }
      });
  });
