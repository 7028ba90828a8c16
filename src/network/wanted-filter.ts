// Config and NICs → what the packet filter is to do. Pure.

import { contains, coverOf, ipv4, type Network, networkOf, parseCidr, withinAny } from '../base/ipv4.ts';
import type { Config, Nic } from '../config/config.ts';
import { insideNetworks, outward } from '../config/inside.ts';
import { elasticAddresses } from './elastic.ts';
import type { Filter, Guard, Translation } from './filter.ts';
import type { BoundNic } from './nics.ts';
import { translationOf, type Ways } from './translation.ts';

/** What is known of the machine beside its NICs. */
export type Around = {
  /** Where routes of others lead by an uplink. */
  elsewhere: readonly Network[];
  /** Elastic addresses that stay, though the NIC that they are on is not used. */
  exposed: readonly string[];
};

/**
 * For the NICs that are there, each as what its addresses are on. Where the configuration has no uplink, or it is pending, nothing is
 * mapped; what leaves by another NIC with a gateway is translated all the same.
 */
export function filterOf(
  config: Config,
  bound: readonly BoundNic[],
  uplink: BoundNic | undefined,
  ways: Ways,
  { elsewhere, exposed }: Around,
): Filter {
  const translation = translationOf(config, bound, uplink?.mac, ways);
  const networks = insideNetworks(config).map(({ network }) => network);
  const isInside = withinAny(networks);
  // Of a subnet that is not there yet no VM sends, and they may be a thousand.
  const beside = coverOf([...translation.ownSource.keys()].map(ipv4).filter((vmIp) => !isInside(vmIp)));
  return {
    ...translation,
    forwarding: bound.map(({ device }) => device).sort(),
    networks,
    hairpin: { of: ways === 'today' ? 'ours' : 'any', beside },
    guarded: [...new Set([...(uplink === undefined ? [] : elasticAddresses(config, uplink)), ...exposed])],
    guard: ways === 'today' ? guardOf(config, bound, { translation, networks, beside, elsewhere }) : undefined,
  };
}

/** Whether anything is translated, or may be. */
export const translates = ({ uplink, others }: Pick<Filter, 'uplink' | 'others'>): boolean =>
  uplink !== undefined || others.length > 0;

type KnownNetworks = { translation: Translation; networks: readonly Network[]; beside: readonly Network[] } & Pick<
  Around,
  'elsewhere'
>;

function guardOf(
  config: Config,
  bound: readonly BoundNic[],
  { translation, networks, beside, elsewhere }: KnownNetworks,
): Guard | undefined {
  const gates = bound.filter(({ gateway }) => gateway !== undefined);
  if (gates.length === 0) return undefined;
  const routed = routedOut(config, gates);
  // A default route in two halves leads nowhere else than the default route.
  const isOut = outward(config);
  const isInside = withinAny(networks);
  // Of a new flow it is not known yet that its source will be another. What is inside does not come in by a gate.
  const translated = translation.sources.filter(({ to, network }) => to !== 'none' && !isInside(network.base));
  return {
    gates: gates.map(({ device, bridge }) => ({ device, isLinuxBridge: bridge?.type === 'linux' })),
    bounce: {
      between: routed.filter((network) => !isOut(network)),
      from: [...beside, ...translated.map(({ network }) => network)],
    },
    entering: config.fromUplink,
    outside: [...routed, ...elsewhere].filter(({ base }) => isInside(base)),
  };
}

/** What route_list leads back through the network of a NIC with a gateway. */
function routedOut({ routes }: Config, gates: readonly Nic[]): Network[] {
  const networks = gates.map(({ ipaddr, prefix }) => networkOf(ipv4(ipaddr), prefix));
  return routes.flatMap(({ dest, via }) => {
    const network = parseCidr(dest);
    return network !== undefined && networks.some((each) => contains(each, ipv4(via))) ? [network] : [];
  });
}
