// The deb in a tree, as dpkg --root installs it: new, upgraded, in exchange for the other flavour, removed and purged.

import assert from 'node:assert/strict';
import { before, describe, it, type TestContext } from 'node:test';
import { SETTINGS_OF_1_0 } from '../install/image.ts';
import { type Built, build, stubDeb, temporary } from './built.ts';
import { createTree, type Tree } from './tree.ts';

const CONFIG = '/etc/kylin-vr/kylin-vr.yaml';
const EDITED = '# kept by hand\nif_list: []\n';
const CLOSED = 'DAEMON_ARGS="--block-rpcs=guest-exec,guest-ping"\n';
const OPEN = 'DAEMON_ARGS="--block-rpcs=guest-ping"\n';
const LINK = '/etc/systemd/system/multi-user.target.wants/kylin-vr.service';

const folder = temporary();
const SYSCTL = '/usr/lib/sysctl.d/90-kylin-vr.conf';
let built: Built;
/** As far as it matters here. */
let old: string;
before(async () => {
  built = await build('deb', folder);
  old = await stubDeb(folder, 'kylin-vr', '1.0', { [SYSCTL]: SETTINGS_OF_1_0, '/usr/bin/kylin-vr': '' });
});

/** With a package of Node 20, be it of this machine or a stub. */
async function treeOf(t: TestContext): Promise<Tree> {
  const tree = await createTree(t);
  const [, version = '0'] = /^Version: (.*)$/m.exec((await tree.run('dpkg', '--status', 'nodejs')).stdout) ?? [];
  if ((await tree.run('dpkg', '--compare-versions', version, 'ge', '20')).status !== 0) {
    await tree.dpkg('-i', await stubDeb(folder, 'nodejs', '20.19.0-1'));
    await tree.run('sh', '-c', `[ -e /usr/bin/node ] || ln -s ${process.execPath} /usr/bin/node`);
  }
  await tree.write('/etc/default/qemu-guest-agent', CLOSED);
  return tree;
}

const isEnabled = async (tree: Tree) => (await tree.run('readlink', LINK)).status === 0;
const guestAgent = (tree: Tree) => tree.read('/etc/default/qemu-guest-agent');
const paths = (listing: readonly string[]) => listing.map((line) => line.replace(/^\S+ /, ''));
/** dpkg keeps what the administrator may have changed. */
const KEPT = ['/etc/kylin-vr', CONFIG, '/etc/logrotate.d/kylin-vr'];

/** Whatever Node would heed of the environment of whoever starts it. */
async function startsCleanly(tree: Tree): Promise<void> {
  await tree.write('/tmp/evil.cjs', "require('node:fs').writeFileSync('/tmp/ran', '')");
  const hostile = ['NODE_OPTIONS=--require=/tmp/evil.cjs', 'NODE_V8_COVERAGE=/tmp/ran', 'NODE_DEBUG=module'];
  const { status, stdout, stderr } = await tree.run('env', ...hostile, 'kylin-vr', '--version');
  assert.deepEqual({ status, stdout, stderr }, { status: 0, stdout: '1.0.0\n', stderr: '' });
  assert.equal((await tree.run('test', '-e', '/tmp/ran')).status, 1);
}

/** This machine may have it, whose /usr the tree has. */
/** Without what is said of this machine's own firewalld, and of its Node. */
const withoutWarnings = (said: string): string =>
  said.replace(/^warning: (firewalld is here, |Node \S+ had its last security release ).*$/gm, '');

