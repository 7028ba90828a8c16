// How a run ended.

import type { Checkpoint } from '../machine/checkpoint.ts';
import type { Seen } from '../machine/observe.ts';
import type { PendingChange } from '../machine/pending.ts';
import type { FlowModel } from '../network/flows.ts';
import type { OnBridge } from '../network/nics.ts';
import type { Chain } from '../network/state.ts';
import type { Step } from '../network/step.ts';

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

/** `seen`: by the last look, where nothing was changed since. `chains`: ours, before the first of its steps. */
export type Return = Convergence & { seen?: Seen; chains?: readonly Chain[] };

/** What a run brought about. `change`: it is made, and is to wait for its confirmation. */
export type InLine = Omit<Convergence, 'flowModel'> & {
  chains?: readonly Chain[] | undefined;
  change?: PendingChange | undefined;
};
