import { foreign } from '../scenarios/foreign.ts';

foreign('ip');
