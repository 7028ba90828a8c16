import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { parseBridges, transaction, withoutAdded } from '../../src/dialects/ovs.ts';

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

  it('is what is not just a link that is a port, and what it has not got to work', () => {
    const text = `{"data":[[["uuid","b"],"br-y",["set",[["uuid","b1"],["uuid","b2"],["uuid","b3"],["uuid","b4"],["uuid","b5"]]]]],"headings":["_uuid","name","ports"]}
{"data":[[["uuid","b1"],"br-y",["uuid","i1"]],[["uuid","b2"],"bond0",["set",[["uuid","i2"],["uuid","i3"]]]],[["uuid","b3"],"p1",["uuid","i4"]],[["uuid","b4"],"eth4",["uuid","i5"]],[["uuid","b5"],"eth5",["uuid","i6"]]],"headings":["_uuid","name","interfaces"]}
{"data":[[["uuid","i1"],"br-y","internal",["set",[]],["set",[]]],[["uuid","i2"],"eth1","",1,["set",[]]],[["uuid","i3"],"eth2","",2,["set",[]]],[["uuid","i4"],"eth3","system",3,["set",[]]],[["uuid","i5"],"eth4","patch",4,["set",[]]],[["uuid","i6"],"eth5","",-1,"could not open network device eth5 (No such device)"]],"headings":["_uuid","name","type","ofport","error"]}
{"data":[["m0",["uuid","b5"]],["m1",["set",[]]]],"headings":["name","output_port"]}
`;
    assert.deepEqual(parseBridges(text), [
      {
        name: 'br-y',
        ports: ['bond0', 'eth4', 'eth5', 'p1'],
        uuid: 'b',
        odd: [
          { device: 'eth1', port: 'bond0', as: 'bond' },
          { device: 'eth2', port: 'bond0', as: 'bond' },
          { device: 'eth3', port: 'p1', as: 'name' },
          { device: 'eth4', port: 'eth4', as: 'type', of: 'patch' },
          { device: 'eth5', port: 'eth5', as: 'mirror', of: 'm0' },
        ],
        refused: [
          { name: 'br-y', error: '' },
          { name: 'eth5', error: 'could not open network device eth5 (No such device)' },
        ],
      },
    ]);
  });

  it('is nothing where there is none', () => {
    assert.deepEqual(
      parseBridges('{"data":[],"headings":["_uuid","name","ports"]}\n{"data":[],"headings":["_uuid","name"]}\n'),
      [],
    );
  });
});

it('what was added goes again, but no bridge in which there is more by now', () => {
  const bridge = { name: 'br-ex', type: 'ovs' as const };
  const port = { device: 'eth0', bridge: 'br-ex', type: 'ovs' as const };
  const added = [{ kind: 'add-bridge', bridge } as const, { kind: 'add-port', port } as const];
  const back = (...ports: string[]) => transaction(withoutAdded(added, [{ name: 'br-ex', ports }])).join(' ');
  assert.equal(back('eth0'), '--if-exists del-port br-ex eth0 -- --if-exists del-br br-ex');
  assert.equal(back(), '--if-exists del-br br-ex');
  assert.equal(back('eth0', 'tap1'), '--if-exists del-port br-ex eth0');
  assert.deepEqual(withoutAdded(added, []), []);
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
