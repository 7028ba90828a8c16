// What is to come back where a change is taken back. Pure.

import { withWords } from '../dialects/foreign.ts';
import type { Checkpoint } from '../machine/checkpoint.ts';
import type { Machine } from '../machine/observe.ts';
import { usedNics } from '../network/nics.ts';
import type { Observation } from '../network/observation.ts';
import { profileUuid, type Renderer } from '../network/renderer.ts';
import {
  type Address,
  addressKey,
  type Bridge,
  type NetworkState,
  type Profile,
  routeTargetKey,
} from '../network/state.ts';
import type { Ways } from '../network/translation.ts';
import { type Left, ourRoutes, withStayed } from '../planning/return.ts';
import type { Survey } from './survey.ts';

export function checkpointOf(first: Survey, renderer: Renderer, ways: Ways): Checkpoint {
  const { binding, machine } = first;
  return {
    renderer: renderer.name,
    bound: usedNics(binding),
    ...withStayed(stateBefore(first), machine.addresses, first.observation),
    left: leftBy(first.desired),
    owned: machine.owned,
    ways,
  };
}

export const leftBy = ({ links, sysctls }: NetworkState): Left => ({ links, sysctls });

/** What was there, foreign profiles that were put aside included. */
function stateBefore({ machine, observation, binding, desired }: Survey): NetworkState {
  const { state, claims, managers } = observation;
  const files = [...state.files, ...claims.map(({ path, content, mode }) => ({ path, content, mode }))];
  const profiles = usedNics(binding).flatMap(({ device, mac }): Profile[] => {
    if (!managers.has(device)) return [];
    const ours = profileUuid(mac);
    const uuid =
      managers.get(device)?.profile ?? (files.some(({ content }) => content.includes(ours)) ? ours : undefined);
    return uuid === undefined ? [] : [{ device, uuid }];
  });
  // Those of others are no part of it, see Others; but one of a foreign profile that leads where one of ours is about to is ours by then.
  const ownedRoutes = new Set([...observation.ownedRoutes, ...desired.routes.map(routeTargetKey)]);
  const addresses = withWords(
    [...state.addresses, ...takenOver(machine, desired, observation)],
    machine.printedAddresses,
  );
  // One that is made anew is known to neighbours by the MAC that it has, and its IPv6 is made of that.
  const bridges = state.bridges.map((bridge): Bridge => {
    const mac = machine.links.find(({ device }) => device === bridge.name)?.mac;
    return mac === undefined ? bridge : { ...bridge, mac };
  });
  return { ...state, bridges, files, profiles, addresses, routes: ourRoutes(state.routes, { ownedRoutes }) };
}

/** Leases that are to be addresses of ours for good. NetworkManager gets its own again by its profile. */
function takenOver({ addresses }: Machine, desired: NetworkState, { owned, managers }: Observation): Address[] {
  if (!addresses.some(({ dynamic }) => dynamic)) return [];
  const wanted = new Set(desired.addresses.map(addressKey));
  return addresses
    .filter(({ dynamic, device }) => dynamic && !managers.has(device))
    .filter((address) => wanted.has(addressKey(address)) && !owned.has(addressKey(address)))
    .map(({ device, spec }) => ({ device, spec, foreign: true }));
}
