// The bed of the system tests itself: what boots, what is plugged, who is reached, and that nothing stays behind.

import assert from 'node:assert/strict';
import { type TestContext, test } from 'node:test';
import { eventually } from '../../lab/eventually.ts';
import { ADDRESSES, GATEWAYS, NICS } from '../../lab/lab.ts';
import { namespaceOf, processesIn } from '../../lab/namespace.ts';
import { createTraffic } from '../../lab/traffic.ts';
import { createContainer, withContainer } from './container.ts';
import type { Machine } from './machine.ts';
import { withVm } from './vm.ts';

/**
 * What udev said of NICs, in a file. NetworkManager leaves them alone: it may still be starting, and of a NIC that is given
 * addresses between its look at it and its taking it (`unmanaged -> unavailable`) it takes them away.
 */
const FILES = {
  '/etc/udev/rules.d/99-events.rules': `SUBSYSTEM=="net", RUN+="/bin/sh -c 'echo $env{ACTION} %k >> /run/events'"\n`,
  '/etc/NetworkManager/conf.d/90-laboratory.conf': '[keyfile]\nunmanaged-devices=*\n',
};

const events = async (machine: Machine) => (await machine.read('/run/events')) ?? '';

/** Routes by hand between the subnets a and b. */
async function routes(machine: Machine, t: TestContext): Promise<void> {
  const script = `
    ip address add ${GATEWAYS.a}/24 dev eth1 && ip link set eth1 up
    ip address add ${GATEWAYS.b}/24 dev eth2 && ip link set eth2 up
    sysctl -w net.ipv4.ip_forward=1`;
  await machine.run(['sh', '-ec', script], { check: true });
  const traffic = createTraffic(machine.lab);
  await traffic.listen('x', 'tcp', 80);
  const probe = { from: 'v', to: ADDRESSES.x, port: 80, transport: 'tcp', timeoutMs: 5000 } as const;
  const answer = await traffic.probe(probe);
  assert.equal(answer.reached && answer.seenSource, ADDRESSES.v);
  assert.deepEqual(await traffic.ping('v', ADDRESSES.x), { reached: true, hops: 1 });
  t.diagnostic('packets pass');
}

async function agentWorks({ agent, read, run }: Machine): Promise<void> {
  const text = 'ä line\n'.repeat(20_000);
  await agent.write('/etc/from-host', text);
  assert.equal(await read('/etc/from-host'), text);
  assert.equal(await agent.read('/etc/from-host'), text);
  assert.match((await run(['stat', '-c', '%a', '/etc/from-host'])).stdout, /^666/);
  const ended = await agent.run(['sh', '-c', 'cat; echo no >&2; exit 3'], { input: 'yes' });
  assert.deepEqual(ended, { status: 3, stdout: 'yes', stderr: 'no\n' });
}

test('a container boots, its NICs come and go, and its agent answers', async (t) => {
  await withContainer({ nics: [NICS.public, NICS.a], files: FILES }, async (machine) => {
    assert.match((await machine.run(['systemctl', 'is-system-running'])).stdout, /^running/);
    await eventually(() => events(machine), /^add eth0$(.|\n)*^add eth1$|^add eth1$(.|\n)*^add eth0$/m, 5000);
    await machine.agent.ready(5000);
    await agentWorks(machine);

    await machine.plug(NICS.b);
    await eventually(() => events(machine), /^add eth2$/m, 5000);
    await routes(machine, t);
    await machine.unplug(NICS.b);
    await eventually(() => events(machine), /^remove eth2$/m, 5000);
  });
});

test('a container that reboots, or loses its power, keeps files and NICs, and forgets what the kernel had', async () => {
  await withContainer({ files: FILES }, async (machine) => {
    const state = async () => {
      const script = 'ip -4 -o address show scope global; iptables-save; sysctl net.ipv4.ip_forward; ls /sys/class/net';
      return (await machine.run(['sh', '-c', script])).stdout;
    };
    const fresh = await state();
    for (const end of ['reboot', 'powerOff', 'powerCut'] as const) {
      await machine.write('/etc/kept', end);
      const set =
        'ip address add 198.51.100.1/24 dev eth0; iptables -P FORWARD DROP; iptables -N OURS; sysctl net.ipv4.ip_forward=1';
      await machine.run(['sh', '-c', set]);
      assert.notEqual(await state(), fresh);
      await machine[end]();
      if (end !== 'reboot') await machine.boot();
      assert.equal(await machine.read('/etc/kept'), end);
      assert.equal(await state(), fresh, end);
    }
    assert.equal((await machine.journal('--list-boots')).trim().split('\n').length, 4);
  });
});

test('two containers do not meet, and nothing is left of them', async () => {
  const machines = await Promise.all([createContainer(), createContainer()]);
  const namespaces = machines.map(({ lab }) => namespaceOf(lab.router.pid) ?? 'none');
  try {
    await machines[0].write('/etc/only', 'one');
    assert.equal(await machines[1].read('/etc/only'), undefined);
  } finally {
    await Promise.all(machines.map((machine) => machine.close()));
  }
  assert.deepEqual(namespaces.flatMap(processesIn), []);
});

test('a whole machine boots, routes, takes a NIC, and boots again after a power cut', async (t) => {
  await withVm({ nics: [NICS.public, NICS.a], files: FILES }, async (machine) => {
    assert.match((await machine.run(['systemctl', 'is-system-running'])).stdout, /^running/);
    assert.equal((await machine.run(['nproc'])).stdout, '2\n');
    await agentWorks(machine);

    await machine.plug(NICS.b);
    await eventually(() => events(machine), /^add eth2$/m, 20_000);
    await routes(machine, t);
    await machine.unplug(NICS.b);
    await eventually(() => events(machine), /^remove eth2$/m, 20_000);

    await machine.run(['sync']);
    await machine.powerCut();
    await machine.boot();
    assert.match((await machine.read('/etc/from-host')) ?? '', /^ä line/);
  });
});
