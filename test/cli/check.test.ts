import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { chmodSync, rmSync, truncateSync } from 'node:fs';
import { dirname } from 'node:path';
import { describe, it } from 'node:test';
import { fileOf, inProcess, kylinVr, PROGRAM, unprivileged } from './program.ts';

const VALID = `if_list:
  - { ipaddr: 203.0.113.10, prefix: 24, mac: '02:00:00:00:00:00', gateway: 203.0.113.1 }
  - { ipaddr: 192.0.2.1, prefix: 26, mac: '02:00:00:00:00:01' }
eip_list:
  - { eip: 198.51.100.5, vm-ip: 192.0.2.5 }
`;
const WRONG = VALID.replace('prefix: 26', 'prefix: 33').replace('198.51.100.5', '203.0.113.10');
const SUSPICIOUS = VALID.replace('vm-ip: 192.0.2.5 }', 'vm-ip: 192.0.2.5, vm-post: 1 }');
const ROUTED = `${VALID}route_list:
  - { dest: 172.16.0.0/16, via: 192.0.2.9 }
`;
const BEHIND =
  'hosts behind 172.16.0.0/16 leave by the uplink as those of their subnet do, with the source 203.0.113.10 ' +
  '(1.0 kept their own): { source: 172.16.0.0/16, to: none } in snat_list keeps it';
const UNKNOWN_KEY = { line: 5, column: 44, endColumn: 51, path: 'eip_list[0].vm-post' };

describe('check', () => {
  it('of a valid file ends 0 and says what is in it', (t) => {
    const file = fileOf(t, VALID);
    assert.deepEqual(kylinVr('check', file), {
      status: 0,
      stdout: `${file}: valid (2 NICs, 1 EIP, 0 forwards)\n`,
      stderr: '',
    });
  });

  it('takes the file of --config where none is given', async (t) => {
    const file = fileOf(t, VALID);
    assert.deepEqual(await inProcess('check', '--config', file), await inProcess('check', file));
  });

  it('of an invalid file ends 65 and says all that is wrong, with line and caret', async (t) => {
    const file = fileOf(t, WRONG);
    assert.deepEqual(await inProcess('check', file), {
      status: 65,
      stdout: `error: ${file}:3:34: if_list[1].prefix: must be a whole number from 1 to 32, is 33
  3 |   - { ipaddr: 192.0.2.1, prefix: 33, mac: '02:00:00:00:00:01' }
    |                                  ^^
error: ${file}:5:12: eip_list[0].eip: 203.0.113.10 is already used by if_list[0].ipaddr on line 2
  5 |   - { eip: 203.0.113.10, vm-ip: 192.0.2.5 }
    |            ^^^^^^^^^^^^
${file}: not valid (2 errors)
`,
      stderr: '',
    });
  });

  it('of a suspicious file ends 0 with a warning', async (t) => {
    const file = fileOf(t, SUSPICIOUS);
    const { status, stdout } = await inProcess('check', file);
    assert.equal(status, 0);
    assert.match(
      stdout,
      /^warning: \S+:5:\d+: eip_list\[0\]\.vm-post: is an unknown key, .*\n.*\n.*\n\S+: valid \(2 NICs, 1 EIP, 0 forwards\)\n$/,
    );
  });

  it('--strict of a suspicious file ends 65: warnings are errors', async (t) => {
    const file = fileOf(t, SUSPICIOUS);
    const { status, stdout } = await inProcess('check', '--strict', file);
    assert.equal(status, 65);
    assert.match(
      stdout,
      /^error: \S+:5:\d+: eip_list\[0\]\.vm-post: is an unknown key, .*\n.*\n.*\n\S+: not valid \(1 error\)\n$/,
    );
  });

  it('of a file that means more than in 1.0 ends 0 with a note, also with --strict', async (t) => {
    const file = fileOf(t, ROUTED);
    for (const args of [['check'], ['check', '--strict']])
      assert.deepEqual(await inProcess(...args, file), {
        status: 0,
        stdout: `note: ${file}:7:13: route_list[0].dest: ${BEHIND}
  7 |   - { dest: 172.16.0.0/16, via: 192.0.2.9 }
    |             ^^^^^^^^^^^^^
${file}: valid (2 NICs, 1 EIP, 0 forwards)
`,
        stderr: '',
      });
  });

  it('of a file that is not there ends 77 and says so', async () => {
    const stdout =
      'error: /nowhere/x.yaml: does not exist: write it, or name another one\n/nowhere/x.yaml: not valid (1 error)\n';
    assert.deepEqual(await inProcess('check', '/nowhere/x.yaml'), { status: 65, stdout, stderr: '' });
  });

  it('of a folder ends 65 and says that it cannot be read', async () => {
    const { status, stdout, stderr } = await inProcess('check', '/etc');
    assert.deepEqual([status, stderr], [65, '']);
    assert.match(
      stdout,
      /^error: \/etc: is a folder, no file: remove it, or put the file there\n\/etc: not valid \(1 error\)\n$/,
    );
  });

  it('of a pipe that the shell made reads it; a FIFO that lies there keeps nobody waiting', async (t) => {
    const file = fileOf(t, VALID);
    const piped = spawnSync(
      'bash',
      ['-c', `"$0" "$1" check <(cat "$2"); cat "$2" | "$0" "$1" check /dev/stdin`, process.execPath, PROGRAM, file],
      { encoding: 'utf8' },
    );
    assert.deepEqual([piped.status, piped.stdout.match(/valid \(2 NICs, 1 EIP, 0 forwards\)/g)?.length], [0, 2]);
    rmSync(file);
    spawnSync('mkfifo', [file]);
    const { status, stdout } = await inProcess('check', file);
    assert.deepEqual(
      [status, stdout.split('\n')[0]],
      [65, `error: ${file}: is a FIFO, no file: remove it, or put the file there`],
    );
  });

  it('of a file that is too large says so and does not read it', async (t) => {
    const file = fileOf(t, '');
    truncateSync(file, 600 * 2 ** 20);
    const { status, stdout } = await inProcess('check', file);
    assert.deepEqual(
      [status, stdout.split('\n')[0]],
      [65, `error: ${file}: must not be larger than 2097152 bytes, is 629145600`],
    );
  });

  it('needs no root', async (t) => {
    const file = fileOf(t, VALID);
    chmodSync(dirname(file), 0o755);
    assert.deepEqual(unprivileged('check', file), await inProcess('check', file));
  });

  it('of a file that only root may read ends 65 and says so', async (t) => {
    const { status, stdout, stderr } = unprivileged('check', fileOf(t, VALID));
    assert.deepEqual([status, stdout], [77, '']);
    assert.match(stderr, /^kylin-vr: reading \S+: EACCES: permission denied; run it as root or with sudo\n$/);
  });
});

