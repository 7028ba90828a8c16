// Packets for nowhere: for an address of a routed block that is nobody's, for a VM whose subnet is not there. They come in by the
// uplink once and do not leave by it, and what has a reason to leave where it came in still does.

import assert from 'node:assert/strict';
import { before, it } from 'node:test';
import { ADDRESSES, NICS } from '../lab/lab.ts';
import { asked, BASE, capture, onEachEngine, reload, run, sh, UPLINK } from './router.ts';

const { far, neighbour, out, router: uplink, v, w, x } = ADDRESSES;
/** Of a block that the provider leads here. */
const [MAPPED, FORWARDING, NOBODYS] = ['198.18.9.1', '198.18.9.2', '198.18.9.99'];
/** Reached by the uplink's network: on out, which answers to it by the router. */
const OUTER = '172.30.0.5';
const eips = (...pairs: [eip: string, vm: string][]) =>
  `eip_list:\n${pairs.map(([eip, vm]) => `  - { eip: ${eip}, vm-ip: ${vm} }\n`).join('')}`;
const CONFIG = `${BASE}${eips([MAPPED, v])}port_forward_list:
  - { eip: ${FORWARDING}, protocal: udp, port: 7000, vm-port: 7000, vm-ip: ${w} }
`;

onEachEngine('an address that is nobody', { beyond: true }, (on) => {
  /** How often packets with this destination are on the uplink's wire while `during` goes on: [sent, in all]. */
  const onWire = async (address: string, during: () => Promise<unknown>) => {
    const seen = await capture(on, 'out', 'eth0', `ip host ${address}`);
    const sent = await capture(on, 'far', 'eth0', `ip host ${address}`);
    await during();
    return [(await sent.lines()).length, (await seen.lines()).length];
  };
  before(async () => {
    await sh(on, 'out', `ip route add 198.18.9.0/24 via ${uplink}`);
    for (const host of ['v', 'w'] as const) await on.raw.answer(host, 'udp', 7000);
    await reload(on, CONFIG);
  });

  for (const protocol of ['udp', 'tcp', 'icmp', 'sctp', 'gre', 'esp'] as const)
    it(`that was never in the file: one packet of ${protocol} passes the wire once`, async () => {
      const flags = { tcp: 'S', icmp: '8/0', sctp: 'INIT' }[protocol as string] ?? '';
      const ends = { sourcePort: 5, destinationPort: 6 };
      const send = () => on.raw.send('far', { protocol, destination: NOBODYS, flags, ...ends, text: 'a text' });
      assert.deepEqual(await onWire(NOBODYS, send), [1, 1]);
    });

  it('and segments that conntrack cannot place, and fragments', async () => {
    const send = () =>
      on.raw.send('far', { protocol: 'tcp', destination: NOBODYS, flags: 'RA', sourcePort: 5, destinationPort: 6 });
    assert.deepEqual(await onWire(NOBODYS, send), [1, 1]);
    const ping = () => on.lab.host('far').run(['ping', '-n', '-c', '1', '-W', '0.3', '-s', '4000', NOBODYS]);
    assert.deepEqual(await onWire(NOBODYS, ping), [3, 3]);
  });

  for (const [what, address] of [
    ['mapped', MAPPED],
    ['forwarded', FORWARDING],
  ] as const)
    it(`that was ${what}, and went from the file: what goes on to come passes the wire once, and is dead no longer when it is back`, async () => {
      const same = { protocol: 'udp', port: 7000, sourcePort: 6000 } as const;
      await reload(on, CONFIG);
      const flow = await on.raw.start('far', { ...same, to: address, perSecond: 50 });
      assert.ok(await flow.answered());
      await reload(on, BASE);
      await flow.stop();
      const goOn = async () => {
        for (let packet = 0; packet < 20; packet++)
          await on.raw.send('far', { protocol: 'udp', destination: address, sourcePort: 6000, destinationPort: 7000 });
      };
      assert.deepEqual(await onWire(address, goOn), [20, 20]);
      await reload(on, CONFIG);
      assert.ok(await (await on.raw.start('far', { ...same, to: address, perSecond: 50 })).answered());
    });
});

