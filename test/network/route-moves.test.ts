import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { parseForeignRoutes } from '../../src/dialects/foreign.ts';
import { routeMoves } from '../../src/network/route-moves.ts';
import { emptyState } from '../../src/network/state.ts';
import { emptyObservation } from './machine.ts';

const OURS = '203.0.113.37/24';
const THEIRS = '192.0.2.99/24';

function movesOf(routes: string[], others: string[] = [], wanted = [OURS]) {
  const desired = {
    ...emptyState,
    ports: [{ device: 'eth0', bridge: 'br-ex', type: 'linux' as const }],
    addresses: wanted.map((spec) => ({ device: 'br-ex', spec })),
  };
  const addresses = [OURS, ...others].map((spec) => ({
    kind: 'address' as const,
    family: 4 as const,
    device: 'eth0',
    words: `${spec} dev eth0 scope global`,
  }));
  const observation = { ...emptyObservation, onBridges: [...addresses, ...parseForeignRoutes(routes.join('\n'), 4)] };
  const { steps, ending, staying } = routeMoves(desired, observation, [{ device: 'eth0', spec: OURS }]);
  return {
    steps: steps.map(({ way }) => `${way?.there.words}${way?.endsByItself ? '' : ' (removed)'}`),
    ending: ending.map(({ words }) => words),
    staying: staying.map(({ words }) => words),
  };
}

describe('routes of others, when their NIC becomes a port', () => {
  it('go along, what a gateway is known by first; ours and those of the kernel do not', () => {
    const { steps } = movesOf([
      'default via 198.51.100.1 dev eth0 table 100 proto static',
      '198.51.100.1 dev eth0 table 100 proto boot scope link',
      '203.0.113.0/24 dev eth0 table main proto kernel scope link src 203.0.113.37',
      'default via 203.0.113.1 dev eth0 table main proto 175',
    ]);
    assert.deepEqual(steps, [
      '198.51.100.1 dev br-ex table 100 proto boot scope link',
      'default via 198.51.100.1 dev br-ex table 100 proto static',
    ]);
  });

  it('have onlink where nothing leads to the gateway; those by objects of next hops go with these; one by two NICs is replaced', () => {
    const { steps } = movesOf([
      '10.1.0.0/16 via 198.51.100.9 dev eth0 table main proto boot',
      '10.3.0.0/16 nhid 7 via 198.51.100.9 dev eth0 table main proto boot',
      '10.4.0.0/16 nhid 8 table main proto boot \n\tnh_info id 8 group 7/9 \\\tnexthop via 203.0.113.1 dev eth0 weight 1',
      '10.2.0.0/16 proto boot \\\tnexthop via 10.0.0.1 dev eth1 weight 1 \\\tnexthop via 203.0.113.1 dev eth0 weight 1',
    ]);
    assert.deepEqual(steps, [
      '10.1.0.0/16 via 198.51.100.9 dev br-ex onlink proto boot',
      '10.2.0.0/16 proto boot nexthop via 10.0.0.1 dev eth1 weight 1 nexthop via 203.0.113.1 dev br-ex weight 1 (removed)',
    ]);
  });

  it('stay with an address of others that they go by, and end with a source that goes', () => {
    const routes = [
      '10.1.0.0/16 via 192.0.2.1 dev eth0 proto boot',
      '10.2.0.0/16 via 203.0.113.1 dev eth0 proto boot src 192.0.2.99',
      '10.3.0.0/16 via 203.0.113.1 dev eth0 proto boot',
      '10.4.0.0/16 via 203.0.113.1 dev eth0 proto boot src 203.0.113.37',
    ];
    assert.deepEqual(movesOf(routes, [THEIRS]), {
      steps: [routes[2], routes[3]].map((words) => `${words?.replace('eth0', 'br-ex')} (removed)`),
      ending: [],
      staying: [routes[0], routes[1]],
    });
    assert.deepEqual(movesOf(routes, [THEIRS], ['203.0.113.38/24']).ending, [routes[3]]);
  });
});
