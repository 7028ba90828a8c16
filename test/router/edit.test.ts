// The edit commands on a router at work: file and network change together, or neither does.

import assert from 'node:assert/strict';
import { after, before, beforeEach, describe, it } from 'node:test';
import { createLab, type Lab, NICS } from '../lab/lab.ts';
import { networkOf } from '../lab/state.ts';

const CONFIG = '/etc/kylin-vr/kylin-vr.yaml';
const file = `# tenant 7
if_list:
   - ipaddr: 203.0.113.37
     prefix: 24
     mac: ${NICS.public.mac}
     gateway: 203.0.113.1
   - ipaddr: 10.10.1.254
     prefix: 24
     mac: ${NICS.a.mac}   # web
eip_list:
  - eip: 203.0.113.50
    vm-ip: 10.10.1.11
`;

/** Neither in the file nor in the network. */
const NOTHING_TO_DO: [args: string[], said: string][] = [
  [['eip', 'add', '203.0.113.50=10.10.1.11'], '203.0.113.50=10.10.1.11 is in the file already'],
  [['eip', 'remove', '203.0.113.99'], '203.0.113.99 is not in the file'],
  [
    ['eip', 'remove', '203.0.113.50=10.10.1.99'],
    '203.0.113.50=10.10.1.99 is not in the file, which has 203.0.113.50=10.10.1.11',
  ],
  [['forward', 'remove', '203.0.113.60:80/tcp'], '203.0.113.60:80/tcp is not in the file'],
  [['nic', 'remove', NICS.b.mac], `${NICS.b.mac} is not in the file`],
  [['nic', 'add', `${NICS.a.mac}=10.10.1.254/24`], `${NICS.a.mac}=10.10.1.254/24 is in the file already`],
  [['route', 'remove', '172.16.0.0/16'], '172.16.0.0/16 is not in the file'],
];

