// Nothing leaves as it must not while anything changes, through NetworkManager with keyfiles.

import { nothingLeaves } from '../scenarios/leaving.ts';

nothingLeaves('keyfile');
