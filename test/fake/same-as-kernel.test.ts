// The machine in memory is held against the real one: the same scenes on both, and after each run the same report, the same answers to
// the same questions, and the same machine as our own readers see it.

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { createLab } from '../lab/lab.ts';
import { Machine } from './machine.ts';
import { play, type Seen, type Stage } from './scene.ts';
import { SCENES } from './scenes.ts';

for (const [name, stages] of Object.entries(SCENES))
  test(name, async () => {
    const [inMemory, real] = [await onFake(stages), await onKernel(stages)];
    for (const [index, seen] of real.entries()) assert.deepEqual(inMemory[index], seen, `run ${index + 1}`);
    assert.equal(inMemory.length, real.length);
  });

async function onFake(stages: readonly Stage[]): Promise<Seen[]> {
  const machine = new Machine();
  const seen = await play(machine.host(), stages, async (seconds) => {
    machine.uptime += seconds;
  });
  assert.deepEqual(machine.notKnown, []);
  return JSON.parse(JSON.stringify(seen)) as Seen[];
}

async function onKernel(stages: readonly Stage[]): Promise<Seen[]> {
  const lab = await createLab({ uplinks: [] });
  try {
    const tsx = import.meta.resolve('tsx');
    const program = `${import.meta.dirname}/in-lab.ts`;
    const argv = [process.execPath, '--import', tsx, program, JSON.stringify(stages)];
    return JSON.parse((await lab.router.run(argv, { check: true })).stdout) as Seen[];
  } finally {
    await lab.close();
  }
}
