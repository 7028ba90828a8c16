// A change that failed: what failed by the moment is tried again by the timer, with growing pauses; what the file is to blame for is not.

import assert from 'node:assert/strict';
import { after, before, beforeEach, describe, it } from 'node:test';
import { apply, json, LAST_GOOD, LIB, one, other, shell } from '../confirm/router.ts';
import { createLab, type Lab } from '../lab/lab.ts';
import { networkOf } from '../lab/state.ts';
import { recordTools, type Tools } from '../lab/tools.ts';

const REFUSED = `${LIB}/refused`;
const KILLED = 'case "$*" in -batch*) kill -9 $$ ;; esac';
const REJECTED = 'case "$*" in -batch*) echo no >&2; exit 2 ;; esac';

describe('a change that failed', { concurrency: false }, () => {
  let lab: Lab;
  let tools: Tools;
  before(async () => {
    lab = await createLab({ networkScripts: true });
    tools = await recordTools(lab.router);
  });
  after(() => lab?.close());
  beforeEach(async () => {
    await tools.before('ip');
    await apply(lab, one);
    await lab.configure(other);
  });

  const byTimer = () => json(lab, 'reload', '--trigger', 'timer');
  const saidOf = ({ warnings }: Awaited<ReturnType<typeof byTimer>>) => warnings[0]?.message.replace(/\d\d+ s/, '… s');
  const notInForce = async () =>
    (await json<{ notInForce?: string }>(lab, 'status')).notInForce?.replace(/\d\d+ s/, '… s');
  /** As if the pause were over. */
  const wait = () => shell(lab, `sed -i -E '3s/^([0-9]+) [0-9]+ /\\1 0 /' ${REFUSED}`);
  const bringsItAbout = async (report: Awaited<ReturnType<typeof byTimer>>) => {
    assert.deepEqual([report.status, report.result], [0, 'changed']);
    assert.equal((await lab.kylin('plan', '--exit-code')).status, 0);
    assert.equal(await lab.router.read(LAST_GOOD), other);
    assert.equal(await lab.router.read(REFUSED), undefined);
  };

  it('by the moment is tried again when its pause is over, and not before', async () => {
    const network = await networkOf(lab.router);
    await tools.before('ip', KILLED);
    const failed = await json(lab, 'reload');
    assert.equal(failed.status, 69);
    assert.equal(
      failed.advice,
      'what failed may be of the moment: the timer tries it again in 60 s, and then with growing pauses',
    );
    await tools.before('ip');
    assert.equal(
      await notInForce(),
      'it could not be applied in one try: it is tried again in … s, kylin-vr reload tries it now',
    );
    const left = await byTimer();
    assert.deepEqual([left.status, left.result], [0, 'unchanged']);
    assert.equal(
      saidOf(left),
      'this configuration could not be applied in one try: it is tried again in … s, kylin-vr reload tries it now',
    );
    assert.equal(await networkOf(lab.router), network);
    await wait();
    assert.equal(
      await notInForce(),
      'it could not be applied in one try: it is tried again by the next run of the timer, kylin-vr reload tries it now',
    );
    const again = await byTimer();
    assert.equal(saidOf(again), 'this configuration could not be applied in one try: it is tried again now');
    await bringsItAbout(again);
  });

  it('again and again is tried with pauses that double, up to an hour', async () => {
    await tools.before('ip', KILLED);
    const pauses: (string | undefined)[] = [];
    for (let tries = 1; tries <= 8; tries++) {
      const { status, advice } = await byTimer();
      assert.equal(status, 69);
      pauses.push(/in (\d+) s/.exec(advice ?? '')?.[1]);
      assert.equal((await lab.router.read(REFUSED))?.split('\n')[2]?.split(' ')[0], String(tries));
      await wait();
    }
    assert.deepEqual(pauses, ['60', '120', '240', '480', '960', '1920', '3600', '3600']);
    await tools.before('ip');
    await bringsItAbout(await byTimer());
  });

  it('by the moment is tried again after a boot, whose seconds count anew', async () => {
    await tools.before('ip', KILLED);
    assert.equal((await byTimer()).status, 69);
    await tools.before('ip');
    await shell(lab, `sed -i -E '3s/ [^ ]+$/ another-boot/' ${REFUSED}`);
    await bringsItAbout(await byTimer());
  });

  it('for want of room is tried again', async () => {
    await shell(
      lab,
      'mount -t tmpfs -o size=16k tmpfs /etc/sysconfig/network-scripts; head -c 16k /dev/zero > /etc/sysconfig/network-scripts/full || true',
    );
    const { status, errors } = await byTimer();
    assert.equal(status, 69);
    assert.match(errors[0]?.message ?? '', /ENOSPC/);
    await shell(lab, 'umount /etc/sysconfig/network-scripts');
    await wait();
    await bringsItAbout(await byTimer());
  });

  it('by what the kernel refuses is not tried again until the file changes, nor is one that was to be confirmed', async () => {
    for (const [script, ...more] of [[REJECTED], [KILLED, '--confirm-within', '60']] as const) {
      await tools.before('ip', script);
      assert.equal((await json(lab, 'reload', ...more)).status, 69);
      await tools.before('ip');
      assert.equal(await notInForce(), 'it could not be applied: kylin-vr reload tries it again');
      await wait();
      const left = await byTimer();
      assert.deepEqual([left.status, left.result], [0, 'unchanged']);
      assert.equal(saidOf(left), 'this configuration was taken back before: run kylin-vr reload to try it again');
    }
    await bringsItAbout(await json(lab, 'reload'));
  });
});
