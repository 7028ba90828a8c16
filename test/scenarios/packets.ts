// Every promise about packets, on the real kernel: the rows of test/lab/table.ts, and a change under traffic.

import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import { changeUnderTraffic } from '../lab/change.ts';
import { ADDRESSES, type Lab } from '../lab/lab.ts';
import { backendsOf, createLabOn, NAME_OF, type Path } from '../lab/path.ts';
import { elastic, listen, nameOf, observe, type Row, type Scenario, snat } from '../lab/table.ts';
import { createTraffic, type Traffic } from '../lab/traffic.ts';

const { v, w, y } = ADDRESSES;

export function packets(path: Path): void {
  for (const iptables of backendsOf(path))
    for (const policy of path === 'ip' ? ['ACCEPT', 'DROP'] : ['DROP'])
      describe(`${NAME_OF[path]}, iptables-${iptables}, FORWARD policy ${policy}`, () =>
        packetsWith(path, iptables, policy));
}

function packetsWith(path: Path, iptables: 'nft' | 'legacy', policy: string): void {
  let lab: Lab;
  let traffic: Traffic;
  before(async () => {
    lab = await createLabOn(path, { iptables });
    traffic = createTraffic(lab);
    await listen(traffic);
    await lab.router.run(['iptables', '-P', 'FORWARD', policy], { check: true });
    const blocked = ['-s', y, '-d', w, '-p', 'tcp', '--dport', '22'];
    await lab.router.run(['iptables', '-A', 'FORWARD', ...blocked, '-j', 'DROP'], { check: true });
  });
  after(() => lab?.close());

  const checkRow = (row: Row) => {
    const { from, to, protocol, port, expected } = row;
    const where = protocol === 'icmp' ? `${to} by ping` : `${to} ${protocol} ${port}`;
    test(`${from} → ${nameOf(to)} ${where}: ${expected}`, async () => {
      assert.equal(await observe(traffic, row), expected);
    });
  };
  // Rows run side by side: a closed port shows itself by a timeout.
  const checkScenario = ({ name, config, promises }: Scenario) =>
    describe(name, { concurrency: promises.length }, () => {
      before(() => reload(lab, config));
      for (const { promise, rows } of promises)
        describe(promise, { concurrency: rows.length }, () => rows.forEach(checkRow));
    });

  checkScenario(elastic);

  describe('a foreign rule that blocks still blocks', () => {
    const ssh = { from: 'y', protocol: 'tcp', port: 22 } as const;
    checkRow({ ...ssh, to: w, expected: 'closed' });
    checkRow({ ...ssh, to: v, expected: `v:22 sees ${y}` });
  });

  test('a second reload changes nothing', async () => {
    const { result, steps } = await reload(lab, elastic.config);
    assert.deepEqual({ result, steps }, { result: 'unchanged', steps: [] });
  });

  test('a change under traffic cuts what it takes away, and nothing else', async () => {
    const checks = await changeUnderTraffic(traffic, (config) => reload(lab, config));
    assert.deepEqual(
      checks.map(({ what, saw }) => `${what}: ${saw}`),
      checks.map(({ what, expected }) => `${what}: ${expected}`),
    );
  });

  checkScenario(snat);
}

async function reload(lab: Lab, config: string): Promise<{ result: string; steps: object[] }> {
  await lab.configure(config);
  const { status, stdout, stderr } = await lab.kylin('reload', '--json');
  assert.equal(status, 0, stdout + stderr);
  return JSON.parse(stdout);
}
