import { describe } from 'node:test';
import { transitions } from '../scenarios/transitions.ts';

// Both iptables side by side.
describe('transitions', { concurrency: true }, () => transitions('ip'));
