// A module of Node's that is loaded when it is called for, not when the program starts: crypto and tty are slow
// to load, and a run with nothing to do needs none of them.

/** Before Node 20.16 there is no process.getBuiltinModule, but the built program has this. */
declare const require: (name: string) => unknown;

const load = (name: string): unknown => (process.getBuiltinModule ?? require)(name);

export const crypto = () => load('node:crypto') as typeof import('node:crypto');
export const timers = () => load('node:timers/promises') as typeof import('node:timers/promises');
export const tty = () => load('node:tty') as typeof import('node:tty');
export const v8 = () => load('node:v8') as typeof import('node:v8');
