// `completion`: what bash offers with the script, asked of bash itself; the scripts of the others name the same.

import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { describe, it } from 'node:test';
import { createProgram } from '../../src/cli.ts';
import type { Context } from '../../src/commands/context.ts';
import { fileOf, inProcess } from './program.ts';

const program = createProgram({ stdout: () => {}, stderr: () => {} } as unknown as Context, () => {});
const commands = program.commands.map((command) => command.name());
const script = async (shell: string) => (await inProcess('completion', shell)).stdout;

/** What bash would offer for the last of these words. */
async function offers(...words: string[]): Promise<string[]> {
  const ask = `${await script('bash')}
COMP_WORDS=("$@") COMP_CWORD=$(($# - 1))
_kylin_vr
printf '%s\\n' "\${COMPREPLY[@]}"`;
  const { status, stdout, stderr } = spawnSync('bash', ['-uc', ask, 'bash', 'kylin-vr', ...words], {
    encoding: 'utf8',
  });
  assert.deepEqual({ status, stderr }, { status: 0, stderr: '' });
  return stdout.split('\n').filter((line) => line !== '');
}

describe('completion bash', () => {
  it('offers every command and the options of all', async () => {
    const offered = await offers('');
    for (const name of [...commands, '--config', '--json']) assert.ok(offered.includes(name), name);
  });

  it('offers what begins with what is there', async () => assert.deepEqual(await offers('unin'), ['uninstall']));

  it('offers the options of the command, wherever it stands', async () => {
    assert.deepEqual(await offers('--json', 'uninstall', '--fl'), ['--flush']);
    assert.deepEqual(await offers('reload', '--fl'), []);
  });

  it('offers the values of an option, and files where a file is wanted', async (t) => {
    assert.deepEqual(await offers('status', '--renderer', ''), ['ifcfg', 'keyfile', 'none']);
    const file = fileOf(t, '');
    assert.deepEqual(await offers('--config', file.slice(0, -3)), [file]);
    assert.deepEqual(await offers('check', file.slice(0, -3)), [file]);
    assert.deepEqual(await offers('reload', file.slice(0, -3)), []);
  });

  it('offers the commands of a group, and not those of the others', async () => {
    for (const group of program.commands.filter((command) => command.commands.length > 0)) {
      const names = group.commands.map((command) => command.name());
      assert.deepEqual((await offers(group.name(), '')).slice(0, names.length), names);
      assert.ok(!(await offers(group.name(), '')).includes('uninstall'));
    }
  });
});

describe('completion of the other shells', () => {
  for (const shell of ['zsh', 'fish'])
    it(`${shell}: names every command`, async () => {
      const text = await script(shell);
      for (const name of commands) assert.match(text, new RegExp(`[ ']${name}\\b`), name);
    });

  it('there is no other shell', async () => assert.equal((await inProcess('completion', 'tcsh')).status, 64));
});
