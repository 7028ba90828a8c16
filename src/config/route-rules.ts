// What is wrong between routes, and between routes and NICs.

import { contains, formatNetwork, ipv4, type Network, parseCidr, withinAny } from '../base/ipv4.ts';
import { byAddress, configOf, type Draft, destOf, issue, named, own, type Rule, repeats, usedBefore } from './draft.ts';
import { insideNetworks } from './inside.ts';

export const ROUTE_RULES: readonly Rule[] = [
  { severity: 'errors', find: destTwice },
  { severity: 'errors', find: destIsOwnNetwork },
  { severity: 'errors', find: defaultRouteBesideUplink },
  { severity: 'errors', find: viaIsRouter },
  { severity: 'errors', needsWhole: true, find: viaOutOfReach },
  { severity: 'notes', needsWhole: true, find: destIsInside },
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

/** 1.0 translated the subnets' own networks only: a file that was written for it may not mean this. */
function* destIsInside(draft: Draft) {
  const { nics, routes, snats = [] } = draft;
  const uplink = nics.find((nic) => nic.value.gateway !== undefined)?.value;
  if (uplink === undefined || draft.snats?.length === 0 || routes.length === 0) return;
  const inside = insideNetworks(configOf(draft));
  const subnetOf = new Map(inside.map(({ network, subnet }) => [formatNetwork(network), subnet]));
  const networks = nics.filter((nic) => nic.value.gateway === undefined).map((nic) => own(nic.value));
  const told = [...networks, ...snats.map(({ value }) => parseCidr(value.source) ?? { base: 0, prefix: 0 })];
  for (const route of routes) {
    const { dest } = route.value;
    const subnet = subnetOf.get(dest);
    if (subnet === undefined || told.some((network) => holds(network, destOf(route.value)))) continue;
    const to = snats.find(({ value }) => value.source === formatNetwork(own(subnet)))?.value.to;
    if (to === 'none') continue;
    const source = typeof to === 'object' ? to.address : uplink.ipaddr;
    yield issue(
      route.at('dest'),
      `hosts behind ${dest} leave by the uplink as those of their subnet do, with the source ${source} ` +
        `(1.0 kept their own): { source: ${dest}, to: none } in snat_list keeps it`,
    );
  }
}

const holds = (outer: Network, inner: Network): boolean => outer.prefix <= inner.prefix && contains(outer, inner.base);
