import { managedConfirm } from './managed.ts';

managedConfirm('keyfile');
