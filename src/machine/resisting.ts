// Addresses of others that are back each time we have removed them (a VIP of keepalived, a DHCP client's lease): to go on would move
// them to and fro for ever. How often runs by themselves have removed each of them in this boot.

import { AgentError } from '../base/errors.ts';
import { PATHS } from '../base/paths.ts';
import { array, object, string, whole } from '../base/shape.ts';
import { type Address, addressKey } from '../network/state.ts';
import type { Host } from './host.ts';
import { fitting } from './kept-shapes.ts';

/** Then they are left. */
export const MOST_REMOVALS = 3;

/** By addressKey. */
type Removals = ReadonlyMap<string, number>;

const shape = array(object({ address: string, times: whole(1, 1_000_000) }));

async function readRemovals(host: Host): Promise<Removals> {
  const text = await host.read(PATHS.removed, { orNothing: true });
  const counted = (text === undefined ? undefined : fitting(shape, text)) ?? [];
  return new Map(counted.map(({ address, times }) => [address, times]));
}

async function write(host: Host, removals: Removals): Promise<void> {
  const counted = [...removals].map(([address, times]) => ({ address, times }));
  await host.write(PATHS.removed, `${JSON.stringify(counted)}\n`, 0o600).catch((error: unknown) => {
    // Without it they are removed once more.
    if (!(error instanceof AgentError)) throw error;
  });
}

/** Keys of the addresses that no run removes any more. */
export async function readResisting(host: Host): Promise<Set<string>> {
  const removals = await readRemovals(host);
  return new Set([...removals].flatMap(([key, times]) => (times < MOST_REMOVALS ? [] : [key])));
}

/** By a run that nobody asked for. */
export async function countRemovals(host: Host, removed: readonly Address[]): Promise<void> {
  if (removed.length === 0) return;
  const before = await readRemovals(host);
  const counted = removed.map((address): [string, number] => [
    addressKey(address),
    (before.get(addressKey(address)) ?? 0) + 1,
  ]);
  await write(host, new Map([...before, ...counted]));
}

/** By a run that somebody asked for: what is not there any more has given in. */
export async function forgetGone(host: Host, there: readonly Address[]): Promise<void> {
  const before = await readRemovals(host);
  const keys = new Set(there.map(addressKey));
  const left = new Map([...before].filter(([key]) => keys.has(key)));
  if (left.size < before.size) await write(host, left);
}
