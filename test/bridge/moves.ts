// The uplink as a port of a bridge: there, back, and from wherever an interrupted run left it; with real traffic.

import assert from 'node:assert/strict';
import { once } from 'node:events';
import type { Readable } from 'node:stream';
import { after, before, describe, it } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { ADDRESSES, type Lab, NICS } from '../lab/lab.ts';
import { networkOf } from '../lab/state.ts';
import { EIPS, elastic, listen, nameOf, observe, type Row, type Scenario, snat } from '../lab/table.ts';
import { createTraffic, type Traffic } from '../lab/traffic.ts';
import { eip } from '../scenarios/change.ts';

export type BridgeType = 'linux' | 'ovs';

/** What differs between the bridges. */
export type Kind = {
  type: BridgeType;
  createLab(): Promise<Lab>;
  /** Shell commands: br-ex made by somebody else, and NICs put in and taken out. */
  make: string;
  remove: string;
  addPort(device: string): string;
  removePort(device: string): string;
  /** The ports of br-ex, sorted; empty where there is none. */
  ports: string;
  /** Milliseconds without an answer that a move may cost at 100 packets a second. */
  gapMs: number;
};

type Report = { result: string; steps: { kind: string; text: string }[]; warnings: { message: string }[] };

const { far, out, router: uplink, v, x } = ADDRESSES;
const NIC = NICS.public.device;

export const bridged = (config: string, type: BridgeType) =>
  config.replace(`gateway: ${out} }`, `gateway: ${out}, bridge: br-ex, bridge-type: ${type} }`);

export async function reload(lab: Lab, config: string): Promise<Report> {
  await lab.configure(config);
  const { status, stdout, stderr } = await lab.kylin('reload', '--json');
  assert.equal(status, 0, stdout + stderr);
  return JSON.parse(stdout);
}

/** Fails; gives the status and what was said. */
export async function refused(lab: Lab, config: string): Promise<[status: number, result: string, message: string]> {
  await lab.configure(config);
  const { status, stdout } = await lab.kylin('reload', '--json');
  const { result, errors } = JSON.parse(stdout);
  return [status, result, errors.map(({ message }: { message: string }) => message).join('; ')];
}

export async function shell(lab: Lab, script: string): Promise<string> {
  return (await lab.router.run(['sh', '-ec', script], { check: true })).stdout;
}

const lines = (text: string): string[] => text.split('\n').filter((line) => line !== '');

