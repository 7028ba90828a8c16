// The code cache, damaged in every way: no run dies of it, none takes it, and it is made again; where it cannot be, nothing is left of the
// attempt, and it is not made each time. Node 20 without a proof of its own dies of zero bytes in it, in each run (SIGSEGV, SIGILL).

import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { chmodSync, copyFileSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, it } from 'node:test';
import fc from 'fast-check';
import { createLab, type Lab, NICS, PROGRAM } from '../lab/lab.ts';

const SEED = Number(process.env.KYLIN_VR_SEED ?? Date.now() % 1_000_000);

const CONFIG = `if_list:
  - { ipaddr: 10.10.1.254, prefix: 24, mac: '${NICS.a.mac}' }
`;

/** What becomes of the file, by where in it (0 to 1) and how long. */
const damages = fc.oneof(
  fc.record({
    how: fc.constantFrom('zeros', 'ones', 'noise', 'both copies'),
    at: fc.double({ min: 0, max: 1, noNaN: true }),
    length: fc.oneof(fc.integer({ min: 1, max: 64 }), fc.constant(4096), fc.integer({ min: 1, max: 300_000 })),
  }),
  fc.record({
    how: fc.constantFrom('cut off', 'zeros to the end', 'one page missing'),
    at: fc.double({ min: 0, max: 1, noNaN: true }),
    length: fc.constant(0),
  }),
);

function damaged(good: Buffer, { how, at, length }: { how: string; at: number; length: number }): Buffer {
  const bytes = Buffer.from(good);
  const start = Math.floor(at * (bytes.length - 1));
  const half = bytes.length / 2;
  const fill = (value: number, from: number) => bytes.fill(value, from, Math.min(from + length, bytes.length));
  if (how === 'cut off') return bytes.subarray(0, start);
  if (how === 'zeros to the end') return bytes.fill(0, start);
  if (how === 'one page missing') return Buffer.concat([bytes.subarray(0, start), bytes.subarray(start + 4096)]);
  if (how === 'ones') return fill(255, start);
  if (how === 'noise') {
    for (let n = start; n < Math.min(start + length, bytes.length); n++) bytes[n] = ((bytes[n] ?? 0) * 31 + n) % 256;
    return bytes;
  }
  if (how === 'both copies') {
    // Each has a hole, but not the same one.
    fill(0, start % half);
    return fill(0, half + ((start + 7) % half));
  }
  return fill(0, start);
}

describe(`a code cache beside the program that is damaged (seed ${SEED})`, () => {
  const folder = mkdtempSync(join(tmpdir(), 'kylin-vr-hostile-code-'));
  const file = join(folder, 'kylin-vr.js');
  const run = (...args: string[]) => {
    const { status, signal, stdout, stderr } = spawnSync(process.execPath, [file, ...args], {
      encoding: 'utf8',
      env: { PATH: '/usr/bin:/bin' },
    });
    return { end: signal ?? status, text: stdout + stderr };
  };

  before(() => {
    chmodSync(folder, 0o755);
    copyFileSync(PROGRAM, file);
    writeFileSync(join(folder, 'kylin-vr.yaml'), CONFIG);
    assert.equal(run('--save-code-cache', folder).end, 0);
  });
  after(() => rmSync(folder, { recursive: true }));

  it('breaks no run, whatever is in it', () => {
    const name = readdirSync(folder).find((each) => each.startsWith('code-')) ?? '';
    const good = readFileSync(join(folder, name));
    const check = ['check', join(folder, 'kylin-vr.yaml')] as const;
    const expected = run(...check);
    assert.equal(expected.end, 0);
    fc.assert(
      fc.property(damages, (damage) => {
        writeFileSync(join(folder, name), damaged(good, damage));
        assert.deepEqual(run(...check), expected);
      }),
      { seed: SEED, numRuns: 40, endOnFailure: true },
    );
  });
});

