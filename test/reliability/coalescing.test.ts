// Many who want a reload at once: few runs, bounded memory, no pile of processes, and the last configuration in force.

import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { after, before, describe, it } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { MARK, reloadScript } from '../lab/hotplug.ts';
import { createLab, type Lab, NICS } from '../lab/lab.ts';
import { namespaceOf, processesIn } from '../lab/namespace.ts';

const config = (eip: number) => `if_list:
  - { ipaddr: 203.0.113.37, prefix: 24, mac: '${NICS.public.mac}', gateway: 203.0.113.1 }
  - { ipaddr: 10.10.1.254, prefix: 24, mac: '${NICS.a.mac}' }
eip_list:
  - { eip: 203.0.113.${eip}, vm-ip: 10.10.1.11 }
`;

/** What a run that works has beside itself at most: the reading commands side by side, and their like. */
const CHILDREN = 16;
/** A waiting Node. Of what processes share each counts its part. */
const MIB_EACH = 60;

describe('many at once', { concurrency: false }, () => {
  let lab: Lab;
  before(async () => {
    lab = await createLab({ networkScripts: true });
    await lab.configure(config(50));
    assert.equal((await lab.kylin('reload')).status, 0);
  });
  after(() => lab?.close());

  /** Processes and memory of the router, looked at again and again while something goes on. */
  async function watch(during: Promise<unknown>) {
    let over = false;
    void during.finally(() => {
      over = true;
    });
    const namespace = namespaceOf(lab.router.pid) ?? '';
    const most = { nodes: 0, others: 0, mib: 0, mibEach: 0 };
    while (!over) {
      const found = processesIn(namespace).map((pid) => ({
        isNode: read(`/proc/${pid}/comm`).trim() === 'node',
        mib: pssOf(pid),
      }));
      const nodes = found.filter(({ isNode }) => isNode);
      most.nodes = Math.max(most.nodes, nodes.length);
      most.others = Math.max(most.others, found.length - nodes.length);
      most.mib = Math.max(
        most.mib,
        found.reduce((sum, { mib }) => sum + mib, 0),
      );
      most.mibEach = Math.max(most.mibEach, ...nodes.map(({ mib }) => mib));
      await sleep(100);
    }
    return most;
  }

  it('50 reloads in five waves, the file changed before each: all end within the lock timeout, the last file is in force', async (t) => {
    const started = performance.now();
    const all = (async () => {
      const runs: ReturnType<Lab['kylin']>[] = [];
      for (let n = 0; n < 5; n++) {
        await replace(config(100 + n));
        for (let each = 0; each < 10; each++) runs.push(lab.kylin('reload', '--json'));
      }
      return Promise.all(runs);
    })();
    const [most, ended] = await Promise.all([watch(all), all]);
    const tookMs = performance.now() - started;
    const ids = new Set(ended.map(({ stdout }) => JSON.parse(stdout).id));
    t.diagnostic(
      `${ids.size} runs for 50 reloads in ${Math.round(tookMs)} ms; at most ${most.nodes} Node processes with ${Math.round(most.mib)} MiB, ` +
        `the largest ${Math.round(most.mibEach)}, and ${most.others} others`,
    );
    assert.deepEqual(
      ended.filter(({ status }) => status !== 0),
      [],
    );
    assert.ok(tookMs < 60_000, `${tookMs} ms`);
    assert.ok(most.nodes <= 50 + CHILDREN && most.others <= CHILDREN, JSON.stringify(most));
    assert.ok(most.mib < 50 * MIB_EACH, JSON.stringify(most));
    assert.match((await lab.router.run(['ip', 'address', 'show', 'eth0'])).stdout, /203\.0\.113\.104\/32/);
    assert.equal((await lab.kylin('plan', '--exit-code')).status, 0);
  });

  it('200 marks in a storm: one run at a time, few of them, the last file is in force', async (t) => {
    // What the unit runs, by hand: there is no systemd here (test/system has one).
    const script = reloadScript();
    const before = await runsLogged();
    const started = performance.now();
    let marking = true;
    const marks = (async () => {
      for (let n = 0; n < 200; n++) {
        if (n % 20 === 0) await replace(config(200 + n / 20));
        await lab.router.run(['touch', MARK]);
        await sleep(10);
      }
      marking = false;
    })();
    // The path unit: a mark starts the service, once.
    const service = (async () => {
      while (marking || (await lab.router.run(['test', '-e', MARK])).status === 0) {
        if ((await lab.router.run(['test', '-e', MARK])).status === 0)
          assert.equal((await lab.router.run(['sh', '-c', script])).status, 0);
        await sleep(20);
      }
    })();
    const [most] = await Promise.all([watch(service), marks, service]);
    const runs = (await runsLogged()) - before;
    t.diagnostic(
      `${runs} runs for 200 marks in ${Math.round(performance.now() - started)} ms; at most ` +
        `${Math.round(most.mib)} MiB, ${most.others} others`,
    );
    assert.ok(runs >= 1 && runs <= 40, `${runs} runs`);
    // A child is called node, too, until it has come to its exec.
    assert.ok(most.nodes <= 2 && most.others <= CHILDREN && most.mib < 3 * MIB_EACH, JSON.stringify(most));
    assert.match((await lab.router.run(['ip', 'address', 'show', 'eth0'])).stdout, /203\.0\.113\.209\/32/);
    assert.equal((await lab.kylin('plan', '--exit-code')).status, 0);
  });

  /** As a writer does who means well: no reader ever sees half of it. */
  async function replace(text: string): Promise<void> {
    const file = '/etc/kylin-vr/kylin-vr.yaml';
    await lab.router.write(`${file}.next`, text, 0o600);
    await lab.router.run(['mv', `${file}.next`, file], { check: true });
  }

  async function runsLogged(): Promise<number> {
    const log = (await lab.router.read('/var/log/kylin-vr/kylin-vr.log')) ?? '';
    return log.split('\n').filter((line) => line.includes('"command":"reload"')).length;
  }
});

/** Its part of the memory, shared pages divided by those who share them. */
function pssOf(pid: number): number {
  return Number(/^Pss:\s+(\d+) kB$/m.exec(read(`/proc/${pid}/smaps_rollup`))?.[1] ?? 0) / 1024;
}

function read(path: string): string {
  try {
    return readFileSync(path, 'latin1');
  } catch {
    // It has ended.
    return '';
  }
}
