// Whoever made an image must not get root where it is prepared: `install --root` and `uninstall --root` in images that are full of
// traps (traps.ts), on a host that notices each touch. Each test has mounts of its own, where only /mnt can be written.

import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { join } from 'node:path';
import { describe, it } from 'node:test';

const SETUP = `
  mount -t tmpfs -o strictatime,mode=0755 tmpfs /mnt
  mkdir -p /mnt/tmp /mnt/image/proc
  mount -t proc proc /mnt/image/proc
  mount -o remount,bind,ro /
  export TMPDIR=/mnt/tmp
  exec "$@"`;

function inMounts(task: string): Record<string, number> {
  const worker = [process.execPath, '--import', 'tsx', join(import.meta.dirname, 'traps.ts'), task];
  const { status, stdout, stderr, signal } = spawnSync(
    'unshare',
    ['--mount', '--propagation', 'private', 'sh', '-ec', SETUP, 'sh', ...worker],
    // One that hangs in a FIFO ends so.
    { encoding: 'utf8', timeout: 300_000, killSignal: 'SIGKILL' },
  );
  assert.deepEqual({ status, signal }, { status: 0, signal: null }, stdout + stderr);
  return JSON.parse(stdout.trim().split('\n').at(-1) ?? '') as Record<string, number>;
}

describe('an image full of traps', () => {
  it('is on a host that notices a file that is read, written, made, linked, removed, or whose mode changes', () => {
    assert.deepEqual(inMounts('notices'), { read: 1, listed: 1, written: 1, made: 1, removed: 1, mode: 1 });
  });

  it('leads install and uninstall nowhere out of it, whatever is at each path and in the record', (t) => {
    const { seed, runs, changed = 0, refused = 0 } = inMounts('traps');
    t.diagnostic(`seed ${seed}: ${runs} images; ${changed} commands that changed some, ${refused} that refused`);
    assert.ok(changed > 50 && refused > 50, `${changed} changed, ${refused} refused`);
  });

  it('nor do folders that another process swaps for links out of it meanwhile; followed as usual, they do', (t) => {
    const { runs, changed = 0, touched, usual } = inMounts('swaps');
    t.diagnostic(`${runs} commands, ${changed} of which changed something`);
    assert.ok(changed > 10, `${changed} changed`);
    assert.deepEqual({ touched, usual }, { touched: 0, usual: 1 });
  });

  it('costs little memory, however much is in its record', () => {
    const { mebibytes = 0 } = inMounts('large');
    assert.ok(mebibytes < 400, `${mebibytes} MiB`);
  });

  it('leads them into no /proc that is mounted in it, which is the host’s', () => {
    assert.deepEqual(inMounts('kernel'), { refused: 4 });
  });

  it('gives what is made in it neither its group nor its bits', () => {
    const { count = 0 } = inMounts('groups');
    assert.ok(count > 50, `${count} made`);
  });

  it('costs little time, however much is in the settings of its guest agent, and however often', (t) => {
    const { changed, left, seconds = 0, mebibytes = 0 } = inMounts('agent');
    t.diagnostic(`${seconds.toFixed(1)} s, ${mebibytes} MiB`);
    assert.deepEqual({ changed, left }, { changed: 4, left: 8 });
    assert.ok(seconds < 60, `${seconds} s`);
    assert.ok(mebibytes < 400, `${mebibytes} MiB`);
  });
});
