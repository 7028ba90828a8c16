import { conflicts } from '../scenarios/conflicts.ts';

conflicts('ip');