onEachEngine('an EIP of a VM whose subnet is not there', { beyond: true, nics: [NICS.public, NICS.a] }, (on) => {
  const config = `${BASE}${eips([MAPPED, v], [FORWARDING, x])}`;
  /** Nobody gets an answer, and nothing of it leaves: the witness says that. */
  const asksInVain = async () => {
    const ways = [
      ['far', FORWARDING],
      ['w', FORWARDING],
      ['v', FORWARDING],
      ['router', FORWARDING],
      ['w', x],
      ['router', x],
    ] as const;
    const answers = ways.flatMap(([from, to]) => [
      asked(on, from, to),
      asked(on, from, to, 80, 'udp'),
      on.traffic.ping(from, to).then(({ reached }) => (reached ? `${from} reaches ${to}` : 'no answer')),
    ]);
    assert.deepEqual(new Set(await Promise.all(answers)), new Set(['no answer']));
    for (const from of ['far', 'w'] as const)
      for (const flags of ['RA', 'PA', 'SA', 'R'])
        for (const destination of [FORWARDING, x])
          await on.raw.send(from, {
            protocol: 'tcp',
            destination,
            flags,
            sourcePort: 80,
            destinationPort: 81,
            seq: 1,
            ack: 1,
          });
    assert.deepEqual(await on.lab.witness.leaks(), []);
  };
  before(async () => {
    await sh(on, 'out', `ip route add 198.18.9.0/24 via ${uplink}; ip route add 10.10.0.0/16 via ${uplink}`);
    for (const host of ['x', 'v'] as const)
      for (const transport of ['tcp', 'udp'] as const) await on.traffic.listen(host, transport, 80);
    await on.raw.answer('x', 'udp', 7000);
    await reload(on, config);
  });

  it('because it is pending', asksInVain);

  it('because it was unplugged under a flow, and the flow goes on when it is back', async () => {
    await on.lab.router.plug(NICS.b);
    await run(on, 'reload', '--trigger', 'udev');
    assert.equal(await asked(on, 'far', FORWARDING), `x:80 sees ${far}`);
    const [outer, inner] = [
      await on.raw.start('far', { protocol: 'udp', to: FORWARDING, port: 7000, perSecond: 50 }),
      await on.raw.start('w', { protocol: 'udp', to: x, port: 7000, perSecond: 50 }),
    ];
    for (const flow of [outer, inner]) assert.ok(await flow.answered());
    await on.lab.router.unplug(NICS.b);
    await asksInVain();
    await run(on, 'reload', '--trigger', 'udev');
    await asksInVain();
    await on.lab.router.plug(NICS.b);
    await run(on, 'reload', '--trigger', 'udev');
    for (const flow of [outer, inner]) {
      const { received } = flow.count();
      assert.ok(await flow.answered(() => flow.count().received > received), JSON.stringify(flow.count()));
    }
  });

  it('because its link is down', async () => {
    const flow = await on.raw.start('far', { protocol: 'udp', to: FORWARDING, port: 7000, perSecond: 50 });
    assert.ok(await flow.answered());
    await sh(on, 'router', 'ip link set eth2 down');
    await asksInVain();
    await run(on, 'reload');
    const { received } = flow.count();
    assert.ok(await flow.answered(() => flow.count().received > received));
  });

  it('because its link carries nothing', async () => {
    await on.lab.wire(NICS.b, 'down');
    await asksInVain();
    await on.lab.wire(NICS.b, 'up');
  });

  it('what the VMs that are there do is as ever', async () => {
    assert.equal(await asked(on, 'far', MAPPED), `v:80 sees ${far}`);
    assert.equal(await asked(on, 'w', MAPPED), `v:80 sees ${uplink}`);
  });
});

