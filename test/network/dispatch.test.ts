import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import fc from 'fast-check';
import { formatIpv4, ipv4, networkOf } from '../../src/base/ipv4.ts';
import { type Dispatch, dispatchChains } from '../../src/engines/iptables/dispatch.ts';
import { destinationOf, type Packet } from './packet-trace.ts';

const TO_VMS: Dispatch = { table: 'nat', root: 'KYLIN-VR-DNAT', letter: 'D', match: '-d' };
const leaf = (address: string, vm = '192.0.2.5') => ({
  address: ipv4(address),
  verdict: `-j DNAT --to-destination ${vm}`,
});
const packetTo = (to: string): Packet => ({ from: '203.0.113.200', to, protocol: 'tcp', port: 80 });

describe('dispatch by address', () => {
  it('goes by /24, then /28, then the address', () => {
    const chains = dispatchChains(TO_VMS, [
      leaf('198.51.100.20'),
      leaf('203.0.113.50'),
      leaf('198.51.100.17'),
      leaf('198.51.100.3'),
    ]);
    assert.deepEqual(
      chains.map(({ name, rules }) => [name, ...rules]),
      [
        [
          'KYLIN-VR-DNAT',
          '-d 198.51.100.0/24 -j KYLIN-VR-D24-198.51.100.0',
          '-d 203.0.113.0/24 -j KYLIN-VR-D24-203.0.113.0',
        ],
        [
          'KYLIN-VR-D24-198.51.100.0',
          '-d 198.51.100.0/28 -j KYLIN-VR-D28-198.51.100.0',
          '-d 198.51.100.16/28 -j KYLIN-VR-D28-198.51.100.16',
        ],
        ['KYLIN-VR-D28-198.51.100.0', '-d 198.51.100.3/32 -j DNAT --to-destination 192.0.2.5'],
        [
          'KYLIN-VR-D28-198.51.100.16',
          '-d 198.51.100.17/32 -j DNAT --to-destination 192.0.2.5',
          '-d 198.51.100.20/32 -j DNAT --to-destination 192.0.2.5',
        ],
        ['KYLIN-VR-D24-203.0.113.0', '-d 203.0.113.48/28 -j KYLIN-VR-D28-203.0.113.48'],
        ['KYLIN-VR-D28-203.0.113.48', '-d 203.0.113.50/32 -j DNAT --to-destination 192.0.2.5'],
      ],
    );
  });

  it('has its root chain even when there is nothing to dispatch: a jump to it is never a jump to nowhere', () => {
    assert.deepEqual(dispatchChains(TO_VMS, []), [{ table: 'nat', name: 'KYLIN-VR-DNAT', rules: [], ordered: false }]);
  });

  it('has names of 28 characters at the most, which is what the kernel takes', () => {
    const names = dispatchChains(TO_VMS, [leaf('255.255.255.255'), leaf('223.255.255.254')]).map(({ name }) => name);
    assert.deepEqual(
      names.filter((name) => name.length > 28),
      [],
    );
    assert.equal(Math.max(...names.map((name) => name.length)), 28);
  });

  const addresses = fc.uniqueArray(
    fc.oneof(
      fc.ipV4(),
      fc.nat(511).map((last) => formatIpv4(ipv4('198.51.100.0') + last)),
    ),
    { maxLength: 60 },
  );

  it('leads each address to its own verdict by three rules, and every other address nowhere', () => {
    fc.assert(
      fc.property(addresses, fc.array(fc.ipV4()), (eips, others) => {
        const chains = dispatchChains(
          TO_VMS,
          eips.map((eip) => leaf(eip, eip)),
        );
        const lead = destinationOf(chains, TO_VMS.root);
        for (const eip of eips) assert.equal(lead({ ...packetTo(eip) }), `${eip}:80`);
        for (const other of others) if (!eips.includes(other)) assert.equal(lead(packetTo(other)), undefined);
        const matching = (eip: string) =>
          chains
            .flatMap(({ rules }) => rules)
            .filter((rule) => {
              const [, address = '', prefix] = /^-d ([\d.]+)\/(\d+) /.exec(rule) ?? [];
              return networkOf(ipv4(eip), Number(prefix)).base === ipv4(address);
            });
        for (const eip of eips) assert.equal(matching(eip).length, 3, `rules that match ${eip}`);
      }),
    );
  });

  it('does not depend on the order of the addresses', () => {
    fc.assert(
      fc.property(addresses, (eips) => {
        const there = eips.map((eip) => leaf(eip));
        assert.deepEqual(dispatchChains(TO_VMS, there.toReversed()), dispatchChains(TO_VMS, there));
      }),
    );
  });

  it('with one address more has all chains and rules that it had, and three rules more at the most', () => {
    fc.assert(
      fc.property(addresses, fc.ipV4(), (eips, added) => {
        fc.pre(!eips.includes(added));
        const lines = (all: readonly string[]) =>
          dispatchChains(
            TO_VMS,
            all.map((eip) => leaf(eip)),
          ).flatMap(({ name, rules }) => rules.map((rule) => `${name} ${rule}`));
        const [before, after] = [lines(eips), new Set(lines([...eips, added]))];
        assert.deepEqual(
          before.filter((line) => !after.has(line)),
          [],
        );
        assert.ok(after.size - before.length <= 3);
      }),
    );
  });
});
