// Signals, terminals that end, and Ctrl-C: the change that has begun is finished or taken back, and said.

import assert from 'node:assert/strict';
import type { ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import type { Readable } from 'node:stream';
import { text } from 'node:stream/consumers';
import { after, before, describe, it } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { createLab, type Lab, NICS, PROGRAM } from '../lab/lab.ts';
import { recordTools, type Tool, type Tools } from '../lab/tools.ts';

const config = (eip: string) => `if_list:
  - { ipaddr: 203.0.113.37, prefix: 24, mac: '${NICS.public.mac}', gateway: 203.0.113.1 }
  - { ipaddr: 10.10.1.254, prefix: 24, mac: '${NICS.a.mac}' }
eip_list:
  - { eip: ${eip}, vm-ip: 10.10.1.11 }
`;

describe('in the middle of a change', { concurrency: false }, () => {
  let lab: Lab;
  let tools: Tools;
  let last = 50;
  before(async () => {
    lab = await createLab({ networkScripts: true });
    tools = await recordTools(lab.router);
    await lab.configure(config('203.0.113.50'));
    assert.equal((await lab.kylin('reload')).status, 0);
  });
  after(() => lab?.close());

  /** A reload to a new EIP that was stopped to look at: `tool` has begun to write, and goes on half a second later. */
  async function begun(tool: Tool, words: string, then = ''): Promise<ChildProcess> {
    last++;
    await lab.configure(config(`203.0.113.${last}`));
    await lab.router.run(['rm', '-f', '/mnt/begun']);
    await tools.before(
      tool,
      `case "$*" in ${words}) [ -e /mnt/begun ] || { echo > /mnt/begun; sleep 0.5; ${then} } ;; esac`,
    );
    // A session of its own, as a terminal gives: what Ctrl-C reaches is its group.
    const child = lab.router.spawn(['setsid', process.execPath, PROGRAM, 'reload']);
    for (let waited = 0; (await lab.router.read('/mnt/begun')) === undefined; waited += 20) {
      assert.ok(waited < 20_000, 'the change does not begin');
      await sleep(20);
    }
    return child;
  }

  async function inSync(eip: number): Promise<void> {
    for (const tool of ['ip', 'iptables-nft-restore'] as const) await tools.before(tool);
    const { stdout } = await lab.router.run(['/bin/ip', '-4', 'address', 'show', 'eth0']);
    assert.match(stdout, new RegExp(`203\\.0\\.113\\.${eip}/32`));
    const held = await lab.router.run(['sh', '-c', 'ls -d /run/kylin-vr/lock /run/kylin-vr/dead/* 2> /dev/null']);
    assert.equal(held.stdout, '');
  }

  for (const signal of ['SIGTERM', 'SIGINT', 'SIGHUP'] as const)
    for (const [tool, words] of [
      ['iptables-nft-restore', '*--noflush*'],
      ['ip', '*-batch*'],
    ] as const)
      it(`${signal} to its whole group, while ${words.replaceAll('*', '')} runs: finished, said, ends 0`, async () => {
        const child = await begun(tool, words);
        const [stdout, stderr] = [text(child.stdout as Readable), text(child.stderr as Readable)];
        process.kill(-(child.pid ?? 0), signal);
        process.kill(-(child.pid ?? 0), signal);
        const [status] = await once(child, 'exit');
        assert.equal(status, 0, await stderr);
        assert.match(await stderr, new RegExp(`^${signal}: the change that has begun is finished first$`, 'm'));
        assert.match(await stdout, /^reload: changed, \d+ steps/m);
        await inSync(last);
      });

  it('Ctrl-C, and then the change fails: taken back, said, ends 69', async () => {
    const child = await begun('ip', '*-batch*', 'echo no >&2; exit 2;');
    const stdout = text(child.stdout as Readable);
    process.kill(-(child.pid ?? 0), 'SIGINT');
    const [status] = await once(child, 'exit');
    assert.equal(status, 69);
    assert.match(await stdout, /^reload: rolled-back, /m);
    last--;
    await inSync(last);
  });

  it('the terminal is gone, with nobody to read: finished all the same', async () => {
    const child = await begun('iptables-nft-restore', '*--noflush*');
    child.stdout?.destroy();
    child.stderr?.destroy();
    process.kill(-(child.pid ?? 0), 'SIGHUP');
    const [status] = await once(child, 'exit');
    assert.equal(status, 0);
    await inSync(last);
  });

  it('waiting for its turn: ends at once, and the next run finds nothing of it', async () => {
    const holder = await begun('iptables-nft-restore', '*--noflush*', 'sleep 2;');
    const waiting = lab.router.spawn([process.execPath, PROGRAM, 'reload']);
    await sleep(800);
    waiting.kill('SIGTERM');
    const [, signal] = await once(waiting, 'exit');
    assert.equal(signal, 'SIGTERM');
    assert.equal((await once(holder, 'exit'))[0], 0);
    assert.equal((await lab.kylin('reload')).status, 0);
    await inSync(last);
  });
});
