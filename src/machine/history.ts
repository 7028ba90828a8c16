// What was applied well, and what was taken back: the last good configuration, those before it, and the one that automatic
// runs must not apply again. Only for the holder of the lock, reading excepted.

import { basename, join } from 'node:path';
import { sameBytes } from '../base/hash.ts';
import { PATHS } from '../base/paths.ts';
import { isTrigger, type Trigger } from '../base/trigger.ts';
import { LARGEST } from '../config/position.ts';
import type { Host } from './host.ts';
import { bootOf, uptimeOf } from './pending.ts';

/** The run that applied a configuration: when it began (ISO 8601 UTC), who asked for it, its id. */
export type Origin = { time: string; trigger: Trigger; run: string };

/** `number` 1 is the newest. */
export type HistoryEntry = Origin & { number: number; path: string };

/** Older ones go. */
const MOST_KEPT = 10;

/**
 * `000007-20240501T100000Z-operator-1a2b3c4d.yaml`: one file each, so that an entry is whole or not there. The first number
 * gives the order, which a clock that steps does not. Do not change: an upgrade would forget what was applied before.
 */
const NAME = /^(\d{1,9})-(\d{4})(\d\d)(\d\d)T(\d\d)(\d\d)(\d\d)Z-([a-z]+)-([0-9a-f]+)\.yaml$/;

/** Of nine digits none is higher, and no router comes so far: a file of that number, or of more digits, is not of ours. */
const HIGHEST = 999_999_999;

/** The configurations that were applied well, the newest first. */
export async function readHistory(host: Host): Promise<HistoryEntry[]> {
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

/** Undefined where there is none that can be read: runs go on without it. */
export const readLastGood = (host: Host): Promise<Uint8Array | undefined> => readEntryOf(host, PATHS.lastGood);

/** A configuration that is kept. Something else under its name is none. */
export const readEntryOf = (host: Host, path: string): Promise<Uint8Array | undefined> =>
  host.readBytes(path, { most: LARGEST, orNothing: true });

/** Makes it the last good one. The same one again changes nothing: its first time counts. */
export async function promote(host: Host, bytes: Uint8Array, origin: Origin): Promise<void> {
  const before = await readLastGood(host);
  if (before !== undefined && sameBytes(before, bytes)) return;
  await remember(host, bytes, origin);
  await host.write(PATHS.lastGood, bytes, 0o600);
}

async function remember(host: Host, bytes: Uint8Array, { time, trigger, run }: Origin): Promise<void> {
  const all = await readHistory(host);
  // Behind one of the highest number none would have a name.
  const entries = all.filter(({ path }) => orderOf(path) < HIGHEST);
  const [newest] = entries;
  const known = newest && (await readEntryOf(host, newest.path));
  // A run that was killed had come so far already.
  if (known !== undefined && sameBytes(known, bytes)) return;
  const order = newest === undefined ? 1 : orderOf(newest.path) + 1;
  const at = `${time.slice(0, 19).replace(/[-:]/g, '')}Z`;
  const name = `${String(order).padStart(6, '0')}-${at}-${trigger}-${run}.yaml`;
  await host.write(join(PATHS.history, name), bytes, 0o600);
  for (const entry of all) if (!entries.slice(0, MOST_KEPT - 1).includes(entry)) await host.remove(entry.path);
}

const orderOf = (path: string): number => Number(NAME.exec(basename(path))?.[1]);

/** The configuration that automatic runs leave alone until its bytes change, or until it is tried again, and why. */
export type Refusal = { hash: string; why: string; retry?: Retry };

/** After `tries`, in vain. `due`: seconds since that boot. */
export type Retry = { tries: number; boot: string; due: number };

/** Seconds. A minute is what the timer has. */
const [FIRST_PAUSE, LONGEST_PAUSE] = [60, 3600];

export async function readRefusal(host: Host): Promise<Refusal | undefined> {
  const text = (await host.read(PATHS.refused, { most: LARGEST, orNothing: true })) ?? '';
  const [hash = '', why = '', again = ''] = text.split('\n');
  if (hash === '') return undefined;
  const [, tries, due, boot = ''] = /^(\d+) (\d+) (\S+)$/.exec(again) ?? [];
  return {
    hash,
    why: why === '' ? 'it was taken back' : why,
    ...(tries !== undefined && { retry: { tries: Number(tries), due: Number(due), boot } }),
  };
}

export async function refuse(host: Host, { hash, why, retry }: Refusal): Promise<void> {
  const again = retry === undefined ? '' : `${retry.tries} ${retry.due} ${retry.boot}\n`;
  await host.write(PATHS.refused, `${hash}\n${why}\n${again}`, 0o600);
}

/** The pause doubles with each try of the same bytes. Gives it, in seconds. */
export async function refuseForNow(host: Host, hash: string, why: string): Promise<number> {
  const before = await readRefusal(host);
  const tries = ((before?.hash === hash && before.retry?.tries) || 0) + 1;
  const pause = Math.min(FIRST_PAUSE * 2 ** (tries - 1), LONGEST_PAUSE);
  const due = Math.ceil(await uptimeOf(host)) + pause;
  await refuse(host, { hash, why, retry: { tries, due, boot: await bootOf(host) } });
  return pause;
}

export const triesOf = (retry?: Retry): string => (retry?.tries === 1 ? 'one try' : `${retry?.tries} tries`);

/** Seconds until it is tried again; undefined: not by itself. After a boot the cause may be gone. */
export async function pauseLeft(host: Host, { retry }: Refusal): Promise<number | undefined> {
  if (retry === undefined) return undefined;
  const left = Math.ceil(retry.due - (await uptimeOf(host)));
  return retry.boot !== (await bootOf(host)) || left > LONGEST_PAUSE ? 0 : Math.max(0, left);
}

export async function forgetRefusal(host: Host): Promise<void> {
  await host.remove(PATHS.refused);
}

/** After everything of ours was taken down. */
export async function forgetHistory(host: Host): Promise<void> {
  for (const { path } of await readHistory(host)) await host.remove(path);
  await host.removeFolder(PATHS.history);
  for (const path of [PATHS.lastGood, PATHS.refused, PATHS.edited]) await host.remove(path);
}
