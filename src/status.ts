// Desired against observed, per NIC, EIP and forward; the last run and how it ended. Touches nothing.

import type { Config } from './config/config.ts';
import { uplinkOf } from './config/config.ts';
import type { Issue } from './config/issue.ts';
import { type Flow, parseFlows } from './dialects/conntrack.ts';
import { type ForeignThing, foreignThings } from './foreign.ts';
import { hashOf } from './hash.ts';
import { readTrusted } from './machine/config-file.ts';
import { readRefusal } from './machine/history.ts';
import type { Host } from './machine/host.ts';
import { describeHolder, readHolder } from './machine/lock.ts';
import { readConfig } from './machine/parsed.ts';
import { PATHS } from './machine/paths.ts';
import { readPending, secondsLeft } from './machine/pending.ts';
import { readLastRun } from './machine/turn.ts';
import { describe, type Step } from './network/step.ts';
import type { Report } from './reconcile.ts';
import { chooseRenderer, type Survey, survey } from './survey.ts';

export type State = 'active' | 'pending' | 'error';

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
  }[];
  eips: { eip: string; vmIp: string; state: State; counters?: Counters }[];
  forwards: {
    eip: string;
    protocol: string;
    port: number;
    endPort: number;
    vmPort: number;
    vmIp: string;
    state: State;
    counters?: Counters;
  }[];
  /** What is not ours on NICs of the file, and in nat. */
  foreign: ForeignThing[];
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
  /** Another run at work. */
  running?: string;
  /** A change that is taken back unless it is confirmed. `deadline`: by the clock as it is now. */
  pending?: { secondsLeft: number; deadline: string; time: string; trigger: string; run: string; phase: string };
  /** Why the file is not what is in force, where it is not. */
  notInForce?: string;
};

/** `text`: of the file, where it could be read. */
export async function readStatus(
  host: Host,
  { config: path, renderer, counters }: { config: string; renderer?: string; counters: boolean },
): Promise<{ report: Status; valid: boolean; text?: string }> {
  const file = await readTrusted(host, path, 'look');
  const text = 'bytes' in file ? new TextDecoder().decode(file.bytes) : undefined;
  const fromFile =
    'errors' in file
      ? { ok: false as const, errors: file.errors, warnings: [] }
      : await readConfig(host, file.bytes, 'look');
  const errors = fromFile.ok ? [] : fromFile.errors;
  const warnings = [...('warnings' in file ? file.warnings : []), ...fromFile.warnings];

  // With a bad file the last good configuration is in force: that is what the machine is held against.
  const lastGood = fromFile.ok ? undefined : await host.readBytes(PATHS.lastGood);
  const parsed = lastGood === undefined ? fromFile : await readConfig(host, lastGood, 'look');
  const found = parsed.ok
    ? await survey(host, parsed.config, await chooseRenderer(host, renderer), 'whole')
    : undefined;
  if (found !== undefined) warnings.push(...found.warnings.map((message) => ({ message })));

  const holder = readHolder(PATHS.run);
  const last = readLastRun<Report>(PATHS.run);
  const report: Status = {
    inSync: fromFile.ok && found?.steps.length === 0,
    ...(parsed.ok && found ? things(parsed.config, found) : { nics: [], eips: [], forwards: [] }),
    foreign: found === undefined ? [] : await foreignThings(host, found),
    steps: (found?.steps ?? []).map((step) => ({ kind: step.kind, text: describe(step) })),
    warnings,
    errors,
    ...(last !== undefined && { lastRun: lastRunOf(last) }),
    ...(holder !== undefined && { running: describeHolder(holder) }),
    ...(await inForce(host, fromFile.ok, 'bytes' in file ? hashOf(file.bytes) : undefined)),
  };
  if (counters && parsed.ok) await count(host, report);
  return { report, valid: fromFile.ok, ...(text !== undefined && { text }) };
}

async function inForce(
  host: Host,
  valid: boolean,
  hash: string | undefined,
): Promise<Pick<Status, 'pending' | 'notInForce'>> {
  const change = await readPending(host);
  const left = change === undefined ? 0 : Math.ceil(await secondsLeft(host, change));
  const lastGood = await host.readBytes(PATHS.lastGood);
  const refusal = await readRefusal(host);
  const reason = (): string | undefined => {
    if (!valid) return lastGood === undefined ? undefined : 'it is not valid: the last good configuration is';
    if (change !== undefined)
      return hash === change.hash
        ? undefined
        : 'a change that waits for its confirmation is, the file is another since';
    if (lastGood !== undefined && hashOf(lastGood) === hash) return undefined;
    if (refusal !== undefined && refusal.hash === hash) return `${refusal.why}: kylin-vr reload tries it again`;
    return 'it was not applied yet';
  };
  const notInForce = reason();
  return {
    ...(change !== undefined && {
      pending: {
        secondsLeft: left,
        deadline: new Date(Date.now() + left * 1000).toISOString(),
        time: change.time,
        trigger: change.trigger,
        run: change.run,
        phase: change.phase,
      },
    }),
    ...(notInForce !== undefined && { notInForce }),
  };
}

