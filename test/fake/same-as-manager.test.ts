// NetworkManager in memory is held against the real one: the same scenes on both, and after each run the same report and the same network.
// What each is asked on the way is its own matter: the real one takes its time, and is asked again.

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { createManagedLab } from '../lab/path.ts';
import { Machine, NICS } from './machine.ts';
import { play, type Seen, type Stage } from './scene.ts';
import { MANAGED_SCENES } from './scenes.ts';

for (const [name, stages] of Object.entries(MANAGED_SCENES))
  test(name, async () => {
    const [inMemory, real] = await Promise.all([onFake(stages), onReal(stages)]);
    for (const [index, seen] of real.entries())
      assert.deepEqual(essence(inMemory[index]), essence(seen), `run ${index + 1}`);
    assert.ok(real.length > 0 && inMemory.length === real.length);
  });

async function onFake(stages: readonly Stage[]): Promise<Seen[]> {
  const machine = new Machine(NICS, 'nft', true);
  const seen = await play(machine.host(), stages, async (seconds) => {
    machine.uptime += seconds;
  });
  assert.deepEqual(machine.notKnown, []);
  return JSON.parse(JSON.stringify(seen)) as Seen[];
}

async function onReal(stages: readonly Stage[]): Promise<Seen[]> {
  const lab = await createManagedLab('keyfile', { uplinks: [] });
  try {
    const tsx = import.meta.resolve('tsx');
    const program = `${import.meta.dirname}/in-lab.ts`;
    const argv = [process.execPath, '--import', tsx, program, JSON.stringify(stages)];
    return JSON.parse((await lab.router.run(argv, { check: true, timeoutMs: 120_000 })).stdout) as Seen[];
  } finally {
    await lab.close();
  }
}

type Thing = Record<string, unknown>;

/** Without what is the real one's own: it makes the routes of networks itself, and notes what it has found in /run. */
function essence(seen: Seen | undefined) {
  const { result, exitStatus, steps, warnings, errors, state = {} } = seen ?? {};
  const { links = [], addresses = [], routes = [], profiles, rules, pending, history, kept } = state;
  const wordsOf = (things: unknown, ...keys: string[]) =>
    (things as Thing[]).map((each) => keys.map((key) => `${each[key]}`).join(' ')).sort();
  const written = (profiles as { path: string }[] | undefined)?.filter(({ path }) => path.startsWith('/etc/'));
  return {
    ...{ result, exitStatus, steps, warnings, errors, profiles: written, rules, pending, history, kept },
    links: wordsOf(links, 'device', 'up', 'mtu'),
    addresses: wordsOf(addresses, 'device', 'spec'),
    routes: wordsOf(routes, 'dest', 'via', 'device', 'metric', 'protocol'),
  };
}
