import { killed } from './killed.ts';

killed('ip');
