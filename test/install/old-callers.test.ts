// kylin-vr.py, as the callers of 0.1 run it.

import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { existsSync, readdirSync } from 'node:fs';
import { dirname, join, resolve } from 'node:path';
import { describe, it } from 'node:test';
import { imageOf } from './image.ts';

const SCRIPT = resolve(import.meta.dirname, '../../packaging/kylin-vr.py');

/** By the name that a caller uses; only those that are here and are what they say. */
const PYTHONS = interpreters(['python2', 'python2.7', 'python3']);

const calls: [string[], string[]][] = [
  [[], ['start']],
  [
    ['-c', 'subnet'],
    ['-c', 'subnet'],
  ],
  [
    ['-c', 'reload', '-d', 'eth1'],
    ['-c', 'reload', '-d', 'eth1'],
  ],
  [['/etc/kylin-vr/other file.yaml'], ['start', '--config', '/etc/kylin-vr/other file.yaml']],
  [['other.yaml'], ['start', '--config', 'other.yaml']],
  [['--reload'], ['--reload']],
  [
    ['reload', '--json'],
    ['reload', '--json'],
  ],
];

describe('kylin-vr.py', () => {
  for (const interpreter of [['sh'], ['bash'], [], ...PYTHONS.map((python) => [python])])
    for (const [args, expected] of calls)
      it(`${[...interpreter, 'kylin-vr.py', ...args].join(' ')} runs kylin-vr ${expected.join(' ')}`, (t) => {
        // Stands where kylin-vr will, and says what it was called with.
        const folder = imageOf(t, {
          '/kylin-vr': { content: '#!/bin/sh\nprintf "%s\\n" "$@"\nexit 65\n', mode: 0o755 },
        });
        const [command = '', ...rest] = [...interpreter, SCRIPT, ...args];
        const env = { PATH: `${folder}:/usr/sbin:/usr/bin:/sbin:/bin` };
        const { status, stdout, stderr } = spawnSync(command, rest, { encoding: 'utf8', env });
        assert.deepEqual({ status, stdout, stderr }, { status: 65, stdout: `${expected.join('\n')}\n`, stderr: '' });
      });

  it('is tried with a Python', () => assert.ok(PYTHONS.length > 0, 'no Python here: apt-get install python3-minimal'));
});

function interpreters(names: readonly string[]): string[] {
  const pyenv = join(process.env.HOME ?? '', '.pyenv/versions');
  const folders = [
    '/usr/bin',
    '/usr/local/bin',
    ...(existsSync(pyenv) ? readdirSync(pyenv).map((version) => join(pyenv, version, 'bin')) : []),
  ];
  return names
    .flatMap((name) =>
      folders
        .map((folder) => join(folder, name))
        .filter(existsSync)
        .slice(0, 1),
    )
    .filter((path, index, all) => all.findIndex((other) => dirname(other) === dirname(path)) === index)
    .filter((path) => spawnSync(path, ['--version']).status === 0);
}
