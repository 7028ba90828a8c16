import { killed } from './killed.ts';

killed('keyfile');