onEachEngine('what may leave by the uplink that it came in by', { beyond: true }, (on) => {
  const isOuter = new Set([OUTER, '172.30.0.6', '172.24.4.5']);
  before(async () => {
    on.lab.witness.excuse(
      'it comes back by the uplink',
      ({ kind, packet: { source = '', destination = '' } }) =>
        kind === 'bounced' && (isOuter.has(source) || isOuter.has(destination)),
    );
    // Such hosts on the uplink's segment have the router as their gateway.
    await sh(
      on,
      'out',
      `ip address add ${OUTER}/32 dev lo
       ip rule add from ${OUTER} lookup 100; ip route add default via ${uplink} table 100`,
    );
    await sh(on, 'neighbour', `ip route add 172.30.0.0/16 via ${uplink}`);
    for (const host of ['out', 'far', 'neighbour', 'v'] as const)
      for (const transport of ['tcp', 'udp'] as const) await on.traffic.listen(host, transport, 80);
  });

  it('an EIP whose VM is in the network of the uplink', async () => {
    await reload(on, `${BASE}${eips([MAPPED, neighbour])}`);
    await sh(on, 'out', `ip route add 198.18.9.0/24 via ${uplink}`);
    // It answers by the router.
    await sh(on, 'neighbour', `ip route replace default via ${uplink}`);
    for (const transport of ['tcp', 'udp'] as const)
      assert.equal(await asked(on, 'far', MAPPED, 80, transport), `neighbour:80 sees ${far}`);
    assert.equal(await asked(on, 'neighbour', far), `far:80 sees ${MAPPED}`);
    assert.equal(await asked(on, 'w', MAPPED), `neighbour:80 sees ${uplink}`);
    await sh(on, 'neighbour', `ip route replace default via ${out}`);
  });

  it('an EIP whose VM is behind a route through the network of the uplink', async () => {
    await reload(on, `${BASE}${eips([MAPPED, OUTER])}route_list: [{ dest: 172.30.0.0/16, via: ${out} }]\n`);
    assert.equal(await asked(on, 'far', MAPPED), `out:80 sees ${far}`);
    assert.equal((await on.traffic.ping('far', MAPPED)).reached, true);
  });

  it('what route_list leads through the network of the uplink, both ways', async () => {
    await reload(on, `${BASE}route_list: [{ dest: 172.30.0.0/16, via: ${out} }]\n`);
    const there = await capture(on, 'neighbour', 'eth0', `icmp and host ${OUTER}`);
    assert.equal((await on.traffic.ping('neighbour', OUTER)).reached, true);
    assert.equal((await there.lines()).length, 2);
    assert.equal(await asked(on, 'neighbour', OUTER), `out:80 sees ${neighbour}`);
    await sh(on, 'neighbour', `ip route add ${far} via ${uplink}`);
    const arrivals = await on.raw.arrivals('far', 'udp');
    const source = '172.30.0.6';
    await on.raw.send('neighbour', { protocol: 'udp', source, destination: far, sourcePort: 1, destinationPort: 1 });
    assert.equal((await arrivals.first(() => true))?.source, source);
    arrivals.stop();
    await sh(on, 'neighbour', `ip route del ${far}`);
    assert.equal(await asked(on, 'w', OUTER), `out:80 sees ${uplink}`);
  });

  it('without that entry, the same packets do not', async () => {
    await reload(on, BASE);
    await sh(on, 'router', `ip route add 172.30.0.0/16 via ${out}`);
    assert.equal((await on.traffic.ping('neighbour', OUTER)).reached, false);
    await sh(on, 'router', 'ip route del 172.30.0.0/16');
  });

  for (const to of ['masquerade', '203.0.113.40'])
    it(`a source of snat_list that comes in by the uplink, to ${to}`, async () => {
      const floating = '172.24.4.5';
      await reload(on, `${BASE}snat_list: [{ source: 172.24.4.0/24, to: ${to} }]\n`);
      await sh(
        on,
        'neighbour',
        `ip address replace ${floating}/32 dev lo; ip rule add from ${floating} lookup 100 pref 50; ip route replace default via ${uplink} table 100`,
      );
      await sh(on, 'router', `ip route replace ${floating}/32 via ${neighbour} dev eth0`);
      const seen = await capture(on, 'far', 'eth0', 'icmp and icmp[icmptype] = icmp-echo');
      await sh(on, 'neighbour', `ping -n -c 1 -W 1 -I ${floating} ${far}`);
      assert.match(
        (await seen.lines()).join('\n'),
        new RegExp(`^IP ${to === 'masquerade' ? uplink : to} > ${far}: [^\\n]*$`),
      );
      await sh(on, 'neighbour', `ip rule del from ${floating} lookup 100; ip address del ${floating}/32 dev lo`);
      await sh(on, 'router', `ip route del ${floating}/32 dev eth0`);
    });

  // Nothing here can encrypt: what -m policy matches comes from the kernel of somebody else. Its place says the rest.
  it('packets with an IPsec policy, by rules that are asked before those that drop', async () => {
    await reload(on, `${BASE}route_list: [{ dest: 172.30.0.0/16, via: ${out} }]\nfrom-uplink: drop\n`);
    const rules = (await sh(on, 'router', 'iptables-save')).split('\n');
    const of = (chain: string) =>
      rules.filter((rule) => rule.startsWith(`-A KYLIN-VR-${chain} `)).map((rule) => rule.replace(/^-A \S+ /, ''));
    const place = (chain: string, rule: string | RegExp) => {
      const found = of(chain).findIndex((each) => (typeof rule === 'string' ? each === rule : rule.test(each)));
      assert.ok(found >= 0, `${rule} in ${chain}: ${of(chain).join('\n')}`);
      return found;
    };
    const before = (chain: string, direction: string) =>
      assert.ok(
        place(chain, `-m policy --dir ${direction} --pol ipsec -j RETURN`) <
          place(chain, /-j (DROP|KYLIN-VR-NOWHERE)$/),
        chain,
      );
    before('BOUNCE', 'in');
    before('BOUNCE', 'out');
    before('ENTERING', 'in');
    before('UPLINK', 'out');
  });

  it('what comes in with the uplink alone, too: no subnet is needed', async () => {
    await reload(on, `if_list:\n${UPLINK}`);
    await on.raw.send('neighbour', { protocol: 'udp', destination: '172.30.9.9', sourcePort: 1, destinationPort: 1 });
    assert.deepEqual(await on.lab.witness.leaks(), []);
  });
});
