// What conntrack cannot place, NAT does not translate: segments of a TCP connection that was forgotten or cut, ICMP errors about no
// flow. None of it leaves an uplink with a private source where it would have been translated, and all of it where not.

import assert from 'node:assert/strict';
import { before, beforeEach, it } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { packet } from '../lab/ipv4.ts';
import { ADDRESSES, type HostName } from '../lab/lab.ts';
import { EIPS } from '../lab/table.ts';
import { BASE, capture, type Guarded, onEachEngine, reload, sh } from './router.ts';

const { far, out, router: uplink, v, w } = ADDRESSES;
const eip = (vm: string) => `eip_list:\n  - { eip: ${EIPS.v}, vm-ip: ${vm} }\n`;

onEachEngine('packets that conntrack cannot place', {}, (on) => {
  before(async () => {
    await on.traffic.listen('v', 'tcp', 80);
    await on.traffic.listen('out', 'tcp', 80);
    // Else its kernel says that there is no such connection.
    await on.raw.silence('out', 'tcp', 4000);
  });
  beforeEach(() => reload(on, BASE + eip(v)));

  for (const from of ['v', 'w'] as const) {
    it(`${from === 'v' ? 'with an EIP' : 'without one'}: nothing of what a VM sends leaves with a private source`, async () => {
      assert.deepEqual(await sentOut(on, from), []);
    });

    it(`${from === 'v' ? 'with an EIP' : 'without one'}: data of a forgotten connection leave translated`, async () => {
      const source = from === 'v' ? EIPS.v : uplink;
      assert.deepEqual(await sentOut(on, from, ['PA']), [`${source} PA`]);
    });
  }

  const moves: [what: string, config: string][] = [
    ['went', BASE],
    ['moved to another VM', BASE + eip(w)],
  ];
  for (const [what, config] of moves)
    it(`the last segments of connections that were cut, because the EIP ${what}, do not leave`, async () => {
      const [inward, outward] = [
        await on.traffic.openStream({ from: 'out', to: EIPS.v, port: 80 }),
        await on.traffic.openStream({ from: 'v', to: out, port: 80 }),
      ];
      const port = Number(
        / 203\.0\.113\.1:(\d+) /.exec(await sh(on, 'out', `ss -Htn state established dst ${EIPS.v}:80`))?.[1],
      );
      const seen = await capture(on, 'out', 'eth0', `tcp and src host ${v}`);
      await reload(on, config);
      await outward.close();
      // As v's kernel would end the other.
      assert.ok(port > 0);
      for (const flags of ['FA', 'RA', 'R'])
        await on.raw.send('v', {
          protocol: 'tcp',
          destination: out,
          sourcePort: 80,
          destinationPort: port,
          flags,
          seq: 9,
          ack: 9,
        });
      await sleep(500);
      assert.deepEqual(await seen.lines(), []);
      await inward.close();
    });

  it('with snat_list: [] or an entry that says none they leave as they are, but for a VM with an EIP', async () => {
    on.lab.witness.excuse('snat_list says so', ({ packet: { source } }) => source === w);
    for (const list of ['[]', '[{ source: 10.10.1.0/24, to: none }]']) {
      await reload(on, `${BASE}${eip(v)}snat_list: ${list}\n`);
      assert.deepEqual(
        await sentOut(on, 'w'),
        ['RA', 'FA', 'R', 'SA', '3/3', '11/0'].map((flags) => `${w} ${flags}`),
      );
      assert.deepEqual(await sentOut(on, 'v'), []);
    }
  });

  it('with an entry for a subnet that says none, the other subnet is guarded', async () => {
    await reload(
      on,
      `${BASE}snat_list: [{ source: 10.10.2.0/24, to: none }, { source: 10.10.0.0/16, to: uplink }]\n`.replace(
        'uplink',
        'masquerade',
      ),
    );
    assert.deepEqual(await sentOut(on, 'w'), []);
  });

  it('a routed subnet whose answers come back another way has its connections', async () => {
    on.lab.witness.excuse('snat_list says so', ({ packet: { source } }) => source === w);
    await reload(on, `${BASE}${eip(v)}snat_list: []\n`);
    // From out straight to w.
    const { pid } = on.lab.host('w');
    await sh(on, 'out', `ip link add eth2 up type veth peer name eth2 netns ${pid}; ip route add ${w} dev eth2`);
    await sh(on, 'w', 'ip link set eth2 up; ip neigh flush all');
    const answers = await capture(on, 'out', 'eth2', `tcp and dst host ${w}`);
    const stream = await on.traffic.openStream({ from: 'w', to: out, port: 80 });
    assert.ok(await stream.carries());
    await stream.close();
    assert.notEqual((await answers.lines()).length, 0);
    await sh(on, 'out', 'ip link delete eth2');
  });

  it('an ICMP error about a flow that is known leaves translated', async () => {
    const question = { protocol: 'udp', source: out, sourcePort: 3000, destinationPort: 3001, text: 'x' } as const;
    const [there, back] = [await on.raw.arrivals('v', 'udp'), await on.raw.arrivals('out', 'icmp')];
    await on.raw.silence('v', 'udp', 3001);
    await on.raw.send('out', { ...question, destination: EIPS.v });
    const about = (await there.first(({ destinationPort }) => destinationPort === 3001)) ?? assert.fail();
    await on.raw.send('v', { protocol: 'icmp', destination: out, flags: '3/10', about });
    assert.equal((await back.first(({ flags }) => flags === '3/10'))?.source, EIPS.v);
  });
});

/** Sends what conntrack cannot place; gives what of it comes out, in its order. */
async function sentOut(on: Guarded, from: HostName, segments = ['RA', 'FA', 'R', 'SA']): Promise<string[]> {
  const arrivals = await on.raw.arrivals('out', 'tcp', 'icmp');
  const ends = { sourcePort: 4000, destinationPort: 4000 };
  await sh(on, 'router', 'conntrack -D --dport 4000 2>&1 || true');
  for (const flags of segments)
    await on.raw.send(from, {
      protocol: 'tcp',
      destination: out,
      ...ends,
      flags,
      seq: 5000,
      ack: 5000,
      text: flags === 'PA' ? 'x' : '',
    });
  const about = packet({
    protocol: 'udp',
    source: far,
    destination: ADDRESSES[from],
    sourcePort: 9,
    destinationPort: 9,
  });
  if (segments.length > 1)
    for (const flags of ['3/3', '11/0']) await on.raw.send(from, { protocol: 'icmp', destination: out, flags, about });
  await sleep(200);
  arrivals.stop();
  return arrivals.seen().map(({ source, flags }) => `${source} ${flags}`);
}
