// Which configuration a run carries out: the file, the last good one, one that waits for its confirmation, or an earlier one.

import { NotNowError, UsageError } from '../base/errors.ts';
import { hashOf, sameBytes } from '../base/hash.ts';
import { PATHS } from '../base/paths.ts';
import { isAutomatic } from '../base/trigger.ts';
import type { Config } from '../config/config.ts';
import { firstOf, type Issue, inLine } from '../config/issue.ts';
import { LARGEST } from '../config/position.ts';
import { readSettled, readTrusted } from '../machine/config-file.ts';
import {
  type HistoryEntry,
  pauseLeft,
  type Refusal,
  readEntryOf,
  readHistory,
  readLastGood,
  readRefusal,
  triesOf,
} from '../machine/history.ts';
import type { Host } from '../machine/host.ts';
import { readConfig } from '../machine/known/parsed.ts';
import { type PendingChange, pendingBytes, readPending } from '../machine/pending.ts';
import type { Ahead, Quiet } from './quiet.ts';
import { type ChangeRequest, type FileRequest, settledOf } from './request.ts';

/**
 * For `settled` of a request: what an automatic run may take as whole. Waits two seconds where the file is none of those
 * that were applied last, wait for their confirmation, were taken back or found invalid, so it is called before the lock is taken.
 */
export async function settle(host: Host, path: string): Promise<string> {
  const lastGood = await readLastGood(host);
  const now = await readTrusted(host, path, 'look');
  if (lastGood !== undefined && 'bytes' in now && sameBytes(lastGood, now.bytes)) return 'last good';
  const known = [(await readRefusal(host))?.hash, (await readPending(host))?.hash, await readInvalid(host)];
  const file = await readSettled(host, path, known);
  if (file === 'unsettled') return file;
  return 'bytes' in file ? hashOf(file.bytes) : '';
}

const readInvalid = (host: Host): Promise<string | undefined> =>
  host.read(PATHS.invalid, { most: LARGEST, orNothing: true });

/** Of the choice: `errors`: of the file, though another configuration is carried out in its place. */
type Complaints = { warnings: Issue[]; errors: Issue[] };

/** What is in the file. `configWarnings`: of the warnings, those about what it says. */
type FileOrder = Complaints & { kind: 'file'; config: Config; bytes: Uint8Array; configWarnings: Issue[] };

/** The file again, and the machine as the last run with nothing to do found it: it is not read, and how it ends is known. */
type QuietOrder = Complaints & { kind: 'quiet'; quiet: Quiet; bytes: Uint8Array };

/** An earlier one, by its number. */
type HistoryOrder = Complaints & { kind: 'history'; config: Config; bytes: Uint8Array };

/** What is in force stays so: it is brought about, and nothing is learnt from it. */
type StandInOrder = Complaints & { kind: 'stand-in'; config: Config; bytes: Uint8Array };

/** There is none: nothing is touched. */
export type NoOrder = Complaints & { kind: 'none' };

/** What has to be looked at closely. */
export type ReadOrder = FileOrder | HistoryOrder | StandInOrder;
/** The configuration that a run carries out. */
export type Order = ReadOrder | QuietOrder | NoOrder;

const none = (said: Partial<Complaints> = {}): NoOrder => ({ kind: 'none', warnings: [], errors: [], ...said });

/**
 * Who runs a reload says that the file is whole and meant. An automatic run keeps, and repairs, the last good configuration
 * where the file is invalid, was rolled back before, or may still be being written, and after it took a change back.
 */
export async function chooseOrder(
  host: Host,
  request: FileRequest,
  tookBack: boolean,
  ahead: Ahead | undefined,
): Promise<Order> {
  const automatic = isAutomatic(request.trigger);
  if (automatic && tookBack) return standIn(host);
  const file = await readTrusted(host, request.configPath, 'mend');
  if ('errors' in file) {
    const { errors } = file;
    return automatic ? standIn(host, { errors }) : none({ errors });
  }
  const { bytes, warnings } = file;
  if (automatic) {
    const lastGood = await readLastGood(host);
    const known = lastGood !== undefined && sameBytes(lastGood, bytes);
    const refusal = await readRefusal(host);
    const isRefused = refusal !== undefined && refusal.hash === hashOf(bytes);
    const pause = isRefused ? await pauseLeft(host, refusal) : 0;
    const refused = pause !== 0;
    if (isRefused) warnings.push({ message: refusalText(refusal, pause) });
    const settled = settledOf(request);
    const unsettled = !known && settled !== undefined && settled !== hashOf(bytes);
    if (unsettled) warnings.push({ message: `${request.configPath} is being written: left for the next run` });
    if (refused || unsettled) return standIn(host, { warnings });
  }
  const known = await ahead?.quiet(bytes);
  if (known !== undefined) {
    const { convergence, configWarnings } = known;
    return { kind: 'quiet', quiet: convergence, bytes, warnings: [...warnings, ...configWarnings], errors: [] };
  }
  const parsed = await readConfig(host, request.configPath, bytes, 'keep');
  const configWarnings = firstOf(parsed.warnings);
  const said = { warnings: [...warnings, ...configWarnings], errors: parsed.ok ? [] : firstOf(parsed.errors) };
  if (parsed.ok) return { kind: 'file', config: parsed.config, bytes, configWarnings, ...said };
  return automatic ? standIn(host, said) : none(said);
}

