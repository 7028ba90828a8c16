// What guards the uplink, and what is none of its matter: the router's own traffic, what an operator keeps from being translated, routes
// of others; and networks that shrink, that are led by the uplink on a wide route, whose NIC is away, or whose flows cannot be cut.

import assert from 'node:assert/strict';
import { before, describe, it } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { ADDRESSES, createLab, type HostName, NICS } from '../lab/lab.ts';
import { recordTools, type Tools } from '../lab/tools.ts';
import { BASE, type Guarded, guarded, onEachEngine, reload, run, SUBNETS, sh, UPLINK } from './router.ts';

const { far, out, router: uplink, v, w, z } = ADDRESSES;
const EIP = '203.0.113.50';
const list = (key: string, ...entries: string[]) => `${key}:\n${entries.map((entry) => `  - { ${entry} }\n`).join('')}`;
const snat = (source: string, to: string) => `${BASE}${list('snat_list', `source: ${source}, to: ${to}`)}`;
const eip = (vm: string) => list('eip_list', `eip: ${EIP}, vm-ip: ${vm}`);

const answers = async ({ lab }: Guarded, from: HostName, to: string) =>
  (await lab.host(from).run(['ping', '-nq', '-c', '4', '-i', '0.1', '-W', '1', to])).stdout.match(/(\d) received/)?.[1];

