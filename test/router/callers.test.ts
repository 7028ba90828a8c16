// What callers rely on: old command lines, the fields of --json, exit statuses, and runs that serve several callers.

import assert from 'node:assert/strict';
import { after, before, describe, it } from 'node:test';
import { createLab, type Lab, NICS, PROGRAM } from '../lab/lab.ts';
import type { RunResult } from '../lab/namespace.ts';
import { networkOf } from '../lab/state.ts';

const [U, A, B] = [NICS.public.mac, NICS.a.mac, NICS.b.mac];
const config = `if_list:
  - { ipaddr: 203.0.113.37, prefix: 24, mac: '${U}', gateway: 203.0.113.1, name: public }
  - { ipaddr: 10.10.1.254, prefix: 24, mac: '${A}' }
  - { ipaddr: 10.10.2.254, prefix: 24, mac: '${B}' }
eip_list:
  - { eip: 203.0.113.50, vm-ip: 10.10.1.11 }
port_forward_list:
  - { eip: 203.0.113.60, protocal: tcp, port: 8080, end_port: 8082, vm-port: 80, vm-ip: 10.10.1.12 }
`;
const changed = config.replace('.50', '.51');
const CONFIG = '/etc/kylin-vr/kylin-vr.yaml';

describe('callers', { concurrency: false }, () => {
  let lab: Lab;
  before(async () => {
    lab = await createLab({ nics: [NICS.public, NICS.a], networkScripts: true });
  });
  after(() => lab?.close());

  /** Command line, exit status, and the `command` and `trigger` that the run knows of itself. */
  for (const [line, command, trigger] of [
    ['--start', 'start', 'boot'],
    ['--reload', 'reload', 'operator'],
    ['-c init', 'start', 'boot'],
    ['-c subnet', 'start', 'boot'],
    ['-c reload', 'reload', 'operator'],
    ['-c reload -d eth1', 'reload', 'udev'],
    ['reload', 'reload', 'operator'],
    ['start', 'start', 'boot'],
  ] as const)
    it(`${line}: ${command} by ${trigger}`, async () => {
      await lab.configure(config);
      assert.equal((await lab.kylin(...line.split(' '))).status, 0);
      const run = JSON.parse((await lab.router.read('/run/kylin-vr/last-run.json')) ?? '');
      assert.deepEqual([run.command, run.trigger, run.exitStatus], [command, trigger, 0]);
    });

  it('a NIC that is pending alone leaves inSync true, and status ends 0', async () => {
    const { status, stdout } = await lab.kylin('status', '--json');
    const { inSync, nics } = JSON.parse(stdout);
    assert.deepEqual(
      [status, inSync, nics[2]],
      [0, true, { mac: B, role: 'subnet', address: '10.10.2.254/24', state: 'pending' }],
    );
  });

  it('plan --json: what reload would do, without doing it', async () => {
    await lab.configure(changed);
    const network = await networkOf(lab.router);
    const { status, stdout } = await lab.kylin('plan', '--json');
    const report = JSON.parse(stdout);
    assert.equal(status, 0);
    assert.deepEqual(Object.keys(report), ['result', 'steps', 'warnings', 'errors', 'durationMs']);
    assert.deepEqual(
      [report.result, report.warnings, report.errors, typeof report.durationMs],
      ['changed', [{ message: `NIC ${B} is not there yet: pending` }], [], 'number'],
    );
    assert.deepEqual(
      report.steps.map(({ kind }: Step) => kind),
      KINDS,
    );
    assert.equal((await lab.kylin('plan', '--exit-code')).status, 2);
    assert.equal((await lab.kylin('status')).status, 2);
    assert.equal(await networkOf(lab.router), network);
  });

  it('reload --json: the steps are those of the plan', async () => {
    const planned = JSON.parse((await lab.kylin('plan', '--json')).stdout);
    const { status, stdout } = await lab.kylin('reload', '--json');
    const { result, steps, warnings, errors, durationMs, trigger, coalesced } = JSON.parse(stdout);
    assert.deepEqual(
      { status, result, steps, warnings, errors, trigger, coalesced, duration: typeof durationMs },
      {
        status: 0,
        result: 'changed',
        steps: planned.steps,
        warnings: planned.warnings,
        errors: [],
        trigger: 'operator',
        coalesced: false,
        duration: 'number',
      },
    );
    assert.deepEqual(
      steps.find(({ kind }: Step) => kind === 'add-address'),
      { kind: 'add-address', text: '+ address 203.0.113.51/32 on eth0' },
    );
  });

  it('reload and plan in words, on standard output; warnings on standard error', async () => {
    await lab.configure(config);
    const planned = (await lab.kylin('plan', '--verbose')).stdout;
    const done = await lab.kylin('reload', '--verbose');
    const steps = planned.split('\n').slice(0, -2);
    assert.equal(planned, `${steps.join('\n')}\nplan: ${steps.length} steps\n`);
    assert.equal(
      done.stdout.replace(/\d+ ms/, 'N ms'),
      `${steps.join('\n')}\nreload: changed, ${steps.length} steps in N ms\n`,
    );
    assert.equal(done.stderr, `warning: NIC ${B} is not there yet: pending\n`);
    assert.equal((await lab.kylin('reload')).stdout.replace(/\d+ ms/, 'N ms'), 'reload: unchanged, 0 steps in N ms\n');
  });

  it('status --json: each NIC, EIP and forward, and the last run', async () => {
    const { stdout } = await lab.kylin('status', '--json');
    const { lastRun, ...report } = JSON.parse(stdout);
    assert.deepEqual(report, {
      inSync: true,
      nics: [
        { mac: U, device: 'eth0', name: 'public', role: 'uplink', address: '203.0.113.37/24', state: 'active' },
        { mac: A, device: 'eth1', role: 'subnet', address: '10.10.1.254/24', state: 'active' },
        { mac: B, role: 'subnet', address: '10.10.2.254/24', state: 'pending' },
      ],
      eips: [{ eip: '203.0.113.50', vmIp: '10.10.1.11', state: 'active' }],
      forwards: [
        {
          eip: '203.0.113.60',
          protocol: 'tcp',
          port: 8080,
          endPort: 8082,
          vmPort: 80,
          vmIp: '10.10.1.12',
          state: 'active',
        },
      ],
      sources: [
        { source: '10.10.1.0/24', to: 'uplink', state: 'active' },
        { source: '10.10.2.0/24', to: 'uplink', state: 'pending' },
      ],
      foreign: [],
      steps: [],
      warnings: [{ message: `NIC ${B} is not there yet: pending` }],
      errors: [],
    });
    assert.deepEqual([lastRun.trigger, lastRun.result, lastRun.error], ['operator', 'unchanged', undefined]);
    assert.match(lastRun.time, /^\d{4}-\d\d-\d\dT[\d:.]+Z$/);
  });

  it('status --json says which EIP and forward do not work', async () => {
    const states = async () => {
      const { eips, forwards, nics } = JSON.parse((await lab.kylin('status', '--json')).stdout);
      return [...nics, ...eips, ...forwards].map(({ state }) => state).join(' ');
    };
    await shell(lab, 'ip address delete 203.0.113.50/32 dev eth0');
    assert.equal(await states(), 'error active pending error active');
    await shell(lab, 'ip address add 203.0.113.50/32 dev eth0; iptables -t nat -F KYLIN-VR-P-203.0.113.60');
    assert.equal(await states(), 'active active pending active error');
    await shell(lab, 'iptables -t nat -F PREROUTING');
    assert.equal(await states(), 'active active pending error error');
    assert.equal((await lab.kylin('reload')).status, 0);
    assert.equal(await states(), 'active active pending active active');
  });

  it('the last run that failed is in status, with its error', async () => {
    await lab.configure('if_list:\n');
    assert.equal((await lab.kylin('reload')).status, 65);
    const { status, stdout } = await lab.kylin('status', '--json');
    const { inSync, lastRun, errors } = JSON.parse(stdout);
    const error = 'must be a list, is empty: write if_list: []';
    const file = '/etc/kylin-vr/kylin-vr.yaml';
    assert.deepEqual(
      { status, inSync, errors, last: [lastRun.result, lastRun.error] },
      {
        status: 65,
        inSync: false,
        errors: [{ file, line: 1, column: 9, endColumn: 10, path: 'if_list', message: error }],
        last: ['failed', `${file}:1:9: if_list: ${error}`],
      },
    );
  });

  it('check --json', async () => {
    const file = '/run/some.yaml';
    await lab.router.write(file, config.replace('prefix: 24', 'prefix: 240').replace('name:', 'nmae:'));
    const { status, stdout } = await lab.kylin('check', '--json', file);
    assert.deepEqual(
      [status, withoutEnds(JSON.parse(stdout))],
      [
        65,
        {
          valid: false,
          errors: [
            {
              file,
              line: 2,
              column: 37,
              path: 'if_list[0].prefix',
              message: 'must be a whole number from 1 to 32, is 240',
            },
          ],
          warnings: [
            { file, line: 2, column: 90, path: 'if_list[0].nmae', message: 'is an unknown key, did you mean name' },
          ],
          notes: [],
        },
      ],
    );
    await lab.configure(config);
    const good = await lab.kylin('check', '--json', '--config', CONFIG);
    assert.deepEqual([good.status, JSON.parse(good.stdout)], [0, { valid: true, errors: [], warnings: [], notes: [] }]);
  });

  it('check --strict turns warnings into errors', async () => {
    await lab.router.write('/run/some.yaml', `${config.replace('name:', 'nmae:')}`);
    assert.equal((await lab.kylin('check', '/run/some.yaml')).status, 0);
    assert.equal((await lab.kylin('check', '--strict', '/run/some.yaml')).status, 65);
  });

  it('a wrong command line ends 64 and shows where help is', async () => {
    for (const line of [
      'relaod',
      'reload --no-such',
      '',
      'plan --renderer x',
      'reload --lock-timeout x',
      'reload --trigger me',
      'reload twice',
    ]) {
      const { status, stdout, stderr } = await lab.kylin(...line.split(' ').filter((word) => word !== ''));
      assert.deepEqual([line, status, stdout], [line, 64, '']);
      assert.match(stderr, /help|Usage/, line);
    }
  });

  it('--help and --version end 0', async () => {
    assert.equal((await lab.kylin('--help')).status, 0);
    assert.match((await lab.kylin('--version')).stdout, /^\d+\.\d+\.\d+\n$/);
  });

  it('without root: check works, all else ends 77', async () => {
    // A copy: the folder of this repository may be closed to others.
    await lab.router.run(['install', '-m', '755', PROGRAM, '/run/kylin-vr.js'], { check: true });
    const asNobody = (...args: string[]): Promise<RunResult> =>
      lab.router.run(['setpriv', '--reuid', '65534', '--clear-groups', process.execPath, '/run/kylin-vr.js', ...args]);
    await lab.router.write('/run/some.yaml', config);
    assert.equal((await asNobody('check', '/run/some.yaml')).status, 0);
    for (const command of ['start', 'reload', 'plan', 'status']) {
      const { status, stdout, stderr } = await asNobody(command, '--json');
      const message = `kylin-vr ${command} needs root: run it as root or with sudo`;
      assert.deepEqual([status, stderr, JSON.parse(stdout).errors], [77, `kylin-vr: ${message}\n`, [{ message }]]);
    }
  });

  it('runs that are coalesced give the result of the run that did the work', async () => {
    await lab.configure(changed);
    const ended = await Promise.all(Array.from({ length: 6 }, () => lab.kylin('reload', '--json')));
    const reports = ended.map(({ stdout }) => JSON.parse(stdout));
    const first = reports.find(({ result }) => result === 'changed');
    assert.ok(first.steps.length > 0);
    for (const { coalesced, ...report } of reports.filter(({ coalesced }) => coalesced)) {
      const { coalesced: _, ...same } = reports.find(({ id, coalesced }) => id === report.id && !coalesced);
      assert.deepEqual(report, same);
    }
    await lab.configure('if_list:\n');
    const bad = await Promise.all(Array.from({ length: 4 }, () => lab.kylin('reload', '--json')));
    assert.deepEqual(
      bad.map(({ status }) => status),
      [65, 65, 65, 65],
    );
    for (const { stdout } of bad) assert.equal(JSON.parse(stdout).errors.length, 1);
  });

  it('a run by the timer without work leaves no line in the log; one by an operator leaves its warning and its end', async () => {
    await lab.configure(config);
    assert.equal((await lab.kylin('reload')).status, 0);
    const log = async () => (await lab.router.read('/var/log/kylin-vr/kylin-vr.log'))?.split('\n').length ?? 0;
    const before = await log();
    const { status, stderr } = await lab.kylin('reload', '--trigger', 'timer');
    assert.deepEqual([status, stderr, await log()], [0, '', before]);
    await lab.kylin('reload');
    assert.equal(await log(), before + 2);
  });
});

type Step = { kind: string; text: string };

const KINDS = [
  'write-file',
  'remove-address',
  'edit-chain',
  'replace-chain',
  'edit-chain',
  'edit-chain',
  'add-address',
  'announce-addresses',
];

/** Where a caret ends is for the eye. */
const withoutEnds = (report: object): object =>
  JSON.parse(JSON.stringify(report, (key, value) => (key === 'endColumn' ? undefined : value)));

async function shell(lab: Lab, script: string): Promise<string> {
  return (await lab.router.run(['sh', '-ec', script], { check: true })).stdout;
}
