import { killed } from '../bridge/killed.ts';
import { managedMoves } from '../bridge/managed.ts';

managedMoves('ifcfg', 'linux');
killed('ifcfg');
