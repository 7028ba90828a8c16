// What a command asks of a run.

import type { Trigger } from '../base/trigger.ts';
import type { Early } from '../machine/known/early.ts';

type Common = {
  trigger: Trigger;
  configPath: string;
  /** Asked for with --renderer. */
  renderer?: string;
};

/** Seconds until the change is taken back, and the command line that does it. */
export type ConfirmWithin = { seconds: number; takeBack: (run: string) => [string, ...string[]] };

type OfFile = Common & {
  /** For automatic runs: the hash that two reads of the file agreed on, `last good` where it is that, or `unsettled`. */
  settled?: string;
  /** What was asked before the turn of this run. */
  early?: Early;
};

export type StartRequest = OfFile & { command: 'start' };
export type ReloadRequest = OfFile & { command: 'reload'; confirmWithin?: ConfirmWithin };
/** A reload of the file that was just edited. */
export type ReloadEdited = Common & { command: 'edit'; confirmWithin?: ConfirmWithin };
/** `asked`: when, in seconds since boot; the wait for its turn counts not. */
export type ConfirmRequest = Common & { command: 'confirm'; asked?: number };
/** `to`: the number in the history; the one before the last good one where there is none. */
export type RollbackRequest = Common & { command: 'rollback'; to?: number };
/** Takes back the change of that run, and only when its time has run out. */
export type LapseRequest = Common & { command: 'lapse'; run: string };

/** What brings the file in force. */
export type FileRequest = StartRequest | ReloadRequest | ReloadEdited;
export type BackRequest = RollbackRequest | LapseRequest;
/** What may change the network. */
export type ChangeRequest = FileRequest | BackRequest;
export type RunRequest = ChangeRequest | ConfirmRequest;

/** As an operator knows it: a change lapses by `rollback`. */
export type RunCommand = Exclude<RunRequest['command'], 'lapse'>;

export const commandOf = ({ command }: RunRequest): RunCommand => (command === 'lapse' ? 'rollback' : command);

export const isBack = (request: ChangeRequest): request is BackRequest =>
  request.command === 'rollback' || request.command === 'lapse';

export const withinOf = (request: RunRequest): ConfirmWithin | undefined =>
  'confirmWithin' in request ? request.confirmWithin : undefined;

export const settledOf = (request: RunRequest): string | undefined =>
  'settled' in request ? request.settled : undefined;