function refusalText({ retry }: Refusal, pause: number | undefined): string {
  if (pause === undefined) return 'this configuration was taken back before: run kylin-vr reload to try it again';
  const failed = `this configuration could not be applied in ${triesOf(retry)}`;
  return pause === 0
    ? `${failed}: it is tried again now`
    : `${failed}: it is tried again in ${pause} s, kylin-vr reload tries it now`;
}

/** What the last good one was is the newest of the history, too: where the one is damaged, it is the other. */
async function standIn(host: Host, said: Partial<Complaints> = {}): Promise<StandInOrder | NoOrder> {
  const { warnings, errors } = none(said);
  for (const path of [PATHS.lastGood, ...(await readHistory(host)).map((entry) => entry.path)]) {
    const bytes = await readEntryOf(host, path);
    const parsed = bytes && (await readConfig(host, path, bytes, 'keep'));
    if (bytes === undefined || !parsed?.ok) continue;
    const message =
      path === PATHS.lastGood
        ? 'the last good configuration stays in force'
        : `${PATHS.lastGood} is missing or damaged: ${path}, the newest one that is whole, is in force`;
    return { kind: 'stand-in', config: parsed.config, bytes, warnings: [...warnings, { message }], errors };
  }
  const message = 'there is no last good configuration: files and NICs stay as they are';
  return none({ warnings: [...warnings, { message }], errors });
}

/** What waits for its confirmation is kept and repaired until then, whatever is in the file. */
export async function chooseWaiting(host: Host, change: PendingChange): Promise<Order> {
  const bytes = await pendingBytes(host, change);
  const parsed = bytes && (await readConfig(host, PATHS.pendingConfig, bytes, 'keep'));
  if (bytes === undefined || !parsed?.ok) return standIn(host);
  const message = 'a change waits for its confirmation: it stays in force until then';
  return { kind: 'stand-in', config: parsed.config, bytes, warnings: [{ message }], errors: [] };
}

/** What a rollback goes to; undefined: the last good one, with the change that waits taken back. */
export async function targetOf(
  host: Host,
  request: ChangeRequest,
  change: PendingChange | undefined,
): Promise<HistoryEntry | undefined> {
  if (request.command !== 'rollback') return undefined;
  const { to } = request;
  if (to === undefined && change !== undefined) return undefined;
  const entries = await readHistory(host);
  if (to !== undefined) {
    const entry = entries.find(({ number }) => number === to);
    if (entry !== undefined) return entry;
    throw new UsageError(`there is no configuration ${to}: kylin-vr rollback --list shows those that are kept`);
  }
  const lastGood = await readLastGood(host);
  for (const entry of entries) {
    const bytes = await readEntryOf(host, entry.path);
    if (bytes === undefined || lastGood === undefined || !sameBytes(bytes, lastGood)) continue;
    const before = entries[entry.number];
    if (before !== undefined) return before;
  }
  throw new NotNowError('there is no configuration before the last good one: nothing was rolled back');
}

export async function chooseBack(host: Host, target: HistoryEntry | undefined): Promise<Order> {
  if (target === undefined) return standIn(host);
  const bytes = (await readEntryOf(host, target.path)) ?? new Uint8Array();
  const parsed = await readConfig(host, target.path, bytes, 'keep');
  if (!parsed.ok) {
    const [first] = parsed.errors.map(inLine);
    const message = `${first}; it is not valid any more: choose another one of kylin-vr rollback --list`;
    return none({ errors: [{ message }] });
  }
  return { kind: 'history', config: parsed.config, bytes, warnings: [], errors: [] };
}
