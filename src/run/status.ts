// Desired against observed, per NIC, EIP and forward; the last run and how it ended. Touches nothing.

import { hashOf } from '../base/hash.ts';
import { ipv4 } from '../base/ipv4.ts';
import { PATHS } from '../base/paths.ts';
import type { Shape } from '../base/shape.ts';
import { type Config, type Eip, type Protocol, uplinkOf } from '../config/config.ts';
import { type Issue, inLine } from '../config/issue.ts';
import { parseFlows } from '../dialects/conntrack.ts';
import { linesOf } from '../dialects/iptables.ts';
import { countedRules, coursesBy, rulesByChain } from '../engines/iptables/course.ts';
import { brokenBy, portsAsked } from '../engines/iptables/mapped.ts';
import { readTrusted } from '../machine/config-file.ts';
import { readFlowRecord, waysInForce } from '../machine/flow-record.ts';
import { pauseLeft, type Refusal, readLastGood, readRefusal, triesOf } from '../machine/history.ts';
import type { Host } from '../machine/host.ts';
import { report as reportShape } from '../machine/kept-shapes.ts';
import { describeHolder, readHolder } from '../machine/lock.ts';
import { findObstacles } from '../machine/obstacles.ts';
import { oldClientsHint } from '../machine/old-clients.ts';
import { readConfig } from '../machine/parsed.ts';
import { readPending, secondsLeft } from '../machine/pending.ts';
import { readLastRun } from '../machine/turn.ts';
import { unitFault } from '../machine/units.ts';
import { ledElsewhere } from '../machine/ways.ts';
import type { Flow } from '../network/flow.ts';
import { describe, holds, linkOf } from '../network/kinds.ts';
import { faultyNics, onBridges, usedNics } from '../network/nics.ts';
import type { ProfileKeys } from '../network/profile-keys.ts';
import { reachOf, type State } from '../network/reach.ts';
import type { Cut } from './cut.ts';
import { type ForeignThing, foreignThings } from './foreign.ts';
import type { Report } from './report.ts';
import { plannedCuts } from './stale.ts';
import { type Aim, chooseRenderer, flowModelOf, type Survey, survey } from './survey.ts';

/** Connections: those there are `now`, and those that NAT has led there `since` its rule was written. */
export type Counters = { now: number; since: number };

export type Status = {
  inSync: boolean;
  nics: {
    mac: string;
    device?: string;
    bridge?: string;
    name?: string;
    role: 'uplink' | 'subnet';
    address: string;
    state: State;
    /** What its profile says beside addresses, and keeps. */
    kept?: ProfileKeys;
  }[];
  eips: { eip: string; vmIp: string; state: State; counters?: Counters }[];
  forwards: {
    eip: string;
    protocol: Protocol;
    port: number;
    endPort: number;
    vmPort: number;
    vmIp: string;
    state: State;
    counters?: Counters;
  }[];
  /** What is not ours on NICs of the file, and in nat. */
  foreign: ForeignThing[];
  /** Flows that conntrack goes on translating as the file does not say any more, by the address or network that they are of. */
  staleFlows?: { of: string; count: number }[];
  /** What reload would do. */
  steps: { kind: string; text: string }[];
  warnings: Issue[];
  errors: Issue[];
  lastRun?: {
    id: string;
    time: string;
    trigger: string;
    command: string;
    result: string;
    durationMs: number;
    error?: string;
  };
  /** What is good to know, and no fault. */
  hints?: string[];
  /** Another run at work. */
  running?: string;
  /** A change that is taken back unless it is confirmed. `deadline`: by the clock as it is now. */
  pending?: { secondsLeft: number; deadline: string; time: string; trigger: string; run: string; phase: string };
  /** Why the file is not what is in force, where it is not. */
  notInForce?: string;
};

