// Nothing leaves as it must not while anything changes, by ip and iptables-nft; its siblings have the other ways (ifcfg: test/ifcfg).

import { nothingLeaves } from '../scenarios/leaving.ts';

nothingLeaves('ip', ['nft']);
