// What the stages of a run say, and the report that is put together of it.

import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { EXIT } from '../../src/base/errors.ts';
import type { Chain } from '../../src/network/state.ts';
import type { Step } from '../../src/network/step.ts';
import { failed, headingOf, type ReportPart, reportOf, summaryOf } from '../../src/run/report.ts';

const ADDED: Step = { kind: 'add-address', address: { device: 'eth0', spec: '203.0.113.50/32' } };
const heading = headingOf({ command: 'lapse', run: 'aaaaaa', trigger: 'timer', configPath: '/k.yaml' });
const NO_CHAINS: Chain[] = [];

const resultOf = async (...parts: ReportPart[]) => {
  const { result, exitStatus } = await reportOf(heading, parts);
  return [result, exitStatus];
};

describe('the report of a run', () => {
  it('that nobody said anything of is one that failed', async () => {
    assert.deepEqual(await resultOf(), ['failed', 0]);
  });

  it('has what each stage said, in their order', async () => {
    const report = await reportOf(heading, [
      { warnings: [{ message: 'a' }] },
      { warnings: [{ message: 'b' }], errors: [{ message: 'c' }], exitStatus: EXIT.config },
      { result: 'changed', steps: [ADDED] },
      failed('d'),
    ]);
    assert.deepEqual(report.warnings, [{ message: 'a' }, { message: 'b' }]);
    assert.deepEqual(report.errors, [{ message: 'c' }, { message: 'd' }]);
    assert.deepEqual(report.steps, [{ kind: 'add-address', text: '+ address 203.0.113.50/32 on eth0' }]);
    assert.deepEqual([report.result, report.exitStatus], ['failed', 69]);
  });

  it('is of the command that an operator knows', () => {
    assert.equal(heading.command, 'rollback');
  });

  it('has changed something where a stage before the last did', async () => {
    assert.deepEqual(await resultOf({ steps: [ADDED] }, { result: 'unchanged' }), ['changed', 0]);
    assert.deepEqual(await resultOf({ steps: [] }, { result: 'unchanged' }), ['unchanged', 0]);
  });

  it('says of one that was rolled back just that', async () => {
    assert.deepEqual(await resultOf({ result: 'rolled-back', steps: [ADDED] }, failed('a')), ['rolled-back', 69]);
  });

  it('advises what the last stage did', async () => {
    const { advice } = await reportOf(heading, [{ advice: 'a' }, { advice: 'b' }, { result: 'changed' }]);
    assert.equal(advice, 'b');
  });

  it('has the words of an operator where chains were looked at, for all of its steps', async () => {
    const plain = await reportOf(heading, [{ steps: [ADDED] }]);
    assert.equal(plain.summary, undefined);
    const both = await reportOf(heading, [{ steps: [ADDED] }, { steps: [ADDED], chains: NO_CHAINS }]);
    assert.equal(both.summary?.length, 2);
    assert.deepEqual(summaryOf(plain), ['+ address 203.0.113.50/32 on eth0']);
  });
});
