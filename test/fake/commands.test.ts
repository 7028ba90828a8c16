// Commands as they are typed, in this process and on the machine in memory; only the lock is real, in a folder of its own.

import assert from 'node:assert/strict';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import { AgentError } from '../../src/base/errors.ts';
import { PATHS } from '../../src/base/paths.ts';
import { runCli } from '../../src/cli.ts';
import type { Context } from '../../src/commands/context.ts';
import { withLock } from '../../src/machine/lock.ts';
import { createLogger } from '../../src/machine/log.ts';
import type { Machine } from './machine.ts';
import { addressesOf, machineWith } from './router.ts';
import { ROUTER, yaml } from './scenes.ts';

type Ended = { status: number; stdout: string; stderr: string };

/** The command line on this machine. `onStderr`: called with what is said, as it is. */
function shellOf(t: TestContext, machine: Machine, onStderr?: (text: string) => void) {
  const lockFolder = mkdtempSync(join(tmpdir(), 'kylin-vr-lock-'));
  t.after(() => rmSync(lockFolder, { recursive: true }));
  const kylin = async (...args: string[]): Promise<Ended> => {
    const ended = { stdout: '', stderr: '' };
    const context: Context = {
      host: () => machine.host(),
      lockFolder,
      stdout: ({ shown }) => {
        ended.stdout += shown;
      },
      stderr: ({ shown }) => {
        ended.stderr += shown;
        onStderr?.(shown);
      },
      ...{ isRoot: true, terminal: false, journal: false, colour: false },
      logger: () => createLogger({ level: 'error', to: 'people', stderr: () => {} }),
      byGuestAgent: async () => false,
      unbroken: (work) => work(),
    };
    // As main.ts does it.
    const status = await runCli(args, context).catch((error: unknown) => {
      if (!(error instanceof AgentError)) throw error;
      ended.stderr += `kylin-vr: ${error.message}\n`;
      return error.status;
    });
    assert.deepEqual(machine.notKnown, []);
    return { status, ...ended };
  };
  return { kylin, lockFolder };
}

test('reload prints its steps, and the second one that there are none', async (t) => {
  const { kylin } = shellOf(t, machineWith());
  const { status, stdout, stderr } = await kylin('reload');
  assert.deepEqual([status, stderr], [0, '']);
  assert.match(stdout, /^\+ address 203\.0\.113\.50\/32 on eth0$/m);
  assert.match(stdout, /^reload: changed, 66 steps in \d+ ms$/m);
  assert.match((await kylin('reload')).stdout, /^reload: unchanged, 0 steps in \d+ ms\n$/);
});

test('plan shows what reload does', async (t) => {
  const { kylin } = shellOf(t, machineWith());
  const stepsIn = ({ stdout }: Ended) => stdout.split('\n').filter((line) => /^[-+~!] /.test(line));
  const planned = stepsIn(await kylin('plan', '--verbose'));
  assert.equal(planned.length, 66);
  const words = stepsIn(await kylin('plan'));
  assert.ok(words.includes('+ EIP 203.0.113.50 → 10.10.1.11'), words.join('\n'));
  assert.deepEqual(stepsIn(await kylin('reload')), words);
  assert.equal((await kylin('plan', '--exit-code')).status, 0);
});

test('what a rollback of a change that waits takes back is in words, too', async (t) => {
  const machine = machineWith();
  const { kylin } = shellOf(t, machine);
  await kylin('reload');
  const changed = (machine.files.text(PATHS.config) ?? '').replace('203.0.113.50', '203.0.113.52');
  machine.files.put(PATHS.config, changed);
  const there = await kylin('reload', '--confirm-within', '600');
  assert.match(there.stdout, /^- EIP 203\.0\.113\.50 → 10\.10\.1\.11\n\+ EIP 203\.0\.113\.52 → 10\.10\.1\.11$/m);
  const back = await kylin('rollback');
  assert.match(back.stdout, /^- EIP 203\.0\.113\.52 → 10\.10\.1\.11\n\+ EIP 203\.0\.113\.50 → 10\.10\.1\.11$/m);
  assert.doesNotMatch(back.stdout, /KYLIN-VR/);
});

test('status and explain say what is in force, and see what somebody has changed', async (t) => {
  const machine = machineWith();
  const { kylin } = shellOf(t, machine);
  const explained = ['explain', '--from', '10.10.1.11', '--to', '203.0.113.60:81/tcp', '--live'];
  await kylin('reload');
  assert.equal((await kylin('status')).status, 0);
  assert.match((await kylin(...explained)).stdout, /^agrees: the kernel sends it out by eth1$/m);
  machine.network.ask('route add 10.10.1.12 via 203.0.113.9 dev eth0'.split(' '));
  const { status, stdout } = await kylin('status', '--json');
  const { eips, forwards } = JSON.parse(stdout) as Record<'eips' | 'forwards', { state: string }[]>;
  assert.deepEqual(
    [status, eips.map(({ state }) => state), forwards.map(({ state }) => state)],
    [2, ['active'], ['error']],
  );
  assert.equal((await kylin(...explained)).status, 2);
});

test('eip add changes the file and the network, and rollback only the network', async (t) => {
  const machine = machineWith();
  const { kylin } = shellOf(t, machine);
  await kylin('reload');
  assert.equal((await kylin('eip', 'add', '203.0.113.70=10.10.1.70')).status, 0);
  assert.match(machine.files.text(PATHS.config) ?? '', /203\.0\.113\.70/);
  assert.ok(addressesOf(machine, 'eth0').includes('203.0.113.70/32'));
  const { status, stdout } = await kylin('rollback');
  assert.equal(status, 0);
  assert.match(stdout, /cp \/var\/lib\/kylin-vr\/last-good\.yaml/);
  assert.ok(!addressesOf(machine, 'eth0').includes('203.0.113.70/32'));
});

test('reload --confirm-within, then confirm; a second one finds nothing to confirm', async (t) => {
  const machine = machineWith();
  const { kylin } = shellOf(t, machine);
  await kylin('reload');
  machine.configure(yaml({ ...ROUTER, eips: {} }));
  assert.match((await kylin('reload', '--confirm-within', '60')).stdout, /within 60 s .*kylin-vr confirm keeps it/);
  const locked = await kylin('reload');
  assert.equal(locked.status, 75);
  assert.match(locked.stderr, /a change waits for its confirmation/);
  assert.equal((await kylin('confirm')).status, 0);
  assert.equal((await kylin('confirm')).status, 64);
});

test('many who ask at once: one run serves all who waited for it', async (t) => {
  const machine = machineWith();
  let waiting = 0;
  const { kylin, lockFolder } = shellOf(t, machine, (text) => {
    waiting += text.startsWith('waiting for 1 s') ? 1 : 0;
    if (waiting === 6) letGo();
  });
  let letGo = () => {};
  const held = new Promise<void>((resolve) => {
    letGo = resolve;
  });
  const holder = withLock({ dir: lockFolder, command: 'test', trigger: 'operator', timeoutMs: 1000 }, () => held);
  const asked = Array.from({ length: 6 }, () => kylin('reload'));
  let questions = 0;
  machine.before = ({ what }) => {
    questions += what === `read ${PATHS.pending}` ? 1 : 0;
  };
  await holder;
  const ended = await Promise.all(asked);
  assert.deepEqual(
    ended.map(({ status }) => status),
    [0, 0, 0, 0, 0, 0],
  );
  assert.equal(ended.filter(({ stdout }) => stdout.includes('by the run that was waited for')).length, 5);
  assert.equal(questions, 1);
});
