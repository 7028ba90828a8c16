// What belongs to a flow goes its way with it, through EIP, forward, hairpin and the uplink's address: ICMP errors, fragments, path
// MTU, what traceroute lives of; and two EIPs that are exchanged under load.

import assert from 'node:assert/strict';
import { before, describe, it } from 'node:test';
import type { Protocol } from '../lab/ipv4.ts';
import { ADDRESSES, GATEWAYS, type HostName } from '../lab/lab.ts';
import { EIPS, NEAR } from '../lab/table.ts';
import { BASE, type Guarded, onEachEngine, reload, sh } from './router.ts';

const { far, out, router: uplink, v, w, x } = ADDRESSES;
const SMALL = 1300;
const eips = (forV: string, forX: string) => `eip_list:
  - { eip: ${forV}, vm-ip: ${v} }
  - { eip: ${forX}, vm-ip: ${x} }
`;
const FORWARDS = `port_forward_list:
  - { eip: ${NEAR}, protocal: tcp, port: 8080, vm-port: 80, vm-ip: ${w} }
  - { eip: ${NEAR}, protocal: udp, port: 5353, vm-port: 5354, vm-ip: ${w} }
  - { eip: ${uplink}, protocal: udp, port: 5353, vm-port: 5354, vm-ip: ${w} }
`;
const CONFIG = BASE + eips(EIPS.v, EIPS.x) + FORWARDS;

/** One flow each way through: who asks whom by what address, who is asked, and whom he sees. */
type Way = { what: string; from: HostName; to: string; port: number; by: HostName; arrivesAt: number; sees: string };
const ways: Way[] = [
  { what: 'from outside to an EIP', from: 'far', to: EIPS.v, port: 5354, by: 'v', arrivesAt: 5354, sees: far },
  { what: 'from outside to a forward', from: 'far', to: NEAR, port: 5353, by: 'w', arrivesAt: 5354, sees: far },
  {
    what: "to a forward on the uplink's address",
    from: 'far',
    to: uplink,
    port: 5353,
    by: 'w',
    arrivesAt: 5354,
    sees: far,
  },
  {
    what: 'from a VM with an EIP to the outside',
    from: 'v',
    to: far,
    port: 5354,
    by: 'far',
    arrivesAt: 5354,
    sees: EIPS.v,
  },
  { what: 'from a VM without one', from: 'w', to: far, port: 5354, by: 'far', arrivesAt: 5354, sees: uplink },
  {
    what: 'from inside to an EIP of the same subnet',
    from: 'w',
    to: EIPS.v,
    port: 5354,
    by: 'v',
    arrivesAt: 5354,
    sees: uplink,
  },
  {
    what: 'from inside to an EIP of another',
    from: 'v',
    to: EIPS.x,
    port: 5354,
    by: 'x',
    arrivesAt: 5354,
    sees: EIPS.v,
  },
  { what: 'from inside to a forward', from: 'x', to: NEAR, port: 5353, by: 'w', arrivesAt: 5354, sees: EIPS.x },
  { what: 'from a VM to its own EIP', from: 'v', to: EIPS.v, port: 5354, by: 'v', arrivesAt: 5354, sees: EIPS.v },
];