describe('the deb', () => {
  it('new: enabled, with a configuration that does nothing; removed: the configuration stays; purged: nothing', async (t) => {
    const tree = await treeOf(t);
    const before = await tree.ours();
    const said = await tree.dpkg('-i', built.plain);
    assert.match(said, /^kylin-vr takes effect with the next boot, or now with: systemctl start kylin-vr$/m);
    assert.doesNotMatch(withoutWarnings(said), /warning|error/i);
    assert.ok(await isEnabled(tree));
    assert.equal((await tree.run('stat', '-c', '%a %U', '/etc/kylin-vr', CONFIG)).stdout, '700 root\n600 root\n');
    assert.equal(await guestAgent(tree), OPEN);
    assert.equal(await tree.dpkg('--verify', 'kylin-vr'), '');
    await startsCleanly(tree);

    await tree.write(CONFIG, EDITED, '0600');
    await tree.dpkg('--remove', 'kylin-vr');
    assert.deepEqual(paths(await tree.ours()), KEPT);
    assert.equal(await tree.read(CONFIG), EDITED);
    assert.equal(await guestAgent(tree), CLOSED);

    // Installed again it is as new, around the configuration that is there.
    await tree.dpkg('-i', built.plain);
    assert.ok(await isEnabled(tree));
    assert.equal(await tree.read(CONFIG), EDITED);

    await tree.dpkg('--purge', 'kylin-vr');
    assert.deepEqual(await tree.ours(), before);
  });

  it('an upgrade changes no configuration, and enables nothing that somebody disabled', async (t) => {
    const tree = await treeOf(t);
    await tree.dpkg('-i', built.plain);
    await tree.write(CONFIG, EDITED, '0600');
    await tree.write('/etc/logrotate.d/kylin-vr', '# mine\n');
    await tree.run('rm', LINK);
    await tree.dpkg('-i', built.plain);
    assert.equal(await tree.read(CONFIG), EDITED);
    assert.equal(await tree.read('/etc/logrotate.d/kylin-vr'), '# mine\n');
    assert.equal(await isEnabled(tree), false);
  });

  for (const [name, added, stays] of [
    ['as it was', '', undefined],
    ['with lines of an operator', '# mine\nnet.core.somaxconn = 4096\n', '# mine\nnet.core.somaxconn = 4096\n'],
  ] as const)
    it(`over 1.0: what it set in sysctl.d goes, ${name}`, async (t) => {
      const tree = await treeOf(t);
      await tree.dpkg('-i', old);
      await tree.write(SYSCTL, `${SETTINGS_OF_1_0}${added}`);
      const said = await tree.dpkg('-i', built.plain);
      assert.deepEqual([await tree.read(SYSCTL), await tree.read(`/etc${SYSCTL.slice(8)}`)], [undefined, stays]);
      const moved = `kylin-vr: what was added to ${SYSCTL} is in /etc/sysctl.d/90-kylin-vr.conf now`;
      assert.equal(said.includes(moved), stays !== undefined, said);
      assert.equal(await tree.read('/var/lib/kylin-vr/sysctl.conf.kept'), undefined);
      // The same again changes no more.
      assert.doesNotMatch(await tree.dpkg('-i', built.plain), /sysctl/);
      assert.equal(await tree.read(`/etc${SYSCTL.slice(8)}`), stays);
      await tree.dpkg('--purge', 'kylin-vr');
      assert.equal(await tree.read(`/etc${SYSCTL.slice(8)}`), stays);
    });

  it('over 1.0: of copies in /etc/sysctl.d, which were read instead, an operator’s lines stay, and links', async (t) => {
    const tree = await treeOf(t);
    await tree.dpkg('-i', old);
    await tree.write(SYSCTL, `${SETTINGS_OF_1_0}vm.swappiness = 1\n`);
    const theirs = 'net.ipv6.conf.all.disable_ipv6 = 0\nnet.ipv4.ip_forward = 0\n';
    await tree.write('/etc/sysctl.d/90-kylin-vr.conf', `${theirs}${SETTINGS_OF_1_0}`, '0640');
    await tree.write('/etc/sysctl.d/kylin-vr.conf', 'net.ipv4.ip_forward=1\n');
    await tree.dpkg('-i', built.plain);
    assert.equal(await tree.read('/etc/sysctl.d/90-kylin-vr.conf'), theirs);
    assert.equal((await tree.run('stat', '-c', '%a', '/etc/sysctl.d/90-kylin-vr.conf')).stdout, '640\n');
    for (const path of [SYSCTL, '/etc/sysctl.d/kylin-vr.conf']) assert.equal(await tree.read(path), undefined, path);

    await tree.run('ln', '-sfn', '/dev/null', '/etc/sysctl.d/90-kylin-vr.conf');
    await tree.write(SYSCTL, SETTINGS_OF_1_0);
    await tree.dpkg('-i', built.plain);
    assert.equal((await tree.run('readlink', '/etc/sysctl.d/90-kylin-vr.conf')).stdout, '/dev/null\n');
  });

  it('one flavour takes over from the other, and the purge of the one leaves the other alone', async (t) => {
    const tree = await treeOf(t);
    await tree.dpkg('-i', built.plain);
    await tree.write(CONFIG, EDITED, '0600');
    await tree.dpkg('-i', '--auto-deconfigure', built.standalone);
    assert.match((await tree.run('dpkg', '--status', 'kylin-vr')).stdout, /^Status: .* config-files$/m);
    await tree.dpkg('--purge', 'kylin-vr');
    assert.equal(await tree.read(CONFIG), EDITED);
    assert.ok(await isEnabled(tree));
    assert.equal(await guestAgent(tree), OPEN);
    await startsCleanly(tree);
    // It needs no other Node.
    await tree.run('rm', '-f', '/usr/bin/node', '/usr/local/bin/node');
    assert.equal((await tree.run('kylin-vr', 'check')).status, 0);
    assert.match((await tree.run('kylin-vr', 'install')).stdout, /install: unchanged/);
    // Where it finds no compiled code that fits, it keeps its own.
    assert.ok(!(await tree.ours()).some((line) => line.includes('/var/cache/kylin-vr')));

    await tree.dpkg('--remove', 'kylin-vr-standalone');
    assert.deepEqual(paths(await tree.ours()), KEPT);
    assert.equal(await guestAgent(tree), CLOSED);
  });
});
