// Segments out of the window, real ones, to connections that are translated and to those of the router itself: a connection
// ends when its ends say so, and by nothing else.

import assert from 'node:assert/strict';
import { before, it } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { ADDRESSES, type HostName } from '../lab/lab.ts';
import type { Arrival } from '../lab/raw.ts';
import type { Stream } from '../lab/traffic.ts';
import { BASE, type Guarded, onEachEngine, reload, sh } from './router.ts';

const { out, router: uplink, w } = ADDRESSES;
const FAR_OUT = 100_000_000;
const CONFIG = `${BASE}port_forward_list:
  - { eip: ${uplink}, protocal: tcp, port: 8443, vm-port: 443, vm-ip: ${w} }
`;

/** A stream with what its last segment at `out` was. */
type Watched = { stream: Stream; last: Arrival };

onEachEngine('a segment out of the window', {}, (on) => {
  before(async () => {
    await reload(on, CONFIG);
    for (const [host, port] of [
      ['out', 80],
      ['w', 443],
      ['router', 22],
    ] as const)
      await on.traffic.listen(host, 'tcp', port);
  });

  const connections: [what: string, from: HostName, to: string, port: number][] = [
    ["a VM's, by the uplink's address", 'w', out, 80],
    ["one to a forward on the uplink's address", 'out', uplink, 8443],
    ["the router's own, as a client", 'router', out, 80],
    ["the router's own, as a server on the uplink's address", 'out', uplink, 22],
  ];
  for (const [what, from, to, port] of connections) {
    it(`from outside: ${what} lives`, async () => {
      const { stream, last } = await watched(on, from, to, port);
      // A client that sends SYN-ACK is out of more than the window.
      for (const offset of [-FAR_OUT, -2000, FAR_OUT])
        for (const flags of ['PA', 'A', 'FA', 'RA', ...(from === 'out' ? [] : ['SA'])])
          await on.raw.send('out', { ...answerTo(last, offset), flags, text: flags === 'PA' ? 'late' : '' });
      assert.ok(await stream.carries());
      await stream.close();
    });

    // What is translated on its way in cannot be known any more, and of what is translated on its way out the inside speaks first.
    if (to !== uplink || port === 22)
      it(`after the table was emptied: ${what} lives, also in spite of such segments`, async () => {
        const { stream, last } = await watched(on, from, to, port);
        await sh(on, 'router', 'conntrack -F 2>&1');
        if (from === 'w') assert.ok(await stream.carries());
        await on.raw.send('out', { ...answerTo(last, FAR_OUT), flags: 'PA', text: 'late' });
        assert.ok(await stream.carries());
        await stream.close();
      });
  }

  it("that is what nf_conntrack_tcp_be_liberal is for: without it the first one ends a VM's", async () => {
    const liberal = (value: number) =>
      sh(on, 'router', `sysctl -qw net.netfilter.nf_conntrack_tcp_be_liberal=${value}`);
    assert.equal(await sh(on, 'router', 'sysctl -n net.netfilter.nf_conntrack_tcp_be_liberal'), '1\n');
    await liberal(0);
    const { stream, last } = await watched(on, 'w', out, 80);
    await on.raw.send('out', { ...answerTo(last, FAR_OUT), flags: 'PA', text: 'late' });
    assert.ok(!(await stream.carries(false)));
    await liberal(1);
    await stream.close();
  });

  it('behind the answers of a VM: its connection lives', async () => {
    const { stream, last } = await watched(on, 'w', out, 80);
    const { seq, ack, sourcePort } = last;
    for (const offset of [-FAR_OUT, FAR_OUT])
      for (const flags of ['PA', 'A', 'FA', 'RA'])
        await on.raw.send('w', {
          protocol: 'tcp',
          destination: out,
          sourcePort,
          destinationPort: 80,
          seq: seq + offset,
          ack,
          flags,
        });
    assert.ok(await stream.carries());
    await stream.close();
  });

  for (const [what, from, to, port] of connections.slice(2))
    for (const flags of ['FA', 'R', 'RA'])
      for (const emptied of [false, true])
        it(`${flags} by the peer ends ${what}${emptied ? ', also where the table was emptied' : ''}`, async () => {
          const { stream, last } = await watched(on, from, to, port);
          if (emptied) await sh(on, 'router', 'conntrack -F 2>&1');
          await on.raw.send('out', { ...answerTo(last, 0), flags });
          assert.deepEqual(await established(on, last), []);
          await stream.close();
        });
});

async function watched({ traffic, raw }: Guarded, from: HostName, to: string, port: number): Promise<Watched> {
  const arrivals = await raw.arrivals('out', 'tcp');
  const stream = await traffic.openStream({ from, to, port });
  assert.ok(await stream.carries());
  // On a busy machine its last segment comes late.
  for (let known = -1; known !== arrivals.seen().length; await sleep(200)) known = arrivals.seen().length;
  const last = arrivals.seen().at(-1) ?? assert.fail('nothing came to out');
  arrivals.stop();
  return { stream, last };
}

/** What `out` would send next, or `offset` away from it. */
function answerTo({ source, sourcePort, destinationPort, seq, ack, text }: Arrival, offset: number) {
  return {
    protocol: 'tcp',
    destination: source,
    sourcePort: destinationPort,
    destinationPort: sourcePort,
    seq: ack + offset,
    ack: seq + text.length,
  } as const;
}

/** The router's sockets of it that do not know of the end yet, once they had the time. */
async function established(on: Guarded, { sourcePort, destinationPort }: Arrival): Promise<string[]> {
  const filter = `state established '( sport = :${sourcePort} and dport = :${destinationPort} )'`;
  let lines: string[] = [];
  for (let waited = 0; waited < 2000; waited += 50) {
    lines = (await sh(on, 'router', `ss -Htn ${filter}`)).split('\n').filter((line) => line !== '');
    if (lines.length === 0) break;
    await sleep(50);
  }
  return lines;
}
