import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { parseBridges, transaction } from '../../src/dialects/ovs.ts';

describe('what ovs-vsctl lists', () => {
  it('is bridges with their ports, without the port that is the bridge itself', () => {
    // ovs-vsctl 3.1.0, verbatim but for the UUIDs.
    const text = `{"data":[[["uuid","a"],"br-int",["uuid","a1"]],[["uuid","b"],"br-ex",["set",[["uuid","b1"],["uuid","b2"]]]]],"headings":["_uuid","name","ports"]}
{"data":[[["uuid","a1"],"br-int"],[["uuid","b2"],"br-ex"],[["uuid","b1"],"eth0"]],"headings":["_uuid","name"]}
`;
    assert.deepEqual(parseBridges(text), [
      { name: 'br-int', ports: [], uuid: 'a' },
      { name: 'br-ex', ports: ['eth0'], uuid: 'b' },
    ]);
  });

  it('is nothing where there is none', () => {
    assert.deepEqual(
      parseBridges('{"data":[],"headings":["_uuid","name","ports"]}\n{"data":[],"headings":["_uuid","name"]}\n'),
      [],
    );
  });
});

it('one transaction does several steps', () => {
  const port = { device: 'eth0', bridge: 'br-ex', type: 'ovs' as const };
  assert.equal(
    transaction([
      { kind: 'add-bridge', bridge: { name: 'br-ex', type: 'ovs', mac: '02:00:00:00:00:00' } },
      { kind: 'add-port', port },
    ]).join(' '),
    '--may-exist add-br br-ex -- set Bridge br-ex other-config:hwaddr="02:00:00:00:00:00" -- --may-exist add-port br-ex eth0',
  );
  assert.equal(
    transaction([
      { kind: 'remove-port', port },
      { kind: 'remove-bridge', bridge: { name: 'br-ex', type: 'ovs' } },
    ]).join(' '),
    '--if-exists del-port br-ex eth0 -- --if-exists del-br br-ex',
  );
});
