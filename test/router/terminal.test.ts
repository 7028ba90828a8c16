// What only a terminal gets: colours, and a line that shows what is being done. Each run has a terminal of its own, from `script`.

import assert from 'node:assert/strict';
import { after, before, describe, it } from 'node:test';
import { createLab, type Lab, PROGRAM } from '../lab/lab.ts';
import { elastic } from '../lab/table.ts';
import { recordTools, type Tools } from '../lab/tools.ts';

const ESCAPE = '\u001b';
const [RED, GREEN, YELLOW] = [31, 32, 33].map((code) => (text: string) => `${ESCAPE}[${code}m${text}${ESCAPE}[0m`) as [
  (text: string) => string,
  (text: string) => string,
  (text: string) => string,
];
const ERASE = `\r${ESCAPE}[K`;

describe('on a terminal', { concurrency: false }, () => {
  let lab: Lab;
  let tools: Tools;
  before(async () => {
    lab = await createLab();
    tools = await recordTools(lab.router);
    await lab.configure(elastic.config);
    assert.equal((await lab.kylin('reload')).status, 0);
  });
  after(() => lab?.close());

  /** A shell's line; gives what the terminal got. */
  async function onTerminal(line: string, env: Record<string, string> = {}): Promise<string> {
    const command = line.replace('kylin-vr', `${process.execPath} ${PROGRAM}`);
    const { stdout } = await lab.router.run(['script', '-qec', command, '/dev/null'], {
      env: { TERM: 'xterm', ...env },
    });
    return stdout.replaceAll('\r\n', '\n');
  }
  const shell = (script: string) => lab.router.run(['sh', '-ec', script], { check: true });

  it('status is aligned, and each NIC, EIP and forward has its state in colour', async () => {
    const { stdout } = await lab.kylin('status');
    assert.equal(
      stdout.replace(/^last run.*\n/m, ''),
      `NICs
    eth0  52:54:84:00:08:46  203.0.113.37/24  uplink  active
    eth1  52:54:84:11:00:04  10.10.1.254/24   subnet  active
    eth2  52:54:84:11:00:05  10.10.2.254/24   subnet  active
EIPs
  203.0.113.50   →  10.10.1.11  active
  198.51.100.20  →  10.10.2.21  active
  198.51.100.21  →  10.10.2.22  active
Forwards
  203.0.113.60:8080/tcp       →  10.10.1.12:80         active
  203.0.113.60:5353/udp       →  10.10.1.12:53         active
  203.0.113.60:9000-9002/tcp  →  10.10.2.22:9000-9002  active
  203.0.113.60:7000-7002/tcp  →  10.10.1.12:7100-7102  active
  203.0.113.60:7000-7002/udp  →  10.10.1.12:7100-7102  active
  198.51.100.60:443/tcp       →  10.10.1.12:443        active
  203.0.113.37:8443/tcp       →  10.10.1.12:443        active
in sync
`,
    );
    const coloured = stdout.replaceAll(/ active$/gm, ` ${GREEN('active')}`).replace(/^in sync$/m, GREEN('in sync'));
    assert.equal(await onTerminal('kylin-vr status'), coloured);
  });

  it('what is wrong is red in status; steps and warnings of plan have the colours of a diff', async (t) => {
    await shell('ip address delete 203.0.113.50/32 dev eth0; ip address add 10.10.1.77/24 dev eth1');
    await lab.configure(
      `${elastic.config}  - { eip: 203.0.113.61, protocal: tcp, port: 1, vm-port: 1, vm-ip: 10.99.0.1 }\n`,
    );
    t.after(async () => {
      await lab.configure(elastic.config);
      assert.equal((await lab.kylin('reload')).status, 0);
    });
    const status = await onTerminal('kylin-vr status');
    for (const line of [
      `    eth1  52:54:84:11:00:04  10.10.1.254/24   subnet  ${RED('error')}`,
      `  203.0.113.50   →  10.10.1.11  ${RED('error')}`,
      `  198.51.100.20  →  10.10.2.21  ${GREEN('active')}`,
      `  203.0.113.61:1/tcp          →  10.99.0.1:1           ${RED('error')}`,
      `${RED('not in sync')}: reload would do 8 steps`,
      `  ${GREEN('+ address 203.0.113.50/32 on eth0')}`,
      `  ${RED('- address 10.10.1.77/24 on eth1 (foreign)')}`,
    ])
      assert.ok(status.split('\n').includes(line), `${line}\nis not in\n${status}`);
    const plan = await onTerminal('kylin-vr plan');
    for (const line of [
      GREEN('+ address 203.0.113.50/32 on eth0'),
      RED('- address 10.10.1.77/24 on eth1 (foreign)'),
      YELLOW('! announce 203.0.113.50, 203.0.113.61 on eth0'),
      'plan: 8 steps',
    ])
      assert.ok(plan.split('\n').includes(line), `${line}\nis not in\n${plan}`);
    assert.ok(plan.includes(`\n${YELLOW('warning')}: /etc/kylin-vr/kylin-vr.yaml:`), plan);
  });

  it('NO_COLOR, a dumb terminal, or a pipe: no colour', async () => {
    const plain = [
      await onTerminal('kylin-vr status', { NO_COLOR: '1' }),
      await onTerminal('kylin-vr status', { TERM: 'dumb' }),
      await onTerminal('kylin-vr status | cat'),
    ];
    for (const text of plain) {
      assert.match(text, / active\n/);
      assert.ok(!text.includes(ESCAPE), text);
    }
  });

  it('a reload that takes long shows what it does, and leaves no trace of that', async (t) => {
    await tools.before('ip', 'case "$*" in -batch*) sleep 0.7 ;; esac');
    t.after(() => tools.before('ip'));
    await lab.configure(elastic.config.replace('203.0.113.50', '203.0.113.51'));
    const onScreen = await onTerminal('kylin-vr reload');
    const shown = onScreen.split(ERASE);
    assert.ok(
      shown.some((line) => /^ip -batch - \(\d+ lines?\)$/.test(line)),
      onScreen,
    );
    // All but the last is erased.
    const stays = shown.at(-1)?.split('\n') ?? [];
    assert.match(stays.at(-2) ?? '', /^reload: .*changed.*, \d+ steps in \d+ ms$/);
    assert.ok(!stays.join().includes('-batch') && stays[0]?.startsWith(ESCAPE), onScreen);
    await lab.configure(elastic.config);
    const inPipes = await onTerminal('kylin-vr reload 2>&1 | cat');
    assert.ok(!inPipes.includes(ESCAPE) && !inPipes.includes('-batch'), inPipes);
    assert.match(inPipes, /^reload: changed/m);
  });

  it('a terminal that cannot erase gets no such line', async (t) => {
    await tools.before('iptables-nft-save', 'sleep 0.7');
    t.after(() => tools.before('iptables-nft-save'));
    assert.match(await onTerminal('kylin-vr reload', { TERM: 'dumb' }), /^reload: unchanged, 0 steps in \d+ ms\n$/);
  });
});