describe('check --json prints one object', () => {
  const json = async (...args: string[]) => {
    const { status, stdout, stderr } = await inProcess('check', '--json', ...args);
    assert.equal(stderr, '');
    return { status, ...(JSON.parse(stdout) as { errors: object[]; warnings: object[] }) };
  };

  it('of a valid file', async (t) => {
    assert.deepEqual(await json(fileOf(t, VALID)), { status: 0, valid: true, errors: [], warnings: [], notes: [] });
  });

  it('of an invalid file, each error with its place', async (t) => {
    const file = fileOf(t, WRONG);
    assert.deepEqual(await json(file), {
      status: 65,
      valid: false,
      errors: [
        {
          file,
          line: 3,
          column: 34,
          endColumn: 36,
          path: 'if_list[1].prefix',
          message: 'must be a whole number from 1 to 32, is 33',
        },
        {
          file,
          line: 5,
          column: 12,
          endColumn: 24,
          path: 'eip_list[0].eip',
          message: '203.0.113.10 is already used by if_list[0].ipaddr on line 2',
        },
      ],
      warnings: [],
      notes: [],
    });
  });

  it('of a suspicious file: a warning, with --strict an error', async (t) => {
    const file = fileOf(t, SUSPICIOUS);
    const message = 'is an unknown key, known are eip, vm-ip';
    const warnings = [{ file, ...UNKNOWN_KEY, message }];
    assert.deepEqual(await json(file), { status: 0, valid: true, errors: [], warnings, notes: [] });
    assert.deepEqual(await json('--strict', file), {
      status: 65,
      valid: false,
      errors: [{ file, ...UNKNOWN_KEY, message }],
      warnings: [],
      notes: [],
    });
  });

  it('of a file that means more than in 1.0: a note, which is no warning', async (t) => {
    const file = fileOf(t, ROUTED);
    const notes = [{ file, line: 7, column: 13, endColumn: 26, path: 'route_list[0].dest', message: BEHIND }];
    for (const args of [[], ['--strict']])
      assert.deepEqual(await json(...args, file), {
        status: 0,
        valid: true,
        errors: [],
        warnings: [],
        notes,
      });
  });

  it('of a file that is not there', async () => {
    const errors = [{ message: '/nowhere/x.yaml: does not exist: write it, or name another one' }];
    assert.deepEqual(await json('/nowhere/x.yaml'), { status: 65, valid: false, errors, warnings: [], notes: [] });
  });
});
