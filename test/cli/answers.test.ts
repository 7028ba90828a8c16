// What a command answers when it cannot do what it is asked for: one JSON object whatever happens, and the status of the cause.

import assert from 'node:assert/strict';
import { chmodSync } from 'node:fs';
import { dirname } from 'node:path';
import { describe, it } from 'node:test';
import { HostError } from '../../src/base/errors.ts';
import { fileOf, inProcess, kylinVr, unprivileged } from './program.ts';

const BAD = 'if_list: [1]\n';
const MISSING = '/nowhere/kylin-vr.yaml';

describe('--json prints one object whatever happens', () => {
  for (const noun of ['eip', 'forward', 'nic', 'route'])
    it(`${noun} list of a file with mistakes`, async (t) => {
      const { status, stdout, stderr } = await inProcess('--config', fileOf(t, BAD), '--json', noun, 'list');
      const { errors, warnings } = JSON.parse(stdout);
      assert.deepEqual([status, errors[0].path, errors[0].line, warnings], [65, 'if_list[0]', 1, []]);
      assert.match(stderr, /^error: .*:1:11: if_list\[0\]: must be a mapping/);
    });

  it('explain with a file with mistakes', async (t) => {
    const packet = ['explain', '--from', '192.0.2.1', '--to', '203.0.113.50'];
    const { status, stdout } = await inProcess('--config', fileOf(t, BAD), '--json', ...packet);
    assert.deepEqual([status, JSON.parse(stdout).errors[0].path], [65, 'if_list[0]']);
  });

  for (const [args, ends] of [
    [['check', MISSING], 65],
    [['--config', MISSING, 'eip', 'list'], 65],
    [['--config', MISSING, 'explain', '--from', '192.0.2.1', '--to', '192.0.2.2'], 65],
    [['explain', '--from', 'here', '--to', '192.0.2.2'], 64],
    [['status', '--watch'], 64],
    [['status', '--watch', '0'], 64],
    [['reload', '--lock-timeout', '-1'], 64],
    [['frobnicate'], 64],
    [[], 64],
    [['install', '--root', '/nowhere'], 64],
    [['rollback', '--list', '--to', '1'], 64],
  ] as const)
    it(`${args.join(' ')}: ${ends}`, () => {
      const { status, stdout } = kylinVr('--json', ...args);
      const { errors } = JSON.parse(stdout) as { errors: { message: string }[] };
      assert.deepEqual([status, errors.length, typeof errors[0]?.message], [ends, 1, 'string']);
    });

  for (const args of [[], ['eip'], ['forward']])
    it(`says that a command is missing: ${args.join(' ')}`, () => {
      const { status, stdout } = kylinVr('--json', ...args);
      const { errors } = JSON.parse(stdout);
      assert.deepEqual([status, errors], [64, [{ message: 'needs a command: kylin-vr --help shows them' }]]);
    });

  for (const [what, args, ends] of [
    ['a file that is not there', ['push', '--socket', '/nowhere', MISSING], 65],
    ['no guest', ['push', MISSING], 64],
    ['a guest that does not answer', ['push', '--socket', '/nowhere'], 69],
    ['a file with mistakes', ['push', '--socket', '/nowhere'], 65],
  ] as const)
    it(`push has guests: ${what}`, (t) => {
      const files = args.length === 3 && args[0] === 'push' && !(args as readonly string[]).includes(MISSING);
      const file = fileOf(t, ends === 65 ? BAD : 'if_list: []\n');
      const { status, stdout } = kylinVr('--json', ...args, ...(files ? [file] : []));
      const { guests, errors, warnings } = JSON.parse(stdout);
      assert.deepEqual(
        [status, guests.length, Array.isArray(errors), Array.isArray(warnings)],
        [ends, ends === 69 ? 1 : 0, true, true],
      );
    });
});

describe('without root, 77', () => {
  for (const [noun, entry] of [
    ['eip', '203.0.113.51=192.168.100.191'],
    ['route', '172.16.0.0/16=192.168.100.1'],
  ] as const)
    it(`${noun} add and remove`, () => {
      for (const verb of ['add', 'remove'])
        assert.deepEqual(unprivileged(noun, verb, entry, '--no-reload'), {
          status: 77,
          stdout: '',
          stderr: `kylin-vr: kylin-vr ${noun} ${verb} needs root: run it as root or with sudo\n`,
        });
    });

  it('a file that one may not read is no wrong one', (t) => {
    const file = fileOf(t, 'if_list: []\n');
    chmodSync(dirname(file), 0o755);
    chmodSync(file, 0o600);
    for (const args of [
      ['check', file],
      ['--config', file, 'eip', 'list'],
    ]) {
      const { status, stdout, stderr } = unprivileged(...args);
      assert.deepEqual([status, stdout], [77, '']);
      assert.match(stderr, /^kylin-vr: .*EACCES.*; run it as root or with sudo\n$/);
    }
    const { status, stdout } = unprivileged('--json', 'check', file);
    assert.deepEqual([status, JSON.parse(stdout).errors.length], [77, 1]);
  });

  it('a folder in the place of the file says what it is', async (t) => {
    const folder = dirname(fileOf(t, ''));
    const { status, stdout } = await inProcess('check', folder);
    assert.equal(status, 65);
    assert.ok(stdout.startsWith(`error: ${folder}: is a folder, no file: remove it, or put the file there\n`), stdout);
  });
});

it('what the system says of a path that is named already is said without it, and of another one with it', () => {
  const { message } = new HostError('reading /x', new Error("EIO: i/o error, open '/x'"));
  assert.equal(message, 'reading /x: EIO: i/o error');
  const busy = new Error("EBUSY: resource busy or locked, rename '/d/.x.new' -> '/d/x'");
  assert.equal(new HostError('writing /d/x', busy).message, 'writing /d/x: EBUSY: resource busy or locked');
  assert.equal(
    new HostError('the log /d/x cannot be written', new Error("EEXIST: file already exists, mkdir '/d'")).message,
    "the log /d/x cannot be written: EEXIST: file already exists, mkdir '/d'",
  );
});

it('what even root may not read names its cause', () => {
  const refused = Object.assign(new Error('EACCES: permission denied'), { code: 'EACCES' });
  const { message, status } = new HostError('reading x', refused);
  assert.equal(
    message,
    'reading x: EACCES: permission denied; root may, unless SELinux keeps it from it (ausearch -m avc)',
  );
  assert.equal(status, 69);
});

it('--watch does not flood a terminal, and no time is longer than timers can count', () => {
  for (const args of [
    ['status', '--watch', '0'],
    ['status', '--watch', '0.01'],
    ['status', '--watch', '86401'],
    ['reload', '--lock-timeout', '1e9'],
    ['push', '--timeout', '86401', '--socket', '/nowhere', MISSING],
  ])
    assert.deepEqual([args, kylinVr(...args).status], [args, 64]);
  assert.match(kylinVr('status', '--watch', '0').stderr, /must be a number of seconds from 0\.1 to 86400\./);
  assert.match(kylinVr('status', '--watch', 'x').stderr, /must be a number of seconds, 86400 at most\./);
});
