// What the tests of planning share.

import type { Observation } from '../../src/network/observation.ts';
import { planSteps } from '../../src/network/plan.ts';
import {
  type Address,
  addressKey,
  emptyState,
  type NetworkState,
  ROUTE_PROTOCOL,
  type Route,
} from '../../src/network/state.ts';
import { describe as line } from '../../src/network/step.ts';
import { emptyObservation } from './machine.ts';

export const state = (change: Partial<NetworkState> = {}): NetworkState => ({ ...emptyState, ...change });

export const address = (text: string): Address => {
  const [spec = '', device = ''] = text.split(' on ');
  return { device, spec };
};

/** `default via 203.0.113.1 on eth0 metric 100 proto dhcp`; without proto it is ours. */
export const route = (text: string): Route => {
  const [, dest = '', via = '', device = '', metric = 0, protocol = ROUTE_PROTOCOL] =
    /^(\S+) via (\S+) on (\S+)(?: metric (\d+))?(?: proto (\S+))?$/.exec(text) ?? [];
  return { dest, via, device, metric: Number(metric), protocol };
};

type Found = Partial<Omit<Observation, 'state' | 'owned'>> & { foreign?: readonly string[] } & Partial<NetworkState>;

/** The lines of the plan; every address that is there is ours, unless it is listed as foreign. */
export function plan(desired: Partial<NetworkState>, found: Found): string[] {
  const { links = [], hooks = [], claims = [], strays = [], foreign = [], ...observed } = found;
  const owned = new Set(
    (observed.addresses ?? [])
      .map(addressKey)
      .filter((key) => !foreign.some((text) => addressKey(address(text)) === key)),
  );
  const observation = { ...emptyObservation, hooks, claims, strays, owned, state: state(observed) };
  return planSteps(state(desired), observation).map(line);
}
