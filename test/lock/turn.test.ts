import assert from 'node:assert/strict';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, it } from 'node:test';
import { readLastRun, type Turn } from '../../src/machine/turn.ts';
import { type Ended, isStopped, type Lab, openLab, until, type Worker } from './lab.ts';

type Result = { by: number };

const runs = (lab: Lab) => lab.log().filter((line) => line.startsWith('in ')).length;

function turnOf({ code, stdout, stderr }: Ended): Turn<Result> {
  assert.equal(code, 0, stderr);
  return JSON.parse(/^result (.*)$/m.exec(stdout)?.[1] ?? '');
}

/** Workers that all wait for the same holder; let go gives how each one ended. */
async function crowdBehindHolder(lab: Lab, tasks: Parameters<Lab['start']>[0][]) {
  const holder = lab.start({ workMs: 60_000 });
  await holder.says('in');
  const workers = tasks.map((task) => lab.start(task));
  await Promise.all(workers.map((worker) => worker.says('waiting ')));
  return {
    workers,
    letGo: async (): Promise<Ended[]> => {
      holder.process.kill('SIGKILL');
      return Promise.all(workers.map((worker: Worker) => worker.ended));
    },
  };
}

describe('of those that wait', { concurrency: true }, () => {
  it('one run serves all fifty, and all get its result', async (t) => {
    const lab = openLab(t);
    const { letGo } = await crowdBehindHolder(lab, Array(50).fill({ key: 'explicit', workMs: 50 }));
    const turns = (await letGo()).map(turnOf);
    assert.equal(runs(lab), 1 + 1);
    assert.equal(turns.filter((turn) => !turn.coalesced).length, 1);
    assert.equal(new Set(turns.map((turn) => turn.result.by)).size, 1);
    assert.deepEqual(Object.keys(turns.find((turn) => turn.coalesced)?.result ?? {}), ['by']);
  });

  for (const [first, second, expectedRuns] of [
    ['explicit', 'automatic', 1],
    ['automatic', 'explicit', 2],
  ] as const) {
    it(`${expectedRuns === 1 ? 'one run serves' : 'two runs serve'} all, when an ${first} one runs first`, async (t) => {
      const lab = openLab(t);
      const keys = [...Array(6).fill(first), ...Array(6).fill(second)];
      const { workers, letGo } = await crowdBehindHolder(
        lab,
        keys.map((key) => ({ key })),
      );
      const later = workers.slice(6);
      for (const worker of later) worker.process.kill('SIGSTOP');
      await until('six to stop', () => later.every((worker) => isStopped(worker.pid)));
      const ending = letGo();
      await Promise.all(workers.slice(0, 6).map((worker) => worker.ended));
      for (const worker of later) worker.process.kill('SIGCONT');

      const turns = (await ending).map(turnOf);
      assert.equal(runs(lab), 1 + expectedRuns);
      const runners = new Set(
        turns.slice(6).map((turn) => keys[workers.findIndex(({ pid }) => pid === turn.result.by)]),
      );
      assert.deepEqual([...runners], ['explicit']);
    });
  }

  it('a run that throws serves nobody, and one of them runs next', async (t) => {
    const lab = openLab(t);
    writeFileSync(join(lab.dir, 'fail-once'), '');
    const { letGo } = await crowdBehindHolder(lab, Array(10).fill({ key: 'explicit', workMs: 50, end: 'fail-once' }));
    const ends = await letGo();
    assert.equal(ends.filter((end) => end.code === 1 && end.stderr === 'work\n').length, 1);
    assert.equal(
      ends
        .filter((end) => end.code === 0)
        .map(turnOf)
        .filter((turn) => turn.coalesced).length,
      8,
    );
    assert.equal(runs(lab), 1 + 2);
  });

  it('a run that is killed serves nobody, and one of them runs next', async (t) => {
    const lab = openLab(t);
    writeFileSync(join(lab.dir, 'hang-once'), '');
    const { workers, letGo } = await crowdBehindHolder(lab, Array(10).fill({ key: 'explicit', end: 'hang-once' }));
    const ending = letGo();
    await until('the first of them to run', () => runs(lab) === 2);
    const runner = workers.find((worker) => lab.log().at(-1) === `in ${worker.pid}`);
    runner?.process.kill('SIGKILL');
    const ends = await ending;
    assert.equal(ends.filter((end) => end.signal === 'SIGKILL').length, 1);
    assert.equal(
      ends
        .filter((end) => end.code === 0)
        .map(turnOf)
        .filter((turn) => turn.coalesced).length,
      8,
    );
    assert.equal(runs(lab), 1 + 2);
  });
});

describe('a request', { concurrency: true }, () => {
  it('made while a run is already under way is not served by that run', async (t) => {
    const lab = openLab(t);
    const first = lab.start({ key: 'explicit', workMs: 1_500 });
    await first.says('in');
    const second = lab.start({ key: 'explicit' });
    assert.deepEqual(turnOf(await first.ended).coalesced, false);
    assert.deepEqual(turnOf(await second.ended), { result: { by: second.pid }, coalesced: false });
    assert.equal(readLastRun(lab.dir, (value) => value as Result)?.by, second.pid);
  });

  it('finds no answer in what is damaged, of a version that says less, or of a clock that began before', async (t) => {
    for (const left of ['{', '{"by":1}', '{"by":1,"request":{"key":"explicit","began":1}}']) {
      const lab = openLab(t);
      const { letGo } = await crowdBehindHolder(lab, [{ key: 'explicit' }]);
      writeFileSync(join(lab.dir, 'last-run.json'), left);
      const [turn] = (await letGo()).map(turnOf);
      assert.equal(turn?.coalesced, false, left);
    }
  });
});
