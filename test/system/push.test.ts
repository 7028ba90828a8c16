// `push --domain` through libvirt: its daemon, its virsh, and a machine that it started, with the package in it.

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { ADDRESSES, GATEWAYS, NICS, PROGRAM } from '../lab/lab.ts';
import { CONFIG, installed } from './guest.ts';
import { withLibvirt } from './lab/libvirt.ts';

const config = `if_list:
  - { ipaddr: ${ADDRESSES.router}, prefix: 24, mac: '${NICS.public.mac}', gateway: ${ADDRESSES.out} }
  - { ipaddr: ${GATEWAYS.a}, prefix: 24, mac: '${NICS.a.mac}' }
`;
const EIP = '203.0.113.50';
/** More than one piece: each is one argument of virsh. */
const withEip = `${config}eip_list:\n  - { eip: ${EIP}, vm-ip: ${ADDRESSES.v} }\n${'# a comment of no importance\n'.repeat(2000)}`;
/** Without KVM, on a busy machine. */
const PUSH = { timeoutMs: 200_000 };

test('push through libvirt: the file arrives, the guest reloads; and what libvirt refuses is said', async () => {
  const options = { ...installed(config), nics: [NICS.public, NICS.a] };
  await withLibvirt(options, async ({ lab, domain, virsh, agent, booted }) => {
    await lab.router.write('/run/new.yaml', withEip);
    const push = (...args: string[]) =>
      lab.router.run([process.execPath, PROGRAM, 'push', ...args, '/run/new.yaml'], PUSH);
    const fails = async (message: RegExp, ...args: string[]) => {
      const { status, stderr } = await push(...args);
      assert.equal(status, 69);
      assert.match(stderr, message);
    };

    await fails(/the guest agent of nobody is not reached \(failed to get domain 'nobody'\)/, '--domain', 'nobody');
    await fails(/of router-1 is not reached \(.*domain is not running\): is the domain running/, '--domain', domain);
    assert.equal((await virsh('start', domain)).status, 0);
    await fails(/of router-1 is not reached \(.*QEMU guest agent is not connected\)/, '--domain', domain);
    await booted();

    const { status, stdout, stderr } = await push('--domain', domain);
    assert.deepEqual([status, stderr], [0, '']);
    assert.match(stdout, /^\+ address 203\.0\.113\.50\/32 on eth0$/m);
    assert.match(stdout, /^router-1: changed, \d+ steps in \d+ ms$/m);
    assert.equal(await agent.read(CONFIG), withEip);
    const reached = await lab.host('out').run(['ping', '-c', '1', '-w', '20', EIP]);
    assert.equal(reached.status, 0, reached.stdout);

    await fails(
      /install: cannot create regular file '\/nowhere\/.*No such file or directory: install kylin-vr in the guest/,
      '--domain',
      domain,
      '--config',
      '/nowhere/x',
    );
  });
});
