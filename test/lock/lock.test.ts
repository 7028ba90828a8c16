import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdirSync, readdirSync, statSync, utimesSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, it, type TestContext } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { newOwnerId, readProcess } from '../../src/machine/process.ts';
import { isGone, isStopped, type Lab, openLab, until, type Worker, workerFile } from './lab.ts';

const LONG = 60_000;

/** Which workers were in, in this order; fails when two were at once. */
function entries(lab: Lab): number[] {
  assert.deepEqual(
    lab.log().filter((line) => line.startsWith('OVERLAP')),
    [],
  );
  return lab.log().flatMap((line) => (line.startsWith('in ') ? [Number(line.slice(3))] : []));
}

async function startHolder(lab: Lab, task: Parameters<Lab['start']>[0] = { workMs: LONG }): Promise<Worker> {
  const holder = lab.start(task);
  await holder.says('in');
  return holder;
}

async function kill(worker: Worker): Promise<void> {
  worker.process.kill('SIGKILL');
  await worker.ended;
}

async function stoppedAt(lab: Lab, stopBefore: 'writeFileSync' | 'renameSync' | 'rmdirSync' | 'kill'): Promise<Worker> {
  const worker = lab.start({ stopBefore });
  await until(`${worker.pid} to stop before ${stopBefore}`, () => isStopped(worker.pid));
  return worker;
}

/** A lock held by an owner of this name. */
function leaveLock(lab: Lab, owner: string): void {
  mkdirSync(join(lab.dir, 'lock'));
  writeFileSync(join(lab.dir, 'lock', owner), '');
}

describe('the lock', { concurrency: true }, () => {
  it('runs one at a time, and leaves nothing behind', async (t) => {
    const lab = openLab(t);
    const ends = await Promise.all([1, 2, 3].map(() => lab.start({ workMs: 100 }).ended));
    assert.deepEqual(
      ends.map((end) => end.code),
      [0, 0, 0],
    );
    assert.equal(entries(lab).length, 3);
    assert.deepEqual(readdirSync(lab.dir).sort(), ['dead', 'log']);
    assert.deepEqual(lab.files('dead'), []);
  });

  it('is left when work throws', async (t) => {
    const lab = openLab(t);
    const { code, stderr } = await lab.start({ end: 'throw' }).ended;
    assert.deepEqual([code, stderr], [1, 'work\n']);
    assert.deepEqual(lab.files('lock'), []);
    assert.equal((await lab.start({ timeoutMs: 0 }).ended).code, 0);
  });

  it('makes its directory, for this user only', async (t) => {
    const lab = openLab(t);
    const dir = join(lab.dir, 'run/kylin-vr');
    await lab.start({ dir }).ended;
    assert.equal(statSync(dir).mode & 0o777, 0o700);
  });

  it('of a killed holder delays the next run by a poll, not by its own time', async (t) => {
    const lab = openLab(t);
    const holder = await startHolder(lab);
    const next = lab.start();
    await sleep(2_500);
    assert.deepEqual(entries(lab), [holder.pid]);
    const killed = performance.now();
    await kill(holder);
    await next.says('in');
    assert.ok(performance.now() - killed < 10_000);
    assert.deepEqual(entries(lab), [holder.pid, next.pid]);
  });

  it('of a killed holder is no obstacle even for one that may not wait', async (t) => {
    const lab = openLab(t);
    await kill(await startHolder(lab));
    assert.equal((await lab.start({ timeoutMs: 0 }).ended).code, 0);
  });

  it('of a killed holder that nobody has waited for, a zombie, is broken', async (t) => {
    const lab = openLab(t);
    const task = JSON.stringify({ dir: lab.dir, workMs: LONG });
    const parent = spawn('/bin/sh', ['-c', '"$0" "$1" "$2" & exec sleep 60', process.execPath, workerFile, task]);
    t.after(() => parent.kill());
    await until('the holder to be in', () => entries(lab).length === 1);
    const [holder = 0] = entries(lab);
    process.kill(holder, 'SIGKILL');
    await until('the holder to be a zombie', () => readProcess(holder)?.state === 'Z');
    const next = lab.start({ timeoutMs: 1_000 });
    assert.equal((await next.ended).code, 0);
    assert.equal(readProcess(holder)?.state, 'Z');
  });

  it('of a stopped holder is never broken', async (t) => {
    const lab = openLab(t);
    const holder = await startHolder(lab, { workMs: 2_000 });
    holder.process.kill('SIGSTOP');
    const waiters = [1, 2, 3].map(() => lab.start());
    await sleep(15_000);
    assert.deepEqual(entries(lab), [holder.pid]);
    holder.process.kill('SIGCONT');
    for (const worker of [holder, ...waiters]) assert.equal((await worker.ended).code, 0);
    assert.equal(entries(lab).length, 4);
  });

  for (const [words, offset] of [
    ['an hour back', -3600],
    ['an hour ahead', 3600],
  ] as const) {
    it(`of a living holder is never broken when the clock was ${words}`, async (t) => {
      const lab = openLab(t);
      const holder = await startHolder(lab, { workMs: 4_000 });
      const time = Date.now() / 1000 + offset;
      utimesSync(join(lab.dir, 'lock'), time, time);
      utimesSync(join(lab.dir, 'lock', lab.files('lock')[0] ?? ''), time, time);
      const waiters = [1, 2].map(() => lab.start());
      for (const worker of [holder, ...waiters]) assert.equal((await worker.ended).code, 0);
      assert.equal(entries(lab).length, 3);
      assert.equal(entries(lab)[0], holder.pid);
    });
  }

  it('of a pid that another process has now is broken', async (t) => {
    const lab = openLab(t);
    const [pid, startTime, ...rest] = newOwnerId().split('-');
    leaveLock(lab, [pid, Number(startTime) - 1, ...rest].join('-'));
    assert.equal((await lab.start({ timeoutMs: 0 }).ended).code, 0);
  });

  it('of an earlier boot is broken', async (t) => {
    const lab = openLab(t);
    const [pid, startTime, , random] = newOwnerId().split('-');
    leaveLock(lab, [pid, startTime, '00000000', random].join('-'));
    assert.equal((await lab.start({ timeoutMs: 0 }).ended).code, 0);
  });

  it('of this process, by this process, is held', async (t) => {
    const lab = openLab(t);
    leaveLock(lab, newOwnerId());
    assert.equal((await lab.start({ timeoutMs: 300 }).ended).code, 75);
  });
});

