// The rpm in a tree, as rpm --root installs it: new, over 0.1, as an upgrade, in exchange for the other flavour, and removed.

import assert from 'node:assert/strict';
import { before, describe, it, type TestContext } from 'node:test';
import { SETTINGS_OF_1_0 } from '../install/image.ts';
import { type Built, build, command, stubRpm, temporary } from './built.ts';
import { createTree, type Tree } from './tree.ts';

const CONFIG = '/etc/kylin-vr/kylin-vr.yaml';
const EDITED = `# kept by hand
if_list:
  - { ipaddr: 192.0.2.1, prefix: 24, mac: '52:54:84:00:08:46', gateway: 192.0.2.254, nmae: public }
`;
const QEMU_GA = 'BLACKLIST_RPC=guest-file-open,guest-exec\n';
const LINK = '/etc/systemd/system/multi-user.target.wants/kylin-vr.service';

const folder = temporary();
let built: Built;
/** Everything that the packages ask for. */
let guest: string;
let old: string;
before(async () => {
  built = await build('rpm', folder);
  const asked = await Promise.all(
    [built.plain, built.standalone].map((file) => command(['rpm', '-qp', '--requires', file])),
  );
  const provides = [...new Set(asked.join('').split('\n'))].filter(
    (each) => /^[a-z/]/.test(each) && !/^(rpmlib|config)\(/.test(each),
  );
  guest = await stubRpm(folder, { name: 'guest', version: '8', provides: [...provides, 'nodejs(engine) = 20.19.0'] });
  old = await stubRpm(folder, {
    name: 'kylin-vr',
    version: '0.1',
    files: {
      [CONFIG]: 'if_list: []\neip_list: []\nport_forward_list: []\n',
      '/etc/udev/rules.d/80-kylin-vr.rules': 'ACTION=="add", SUBSYSTEM=="net", RUN+="/usr/bin/kylin-vr.py -c reload"\n',
      '/usr/bin/kylin-vr.py': '#!/usr/bin/python2\n',
      '/usr/local/bin/kylin-vr.py': '#!/usr/bin/python2\n',
      '/usr/lib/systemd/system/kylin-vr.service': '[Service]\nExecStart=/usr/bin/kylin-vr.py -c init\n',
    },
    // What it removed, it removed on every upgrade too.
    scripts: `%post
echo 'net.ipv6.conf.all.disable_ipv6 = 1' > /etc/sysctl.d/kylin-vr.conf
mkdir -p /etc/systemd/system/multi-user.target.wants
ln -sf /usr/lib/systemd/system/kylin-vr.service ${LINK}

%postun
rm -f /etc/udev/rules.d/80-kylin-vr.rules /etc/sysctl.d/kylin-vr.conf ${LINK}
`,
  });
});

async function treeOf(t: TestContext): Promise<Tree> {
  const tree = await createTree(t);
  await tree.rpm('-i', guest);
  return tree;
}

const paths = (listing: readonly string[]) => listing.map((line) => line.replace(/^\S+ /, ''));

/** This machine may have it, whose /usr the tree has. */
/** Without what is said of this machine's own firewalld, and of its Node. */
const withoutWarnings = (said: string): string =>
  said.replace(/^warning: (firewalld is here, |Node \S+ had its last security release ).*$/gm, '');

describe('the rpm', () => {
  it('is refused where something that it needs is missing', async (t) => {
    const tree = await createTree(t);
    await assert.rejects(tree.rpm('-i', built.plain), /nodejs\(engine\) >= 20.*is needed by kylin-vr/s);
    await assert.rejects(tree.rpm('-i', built.standalone), /conntrack-tools is needed by kylin-vr-standalone/);
  });

  it('new: enabled, with a configuration that does nothing; removed: nothing stays', async (t) => {
    const tree = await treeOf(t);
    await tree.write('/etc/sysconfig/qemu-ga', QEMU_GA);
    const before = await tree.ours();
    const said = await tree.rpm('-i', built.plain);
    assert.match(said, /takes effect with the next boot/);
    assert.doesNotMatch(withoutWarnings(said), /warning|error/i);
    assert.equal((await tree.run('readlink', LINK)).stdout.trim(), '/usr/lib/systemd/system/kylin-vr.service');
    assert.equal((await tree.run('stat', '-c', '%a %U', '/etc/kylin-vr', CONFIG)).stdout, '700 root\n600 root\n');
    assert.equal(await tree.read('/etc/sysconfig/qemu-ga'), 'BLACKLIST_RPC=\n');
    assert.equal(await tree.rpm('-V', '--nodeps', 'kylin-vr'), '');
    assert.equal((await tree.run('kylin-vr', '--version')).stdout, '1.0.0\n');
    assert.equal((await tree.run('sh', '/usr/local/bin/kylin-vr.py', '--version')).stdout, '1.0.0\n');

    assert.doesNotMatch(await tree.rpm('-e', 'kylin-vr'), /warning|error/i);
    assert.deepEqual(await tree.ours(), before);
    assert.equal(await tree.read('/etc/sysconfig/qemu-ga'), QEMU_GA);
  });

  for (const flavour of ['plain', 'standalone'] as const)
    it(`over 0.1 (${flavour}): its configuration stays, what it leaves goes, ours is enabled; what is wrong is said`, async (t) => {
      const tree = await treeOf(t);
      await tree.rpm('-i', old);
      await tree.write(CONFIG, EDITED, '0600');
      const said = await tree.rpm('-U', built[flavour]);
      assert.match(said, /kylin-vr\.yaml:3:.*nmae/);
      assert.equal(await tree.read(CONFIG), EDITED);
      for (const path of ['/etc/udev/rules.d/80-kylin-vr.rules', '/etc/sysctl.d/kylin-vr.conf'])
        assert.equal(await tree.read(path), undefined, path);
      assert.equal((await tree.run('readlink', LINK)).stdout.trim(), '/usr/lib/systemd/system/kylin-vr.service');
      for (const path of ['/usr/bin/kylin-vr.py', '/usr/local/bin/kylin-vr.py'])
        assert.match((await tree.read(path)) ?? '', /^#!\/bin\/sh\n# For callers of kylin-vr\.py 0\.1/);
      assert.match((await tree.read('/usr/lib/systemd/system/kylin-vr.service')) ?? '', /\/usr\/bin\/kylin-vr start/);
      const name = flavour === 'plain' ? 'kylin-vr' : 'kylin-vr-standalone';
      assert.deepEqual((await tree.rpm('-qa', '*kylin-vr*')).trim().split('\n'), [(await tree.rpm('-q', name)).trim()]);

      // The operator's file is his, whoever goes; 0.1 does not come back.
      await tree.rpm('-e', name);
      assert.equal(await tree.read(CONFIG), EDITED);
      assert.deepEqual(paths(await tree.ours()), ['/etc/kylin-vr', CONFIG]);
    });

  it('over 1.0: what it set in sysctl.d goes, the lines of an operator stay', async (t) => {
    const tree = await treeOf(t);
    const path = '/usr/lib/sysctl.d/90-kylin-vr.conf';
    const files = { [path]: SETTINGS_OF_1_0, '/usr/bin/kylin-vr': '' };
    await tree.rpm('-i', await stubRpm(folder, { name: 'kylin-vr', version: '1.0', files }));
    await tree.write(path, `${SETTINGS_OF_1_0}\nnet.core.somaxconn = 4096\n`);
    const said = await tree.rpm('-U', built.plain);
    assert.match(said, /^kylin-vr: what was added to \S+ is in \/etc\/sysctl\.d\/90-kylin-vr\.conf now$/m);
    assert.equal(await tree.read(path), undefined);
    assert.equal(await tree.read('/etc/sysctl.d/90-kylin-vr.conf'), '\nnet.core.somaxconn = 4096\n');
  });

  it('an upgrade changes no configuration, and enables nothing that somebody disabled', async (t) => {
    const tree = await treeOf(t);
    await tree.rpm('-i', built.plain);
    await tree.write(CONFIG, EDITED, '0600');
    await tree.write('/etc/logrotate.d/kylin-vr', '# mine\n');
    await tree.run('rm', LINK);
    // To rpm an upgrade to the same version is one like any other.
    await tree.rpm('-U', '--replacepkgs', built.plain);
    assert.equal(await tree.read(CONFIG), EDITED);
    assert.equal(await tree.read('/etc/logrotate.d/kylin-vr'), '# mine\n');
    assert.notEqual((await tree.run('readlink', LINK)).status, 0);
  });

  it('the flavours exclude each other, and one takes over from the other', async (t) => {
    const tree = await treeOf(t);
    await tree.write('/etc/sysconfig/qemu-ga', QEMU_GA);
    await tree.rpm('-i', built.plain);
    await tree.write(CONFIG, EDITED, '0600');
    await assert.rejects(tree.rpm('-i', built.standalone), /conflicts with/);
    await tree.rpm('-e', 'kylin-vr');
    await tree.rpm('-i', built.standalone);
    assert.equal(await tree.read(CONFIG), EDITED);
    assert.equal(await tree.read('/etc/sysconfig/qemu-ga'), 'BLACKLIST_RPC=\n');
    // It needs no other Node.
    await tree.run('rm', '-f', '/usr/bin/node', '/usr/local/bin/node');
    assert.equal((await tree.run('kylin-vr', 'check')).status, 0);
    assert.match((await tree.run('kylin-vr', 'install')).stdout, /install: unchanged/);
    // Where it finds no compiled code that fits, it keeps its own.
    assert.ok(!(await tree.ours()).some((line) => line.includes('/var/cache/kylin-vr')));
    await tree.rpm('-e', 'kylin-vr-standalone');
    assert.deepEqual(paths(await tree.ours()), ['/etc/kylin-vr', CONFIG]);
    assert.equal(await tree.read('/etc/sysconfig/qemu-ga'), QEMU_GA);
  });
});