describe('the code cache of the machine', { concurrency: false }, () => {
  let lab: Lab;
  const shell = async (script: string) => (await lab.router.run(['sh', '-c', script])).stdout.trim();
  const reload = async () => {
    const { status, stderr } = await lab.kylin('reload');
    assert.deepEqual([status, stderr.includes('internal error')], [0, false], stderr);
  };
  const code = () => shell('cd /var/cache/kylin-vr 2> /dev/null && ls -A');
  /** Its inode and when it was made: another one is another one. */
  const which = () => shell('stat -c "%i %y" /var/cache/kylin-vr/code-*.bin');

  before(async () => {
    lab = await createLab();
    await lab.configure(CONFIG);
    await shell('rm -rf /var/cache/kylin-vr');
    await reload();
  });
  after(() => lab?.close());

  it('is made by a reload, and left as it is by the next', async () => {
    assert.match(await code(), /^code-[0-9a-f]{16}-v[\d.]+-\w+\.bin$/);
    const made = await which();
    await reload();
    assert.equal(await which(), made);
    assert.equal(await shell('ls -A /run/kylin-vr | grep code-'), '');
  });

  const spoilt: [what: string, script: string][] = [
    ['zeros in its code', 'dd if=/dev/zero of=$0 bs=1000 seek=60 count=400 conv=notrunc 2> /dev/null'],
    ['zeros in all of it', 'dd if=/dev/zero of=$0 bs=1000 count=1000 conv=notrunc 2> /dev/null'],
    ['a half of it', 'truncate -s -1200000 $0'],
    ['a FIFO in its place', 'rm $0; mkfifo $0'],
    ['a folder in its place', 'rm $0; mkdir -p $0/in/it'],
    ['a device in its place', 'rm $0; mknod $0 c 1 5'],
    ['a link to a device in its place', 'ln -sf /dev/zero $0'],
    ['a link in a ring in its place', 'rm $0; ln -s $0 $0'],
  ];
  for (const [what, script] of spoilt)
    it(`with ${what} is made again, by the run that finds it so`, async () => {
      const before = await which();
      await shell(`set -- /var/cache/kylin-vr/code-*.bin; sh -c '${script}' "$1"`);
      await reload();
      assert.match(await code(), /^code-\S+\.bin$/);
      const made = await which();
      assert.notEqual(made, before);
      await reload();
      assert.equal(await which(), made);
    });

  it('that a run did not survive is not taken by another, but made again', async () => {
    const before = await which();
    // A run leaves its mark, and dies.
    await shell(`cd /var/cache/kylin-vr
      printf '999999999 %s %s %s' code-*.bin $(stat -c %i code-*.bin) \
        $(${process.execPath} -p 'fs.statSync(process.argv[1]).mtimeMs' code-*.bin) > /run/kylin-vr/code-in-use`);
    await reload();
    assert.notEqual(await which(), before);
    assert.match(await code(), /^code-\S+\.bin$/);
    await reload();
    assert.equal(await shell('ls -A /run/kylin-vr | grep code-'), '');
  });

  it('leaves its mark while it runs, and none when it has ended', async () => {
    const trace = `require('fs').writeFileSync('/run/hook.cjs', "const fs = require('fs'); process.on('exit', () => " +
      "console.error(fs.readFileSync('/run/kylin-vr/code-in-use', 'latin1').split(' ')[0] === String(process.pid)))")`;
    await lab.router.run([process.execPath, '-e', trace], { check: true });
    const { stderr } = await lab.router.run([process.execPath, '--require', '/run/hook.cjs', PROGRAM, 'reload']);
    assert.match(stderr, /^true$/m);
    assert.equal(await shell('ls -A /run/kylin-vr | grep code-'), '');
  });

  it('is used without a mark where that would be written through a link', async () => {
    const made = await which();
    await shell('touch /run/victim; ln -s /run/victim /run/kylin-vr/code-in-use');
    await reload();
    await shell('mkdir /run/elsewhere; mv /run/kylin-vr /run/kept; ln -s /run/elsewhere /run/kylin-vr');
    await reload();
    assert.equal(await shell('cat /run/victim; ls -A /run/elsewhere; rm -r /run/victim /run/elsewhere /run/kept'), '');
    assert.equal(await which(), made);
  });

  it('what killed runs left half-written goes when a new one is made', async () => {
    await shell(`cd /var/cache/kylin-vr; set -- code-*.bin
      for pid in 999999991 999999992; do cp $1 $1.$pid; done; : > $1`);
    await reload();
    assert.match(await code(), /^code-\S+\.bin$/);
  });

  it('that finds no room leaves nothing, and is not made each time', async () => {
    await shell('rm -rf /var/cache/kylin-vr; mount -t tmpfs -o size=600k tmpfs /var/cache');
    for (let n = 0; n < 3; n++) {
      await reload();
      assert.equal(await code(), '');
    }
    const failed = await shell('stat -c %y /run/kylin-vr/code-unsaved');
    await reload();
    assert.equal(await shell('stat -c %y /run/kylin-vr/code-unsaved'), failed);
    // Room again, and an hour later.
    await shell('umount /var/cache; touch -d "2 hours ago" /run/kylin-vr/code-unsaved');
    await reload();
    assert.match(await code(), /^code-\S+\.bin$/);
    assert.equal(await shell('ls -A /run/kylin-vr | grep code-'), '');
  });
});
