// Nothing leaves as it must not while anything changes, by ip and iptables-legacy.

import { nothingLeaves } from '../scenarios/leaving.ts';

nothingLeaves('ip', ['legacy']);
