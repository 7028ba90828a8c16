// What a run asks before it has the lock counts only where nobody else's run came between, and is asked again where it failed.

import assert from 'node:assert/strict';
import { after, before, describe, it } from 'node:test';
import { createLab, type Lab } from '../lab/lab.ts';
import { elastic } from '../lab/table.ts';
import { recordTools } from '../lab/tools.ts';

const EARLY = new URL('./early.ts', import.meta.url).pathname;
const RULES = '["run",["iptables-save"]]';
const NICS = '["run",["ip","-json","-details","-b","-"],{"input":"address show\\nroute show table main\\n"}]';

type Said = { good: boolean; goodThen: boolean; answers: Record<string, string> } | undefined;

describe('what is asked early', { concurrency: false }, () => {
  let lab: Lab;
  const run = async (script: string) => (await lab.router.run(['sh', '-ec', script], { check: true })).stdout;
  /** `meanwhile`: a command line, carried out before it is asked whether the answers are still good. */
  const askEarly = async (meanwhile = 'true'): Promise<Said> => {
    const command = [process.execPath, '--import', import.meta.resolve('tsx'), EARLY, meanwhile];
    const { stdout, stderr } = await lab.router.run(command);
    return stdout === '' ? assert.fail(stderr) : (JSON.parse(stdout).early as Said);
  };

  before(async () => {
    lab = await createLab();
    await lab.configure(elastic.config);
    assert.equal((await lab.kylin('reload')).status, 0);
  });
  after(() => lab.close());

  it('is what the two commands print, by one shell', async () => {
    const said = await askEarly();
    assert.ok(said?.good);
    const rules = (text = '') => text.replaceAll(/^#.*|\[\d+:\d+\]/gm, '');
    assert.equal(rules(said.answers[RULES]), rules(await run('iptables-save')));
    assert.deepEqual(
      JSON.parse((said.answers[NICS] ?? '').split('\n')[0] ?? '').map(({ ifname }: { ifname: string }) => ifname),
      JSON.parse(await run('ip -json address show')).map(({ ifname }: { ifname: string }) => ifname),
    );
  });

  it('is good for a moment', async () => {
    const said = await askEarly('sleep 0.6');
    assert.ok(said?.good);
    assert.equal(said.goodThen, false);
  });

  it('is not good any more where another run ended meanwhile, be it one with nothing to do', async () => {
    // Sooner than the moment is over, on any machine: only what a run leaves tells.
    const said = await askEarly(
      'cp -p /run/kylin-vr/last-run.json /run/kylin-vr/new && mv /run/kylin-vr/new /run/kylin-vr/last-run.json',
    );
    assert.ok(said?.good);
    assert.equal(said.goodThen, false);
    const before = await run('stat -c %i.%Y /run/kylin-vr/last-run.json');
    assert.equal((await lab.kylin('reload')).status, 0);
    assert.notEqual(await run('stat -c %i.%Y /run/kylin-vr/last-run.json'), before);
  });

  it('is not good any more where another run was killed meanwhile, whoever cleared up behind it', async () => {
    // What it leaves: its record, by which it is known to be dead.
    const killed = 'id=$$-1-00000000-00000000; mkdir /run/kylin-vr/lock; echo {} > /run/kylin-vr/lock/$id';
    const cleared = 'cd /run/kylin-vr; mv lock/$id dead/; rmdir lock; rm dead/$id';
    for (const meanwhile of [killed, `${killed}; ${cleared}`]) {
      const said = await askEarly(meanwhile);
      assert.ok(said?.good);
      assert.equal(said.goodThen, false, meanwhile);
    }
    const said = await askEarly();
    assert.deepEqual([said?.good, said?.goodThen], [true, true]);
  });

  it('is not good any more where somebody had the lock who leaves no result', async () => {
    const mark = () => run('stat -c %y /run/kylin-vr/dead');
    await run('cd /run/kylin-vr; mount --bind last-run.json last-run.json');
    for (const [words, status] of [
      [['reload'], 0],
      [['confirm'], 64],
      [['uninstall', '--flush'], 0],
      [['reload'], 0],
    ] as const) {
      const before = await mark();
      assert.equal((await lab.kylin(...words)).status, status, words.join(' '));
      assert.notEqual(await mark(), before, words.join(' '));
    }
    await run('umount /run/kylin-vr/last-run.json');
    const said = await askEarly('touch /run/kylin-vr/dead');
    assert.deepEqual([said?.good, said?.goodThen], [true, false]);
  });

  it('is not asked while somebody has the lock', async () => {
    await run('mkdir /run/kylin-vr/lock');
    try {
      assert.equal(await askEarly(), undefined);
    } finally {
      await run('rmdir /run/kylin-vr/lock');
    }
  });

  for (const [tool, failed, other] of [
    ['iptables-nft-save', RULES, NICS],
    ['ip', NICS, RULES],
  ] as const)
    it(`where ${tool} fails, both are asked again, one by one`, async () => {
      const tools = await recordTools(lab.router);
      await tools.before(tool, 'exit 5');
      const said = await askEarly();
      const asked = (await tools.taken()).map(({ command }) => command.split(' ')[0]);
      assert.deepEqual(asked.sort(), ['ip', 'ip', 'iptables-save', 'iptables-save']);
      assert.match(said?.answers[failed] ?? '', /status 5/);
      assert.doesNotMatch(said?.answers[other] ?? '', /status 5/);
    });
});
