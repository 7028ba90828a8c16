// Runs inside a router: starts the commands it is asked for, one at a time, and says how long each took. So what is measured is
// the command, and not the way into the namespace.
// In: {argv, input?, env?} a line. Out: {ms, status, stdout, stderr} a line.

import { spawnSync } from 'node:child_process';
import { createInterface } from 'node:readline';

for await (const line of createInterface({ input: process.stdin })) {
  const { argv, input = '', env = {} } = JSON.parse(line);
  const [command, ...args] = argv;
  const started = performance.now();
  const { status, stdout, stderr, error } = spawnSync(command, args, {
    input,
    env: { PATH: process.env.PATH, HOME: process.env.HOME, ...env },
    encoding: 'utf8',
    maxBuffer: 1 << 28,
  });
  const ms = performance.now() - started;
  process.stdout.write(
    `${JSON.stringify({ ms, status, stdout, stderr: error === undefined ? stderr : error.message })}\n`,
  );
}