/** `text`: of the file, where it could be read. `found`: what the steps are between. */
export async function readStatus(
  host: Host,
  { config: path, renderer, counters }: { config: string; renderer?: string; counters: boolean },
): Promise<{ report: Status; valid: boolean; text?: string; found?: Pick<Survey, 'steps' | 'observation'> }> {
  const file = await readTrusted(host, path, 'look');
  const text = 'bytes' in file ? new TextDecoder().decode(file.bytes) : undefined;
  const fromFile =
    'errors' in file
      ? { ok: false as const, errors: file.errors, warnings: [] }
      : await readConfig(host, path, file.bytes, 'look');
  const errors = fromFile.ok ? [] : fromFile.errors;
  const warnings = [...('warnings' in file ? file.warnings : []), ...fromFile.warnings];

  // With a bad file the last good configuration is in force: that is what the machine is held against.
  const lastGood = fromFile.ok ? undefined : await readLastGood(host);
  const parsed = lastGood === undefined ? fromFile : await readConfig(host, PATHS.lastGood, lastGood, 'look');
  const aim: Aim | undefined = parsed.ok
    ? {
        config: parsed.config,
        renderer: await chooseRenderer(host, renderer),
        scope: 'whole',
        ways: await waysInForce(host),
      }
    : undefined;
  const found = aim && (await survey(host, aim));
  const stale = aim && found && (await staleFlows(host, aim, found));
  if (stale !== undefined) warnings.push(...stale.warnings.map((message) => ({ message })));
  if (found !== undefined) warnings.push(...[...found.going, ...found.warnings].map((message) => ({ message })));
  const arpIgnore = await host.sysctl('net/ipv4/conf/all/arp_ignore');
  const obstacles = parsed.ok && found ? await findObstacles(host, parsed.config, found, arpIgnore) : [];
  warnings.push(...obstacles.map((message) => ({ message })));

  const state = parsed.ok && found ? things(parsed.config, found, arpIgnore) : { nics: [], eips: [], forwards: [] };
  if (parsed.ok && found) {
    warnings.push(...(await markMisled(host, parsed.config, found, state)));
    warnings.push(...(await markSilent(host, parsed.config, found, state)));
  }

  const unit = await unitFault(host);
  if (unit !== undefined) warnings.push({ message: unit });

  const hint = await oldClientsHint(host);
  const holder = readHolder(PATHS.run);
  const last = readLastRun(PATHS.run, reportShape as Shape<Report>);
  const report: Status = {
    inSync: fromFile.ok && found?.steps.length === 0 && state.nics.every((nic) => nic.state !== 'error'),
    ...state,
    foreign: found === undefined ? [] : await foreignThings(host, found),
    ...(stale !== undefined &&
      stale.steps.length > 0 && { staleFlows: stale.steps.map(({ of, count }) => ({ of, count })) }),
    steps: (found?.steps ?? []).map((step) => ({ kind: step.kind, text: describe(step) })),
    warnings,
    errors,
    ...(hint !== undefined && { hints: [hint] }),
    ...(last !== undefined && { lastRun: lastRunOf(last) }),
    ...(holder !== undefined && { running: describeHolder(holder) }),
    ...(await inForce(host, fromFile.ok, 'bytes' in file ? hashOf(file.bytes) : undefined)),
  };
  if (counters && parsed.ok) await count(host, report);
  return { report, valid: fromFile.ok, ...(text !== undefined && { text }), ...(found !== undefined && { found }) };
}

