// What somebody else decides over stays through a hundred changes: entries of other zones, an operator's REDIRECT and ACCEPT, routes by
// other devices, containers, policy routing. What is ours changes with each of them.

import assert from 'node:assert/strict';
import { after, before, describe, it } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import type { Flow } from '../../src/network/flow.ts';
import { eventually } from '../lab/eventually.ts';
import { ADDRESSES, createLab, type HostName, type Lab } from '../lab/lab.ts';
import { createNamespace, type Namespace } from '../lab/namespace.ts';
import { createRaw, type Raw, type RawFlow } from '../lab/raw.ts';
import { createTraffic, type Stream, type Traffic } from '../lab/traffic.ts';
import { allIsRight, configOf, entries, type Mapping, reload, shown } from './lab.ts';

const { far, router: uplink, v, w, x, y } = ADDRESSES;
const [E, F, OF_X, NEAR] = ['203.0.113.50', '203.0.113.51', '203.0.113.52', '203.0.113.60'];
const [TUNNEL, MASQUERADED] = ['172.30.0.1', '172.30.0.2'];
const CONTAINER = '172.17.0.2';
const PORT = 7000;

/** What changes: whom E and the forwards lead to, and who has an EIP of his own. */
const CHANGES: Mapping[] = [
  { eips: { [E]: v }, forwards: { [`${NEAR} udp ${PORT}`]: `${w} ${PORT}` } },
  { eips: { [E]: w }, forwards: { [`${NEAR} udp ${PORT}`]: `${v} ${PORT}` } },
  { eips: { [E]: v, [F]: y, [OF_X]: x }, forwards: { [`${NEAR} udp 6999-7001`]: `${w} 6999` } },
  {
    eips: { [E]: w, [F]: x },
    forwards: { [`${NEAR} tcp ${PORT}`]: `${v} ${PORT}`, [`${NEAR} udp ${PORT}`]: `${v} ${PORT}` },
  },
  { eips: { [E]: v, [F]: w } },
];

/** The other end of wg0 is far's, and there are two of its addresses. */
const OPERATOR = (farPid: number, containerPid: number) => `
  ip link add wg0 type veth peer name wg1 netns ${farPid}
  ip address add 10.99.0.1/30 dev wg0; ip link set wg0 up
  ip route add 172.30.0.0/16 via 10.99.0.2 dev wg0
  ip route add default via 10.99.0.2 dev wg0 table 100
  ip rule add from ${y} table 100 pref 1000
  ip rule add fwmark 7 table 100 pref 1001
  iptables -t mangle -A PREROUTING -s ${x} -p udp --dport 4600 -j MARK --set-mark 7
  iptables -t nat -A POSTROUTING -o wg0 -d ${MASQUERADED} -j MASQUERADE
  iptables -t nat -I PREROUTING 1 -d ${E} -p tcp --dport 2222 -j REDIRECT --to-ports 22
  iptables -t nat -I POSTROUTING 1 -s 10.10.1.0/24 -d ${far} -p udp --dport 4500 -j ACCEPT
  ip link add docker0 type bridge; ip address add 172.17.0.1/16 dev docker0; ip link set docker0 up
  ip link add veth0 master docker0 up type veth peer name eth0 netns ${containerPid}
  iptables -t nat -N DOCKER
  iptables -t nat -I PREROUTING 1 -m addrtype --dst-type LOCAL -j DOCKER
  iptables -t nat -A POSTROUTING -s 172.17.0.0/16 ! -o docker0 -j MASQUERADE
  iptables -t nat -A DOCKER ! -i docker0 -p tcp --dport 8088 -j DNAT --to-destination ${CONTAINER}:80`;

const zoned = (n: number) =>
  `-I -w 5 -p udp -t 3600 -s ${far} -d ${E} -r ${n % 2 ? v : w} -q ${far} --sport ${5000 + n} --dport 53 --reply-port-src 53 --reply-port-dst ${5000 + n}`;

