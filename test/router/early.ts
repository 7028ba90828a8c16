// Asks early, as a run does, then carries out a command line; prints what was answered, and whether it was good before and after.

import { spawnSync } from 'node:child_process';
import { askEarly } from '../../src/machine/early.ts';
import { linuxHost } from '../../src/machine/host.ts';

const [, , meanwhile = ''] = process.argv;
const early = askEarly(linuxHost());
if (early === undefined) console.log('{}');
else {
  const good = early.isGood();
  spawnSync('sh', ['-ec', meanwhile], { stdio: 'inherit' });
  const goodThen = early.isGood();
  await early.answered;
  const answers: Record<string, string> = {};
  for (const [question, answer] of early.answers)
    answers[question] = await answer.then(
      (said) => (said as { stdout: string }).stdout,
      (error: Error) => error.message,
    );
  console.log(JSON.stringify({ early: { good, goodThen, answers } }));
}