/** What works by what was done is asked of the kernel as well. Gives warnings. */
async function markMisled(
  host: Host,
  config: Config,
  { binding }: Survey,
  { eips, forwards }: Pick<Status, 'eips' | 'forwards'>,
): Promise<Issue[]> {
  const working = [...eips, ...forwards].filter(({ state }) => state === 'active');
  const led = await ledElsewhere(host, config, binding.bound, new Set(working.map(({ vmIp }) => vmIp)));
  for (const each of working) if (led.has(each.vmIp)) each.state = 'error';
  const byAnswer = new Map<string, { asked: string; vmIps: string[] }>();
  for (const [vmIp, { asked, answer }] of led) {
    const group = byAnswer.get(answer) ?? { asked, vmIps: [] };
    byAnswer.set(answer, { ...group, vmIps: [...group.vmIps, vmIp] });
  }
  return [...byAnswer].map(([answer, { asked, vmIps }]) => {
    const more = vmIps.length - MOST_NAMED;
    const named = `${vmIps.slice(0, MOST_NAMED).join(', ')}${more > 0 ? ` and ${more} more` : ''}`;
    return {
      message: `packets for ${named}, or their answers, do not go as the file says: ip ${asked} gives ${answer}; take away the route, rule or address that leads there`,
    };
  });
}

/** What is mapped on an uplink whose gateway answers nobody does not work; asked where it is on a bridge. Gives warnings. */
async function markSilent(
  host: Host,
  config: Config,
  found: Survey,
  { nics, eips, forwards }: Pick<Status, 'nics' | 'eips' | 'forwards'>,
): Promise<Issue[]> {
  if (!found.binding.bound.some(({ bridge }) => bridge !== undefined)) return [];
  const { silentGateways } = await import('./gateways.ts');
  const silent = await silentGateways(host, onBridges(usedNics(found.binding), found.machine.addresses));
  const macs = new Set(silent.map(({ nic }) => nic.mac));
  const mapped = macs.has(uplinkOf(config)?.mac ?? '') ? [...eips, ...forwards] : [];
  for (const each of [...nics.filter(({ mac }) => macs.has(mac)), ...mapped])
    if (each.state === 'active') each.state = 'error';
  return silent.map(({ message }) => ({ message }));
}

const MOST_NAMED = 2;

/** A change that is still to be made cuts its own. */
async function staleFlows(host: Host, aim: Aim, found: Survey): Promise<Cut> {
  const record = await readFlowRecord(host);
  return plannedCuts(host, flowModelOf(aim, found, record?.former));
}

async function inForce(
  host: Host,
  valid: boolean,
  hash: string | undefined,
): Promise<Pick<Status, 'pending' | 'notInForce'>> {
  const change = await readPending(host);
  const left = change === undefined ? 0 : await secondsLeft(host, change);
  const deadline = new Date(Date.now() + left * 1000).toISOString();
  const lastGood = await readLastGood(host);
  const refusal = await readRefusal(host);
  const pause = refusal && (await pauseLeft(host, refusal));
  const reason = (): string | undefined => {
    if (!valid) return lastGood === undefined ? undefined : 'it is not valid: the last good configuration is';
    if (change !== undefined)
      return hash === change.hash
        ? undefined
        : 'a change that waits for its confirmation is, the file is another since';
    if (lastGood !== undefined && hashOf(lastGood) === hash) return undefined;
    if (refusal !== undefined && refusal.hash === hash) return again(refusal, pause);
    return 'it was not applied yet';
  };
  const notInForce = reason();
  return {
    ...(change !== undefined && {
      pending: {
        secondsLeft: Math.ceil(left),
        deadline,
        time: change.time,
        trigger: change.trigger,
        run: change.run,
        phase: change.phase,
      },
    }),
    ...(notInForce !== undefined && { notInForce }),
  };
}

function again({ why, retry }: Refusal, pause: number | undefined): string {
  if (pause === undefined) return `${why}: kylin-vr reload tries it again`;
  const when = pause === 0 ? 'by the next run of the timer' : `in ${pause} s`;
  return `${why} in ${triesOf(retry)}: it is tried again ${when}, kylin-vr reload tries it now`;
}

function lastRunOf({ id, time, trigger, command, result, durationMs, errors }: Report): NonNullable<Status['lastRun']> {
  const [error] = errors;
  return { id, time, trigger, command, result, durationMs, ...(error !== undefined && { error: inLine(error) }) };
}