export function moves(kind: Kind): void {
  const { type } = kind;
  const onBridge = (config: string) => bridged(config, type);
  const ports = async (lab: Lab) => lines(await shell(lab, kind.ports));

  describe('of a live router', { concurrency: false }, () => {
    let lab: Lab;
    let traffic: Traffic;
    let plain: string;
    before(async () => {
      lab = await kind.createLab();
      traffic = createTraffic(lab);
      await listen(traffic);
      await lab.router.run(['iptables', '-P', 'FORWARD', 'DROP'], { check: true });
      await reload(lab, elastic.config);
      plain = await networkOf(lab.router);
    });
    after(() => lab?.close());

    it('the plan says it in words', async () => {
      await lab.configure(onBridge(elastic.config));
      const said = lines((await lab.kylin('plan')).stdout);
      const bridge = type === 'linux' ? 'br-ex (Linux bridge)' : 'br-ex (Open vSwitch)';
      for (const line of [
        `+ bridge ${bridge}`,
        `+ address ${uplink}/24 on br-ex`,
        `+ ${NIC} becomes a port of ${bridge}`,
        `+ route default via ${out} on br-ex`,
        `- address ${uplink}/24 on ${NIC}`,
      ])
        assert.ok(said.includes(line), `${line} is not in\n${said.join('\n')}`);
    });

    /** Packets lost through the router, what lives on, and what neighbours hear. */
    async function underTraffic(config: string): Promise<void> {
      const announcements = await traffic.announcements('out');
      const session = await traffic.openStream({ from: 'out', to: uplink, port: 22 });
      const streams = await Promise.all([
        session,
        traffic.openStream({ from: 'out', to: EIPS.x, port: 80 }),
        traffic.openStream({ from: 'w' as const, to: far, port: 80 }),
      ]);
      const datagrams = await traffic.startFlow({ from: 'y', to: far, port: 53, perSecond: 100 });
      const pings = await traffic.startPings({ from: 'far', to: EIPS.x, perSecond: 100 });
      await sleep(200);
      // The operator's own session, in which something is said all the time.
      let isMoving = true;
      const talk = async () => {
        while (isMoving) await session.carries();
      };
      const talking = talk();
      await reload(lab, config);
      isMoving = false;
      await talking;
      await sleep(300);
      const [outward, inward] = [await datagrams.stop(), await pings.stop()];
      console.log(
        `# ${type}: lost ${outward.lost}, ${inward.lost} of ${inward.sent}; longest gap ${outward.longestGapMs}, ${inward.longestGapMs} ms`,
      );
      assert.ok(outward.longestGapMs < kind.gapMs, `${outward.longestGapMs} ms without an answer`);
      assert.ok(inward.longestGapMs < kind.gapMs, `${inward.longestGapMs} ms without an answer`);
      assert.deepEqual(outward.sources, [EIPS.y]);
      assert.deepEqual(await Promise.all(streams.map((stream) => stream.carries())), [true, true, true]);
      await Promise.all(streams.map((stream) => stream.close()));
      const heard = announcements.heard().some(({ address, mac }) => address === uplink && mac === NICS.public.mac);
      announcements.stop();
      assert.ok(heard, 'the address was announced');
    }

    it('the NIC becomes a port, and its addresses and routes are on the bridge', async () => {
      await underTraffic(onBridge(elastic.config));
      assert.deepEqual(await ports(lab), [NIC]);
      assert.equal(await shell(lab, `ip -4 -o address show dev ${NIC}`), '');
      assert.match(
        await shell(lab, 'ip -4 route show default'),
        new RegExp(`^default via ${out} dev br-ex proto 175 ?\n$`),
      );
      assert.doesNotMatch(await shell(lab, 'iptables-save'), new RegExp(`-[io] ${NIC} `));
    });

    it('a second reload changes nothing', async () => {
      const { result, steps } = await reload(lab, onBridge(elastic.config));
      assert.deepEqual({ result, steps }, { result: 'unchanged', steps: [] });
      assert.equal((await lab.kylin('status')).status, 0);
    });

    const rows = ({ name, config, promises }: Scenario) =>
      describe(`through the bridge: ${name}`, { concurrency: promises.length }, () => {
        before(() => reload(lab, onBridge(config)));
        for (const { promise, rows } of promises)
          describe(promise, { concurrency: rows.length }, () =>
            rows.forEach((row: Row) => {
              it(`${row.from} → ${nameOf(row.to)} ${row.protocol} ${row.port}: ${row.expected}`, async () => {
                assert.equal(await observe(traffic, row), row.expected);
              });
            }),
          );
      });
    rows(snat);
    rows(elastic);

    it('a network that is none of ours leaves as the bridge, where snat_list says masquerade', async () => {
      const inside = '172.24.4.5';
      await lab.host('v').run(['ip', 'address', 'add', `${inside}/32`, 'dev', 'lo'], { check: true });
      await reload(
        lab,
        `${onBridge(elastic.config)}route_list: [{ dest: 172.24.4.0/24, via: ${v} }]\nsnat_list: [{ source: 172.24.4.0/24, to: masquerade }]\n`,
      );
      const script = `ping -c 1 -W 2 -I ${inside} ${far}`;
      const child = lab.host('far').spawn(['tcpdump', '-nlc', '1', '-Z', 'root', '-i', 'eth0', 'icmp']);
      let seen = '';
      child.stdout?.on('data', (data) => {
        seen += data;
      });
      const ended = once(child, 'close');
      await once(child.stderr as Readable, 'data');
      await lab.host('v').run(['sh', '-c', script], { check: true });
      await ended;
      assert.match(seen, new RegExp(`IP ${uplink} > ${far}`));
      await reload(lab, onBridge(elastic.config));
    });

    it('without the key the NIC has it all back, and the bridge goes', async () => {
      await underTraffic(elastic.config);
      assert.equal(await networkOf(lab.router), plain);
      assert.equal((await lab.router.run(['ip', 'link', 'show', 'br-ex'])).status, 1);
      assert.deepEqual(await ports(lab), []);
    });

    it('a change that is taken back leaves the network as it was', async () => {
      await lab.configure(onBridge(elastic.config));
      assert.equal((await lab.kylin('reload', '--confirm-within', '60')).status, 0);
      assert.deepEqual(await ports(lab), [NIC]);
      assert.equal((await lab.kylin('rollback')).status, 0);
      assert.equal(await networkOf(lab.router), plain);
      assert.equal((await lab.router.run(['ip', 'link', 'show', 'br-ex'])).status, 1);
    });

    it('so does the way back, when it is taken back', async () => {
      await reload(lab, onBridge(elastic.config));
      const network = await networkOf(lab.router);
      await lab.configure(elastic.config);
      assert.equal((await lab.kylin('reload', '--confirm-within', '60')).status, 0);
      assert.equal(await networkOf(lab.router), plain);
      assert.equal((await lab.kylin('rollback')).status, 0);
      assert.equal(await networkOf(lab.router), network);
      assert.deepEqual(await ports(lab), [NIC]);
      await reload(lab, elastic.config);
    });

    it('a port without a carrier is taken back', async () => {
      await lab.wire(NICS.public, 'down');
      const [status, result, message] = await refused(lab, onBridge(elastic.config));
      assert.deepEqual([status, result], [69, 'rolled-back']);
      assert.match(
        message,
        new RegExp(`^${NIC}, now a port of br-ex, has no carrier: plug it in, or take bridge away; `),
      );
      assert.deepEqual(await ports(lab), []);
      await lab.wire(NICS.public, 'up');
      await reload(lab, elastic.config);
      assert.equal(await networkOf(lab.router), plain);
    });
  });

  describe('from wherever it is', { concurrency: 4 }, () => {
    const config = `if_list:
  - { ipaddr: ${uplink}, prefix: 24, mac: '${NICS.public.mac}', gateway: ${out} }
  - { ipaddr: 10.10.2.254, prefix: 24, mac: '${NICS.b.mac}' }
eip_list:
${eip(EIPS.x, x)}`;
    const there = kind.addPort(NIC);
    const STATES: [what: string, make: string][] = [
      ['nothing is there', ''],
      [
        "the NIC has another maker's address and route",
        `ip addr add ${uplink}/24 dev ${NIC}; ip link set ${NIC} up; ip route add default via ${out}`,
      ],
      ['the bridge is there, alone', kind.make],
      ['the bridge is there with the port, and has no address: as after a reboot', `${kind.make}; ${there}`],
      [
        'the address is on the NIC still',
        `${kind.make}; ip addr add ${uplink}/24 dev ${NIC}; ip link set ${NIC} up; ip route add default via ${out}; ${there}`,
      ],
      [
        'the address is on both',
        `${kind.make}; ${there}; for link in ${NIC} br-ex; do ip link set $link up; ip addr add ${uplink}/24 dev $link; done`,
      ],
      [
        'the address is on the bridge, the NIC is no port',
        `${kind.make}; ip link set br-ex up; ip addr add ${uplink}/24 dev br-ex`,
      ],
      [
        'the address is on the bridge, and the route is missing',
        `${kind.make}; ${there}; ip link set br-ex up; ip addr add ${uplink}/24 dev br-ex`,
      ],
      ['the prefix is another', `ip link set ${NIC} up; ip addr add ${uplink}/16 dev ${NIC}`],
    ];
    for (const [what, make] of STATES)
      it(what, async (t) => {
        const lab = await kind.createLab();
        t.after(() => lab.close());
        if (make !== '') await shell(lab, make);
        await reload(lab, onBridge(config));
        assert.deepEqual(await ports(lab), [NIC]);
        assert.deepEqual(
          lines(await shell(lab, `ip -4 -o address show | awk '$2 == "br-ex" || $2 == "${NIC}" { print $2, $4 }'`)),
          [`br-ex ${uplink}/24`, `br-ex ${EIPS.x}/32`],
        );
        assert.match(await shell(lab, 'ip -4 route show default'), /^default via \S+ dev br-ex proto 175 ?\n$/);
        const { status } = await lab.host('far').run(['ping', '-c', '3', '-i', '0.2', '-W', '1', EIPS.x]);
        assert.equal(status, 0);
        assert.equal((await reload(lab, onBridge(config))).result, 'unchanged');
        const ours = !make.includes(kind.make);
        await reload(lab, config);
        assert.equal((await lab.host('far').run(['ping', '-c', '3', '-i', '0.2', '-W', '1', EIPS.x])).status, 0);
        assert.equal(
          (await lab.router.run(['ip', 'link', 'show', 'br-ex'])).status,
          ours ? 1 : 0,
          'only our bridge goes',
        );
        assert.deepEqual(await ports(lab), []);
      });

    it('what is foreign stays: an address on the NIC, with a warning, an address and a port of the bridge', async (t) => {
      const lab = await kind.createLab();
      t.after(() => lab.close());
      await shell(
        lab,
        `ip link set ${NIC} up; for ip in ${uplink} 203.0.113.99 192.0.2.99; do ip addr add $ip/24 dev ${NIC}; done`,
      );
      const { warnings } = await reload(lab, onBridge(config));
      const addresses = await shell(lab, `ip -4 -o address show dev ${NIC}`);
      for (const stays of ['203.0.113.99/24', '192.0.2.99/24']) {
        assert.ok(addresses.includes(stays), addresses);
        assert.ok(
          warnings.some(
            ({ message }) =>
              message ===
              `the address ${stays} stays on ${NIC} and does not work there, on a port of br-ex: take it away, or move it to br-ex`,
          ),
        );
      }
      assert.equal((await lab.host('out').run(['ping', '-c', '2', '-W', '1', EIPS.x])).status, 0);
      assert.equal((await reload(lab, onBridge(config))).result, 'unchanged');
      await shell(lab, `ip addr add 192.0.2.55/24 dev br-ex; ${kind.addPort(NICS.a.device)}`);
      assert.equal((await reload(lab, onBridge(config))).result, 'unchanged');
      const back = await reload(lab, config);
      assert.ok(
        back.warnings.some(
          ({ message }) => message === 'the bridge br-ex stays: it has other ports, or addresses that are not ours',
        ),
      );
      assert.deepEqual(await ports(lab), [NICS.a.device]);
      assert.match(await shell(lab, 'ip -4 -o address show dev br-ex'), /192\.0\.2\.55\/24/);
      assert.equal((await lab.host('out').run(['ping', '-c', '2', '-W', '1', EIPS.x])).status, 0);
    });

    it('IPv6 goes with the NIC, and comes back with it', async (t) => {
      const lab = await kind.createLab();
      t.after(() => lab.close());
      await lab.host('out').run(['ip', 'addr', 'add', '2001:db8::1/64', 'dev', 'eth0', 'nodad'], { check: true });
      await shell(
        lab,
        `ip link set ${NIC} up; ip addr add 2001:db8::5/64 dev ${NIC} nodad; ip -6 route add default via 2001:db8::1`,
      );
      const where = () =>
        shell(
          lab,
          `ip -6 -o address show scope global | awk '{ print $2, $4 }' | sort -r; ip -6 route show default | sed 's/ metric.*//'`,
        );
      const reached = async () => (await lab.host('out').run(['ping', '-c', '3', '-W', '1', '2001:db8::5'])).status;
      const onNic = await where();
      await reload(lab, onBridge(config));
      assert.equal(await where(), onNic.replaceAll(NIC, 'br-ex'));
      assert.equal(await reached(), 0);
      assert.equal((await reload(lab, onBridge(config))).result, 'unchanged');
      await reload(lab, config);
      assert.equal(await where(), onNic);
      assert.equal(await reached(), 0);
      assert.equal((await lab.router.run(['ip', 'link', 'show', 'br-ex'])).status, 1);

      await reload(lab, onBridge(config));
      await shell(lab, 'ip addr add 2001:db8:1::7/64 dev br-ex nodad');
      const { warnings } = await reload(lab, config);
      assert.equal(await where(), `${onNic.replace('\n', '\nbr-ex 2001:db8:1::7/64\n')}`);
      assert.ok(warnings.some(({ message }) => message.startsWith('the bridge br-ex stays: ')));
      assert.equal(await reached(), 0);
    });

    it('a bridge that somebody removes, or takes the NIC out of, has it again with the next reload', async (t) => {
      const lab = await kind.createLab();
      t.after(() => lab.close());
      await reload(lab, onBridge(config));
      for (const change of [kind.remove, kind.removePort(NIC)]) {
        await shell(lab, change);
        assert.deepEqual(await ports(lab), []);
        await reload(lab, onBridge(config));
        assert.deepEqual(await ports(lab), [NIC]);
        assert.equal((await lab.host('far').run(['ping', '-c', '3', '-i', '0.2', '-W', '1', EIPS.x])).status, 0);
      }
      await shell(lab, kind.remove);
      await reload(lab, config);
      assert.equal((await lab.host('far').run(['ping', '-c', '3', '-i', '0.2', '-W', '1', EIPS.x])).status, 0);
      assert.equal((await lab.router.run(['ip', 'link', 'show', 'br-ex'])).status, 1);
    });

    it('another bridge takes over from the first, and if_list: [] takes all of it away', async (t) => {
      const lab = await kind.createLab();
      t.after(() => lab.close());
      await reload(lab, onBridge(config));
      const other = onBridge(config).replace('bridge: br-ex', 'bridge: br-other');
      await reload(lab, other);
      const there = async () =>
        lines(
          await shell(lab, `ip -4 -o address show | awk '$4 == "${uplink}/24" { print $2 }'; ip -4 route show default`),
        );
      assert.deepEqual(
        (await there()).map((line) => line.trimEnd()),
        ['br-other', `default via ${out} dev br-other proto 175`],
      );
      assert.equal((await lab.router.run(['ip', 'link', 'show', 'br-ex'])).status, 1);
      assert.equal((await lab.host('far').run(['ping', '-c', '3', '-i', '0.2', '-W', '1', EIPS.x])).status, 0);
      await reload(lab, 'if_list: []\n');
      assert.deepEqual(await there(), []);
      assert.equal((await lab.router.run(['ip', 'link', 'show', 'br-other'])).status, 1);
      assert.doesNotMatch(await shell(lab, 'iptables-save'), /KYLIN/);
    });

    it('a NIC that others put into another bridge meanwhile gets nothing when the key goes, and is in error', async (t) => {
      const lab = await kind.createLab();
      t.after(() => lab.close());
      await reload(lab, onBridge(config));
      await shell(lab, `${kind.removePort(NIC)}; ip link add brz up type bridge; ip link set ${NIC} master brz`);
      const { warnings } = await reload(lab, config);
      assert.ok(
        warnings.some(({ message }) => message.includes('is left as it is: somebody made it a port of the bridge brz')),
        JSON.stringify(warnings),
      );
      assert.equal(await shell(lab, `ip -4 -o address show dev ${NIC}`), '');
      assert.equal((await lab.kylin('status')).status, 2);
      await shell(lab, `ip link set ${NIC} nomaster; ip link delete brz`);
      await reload(lab, config);
      assert.match(await shell(lab, `ip -4 -o address show dev ${NIC}`), new RegExp(uplink));
    });

    it('a NIC that is a port elsewhere is refused, with the cure', async (t) => {
      const lab = await kind.createLab();
      t.after(() => lab.close());
      await shell(lab, `ip link add br0 type bridge; ip link set ${NIC} master br0`);
      const [status, , message] = await refused(lab, onBridge(config));
      assert.equal(status, 65);
      assert.match(
        message,
        new RegExp(
          `\\(${NIC}\\): is a port of the bridge br0 already: take it out with ip link set dev ${NIC} nomaster, or say bridge: br0`,
        ),
      );
    });

    it('a name that something else has is refused, with the cure', async (t) => {
      const lab = await kind.createLab();
      t.after(() => lab.close());
      await shell(lab, 'ip link add br-ex type veth peer name other');
      const [status, , message] = await refused(lab, onBridge(config));
      assert.equal(status, 65);
      assert.match(message, /br-ex is there and is no /);
    });
  });
}
