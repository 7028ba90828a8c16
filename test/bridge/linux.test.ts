import { describe } from 'node:test';
import { LINUX } from './linux.ts';
import { moves } from './moves.ts';

describe('the uplink on a Linux bridge', { concurrency: true }, () => moves(LINUX));
