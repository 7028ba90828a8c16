// Nothing leaves as it must not while anything changes, through NetworkManager with ifcfg files.

import { nothingLeaves } from '../scenarios/leaving.ts';

nothingLeaves('ifcfg');
