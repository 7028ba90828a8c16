// A guest on which initscripts bring NICs up from the ifcfg files.

import assert from 'node:assert/strict';
import { it } from 'node:test';
import { createLab } from '../lab/lab.ts';
import { eip, nics } from '../scenarios/change.ts';

it('more addresses than ifup-eth brings up are said, and reload adds them all', async (t) => {
  const lab = await createLab({ networkScripts: true });
  t.after(() => lab.close());
  await lab.router.write('/etc/sysconfig/network-scripts/ifup-eth', '#!/bin/bash\n', 0o755);
  const reload = async (count: number) => {
    const eips = Array.from({ length: count }, (_, n) =>
      eip(`198.18.${n >> 8}.${n & 255}`, `10.10.${(n % 2) + 1}.${(n >> 1) + 1}`),
    );
    await lab.configure(`${nics}eip_list:\n${eips.join('')}`);
    const { status, stdout } = await lab.kylin('reload', '--json');
    assert.equal(status, 0, stdout);
    const { stdout: shown } = await lab.router.run(['ip', '-4', '-o', 'address', 'show', 'dev', 'eth0']);
    assert.equal(shown.trim().split('\n').length, count + 1);
    // One VM has them all, which is said of each EIP, with its place in the file.
    return JSON.parse(stdout).warnings.filter((issue: { path?: string }) => issue.path === undefined);
  };
  assert.deepEqual(await reload(255), []);
  assert.deepEqual(await reload(256), [
    {
      message:
        'eth0 has more than 256 addresses: initscripts bring up the first 256 of them at boot, ' +
        'the next kylin-vr reload adds the rest',
    },
  ]);
});
