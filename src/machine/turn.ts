// Takes a turn at the lock, or the result of another one's turn: who waits, and learns that meanwhile a run began and ended well that
// does what he asks for, need not run. Whatever was changed before he asked, that run has seen.
//
//   last-run.json   the result of the last run that ended well, what it was asked, and when it began

import { lstatSync, renameSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { HostError } from '../base/errors.ts';
import { number, object, type Shape, string } from '../base/shape.ts';
import { type Held, type LockOptions, readJson, withLock } from './lock.ts';
import { removeFile } from './process.ts';

export type TurnRequest<R> = Omit<LockOptions<never>, 'instead'> & {
  /** What is asked for; `servedBy` of other runs judges by it. */
  key: string;
  /** Whether a run that was asked for with that key does what this one asks for: an explicit reload also serves an automatic one. */
  servedBy: (key: string) => boolean;
  /** Of the result: one of another version, or that is damaged, is nobody's answer. */
  shape: Shape<R>;
};

export type Turn<R> = {
  result: R;
  coalesced: boolean;
  /** Why the result is not in last-run.json: those who wait run themselves. */
  unrecorded?: Error;
};

/** What is in last-run.json beside the result. `began`: by the clock of `now`. */
const request = object({ request: object({ key: string, began: number }) });

/** Milliseconds, by the one clock that all processes of the machine share and nobody sets. In /run, as it begins anew at boot. */
const now = (): number => {
  const [seconds, nanoseconds] = process.hrtime();
  return seconds * 1000 + nanoseconds / 1e6;
};

/**
 * Gives run's result, which must survive JSON, or that of a run that began after this request was made and serves it
 * (coalesced). A run that throws serves nobody: one of those who wait runs next.
 */
export async function takeTurn<R extends object>(
  { key, servedBy, shape, ...lock }: TurnRequest<R>,
  run: (held: Held) => Promise<R>,
): Promise<Turn<R>> {
  const file = join(lock.dir, 'last-run.json');
  const asked = now();
  const before = identityOf(file);
  const instead = (): Turn<R> | undefined => {
    if (identityOf(file) === before) return undefined;
    const last = readJson(file, (value) => ({ ...shape(value), ...request(value) }));
    if (last === undefined || last.request.began <= asked || !servedBy(last.request.key)) return undefined;
    const { request: _, ...result } = last;
    return { result: result as unknown as R, coalesced: true };
  };
  return withLock({ ...lock, instead }, async (held) => {
    const began = now();
    const result = await run(held);
    try {
      record(file, { ...result, request: { key, began } });
    } catch (cause) {
      return { result, coalesced: false, unrecorded: new HostError(`keeping the result in ${lock.dir}`, cause) };
    }
    return { result, coalesced: false };
  });
}

function record(file: string, lastRun: object): void {
  // Of a run that was killed, or a link.
  removeFile(`${file}.new`);
  writeFileSync(`${file}.new`, JSON.stringify(lastRun), { flag: 'wx', mode: 0o600 });
  renameSync(`${file}.new`, file);
}

/** The last run that ended well; undefined when there was none since boot, or what is kept of it is damaged. */
export function readLastRun<R extends object>(dir: string, shape: Shape<R>): R | undefined {
  return readJson(join(dir, 'last-run.json'), shape);
}

/** Another one for each file that was in this place. */
function identityOf(path: string): string {
  try {
    const { ino, mtimeNs } = lstatSync(path, { bigint: true });
    return `${ino} ${mtimeNs}`;
  } catch {
    // What cannot be looked at answers nobody.
    return '';
  }
}
