// The command line of the soak. Ends 1, with the seed, the step and a difference, where something is wrong.

import { randomInt } from 'node:crypto';
import { soak } from './soak.ts';

const changes = Number(process.argv[2] ?? process.env.KYLIN_VR_CHANGES ?? 10_000);
const seed = Number(process.env.KYLIN_VR_SEED ?? randomInt(1e6));
if (!Number.isSafeInteger(changes) || changes < 1 || !Number.isSafeInteger(seed)) {
  console.error('usage: npm run test:soak [-- CHANGES]');
  process.exit(64);
}

console.log(`Soak: ${changes} changes, seed ${seed} (KYLIN_VR_SEED).`);
try {
  await soak({ changes, seed, say: (line) => console.log(line) });
  process.exit(0);
} catch (error) {
  console.error(`Soak: seed ${seed}: ${error instanceof Error ? error.message : error}`);
  process.exit(1);
}
