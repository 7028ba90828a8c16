// What `status` shows beside its JSON: counters, the screen that is drawn anew, the numbers for node_exporter.

import assert from 'node:assert/strict';
import { once } from 'node:events';
import { after, before, describe, it } from 'node:test';
import { createLab, type Lab, PROGRAM } from '../lab/lab.ts';
import { EIPS, elastic, NEAR } from '../lab/table.ts';
import { createTraffic } from '../lab/traffic.ts';

describe('status', { concurrency: false }, () => {
  let lab: Lab;
  before(async () => {
    lab = await createLab();
    await lab.configure(elastic.config);
    assert.equal((await lab.kylin('reload')).status, 0);
  });
  after(() => lab?.close());

  it('--counters: the connections of an EIP and of a forward', async () => {
    const traffic = createTraffic(lab);
    await traffic.listen('w', 'tcp', 80);
    await traffic.listen('v', 'tcp', 80);
    const streams = [
      await traffic.openStream({ from: 'out', to: NEAR, port: 8080 }),
      await traffic.openStream({ from: 'far', to: EIPS.v, port: 80 }),
    ];
    const { stdout } = await lab.kylin('status', '--counters');
    for (const stream of streams) await stream.close();
    assert.match(stdout, /^ {2}203\.0\.113\.50 +→ +10\.10\.1\.11 +1 now +1 since +active$/m);
    assert.match(stdout, /^ {2}203\.0\.113\.60:8080\/tcp +→ +10\.10\.1\.12:80 +1 now +1 since +active$/m);
    assert.match(stdout, /^ {2}203\.0\.113\.60:5353\/udp +→ +10\.10\.1\.12:53 +0 now +0 since +active$/m);
    assert.doesNotMatch((await lab.kylin('status')).stdout, /now/);
  });

  it('--format prometheus: samples with help and type, and status 0 even when something is wrong', async () => {
    const sound = await lab.kylin('status', '--format', 'prometheus', '--counters');
    assert.equal(sound.status, 0);
    const lines = sound.stdout.trimEnd().split('\n');
    for (const line of lines)
      assert.match(
        line,
        /^(# HELP kylin_vr_\w+ \S.*|# TYPE kylin_vr_\w+ gauge|kylin_vr_\w+(\{\w+="[^"]*"(,\w+="[^"]*")*\})? [\d.]+)$/,
      );
    const names = lines.flatMap((line) => /^# TYPE (\w+)/.exec(line)?.[1] ?? []);
    assert.equal(new Set(names).size, names.length);
    for (const sample of [
      'kylin_vr_in_sync 1',
      'kylin_vr_nics{state="active"} 3',
      'kylin_vr_eips{state="error"} 0',
      'kylin_vr_forwards{state="active"} 7',
      'kylin_vr_last_run_info{command="reload",trigger="operator",result="changed"} 1',
    ])
      assert.ok(lines.includes(sample), sample);
    await lab.configure(`${elastic.config}\nnonsense: 1\n`);
    const wrong = await lab.kylin('status', '--format', 'prometheus');
    await lab.configure(elastic.config);
    assert.equal(wrong.status, 0);
    assert.match(wrong.stdout, /^kylin_vr_in_sync 0$/m);
    assert.match(wrong.stdout, /^kylin_vr_config_errors 1$/m);
  });

  it('--watch shows it again and again', async () => {
    const watcher = lab.router.spawn([process.execPath, PROGRAM, 'status', '--watch', '0.2']);
    let shown = '';
    for await (const piece of watcher.stdout ?? []) {
      shown += String(piece);
      if (shown.split('in sync').length > 3) break;
    }
    watcher.kill();
    await once(watcher, 'exit');
    assert.equal((await lab.kylin('status', '--watch', '--json')).status, 64);
  });
});
