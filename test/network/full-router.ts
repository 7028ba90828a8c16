// A configuration with one of everything that makes rules, addresses or routes.

import type { Config } from '../../src/config/config.ts';
import { renderRestore } from '../../src/dialects/iptables.ts';
import { engine } from '../../src/engines/in-use.ts';
import type { NetworkState } from '../../src/network/state.ts';
import { planSteps } from '../../src/planning/plan.ts';
import { config, forward, SECOND_UPLINK, SUBNET_A, SUBNET_B, UPLINK } from './fixtures.ts';
import { emptyObservation, isFirewallStep } from './machine.ts';

export const FULL_ROUTER: Config = config({
  nics: [UPLINK, { ...SUBNET_A, mtu: 1450 }, SUBNET_B, SECOND_UPLINK],
  eips: [
    { eip: '198.51.100.5', vmIp: '192.0.2.5' },
    { eip: '198.51.100.21', vmIp: '192.0.2.5' },
    { eip: '203.0.113.70', vmIp: '192.0.2.70' },
  ],
  forwards: [
    'tcp 198.51.100.80:443 → 192.0.2.6:443',
    'tcp 198.51.100.80:80-82 → 192.0.2.71:8080',
    'udp 198.51.100.80:6000-6002 → 192.0.2.6:6000',
    'tcp 203.0.113.10:8443 → 192.0.2.6:443',
    // Without effect: 1:1 wins.
    'tcp 198.51.100.5:80 → 192.0.2.6:80',
    ...Array.from({ length: 17 }, (_, n) => `udp 198.51.100.81:${7000 + 10 * n} → 192.0.2.6:${7000 + n}`),
  ].map(forward),
  routes: [{ dest: '198.18.5.0/24', via: '192.0.2.9' }],
  snats: [
    { source: '198.18.5.0/24', to: { address: '198.51.100.40' } },
    { source: '192.0.2.64/26', to: 'masquerade' },
    { source: '192.0.2.7/32', to: 'none' },
  ],
});

/** The input of the restore that makes all rules of a state on a machine that has none of ours. */
export const restoreOf = (state: NetworkState): string =>
  renderRestore(
    planSteps(
      { ...state, sysctls: [], links: [], addresses: [], routes: [], files: [] },
      emptyObservation,
      engine,
    ).filter(isFirewallStep),
  );
