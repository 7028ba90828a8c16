// Who is told what, and where: words on standard error, JSON lines for who asks for them, and in a real journal entries at their own
// priority, with fields.

import assert from 'node:assert/strict';
import { after, before, describe, it } from 'node:test';
import { createLab, type Lab, PROGRAM } from '../lab/lab.ts';
import { elastic } from '../lab/table.ts';

const FILE = '/etc/kylin-vr/kylin-vr.yaml';
const BAD = elastic.config.replace('prefix: 24', 'prefix: 33');
const WHY = 'must be a whole number from 1 to 32, is 33';

type Entry = Record<string, string | string[]> & { MESSAGE: string };

describe('standard error and the journal', { concurrency: false }, () => {
  let lab: Lab;
  before(async () => {
    lab = await createLab();
    await lab.configure(elastic.config);
    assert.equal((await lab.kylin('reload')).status, 0);
  });
  after(() => lab?.close());

  const shell = (script: string) => lab.router.run(['sh', '-c', script]);
  const kylin = `${process.execPath} ${PROGRAM}`;

  it('without a terminal a failed reload says why in words, once; JSON is for who asks for it', async (t) => {
    t.after(() => lab.configure(elastic.config));
    await lab.configure(BAD);
    const { status, stderr, stdout } = await lab.kylin('reload');
    assert.equal(status, 65);
    assert.match(
      stderr,
      new RegExp(`^error: ${FILE}:\\d+:\\d+: if_list\\[0\\]\\.prefix: ${WHY}\n.*prefix: 33.*\n +\\| +\\^\\^\n$`),
    );
    assert.match(stdout, /^reload: failed, 0 steps in \d+ ms\n$/);
    const both = await shell(`${kylin} reload 2>&1 | cat`);
    assert.equal(both.stdout.split(WHY).length, 2, both.stdout);
    const json = await lab.kylin('--log-format', 'json', 'reload');
    const [error = '', ...rest] = json.stderr.trim().split('\n');
    const { level, line, path, msg } = JSON.parse(error);
    assert.deepEqual([level, path, typeof line], ['error', 'if_list[0].prefix', 'number']);
    assert.match(msg, new RegExp(WHY));
    assert.deepEqual(
      rest.map((each) => JSON.parse(each).msg.replace(/\d+ ms/, 'N ms')),
      ['reload: failed, 0 steps in N ms'],
    );
    assert.equal((await lab.kylin('--log-format', 'xml', 'reload')).status, 64);
  });

  it('a warning of a reload that changes nothing is said to who asks for it, and not by each timer run', async () => {
    await shell(`chmod 0666 ${FILE}`);
    const asked = await lab.kylin('reload');
    assert.match(asked.stdout, /unchanged/);
    assert.equal(asked.stderr, `warning: ${FILE}: mode 0666 is too open, tightened to 0600\n`);
    const logged = (await lab.router.read('/var/log/kylin-vr/kylin-vr.log')) ?? '';
    assert.match(logged, /"level":"warn".*tightened to 0600/);
    await shell(`chmod 0666 ${FILE}`);
    await lab.kylin('reload', '--trigger', 'timer');
    assert.equal(await lab.router.read('/var/log/kylin-vr/kylin-vr.log'), logged);
  });

  describe('in the journal', { concurrency: false }, () => {
    before(async () => {
      await shell('mount -t cgroup2 cgroup2 /sys/fs/cgroup; mkdir -p /run/systemd/journal; rm -rf /var/log/journal');
      lab.router.spawn(['/usr/lib/systemd/systemd-journald'], { stdio: 'ignore' });
      await shell(
        'while ! [ -S /run/systemd/journal/socket ] || ! [ -S /run/systemd/journal/stdout ]; do sleep 0.1; done',
      );
    });

    /** Under systemd's name for its stream, as a unit has it; gives the new entries, however many there have to be. */
    async function entriesOf(command: string, more = ''): Promise<{ status: number; entries: Entry[] }> {
      const mark = `done-${Math.random()}`;
      const script = `export JOURNAL_STREAM=$(stat -Lc %d:%i /dev/fd/2); ${more} ${kylin} ${command} > /dev/null`;
      const { status } = await lab.router.run(['systemd-cat', '-t', 'unit', 'sh', '-c', script]);
      await shell(`logger --journald <<E\nMESSAGE=${mark}\nSYSLOG_IDENTIFIER=kylin-vr\nE`);
      for (let looked = 0; ; looked++) {
        assert.ok(looked < 100, 'the journal has what is sent to it');
        const { stdout } = await shell('journalctl -D /run/log/journal -q -o json -t kylin-vr -t unit');
        const all = stdout
          .trim()
          .split('\n')
          .filter((line) => line !== '')
          .map((line) => JSON.parse(line) as Entry);
        const end = all.findIndex(({ MESSAGE }) => MESSAGE === mark);
        if (end === -1) continue;
        const start = all.slice(0, end).findLastIndex(({ MESSAGE }) => MESSAGE.startsWith('done-'));
        return { status, entries: all.slice(start + 1, end) };
      }
    }
    const shown = (entries: readonly Entry[]) =>
      entries.map(
        ({ PRIORITY, MESSAGE }) => `${PRIORITY} ${MESSAGE.replace(/:\d+:\d+:/, ':').replace(/\d+ ms/, 'N ms')}`,
      );

    it('an error is text at priority err, with its place in fields', async (t) => {
      t.after(() => lab.configure(elastic.config));
      await lab.configure(BAD);
      const { status, entries } = await entriesOf('reload --trigger timer');
      assert.equal(status, 65);
      assert.deepEqual(shown(entries), [
        `3 ${FILE}: if_list[0].prefix: ${WHY}`,
        '4 the last good configuration stays in force',
        '3 reload: failed, 0 steps in N ms',
      ]);
      const [error, end] = [entries[0], entries.at(-1)];
      const place = `${error?.KYLIN_VR_FILE}:${error?.KYLIN_VR_LINE}:${error?.KYLIN_VR_COLUMN}`;
      assert.match(place, /^\/etc\/kylin-vr\/kylin-vr\.yaml:\d+:\d+$/);
      assert.equal(error?.KYLIN_VR_PATH, 'if_list[0].prefix');
      assert.equal(error?.KYLIN_VR_RUN, end?.KYLIN_VR_RUN);
      assert.deepEqual(
        [end?.KYLIN_VR_RESULT, end?.KYLIN_VR_TRIGGER, end?.KYLIN_VR_ERROR],
        ['failed', 'timer', `${place}: if_list[0].prefix: ${WHY}`],
      );
      assert.match(`${end?.KYLIN_VR_DURATION_MS}`, /^\d+$/);
    });

    it('an error about the file as a whole names it, in the text and in the fields', async (t) => {
      t.after(() => lab.configure(elastic.config));
      for (const [script, why] of [
        [`: > ${FILE}`, 'is empty: needs at least if_list, and if_list: [] to take everything down'],
        [`rm ${FILE}`, 'does not exist: write it, or give another with --config'],
      ] as const) {
        await shell(script);
        const { entries } = await entriesOf('reload');
        assert.deepEqual(shown(entries), [`3 ${FILE}: ${why}`, '3 reload: failed, 0 steps in N ms']);
        assert.equal(entries.at(-1)?.KYLIN_VR_ERROR, `${FILE}: ${why}`);
      }
    });

    it('a change is a notice, its warning is one; nothing to do says nothing', async () => {
      await lab.configure(elastic.config.replace('203.0.113.50', '203.0.113.51'));
      await shell(`chmod 0666 ${FILE}`);
      const { entries } = await entriesOf('reload');
      assert.equal(shown(entries)[0], `4 ${FILE}: mode 0666 is too open, tightened to 0600`);
      assert.match(shown(entries).at(-1) ?? '', /^5 reload: changed, \d+ steps in N ms$/);
      const steps = [entries.at(-1)?.KYLIN_VR_STEP].flat();
      assert.ok(steps.includes('+ address 203.0.113.51/32 on eth0'), String(steps));
      assert.deepEqual((await entriesOf('reload --trigger timer')).entries, []);
    });

    it('where logger is missing, and for what ends a command before it has a result: text at its priority', async (t) => {
      t.after(() => lab.configure(elastic.config));
      await lab.configure(BAD);
      const { entries } = await entriesOf('reload', 'PATH=/usr/sbin; export PATH;');
      assert.deepEqual(shown(entries), [`3 ${FILE}: if_list[0].prefix: ${WHY}`, '3 reload: failed, 0 steps in N ms']);
      assert.equal(entries[0]?.KYLIN_VR_RUN, undefined);
      const [error] = (await entriesOf('rollback --list --to 1')).entries;
      assert.equal(shown(error ? [error] : [])[0], '3 kylin-vr: --list shows, --to changes: give one of them');
    });
  });
});
