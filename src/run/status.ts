// Desired against observed, per NIC, EIP and forward; the last run and how it ended. Touches nothing.

import { hashOf } from '../base/hash.ts';
import { contains, formatNetwork, parseIpv4 } from '../base/ipv4.ts';
import { PATHS } from '../base/paths.ts';
import type { Shape } from '../base/shape.ts';
import { type Config, type Protocol, uplinkOf } from '../config/config.ts';
import { type Issue, inLine } from '../config/issue.ts';
import { parseFlows } from '../dialects/conntrack.ts';
import { reader } from '../engines/reader.ts';
import { readTrusted } from '../machine/config-file.ts';
import { readFlowRecord, waysInForce } from '../machine/flow-record.ts';
import { pauseLeft, type Refusal, readLastGood, readRefusal, triesOf } from '../machine/history.ts';
import type { Host } from '../machine/host.ts';
import { report as reportShape } from '../machine/kept-shapes.ts';
import { readConfig } from '../machine/known/parsed.ts';
import { describeHolder, readHolder } from '../machine/lock.ts';
import { findObstacles } from '../machine/obstacles.ts';
import { oldClientsHint } from '../machine/old-clients.ts';
import { readPending, secondsLeft } from '../machine/pending.ts';
import { readLastRun } from '../machine/turn.ts';
import { unitFault } from '../machine/units.ts';
import { ledElsewhere } from '../machine/ways.ts';
import { waysInside } from '../network/explain.ts';
import { type Filter, type FilterFound, forwardKey, type Part, type SourceRule } from '../network/filter.ts';
import type { Flow } from '../network/flow.ts';
import { describe, holds, linkOf } from '../network/kinds.ts';
import { faultyNics, ipLinkOf, onBridges, usedNics } from '../network/nics.ts';
import type { ProfileKeys } from '../network/profile-keys.ts';
import { reachOf, type State } from '../network/reach.ts';
import { sourceRuleFor } from '../network/translation.ts';
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
  /** `broken`: where the packet filter is, on its way. */
  eips: { eip: string; vmIp: string; state: State; broken?: readonly Part[]; counters?: Counters }[];
  forwards: {
    eip: string;
    protocol: Protocol;
    port: number;
    endPort: number;
    vmPort: number;
    vmIp: string;
    state: State;
    broken?: readonly Part[];
    counters?: Counters;
  }[];
  /** What becomes of a source that leaves by an uplink: the narrowest network that holds it decides. */
  sources: {
    source: string;
    to: string;
    state: State;
    broken?: readonly Part[];
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

  const counts = counters && found !== undefined ? await readCounts(host) : undefined;
  const state =
    parsed.ok && found
      ? things(parsed.config, found, arpIgnore, counts)
      : { nics: [], eips: [], forwards: [], sources: [] };
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
  { nics, eips, forwards, sources }: Pick<Status, 'nics' | 'eips' | 'forwards' | 'sources'>,
): Promise<Issue[]> {
  if (!found.binding.bound.some(({ bridge }) => bridge !== undefined)) return [];
  const { silentGateways } = await import('./gateways.ts');
  const silent = await silentGateways(host, onBridges(usedNics(found.binding), found.machine.addresses));
  const macs = new Set(silent.map(({ nic }) => nic.mac));
  const mapped = macs.has(uplinkOf(config)?.mac ?? '') ? [...eips, ...forwards, ...sources] : [];
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
  found: Survey,
  arpIgnore: string | undefined,
  counts: Counts | undefined,
): Pick<Status, 'nics' | 'eips' | 'forwards' | 'sources'> {
  const { binding, machine, steps, waiting, keys } = found;
  const bound = new Map(binding.bound.map(({ mac, device }) => [mac, device]));
  const faulty = new Set(faultyNics(binding).map(({ mac }) => mac));
  const reach = reachOf(config, { binding, links: machine.links, steps, arpIgnore });
  const { eips, forwards, sources } = readFound(config, found, counts);
  const eipOf = new Map(eips.map((each) => [each.eip, each]));
  const forwardOf = new Map(forwards.map((each) => [forwardKey(each), each]));
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
    eips: config.eips.map((each) => {
      const { broken, since } = eipOf.get(each.eip) ?? NOTHING_FOUND;
      const isOurs = (flow: Flow) => flow.destination === each.eip || flow.replyDestination === each.eip;
      return {
        ...each,
        state: reach.mapping(each.eip, each.vmIp, broken.length > 0),
        ...(broken.length > 0 && { broken }),
        ...countersOf(counts, isOurs, since),
      };
    }),
    forwards: config.forwards.map((each) => {
      // Where the EIP is another's, that has its ports.
      const { broken, since } = forwardOf.get(forwardKey(each)) ?? eipOf.get(each.eip) ?? NOTHING_FOUND;
      const isOurs = ({ destination, protocol, destinationPort: port }: Flow) =>
        destination === each.eip &&
        protocol === each.protocol &&
        port !== undefined &&
        each.port <= port &&
        port <= each.endPort;
      return {
        ...each,
        state: reach.mapping(each.eip, each.vmIp, broken.length > 0),
        ...(broken.length > 0 && { broken }),
        ...countersOf(counts, isOurs, forwardOf.has(forwardKey(each)) ? since : 0),
      };
    }),
    sources: sources.map(({ broken, since, ...rule }) => {
      const by = typeof rule.to === 'object' ? rule.to.address : rule.to;
      return {
        source: formatNetwork(rule.network),
        to: by,
        state: reach.source(rule.network, by, broken.length > 0),
        ...(broken.length > 0 && { broken }),
        ...countersOf(counts, (flow) => isOfSource(flow, rule, found.desired.filter), since),
      };
    }),
  };
}

