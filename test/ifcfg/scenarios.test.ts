// The scenarios of plain ip, on NetworkManager with ifcfg files.

import { arrival } from '../scenarios/arrival.ts';
import { announcements, flows } from '../scenarios/change.ts';
import { conflicts } from '../scenarios/conflicts.ts';
import { foreign } from '../scenarios/foreign.ts';
import { packets } from '../scenarios/packets.ts';
import { transitions } from '../scenarios/transitions.ts';

packets('ifcfg');
transitions('ifcfg');
arrival('ifcfg');
foreign('ifcfg');
flows('ifcfg');
announcements('ifcfg');
conflicts('ifcfg');
