import assert from 'node:assert/strict';
import { it } from 'node:test';
import { parseDevices } from '../../src/dialects/nmcli.ts';

const [OURS, OTHER] = ['bb33ffdd-d0b5-538a-a77c-a206dbb62105', 'c77e5af1-75e8-4a0d-b255-02198ec742e4'];

it('a device is managed unless it is left alone or has no carrier, and active with the profile that NetworkManager chose', () => {
  const text = [
    `eth0:connected:${OURS}`,
    `eth1:connecting (getting IP configuration):${OURS}`,
    `eth2:connected (externally):${OTHER}`,
    'eth3:disconnected:',
    'eth4:unavailable:',
    'eth5:unmanaged:',
    `eth6:deactivating:${OURS}`,
    'eth7\\:1:disconnected:',
    '',
  ].join('\n');
  assert.deepEqual(
    [...parseDevices(text)],
    [
      ['eth0', { active: true, profile: OURS }],
      ['eth1', { active: true, profile: OURS }],
      ['eth2', { active: false, external: true }],
      ['eth3', { active: false }],
      ['eth6', { active: false }],
    ],
  );
});

it('what nmcli prints without NetworkManager is no device', () => {
  assert.deepEqual([...parseDevices('')], []);
});
