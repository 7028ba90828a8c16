import assert from 'node:assert/strict';
import { it } from 'node:test';
import { outOfSupport } from '../../src/installation/node.ts';

it('says of a Node that nobody mends any more when that ended, and what to do', () => {
  const said = (version: string, day: string) => outOfSupport(version, new Date(`${day}T12:00:00Z`));
  assert.equal(
    said('v20.20.2', '2026-05-01'),
    'Node 20.20.2 had its last security release by 2026-04-30: give the guest a later one, or use the package ' +
      'kylin-vr-standalone, which brings its own',
  );
  assert.equal(said('v20.20.2', '2026-04-30'), undefined);
  assert.equal(said('v24.1.0', '2026-12-01'), undefined);
  assert.match(said('v25.0.0', '2026-12-01') ?? '', /^Node 25/);
  // What came later than this is not known.
  assert.equal(said('v99.0.0', '2090-01-01'), undefined);
});
