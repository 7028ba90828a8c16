// The laboratory itself: labs side by side do not meet, and nothing of one stays behind, however it ends.

import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { statSync } from 'node:fs';
import { test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { createLab, type HostName, type Lab, NICS } from './lab.ts';
import { namespaceOf, processesIn } from './namespace.ts';

const HOSTS: HostName[] = ['far', 'out', 'router', 'v', 'w', 'x', 'y'];
const namespacesOf = (pids: readonly number[]) => pids.map((pid) => namespaceOf(pid) ?? `none of ${pid}`);

test('two labs have the same addresses and files, and do not meet', async () => {
  const [one, other] = await Promise.all([createLab(), createLab({ iptables: 'legacy', networkScripts: true })]);
  try {
    await one.router.write('/etc/lab-test', 'one');
    assert.equal(await one.router.read('/etc/lab-test'), 'one');
    assert.equal(await other.router.read('/etc/lab-test'), undefined);
    assert.throws(() => statSync('/etc/lab-test'));
    const version = async (lab: Lab) => (await lab.router.run(['iptables', '--version'])).stdout;
    assert.match(await version(one), /nf_tables/);
    assert.match(await version(other), /legacy/);
    assert.equal((await other.router.run(['test', '-d', '/etc/sysconfig/network-scripts'])).status, 0);
  } finally {
    await Promise.all([one.close(), other.close()]);
  }
});

test('a NIC that is unplugged and plugged again has its name and MAC', async () => {
  const lab = await createLab({ nics: [NICS.public] });
  try {
    const links = async () => (await lab.router.run(['ip', '-br', 'link'])).stdout;
    assert.doesNotMatch(await links(), /eth2/);
    await lab.router.plug(NICS.b);
    assert.match(await links(), /^eth2@\S+ +DOWN +52:54:84:11:00:05/m);
    await lab.router.unplug(NICS.b);
    assert.doesNotMatch(await links(), /eth2/);
  } finally {
    await lab.close();
  }
});

test('a closed lab leaves no process, whatever ran in it', async () => {
  const lab = await createLab();
  const namespaces = namespacesOf(HOSTS.map((name) => lab.host(name).pid));
  lab.host('v').spawn(['setsid', 'sleep', '1000']);
  await lab.close();
  await gone(namespaces);
});

test('a lab whose maker is killed leaves no process', async () => {
  const maker = spawn(
    process.execPath,
    [
      '--import=tsx',
      '--input-type=module',
      '--eval',
      `const { createLab } = await import(${JSON.stringify(import.meta.resolve('./lab.ts'))});
       const { createTraffic } = await import(${JSON.stringify(import.meta.resolve('./traffic.ts'))});
       const lab = await createLab();
       const traffic = createTraffic(lab);
       await traffic.listen('v', 'tcp', 80);
       await traffic.announcements('out');
       lab.router.run(['sleep', '1000']);
       console.log(${JSON.stringify(HOSTS)}.map((name) => lab.host(name).pid).join(' '));`,
    ],
    { stdio: ['ignore', 'pipe', 'inherit'] },
  );
  const [pids] = (await once(maker.stdout, 'data')) as [Buffer];
  const namespaces = namespacesOf(pids.toString().split(' ').map(Number));
  assert.ok(namespaces.flatMap(processesIn).length > HOSTS.length);
  maker.kill('SIGKILL');
  await gone(namespaces);
});

async function gone(namespaces: readonly string[]): Promise<void> {
  const left = () => namespaces.flatMap(processesIn);
  for (let waited = 0; waited < 2000 && left().length > 0; waited += 20) await sleep(20);
  assert.deepEqual(left(), []);
}
