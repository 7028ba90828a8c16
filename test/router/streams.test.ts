// What commands are given and print goes through files without a name, and through pipes where there can be none (src/machine/command.ts).

import assert from 'node:assert/strict';
import { after, before, describe, it } from 'node:test';
import { createLab, type Lab } from '../lab/lab.ts';
import { elastic } from '../lab/table.ts';
import { recordTools, type Tools } from '../lab/tools.ts';

describe('the standard streams of commands', { concurrency: false }, () => {
  let lab: Lab;
  let tools: Tools;
  const run = async (script: string) => (await lab.router.run(['sh', '-ec', script], { check: true })).stdout;

  before(async () => {
    lab = await createLab();
    tools = await recordTools(lab.router);
    for (const tool of ['ip', 'iptables-nft-restore', 'iptables-nft-save'] as const)
      await tools.before(
        tool,
        'echo "$(readlink /proc/$$/fd/0 /proc/$$/fd/1 /proc/$$/fd/2 | paste -sd " ")" >> /mnt/streams',
      );
  });
  after(() => lab.close());

  /** More than a pipe takes at once: 200 EIPs more. */
  const many = elastic.config.replace(
    /^eip_list:\n/m,
    (line) =>
      line + Array.from({ length: 200 }, (_, n) => `  - { eip: 198.18.0.${n}, vm-ip: 10.10.1.${n + 1} }\n`).join(''),
  );

  const CASES = [
    // Of the two that are asked early nobody reads the complaints.
    [
      'are files',
      'true',
      /^(\/dev\/null|\/run\/#\d+ \(deleted\)) \/run\/#\d+ \(deleted\) (\/run\/#\d+ \(deleted\)|\/dev\/null)$/,
    ],
    [
      'are pipes with SELinux',
      'mount -t tmpfs tmpfs /sys/fs; mkdir /sys/fs/selinux; echo 1 > /sys/fs/selinux/enforce',
      /^(\/dev\/null|(pipe|socket):\S+) (pipe|socket):\S+ (pipe|socket):\S+$/,
    ],
    [
      'are pipes where /run has little room',
      'umount /sys/fs; mount -t tmpfs -o size=15m,mode=755 tmpfs /run',
      /^(\/dev\/null|(pipe|socket):\S+) (pipe|socket):\S+ (pipe|socket):\S+$/,
    ],
    [
      'are pipes where nothing can be written to /run itself',
      'mount --bind /run/kylin-vr /run/kylin-vr; mount -o remount,ro,bind /run',
      /^(\/dev\/null|(pipe|socket):\S+) (pipe|socket):\S+ (pipe|socket):\S+$/,
    ],
  ] as const;
  for (const [what, script, streams] of CASES)
    it(what, async () => {
      await run(script);
      await lab.configure('if_list: []\n');
      assert.equal((await lab.kylin('reload')).status, 0);
      await run('rm -f /mnt/streams');
      await lab.configure(many);
      const { status, stderr, stdout } = await lab.kylin('reload');
      assert.equal(status, 0, stderr + stdout);
      const lines = (await run('cat /mnt/streams')).trimEnd().split('\n');
      assert.ok(lines.length > 5, lines.join('\n'));
      for (const line of lines) assert.match(line, streams);
      assert.ok(
        lines.some((line) => !line.startsWith('/dev/null')),
        'something is fed',
      );
      assert.equal((await lab.kylin('plan')).stdout, 'in sync\n');
    });
});
