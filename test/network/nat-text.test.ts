// The whole text of the rules, as it goes to iptables-restore. UPDATE_GOLDEN=1 rewrites it: review the difference as code.

import assert from 'node:assert/strict';
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { it } from 'node:test';
import { desired } from './fixtures.ts';
import { FULL_ROUTER, restoreOf } from './full-router.ts';

it('a router with one of everything has these rules', () => {
  const golden = join(import.meta.dirname, 'golden/full-router.iptables');
  const text = restoreOf(desired(FULL_ROUTER));
  if (process.env.UPDATE_GOLDEN) writeFileSync(golden, text);
  assert.equal(text, readFileSync(golden, 'utf8'));
});

it('a router without an uplink has rules for forwarding only', () => {
  const nics = FULL_ROUTER.nics.filter(({ gateway }) => gateway === undefined);
  assert.equal(
    restoreOf(desired({ ...FULL_ROUTER, nics })),
    `*filter
:KYLIN-VR-FORWARD - [0:0]
:KYLIN-VR-FORWARD-TO - [0:0]
-A KYLIN-VR-FORWARD -i eth1 -j KYLIN-VR-FORWARD-TO
-A KYLIN-VR-FORWARD -i eth2 -j KYLIN-VR-FORWARD-TO
-A KYLIN-VR-FORWARD-TO -o eth1 -j ACCEPT
-A KYLIN-VR-FORWARD-TO -o eth2 -j ACCEPT
-A FORWARD -j KYLIN-VR-FORWARD
COMMIT
`,
  );
});

it('a router without NICs has no rules', () => {
  assert.equal(restoreOf(desired({ ...FULL_ROUTER, nics: [] })), '');
});
