// Faults, for runs on the machine in memory: a call that fails, a line of a batch that is refused, a program that is killed.

import { CommandError, HostError } from '../../src/base/errors.ts';
import type { RunOptions } from '../../src/machine/host.ts';
import { run } from '../../src/run/reconcile.ts';
import type { Report } from '../../src/run/report.ts';
import { type Asked, requestOf } from './asked.ts';
import { errno } from './files.ts';
import type { Call, Machine } from './machine.ts';
import { Killed, Refused } from './refused.ts';

/** Where a run can be hit: a call that runs or changes something, by number, or a line of `ip -batch`. */
export type Place = { call: number; what: string } | { line: number; what: string };

const mayFail = ({ method, changes }: Call): boolean =>
  method !== 'launch' && (changes || method === 'run' || method === 'stream');

/** Those of a run without a fault. */
export async function placesOf(machine: Machine, request: Asked): Promise<Place[]> {
  const calls: Place[] = [];
  const lines: Place[] = [];
  machine.before = (call) => {
    if (mayFail(call)) calls.push({ call: calls.length, what: call.what });
  };
  machine.beforeLine = (line) => {
    if (!/ show\b/.test(line)) lines.push({ line: lines.length, what: `the line ${line}` });
  };
  await run(machine.host(), requestOf(request));
  machine.before = machine.beforeLine = undefined;
  return [...calls, ...lines];
}

/** What comes to that place for the first time fails there. */
export function failAt(machine: Machine, place: Place): void {
  let [calls, lines] = [0, 0];
  machine.before = (call) => {
    if (mayFail(call) && 'call' in place && calls++ === place.call) throw failureOf(call);
  };
  machine.beforeLine = (line) => {
    if (!/ show\b/.test(line) && 'line' in place && lines++ === place.line)
      throw new Refused(2, 'RTNETLINK answers: No buffer space available');
  };
}

function failureOf({ method, args, what }: Call): Error {
  const [first, second] = args;
  if (method !== 'run' && method !== 'stream') return new HostError(what, errno('ENOSPC', 'no space left on device'));
  const { accept = [] } = ((method === 'run' ? second : args[2]) ?? {}) as RunOptions;
  const argv = first as readonly string[];
  return accept.includes(1)
    ? new CommandError(argv, undefined, '', 'killed by SIGKILL')
    : new CommandError(argv, 1, 'no buffer space available', 'status 1');
}

/** The run, or `killed` where it did not come to its end: it is killed before what is done at that place. */
export async function killAt(machine: Machine, request: Asked, place: Place): Promise<Report | 'killed'> {
  let [calls, lines] = [0, 0];
  machine.before = (call) => {
    if (mayFail(call) && 'call' in place && calls++ === place.call) throw new Killed();
  };
  machine.beforeLine = (line) => {
    if (!/ show\b/.test(line) && 'line' in place && lines++ === place.line) throw new Killed();
  };
  const killed = new Promise<'killed'>((resolve) => {
    machine.onKilled = () => resolve('killed');
  });
  const ended = await Promise.race([run(machine.host(), requestOf(request)), killed]);
  machine.before = machine.beforeLine = machine.onKilled = undefined;
  return ended;
}
