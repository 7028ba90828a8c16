import assert from 'node:assert/strict';
import { randomInt } from 'node:crypto';
import { describe, it } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { isGone, isStopped, openLab, until } from './lab.ts';

const overlaps = (log: string[]) => log.filter((line) => line.startsWith('OVERLAP'));

describe('a crowd', () => {
  for (const round of [1, 2, 3]) {
    it(`of fifty that find the same dead holder never has two inside (round ${round})`, async (t) => {
      const lab = openLab(t);
      const holder = lab.start({ workMs: 60_000 });
      await holder.says('in');
      // All stop as soon as they have seen the dead holder, and so go for him at the same time.
      holder.process.kill('SIGKILL');
      await until('the holder to end', () => isGone(holder.pid));
      const workers = Array.from({ length: 50 }, () => lab.start({ stopBefore: 'renameSync', workMs: 3 }));
      await until('fifty to find the dead holder', () => workers.every((worker) => isStopped(worker.pid)));
      for (const worker of workers) worker.process.kill('SIGCONT');
      for (const { ended } of workers) assert.equal((await ended).code, 0);
      assert.deepEqual(overlaps(lab.log()), []);
      assert.equal(lab.log().filter((line) => line.startsWith('in ')).length, 51);
      assert.deepEqual([lab.files('lock'), lab.files('dead')], [[], []]);
    });
  }

  it('in which somebody is killed, or stopped for a while, every few milliseconds never has two inside', async (t) => {
    const lab = openLab(t);
    const workers = Array.from({ length: 60 }, () => lab.start({ workMs: 20, childMs: 50 }));
    const victims = workers.slice(0, 30);
    await sleep(500);
    while (victims.length > 0) {
      const [victim] = victims.splice(randomInt(victims.length), 1);
      if (randomInt(3) > 0) victim?.process.kill('SIGKILL');
      else {
        victim?.process.kill('SIGSTOP');
        void sleep(randomInt(3_000)).then(() => victim?.process.kill('SIGCONT'));
      }
      await sleep(randomInt(60));
    }
    for (const { ended } of workers) {
      const { code, signal, stderr } = await ended;
      assert.ok(code === 0 || signal === 'SIGKILL', stderr);
    }
    assert.deepEqual(overlaps(lab.log()), []);
    assert.equal((await lab.start({ timeoutMs: 0 }).ended).code, 0);
  });
});
