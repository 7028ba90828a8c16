// What a run found before its first change, as it is kept.

import type { BoundNic } from '../network/nics.ts';
import type { Renderer } from '../network/renderer.ts';
import type { NetworkState } from '../network/state.ts';
import type { Ways } from '../network/translation.ts';
import type { Left, Standing } from '../planning/return.ts';
import type { Lost } from './foreign.ts';
import type { Owned } from './recorded.ts';

/** What a run found before its first change: enough for another process to bring it back. Survives JSON. */
export type Checkpoint = {
  renderer: Renderer['name'];
  bound: BoundNic[];
  state: NetworkState;
  /** See Found. */
  stayed?: readonly string[];
  /** Seconds since boot. */
  at?: number;
  /** As it is to leave them, and, once it is verified, as it left them. */
  left?: Left;
  owned: Owned;
  /** What is ours by the change: it tells where the record cannot be written, or is not read. */
  made?: Owned;
  /** Undefined: by a 1.0. */
  others?: Others;
  ways?: Ways;
};

/** Survives JSON. `standing`: before the change; `gone`: what that took away, once it is verified. */
export type Others = { devices: string[]; standing?: Standing; gone?: Lost[] };
