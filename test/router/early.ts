// Asks early, as a run does, then carries out a command line and takes the lock; prints what was answered, and whether it was good
// before and then.

import { spawnSync } from 'node:child_process';
import { PATHS } from '../../src/base/paths.ts';
import { askEarly } from '../../src/machine/known/early.ts';
import { linuxHost } from '../../src/machine/linux-host.ts';
import { withLock } from '../../src/machine/lock.ts';

const [, , meanwhile = ''] = process.argv;
const early = askEarly(linuxHost());
if (early === undefined) console.log('{}');
else {
  const good = early.isGood();
  spawnSync('sh', ['-ec', meanwhile], { stdio: 'inherit' });
  const lock = { dir: PATHS.run, command: 'reload', trigger: 'operator', timeoutMs: 5000, onLeft: () => {} };
  const goodThen = await withLock(lock, async () => early.isGood());
  await early.answered;
  const answers: Record<string, string> = {};
  for (const [question, answer] of early.answers)
    answers[question] = await answer.then(
      (said) => (said as { stdout: string }).stdout,
      (error: Error) => error.message,
    );
  console.log(JSON.stringify({ early: { good, goodThen, answers } }));
}
