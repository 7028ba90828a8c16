import assert from 'node:assert/strict';
import { it } from 'node:test';
import { isLoaded, loadFiles, parsePath, reapplyPreserving } from '../../src/dialects/busctl.ts';

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
