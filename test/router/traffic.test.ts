// Every promise about packets, on the real kernel: the rows of test/lab/table.ts, and a change under traffic.

import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import { changeUnderTraffic } from '../lab/change.ts';
import { ADDRESSES, createLab, type Lab } from '../lab/lab.ts';
import { elastic, listen, nameOf, observe, type Row, type Scenario, snat } from '../lab/table.ts';
import { createTraffic, type Traffic } from '../lab/traffic.ts';

const { v, w, y } = ADDRESSES;

for (const iptables of ['nft', 'legacy'] as const)
  for (const policy of ['ACCEPT', 'DROP'])
    describe(`iptables-${iptables}, FORWARD policy ${policy}`, () => {
      let lab: Lab;
      let traffic: Traffic;
      before(async () => {
        lab = await createLab({ iptables });
        traffic = createTraffic(lab);
        await listen(traffic);
        await lab.router.run(['iptables', '-P', 'FORWARD', policy], { check: true });
        const blocked = ['-s', y, '-d', w, '-p', 'tcp', '--dport', '22'];
        await lab.router.run(['iptables', '-A', 'FORWARD', ...blocked, '-j', 'DROP'], { check: true });
      });
      after(() => lab.close());

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
    });

async function reload(lab: Lab, config: string): Promise<{ result: string; steps: object[] }> {
  await lab.configure(config);
  const { status, stdout, stderr } = await lab.kylin('reload', '--json');
  assert.equal(status, 0, stdout + stderr);
  return JSON.parse(stdout);
}
