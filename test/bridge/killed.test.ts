import { killed } from './killed.ts';

killed('linux');
killed('ovs');