describe('edit commands', { concurrency: false }, () => {
  let lab: Lab;
  before(async () => {
    lab = await createLab();
  });
  after(() => lab?.close());
  beforeEach(async () => {
    await lab.configure(file);
    assert.equal((await lab.kylin('reload')).status, 0);
  });

  const addresses = async () => (await lab.router.run(['ip', '-o', 'address', 'show', 'dev', 'eth0'])).stdout;

  it('add: the file and the network have it, and everything else is as it was', async () => {
    const { status, stdout } = await lab.kylin('eip', 'add', '203.0.113.51=10.10.1.12', '203.0.113.52=10.10.1.13');
    assert.equal(status, 0);
    assert.match(stdout, /^~ file \/etc\/kylin-vr\/kylin-vr\.yaml: \+ eip 203\.0\.113\.51=10\.10\.1\.12, \+ eip 203/);
    assert.match(stdout, /edit: changed, \d+ steps/);
    assert.equal(
      await lab.router.read(CONFIG),
      `${file}  - eip: 203.0.113.51\n    vm-ip: 10.10.1.12\n  - eip: 203.0.113.52\n    vm-ip: 10.10.1.13\n`,
    );
    assert.match(await addresses(), /203\.0\.113\.52\/32/);
    assert.equal((await lab.kylin('status')).status, 0);
    assert.equal(
      (await lab.kylin('eip', 'list')).stdout,
      '203.0.113.50=10.10.1.11\n203.0.113.51=10.10.1.12\n203.0.113.52=10.10.1.13\n',
    );
  });

  it('add of what is there, and remove of what is not: unchanged, and said', async () => {
    for (const [args, said] of NOTHING_TO_DO)
      for (const more of [[], ['--no-reload']]) {
        const { status, stdout } = await lab.kylin(...args, ...more);
        assert.equal(status, 0, args.join(' '));
        assert.match(stdout, /^edit: unchanged, 0 steps in \d+ ms\n/);
        assert.equal(stdout.split('\n')[1], said);
      }
    const { status, stderr } = await lab.kylin('eip', 'remove', 'www');
    assert.deepEqual([status, stderr], [64, 'kylin-vr: www: eip must be an IPv4 address\n']);
    assert.equal(await lab.router.read(CONFIG), file);
  });

  it('keeps mode, group and byte order mark of the file', async () => {
    const stat = async () => (await lab.router.run(['stat', '-c', '%a %u %g', CONFIG])).stdout;
    await lab.configure(`\ufeff${file}`);
    await lab.router.run(['sh', '-c', `chown 0:4 ${CONFIG}; chmod 0640 ${CONFIG}`], { check: true });
    assert.equal((await lab.kylin('eip', 'add', '203.0.113.51=10.10.1.12')).status, 0);
    assert.equal(await stat(), '640 0 4\n');
    assert.equal((await lab.kylin('eip', 'remove', '203.0.113.51')).status, 0);
    assert.equal((await lab.router.run(['od', '-An', '-tx1', '-N4', CONFIG])).stdout, ' ef bb bf 23\n');
    assert.equal(await lab.router.read(CONFIG), file);
    // What the rules refuse, and what is put back, likewise.
    assert.equal((await lab.kylin('eip', 'add', '203.0.113.37=10.10.1.12')).status, 65);
    assert.equal(await stat(), '640 0 4\n');
  });

  it('remove: gone from both', async () => {
    assert.equal((await lab.kylin('eip', 'remove', '203.0.113.50')).status, 0);
    assert.equal(await lab.router.read(CONFIG), file.replace(/eip_list:\n.*\n.*\n/, 'eip_list: []\n'));
    assert.doesNotMatch(await addresses(), /203\.0\.113\.50/);
  });

  it('nic add attaches a network, nic remove detaches it', async () => {
    const before = await networkOf(lab.router);
    const { mac } = NICS.b;
    assert.equal((await lab.kylin('nic', 'add', `${mac}=10.10.2.254/24`)).status, 0);
    assert.match((await lab.router.run(['ip', 'address', 'show', 'dev', 'eth2'])).stdout, /10\.10\.2\.254\/24/);
    assert.equal((await lab.kylin('nic', 'remove', mac.toUpperCase())).status, 0);
    assert.equal(await lab.router.read(CONFIG), file);
    assert.doesNotMatch(await networkOf(lab.router), /10\.10\.2\.254/);
    assert.match(before, /10\.10\.1\.254/);
  });

  it('forward and route', async () => {
    const { status } = await lab.kylin('forward', 'add', '203.0.113.60:80-82/tcp=10.10.1.12:8080');
    assert.equal(status, 0);
    assert.equal((await lab.kylin('route', 'add', '172.16.0.0/16=10.10.1.1')).status, 0);
    assert.equal((await lab.kylin('forward', 'list')).stdout, '203.0.113.60:80-82/tcp=10.10.1.12:8080\n');
    assert.equal((await lab.kylin('status')).status, 0);
  });

  it('--no-reload changes the file only, and says so', async () => {
    const before = await networkOf(lab.router);
    const { status, stdout } = await lab.kylin('eip', 'add', '203.0.113.51=10.10.1.12', '--no-reload');
    assert.equal(status, 0);
    assert.match(stdout, /not in force yet: kylin-vr reload/);
    assert.equal(await networkOf(lab.router), before);
    assert.equal((await lab.kylin('status')).status, 2);
  });

  it('applies nothing that somebody else left in the file, unless told so', async () => {
    const other = `${file}  - eip: 203.0.113.70\n    vm-ip: 10.10.1.70\nfrom-uplink: drop\n`;
    const before = await networkOf(lab.router);
    for (const make of [
      () => lab.configure(other),
      async () => {
        await lab.configure(other);
        assert.equal((await lab.kylin('reload')).status, 0);
        assert.equal((await lab.kylin('rollback')).status, 0);
      },
      async () => {
        await lab.configure(other);
        assert.equal((await lab.kylin('reload', '--confirm-within', '60')).status, 0);
        const { status, stderr } = await lab.kylin('eip', 'add', '203.0.113.51=10.10.1.12');
        assert.deepEqual([status, /a change waits for its confirmation/.test(stderr)], [75, true]);
        assert.equal((await lab.kylin('rollback')).status, 0);
      },
    ]) {
      await make();
      for (const args of [
        ['add', '203.0.113.51=10.10.1.12'],
        ['remove', '203.0.113.50'],
        // In the file, and not in force.
        ['add', '203.0.113.70=10.10.1.70'],
      ]) {
        const { status, stderr } = await lab.kylin('eip', ...args);
        assert.equal(status, 65);
        assert.match(
          stderr,
          /kylin-vr\.yaml holds more than what is in force: - from-uplink: forward, \+ eip 203\.0\.113\.70=10\.10\.1\.70, \+ from-uplink: drop; kylin-vr plan shows what that does, kylin-vr eip (?:add|remove) --all applies it as well, cp \S+ \S+ takes it out of the file$/m,
        );
        assert.equal(await lab.router.read(CONFIG), other);
        assert.equal(await networkOf(lab.router), before);
      }
      for (const [args, said] of NOTHING_TO_DO) {
        const { status, stdout } = await lab.kylin(...args);
        assert.equal(status, 0, args.join(' '));
        assert.match(stdout, /^edit: unchanged, 0 steps in 0 ms\n/);
        assert.ok(
          stdout.includes(`${said}; /etc/kylin-vr/kylin-vr.yaml holds more than what is in force: - from-uplink`),
          stdout,
        );
        assert.equal(await lab.router.read(CONFIG), other);
        assert.equal(await networkOf(lab.router), before);
      }
    }
    assert.equal((await lab.kylin('eip', 'add', '203.0.113.51=10.10.1.12', '--no-reload')).status, 0);
    assert.equal((await lab.kylin('eip', 'add', '203.0.113.52=10.10.1.13')).status, 65);
    const { status, stdout } = await lab.kylin('eip', 'add', '203.0.113.52=10.10.1.13', '--all');
    assert.equal(status, 0);
    assert.match(stdout, /applied with it, as the file has it: .*\+ eip 203\.0\.113\.70=10\.10\.1\.70/);
    assert.match(await addresses(), /203\.0\.113\.70\/32/);
  });

  it('applies what edits with --no-reload wrote, and shows it', async () => {
    for (const n of [51, 52])
      assert.equal((await lab.kylin('eip', 'add', `203.0.113.${n}=10.10.1.${n}`, '--no-reload')).status, 0);
    const { status, stdout } = await lab.kylin('eip', 'remove', '203.0.113.50');
    assert.equal(status, 0);
    assert.match(
      stdout,
      /applied with it, as the file has it: \+ eip 203\.0\.113\.51=10\.10\.1\.51, \+ eip 203\.0\.113\.52=10\.10\.1\.52\n/,
    );
    assert.match(await addresses(), /203\.0\.113\.52\/32/);
  });

  it('--confirm-within takes the network back unless it is confirmed; what it wrote is in force no more', async () => {
    const before = await networkOf(lab.router);
    const add = ['eip', 'add', '203.0.113.51=10.10.1.12', '--confirm-within', '60'];
    assert.match((await lab.kylin(...add)).stdout, /kylin-vr confirm keeps it/);
    assert.equal((await lab.kylin('confirm')).status, 0);
    assert.equal((await lab.kylin('eip', 'remove', '203.0.113.51')).status, 0);
    assert.equal(await networkOf(lab.router), before);
    assert.equal((await lab.kylin(...add)).status, 0);
    assert.equal((await lab.kylin('rollback')).status, 0);
    assert.equal(await networkOf(lab.router), before);
    const { status, stderr } = await lab.kylin('eip', 'add', '203.0.113.52=10.10.1.13');
    assert.deepEqual([status, /more than what is in force: \+ eip 203\.0\.113\.51=/.test(stderr)], [65, true]);
    assert.equal((await lab.kylin(...add, '--no-reload')).status, 64);
  });

  it('of what the rules refuse leaves file and network as they were', async () => {
    const before = await networkOf(lab.router);
    const { status, stderr } = await lab.kylin('nic', 'add', '52:54:84:11:00:09=10.10.1.1/24');
    assert.equal(status, 65);
    assert.match(stderr, /if_list\[2\]\.ipaddr: .*overlap.*; the file and the network are as they were/);
    assert.equal(await lab.router.read(CONFIG), file);
    assert.equal(await networkOf(lab.router), before);
  });

  it('whose reload fails takes back file and network', async () => {
    const before = await networkOf(lab.router);
    await lab.router.run(
      [
        'sh',
        '-c',
        'mkdir -p /run/bin; cp -a /usr/sbin/xtables-nft-multi /run/real; mount --bind /bin/false /usr/sbin/xtables-nft-multi',
      ],
      { check: true },
    );
    const { status } = await lab.kylin('eip', 'add', '203.0.113.51=10.10.1.12');
    await lab.router.run(['umount', '/usr/sbin/xtables-nft-multi'], { check: true });
    assert.equal(status, 69);
    assert.equal(await lab.router.read(CONFIG), file);
    assert.equal(await networkOf(lab.router), before);
    assert.equal((await lab.kylin('status')).status, 0);
  });

  it('side by side: none is lost', async () => {
    const numbers = [61, 62, 63, 64, 65, 66];
    const results = await Promise.all(
      numbers.map((n) => lab.kylin('eip', 'add', `203.0.113.${n}=10.10.1.${n}`, '--lock-timeout', '60')),
    );
    assert.deepEqual(
      results.map(({ status }) => status),
      numbers.map(() => 0),
    );
    const listed = (await lab.kylin('eip', 'list')).stdout;
    for (const n of numbers) assert.match(listed, new RegExp(`203\\.0\\.113\\.${n}=10\\.10\\.1\\.${n}\n`));
    assert.equal((await lab.kylin('status')).status, 0);
  });

  it('of a file that is invalid already says what is wrong with it, and leaves it', async () => {
    const bad = file.replace('prefix: 24', 'prefix: 33');
    await lab.configure(bad);
    const { status, stderr } = await lab.kylin('eip', 'add', '203.0.113.51=10.10.1.12');
    assert.equal(status, 65);
    assert.match(stderr, /must be a whole number from 1 to 32, is 33/);
    assert.equal(await lab.router.read(CONFIG), bad);
  });

  it('--json: the edit is a step of the run', async () => {
    const { stdout } = await lab.kylin('eip', 'add', '203.0.113.51=10.10.1.12', '--json');
    const report = JSON.parse(stdout) as { result: string; steps: { kind: string }[] };
    assert.deepEqual([report.result, report.steps[0]?.kind], ['changed', 'write-file']);
  });
});
