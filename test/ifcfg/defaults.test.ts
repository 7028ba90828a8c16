import { defaults } from '../scenarios/defaults.ts';

defaults('ifcfg');
