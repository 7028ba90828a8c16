// How the engine in use reads rules of NAT that are not ours, for flows.

import type { NatReader } from './engine.ts';
import { foreignNat } from './iptables/foreign-nat.ts';

export const readForeignNat: NatReader = foreignNat;
