// The engine that a run goes by.

import type { Engine } from './engine.ts';
import { iptables } from './iptables/engine.ts';

export const engine: Engine = iptables;