onEachEngine('what belongs to a flow', {}, (on) => {
  before(async () => {
    // Errors as often as there is reason.
    for (const host of ['far', 'out', 'v', 'w', 'x'] as const)
      await sh(on, host, 'sysctl -qw net.ipv4.icmp_ratelimit=0 net.ipv4.icmp_msgs_per_sec=100000');
    await sh(on, 'router', 'sysctl -qw net.ipv4.icmp_ratelimit=0');
    await reload(on, CONFIG);
  });

  describe('ICMP errors', () => {
    for (const { what, from, to, port, by, arrivesAt, sees } of ways) {
      it(`${what}: the one who asks a closed port learns it, from the address that he asked`, async () => {
        const errors = await on.raw.arrivals(from, 'icmp');
        await on.raw.send(from, {
          protocol: 'udp',
          destination: to,
          sourcePort: 3000,
          destinationPort: port,
          text: 'x',
        });
        assert.equal((await errors.first(({ flags }) => flags === '3/3'))?.source, to);
        errors.stop();
      });

      it(`${what}: the one who answers a port that closed meanwhile learns it, from the address that he saw`, async () => {
        const [questions, errors] = [await on.raw.arrivals(by, 'udp'), await on.raw.arrivals(by, 'icmp')];
        await on.raw.silence(by, 'udp', arrivesAt);
        await on.raw.send(from, {
          protocol: 'udp',
          destination: to,
          sourcePort: 3001,
          destinationPort: port,
          text: 'x',
        });
        const asked = (await questions.first(({ destinationPort }) => destinationPort === arrivesAt)) ?? assert.fail();
        assert.equal(asked.source, sees);
        await on.raw.send(by, {
          protocol: 'udp',
          destination: asked.source,
          sourcePort: asked.destinationPort,
          destinationPort: asked.sourcePort,
          text: 'y',
        });
        assert.equal((await errors.first(({ flags }) => flags === '3/3'))?.source, sees);
        questions.stop();
        errors.stop();
        await sh(on, by, 'nft delete table ip lab');
      });
    }
  });

  describe('fragments', () => {
    before(async () => {
      for (const [host, port] of [
        ['far', 5354],
        ['v', 5354],
        ['w', 5354],
        ['x', 5354],
      ] as const)
        await on.traffic.listen(host, 'udp', port);
    });
    for (const { what, from, to, port, by } of ways)
      it(`${what}: a datagram of 6,000 bytes goes there and comes back`, async () => {
        assert.equal(await echoed(on, from, to, port, 6000), `${by} 6000`);
      });
  });

  describe('path MTU', () => {
    before(async () => {
      for (const [host, port] of [
        ['far', 80],
        ['v', 80],
        ['w', 80],
        ['x', 80],
      ] as const)
        await on.traffic.listen(host, 'tcp', port);
      // Beyond out towards far, and between the router and b; the ends know nothing of it.
      await sh(
        on,
        'out',
        `ip route change 192.0.2.0/24 dev eth1 proto kernel scope link src 192.0.2.1 mtu lock ${SMALL}`,
      );
      const toB = '10.10.2.0/24 dev eth2 proto kernel scope link src 10.10.2.254';
      await sh(on, 'router', `ip route change ${toB} mtu lock ${SMALL}`);
    });

    const bulky: [what: string, from: HostName, to: string, port: number][] = [
      ['from a VM with an EIP to the outside', 'v', far, 80],
      ['from a VM without one', 'w', far, 80],
      ['from outside to an EIP', 'far', EIPS.v, 80],
      ['from outside to a forward', 'far', NEAR, 8080],
      ['from inside to an EIP of a subnet with a small MTU', 'w', EIPS.x, 80],
      ['to a forward from such a subnet', 'x', NEAR, 8080],
    ];
    for (const [what, from, to, port] of bulky)
      it(`${what}: 300,000 bytes go there and come back by TCP`, async () => {
        assert.equal(await echoedByTcp(on, from, to, port, 300_000), 300_000);
      });

    for (const [what, from, to] of [
      ['a VM with an EIP', 'v', far],
      ['a VM without one', 'w', far],
      ['a VM that asks an EIP of the other subnet', 'w', EIPS.x],
      ['somebody outside who asks an EIP', 'out', EIPS.x],
    ] as const)
      it(`${what} is told what fits`, async () => {
        const { stdout, stderr } = await on.lab
          .host(from)
          .run(['sh', '-c', `ip route flush cache; ping -n -c 2 -i 0.1 -W 1 -M do -s 1400 ${to}`]);
        assert.match(stdout + stderr, new RegExp(`mtu ?= ?${SMALL}`));
      });
  });

  describe('traceroute', () => {
    const hops = async (from: HostName, to: string, protocol: Protocol, most: number) => {
      const errors = await on.raw.arrivals(from, 'icmp');
      const seen: string[] = [];
      for (let ttl = 1; ttl <= most; ttl++) {
        const flags = { tcp: 'S', icmp: '8/0' }[protocol as string] ?? '';
        const known = errors.seen().length;
        await on.raw.send(from, {
          protocol,
          destination: to,
          ttl,
          flags,
          sourcePort: 4400 + ttl,
          destinationPort: 33_434 + ttl,
          seq: ttl,
        });
        await errors.first(() => errors.seen().length > known, 1000);
        const error = errors.seen()[known];
        seen.push(error === undefined ? '*' : `${error.source} ${error.flags}`);
      }
      errors.stop();
      return seen;
    };
    for (const protocol of ['udp', 'tcp', 'icmp'] as const) {
      it(`by ${protocol} from outside to an EIP: the gateway, then the EIP, as which the router speaks of it, and no private address`, async () => {
        assert.deepEqual(await hops('far', EIPS.v, protocol, 2), ['192.0.2.1 11/0', `${EIPS.v} 11/0`]);
      });
      for (const from of ['v', 'w'] as const)
        it(`by ${protocol} from ${from} to the outside: the router, the gateway`, async () => {
          assert.deepEqual(await hops(from, far, protocol, 2), [`${GATEWAYS.a} 11/0`, `${out} 11/0`]);
        });
      it(`by ${protocol} from inside to an EIP of another subnet: the router`, async () => {
        assert.deepEqual((await hops('w', EIPS.x, protocol, 1)).length, 1);
      });
    }
    it('by udp to its end', async () => {
      assert.deepEqual((await hops('w', far, 'udp', 3)).at(-1), `${far} 3/3`);
      assert.deepEqual((await hops('far', EIPS.v, 'udp', 3)).at(-1), `${EIPS.v} 3/3`);
    });
  });

  it('two EIPs that are exchanged under load: each sender reaches the other VM, each VM leaves as the other EIP', async () => {
    for (const host of ['v', 'x', 'far'] as const) await on.raw.answer(host, 'udp', 7000);
    const start = (from: HostName, to: string) =>
      on.raw.start(from, { protocol: 'udp', to, port: 7000, perSecond: 200 });
    const [toV, toX, ofV, ofX, within] = [
      await start('far', EIPS.v),
      await start('far', EIPS.x),
      await start('v', far),
      await start('x', far),
      await start('w', EIPS.v),
    ];
    const are = async (byV: HostName, byX: HostName, vIs: string, xIs: string) => {
      const answers = [
        toV.answered(({ by }) => by === byV),
        toX.answered(({ by }) => by === byX),
        ofV.answered(({ seenSource }) => seenSource === vIs),
        ofX.answered(({ seenSource }) => seenSource === xIs),
        within.answered(({ by }) => by === byV),
      ];
      assert.deepEqual(await Promise.all(answers), Array(5).fill(true));
    };
    await are('v', 'x', EIPS.v, EIPS.x);
    for (let time = 0; time < 3; time++) {
      await reload(on, BASE + eips(EIPS.x, EIPS.v) + FORWARDS);
      await are('x', 'v', EIPS.x, EIPS.v);
      await reload(on, CONFIG);
      await are('v', 'x', EIPS.v, EIPS.x);
    }
    for (const flow of [toV, toX, ofV, ofX, within]) {
      // An answer that is under way when its entry goes is a flow of the VM's own: it may stray.
      assert.equal((await flow.stop()).turns.length, 7);
    }
  });
});

/** By a kernel's socket, which takes it apart and puts it together; who answered, and how much came back. */
async function echoed({ lab }: Guarded, from: HostName, to: string, port: number, bytes: number): Promise<string> {
  const script = `
    const socket = require('node:dgram').createSocket('udp4');
    socket.on('message', (message) => {
      const { by, text } = JSON.parse(message);
      process.stdout.write(by + ' ' + text.length);
      socket.close();
    });
    socket.send('x'.repeat(${bytes}), ${port}, '${to}');
    setTimeout(() => process.exit(1), 3000).unref();`;
  return (await lab.host(from).run([process.execPath, '-e', script])).stdout;
}

async function echoedByTcp({ lab }: Guarded, from: HostName, to: string, port: number, bytes: number): Promise<number> {
  const script = `
    const socket = require('node:net').connect(${port}, '${to}', () => socket.end('#'.repeat(${bytes})));
    let count = 0;
    socket.on('data', (data) => { count += data.toString().replace(/[^#]/g, '').length; });
    socket.on('close', () => process.stdout.write(String(count)));
    setTimeout(() => process.exit(1), 5000).unref();`;
  return Number((await lab.host(from).run([process.execPath, '-e', script])).stdout);
}
