// Config → who is inside: in the network of a NIC without a gateway, or behind a route through one. Never by RFC 1918: uplinks
// and elastic IPs have such addresses, too. Pure.

import { contains, ipv4, lastOf, type Network, networkOf, overlap, parseCidr } from '../base/ipv4.ts';
import type { Config, Nic } from './config.ts';
import { countBefore } from './search.ts';

/** A network whose hosts are inside, and the NIC that leads to them. */
export type Inside = { network: Network; subnet: Nic };

/** In the file's order: the subnets, then what is behind them. They may hold one another: the longest prefix says whose a host is. */
export function insideNetworks({ nics, routes, ...outer }: Config): Inside[] {
  const subnets = nics
    .filter(({ gateway }) => gateway === undefined)
    .map((subnet) => ({ network: own(subnet), subnet }));
  if (routes.length === 0) return subnets;
  const isOut = outward({ nics, ...outer });
  const behind = routes.flatMap(({ dest, via }): Inside[] => {
    const network = parseCidr(dest);
    const there = subnets.find((subnet) => contains(subnet.network, ipv4(via)));
    return network === undefined || there === undefined || isOut(network) ? [] : [{ network, subnet: there.subnet }];
  });
  return [...subnets, ...behind];
}

/** The widest private block. What is wider is no site: 0.0.0.0/1 and 128.0.0.0/1 are a default route in two halves. */
export const WIDEST = 8;

/** Whether a dest is a way out, not in: it has the segment of an uplink or an elastic IP in it, and so nobody's hosts only. */
export function outward({
  nics,
  eips,
  forwards,
  snats,
}: Pick<Config, 'nics' | 'eips' | 'forwards' | 'snats'>): (dest: Network) => boolean {
  const uplinks = nics.filter(({ gateway }) => gateway !== undefined).map(own);
  const elastic = [
    ...[...eips, ...forwards].map(({ eip }) => eip),
    ...(snats ?? []).flatMap(({ to }) => (typeof to === 'object' ? [to.address] : [])),
  ]
    .map(ipv4)
    .sort((a, b) => a - b);
  const holdsElastic = (dest: Network): boolean => {
    const first = elastic[countBefore(elastic, (address) => address < dest.base)];
    return first !== undefined && first <= lastOf(dest);
  };
  return (dest) => dest.prefix < WIDEST || uplinks.some((uplink) => overlap(uplink, dest)) || holdsElastic(dest);
}

const own = ({ ipaddr, prefix }: Nic): Network => networkOf(ipv4(ipaddr), prefix);
