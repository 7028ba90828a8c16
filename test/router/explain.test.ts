// `kylin-vr explain --live` against a router at work.

import assert from 'node:assert/strict';
import { after, before, describe, it } from 'node:test';
import { ADDRESSES, createLab, type Lab } from '../lab/lab.ts';
import { EIPS, elastic, NEAR } from '../lab/table.ts';
import { createTraffic } from '../lab/traffic.ts';

describe('explain', { concurrency: false }, () => {
  let lab: Lab;
  before(async () => {
    lab = await createLab();
    await lab.configure(elastic.config);
  });
  after(() => lab?.close());

  const explain = async (from: string, to: string, ...args: string[]) => {
    const { status, stdout, stderr } = await lab.kylin('explain', '--from', from, '--to', to, ...args);
    return { status, lines: stdout.trimEnd().split('\n'), stderr };
  };

  it('says that the file is not in force', async () => {
    const { status, lines } = await explain('10.10.1.12', `${EIPS.x}:80/tcp`, '--live');
    assert.equal(status, 2);
    assert.match(
      lines.join('\n'),
      /^differs: the file is not in force \(\d+ steps to do\): kylin-vr plan shows them$/m,
    );
  });

  it('agrees with the kernel on the way, and on a connection that is there', async () => {
    assert.equal((await lab.kylin('reload')).status, 0);
    const traffic = createTraffic(lab);
    await traffic.listen('w', 'tcp', 80);
    const stream = await traffic.openStream({ from: 'x', to: NEAR, port: 8080 });
    assert.ok(stream.answer.reached);
    const { status, lines } = await explain('10.10.2.21', `${NEAR}:8080`, '--live');
    assert.deepEqual(
      [status, lines],
      [
        0,
        [
          '10.10.2.21 is in the network of eth2 (subnet 52:54:84:11:00:05): the packet comes in there',
          `port 8080/tcp of ${NEAR} is forwarded: it goes to 10.10.1.12, port 80 (port_forward_list)`,
          'it leaves by eth1 (subnet 52:54:84:11:00:04) to 10.10.1.12 itself',
          `its source becomes ${EIPS.x}: the elastic IP of 10.10.2.21`,
          `10.10.1.12 sees ${EIPS.x}; the sender hears its answers from ${NEAR}`,
          'agrees: what the file says is in force',
          'agrees: the kernel sends it out by eth1',
          'agrees: conntrack knows 1 such connection, translated so',
        ],
      ],
    );
    await stream.close();
  });

  it('differs where rules of others stop it on its way, or a NIC is in error', async (t) => {
    const run = (script: string) => lab.router.run(['sh', '-ec', script], { check: true });
    t.after(() => run('iptables -D FORWARD -i eth2 -j DROP; ip link delete br-op'));
    await run('iptables -I FORWARD -i eth2 -j DROP; ip link add br-op type bridge');
    const differing = async (from: string) => {
      const { status, lines } = await explain(from, '192.0.2.10:80', '--live');
      return [status, ...lines.filter((line) => line.startsWith('differs'))];
    };
    assert.deepEqual(await differing('10.10.2.21'), [2, 'differs: FORWARD stops it: -i eth2 -j DROP']);
    assert.deepEqual(await differing('10.10.1.11'), [0]);
    await run('ip link set eth1 master br-op');
    assert.deepEqual(await differing('10.10.1.11'), [
      2,
      'differs: NIC 52:54:84:11:00:04 is in error: kylin-vr status says what is wrong with it',
    ]);
  });

  it('shows where the kernel disagrees', async () => {
    await lab.router.run(['ip', 'route', 'add', '10.10.2.22/32', 'via', '10.10.1.11'], { check: true });
    const { status, lines } = await explain('192.0.2.10', `${EIPS.y}:53/udp`, '--live');
    await lab.router.run(['ip', 'route', 'delete', '10.10.2.22/32'], { check: true });
    assert.equal(status, 2);
    assert.ok(lines.includes('differs: the kernel sends it out by eth1 to 10.10.1.11, not by eth2'), lines.join('\n'));
  });

  it('or leads to another gateway', async (t) => {
    const other = ['default', 'via', '203.0.113.99'];
    t.after(() => lab.router.run(['ip', 'route', 'delete', ...other], { check: true }));
    const line = async () =>
      (await explain('10.10.2.22', '192.0.2.10:80', '--live')).lines.find((each) => /kernel/.test(each));
    assert.equal(await line(), 'agrees: the kernel sends it out by eth0 to 203.0.113.1');
    await lab.router.run(['ip', 'route', 'prepend', ...other], { check: true });
    assert.equal(await line(), 'differs: the kernel sends it out by eth0 to 203.0.113.99, not by eth0 to 203.0.113.1');
  });

  it('says what the kernel refuses to route, and what conntrack does not know', async () => {
    await lab.router.run(['ip', 'route', 'add', 'unreachable', '10.10.2.22/32'], { check: true });
    const { status, lines } = await explain('192.0.2.10', `${EIPS.y}:53/udp`, '--live');
    await lab.router.run(['ip', 'route', 'delete', '10.10.2.22/32'], { check: true });
    assert.equal(status, 2);
    assert.match(lines.join('\n'), /^differs: the kernel does not route it: RTNETLINK answers: No route to host$/m);
    assert.ok(lines.includes('agrees: conntrack knows no such connection now'), lines.join('\n'));
  });

  it('says what a connection from before still is', async () => {
    const traffic = createTraffic(lab);
    await traffic.listen('w', 'tcp', 443);
    const stream = await traffic.openStream({ from: 'x', to: ADDRESSES.router, port: 8443 });
    const other = elastic.config.replace(
      'port: 8443, vm-port: 443, vm-ip: 10.10.1.12',
      'port: 8443, vm-port: 443, vm-ip: 10.10.1.13',
    );
    await lab.router.write('/run/other.yaml', other);
    const { lines } = await explain('10.10.2.21', `${ADDRESSES.router}:8443`, '--live', '--config', '/run/other.yaml');
    await stream.close();
    assert.ok(
      lines.includes(`differs: conntrack knows 1 connection translated otherwise: to 10.10.1.12, seen as ${EIPS.x}`),
      lines.join('\n'),
    );
  });

  it('without --live reads any file, and names NICs as it does', async () => {
    await lab.router.write('/run/other.yaml', elastic.config.replace('gateway:', 'name: public, gateway:'));
    const { status, lines } = await explain('10.10.1.12', '192.0.2.10', '--config', '/run/other.yaml');
    assert.deepEqual([status, lines[1]], [0, 'it leaves by public to 203.0.113.1, the gateway to the outside']);
  });

  for (const [from, to, message] of [
    ['x', '192.0.2.1', '--from must be an IPv4 address'],
    ['10.0.0.1', 'x:80', '--to must be an IPv4 address, or ADDRESS:PORT/PROTOCOL'],
    ['10.0.0.1', '192.0.2.1/udp', '--to needs a port for udp: 192.0.2.1:80/udp'],
    ['10.0.0.1', '192.0.2.1:70000', '--to must have a port from 1 to 65535, of tcp or udp'],
  ] as const)
    it(`refuses --from ${from} --to ${to}`, async () => {
      const { status, stderr } = await explain(from, to);
      assert.deepEqual([status, stderr], [64, `kylin-vr: ${message}\n`]);
    });
});
