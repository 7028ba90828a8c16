// A router that 1.0 set up, at work, gets this version: nothing of what it serves ends or changes by the upgrade alone, also not by
// the runs that come by themselves. What the new rules change comes with a reload that somebody asks for, or with the next boot.

import assert from 'node:assert/strict';
import { after, before, describe, it } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { IFUP, IFUP_ETH } from '../lab/initscripts.ts';
import { createLab, type Lab } from '../lab/lab.ts';
import { createTraffic, type DatagramCount, type Flow, type Stream, type Traffic } from '../lab/traffic.ts';
import { builtRelease, RELEASE_1_0 } from './release.ts';

const BEHIND = '172.16.0.5';
const NICS = `if_list:
  - { ipaddr: 203.0.113.37, prefix: 24, mac: '52:54:84:00:08:46', gateway: 203.0.113.1 }
  - { ipaddr: 10.10.1.254, prefix: 24, mac: '52:54:84:11:00:04' }
  - { ipaddr: 10.10.2.254, prefix: 24, mac: '52:54:84:11:00:05' }
`;
const ROUTE = 'route_list: [{ dest: 172.16.0.0/16, via: 10.10.1.12 }]\n';
const EIP = 'eip_list: [{ eip: 203.0.113.50, vm-ip: 10.10.1.11 }]\n';

