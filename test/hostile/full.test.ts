// Standard output that cannot be written: the work is done all the same, its exit status stands, and one line says what is missing.

import assert from 'node:assert/strict';
import { after, before, describe, it } from 'node:test';
import { createLab, type Lab, NICS, PROGRAM } from '../lab/lab.ts';

const config = `if_list:
  - { ipaddr: 203.0.113.37, prefix: 24, mac: '${NICS.public.mac}', gateway: 203.0.113.1 }
  - { ipaddr: 10.10.1.254, prefix: 24, mac: '${NICS.a.mac}' }
eip_list:
  - { eip: 203.0.113.50, vm-ip: 10.10.1.11 }
`;

const LOST =
  /^kylin-vr: writing standard output: ENOSPC: no space left on device, write; make room there \(df, df -i\); not all was printed, and the exit status is that of the work$/;

describe('standard output', { concurrency: false }, () => {
  let lab: Lab;
  before(async () => {
    lab = await createLab();
    await lab.configure(config);
    await lab.router.run(['mkdir', '-p', '/run/image/etc', '/run/image/usr/lib/systemd/system'], { check: true });
    await lab.router.write('/run/bad.yaml', 'if_list: 7\n');
  });
  after(() => lab?.close());

  /** Each with the status that it ends with; in this order, each finds what the one before it left. */
  const COMMANDS: readonly (readonly [status: number, command: string])[] = [
    [0, '--help'],
    [0, '--version'],
    [0, 'start'],
    [0, 'reload'],
    [0, 'reload --json'],
    [0, 'check'],
    [65, 'check /run/bad.yaml'],
    [65, '--config /run/bad.yaml reload --json'],
    [0, 'plan'],
    [0, 'status'],
    [0, 'status --json'],
    [0, 'status --format prometheus'],
    [0, 'status --watch 1'],
    [0, 'eip list'],
    [0, 'eip add 203.0.113.51=10.10.1.12'],
    [0, 'eip remove 203.0.113.51'],
    [0, 'eip add 203.0.113.52=10.10.1.13 --no-reload'],
    [0, 'reload --confirm-within 600'],
    [75, '--json reload'],
    [0, 'confirm'],
    [0, 'rollback --list'],
    [0, 'rollback'],
    [0, 'reload'],
    [0, 'eip remove 203.0.113.52'],
    [0, 'log'],
    [0, 'log --json --follow'],
    [0, 'explain --from 192.0.2.10 --to 203.0.113.50 --live'],
    [0, 'schema'],
    [0, 'completion bash'],
    [69, 'push --socket /run/nobody /etc/kylin-vr/kylin-vr.yaml'],
    [0, 'install --root /run/image'],
    [0, 'uninstall --root /run/image'],
  ];

  /** Sends standard output there; what never ends by itself is ended. */
  async function ended(command: string, to: string): Promise<{ status: number; said: string[] }> {
    const script = `${to}; timeout 60 '${process.execPath}' '${PROGRAM}' ${command} >&3`;
    const { status, stderr } = await lab.router.run(['bash', '--norc', '-c', script]);
    assert.doesNotMatch(stderr, /internal error/);
    // Beside it the log goes there, a JSON object a line, and what push has to say.
    return { status, said: stderr.split('\n').filter((line) => line.startsWith('kylin-vr: ')) };
  }

  it('on a full disk: each command ends as its work does, and says once that not all was printed', async () => {
    for (const [status, command] of COMMANDS) {
      const found = await ended(command, 'exec 3> /dev/full');
      assert.equal(found.status, status, command);
      const lost = found.said.filter((line) => LOST.test(line));
      assert.equal(lost.length, 1, `${command}: ${found.said.join('\n')}`);
    }
    assert.match((await lab.kylin('plan')).stdout, /^in sync$/m);
  });

  it('into a pipe that nobody reads: each command ends as its work does, and says nothing', async () => {
    for (const [status, command] of COMMANDS) {
      const found = await ended(command, 'exec 3> >(exit 0); wait $!');
      assert.equal(found.status, status, command);
      // A refusal is its own line.
      assert.deepEqual(
        found.said.filter((line) => !line.includes('a change waits for its confirmation')),
        [],
        command,
      );
    }
  });

  it('both on a full disk: the status stands', async () => {
    for (const command of ['reload', 'status', 'plan', 'schema'])
      assert.equal((await ended(`${command} 2> /dev/full`, 'exec 3> /dev/full')).status, 0, command);
  });

  it('opened to be read: that is said', async () => {
    const { status, said } = await ended('plan', 'exec 3< /dev/null');
    assert.equal(status, 0);
    assert.match(said.join('\n'), /^kylin-vr: writing standard output: EBADF: [^;]*; not all was printed/);
  });
});
