// Which addresses of others may stay on NICs of the configuration. Pure.

import { hostPart } from '../base/ipv4.ts';
import type { BoundNic } from './nics.ts';
import { type Address, addressKey } from './state.ts';

/** Whether a NIC's `keep-addresses` has it. */
export function allowedOn(bound: readonly BoundNic[]): (address: Address) => boolean {
  const allowed = new Map(
    bound.flatMap(({ device, keepAddresses }) =>
      keepAddresses === undefined ? [] : [[device, new Set(keepAddresses)] as const],
    ),
  );
  return ({ device, spec }) => {
    const names = allowed.get(device);
    return names !== undefined && (names.has(spec) || names.has(hostPart(spec)));
  };
}

/** Keys of those that nobody removes, though the configuration does not want them. `resisting`: keys of what comes back each time. */
export function keptAmong(
  addresses: readonly Address[],
  bound: readonly BoundNic[],
  {
    resisting,
    ours,
    wanted,
  }: { resisting: ReadonlySet<string>; ours: ReadonlySet<string>; wanted: readonly Address[] },
): Set<string> {
  if (resisting.size === 0 && bound.every(({ keepAddresses }) => keepAddresses === undefined)) return new Set();
  const isAllowed = allowedOn(bound);
  const kept = addresses.filter(
    (address) => (isAllowed(address) || resisting.has(addressKey(address))) && !ours.has(addressKey(address)),
  );
  const isWanted = new Set(wanted.map(addressKey));
  return new Set(kept.map(addressKey).filter((key) => !isWanted.has(key)));
}