function lastRunOf({ id, time, trigger, command, result, durationMs, errors }: Report): NonNullable<Status['lastRun']> {
  const [error] = errors;
  return { id, time, trigger, command, result, durationMs, ...(error !== undefined && { error: error.message }) };
}

function things(config: Config, { binding, steps, waiting }: Survey): Pick<Status, 'nics' | 'eips' | 'forwards'> {
  const bound = new Map(binding.bound.map(({ mac, device }) => [mac, device]));
  const broken = new Set(binding.broken.map(({ nic }) => nic.mac));
  const uplink = uplinkOf(config);
  const uplinkState =
    uplink === undefined || broken.has(uplink.mac) ? 'error' : bound.has(uplink.mac) ? 'active' : 'pending';
  const stateOf = (address: string): State =>
    uplinkState !== 'active' ? uplinkState : steps.some((step) => concerns(step, address)) ? 'error' : 'active';
  return {
    nics: config.nics.map(({ mac, name, gateway, ipaddr, prefix, bridge }) => {
      const device = bound.get(mac);
      const common = {
        mac,
        ...(device !== undefined && { device }),
        ...(bridge !== undefined && { bridge: bridge.name }),
        ...(name !== undefined && { name }),
        role: gateway === undefined ? ('subnet' as const) : ('uplink' as const),
        address: `${ipaddr}/${prefix}`,
      };
      if (device === undefined)
        return { ...common, state: broken.has(mac) ? ('error' as const) : ('pending' as const) };
      if (waiting.some((nic) => nic.mac === mac)) return { ...common, state: 'pending' as const };
      const links = [device, bridge?.name];
      return { ...common, state: steps.some((step) => isOn(step, links)) ? ('error' as const) : ('active' as const) };
    }),
    eips: config.eips.map(({ eip, vmIp }) => ({ eip, vmIp, state: stateOf(eip) })),
    forwards: config.forwards.map((forward) => ({ ...forward, state: stateOf(forward.eip) })),
  };
}

/** Whether a step that is still to be done keeps an EIP from working. */
function concerns(step: Step, eip: string): boolean {
  switch (step.kind) {
    case 'add-address':
      return step.address.spec === `${eip}/32`;
    case 'add-jump':
      return true;
    case 'add-chain':
    case 'replace-chain':
      return step.chain.name.endsWith(`-${eip}`) || step.chain.rules.some((rule) => mentions(rule, eip));
    case 'edit-chain':
      return step.name.endsWith(`-${eip}`) || [...step.add, ...step.remove].some((rule) => mentions(rule, eip));
    case 'set-sysctl':
      return step.key === 'net/ipv4/ip_forward';
    default:
      return false;
  }
}

const mentions = (rule: string, address: string): boolean =>
  rule.includes(`-d ${address}/32 `) || rule.endsWith(`--to-source ${address}`);

function isOn(step: Step, links: readonly (string | undefined)[]): boolean {
  switch (step.kind) {
    case 'set-link-up':
    case 'set-link-down':
    case 'set-mtu':
      return links.includes(step.device);
    case 'add-address':
    case 'remove-address':
      return links.includes(step.address.device);
    case 'add-route':
    case 'remove-route':
    case 'add-subnet-route':
      return links.includes(step.route.device);
    case 'add-bridge':
    case 'remove-bridge':
      return links.includes(step.bridge.name);
    case 'add-port':
    case 'remove-port':
      return links.includes(step.port.device);
    default:
      return false;
  }
}

/** Connections that conntrack knows now, and those that NAT has led there since its rule was written. */
async function count(host: Host, { eips, forwards }: Status): Promise<void> {
  const [rules, table] = await Promise.all([
    host.run(['iptables-save', '-c', '-t', 'nat']),
    host.run(['conntrack', '-L'], { accept: [1] }),
  ]);
  const flows = parseFlows(table.stdout);
  const led = ledBy(rules.stdout);
  for (const eip of eips) {
    const ours = (flow: Flow) => flow.destination === eip.eip || flow.replyDestination === eip.eip;
    eip.counters = { now: flows.filter(ours).length, since: led(`-d ${eip.eip}/32 `) };
  }
  for (const forward of forwards) {
    const { eip, protocol, port, endPort } = forward;
    const ours = (flow: Flow) =>
      flow.destination === eip &&
      flow.protocol === protocol &&
      flow.destinationPort !== undefined &&
      port <= flow.destinationPort &&
      flow.destinationPort <= endPort;
    const match = `-p ${protocol} -m ${protocol} --dport ${port === endPort ? port : `${port}:${endPort}`} `;
    forward.counters = { now: flows.filter(ours).length, since: led(match, `KYLIN-VR-P-${eip} `) };
  }
}

/** Packets that matched the DNAT rule with these words: the first of each connection. */
function ledBy(save: string): (match: string, chain?: string) => number {
  const rules = save.split('\n').filter((line) => line.includes(' -j DNAT '));
  return (match, chain = 'KYLIN-VR-D28-') =>
    Number(
      /^\[(\d+):/.exec(rules.find((line) => line.includes(`-A ${chain}`) && line.includes(match)) ?? '')?.[1] ?? 0,
    );
}