function things(
  config: Config,
  { binding, machine, steps, waiting, keys, desired, observation }: Survey,
  arpIgnore: string | undefined,
): Pick<Status, 'nics' | 'eips' | 'forwards'> {
  const bound = new Map(binding.bound.map(({ mac, device }) => [mac, device]));
  const faulty = new Set(faultyNics(binding).map(({ mac }) => mac));
  const stateOf = reachOf(config, { binding, links: machine.links, steps, arpIgnore });
  const uplinkMac = uplinkOf(config)?.mac;
  const broken = brokenBy(
    config,
    binding.bound,
    binding.bound.find(({ mac }) => mac === uplinkMac),
    coursesBy(rulesByChain(desired)),
    coursesBy(rulesByChain(observation.state)),
  );
  return {
    nics: config.nics.map(({ mac, name, gateway, ipaddr, prefix, bridge }) => {
      const device = bound.get(mac);
      const kept = device === undefined ? undefined : keys.get(device);
      const common = {
        mac,
        ...(device !== undefined && { device }),
        ...(bridge !== undefined && { bridge: bridge.name }),
        ...(name !== undefined && { name }),
        role: gateway === undefined ? ('subnet' as const) : ('uplink' as const),
        address: `${ipaddr}/${prefix}`,
        ...(kept !== undefined && { kept }),
      };
      if (faulty.has(mac)) return { ...common, state: 'error' as const };
      if (device === undefined) return { ...common, state: 'pending' as const };
      if (waiting.some((nic) => nic.mac === mac)) return { ...common, state: 'pending' as const };
      const links = [device, bridge?.name];
      const isFaulty = steps.some((step) => holds(step, 'faults') && links.includes(linkOf(step)));
      return { ...common, state: isFaulty ? ('error' as const) : ('active' as const) };
    }),
    eips: config.eips.map((each) => ({ ...each, state: stateOf(each.eip, each.vmIp, broken.eip(each)) })),
    forwards: config.forwards.map((each) => ({ ...each, state: stateOf(each.eip, each.vmIp, broken.forward(each)) })),
  };
}

/** Connections that conntrack knows now, and those that NAT has led there since its rule was written. */
async function count(host: Host, { eips, forwards }: Status): Promise<void> {
  const [rules, table] = await Promise.all([
    host.run(['iptables-save', '-c', '-t', 'nat']),
    host.run(['conntrack', '-L'], { accept: [1] }),
  ]);
  const flows = parseFlows(table.stdout);
  const courses = coursesBy(countedRules('nat', linesOf('nat', rules.stdout)));
  const since = ({ eip, vmIp }: Eip, protocol: Protocol, ports: readonly number[]): number => {
    const ends = ports.map((port) => courses('nat', 'PREROUTING', { from: 0, to: ipv4(eip), protocol, port }));
    const ours = ends.flatMap((end) => (end !== undefined && leadsTo(end.verdict, vmIp) ? [end] : []));
    return [...new Set(ours)].reduce((sum, { packets }) => sum + packets, 0);
  };
  for (const eip of eips) {
    const ours = (flow: Flow) => flow.destination === eip.eip || flow.replyDestination === eip.eip;
    eip.counters = { now: flows.filter(ours).length, since: since(eip, 'tcp', [1]) };
  }
  for (const forward of forwards) {
    const { eip, protocol, port, endPort } = forward;
    const ours = (flow: Flow) =>
      flow.destination === eip &&
      flow.protocol === protocol &&
      flow.destinationPort !== undefined &&
      port <= flow.destinationPort &&
      flow.destinationPort <= endPort;
    forward.counters = { now: flows.filter(ours).length, since: since(forward, protocol, portsAsked(port, endPort)) };
  }
}

const leadsTo = (verdict: string, vmIp: string): boolean => {
  const to = 'DNAT --to-destination ';
  return verdict === to + vmIp || verdict.startsWith(`${to}${vmIp}:`);
};
