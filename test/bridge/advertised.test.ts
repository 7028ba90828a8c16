import { describe } from 'node:test';
import { advertised } from './advertised.ts';
import { LINUX } from './linux.ts';
import { OVS } from './ovs.ts';

describe('advertised IPv6 and a Linux bridge', { concurrency: true }, () => advertised(LINUX));
describe('advertised IPv6 and a bridge of Open vSwitch', { concurrency: true }, () => advertised(OVS));
