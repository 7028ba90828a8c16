// Raw flows themselves: each protocol goes through a running router there and back, and conntrack knows it.

import assert from 'node:assert/strict';
import { after, before, describe, it } from 'node:test';
import type { Protocol } from './ipv4.ts';
import { ADDRESSES, createLab, type Lab } from './lab.ts';
import { createRaw, type Raw } from './raw.ts';
import { EIPS, elastic, NEAR } from './table.ts';

const { far, out, v, w } = ADDRESSES;
const PORT = 7000;
const PROTOCOLS = ['udp', 'tcp', 'icmp', 'sctp', 'gre', 'esp', 'ipip'] as const satisfies Protocol[];
/** As conntrack calls them. */
const NAMES: Partial<Record<Protocol, string>> = { esp: '50', ipip: '4' };

describe('raw flows', { concurrency: false }, () => {
  let lab: Lab;
  let raw: Raw;
  const entries = async (...filter: string[]) =>
    (await lab.router.run(['conntrack', '-L', ...filter])).stdout.trimEnd().split('\n');
  before(async () => {
    lab = await createLab();
    raw = createRaw(lab);
    await lab.configure(elastic.config);
    for (const command of ['start', 'reload']) {
      const { status, stderr } = await lab.kylin(command);
      assert.equal(status, 0, stderr);
    }
    for (const protocol of PROTOCOLS)
      for (const host of ['v', 'out'] as const)
        await raw.answer(host, protocol, ['udp', 'tcp', 'sctp'].includes(protocol) ? PORT : undefined);
  });
  after(() => lab?.close());

  for (const protocol of PROTOCOLS) {
    const said = protocol === 'icmp' ? { by: '', seenSource: '' } : undefined;

    it(`${protocol} from outside to an EIP is answered by its VM`, async () => {
      const flow = await raw.start('far', { protocol, to: EIPS.v, port: PORT, perSecond: 50 });
      assert.ok(await flow.answered(), `${flow.count().sent} are not answered`);
      const entry = await entries('--orig-src', far, '--orig-dst', EIPS.v, '-p', NAMES[protocol] ?? protocol);
      const { sent, received, turns, strayed } = await flow.stop();
      assert.deepEqual(
        { received, strayed, turns: turns.map(({ by, seenSource }) => ({ by, seenSource })) },
        { received: sent, strayed: 0, turns: [said ?? { by: 'v', seenSource: far }] },
      );
      assert.match(entry.join('\n'), new RegExp(`src=${far} dst=${EIPS.v} .*src=${v} dst=${far} `));
    });

    it(`${protocol} from a VM without one leaves as the uplink's address`, async () => {
      const flow = await raw.start('w', { protocol, to: out, port: PORT, perSecond: 50 });
      assert.ok(await flow.answered(), `${flow.count().sent} are not answered`);
      const { turns } = await flow.stop();
      assert.deepEqual(
        turns.map(({ by, seenSource }) => ({ by, seenSource })),
        [said ?? { by: 'out', seenSource: ADDRESSES.router }],
      );
    });
  }

  it('a flow of SCTP is answered as long as it goes on', async () => {
    const flow = await raw.start('out', { protocol: 'sctp', to: EIPS.v, port: PORT, perSecond: 100 });
    await flow.answered(({ received }) => received === 100);
    const { sent, received } = await flow.stop();
    assert.ok(sent >= 100);
    assert.equal(received, sent);
  });

  it('a forward answers a TCP flow by the port that was asked', async () => {
    await raw.answer('w', 'tcp', 80);
    const flow = await raw.start('out', { protocol: 'tcp', to: NEAR, port: 8080, perSecond: 20 });
    assert.ok(await flow.answered(({ by }) => by === 'w'));
    await flow.stop();
  });

  it('a segment has the flags and numbers that it was given', async () => {
    const arrivals = await raw.arrivals('v', 'tcp');
    await raw.send('out', {
      protocol: 'tcp',
      destination: EIPS.v,
      sourcePort: 3000,
      destinationPort: 3001,
      flags: 'S',
      seq: 5,
      window: 99,
    });
    const { at: _, ...segment } = (await arrivals.first(({ destinationPort }) => destinationPort === 3001)) ?? {};
    assert.deepEqual(segment, {
      protocol: 'tcp',
      source: out,
      destination: v,
      sourcePort: 3000,
      destinationPort: 3001,
      ttl: 63,
      flags: 'S',
      seq: 5,
      ack: 0,
      window: 99,
      tag: 0,
      peerTag: 0,
      text: '',
    });
    arrivals.stop();
  });

  it('an ICMP error about a flow reaches the VM that the flow is of', async () => {
    const [ours, theirs] = [await raw.arrivals('w', 'icmp'), await raw.arrivals('out', 'udp')];
    await raw.send('w', { protocol: 'udp', destination: out, sourcePort: 3002, destinationPort: 3003, text: 'x' });
    const { at: _, ...about } =
      (await theirs.first(({ destinationPort }) => destinationPort === 3003)) ?? assert.fail();
    await raw.send('out', { protocol: 'icmp', destination: about.source, flags: '3/10', about });
    const error = await ours.first(({ flags }) => flags === '3/10');
    assert.deepEqual([error?.source, error?.destination], [out, w]);
  });

  it('counts who answers, and from when on', async () => {
    const flow = await raw.start('far', { protocol: 'udp', to: EIPS.v, port: 7001, perSecond: 100 });
    await raw.answer('v', 'udp', 7001);
    await raw.answer('w', 'udp', 7001);
    assert.ok(await flow.answered(({ by }) => by === 'v'));
    await lab.configure(elastic.config.replace(`vm-ip: ${v} }`, `vm-ip: ${w} }`));
    assert.equal((await lab.kylin('reload')).status, 0);
    assert.ok(await flow.answered(({ by }) => by === 'w'));
    const { turns } = await flow.stop();
    assert.deepEqual(
      turns.map(({ by, seenSource }) => ({ by, seenSource })),
      ['v', 'w'].map((by) => ({ by, seenSource: far })),
    );
    const [first, second] = turns;
    assert.ok(first !== undefined && second !== undefined && first.last < second.since);
  });
});
