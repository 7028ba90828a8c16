import assert from 'node:assert/strict';
import { it } from 'node:test';
import { isLoaded, isMadeUp, loadFiles, parsePath, reapplyPreserving } from '../../src/dialects/busctl.ts';

it('files are read where NetworkManager says so, and names none that it does not read', () => {
  assert.deepEqual(loadFiles(['/a b', '/c']).slice(-4), ['as', '2', '/a b', '/c']);
  assert.equal(isLoaded('bas true 0\n'), true);
  assert.equal(isLoaded('bas false 1 "/c"\n'), false);
  assert.equal(isLoaded('bas true 1 "/c"\n'), false);
  assert.equal(isLoaded(''), false);
});

it('a device has a path, or none is understood', () => {
  const path = '/org/freedesktop/NetworkManager/Devices/2';
  assert.equal(parsePath(`o "${path}"\n`), path);
  for (const text of ['', 's "eth0"', `o "${path}" "more"`, 'o "/; reboot"']) assert.equal(parsePath(text), undefined);
});

it('it is a call that starts nothing, of the active profile, with the flag', () => {
  assert.equal(
    reapplyPreserving('/device').join(' '),
    'busctl --auto-start=no call org.freedesktop.NetworkManager /device org.freedesktop.NetworkManager.Device Reapply a{sa{sv}}tu 0 0 1',
  );
});

it('a profile is made up for what somebody else set up where it is generated, and goes with that', () => {
  // Unsaved, generated, volatile; from 1.26 on external too.
  for (const text of ['u 7\n', 'u 15\n', 'u 6\n']) assert.equal(isMadeUp(text), true, text);
  // Of a file; in memory; for DHCP on a new NIC; by hand, until it is disconnected.
  for (const text of ['u 0\n', 'u 1\n', 'u 3\n', 'u 5\n', '', 's "7"']) assert.equal(isMadeUp(text), false, text);
});
