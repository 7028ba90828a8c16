import { afterDevStack } from '../bridge/devstack.ts';

afterDevStack('ifcfg');
