// The soak in small; `npm run test:soak` is the whole.

import assert from 'node:assert/strict';
import { randomInt } from 'node:crypto';
import { it } from 'node:test';
import { soak } from './soak.ts';

it('ten random changes under traffic: no packet lost, and the network is that of a new router', async (t) => {
  const seed = Number(process.env.KYLIN_VR_SEED ?? randomInt(1e6));
  t.diagnostic(`seed ${seed}`);
  const { sent, lost } = await soak({ changes: 10, seed, say: (line) => t.diagnostic(line) });
  assert.ok(sent > 0);
  assert.equal(lost, 0);
});
