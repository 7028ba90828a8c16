// What the tests of planning share.

import { engine } from '../../src/engines/in-use.ts';
import { describe as line } from '../../src/network/kinds.ts';
import type { Observation } from '../../src/network/observation.ts';
import {
  type Address,
  addressKey,
  emptyState,
  type NetworkState,
  ROUTE_PROTOCOL,
  type Route,
  routeTargetKey,
} from '../../src/network/state.ts';
import { planSteps } from '../../src/planning/plan.ts';
import { emptyObservation } from './machine.ts';

export const state = (change: Partial<NetworkState> = {}): NetworkState => ({ ...emptyState, ...change });

export const address = (text: string): Address => {
  const [spec = '', device = ''] = text.split(' on ');
  return { device, spec };
};

/** `default via 203.0.113.1 on eth0 metric 100 proto dhcp src 203.0.113.77`; without proto it is ours. */
export const route = (text: string): Route => {
  const [, dest = '', via = '', device = '', metric = 0, protocol = ROUTE_PROTOCOL, source] =
    /^(\S+) via (\S+) on (\S+)(?: metric (\d+))?(?: proto (\S+))?(?: src (\S+))?$/.exec(text) ?? [];
  return { dest, via, device, metric: Number(metric), protocol, ...(source !== undefined && { source }) };
};

type Found = Partial<Omit<Observation, 'state' | 'owned' | 'ownedRoutes'>> & {
  foreign?: readonly string[];
  recorded?: readonly string[];
} & Partial<NetworkState>;

/** The lines of the plan; every address that is there is ours, unless it is listed as foreign, and routes that are recorded. */
export function plan(desired: Partial<NetworkState>, found: Found): string[] {
  const { links = [], hooks = [], claims = [], strays = [], foreign = [], recorded = [], ...observed } = found;
  const owned = new Set(
    (observed.addresses ?? [])
      .map(addressKey)
      .filter((key) => !foreign.some((text) => addressKey(address(text)) === key)),
  );
  const ownedRoutes = new Set(recorded.map((text) => routeTargetKey(route(text))));
  const observation = { ...emptyObservation, hooks, claims, strays, owned, ownedRoutes, state: state(observed) };
  return planSteps(state(desired), observation, engine).map(line);
}
