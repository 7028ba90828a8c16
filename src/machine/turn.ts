// Takes a turn at the lock, or the result of another one's turn. Of those who wait, one run serves all whose request it
// satisfies: each is registered in waiting/ before it waits, a run lists them before it reads anything, so whatever
// they saw changed, it sees too; and when it has ended well it leaves its result beside each one's registration.
//
//   waiting/<owner>         a request: {key}
//   waiting/<owner>.result  its answer, a link to the last-run.json of then: the next run may come before he looks
//   last-run.json           the result of the last run that ended well, and whom it served

import { linkSync, readdirSync, renameSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { HostError } from '../base/errors.ts';
import { array, object, type Shape, string } from '../base/shape.ts';
import { type Held, type LockOptions, leaving, readJson, withLock } from './lock.ts';
import { livingOwner, makeFolder, newOwnerId, removeFile, tolerate } from './process.ts';

export type TurnRequest<R> = Omit<LockOptions<never>, 'instead'> & {
  /** What is asked for; `serves` of other runs judges by it. */
  key: string;
  /** Whether this run does what a request with that key asks for: an explicit reload also serves an automatic one. */
  serves: (key: string) => boolean;
  /** Of the result: one of another version, or that is damaged, is nobody's answer. */
  shape: Shape<R>;
};

/** What is in last-run.json: the result, and the ids of those who waited and got it. */
export type LastRun<R> = R & { served: string[] };

export type Turn<R> = {
  result: R;
  coalesced: boolean;
  /** Why the result is not in last-run.json: those who waited run themselves. */
  unrecorded?: Error;
};

const RESULT = '.result';

const waitingRecord = object({ key: string });

/**
 * Gives run's result, which must survive JSON, or that of a run that began after this request was made and serves it
 * (coalesced). A run that throws serves nobody: one of those who wait runs next.
 */
export async function takeTurn<R extends object>(
  request: TurnRequest<R>,
  run: (held: Held) => Promise<R>,
): Promise<Turn<R>> {
  const waitingDir = join(request.dir, 'waiting');
  const id = newOwnerId();
  const own = join(waitingDir, id);
  const answerShape = lastRunShape(request.shape);
  const instead = (): Turn<R> | undefined => {
    const answer = readJson(own + RESULT, answerShape);
    if (answer === undefined) return undefined;
    const { served, ...result } = answer;
    return { result: result as unknown as R, coalesced: true };
  };
  try {
    // Where that cannot be, nobody's run serves this request.
    leaving(waitingDir, request.onLeft, () => register(waitingDir, own, request.key, request.dir));
    return await withLock({ ...request, instead }, async (held) => {
      const waiting = listWaiting(waitingDir, request).filter((other) => other.id !== id && request.serves(other.key));
      const result = await run(held);
      try {
        record({ ...result, served: waiting.map((other) => other.id) }, request.dir, waitingDir);
      } catch (cause) {
        return { result, coalesced: false, unrecorded: new HostError(`keeping the result in ${request.dir}`, cause) };
      }
      return { result, coalesced: false };
    });
  } finally {
    for (const path of [own, own + RESULT]) leaving(path, request.onLeft, () => removeFile(path, request.dir));
  }
}

function register(waitingDir: string, own: string, key: string, dir: string): void {
  for (const folder of [dir, waitingDir]) makeFolder(folder);
  writeFileSync(own, JSON.stringify({ key }), { flag: 'wx', mode: 0o600 });
}

function record<R extends object>(lastRun: LastRun<R>, dir: string, waitingDir: string): void {
  const file = join(dir, 'last-run.json');
  // Of a run that was killed, or a link.
  removeFile(`${file}.new`);
  writeFileSync(`${file}.new`, JSON.stringify(lastRun), { flag: 'wx', mode: 0o600 });
  renameSync(`${file}.new`, file);
  for (const id of lastRun.served) linkSync(file, join(waitingDir, id + RESULT));
}

/** The last run that ended well; undefined when there was none since boot, or what is kept of it is damaged. */
export function readLastRun<R extends object>(dir: string, shape: Shape<R>): LastRun<R> | undefined {
  return readJson(join(dir, 'last-run.json'), lastRunShape(shape));
}

function lastRunShape<R extends object>(shape: Shape<R>): Shape<LastRun<R>> {
  const served = object({ served: array(string) });
  return (value) => ({ ...shape(value), ...served(value) });
}

/** Those who wait and have no answer yet; takes away what dead ones left. Only for the holder of the lock. */
function listWaiting(
  waitingDir: string,
  { dir, onLeft }: Pick<TurnRequest<never>, 'dir' | 'onLeft'>,
): { id: string; key: string }[] {
  const names = new Set(tolerate(['ENOENT', 'ENOTDIR', 'ELOOP'], () => readdirSync(waitingDir)) ?? []);
  return [...names].flatMap((name) => {
    const id = name.replace(RESULT, '');
    const path = join(waitingDir, name);
    if (!livingOwner(id)) {
      leaving(path, onLeft, () => removeFile(path, dir));
      return [];
    }
    if (name !== id || names.has(id + RESULT)) return [];
    // Undefined: just gone, or just coming and not yet complete; that one runs itself.
    const request = readJson(path, waitingRecord);
    return request ? [{ id, key: request.key }] : [];
  });
}
