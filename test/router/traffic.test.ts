import { packets } from '../scenarios/packets.ts';

packets('ip');
