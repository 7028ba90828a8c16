// Logs that no run of ours wrote, in root's folder: what `kylin-vr log` can read it shows, what it passes over it says, and neither takes
// much memory or time.

import assert from 'node:assert/strict';
import { after, before, beforeEach, describe, it } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { createLab, type Lab, PROGRAM } from '../lab/lab.ts';

const LOG = '/var/log/kylin-vr/kylin-vr.log';
/** KiB: of an idle Node 50,000; of JSON of 32 MiB, shown, the rest. */
const MOST_MEMORY = 450_000;
const MOST_FOLLOWING = 150_000;
const HOOK = 'process.on("exit", () => console.error("peak", process.resourceUsage().maxRSS))';

const run = (id: string) =>
  `{"time":"2026-01-01T00:00:00.000Z","run":"${id}","command":"reload","trigger":"operator","result":"unchanged","durationMs":1,"steps":[],"warnings":[],"errors":[]}`;
/** The shortest there is. */
const SHORTEST =
  '{"time":"","run":"","command":"","trigger":"","result":"","durationMs":0,"steps":[],"warnings":[],"errors":[]}';

describe('log of what no run wrote', { concurrency: false }, () => {
  let lab: Lab;
  const shell = (script: string, ...args: string[]) =>
    lab.router.run(['sh', '-ec', script, LOG, ...args], { check: true });
  before(async () => {
    lab = await createLab();
    await shell('mkdir -p -m 0750 "$(dirname "$0")"');
  });
  after(() => lab?.close());
  beforeEach(() => shell('rm -rf "$0"*; echo "$1" > "$0"', run('newest')));

  const program = (...args: string[]) => [
    process.execPath,
    `--import=data:text/javascript,${encodeURIComponent(HOOK)}`,
    PROGRAM,
    'log',
    ...args,
  ];
  const peakIn = (stderr: string) => Number(/peak (\d+)/.exec(stderr)?.[1]);
  const log = async (...args: string[]) => {
    const begun = performance.now();
    const { status, stdout, stderr } = await lab.router.run(program(...args), { timeoutMs: 60_000 });
    assert.equal(status, 0, stderr);
    assert.ok(peakIn(stderr) < MOST_MEMORY, stderr);
    assert.ok(performance.now() - begun < 20_000);
    return { stdout, said: stderr.replace(/peak .*\n/, '') };
  };
  const idsIn = (stdout: string) => [...stdout.matchAll(/^\S+Z {2}(\w+)/gm)].map(([, id]) => id);

  it('shows the last of very many short ones', async () => {
    await shell('yes "$1" | head -n 149000 > "$0.1" || true', SHORTEST);
    assert.deepEqual(idsIn((await log()).stdout), ['newest']);
    const { stdout, said } = await log('-n', '1000', '--json');
    assert.deepEqual([JSON.parse(stdout).runs.length, said], [1000, '']);
    assert.equal(JSON.parse((await log('-n', '200000', '--json')).stdout).runs.length, 149_001);
  });

  it('shows no more than there is room for', async () => {
    await shell(
      'yes "$1" | head -n 149000 > "$0.1" || true; gzip -c "$0.1" > "$0.2.gz"; cp "$0.1" "$0.3"; cp "$0.1" "$0.4"',
      SHORTEST,
    );
    const { runs, warnings } = JSON.parse((await log('-n', '999999', '--json')).stdout);
    assert.ok(runs.length > 200_000 && runs.length < 400_000, String(runs.length));
    assert.match(warnings[0].message, /kylin-vr\.log\.3: runs before .* are passed over: they are too large together$/);
    assert.match(warnings[1].message, /kylin-vr\.log\.4, and what is older, is passed over: the logs are too large$/);
  });

  it('reads the end of a log that is too large', async () => {
    await shell('echo "$1" > "$0"; truncate -s 1G "$0"; (echo; echo "$2") >> "$0"', run('first'), run('last'));
    const { stdout, said } = await log();
    assert.deepEqual(idsIn(stdout), ['last']);
    assert.match(said, /^warning: \S+kylin-vr\.log has 10737\d+ bytes: only the last 16777216 are read$/m);
  });

  for (const [kind, line] of [
    ['deep', `print "{\\"result\\":"; print "[" x 16000000`],
    ['of very many values', `print "{\\"result\\":["; print "[]," x 1000000`],
    ['of a long text', `print "{\\"result\\":\\""; print "x" x 8000000`],
  ])
    it(`passes over a line that is ${kind}`, async () => {
      await shell(`(perl -e '${line}'; echo; echo "$1") > "$0"`, run('behind'));
      const { stdout, said } = await log();
      assert.deepEqual(idsIn(stdout), ['behind']);
      assert.match(said, /^warning: \S+kylin-vr\.log: 1 line is passed over, cut off or as no run writes$/m);
    });

  it('passes over half lines', async () => {
    await shell('(echo "$1" | head -c 140; echo; echo "$1" | head -c 139; echo; echo "$1") > "$0"', run('whole'));
    const { stdout, said } = await log();
    assert.deepEqual(idsIn(stdout), ['whole']);
    assert.match(said, /^warning: \S+kylin-vr\.log: 2 lines are passed over, cut off or as no run writes$/m);
  });

  for (const size of ['1900M', '3G'])
    it(`passes over an archive of ${size} that is none`, async () => {
      await shell('truncate -s "$1" "$0.1.gz"; echo "$2" | gzip -c > "$0.2.gz"', size, run('older'));
      const { stdout, said } = await log();
      assert.deepEqual(idsIn(stdout), ['older', 'newest']);
      assert.match(
        said,
        /^warning: \S+kylin-vr\.log\.1\.gz is no gzip archive, or is cut off: the rest of it is passed over$/m,
      );
    });

  it('shows what is before the place where an archive is cut off', async () => {
    await shell(
      '(echo "$1"; head -c 200000 /dev/urandom) | gzip -c | head -c 100000 > "$0.1.gz"; echo "$2" | gzip -c > "$0.2.gz"',
      run('whole'),
      run('older'),
    );
    const { stdout, said } = await log();
    assert.deepEqual(idsIn(stdout), ['older', 'whole', 'newest']);
    assert.match(said, /is no gzip archive, or is cut off/);
  });

  it('unpacks no more than a part of what is packed very small', async () => {
    await shell(
      `(echo "$1"; perl -e 'print "{\\"result\\":["; print "[]," x 21000000; print "[]]}\\n"'; cat /dev/zero | head -c 1G) | gzip -1 > "$0.1.gz"`,
      run('first'),
    );
    const { stdout, said } = await log();
    assert.deepEqual(idsIn(stdout), ['first', 'newest']);
    assert.match(
      said,
      /^warning: \S+kylin-vr\.log\.1\.gz: only the first 67\d{6} bytes of what is packed in it are read$/m,
    );
  });

  it('--follow keeps nothing of a line without an end', async () => {
    const follower = lab.router.spawn(program('--follow', '-n', '1'));
    let [stdout, stderr] = ['', ''];
    follower.stdout?.on('data', (piece) => {
      stdout += String(piece);
    });
    follower.stderr?.on('data', (piece) => {
      stderr += String(piece);
    });
    const until = async (holds: () => boolean) => {
      for (let waited = 0; !holds(); waited += 100) {
        assert.ok(waited < 20_000, stdout + stderr);
        await sleep(100);
      }
    };
    await until(() => idsIn(stdout).length === 1);
    await sleep(1000);
    // Slower than it looks: each time some of it.
    await shell(
      'for n in $(seq 60); do head -c 3M /dev/zero >> "$0"; sleep 0.2; done; (echo; echo "$1") >> "$0"',
      run('next'),
    );
    await until(() => idsIn(stdout).length === 2);
    await until(() => stderr.includes('1 line is passed over'));
    await shell('truncate -s +100M "$0"; (echo; echo "$1") >> "$0"', run('last'));
    await until(() => idsIn(stdout).length === 3);
    assert.deepEqual(idsIn(stdout), ['newest', 'next', 'last']);
    assert.match(stderr, /^warning: \S+kylin-vr\.log has grown by 104857\d+ bytes: only the last 16777216 are read$/m);
    const peak = (await lab.router.run(['sh', '-c', `grep VmHWM /proc/${follower.pid}/status || true`])).stdout;
    follower.kill();
    assert.ok(Number(/\d+/.exec(peak)?.[0]) < MOST_FOLLOWING, peak);
  });
});
