import { keys } from '../scenarios/keys.ts';

keys('ifcfg');
