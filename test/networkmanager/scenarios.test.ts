// The scenarios of plain ip, on NetworkManager with keyfiles.

import { arrival } from '../scenarios/arrival.ts';
import { announcements, flows } from '../scenarios/change.ts';
import { conflicts } from '../scenarios/conflicts.ts';
import { foreign } from '../scenarios/foreign.ts';
import { packets } from '../scenarios/packets.ts';
import { transitions } from '../scenarios/transitions.ts';

packets('keyfile');
transitions('keyfile');
arrival('keyfile');
foreign('keyfile');
flows('keyfile');
announcements('keyfile');
conflicts('keyfile');
