// The machine in memory is held against the real one: the same scenes on both, and after each run the same report, the same answers to
// the same questions, and the same machine as our own readers see it.

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { createLab } from '../lab/lab.ts';
import { Machine, NICS } from './machine.ts';
import type { Backend } from './netfilter.ts';
import { play, type Seen, type Stage } from './scene.ts';
import { SCENES, WITH_LEGACY } from './scenes.ts';

for (const [name, stages] of Object.entries(SCENES)) test(name, () => isSame('nft', stages));
for (const name of WITH_LEGACY) test(`${name}, with iptables-legacy`, () => isSame('legacy', SCENES[name] ?? []));

async function isSame(iptables: Backend, stages: readonly Stage[]): Promise<void> {
  const [inMemory, real] = [await onFake(iptables, stages), await onKernel(iptables, stages)];
  for (const [index, seen] of real.entries()) assert.deepEqual(inMemory[index], seen, `run ${index + 1}`);
  assert.ok(real.length > 0 && inMemory.length === real.length);
}

async function onFake(iptables: Backend, stages: readonly Stage[]): Promise<Seen[]> {
  const machine = new Machine(NICS, iptables);
  const seen = await play(machine.host(), stages, async (seconds) => {
    machine.uptime += seconds;
  });
  assert.deepEqual(machine.notKnown, []);
  return JSON.parse(JSON.stringify(seen)) as Seen[];
}

async function onKernel(iptables: Backend, stages: readonly Stage[]): Promise<Seen[]> {
  const lab = await createLab({ uplinks: [], iptables });
  try {
    const tsx = import.meta.resolve('tsx');
    const program = `${import.meta.dirname}/in-lab.ts`;
    const argv = [process.execPath, '--import', tsx, program, JSON.stringify(stages)];
    return JSON.parse((await lab.router.run(argv, { check: true })).stdout) as Seen[];
  } finally {
    await lab.close();
  }
}
