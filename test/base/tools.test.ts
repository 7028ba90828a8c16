// What an operator is told to install, and what the packages require.

import assert from 'node:assert/strict';
import { it } from 'node:test';
import { isTool, packageOf, packagesOf } from '../../src/base/tools.ts';

it('a package that has another name on RPM systems is said by both', () => {
  assert.equal(packageOf('ip'), 'iproute2 (iproute on RPM systems)');
  assert.equal(packageOf('iptables-save'), 'iptables');
});

it('a package requires each other one once', () => {
  assert.deepEqual(packagesOf('deb'), ['iproute2', 'iptables', 'conntrack', 'iputils-arping']);
  assert.deepEqual(packagesOf('rpm'), ['iproute', 'iptables', 'conntrack-tools', 'iputils']);
});

it('no property of every object is a tool', () => {
  assert.deepEqual(['arping', 'nmcli', 'constructor'].map(isTool), [true, false, false]);
});
