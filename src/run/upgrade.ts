// What an explicit reload changes of the ways that a 1.0 served: an upgrade alone changes none of them.

import { formatNetwork, ipv4, networkOf } from '../base/ipv4.ts';
import { type Config, uplinkOf } from '../config/config.ts';
import { insideNetworks } from '../config/inside.ts';
import { waysInForce } from '../machine/flow-record.ts';
import type { Host } from '../machine/host.ts';
import { sourceRuleFor, sourceRules } from '../network/translation.ts';

/** One line each; none where the rules of today are in force already. */
export async function newWays(host: Host, config: Config): Promise<string[]> {
  if ((await waysInForce(host)) === 'today') return [];
  const uplink = uplinkOf(config);
  const gates = config.nics.filter(({ gateway }) => gateway !== undefined);
  const inside = insideNetworks(config);
  const sources = sourceRules(config.snats, inside);
  const networks = config.nics.map(({ ipaddr, prefix }) => formatNetwork(networkOf(ipv4(ipaddr), prefix)));
  const behind = inside
    .filter(({ network }) => !networks.includes(formatNetwork(network)))
    .filter(({ network }) => (sourceRuleFor(sources, network.base)?.to ?? 'none') !== 'none');
  const seconds = gates.filter((nic) => nic !== uplink);
  return [
    ...(uplink === undefined || behind.length === 0
      ? []
      : [
          `new since 1.0: hosts behind ${behind.map(({ network }) => formatNetwork(network)).join(', ')} are translated as those of ` +
            'their subnet; an entry of snat_list with to: none keeps their source',
        ]),
    ...seconds.map(
      ({ name, mac }) =>
        `new since 1.0: what leaves by ${name ?? mac}, which is not the first NIC with a gateway, gets its address as source`,
    ),
    ...(gates.length === 0
      ? []
      : [
          'new since 1.0: what comes in by an uplink does not leave by it again, and nothing leaves by one for a subnet',
        ]),
  ];
}
