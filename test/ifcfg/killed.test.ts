import { killed } from '../reliability/killed.ts';

killed('ifcfg');
