import { arrival } from '../scenarios/arrival.ts';

arrival('ip');
