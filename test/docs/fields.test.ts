// docs/control-plane.md names every field that the program prints in JSON: the lists here do not compile where a type has another one.

import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { it } from 'node:test';
import type { Issue } from '../../src/config/issue.ts';
import type { LoggedRun } from '../../src/machine/log-file.ts';
import type { Explanation } from '../../src/network/explain.ts';
import type { ProfileKeys } from '../../src/network/profile-keys.ts';
import type { Pushed } from '../../src/push/push.ts';
import type { ForeignThing } from '../../src/run/foreign.ts';
import type { Report } from '../../src/run/report.ts';
import type { Counters, Status } from '../../src/run/status.ts';

type Fields<T> = Record<keyof T, true>;

const run: Fields<Omit<Report, 'summary'> & { coalesced: boolean }> = {
  id: true,
  command: true,
  trigger: true,
  time: true,
  result: true,
  steps: true,
  warnings: true,
  errors: true,
  durationMs: true,
  exitStatus: true,
  pending: true,
  advice: true,
  coalesced: true,
};
const step: Fields<Report['steps'][number]> = { kind: true, text: true };
const issue: Fields<Issue> = { file: true, message: true, line: true, column: true, endColumn: true, path: true };
const status: Fields<Status> = {
  inSync: true,
  nics: true,
  eips: true,
  forwards: true,
  sources: true,
  foreign: true,
  staleFlows: true,
  steps: true,
  warnings: true,
  errors: true,
  lastRun: true,
  hints: true,
  running: true,
  pending: true,
  notInForce: true,
};
const nic: Fields<Status['nics'][number]> = {
  mac: true,
  device: true,
  bridge: true,
  name: true,
  role: true,
  address: true,
  state: true,
  kept: true,
};
const kept: Fields<ProfileKeys> = { zone: true, dns: true, dnsSearch: true, dnsOptions: true, dnsPriority: true };
const eip: Fields<Status['eips'][number]> = {
  eip: true,
  vmIp: true,
  state: true,
  broken: true,
  counters: true,
};
const source: Fields<Status['sources'][number]> = {
  source: true,
  to: true,
  state: true,
  broken: true,
  counters: true,
};
const forward: Fields<Status['forwards'][number]> = {
  eip: true,
  protocol: true,
  port: true,
  endPort: true,
  vmPort: true,
  vmIp: true,
  state: true,
  broken: true,
  counters: true,
};
const counters: Fields<Counters> = { now: true, since: true };
const foreign: Fields<ForeignThing> = {
  kind: true,
  device: true,
  chain: true,
  beforeOurs: true,
  text: true,
  goes: true,
};
const stale: Fields<NonNullable<Status['staleFlows']>[number]> = { of: true, count: true };
const lastRun: Fields<NonNullable<Status['lastRun']>> = {
  id: true,
  time: true,
  trigger: true,
  command: true,
  result: true,
  durationMs: true,
  error: true,
};
const pending: Fields<NonNullable<Status['pending']>> = {
  secondsLeft: true,
  deadline: true,
  time: true,
  trigger: true,
  run: true,
  phase: true,
};
const guest: Fields<Pushed> = { name: true, exitStatus: true, report: true };
/** What a report has, too, is named in the row of `log`. */
const logged: Fields<Omit<LoggedRun, keyof Report>> = { stepsLeftOut: true };
const explained: Fields<Explanation & { packet: object; live: object }> = {
  packet: true,
  fate: true,
  to: true,
  port: true,
  source: true,
  enters: true,
  leaves: true,
  via: true,
  lines: true,
  live: true,
};

const OBJECTS: Readonly<Record<string, object>> = {
  'report of a run': run,
  step,
  issue,
  '`status`': status,
  'NIC of `status`': nic,
  'kept in a profile': kept,
  'EIP of `status`': eip,
  'forward of `status`': forward,
  'source of `status`': source,
  counters,
  'foreign thing': foreign,
  'stale flows': stale,
  'last run': lastRun,
  'pending change': pending,
  'guest of `push`': guest,
  'logged run': logged,
  '`explain`': explained,
};

function documented(): Map<string, string[]> {
  const text = readFileSync(join(import.meta.dirname, '../../docs/control-plane.md'), 'utf8');
  const objects = new Map<string, string[]>();
  let object = '';
  for (const line of text.split('\n')) {
    const [named = '', fields = ''] = line.replace(/^\| ?/, '').split('| ');
    if (!line.startsWith('|') || !/^(`\w+`(, )?)+ $/.test(fields)) continue;
    object = named.trim().replace(/:.*/, '') || object;
    objects.set(object, [...(objects.get(object) ?? []), ...fields.replaceAll('`', '').trim().split(', ')]);
  }
  return objects;
}

for (const [name, fields] of Object.entries(OBJECTS))
  it(`docs/control-plane.md has the fields of ${name}, and no other`, () =>
    assert.deepEqual([...(documented().get(name) ?? [])].sort(), Object.keys(fields).sort()));
