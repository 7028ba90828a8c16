// A module of Node's that is loaded when it is called for, not when the program starts: crypto and tty take a tenth of what
// starting Node takes, each, and a run with nothing to do needs neither. (process.getBuiltinModule came with Node 20.16.)

import { createRequire } from 'node:module';

const load = createRequire('/');

export const crypto = (): typeof import('node:crypto') => load('node:crypto');
export const tty = (): typeof import('node:tty') => load('node:tty');
