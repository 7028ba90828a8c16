// Many runs at once, runs that are killed or stopped, and changes that fail half-way: the whole program, on the real kernel.

import assert from 'node:assert/strict';
import type { ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import type { Readable } from 'node:stream';
import { text } from 'node:stream/consumers';
import { after, before, describe, it } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { createLab, type Lab, NICS, PROGRAM } from '../lab/lab.ts';
import { networkOf } from '../lab/state.ts';
import { recordTools, type Tools } from '../lab/tools.ts';

const [U, A, B] = [NICS.public.mac, NICS.a.mac, NICS.b.mac];
const nics = `if_list:
  - { ipaddr: 203.0.113.37, prefix: 24, mac: '${U}', gateway: 203.0.113.1 }
  - { ipaddr: 10.10.1.254, prefix: 24, mac: '${A}' }
`;
const eips = (...addresses: string[]) =>
  `eip_list:\n${addresses.map((address) => `  - { eip: ${address}, vm-ip: 10.10.1.11 }\n`).join('')}`;
const one = nics + eips('203.0.113.50');
const other = `${nics}  - { ipaddr: 10.10.2.254, prefix: 24, mac: '${B}' }
${eips('203.0.113.51', '198.51.100.20')}port_forward_list:
  - { eip: 203.0.113.60, protocal: tcp, port: 8080, vm-port: 80, vm-ip: 10.10.1.12 }
route_list:
  - { dest: 172.24.0.0/16, via: 10.10.2.9 }
`;

describe('runs at once', { concurrency: false }, () => {
  let lab: Lab;
  let tools: Tools;
  before(async () => {
    lab = await createLab({ networkScripts: true });
    tools = await recordTools(lab.router);
    await reload(lab, one);
  });
  after(() => lab?.close());

  it('50 reloads at once all end 0, and a few of them do the work of all', async () => {
    await lab.configure(other);
    const ended = await Promise.all(Array.from({ length: 50 }, () => lab.kylin('reload', '--json')));
    assert.deepEqual(
      ended.filter(({ status }) => status !== 0),
      [],
    );
    const reports = ended.map(({ stdout }) => JSON.parse(stdout));
    const runs = new Set(reports.map(({ id }) => id));
    assert.ok(runs.size <= 10, `${runs.size} runs`);
    assert.equal(reports.filter(({ coalesced }) => !coalesced).length, runs.size);
    const changed = new Set(reports.filter(({ result }) => result === 'changed').map(({ id }) => id));
    assert.equal(changed.size, 1);
    assert.equal((await lab.kylin('plan', '--exit-code')).status, 0);
    const log = (await lab.router.read('/var/log/kylin-vr/kylin-vr.log')) ?? '';
    const lines = log.split('\n').filter((line) => /"command":"reload".*"result":/.test(line));
    assert.equal(lines.filter((line) => [...runs].some((id) => line.includes(id))).length, runs.size);
  });

  it('a run that was killed delays the next by nothing, and its children write nothing after that one began', async () => {
    await tools.before('iptables-nft-restore', 'echo begin >> /mnt/restores; sleep 8; echo end >> /mnt/restores');
    await lab.configure(one);
    const killed = start(lab, 'reload');
    await until(async () => (await lab.router.read('/mnt/restores')) === 'begin\n');
    killed.kill('SIGKILL');
    await tools.before('iptables-nft-restore', 'echo next >> /mnt/restores');
    const from = performance.now();
    await reload(lab, one);
    const took = performance.now() - from;
    assert.ok(took < 7000, `${took} ms`);
    await sleep(8200 - took);
    assert.match((await lab.router.read('/mnt/restores')) ?? '', /^begin\n(next\n)+$/);
    await tools.before('iptables-nft-restore');
    assert.equal((await lab.kylin('plan', '--exit-code')).status, 0);
  });

  it('killed at any instant: the next run converges, and is quick to get its turn', async () => {
    for (let n = 0; n < 12; n++) {
      const config = n % 2 ? one : other;
      await lab.configure(config);
      const killed = start(lab, 'reload');
      await sleep(40 + 25 * n);
      killed.kill('SIGKILL');
      const from = performance.now();
      await reload(lab, config);
      assert.ok(performance.now() - from < 10_000);
      assert.deepEqual(await leftovers(lab), []);
      assert.equal((await lab.kylin('plan', '--exit-code')).status, 0);
    }
  });

  it('a holder that is stopped keeps the lock: others wait, say who holds it, and end 75', async () => {
    await tools.before('iptables-nft-restore', 'echo > /mnt/at-work; sleep 1');
    await lab.configure(other);
    const holder = start(lab, 'reload');
    await until(async () => (await lab.router.read('/mnt/at-work')) !== undefined);
    holder.kill('SIGSTOP');
    const waiting = await lab.kylin('reload', '--lock-timeout', '2', '--json');
    assert.equal(waiting.status, 75);
    const who = `pid ${holder.pid}, reload \\(operator\\), since \\d{4}-\\d\\d-\\d\\dT[\\d:.]+Z \\(\\d s\\), stopped`;
    assert.match(waiting.stderr, new RegExp(`^waiting for \\d s: ${who}$`, 'm'));
    const { result, errors } = JSON.parse(waiting.stdout);
    assert.equal(result, 'failed');
    const cure = `let it go on with kill -CONT ${holder.pid}, or end it with kill -KILL ${holder.pid}`;
    assert.match(errors[0].message, new RegExp(`^another run holds the lock: ${who}; gave up after 2 s: ${cure}$`));
    holder.kill('SIGCONT');
    assert.equal((await holder.ended).status, 0);
    await tools.before('iptables-nft-restore');
    assert.equal((await lab.kylin('plan', '--exit-code')).status, 0);
  });

  it('a signal to end waits for the change that has begun', async () => {
    await tools.before('iptables-nft-restore', 'echo > /mnt/begun; sleep 0.5');
    await lab.configure(one);
    const run = start(lab, 'reload');
    await until(async () => (await lab.router.read('/mnt/begun')) !== undefined);
    run.kill('SIGTERM');
    const { status, stderr } = await run.ended;
    assert.equal(status, 0);
    assert.match(stderr, /^SIGTERM: the change that has begun is finished first$/m);
    await tools.before('iptables-nft-restore');
    assert.equal((await lab.kylin('plan', '--exit-code')).status, 0);
  });
});

describe('a change that fails', { concurrency: true }, () => {
  for (const iptables of ['nft', 'legacy'] as const)
    describe(iptables, { concurrency: false }, () => {
      let lab: Lab;
      let tools: Tools;
      before(async () => {
        lab = await createLab({ iptables, networkScripts: true });
        tools = await recordTools(lab.router);
      });
      after(() => lab?.close());

      /** Makes the n-th call of a tool whose words match fail, before or after it did its work; those after it work. */
      const failing = (n: number, words: string, when: 'before' | 'after') => `
        case "$*" in
          ${words})
            count=$(cat /mnt/count 2> /dev/null || echo 0); count=$((count + 1)); echo $count > /mnt/count
            if [ $count = ${n} ]; then
              ${when === 'after' ? 'cat > /mnt/given; REAL "$@" < /mnt/given;' : ''} echo 'made to fail' >&2; exit 4
            fi ;;
        esac`;
      const restoreTool = `iptables-${iptables}-restore` as const;
      const FAILURES = [
        ['iptables-restore, before it did anything', restoreTool, failing(1, '*--noflush*', 'before')],
        [
          'iptables-restore, although it did its work',
          restoreTool,
          failing(1, '*--noflush*', 'after').replace('REAL', `/usr/sbin/xtables-${iptables}-multi iptables-restore`),
        ],
        ['the first ip -batch', 'ip', failing(1, '*-batch*', 'before')],
        ['the second ip -batch', 'ip', failing(2, '*-batch*', 'before')],
        [
          'ip -batch in the middle',
          'ip',
          `
          case "$*" in
            *-batch*)
              count=$(cat /mnt/count 2> /dev/null || echo 0); echo $((count + 1)) > /mnt/count
              if [ $count = 0 ]; then cat > /mnt/given; head -2 /mnt/given | /bin/ip -batch -; echo 'made to fail' >&2; exit 1; fi ;;
          esac`,
        ],
        ['the survey that verifies', 'ip', failing(2, '*json*-b*', 'before')],
      ] as const;

      for (const [what, tool, script] of FAILURES)
        it(`${what} fails: ends 69, and everything is as it was`, async () => {
          await tools.before(tool);
          await reload(lab, one);
          const network = await networkOf(lab.router);
          const lastGood = await lab.router.read('/var/lib/kylin-vr/last-good.yaml');
          await lab.configure(other);
          await lab.router.run(['rm', '-f', '/mnt/count']);
          await tools.before(tool, script);
          const { status, stdout, stderr } = await lab.kylin('reload', '--json');
          await tools.before(tool);
          const { result, errors } = JSON.parse(stdout);
          assert.deepEqual([status, result], [69, 'rolled-back'], stdout + stderr);
          assert.match(
            errors[0].message,
            /made to fail; the network is as it was before; mend the cause and run kylin-vr reload$/,
          );
          assert.equal(await networkOf(lab.router), network);
          assert.equal(await lab.router.read('/var/lib/kylin-vr/last-good.yaml'), lastGood);

          await reload(lab, other);
          assert.equal((await lab.kylin('plan', '--exit-code')).status, 0);
        });

      it('what was taken back is not tried again by itself, and is when the file changes', async () => {
        await reload(lab, one);
        const network = await networkOf(lab.router);
        await lab.configure(other);
        await tools.before(restoreTool, 'exit 4');
        assert.equal((await lab.kylin('reload')).status, 69);
        await tools.before(restoreTool);
        for (const args of [['start'], ['reload', '--trigger', 'timer']]) {
          const { status, stdout } = await lab.kylin(...args, '--json');
          const { result, warnings } = JSON.parse(stdout);
          assert.deepEqual(
            [status, result, warnings.map(({ message }: { message: string }) => message)],
            [
              0,
              'unchanged',
              [
                'this configuration was taken back before: run kylin-vr reload to try it again',
                'the last good configuration stays in force',
              ],
            ],
          );
        }
        assert.equal(await networkOf(lab.router), network);
        await lab.configure(`${other}# once more\n`);
        assert.equal((await lab.kylin('reload', '--trigger', 'timer')).status, 0);
        assert.equal((await lab.kylin('plan', '--exit-code')).status, 0);
      });

      it('a command that fails for good: 69, nothing half-done that the next reload would not mend', async () => {
        await reload(lab, one);
        await tools.before(restoreTool, 'echo "made to fail" >&2; exit 4');
        const network = await networkOf(lab.router);
        await lab.configure(other);
        const { status } = await lab.kylin('reload');
        assert.equal(status, 69);
        assert.equal(await networkOf(lab.router), network);
        await tools.before(restoreTool);
        await reload(lab, other);
        assert.equal((await lab.kylin('plan', '--exit-code')).status, 0);
      });

      it('flows that cannot be cut fail nothing, and that is said', async () => {
        await reload(lab, other);
        await tools.before('conntrack', 'exit 3');
        await lab.configure(one);
        const { status, stdout } = await lab.kylin('reload', '--json');
        await tools.before('conntrack');
        assert.equal(status, 0);
        assert.match(JSON.parse(stdout).warnings[0].message, /^established flows of .* may live on: conntrack /);
      });

      it('an nmcli that finds no bus fails nothing: NetworkManager does not run', async () => {
        await lab.router.write(
          '/usr/sbin/nmcli',
          '#!/bin/sh\necho "Could not create NMClient object" >&2\nexit 1\n',
          0o755,
        );
        await reload(lab, other);
        await reload(lab, one);
      });
    });
});

type Running = Pick<ChildProcess, 'kill'> & { pid: number; ended: Promise<{ status: number | null; stderr: string }> };

/** The program as a process that signals reach. */
function start(lab: Lab, ...args: string[]): Running {
  const child = lab.router.spawn([process.execPath, PROGRAM, ...args]);
  const output = Promise.all([text(child.stderr as Readable), once(child, 'exit')]);
  return {
    pid: child.pid ?? 0,
    kill: (signal) => child.kill(signal),
    ended: output.then(([stderr, [status]]) => ({ status, stderr })),
  };
}

/** Files of a run that was killed. */
async function leftovers(lab: Lab): Promise<string[]> {
  const { stdout } = await lab.router.run([
    'sh',
    '-c',
    'find /etc/sysconfig /etc/kylin-vr -name "*kylin-vr-new*"; ls -d /run/kylin-vr/lock /run/kylin-vr/dead/* 2> /dev/null',
  ]);
  return stdout.split('\n').filter((line) => line !== '');
}

async function until(condition: () => Promise<boolean>): Promise<void> {
  const from = performance.now();
  while (!(await condition())) {
    if (performance.now() - from > 20_000) throw new Error('waited 20 s in vain');
    await sleep(20);
  }
}

async function reload(lab: Lab, config: string): Promise<void> {
  await lab.configure(config);
  const { status, stdout, stderr } = await lab.kylin('reload');
  assert.equal(status, 0, stdout + stderr);
}
