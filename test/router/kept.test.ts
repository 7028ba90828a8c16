// What a router keeps to be quick: the meaning of its configuration, in /run, and the program's compiled code, in /var/cache.

import assert from 'node:assert/strict';
import { after, before, describe, it } from 'node:test';
import { parse, stringify } from 'yaml';
import { ADDRESSES, createLab, type Lab } from '../lab/lab.ts';
import { EIPS, elastic } from '../lab/table.ts';

const PARSED = '/run/kylin-vr/parsed.json';
/** Who has it reads nothing else (quiet.test.ts). */
const QUIET = '/run/kylin-vr/quiet';

describe('what a router keeps to be quick', { concurrency: false }, () => {
  let lab: Lab;
  const run = async (script: string) => (await lab.router.run(['sh', '-ec', script], { check: true })).stdout.trim();
  const reload = async () => {
    const { stdout, stderr } = await lab.kylin('reload', '--json');
    const { result, steps } = JSON.parse(stdout);
    assert.ok(['unchanged', 'changed'].includes(result), stderr);
    return { result, steps: steps.map(({ text }: { text: string }) => text) };
  };
  /** As if another EIP stood in the file. */
  const falsify = async (mode: number, twice = true) => {
    const [kept] = JSON.parse((await lab.router.read(PARSED)) ?? '');
    const json = JSON.stringify(kept);
    const falsified = json.replace(`"eip":"${EIPS.v}"`, '"eip":"203.0.113.99"');
    await lab.router.write(PARSED, `[${falsified},\n${twice ? falsified : json}]`, mode);
    await run(`rm -f ${QUIET}`);
  };

  before(async () => {
    lab = await createLab();
    await lab.configure(elastic.config);
    assert.equal((await reload()).result, 'changed');
  });
  after(() => lab.close());

  it('is for root alone, and the code for everybody to read', async () => {
    assert.equal(await run(`stat -c '%a %u' ${PARSED}`), '600 0');
    assert.match(await run('stat -c "%a %u" /var/cache/kylin-vr /var/cache/kylin-vr/code-*'), /^755 0\n644 0$/);
  });

  it('is left as it is by a run that has nothing to do', async () => {
    const times = () => run(`stat -c '%Y %Z %i' ${PARSED} /var/cache/kylin-vr/code-*`);
    const kept = await times();
    assert.equal((await reload()).result, 'unchanged');
    assert.equal(await times(), kept);
  });

  it('is what the file means, as long as the file stays', async () => {
    await falsify(0o600);
    const { steps } = await reload();
    assert.ok(steps.some((text: string) => text.includes('203.0.113.99')));
  });

  it('is not believed when others could have written it, nor when it is broken', async () => {
    await falsify(0o666);
    assert.ok((await reload()).steps.some((text: string) => text === `- address 203.0.113.99/32 on eth0`));
    await run(`echo '{' > ${PARSED}; rm -f ${QUIET}`);
    assert.equal((await reload()).result, 'unchanged');
    await falsify(0o600, false);
    assert.equal((await reload()).result, 'unchanged');
  });

  it('follows the file', async () => {
    await lab.configure(elastic.config.replaceAll(EIPS.v, '203.0.113.98'));
    assert.ok((await reload()).steps.some((text: string) => text === '+ address 203.0.113.98/32 on eth0'));
  });

  it('is after an edit what it is when the edited file is read, however it is written', async () => {
    const plain = stringify(parse(elastic.config));
    for (const config of [plain, elastic.config, JSON.stringify(parse(elastic.config))]) {
      await lab.configure(config);
      await reload();
      for (const change of [`add 203.0.113.97=${ADDRESSES.v}`, `remove ${EIPS.v}`]) {
        assert.equal((await lab.kylin('eip', ...change.split(' '), '--no-reload')).status, 0);
        const kept = await lab.router.read(PARSED);
        assert.ok(kept?.includes('203.0.113.97'));
        await run(`rm ${PARSED}; rm -f ${QUIET}`);
        await reload();
        assert.equal(kept, await lab.router.read(PARSED));
      }
    }
  });
});