for (const iptables of ['nft', 'legacy'] as const)
  describe(`flows of others: ${iptables}`, { concurrency: false }, () => {
    let lab: Lab;
    let raw: Raw;
    let traffic: Traffic;
    let container: Namespace;
    before(async () => {
      lab = await createLab({ iptables });
      raw = createRaw(lab);
      traffic = createTraffic(lab);
      lab.witness.excuse('the operator says so', ({ packet }) => packet.destinationPort === 4500);
      await reload(lab, configOf(CHANGES[0] ?? {}));
      container = await createNamespace();
      const sh = (host: Pick<Namespace, 'run'>, script: string) => host.run(['sh', '-ec', script], { check: true });
      await sh(lab.router, OPERATOR(lab.host('far').pid, container.pid));
      await sh(
        lab.host('far'),
        `ip address add 10.99.0.2/30 dev wg1; ip link set wg1 up; ip route add 10.10.0.0/16 via 10.99.0.1
        for address in ${TUNNEL} ${MASQUERADED}; do ip address add $address/32 dev lo; done`,
      );
      await sh(
        container,
        `ip address add ${CONTAINER}/16 dev eth0; ip link set eth0 up; ip route add default via 172.17.0.1`,
      );
      await lab.router.run(['sh', '-ec', 'cat > /run/batch; conntrack -R /run/batch'], {
        input: Array.from({ length: 20 }, (_, n) => `${zoned(n)}\n`).join(''),
        check: true,
      });
    });
    after(async () => {
      await container?.end();
      await lab?.close();
    });

    it('stay through a hundred changes, each of which cuts what is ours', async (t) => {
      const streams: Stream[] = [];
      for (const host of ['far', 'router'] as const) await traffic.listen(host, 'tcp', 22);
      const server = container.spawn([
        process.execPath,
        '-e',
        "require('node:net').createServer((s) => s.on('error', () => {}).write('{}\\n') && s.pipe(s)).listen(80)",
      ]);
      t.after(() => server.kill());
      for (const [from, to, port] of [
        ['far', E, 2222],
        ['w', TUNNEL, 22],
        ['w', MASQUERADED, 22],
        ['y', far, 22],
        ['out', uplink, 8088],
        ['out', NEAR, 8088],
      ] as const)
        streams.push(await retried(() => traffic.openStream({ from, to, port })));
      const pinged = container.spawn(['ping', '-n', '-i', '0.5', far], { stdio: 'ignore' });
      t.after(() => pinged.kill());
      await raw.silence('far', 'udp');
      const udp = (from: HostName, to: string, port: number): Promise<RawFlow> =>
        raw.start(from, { protocol: 'udp', to, port, perSecond: 10 });
      const flows = [
        await udp('w', far, 4500),
        await udp('v', far, 4500),
        await udp('y', far, 4501),
        await udp('x', far, 4600),
        await udp('v', TUNNEL, 4501),
        await udp('v', MASQUERADED, 4501),
      ];
      const ours = [
        await udp('far', E, PORT),
        await udp('out', NEAR, PORT),
        await udp('w', '192.0.2.1', 9),
        await udp('v', '192.0.2.1', 9),
        await udp('x', '192.0.2.1', 9),
      ];
      t.after(() => Promise.all([...flows, ...ours].map((flow) => flow.stop())));
      await Promise.all(streams.map((stream) => stream.carries()));
      const foreign = async () =>
        (await entries(lab))
          .filter(isForeign)
          .map((flow) => `${flow.id} ${flow.zoned ? 'in a zone: ' : ''}${shown(flow)}`)
          .sort();
      // A first packet that waits for a neighbour has no entry yet.
      await eventually(async () => (await foreign()).length, streams.length + flows.length + 1 + 20);
      const known = await foreign();

      for (let n = 1; n <= 100; n++) {
        const mapping = CHANGES[n % CHANGES.length] ?? {};
        const { warnings } = await reload(lab, configOf(mapping));
        assert.deepEqual(warnings, []);
        const wrong = (await entries(lab)).filter((flow) => !isForeign(flow) && !isAs(mapping)(flow));
        assert.deepEqual(wrong.map(shown), [], `change ${n}`);
      }
      assert.deepEqual(await foreign(), known);
      for (const stream of streams) assert.ok(await stream.carries());
      await allIsRight(lab);
      assert.deepEqual(await foreign(), known);
    });
  });

const isForeign = ({ zoned, protocol, source, destinationPort = 0 }: Flow): boolean =>
  zoned ||
  [22, 2222, 8088, 4500, 4501, 4600].includes(destinationPort) ||
  (protocol === 'icmp' && source === CONTAINER);

/** Whether one of our flows is what the file says. */
const isAs =
  ({ eips = {}, forwards = {} }: Mapping) =>
  ({ protocol, source, destination, replySource, replyDestination, destinationPort }: Flow): boolean => {
    const own = Object.entries(eips).find(([, vm]) => vm === source)?.[0] ?? uplink;
    if (destination === E) return replySource === eips[E] && replyDestination === source;
    if (destination === NEAR) {
      const forward = Object.entries(forwards).find(([from]) => from.startsWith(`${NEAR} ${protocol}`));
      return forward !== undefined && replySource === forward[1].split(' ')[0];
    }
    if (destination === '192.0.2.1' && destinationPort === 9) return replyDestination === own;
    return true;
  };

/** The first packet may find no neighbour yet, or a server that is about to start. */
async function retried<T>(attempt: () => Promise<T>): Promise<T> {
  for (let tries = 1; ; tries++)
    try {
      return await attempt();
    } catch (error) {
      if (tries === 50) throw error;
      await sleep(100);
    }
}