describe('an upgrade of a router at work', { concurrency: false }, () => {
  let program: string;
  before(async () => {
    program = await builtRelease(RELEASE_1_0);
  });

  for (const iptables of ['nft', 'legacy'] as const) {
    describe(`with iptables-${iptables}, and hosts behind a route`, { concurrency: false }, () => {
      let lab: Lab;
      let traffic: Traffic;
      let stream: Stream;
      let behind: Flow<DatagramCount>;
      let direct: Flow<DatagramCount>;
      const old = (...args: string[]) => lab.router.run([process.execPath, program, ...args]);
      const flows = async () => (await lab.router.run(['conntrack', '-L', '-o', 'id'])).stdout;
      /** Of the entry with these words, as soon as there is one. */
      const idOf = async (words: RegExp): Promise<string> => {
        for (;;) {
          const line = (await flows()).split('\n').find((each) => words.test(each));
          const id = /\bid=(\d+)/.exec(line ?? '')?.[1];
          if (id !== undefined) return id;
          await sleep(20);
        }
      };

      before(async () => {
        lab = await createLab({ iptables });
        traffic = createTraffic(lab);
        await lab.configure(NICS + ROUTE + EIP);
        // As on a guest where the rules are older than the program: 1.0's own runs are not what is under test.
        assert.equal((await old('start')).status, 0);
        assert.equal((await old('reload')).status, 0);
        await behindW(lab);
        await traffic.listen('out', 'udp', 7000);
        await traffic.listen('v', 'udp', 7001);
        await traffic.listen('v', 'tcp', 7002);
        stream = await traffic.openStream({ from: 'far', to: '203.0.113.50', port: 7002 });
        behind = await traffic.startFlow({ from: 'w', to: '203.0.113.1', port: 7000, perSecond: 50 });
        direct = await traffic.startFlow({ from: 'out', to: '10.10.1.11', port: 7001, perSecond: 50 });
      });
      after(() => lab?.close());

      it('runs by themselves find nothing to do, and leave every rule and flow', async () => {
        const rules = async () => (await lab.router.run(['iptables-save'])).stdout.replace(/^#.*$|\[\d+:\d+\]/gm, '');
        const [before, id] = [await rules(), await idOf(/src=172\.16\.0\.5 dst=203\.0\.113\.1 /)];
        for (const trigger of ['timer', 'udev', 'timer']) {
          const { status, stdout } = await lab.kylin('reload', '--trigger', trigger, '--json');
          const report = JSON.parse(stdout);
          assert.deepEqual([status, report.result, report.warnings], [0, 'unchanged', []], stdout);
        }
        assert.equal(await rules(), before);
        assert.equal(await idOf(/src=172\.16\.0\.5 dst=203\.0\.113\.1 /), id);
        assert.match((await lab.kylin('status')).stdout, /^in sync$/m);
      });

      it('what was flushed comes back as 1.0 had it', async () => {
        await lab.router.run(['iptables', '-t', 'nat', '-F', 'KYLIN-VR-OUTBOUND'], { check: true });
        const { status, stdout } = await lab.kylin('reload', '--trigger', 'timer', '--json');
        const steps = JSON.parse(stdout).steps.map(({ text }: { text: string }) => text);
        assert.deepEqual([status, steps], [0, ['~ chain KYLIN-VR-OUTBOUND in nat (3 rules)']]);
      });

      it('plan says what a reload changes', async () => {
        const { stderr, stdout } = await lab.kylin('plan', '--verbose');
        assert.match(
          stderr,
          /^warning: .*new since 1\.0: hosts behind 172\.16\.0\.0\/16 are translated as those of their subnet;/m,
        );
        assert.match(stderr, /^warning: .*new since 1\.0: what comes in by an uplink does not leave by it again/m);
        assert.match(stdout, /^\+ jump in mangle FORWARD: -j KYLIN-VR-GUARD$/m);
        assert.match(stdout, /^- 1 established flow of 172\.16\.0\.0\/16$/m);
      });

      it('the reload that somebody asks for makes it, and only what it changes begins anew', async () => {
        const id = await idOf(/src=203\.0\.113\.1 dst=10\.10\.1\.11 /);
        const { status, stdout, stderr } = await lab.kylin('reload');
        assert.equal(status, 0, stderr);
        assert.match(stdout, /^- 1 established flow of 172\.16\.0\.0\/16$/m);
        // From here on nothing leaves with a private source, but what answers who came in that way.
        lab.witness.excuse(
          'the file lets neighbours of the uplink in by private addresses',
          ({ packet }) => packet.sourcePort === 7001,
        );
        assert.ok(await stream.carries());
        assert.equal(await idOf(/src=203\.0\.113\.1 dst=10\.10\.1\.11 /), id);
        const [left, open] = [await behind.stop(), await direct.stop()];
        assert.deepEqual([left.sources, left.lost], [[BEHIND, '203.0.113.37'], 0]);
        assert.deepEqual(open.lost, 0);
      });

      it('and runs by themselves keep it from then on', async () => {
        const { stdout } = await lab.kylin('reload', '--trigger', 'timer', '--json');
        assert.deepEqual(JSON.parse(stdout).result, 'unchanged', stdout);
        assert.doesNotMatch((await lab.kylin('plan')).stderr, /new since 1\.0/);
      });
    });
  }

  describe('with subnets that are routed, not translated', { concurrency: false }, () => {
    let lab: Lab;
    before(async () => {
      lab = await createLab();
      await lab.configure(`${NICS}snat_list: []\n`);
    });
    after(() => lab?.close());

    it('loses no packet, by the upgrade, by a reload, and at the next start', async () => {
      const traffic = createTraffic(lab);
      await lab.router.run([process.execPath, program, 'start'], { check: true });
      await lab.router.run([process.execPath, program, 'reload'], { check: true });
      await lab.host('out').run(['ip', 'route', 'add', '10.10.0.0/16', 'via', '203.0.113.37'], { check: true });
      await traffic.listen('out', 'udp', 7000);
      await traffic.listen('v', 'udp', 7001);
      lab.witness.excuse('snat_list: []', ({ kind }) => kind === 'private source');
      const out = await traffic.startFlow({ from: 'v', to: '203.0.113.1', port: 7000, perSecond: 100 });
      const back = await traffic.startFlow({ from: 'out', to: '10.10.1.11', port: 7001, perSecond: 100 });
      for (const args of [
        ['reload', '--trigger', 'timer'],
        ['reload', '--trigger', 'udev'],
        ['reload'],
        ['start'],
        ['reload'],
      ]) {
        const { status, stderr } = await lab.kylin(...args);
        assert.equal(status, 0, stderr);
      }
      const [left, came] = [await out.stop(), await back.stop()];
      assert.deepEqual([left.sources, left.lost, came.lost], [['10.10.1.11'], 0, 0]);
    });
  });

  it('where initscripts bring NICs up, its files are written anew, once, and nothing is announced or touched', async () => {
    const lab = await createLab({ networkScripts: true });
    try {
      const { router } = lab;
      await router.write(IFUP, IFUP_ETH, 0o755);
      await lab.configure(NICS + EIP);
      await router.run([process.execPath, program, 'start'], { check: true });
      for (const device of ['eth0', 'eth1', 'eth2']) await router.run([IFUP, device], { check: true });
      await router.run([process.execPath, program, 'reload'], { check: true });
      const addresses = async () => (await router.run(['ip', '-4', '-o', 'address'])).stdout;
      const before = await addresses();
      const reload = async () => {
        const { stdout } = await lab.kylin('reload', '--trigger', 'timer', '--json');
        return JSON.parse(stdout).steps.map(({ text }: { text: string }) => text);
      };
      assert.deepEqual(
        await reload(),
        ['eth0', 'eth1', 'eth2'].map((device) => `~ file /etc/sysconfig/network-scripts/ifcfg-${device}`),
      );
      assert.match((await router.read('/etc/sysconfig/network-scripts/ifcfg-eth0')) ?? '', /^ARPUPDATE1=no$/m);
      assert.equal(await addresses(), before);
      assert.deepEqual(await reload(), []);
      // Nor where somebody starts the unit again.
      assert.equal((await lab.kylin('start')).status, 0);
      assert.deepEqual(await reload(), []);
    } finally {
      await lab.close();
    }
  });

  it('a first start after the upgrade, as at the next boot, has the rules of today', async () => {
    const lab = await createLab();
    try {
      await lab.configure(NICS + ROUTE);
      await lab.router.run([process.execPath, program, 'start'], { check: true });
      await lab.router.run([process.execPath, program, 'reload'], { check: true });
      assert.equal((await lab.kylin('start')).status, 0);
      assert.match((await lab.router.run(['iptables-save'])).stdout, /^-A FORWARD -j KYLIN-VR-GUARD$/m);
      const { stdout } = await lab.kylin('reload', '--trigger', 'timer', '--json');
      assert.equal(JSON.parse(stdout).result, 'unchanged', stdout);
    } finally {
      await lab.close();
    }
  });
});

/** The host w is a router, with a host of its own behind it: itself, by another address. */
async function behindW(lab: Lab): Promise<void> {
  await lab.host('w').run(['ip', 'address', 'add', `${BEHIND}/32`, 'dev', 'lo'], { check: true });
  await lab.host('w').run(['ip', 'route', 'replace', 'default', 'via', '10.10.1.254', 'src', BEHIND], { check: true });
  for (const network of ['172.16.0.0/16', '10.10.0.0/16'])
    await lab.host('out').run(['ip', 'route', 'add', network, 'via', '203.0.113.37'], { check: true });
}