describe('a process that is paused or killed between two system calls', { concurrency: true }, () => {
  it('killed before its record was written: the lock is broken after a second', async (t) => {
    const lab = openLab(t);
    await kill(await stoppedAt(lab, 'writeFileSync'));
    assert.deepEqual([readdirSync(lab.dir).includes('lock'), lab.files('lock')], [true, []]);
    const started = performance.now();
    await startHolder(lab);
    const took = performance.now() - started;
    assert.ok(took > 1_000 && took < 20_000, `took ${took} ms`);
  });

  it('paused before its record was written: finds out that another one is in', async (t) => {
    const lab = openLab(t);
    const paused = await stoppedAt(lab, 'writeFileSync');
    const other = await startHolder(lab, { workMs: 1_000 });
    paused.process.kill('SIGCONT');
    for (const worker of [other, paused]) assert.equal((await worker.ended).code, 0);
    assert.deepEqual(entries(lab), [other.pid, paused.pid]);
  });

  it("paused before it breaks a dead holder's lock: does not break the lock of the next", async (t) => {
    const lab = openLab(t);
    await kill(await startHolder(lab));
    const breaker = await stoppedAt(lab, 'renameSync');
    const other = await startHolder(lab, { workMs: 1_000 });
    breaker.process.kill('SIGCONT');
    for (const worker of [other, breaker]) assert.equal((await worker.ended).code, 0);
    assert.equal(entries(lab).length, 3);
    assert.equal(entries(lab)[2], breaker.pid);
  });

  it("killed after it took a dead holder's record out: the next gets in, and ends the first one's child", async (t) => {
    const lab = openLab(t);
    const child = await killHolderWithChild(t, lab);
    await kill(await stoppedAt(lab, 'rmdirSync'));
    assert.ok(!isGone(child));
    await startHolder(lab);
    assert.ok(isGone(child));
  });

  it("killed before it ended a dead holder's child: the next does it", async (t) => {
    const lab = openLab(t);
    const child = await killHolderWithChild(t, lab);
    await kill(await stoppedAt(lab, 'kill'));
    assert.ok(!isGone(child));
    await startHolder(lab);
    assert.ok(isGone(child));
  });
});

describe('a child of a killed holder', { concurrency: true }, () => {
  it('is ended before the next one works, and writes no more', async (t) => {
    const lab = openLab(t);
    const child = await killHolderWithChild(t, lab);
    const next = await startHolder(lab, { workMs: 6_000 });
    assert.ok(isGone(child));
    await next.ended;
    assert.ok(!lab.log().includes('child'));
    assert.deepEqual(lab.files('dead'), []);
  });

  it('is also ended when the holder called process.exit in the middle of its work', async (t) => {
    const lab = openLab(t);
    const holder = lab.start({ childMs: 3_000, end: 'exit' });
    const child = Number((await holder.says('child')).slice('child '.length));
    await holder.ended;
    await startHolder(lab);
    assert.ok(isGone(child));
  });

  it('that takes its time to end is waited for', async (t) => {
    const lab = openLab(t);
    const dead = newOwnerId().replace(/^\d+/, '1');
    leaveLock(lab, dead);
    // The kernel needs some 100 ms to take back that much memory.
    const script = "Buffer.alloc(400 << 20, 1); process.stdout.write('x'); setInterval(() => {}, 1000)";
    const child = spawn(process.execPath, ['-e', `globalThis.kept = ${script}`], {
      env: { ...process.env, KYLIN_VR_HOLDER: dead },
    });
    await once(child.stdout, 'data');
    await startHolder(lab);
    assert.ok(isGone(child.pid ?? 0));
  });

  it('is also ended when it is stopped', async (t) => {
    const lab = openLab(t);
    const child = await killHolderWithChild(t, lab);
    process.kill(child, 'SIGSTOP');
    await startHolder(lab);
    assert.ok(isGone(child));
  });

  it('that does not end, although killed, is named, and nothing is begun', async (t) => {
    const lab = openLab(t);
    const dead = newOwnerId().replace(/^\d+/, '1');
    leaveLock(lab, dead);
    const child = await unending(t, { KYLIN_VR_HOLDER: dead });
    const { code, stdout, stderr } = await lab.start().ended;
    assert.deepEqual([code, stdout], [75, '']);
    assert.equal(
      stderr,
      `nothing was changed: children of a run that was killed do not end, although killed themselves: pid ${child} (sleep); ` +
        'see what each waits for with cat /proc/PID/stack; try again when they are gone, or reboot\n',
    );
    assert.deepEqual(lab.files('dead'), [dead], 'the next one looks again');
  });
});

