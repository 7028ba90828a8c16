// On aarch64 a NIC may be seen only after the PCI bus was looked at anew. The file that makes the kernel look is stood in for.

import assert from 'node:assert/strict';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, it } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { type Report, shell, small } from '../confirm/router.ts';
import { createLab, type Lab, NICS, PROGRAM } from '../lab/lab.ts';

const HOOK = join(import.meta.dirname, '../reliability/arm64-hook.cjs');
const RESCAN = '/sys/bus/pci/rescan';

describe('reload on aarch64, with a NIC that is missing', { concurrency: false }, () => {
  let lab: Lab;
  beforeEach(async () => {
    lab = await createLab({ nics: [NICS.public] });
    await shell(lab, `mount -t tmpfs tmpfs /sys/bus; mkdir /sys/bus/pci; : > ${RESCAN}`);
    await lab.configure(small);
  });
  afterEach(() => lab?.close());

  const on = async (hook: readonly string[], ...args: string[]): Promise<Report> => {
    const { stdout, stderr } = await lab.router.run([process.execPath, ...hook, PROGRAM, 'reload', '--json', ...args]);
    assert.match(stdout, /^\{/, stderr);
    return JSON.parse(stdout);
  };
  const onArm64 = (...args: string[]) => on(['--require', HOOK], ...args);
  /** Whether the kernel was told to look since the last time. */
  const looked = async () => (await shell(lab, `cat ${RESCAN}; : > ${RESCAN}`)) === '1\n';
  const pending = ({ warnings }: Report) =>
    warnings.filter(({ message }) => message.endsWith('is not there yet: pending'));
  /** As the kernel does when it is told to look. */
  const plugWhenTold = async (end: AbortSignal) => {
    while (!end.aborted && (await lab.router.read(RESCAN)) === '') await sleep(20);
    if (!end.aborted) await lab.router.plug(NICS.a);
  };

  it('the kernel is told to look, and what comes is set up in the same run', async () => {
    const end = new AbortController();
    const plugging = plugWhenTold(end.signal);
    try {
      const report = await onArm64();
      assert.equal(await looked(), true);
      assert.deepEqual([report.result, pending(report)], ['changed', []]);
      assert.match(await shell(lab, 'ip -o -4 address show dev eth1'), /10\.10\.1\.254\/24/);
    } finally {
      end.abort();
      await plugging;
    }
  });

  it('once for each NIC and boot, what does not come is pending', async () => {
    assert.equal(pending(await onArm64()).length, 1);
    assert.equal(await looked(), true);
    await onArm64();
    assert.equal(await looked(), false);
    // One that is new in the file.
    await lab.configure(
      small.replace('52:54:84:00:08:38', '52:54:84:00:08:39').replace(NICS.a.mac, '52:54:84:aa:00:01'),
    );
    await onArm64();
    assert.equal(await looked(), true);
    await shell(lab, 'rm -r /run/kylin-vr');
    await onArm64();
    assert.equal(await looked(), true);
  });

  it('not by timer or udev, nor where the file says no, nor where nothing is missing, nor on another machine', async () => {
    for (const trigger of ['timer', 'udev', 'boot']) {
      await onArm64('--trigger', trigger);
      assert.equal(await looked(), false, trigger);
    }
    await on([]);
    assert.equal(await looked(), false);
    await lab.configure(`${small}pci-rescan: false\n`);
    await onArm64();
    assert.equal(await looked(), false);
    await lab.configure(small);
    await lab.router.plug(NICS.a);
    await onArm64();
    assert.equal(await looked(), false);
  });

  it('where the sandbox keeps it from that, as under systemctl reload, it says so, and goes on', async () => {
    await shell(lab, 'mount -o remount,ro /sys/bus');
    const { result, warnings } = await onArm64();
    assert.equal(result, 'changed');
    assert.ok(
      warnings.some(
        ({ message }) =>
          message ===
          `NIC ${NICS.a.mac}: the PCI bus was not looked at anew, since this run may not write ${RESCAN}, as under systemctl reload: kylin-vr reload may`,
      ),
      JSON.stringify(warnings),
    );
  });

  it('another failure is said with its words', async () => {
    await shell(lab, `rm ${RESCAN}; mkdir ${RESCAN}`);
    const { warnings } = await onArm64();
    assert.ok(
      warnings.some(({ message }) => /^NIC \S+: the PCI bus was not looked at anew \(tee .*\)$/.test(message)),
      JSON.stringify(warnings),
    );
  });
});
