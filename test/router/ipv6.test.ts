// IPv6 is switched off at boot, before the first link is up, and never on a machine at work: somebody may be logged in over it.

import assert from 'node:assert/strict';
import { describe, it, type TestContext } from 'node:test';
import { createLab, type Lab, NICS } from '../lab/lab.ts';
import { nics } from '../scenarios/change.ts';

const OFF = ['~ net.ipv6.conf.all.disable_ipv6 0 → 1', '~ net.ipv6.conf.default.disable_ipv6 0 → 1'];

async function labOf(t: TestContext, options: Parameters<typeof createLab>[0] = {}): Promise<Lab> {
  const lab = await createLab(options);
  t.after(() => lab.close());
  await lab.configure(nics);
  return lab;
}

/** What a command says of IPv6. */
async function said(lab: Lab, ...args: string[]): Promise<string[]> {
  const { status, stdout, stderr } = await lab.kylin(...args);
  assert.equal(status, 0, stdout + stderr);
  return stdout.split('\n').filter((line) => /ipv6/.test(line));
}

async function values(lab: Lab, ...names: string[]): Promise<string> {
  const paths = names.map((name) => `/proc/sys/net/ipv6/conf/${name}/disable_ipv6`);
  return (await lab.router.run(['cat', ...paths], { check: true })).stdout.replaceAll('\n', '');
}

const set = (lab: Lab, value: 0 | 1, ...names: string[]) =>
  lab.router.run(['sysctl', '-qw', ...names.map((name) => `net.ipv6.conf.${name}.disable_ipv6=${value}`)], {
    check: true,
  });

describe('IPv6', () => {
  it('goes with the first start, for NICs that come later, too', async (t) => {
    const lab = await labOf(t, { nics: [NICS.public, NICS.a] });
    assert.deepEqual(await said(lab, 'start'), OFF);
    assert.equal(await values(lab, 'all', 'default', 'eth0', 'eth1'), '1111');
    await lab.router.plug(NICS.b);
    assert.deepEqual(await said(lab, 'reload'), []);
    assert.equal(await values(lab, 'eth2'), '1');
    const { stdout } = await lab.router.run(['ip', '-6', 'address'], { check: true });
    assert.equal(stdout, '');
  });

  it('also while none of the NICs is there yet', async (t) => {
    const lab = await labOf(t, { nics: [] });
    assert.deepEqual(await said(lab, 'start'), OFF);
  });

  it('is nothing for a machine without a configuration', async (t) => {
    const lab = await labOf(t);
    await lab.configure('if_list: []\n');
    assert.deepEqual(await said(lab, 'start'), []);
    assert.equal(await values(lab, 'all', 'default', 'eth0'), '000');
  });

  it('stays as it is where a link is up, whoever starts what, and whatever it is', async (t) => {
    const lab = await labOf(t);
    await lab.router.run(['ip', 'link', 'set', 'eth1', 'up'], { check: true });
    for (const args of [['start'], ['reload'], ['plan'], ['start'], ['reload', '--trigger', 'timer']])
      assert.deepEqual(await said(lab, ...args), [], args.join(' '));
    assert.equal(await values(lab, 'all', 'default', 'eth0', 'eth1'), '0000');
    assert.match((await lab.kylin('status')).stdout, /^in sync$/m);
  });

  it('comes back where somebody brings it back, and then stays', async (t) => {
    const lab = await labOf(t);
    await said(lab, 'start');
    await set(lab, 0, 'all', 'default');
    for (const command of ['start', 'reload']) assert.deepEqual(await said(lab, command), []);
    assert.equal(await values(lab, 'all', 'default', 'eth0'), '000');
  });

  for (const [name, files] of [
    ['for all', { '/etc/sysctl.d/50-mine.conf': '# IPv6\n net/ipv6/conf/all/disable_ipv6=0\n' }],
    ['for one NIC', { '/usr/local/lib/sysctl.d/x.conf': '-net.ipv6.conf.eth0.disable_ipv6 = 0' }],
    ['in /etc/sysctl.conf', { '/etc/sysctl.conf': 'net.ipv6.conf.*.disable_ipv6 = 0\n' }],
  ] as const)
    it(`is the operator’s matter where sysctl.d speaks of it: ${name}`, async (t) => {
      const lab = await labOf(t);
      // Nothing is written below /usr but in memory.
      await lab.router.run(['mount', '-t', 'tmpfs', 'tmpfs', '/usr/local/lib'], { check: true });
      for (const [path, text] of Object.entries(files)) await lab.router.write(path, text);
      assert.deepEqual(await said(lab, 'start'), []);
      assert.equal(await values(lab, 'all', 'default', 'eth0'), '000');
    });

  it('goes where what speaks of it is a comment, hidden by another file, or no file of settings', async (t) => {
    const lab = await labOf(t);
    const on = 'net.ipv6.conf.all.disable_ipv6 = 0\n';
    await lab.router.write('/etc/sysctl.d/1.conf', `# ${on};${on}net.ipv6.conf.all.accept_ra = 0 # disable_ipv6 = 0\n`);
    await lab.router.write('/etc/sysctl.d/2.conf.bak', on);
    await lab.router.run(['ln', '-s', '/dev/null', '/etc/sysctl.d/3.conf'], { check: true });
    await lab.router.write('/run/sysctl.d/3.conf', on);
    assert.deepEqual(await said(lab, 'start'), OFF);
  });

  it('is nothing to a kernel that has none', async (t) => {
    const lab = await labOf(t);
    await lab.router.run(['mount', '-t', 'tmpfs', 'tmpfs', '/proc/sys/net/ipv6'], { check: true });
    assert.deepEqual(await said(lab, 'start'), []);
  });
});
