// How a run ended, and what it found before its first change.

import type { Renderer } from './dialects/renderer.ts';
import type { Seen } from './machine/observe.ts';
import type { Owned } from './machine/recorded.ts';
import type { FlowModel } from './network/flows.ts';
import type { BoundNic, OnBridge } from './network/nics.ts';
import type { Left } from './network/return.ts';
import type { NetworkState } from './network/state.ts';
import type { Step } from './network/step.ts';
import type { Ways } from './network/translation.ts';
import type { Others } from './others.ts';

export type Convergence = {
  result: 'unchanged' | 'changed' | 'rolled-back' | 'failed';
  /** False: NICs were left to what brings them up at boot, so the configuration is not proved yet. */
  whole: boolean;
  /** What was done, in order; of a run that was rolled back too. */
  steps: Step[];
  warnings: string[];
  /** Why it was rolled back or failed. */
  error?: Error;
  /** That was a file of the renderer, which cannot be written or removed. */
  isUnwritable?: boolean;
  /** Of one that was unchanged: what its flows are held against. */
  flowModel?: () => FlowModel;
  /** Of one that was unchanged: NICs whose gateways are asked where somebody asks for a run. */
  onBridges?: OnBridge[];
  /** What is foreign, went, and could not be put back, and what of ours could not be taken away: the next run tries again. */
  lost?: string[];
  /** Of one that changed something: what is to come back where that is taken back. */
  found?: () => Promise<Checkpoint>;
};

/** `seen`: by the last look, where nothing was changed since. */
export type Return = Convergence & { seen?: Seen };

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
  /** Undefined: by a 1.0. */
  others?: Others;
  ways?: Ways;
};
