// The addresses that the uplink carries for others. Pure.

import { ipv4 } from '../base/ipv4.ts';
import type { Config } from '../config/config.ts';

/** Every address that the uplink carries beside its own: what is mapped, forwarded, or a source. */
export function elasticAddresses(config: Config, uplink?: { ipaddr: string }): string[] {
  const addresses = new Set([
    ...config.eips.map(({ eip }) => eip),
    ...config.forwards.map(({ eip }) => eip),
    ...(config.snats ?? []).flatMap(({ to }) => (typeof to === 'object' ? [to.address] : [])),
  ]);
  if (uplink !== undefined) addresses.delete(uplink.ipaddr);
  return [...addresses]
    .map((address) => ({ address, value: ipv4(address) }))
    .sort((a, b) => a.value - b.value)
    .map(({ address }) => address);
}