/**
 * Gives a process that no SIGKILL ends before the test does: the first one of a pid namespace waits for every other one in it, and
 * that one is a zombie for as long as its parent, outside, does not look.
 */
async function unending(t: TestContext, env: Record<string, string>): Promise<number> {
  const start = async (argv: readonly string[], variables = {}) => {
    const started = spawn(argv[0] ?? '', argv.slice(1), { env: { ...process.env, ...variables } });
    t.after(() => started.kill('SIGKILL'));
    const [said] = await once(started.stdout, 'data');
    return Number(said);
  };
  // /proc is the one outside.
  const first = await start([
    ...['setpriv', '--pdeathsig', 'KILL', 'unshare', '--pid', '--fork', 'env'],
    ...[...Object.entries(env).map(([name, value]) => `${name}=${value}`), 'sh', '-c'],
    'read pid rest < /proc/self/stat; echo $pid; exec sleep 600',
  ]);
  const inside = 'sleep 600 > /dev/null & echo 1; exec sleep 600';
  await start([
    'setpriv',
    '--pdeathsig',
    'KILL',
    'nsenter',
    '--no-fork',
    '--pid',
    '--target',
    `${first}`,
    'sh',
    '-c',
    inside,
  ]);
  return first;
}

async function killHolderWithChild(t: TestContext, lab: Lab): Promise<number> {
  const holder = await startHolder(lab, { workMs: LONG, childMs: 5_000 });
  const child = Number((await holder.says('child')).slice('child '.length));
  await kill(holder);
  assert.ok(!isGone(child), `${t.name}: the child lives`);
  return child;
}

describe('waiting', { concurrency: true }, () => {
  it('has a limit, and says who holds the lock', async (t) => {
    const lab = openLab(t);
    const holder = await startHolder(lab);
    const { code, stderr } = await lab.start({ timeoutMs: 1_200 }).ended;
    assert.equal(code, 75);
    assert.match(
      stderr,
      new RegExp(
        `^another run holds the lock: pid ${holder.pid}, kylin-vr reload \\(operator\\), since 20\\S+Z \\(\\d+ s\\), ` +
          '(sleeping|running); gave up after \\d+ s: try again when it is done\n$',
      ),
    );
  });

  it('for a stopped holder says how to let it go on', async (t) => {
    const lab = openLab(t);
    const holder = await startHolder(lab);
    holder.process.kill('SIGSTOP');
    await until('the holder to stop', () => isStopped(holder.pid));
    const { stderr } = await lab.start({ timeoutMs: 0 }).ended;
    assert.match(
      stderr,
      new RegExp(`, stopped; gave up after \\d+ s: let it go on with kill -CONT ${holder.pid}, or `),
    );
  });

  it('for one that is just taking it says so', async (t) => {
    const lab = openLab(t);
    const other = await stoppedAt(lab, 'writeFileSync');
    const { code, stderr } = await lab.start({ timeoutMs: 0 }).ended;
    assert.deepEqual(
      [code, stderr],
      [75, `another run has just taken the lock ${lab.dir}/lock; gave up after 0 s: try again\n`],
    );
    other.process.kill('SIGCONT');
    assert.equal((await other.ended).code, 0);
  });

  it('shows after a second who is waited for, and not again for ten', async (t) => {
    const lab = openLab(t);
    const holder = await startHolder(lab);
    const { stdout } = await lab.start({ timeoutMs: 4_000 }).ended;
    const [words, waitedMs] = /^waiting (\d+) pid (\d+), kylin-vr reload \(operator\), since .*\n$/.exec(stdout) ?? [];
    assert.ok(words?.includes(`pid ${holder.pid},`), stdout);
    assert.ok(Number(waitedMs) >= 1_000 && Number(waitedMs) < 3_500, stdout);
  });
});
