// What is wrong between values of the configuration: small rules, each of one thing. What is wrong with one value is in schema.ts.

import type { Rule } from './draft.ts';
import { NAT_RULES } from './nat-rules.ts';
import { NIC_RULES } from './nic-rules.ts';
import { ROUTE_RULES } from './route-rules.ts';

export const RULES: readonly Rule[] = [...NIC_RULES, ...NAT_RULES, ...ROUTE_RULES];
