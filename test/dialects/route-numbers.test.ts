import assert from 'node:assert/strict';
import { it } from 'node:test';
import { byNumbers } from '../../src/dialects/route-numbers.ts';

it('protocols and scopes of routes and neighbours are numbers, line by line', () => {
  assert.equal(
    byNumbers(
      'route append 10.0.0.0/8 dev eth0 proto boot scope link\nroute delete ::/0 dev eth0 proto ra\nneighbour replace 10.0.0.9 protocol zebra',
    ),
    'route append 10.0.0.0/8 dev eth0 proto 3 scope 253\nroute delete ::/0 dev eth0 proto 9\nneighbour replace 10.0.0.9 protocol 11',
  );
});

it('what is a number stays, so do addresses, and what a device or a table is called', () => {
  for (const line of [
    'route append 10.0.0.0/8 dev eth0 proto 175 scope 50',
    'address replace 10.0.0.1/8 dev eth0 scope link proto mine',
    'route append 10.0.0.0/8 dev proto table scope',
    'link set dev eth0 up',
  ])
    assert.equal(byNumbers(line), line);
});

it('a name that is of this machine alone is known to its ip only', () => {
  assert.equal(byNumbers('route append 10.0.0.0/8 dev eth0 proto mine'), undefined);
  assert.equal(byNumbers('route append 10.0.0.0/8 dev eth0 scope here'), undefined);
});
