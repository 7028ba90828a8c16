// Nothing leaves as it must not while anything changes, by ip and through NetworkManager with keyfiles (ifcfg: test/ifcfg).

import { nothingLeaves } from '../scenarios/leaving.ts';

nothingLeaves('ip');
nothingLeaves('keyfile');
