// Killed at every command of a move, before or while it is carried out: the next run ends it.

import assert from 'node:assert/strict';
import { after, before, describe, it } from 'node:test';
import { createLab, type Lab } from '../lab/lab.ts';
import { networkOf } from '../lab/state.ts';
import { elastic } from '../lab/table.ts';
import { recordTools, type Tools } from '../lab/tools.ts';
import { bridged, reload, shell } from './moves.ts';

describe('killed while the uplink moves', { concurrency: false }, () => {
  let lab: Lab;
  let tools: Tools;
  const [plain, onBridge] = [elastic.config, bridged(elastic.config, 'linux')];
  const networks = new Map<string, string>();
  before(async () => {
    lab = await createLab();
    tools = await recordTools(lab.router);
    for (const config of [onBridge, plain]) {
      await reload(lab, config);
      networks.set(config, await networkOf(lab.router));
    }
  });
  after(() => lab?.close());

  /** At its nth writing command kylin-vr is killed; the command is carried out all the same, or not. */
  async function killAt(nth: number, carriedOut: boolean): Promise<void> {
    await shell(lab, 'echo 0 > /run/writes');
    const script = `
      case "$*" in
        *-batch*|*--noflush*)
          n=$(($(cat /run/writes) + 1))
          echo $n > /run/writes
          if [ $n = ${nth} ]; then kill -9 $PPID; ${carriedOut ? ':' : 'exit 0'}; fi
      esac`;
    for (const tool of ['ip', 'iptables-nft-restore'] as const) await tools.before(tool, script);
  }

  async function letBe(): Promise<void> {
    for (const tool of ['ip', 'iptables-nft-restore'] as const) await tools.before(tool, undefined);
    // What was running is through.
    await shell(lab, 'sleep 0.3');
  }

  const WAYS: [name: string, from: string, to: string][] = [
    ['to the bridge', plain, onBridge],
    ['back', onBridge, plain],
  ];
  for (const [name, from, to] of WAYS)
    for (const carriedOut of [true, false])
      for (let nth = 1; nth <= 3; nth++)
        it(`${name}, at command ${nth}, which is ${carriedOut ? '' : 'not '}carried out`, async () => {
          await reload(lab, from);
          await lab.configure(to);
          await killAt(nth, carriedOut);
          const { status } = await lab.kylin('reload');
          await letBe();
          assert.equal(status, 128 + 9);
          await reload(lab, to);
          assert.equal(await networkOf(lab.router), networks.get(to));
          assert.equal((await lab.router.run(['ip', 'link', 'show', 'br-ex'])).status, to === plain ? 1 : 0);
          assert.equal((await reload(lab, to)).result, 'unchanged');
        });
});
