// How the engine in use reads what it has made, for `status`. Apart from it: a run needs nothing of this.

import type { Reader } from './engine.ts';
import { readFilter } from './iptables/read.ts';

export const reader: Reader = { read: readFilter, counting: ['iptables-save', '-c', '-t', 'nat'] };
