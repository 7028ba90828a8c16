import { managed } from '../scenarios/managed.ts';

managed('keyfile');
