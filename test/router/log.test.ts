// What `kylin-vr log` shows of earlier runs.

import assert from 'node:assert/strict';
import { after, before, describe, it } from 'node:test';
import { createLab, type Lab, NICS, PROGRAM } from '../lab/lab.ts';

const config = `if_list:
  - { ipaddr: 203.0.113.37, prefix: 24, mac: '${NICS.public.mac}', gateway: 203.0.113.1 }
  - { ipaddr: 10.10.1.254, prefix: 24, mac: '${NICS.a.mac}' }
`;
const LOG = '/var/log/kylin-vr/kylin-vr.log';

type Runs = { runs: { id: string; result: string; trigger: string; steps: { kind?: string; text: string }[] }[] };

describe('log', { concurrency: false }, () => {
  let lab: Lab;
  before(async () => {
    lab = await createLab();
  });
  after(() => lab?.close());

  const runs = async (...args: string[]) =>
    (JSON.parse((await lab.kylin('log', '--json', ...args)).stdout) as Runs).runs;

  it('says where there is none', async () => {
    const { status, stdout } = await lab.kylin('log');
    assert.deepEqual([status, stdout], [0, 'no run is logged yet\n']);
  });

  it('shows a run with its id, who asked, and its steps', async () => {
    await lab.configure(config);
    const report = JSON.parse((await lab.kylin('reload', '--json')).stdout) as Record<string, unknown>;
    const [logged = {}] = await runs();
    // In the same words as the report of the run, and at its time: when it began.
    const { coalesced: _, ...same } = report;
    assert.deepEqual(logged, same);
    const { stdout } = await lab.kylin('log');
    assert.match(stdout, new RegExp(`^\\S+Z  ${report.id}  reload by operator: changed, \\d+ steps in \\d+ ms\n`));
    assert.match(stdout, /^ {4}\+ address 10\.10\.1\.254\/24 on eth1$/m);
    const status = JSON.parse((await lab.kylin('status', '--json')).stdout) as { lastRun: { id: string } };
    assert.equal(status.lastRun.id, report.id);
  });

  it('shows why a run failed, and where', async () => {
    await lab.configure(config.replace('prefix: 24', 'prefix: 33'));
    assert.equal((await lab.kylin('reload')).status, 65);
    const { stdout } = await lab.kylin('log', '-n', '1');
    assert.match(stdout, /reload by operator: failed, 0 steps/);
    assert.match(
      stdout,
      /^ {4}error: \/etc\/kylin-vr\/kylin-vr\.yaml:2:\d+: if_list\[0\]\.prefix: must be a whole number from 1 to 32, is 33$/m,
    );
    assert.equal(stdout.match(/^\S/gm)?.length, 1);
  });

  it('-n gives the last ones, in order', async () => {
    await lab.configure(config);
    await lab.kylin('reload');
    assert.deepEqual(
      (await runs()).map(({ result }) => result),
      ['changed', 'failed', 'unchanged'],
    );
    assert.deepEqual(
      (await runs('-n', '2')).map(({ result }) => result),
      ['failed', 'unchanged'],
    );
    assert.equal((await lab.kylin('log', '-n', '0')).status, 64);
  });

  it('of a log of 1.0, where steps are their texts alone, too', async (t) => {
    const old = {
      time: '2026-01-01T00:00:00.000Z',
      run: '12345678',
      command: 'reload',
      trigger: 'operator',
      result: 'changed',
    };
    const line = JSON.stringify({
      ...old,
      durationMs: 5,
      steps: ['+ address 10.10.1.254/24 on eth1'],
      warnings: [],
      errors: [],
    });
    await lab.router.run(['sh', '-c', `mv ${LOG} ${LOG}.now && echo '${line}' > ${LOG}`], { check: true });
    t.after(() => lab.router.run(['mv', `${LOG}.now`, LOG], { check: true }));
    const { run, ...rest } = old;
    assert.deepEqual(await runs(), [
      {
        id: run,
        ...rest,
        durationMs: 5,
        steps: [{ text: '+ address 10.10.1.254/24 on eth1' }],
        warnings: [],
        errors: [],
      },
    ]);
    assert.match((await lab.kylin('log')).stdout, /^ {4}\+ address 10\.10\.1\.254\/24 on eth1$/m);
  });

  it('goes on in the log that logrotate has put aside, and passes over a half line', async () => {
    await lab.router.run(['sh', '-c', `mv ${LOG} ${LOG}.1 && printf '{"run":"dead' >> ${LOG}.1`], { check: true });
    await lab.kylin('reload');
    assert.equal((await runs()).length, 4);
  });

  it('goes on in all logs that were rotated, packed ones and those with a date too', async () => {
    const all = (await runs('-n', '100')).map(({ id }) => id);
    const one = `{"time":"2026-01-01T00:00:00.000Z","run":"@","command":"reload","trigger":"operator","result":"unchanged","durationMs":1,"steps":[],"warnings":[],"errors":[]}`;
    const put = async (name: string, id: string) =>
      lab.router.run(
        [
          'sh',
          '-c',
          `echo '${one.replace('@', id)}' > ${LOG}${name}.t; gzip -c < ${LOG}${name}.t > ${LOG}${name}; rm ${LOG}${name}.t`,
        ],
        { check: true },
      );
    await put('.2.gz', 'two');
    await put('.10.gz', 'ten');
    assert.deepEqual(
      (await runs('-n', '100')).map(({ id }) => id),
      ['ten', 'two', ...all],
    );
    await lab.router.run(['sh', '-c', `rm ${LOG}.*.gz; head -c 20 /dev/zero > ${LOG}.3.gz`], { check: true });
    await put('-20260102.gz', 'new');
    await put('-20260101.gz', 'old');
    const named = (await runs('-n', '100')).map(({ id }) => id).filter((id) => ['old', 'new'].includes(id));
    assert.deepEqual(named, ['old', 'new']);
    await lab.router.run(['sh', '-c', `rm ${LOG}*.gz`], { check: true });
  });

  it('its first file has the mode that others of its group may read, whatever the umask', async () => {
    await lab.router.run(['sh', '-c', `mv ${LOG} ${LOG}.kept; umask 077; ${process.execPath} ${PROGRAM} reload`], {
      check: true,
    });
    const { stdout } = await lab.router.run(['stat', '-c', '%a', LOG]);
    await lab.router.run(['sh', '-c', `cat ${LOG} >> ${LOG}.kept; mv ${LOG}.kept ${LOG}`], { check: true });
    assert.equal(stdout, '640\n');
  });

  it('--follow shows runs as they come, through a rotation', async () => {
    const follower = lab.router.spawn([process.execPath, PROGRAM, 'log', '-n', '1', '--follow', '--json']);
    let seen = '';
    follower.stdout?.on('data', (piece) => {
      seen += String(piece);
    });
    const lines = async (count: number) => {
      for (let waited = 0; seen.split('\n').length - 1 < count; waited += 50) {
        assert.ok(waited < 20_000, `${count} lines, seen: ${seen}`);
        await new Promise((resolve) => setTimeout(resolve, 50));
      }
    };
    await lines(1);
    // The follower has to have looked at the log before it is rotated.
    await new Promise((resolve) => setTimeout(resolve, 1000));
    await lab.kylin('reload');
    await lines(2);
    await lab.router.run(['mv', LOG, `${LOG}.1`], { check: true });
    await lab.kylin('reload');
    await lines(3);
    follower.kill();
    const ids = seen
      .trim()
      .split('\n')
      .map((line) => (JSON.parse(line) as { id: string }).id);
    assert.equal(new Set(ids).size, 3);
  });
});
