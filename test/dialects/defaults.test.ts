import assert from 'node:assert/strict';
import { test } from 'node:test';
import { defaultsFile } from '../../src/dialects/defaults.ts';

test('what holds for our NICs in place of defaults, by their MACs, and by the names of those that have none of their hardware', () => {
  const { content, mode } = defaultsFile([{ mac: '52:54:84:00:08:46' }, { mac: '52:54:84:11:00:04' }], ['eth1']);
  assert.equal(mode, 0o644);
  assert.equal(
    content,
    `# Made by kylin-vr from /etc/kylin-vr/kylin-vr.yaml: edits are lost with the next reload.
[connection-kylin-vr]
match-device=mac:52:54:84:00:08:46;mac:52:54:84:11:00:04;interface-name:=eth1
ethernet.cloned-mac-address=preserve
ipv4.route-table=0
`,
  );
});