const NOTHING_FOUND = { broken: [], since: 0 } as const;

/** What of the file the packet filter has, by the engine's reader. */
function readFound(config: Config, { binding, desired, observation }: Survey, counts: Counts | undefined): FilterFound {
  const { filter } = desired;
  if (filter === undefined) return { eips: [], forwards: [], sources: [] };
  const ways = waysInside(config);
  const links = new Map(binding.bound.map((nic) => [nic.mac, ipLinkOf(nic)]));
  const deviceTo = (address: number) => {
    const way = ways.find(({ network }) => contains(network, address));
    return way === undefined ? filter.uplink?.device : links.get(way.place.nic.mac);
  };
  const parts = { wanted: desired, found: observation.state, ...(counts && { counted: counts.rules }) };
  return reader.read(filter, parts, { deviceTo });
}

/** What leaves by an uplink, and not by an EIP of its own. */
function isOfSource({ source, replySource, replyDestination }: Flow, rule: SourceRule, filter: Filter | undefined) {
  const [from, to] = [parseIpv4(source), parseIpv4(replySource)];
  if (filter === undefined || from === undefined || to === undefined) return false;
  return (
    sourceRuleFor(filter.sources, from)?.network === rule.network &&
    !filter.ownSource.has(source) &&
    !filter.networks.some((network) => contains(network, to)) &&
    (rule.to === 'none') === (replyDestination === source)
  );
}

/** What the rules count, as the engine's command prints it, and what conntrack knows now. */
type Counts = { rules: string; flows: Flow[] };

async function readCounts(host: Host): Promise<Counts> {
  const [rules, table] = await Promise.all([host.run(reader.counting), host.run(['conntrack', '-L'], { accept: [1] })]);
  return { rules: rules.stdout, flows: parseFlows(table.stdout) };
}

const countersOf = (counts: Counts | undefined, isOurs: (flow: Flow) => boolean, since = 0): { counters?: Counters } =>
  counts === undefined ? {} : { counters: { now: counts.flows.filter(isOurs).length, since } };
