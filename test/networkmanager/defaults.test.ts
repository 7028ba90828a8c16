import { defaults } from '../scenarios/defaults.ts';

defaults('keyfile');
