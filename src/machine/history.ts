// What was applied well, and what was taken back: the last good configuration, those before it, and the one that automatic
// runs must not apply again. Only for the holder of the lock, reading excepted.

import { join } from 'node:path';
import { sameBytes } from '../hash.ts';
import { isTrigger, type Trigger } from '../trigger.ts';
import type { Host } from './host.ts';
import { PATHS } from './paths.ts';

/** The run that applied a configuration: when it began (ISO 8601 UTC), who asked for it, its id. */
export type Origin = { time: string; trigger: Trigger; run: string };

/** `number` 1 is the newest. */
export type Entry = Origin & { number: number; path: string };

/** Older ones go. */
const MOST_KEPT = 10;

/**
 * `000007-20240501T100000Z-operator-1a2b3c4d.yaml`: one file each, so that an entry is whole or not there. The first number
 * gives the order, which a clock that steps does not. Do not change: an upgrade would forget what was applied before.
 */
const NAME = /^(\d+)-(\d{4})(\d\d)(\d\d)T(\d\d)(\d\d)(\d\d)Z-([a-z]+)-([0-9a-f]+)\.yaml$/;

/** The configurations that were applied well, the newest first. */
export async function readHistory(host: Host): Promise<Entry[]> {
  const entries = (await host.list(PATHS.history)).flatMap((name) => {
    const [, order, year, month, day, hour, minute, second, trigger = '', run = ''] = NAME.exec(name) ?? [];
    if (order === undefined || !isTrigger(trigger)) return [];
    const time = `${year}-${month}-${day}T${hour}:${minute}:${second}Z`;
    return [{ order: Number(order), path: join(PATHS.history, name), time, trigger, run }];
  });
  return entries
    .sort((a, b) => b.order - a.order)
    .map(({ time, trigger, run, path }, index) => ({ number: index + 1, time, trigger, run, path }));
}

/** Makes it the last good one. The same one again changes nothing: its first time counts. */
export async function promote(host: Host, bytes: Uint8Array, origin: Origin): Promise<void> {
  const before = await host.readBytes(PATHS.lastGood);
  if (before !== undefined && sameBytes(before, bytes)) return;
  await remember(host, bytes, origin);
  await host.write(PATHS.lastGood, bytes, 0o600);
}

async function remember(host: Host, bytes: Uint8Array, { time, trigger, run }: Origin): Promise<void> {
  const entries = await readHistory(host);
  const [newest] = entries;
  const known = newest && (await host.readBytes(newest.path));
  // A run that was killed had come so far already.
  if (known !== undefined && sameBytes(known, bytes)) return;
  const order = newest === undefined ? 1 : Number(NAME.exec(newest.path.slice(PATHS.history.length + 1))?.[1]) + 1;
  const at = `${time.slice(0, 19).replace(/[-:]/g, '')}Z`;
  const name = `${String(order).padStart(6, '0')}-${at}-${trigger}-${run}.yaml`;
  await host.write(join(PATHS.history, name), bytes, 0o600);
  for (const { path } of entries.slice(MOST_KEPT - 1)) await host.remove(path);
}

/** The configuration that automatic runs leave alone until its bytes change, and why. */
export type Refusal = { hash: string; why: string };

export async function readRefusal(host: Host): Promise<Refusal | undefined> {
  const [hash = '', why = ''] = ((await host.read(PATHS.refused)) ?? '').split('\n');
  return hash === '' ? undefined : { hash, why: why === '' ? 'it was taken back' : why };
}

export async function refuse(host: Host, { hash, why }: Refusal): Promise<void> {
  await host.write(PATHS.refused, `${hash}\n${why}\n`, 0o600);
}

export async function forgetRefusal(host: Host): Promise<void> {
  await host.remove(PATHS.refused);
}

/** After everything of ours was taken down. */
export async function forgetHistory(host: Host): Promise<void> {
  for (const { path } of await readHistory(host)) await host.remove(path);
  await host.removeFolder(PATHS.history);
  for (const path of [PATHS.lastGood, PATHS.refused]) await host.remove(path);
}
