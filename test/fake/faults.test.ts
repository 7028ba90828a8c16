// Every single call of a run fails, or is the last one before the program is killed: how the run ends, what is there then, and that the
// next run ends as it should have.

import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { hashOf } from '../../src/base/hash.ts';
import { PATHS } from '../../src/base/paths.ts';
import { isQuick } from '../quick.ts';
import type { Asked } from './asked.ts';
import { failAt, killAt, type Place, placesOf } from './faults.ts';
import type { Machine } from './machine.ts';
import {
  addressesOf,
  differences,
  machineWith,
  managedWith,
  messagesOf,
  networkOf,
  routerOf,
  routerWith,
  runOn,
  within,
} from './router.ts';
import { ROUTER, yaml } from './scenes.ts';

const MOVED = yaml({ ...ROUTER, eips: { '203.0.113.51': '10.10.1.12' }, routes: [] });

const CONFIRMED = 'a change is confirmed';
const MOVES = 'an EIP moves and a route goes';
const FIRST = 'a machine becomes a router';

type Scenario = { found: Machine; request: Asked };

async function scenarios(): Promise<Record<string, Scenario>> {
  const become = machineWith();
  const profiled = machineWith();
  profiled.files.putFolder('/etc/NetworkManager/system-connections', 0o700);
  const change = await routerWith();
  change.configure(MOVED);
  const none = await routerWith();
  none.configure('if_list: []\n');
  const boot = await routerWith();
  boot.reboot();
  const managed = await routerOf(managedWith());
  managed.configure(MOVED);
  const managedNone = await routerOf(managedWith());
  managedNone.configure('if_list: []\n');
  const managedBoot = await routerOf(managedWith());
  managedBoot.reboot();
  const managedWaiting = managed.copy();
  const { id: managedId } = await runOn(managedWaiting, within(60));
  managedWaiting.uptime += 61;
  const waiting = change.copy();
  const { id } = await runOn(waiting, within(60));
  const lapsed = waiting.copy();
  lapsed.uptime += 61;
  return {
    [FIRST]: { found: become, request: {} },
    'a machine becomes a router, with profiles': { found: profiled, request: {} },
    [MOVES]: { found: change, request: {} },
    'nothing of ours is wanted any more': { found: none, request: {} },
    'NetworkManager: a machine becomes a router': { found: managedWith(), request: {} },
    'NetworkManager: an EIP moves and a route goes': { found: managed, request: {} },
    'NetworkManager: nothing of ours is wanted any more': { found: managedNone, request: {} },
    'NetworkManager: a router boots': { found: managedBoot, request: { command: 'start', trigger: 'boot' } },
    'NetworkManager: a change is taken back when its time is over': {
      found: managedWaiting,
      request: { command: 'lapse', trigger: 'timer', run: managedId },
    },
    'a router boots': { found: boot, request: { command: 'start', trigger: 'boot' } },
    'a change is to be confirmed': { found: change, request: within(60) },
    [CONFIRMED]: { found: waiting, request: { command: 'confirm', asked: waiting.uptime } },
    'a change is taken back when its time is over': {
      found: lapsed,
      request: { command: 'lapse', trigger: 'timer', run: id },
    },
  };
}

const SCENARIOS = await scenarios();

describe('a call that fails', () => {
  for (const [name, { found, request }] of Object.entries(SCENARIOS))
    test(name, async () => {
      const wanted = found.copy();
      for (const place of await toTry(wanted, request, name)) {
        const machine = found.copy();
        failAt(machine, place);
        const report = await runOn(machine, request);
        machine.before = machine.beforeLine = undefined;
        const at = `${place.what}: ${report.result}, ${report.exitStatus}: ${messagesOf(report).join('; ')}`;
        const isLeft = differences(machine, wanted).length > 0;
        if (report.exitStatus === 0 && !isLeft) continue;
        // Flows of before could not be cut: what guards against them stays until the next run, and that is said.
        if (report.exitStatus === 0) assert.match(at, /conntrack.*established flows of before may live on/);
        else assert.equal(report.exitStatus, 69, at);
        assert.ok(messagesOf(report).length > 0, at);
        if (report.result === 'rolled-back') assert.deepEqual(differences(machine, found).filter(isOurs), [], at);
        const again = await runOn(machine, isDecided(machine, request) ? TIMER : request);
        assert.equal(again.exitStatus, 0, `${at}; again: ${messagesOf(again).join('; ')}`);
        assert.deepEqual(differences(machine, wanted), [], `${at}; again`);
      }
    });
});

