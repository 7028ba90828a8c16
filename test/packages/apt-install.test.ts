// What the tests install on the machine they run on: no service that comes along is started, now or at the next boot.

import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { resolve } from 'node:path';
import { describe, it, type TestContext } from 'node:test';
import { createTree, type Tree } from './tree.ts';

const POLICY = '/usr/sbin/policy-rc.d';
const LINK = '/etc/systemd/system/multi-user.target.wants/stub.service';

/** As debhelper writes it; started by its init script, since no systemd runs in the tree, in a runlevel that nothing there could tell. */
const PACKAGE = `
printf '#!/bin/sh\necho N 5\n' > /sbin/runlevel
chmod 0755 /sbin/runlevel
top=/root/stub
mkdir -p $top/DEBIAN $top/lib/systemd/system $top/etc/init.d
printf 'Package: stub\\nVersion: 1\\nArchitecture: all\\nMaintainer: nobody <nobody@lists.invalid>\\nDescription: a stub\\n' > $top/DEBIAN/control
printf '[Service]\\nExecStart=/bin/true\\n[Install]\\nWantedBy=multi-user.target\\n' > $top/lib/systemd/system/stub.service
printf '#!/bin/sh\\n### BEGIN INIT INFO\\n# Provides: stub\\n# Required-Start:\\n# Required-Stop:\\n# Default-Start: 2 3 4 5\\n# Default-Stop: 0 1 6\\n### END INIT INFO\\ntouch /root/started\\n' > $top/etc/init.d/stub
printf '#!/bin/sh\\nset -e\\nif deb-systemd-helper --quiet was-enabled stub.service; then deb-systemd-helper enable stub.service > /dev/null; fi\\nupdate-rc.d stub defaults > /dev/null\\ninvoke-rc.d stub start\\n' > $top/DEBIAN/postinst
chmod 0755 $top/DEBIAN/postinst $top/etc/init.d/stub
dpkg-deb --root-owner-group --build $top /root/stub.deb
`;

/** Without archives, so that nothing is fetched; with a policy of its own where `policy` is one. */
async function treeOf(t: TestContext, policy?: string): Promise<Tree> {
  const tree = await createTree(t);
  const made = await tree.run('sh', '-ec', `rm -rf ${POLICY} /sbin/runlevel /etc/apt/sources.list*; ${PACKAGE}`);
  assert.equal(made.status, 0, made.stderr);
  if (policy !== undefined) await tree.write(POLICY, policy, '0755');
  await tree.write('/root/apt-install.sh', readFileSync(resolve(import.meta.dirname, '../apt-install.sh'), 'utf8'));
  return tree;
}

const ours = async (tree: Tree): Promise<void> => {
  const { status, stdout, stderr } = await tree.run('bash', '/root/apt-install.sh', '/root/stub.deb');
  assert.equal(status, 0, stdout + stderr);
};

async function stateOf(tree: Tree): Promise<string[]> {
  const script = `test -e /lib/systemd/system/stub.service && echo installed
    test -e /root/started && echo started
    test -L ${LINK} && echo enabled
    test -e ${POLICY} && cat ${POLICY}`;
  return (await tree.run('sh', '-c', script)).stdout.split('\n').filter((line) => line !== '');
}

describe('test/apt-install.sh', () => {
  it('installs what apt-get alone would start and enable, and leaves nothing of its own behind', async (t) => {
    const plain = await treeOf(t);
    const { status, stderr } = await plain.run('apt-get', '-qq', '-y', 'install', '/root/stub.deb');
    assert.equal(status, 0, stderr);
    assert.deepEqual(await stateOf(plain), ['installed', 'started', 'enabled']);

    const tree = await treeOf(t);
    await ours(tree);
    assert.deepEqual(await stateOf(tree), ['installed']);
    await ours(tree);
    assert.deepEqual(await stateOf(tree), ['installed']);
  });

  it('keeps what was enabled before, also through an upgrade of the package', async (t) => {
    const tree = await treeOf(t);
    await ours(tree);
    await tree.run('systemctl', 'enable', 'stub.service');
    await tree.run('apt-get', '-qq', '-y', '--reinstall', 'install', '/root/stub.deb');
    await ours(tree);
    assert.ok((await stateOf(tree)).includes('enabled'));
  });

  it('leaves the policy of the machine', async (t) => {
    const policy = '#!/bin/sh\nexit 101\n';
    const tree = await treeOf(t, policy);
    await ours(tree);
    assert.deepEqual(await stateOf(tree), ['installed', ...policy.trim().split('\n')]);
  });

  it('a policy that was left by one that was killed refuses nothing, and goes with the next', async (t) => {
    const tree = await treeOf(t, '#!/bin/sh\n# Made by the tests of kylin-vr\n[ ! -d /proc/4194305 ] || exit 101\n');
    assert.equal((await tree.run(POLICY, 'stub', 'start')).status, 0);
    await ours(tree);
    assert.deepEqual(await stateOf(tree), ['installed']);
  });
});
