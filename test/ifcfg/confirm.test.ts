import { managedConfirm } from '../confirm/managed.ts';

managedConfirm('ifcfg');