describe('a run that is killed', () => {
  for (const [name, { found, request }] of Object.entries(SCENARIOS))
    test(name, async () => {
      const wanted = found.copy();
      // A boot begins anew; else the timer runs, without anybody who asks.
      const isBoot = request.command === 'start';
      for (const place of await toTry(wanted, request, name)) {
        const machine = found.copy();
        const at = `before ${place.what}`;
        assert.equal(await killAt(machine, request, place), 'killed', at);
        if (isBoot) machine.reboot();
        const isUndone = phaseOf(machine) === 'applying';
        const next = await runOn(machine, isBoot ? request : { trigger: 'timer', settled: settledOf(machine) });
        assert.equal(next.exitStatus, 0, `${at}: ${messagesOf(next).join('; ')}`);
        assert.deepEqual(differences(machine, isUndone ? found : wanted), [], at);
      }
    });
});

describe('a run that is killed, and then nothing of ours is wanted', () => {
  for (const name of [FIRST, MOVES])
    test(name, async () => {
      const { found, request } = SCENARIOS[name] as Scenario;
      for (const place of await toTry(found.copy(), request, name)) {
        const machine = found.copy();
        assert.equal(await killAt(machine, request, place), 'killed');
        machine.configure('if_list: []\n');
        const next = await runOn(machine);
        const at = `before ${place.what}: ${messagesOf(next).join('; ')}`;
        assert.equal(next.exitStatus, 0, at);
        assert.deepEqual(oursIn(machine), [], at);
      }
    });
});

test('a confirmation that is killed counts from its first write on', async () => {
  const { found, request } = SCENARIOS[CONFIRMED] as Scenario;
  const [first, ...places] = await placesOf(found.copy(), request);
  assert.equal(first?.what, `write ${PATHS.pending}`);
  const afterTime = async (place: Place) => {
    const machine = found.copy();
    assert.equal(await killAt(machine, request, place), 'killed');
    machine.uptime += 100;
    const { exitStatus } = await runOn(machine, { trigger: 'timer', settled: settledOf(machine) });
    assert.equal(exitStatus, 0);
    return addressesOf(machine, 'eth0').includes('203.0.113.51/32') ? 'kept' : 'taken back';
  };
  assert.equal(await afterTime(first as Place), 'taken back');
  for (const place of places) assert.equal(await afterTime(place), 'kept', place.what);
});

/** Addresses, routes and rules that nobody else has made. */
const oursIn = (machine: Machine): string[] =>
  networkOf(machine)
    .split('\n')
    .filter((line) => /^address (?!127)|^unicast|KYLIN-VR/.test(line));

/** As two reads of the file agree on it, seconds apart. */
const settledOf = ({ files }: Machine): string => hashOf(Buffer.from(files.text(PATHS.config) ?? ''));

const phaseOf = ({ files }: Machine): string | undefined =>
  /"phase":"(\w+)"/.exec(files.text(PATHS.pending) ?? '')?.[1];

/** Settings of one NIC after another are alike: once is enough. */
async function toTry(machine: Machine, request: Asked, scenario: string): Promise<Place[]> {
  const isAlike = ({ what }: Place) => /^setSysctl .*\/conf\/(default|eth\d)\//.test(what);
  const places = (await placesOf(machine, request)).filter((place) => scenario === FIRST || !isAlike(place));
  return places.filter((_, index) => index % (scenario.startsWith('NetworkManager') ? MANAGED_EACH : EACH) === 0);
}

/** The quick run of unit.ts tries a part of them. */
const EACH = isQuick ? 5 : 1;
/** What it does not do is waited for. */
const MANAGED_EACH = isQuick ? 20 : 1;

/** Settings of conntrack are there only since it was needed. */
const isOurs = (line: string): boolean => !line.includes('net/netfilter/');

const TIMER: Asked = { trigger: 'timer', settled: 'unsettled' };

/** It waits for its confirmation, or has it: nobody can ask for it again. */
const isDecided = (machine: Machine, { command }: Asked): boolean =>
  command === 'confirm' || phaseOf(machine) === 'waiting';
