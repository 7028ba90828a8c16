// Plays a scene on the machine that it is run on: in the router of a laboratory. In: the stages, JSON, as argument. Out: what was seen.

import { setTimeout as sleep } from 'node:timers/promises';
import { linuxHost } from '../../src/machine/linux-host.ts';
import { play, type Stage } from './scene.ts';

const stages = JSON.parse(process.argv[2] ?? '[]') as Stage[];
const seen = await play(linuxHost(), stages, (seconds) => sleep(seconds * 1000));
process.stdout.write(JSON.stringify(seen));
