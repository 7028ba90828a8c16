// What is wrong between routes, and between routes and NICs.

import { formatNetwork, ipv4, withinAny } from '../network/ipv4.ts';
import { byAddress, type Draft, destOf, issue, named, own, type Rule, repeats, usedBefore } from './draft.ts';

export const ROUTE_RULES: readonly Rule[] = [
  { severity: 'errors', find: destTwice },
  { severity: 'errors', find: destIsOwnNetwork },
  { severity: 'errors', find: defaultRouteBesideUplink },
  { severity: 'errors', find: viaIsRouter },
  { severity: 'errors', needsWhole: true, find: viaOutOfReach },
];

function* destTwice({ routes }: Draft) {
  for (const [route, first] of repeats(routes, ({ dest }) => dest))
    yield usedBefore(route, 'dest', route.value.dest, first);
}

function* destIsOwnNetwork({ nics, routes }: Draft) {
  const owners = new Map(nics.map((nic) => [formatNetwork(own(nic.value)), nic]));
  for (const route of routes) {
    const nic = owners.get(route.value.dest);
    if (nic !== undefined)
      yield issue(route.at('dest'), `${route.value.dest} is the own network of ${named(nic.at())}`);
  }
}

function* defaultRouteBesideUplink({ nics, routes }: Draft) {
  const uplink = nics.find((nic) => nic.value.gateway !== undefined);
  if (uplink === undefined) return;
  for (const route of routes) {
    if (destOf(route.value).prefix > 0) continue;
    yield issue(
      route.at('dest'),
      `must not be ${route.value.dest}: the default route is the uplink's, ${named(uplink.at('gateway'))}`,
    );
  }
}

function* viaIsRouter({ nics, routes }: Draft) {
  const owners = byAddress(nics);
  for (const route of routes) {
    const owner = owners.get(route.value.via);
    if (owner !== undefined) {
      yield issue(
        route.at('via'),
        `must be another machine, is ${route.value.via}, the router's own ${named(owner.at('ipaddr'))}`,
      );
    }
  }
}

function* viaOutOfReach({ nics, routes }: Draft) {
  const reached = withinAny(nics.map((nic) => own(nic.value)));
  for (const route of routes) {
    if (reached(ipv4(route.value.via))) continue;
    yield issue(route.at('via'), `must be in the network of a NIC of if_list, is ${route.value.via}`);
  }
}
