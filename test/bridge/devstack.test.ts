import { afterDevStack } from './devstack.ts';

afterDevStack('ip');
afterDevStack('keyfile');