onEachEngine("the router's own traffic, and what others decided", { beyond: true }, (on) => {
  before(async () => {
    for (const host of ['out', 'far'] as const) await on.traffic.listen(host, 'tcp', 90);
  });
  for (const [source, to] of [
    ['0.0.0.0/0', 'masquerade'],
    ['0.0.0.0/0', uplink],
    ['203.0.0.0/8', 'masquerade'],
  ] as const)
    it(`goes on by a snat_list entry for ${source} to ${to}`, async () => {
      await reload(on, BASE);
      const stream = await on.traffic.openStream({ from: 'router', to: out, port: 90 });
      await reload(on, snat(source, to));
      assert.ok(await stream.carries());
      assert.equal(await answers(on, 'router', out), '4');
      await stream.close();
    });

  it('goes on, as the warning says, where its source would be another now', async () => {
    await reload(on, BASE);
    const stream = await on.traffic.openStream({ from: 'router', to: far, port: 90 });
    await on.lab.configure(snat('0.0.0.0/0', '203.0.113.41'));
    const { stdout } = await on.lab.kylin('reload', '--json');
    assert.match(stdout, /the router's own connection .* goes on as before/);
    assert.ok(await stream.carries());
    await stream.close();
  });

  for (const rule of [
    `-s ${w} -d ${far} -j ACCEPT`,
    `-s ${w} -d ${far} -j RETURN`,
    `-s ${w} -m length --length 0:200 -j ACCEPT`,
    `-s ${w} -d ${far} -j SNAT --to-source ${w}`,
  ])
    it(`an exemption takes effect at once: ${rule}`, async () => {
      on.lab.witness.excuse(
        'an operator wants it',
        ({ kind, packet }) => kind === 'private source' && packet.source === w,
      );
      await sh(on, 'far', `ip route replace 10.10.1.0/24 via 192.0.2.1`);
      await sh(on, 'out', `ip route replace 10.10.1.0/24 via ${uplink}`);
      await reload(on, BASE);
      await sh(on, 'router', `iptables -t nat -I POSTROUTING ${rule}`);
      assert.equal(await answers(on, 'w', far), '4');
      await run(on, 'reload');
      assert.equal(await answers(on, 'w', far), '4');
      await sh(on, 'router', `iptables -t nat -D POSTROUTING ${rule}`);
    });

  it('a narrower route of others by the uplink leads out of a subnet', async () => {
    await sh(on, 'out', 'ip address add 10.10.1.200/32 dev lo');
    on.lab.witness.excuse('an operator wants it', ({ packet }) => packet.destination === '10.10.1.200');
    await sh(on, 'router', `ip route add 10.10.1.192/26 via ${out}`);
    await reload(on, BASE);
    assert.equal(await answers(on, 'x', '10.10.1.200'), '4');
    await sh(on, 'router', 'ip route delete 10.10.1.192/26');
    await sh(on, 'out', 'ip address delete 10.10.1.200/32 dev lo');
    await run(on, 'reload');
  });
});

describe('an exemption that iptables-save does not print as it is', () => {
  it('is no exemption of all: what conntrack cannot place stays inside', async (t) => {
    const lab = await createLab({ iptables: 'nft' });
    t.after(() => lab.close());
    const on = guarded(lab);
    await reload(on, BASE);
    const rule = 'insert rule ip nat POSTROUTING oifname "eth0" ip daddr { 10.99.0.0/16, 172.29.0.0/16 } accept';
    await lab.router.run(['nft', rule], { check: true });
    await run(on, 'reload');
    assert.doesNotMatch(await sh(on, 'router', 'iptables-save -t mangle'), /-A KYLIN-VR-UPLINK -o eth0 -j RETURN/);
    await on.raw.send('w', { protocol: 'tcp', destination: far, flags: 'R', sourcePort: 9, destinationPort: 9 });
    assert.deepEqual(await lab.witness.leaks(), []);
  });
});

onEachEngine('what would leave', { beyond: true }, (on) => {
  let tools: Tools;
  const nothingLeft = async () => {
    await sleep(150);
    const leaks = await on.lab.witness.leaks();
    await on.lab.witness.forgive();
    assert.deepEqual([leaks.length, leaks.slice(0, 3).map(({ words }) => words)], [0, []]);
  };
  const sends = (from: HostName, to: string, more = {}) =>
    on.raw.start(from, { protocol: 'udp', to, port: 7, perSecond: 200, ...more });
  before(async () => {
    tools = await recordTools(on.lab.router);
    on.lab.witness.inside('172.24.0.0/16');
    await on.raw.answer('far', 'udp', 7);
    await on.raw.answer('far', 'udp', 70);
  });
  const BEHIND = list('route_list', 'dest: 172.24.0.0/16, via: 10.10.1.12');

  for (const dests of [['10.0.0.0/8'], ['0.0.0.0/1', '128.0.0.0/1']])
    it(`does not by a route_list entry for ${dests.join(' and ')} by the gateway, whose NIC is away`, async () => {
      await reload(on, BASE + eip(v) + list('route_list', ...dests.map((dest) => `dest: ${dest}, via: ${out}`)));
      await sends('out', EIP);
      await on.lab.router.unplug(NICS.a);
      await run(on, 'reload', '--trigger', 'timer');
      await on.raw.send('x', { protocol: 'tcp', destination: far, flags: 'R', sourcePort: 9, destinationPort: 9 });
      await nothingLeft();
      await on.lab.router.plug(NICS.a);
      await run(on, 'reload');
      await nothingLeft();
    });

  it('does not where a subnet goes that a route by the gateway has in it', async () => {
    const led = list('route_list', `dest: 10.0.0.0/8, via: ${out}`);
    await reload(on, BASE + eip(v) + led);
    await sends('out', EIP);
    await reload(on, `if_list:\n${UPLINK}${SUBNETS.split('\n')[1]}\n${led}`);
    await nothingLeft();
    await reload(on, BASE);
  });

  it('does not where a subnet shrinks, to who is not in it any more', async () => {
    await reload(on, BASE);
    const asker = await sends('w', far, { sourcePort: 4000 });
    assert.ok(await asker.answered());
    // What it sends later is what nobody translates, who is in no network of the file.
    await asker.stop();
    await sends('far', uplink, { sourcePort: 7, port: 4000 });
    await reload(on, BASE.replace('10.10.1.254, prefix: 24', '10.10.1.20, prefix: 29'));
    await nothingLeft();
    await reload(on, BASE);
  });

  it('does not where what is behind a route goes with its EIP, gets narrower, or is outside now', async () => {
    const led = list('route_list', `dest: 172.24.0.0/16, via: ${out}`);
    for (const to of [BASE, BASE + BEHIND.replace('/16', '/24'), BASE + led]) {
      await reload(on, BASE + eip(z) + BEHIND);
      const asker = await sends('z', far, { sourcePort: 4000 });
      assert.ok(await asker.answered());
      await asker.stop();
      await sends('far', EIP, { sourcePort: 7, port: 4000 });
      await reload(on, to);
      await nothingLeft();
      await on.quiet();
    }
  });

  for (const [what, more] of [
    ['an EIP', eip(z)],
    ['a source of its own', list('snat_list', 'source: 172.24.0.0/16, to: 203.0.113.41')],
  ] as const)
    it(`does not to what is behind a NIC that is away, and has ${what}`, async () => {
      const outer = what === 'an EIP' ? EIP : '203.0.113.41';
      await reload(on, BASE + more + BEHIND);
      const asker = await sends('z', far, { sourcePort: 70, port: 70 });
      assert.ok(await asker.answered());
      await asker.stop();
      await sends('far', outer, { sourcePort: 70, port: 70 });
      await on.lab.router.unplug(NICS.a);
      await run(on, 'reload', '--trigger', 'timer');
      await nothingLeft();
      await on.lab.router.plug(NICS.a);
      await run(on, 'reload');
      await nothingLeft();
    });

  it('does not where flows cannot be cut: what guards stays, until the next run can', async () => {
    await reload(on, BASE + eip(v) + BEHIND);
    await sends('out', EIP);
    await on.lab.configure(`if_list:\n${UPLINK}${SUBNETS.split('\n')[1]}\n`);
    await tools.before('conntrack', 'echo made to fail >&2; exit 4');
    const failed = await on.lab.kylin('reload', '--json');
    await tools.before('conntrack');
    assert.match(failed.stdout, /established flows of before may live on: .*made to fail/);
    await nothingLeft();
    assert.equal((await on.lab.kylin('plan', '--exit-code')).status, 2);
    await run(on, 'reload', '--trigger', 'timer');
    await nothingLeft();
    assert.equal((await on.lab.kylin('plan', '--exit-code')).status, 0);
  });

  describe('goes also where a step failed that was done all the same, as others may do it meanwhile', () => {
    const few = `if_list:\n${UPLINK}${SUBNETS.split('\n')[1]}\n`;
    /** The second one fails: by then the rules are there. */
    const withFailure = async (...args: string[]) => {
      const second =
        'echo >> /mnt/batches; [ $(wc -l < /mnt/batches) -ne 2 ] || { /bin/ip -batch -; echo no >&2; exit 2; }';
      await sh(on, 'router', 'rm -f /mnt/batches');
      await tools.before('ip', `case "$*" in -batch*) ${second} ;; esac`);
      const { status, stdout } = await on.lab.kylin(...args, '--json');
      await tools.before('ip');
      assert.ok(((await on.lab.router.read('/mnt/batches')) ?? '').length >= 2, 'none failed');
      assert.equal(status, 0, stdout);
      return JSON.parse(stdout).warnings.map(({ message }: { message: string }) => message);
    };
    const isWhole = async () => {
      await nothingLeft();
      assert.equal((await on.lab.kylin('plan', '--exit-code')).status, 0);
    };
    it('of a change', async () => {
      await reload(on, BASE + eip(v) + BEHIND);
      await sends('out', EIP);
      await on.lab.configure(few);
      assert.deepEqual(await withFailure('reload'), ['ip -batch -: status 2: no (the network is right all the same)']);
      await isWhole();
    });
    it('of one that is taken back', async () => {
      await reload(on, few);
      await reload(on, BASE + eip(v) + BEHIND, '--confirm-within', '60');
      await sends('out', EIP);
      const [said, ...more] = await withFailure('rollback');
      assert.match(said, /^the change of .* was taken back: /);
      assert.deepEqual(more, ['the last good configuration stays in force']);
      await on.lab.configure(few);
      await isWhole();
    });
  });

  it('is cut once, and nobody is blamed for it', async () => {
    on.lab.witness.excuse(
      'who is behind a route that has gone from the file is nobody inside',
      ({ kind, packet }) => kind === 'private source' && packet.source === z && packet.sourcePort === 4100,
    );
    await reload(on, BASE + eip(v) + BEHIND);
    await sends('z', far, { sourcePort: 4100 });
    await sends('x', EIP, { sourcePort: 4200 });
    await on.lab.configure(BASE);
    const { stdout } = await on.lab.kylin('reload', '--json');
    assert.deepEqual(JSON.parse(stdout).warnings, []);
    await on.quiet();
  });
});
