// Everything that NetworkManager is asked for, by nmcli and busctl. Nothing here is asked by a run that changes nothing.

import { setTimeout as sleep } from 'node:timers/promises';
import { AgentError, CommandError, EXIT } from '../base/errors.ts';
import {
  type Command,
  findDevice,
  findProfile,
  flagsOf,
  isLoaded,
  isMadeUp,
  loadFiles,
  parsePath,
  READ_CONFIGURATION,
  reapplyPreserving,
} from '../dialects/busctl.ts';
import { IS_RUNNING, LIST_DEVICES, MISUSED, NOT_RUNNING, parseDevices, REFUSED, UNKNOWN } from '../dialects/nmcli.ts';
import { type Foreign, foreignText } from '../network/foreign.ts';
import { linkOf, type StepBy } from '../network/kinds.ts';
import type { ManagedDevice } from '../network/observation.ts';
import type { StepOf } from '../network/step.ts';
import { keepLost, putBack, readForeign, readNeighbours, recordForeign, showRoutes } from './foreign.ts';
import type { Host } from './host.ts';
import { monotonicMs } from './process.ts';

/**
 * For one call; `--wait` bounds only some of them. A NetworkManager that hangs makes most calls end after 25 s with the words
 * and statuses of other failures: ours comes first.
 */
const TIMEOUT_MS = 20_000;
/** An activation may take its time. */
const ACTIVATE_TIMEOUT_MS = 30_000;

const SYSTEM_BUS = '/run/dbus/system_bus_socket';

/** Without the bus (a rescue shell, a container) nmcli ends 1, as it does for many a reason: not a status to go by. */
export async function canAsk(host: Host): Promise<boolean> {
  return (await host.which('nmcli')) !== undefined && (await host.info(SYSTEM_BUS)) !== undefined;
}

/** The devices that NetworkManager manages; none where it does not run or is not there. */
export async function readManagers(host: Host): Promise<Map<string, ManagedDevice>> {
  return (await canAsk(host)) ? askManagers(host) : new Map();
}

async function askManagers(host: Host): Promise<Map<string, ManagedDevice>> {
  const managers = parseDevices(await nmcli(host, LIST_DEVICES, { accept: [NOT_RUNNING] }));
  await Promise.all(
    [...managers].map(async ([device, { profile }]) => {
      if (profile !== undefined && isRandom(profile) && (await isOfOthers(host, profile)))
        managers.set(device, { active: false, external: true });
    }),
  );
  return managers;
}

/** As NetworkManager names what it makes up, and nothing of ours (`profileUuid`). */
const isRandom = (uuid: string): boolean => uuid[14] === '4';

/**
 * A profile that NetworkManager made up for what somebody else set up is `connected` like any other before 1.26 (EL 7 has 1.18). What it
 * does not answer is no reason to stop.
 */
async function isOfOthers(host: Host, uuid: string): Promise<boolean> {
  if ((await host.which('busctl')) === undefined) return false;
  try {
    const path = parsePath(await ask(host, findProfile(uuid)));
    return path !== undefined && isMadeUp(await ask(host, flagsOf(path)));
  } catch (error) {
    if (error instanceof AgentError) return false;
    throw error;
  }
}

/** What NetworkManager and `ip` have been asked, where NetworkManager is to carry something out. */
export type Asked = { managers: Promise<ReadonlyMap<string, ManagedDevice>>; routes: Promise<string[]> };

/** Asks side by side. A failure is for who waits for the answer. */
export function askManaged(host: Host, managers: Asked['managers'] = askManagers(host)): Asked {
  const routes = showRoutes(host);
  for (const answer of [managers, routes]) answer.catch(() => {});
  return { managers, routes };
}

type ManagerStep = StepBy<'networkmanager'>;

/**
 * Carries out steps that are NetworkManager's; gives warnings. What is foreign is recorded before: the next run puts back what one
 * that is killed leaves.
 */
export async function applyProfiles(host: Host, steps: readonly ManagerStep[]): Promise<string[]> {
  const kept = steps.flatMap((step) => ('keep' in step ? (step.keep ?? []) : []));
  const foreign = [...kept, ...(await readNeighbours(host, devicesOf(steps)))];
  await recordForeign(host, foreign);
  try {
    if (!(await applyNews(host, steps))) await applyWhole(host, steps, foreign);
  } catch (error) {
    // Its record stays: who is killed or slow may take away more.
    await putBack(host, foreign).catch(() => []);
    throw error;
  }
  return orphaned(await keepLost(host, foreign, await putBack(host, foreign)));
}

const devicesOf = (steps: readonly ManagerStep[]): Set<string> => new Set(steps.flatMap((step) => linkOf(step) ?? []));

/**
 * Where only addresses of ours come and go, over D-Bus: NetworkManager preserves then what it did not bring, for which nmcli has no
 * option; and busctl asks just what it is asked, in 6 ms, where nmcli first reads all that NetworkManager knows, which takes 50
 * with 1,000 addresses. False: it cannot be done so, or not all of it was done. Of an address that goes NetworkManager may not
 * know that it is its own: it was stopped when we put it there.
 */
async function applyNews(host: Host, steps: readonly ManagerStep[]): Promise<boolean> {
  const files = steps.flatMap((step) => (step.kind === 'load-profiles' ? step.paths : []));
  const devices = steps.flatMap((step) => (step.kind === 'apply-profile' ? [step.device] : []));
  const takesNothing = (step: ManagerStep) =>
    step.kind === 'add-address' ||
    step.kind === 'remove-address' ||
    (step.kind === 'load-profiles' && step.keep === undefined && step.paths.length > 0) ||
    (step.kind === 'apply-profile' && step.preserves);
  if (devices.length === 0 || !steps.every(takesNothing) || (await host.which('busctl')) === undefined) return false;
  try {
    const [loaded = '', ...found] = await Promise.all(
      [loadFiles(files), ...devices.map(findDevice)].map((argv) => ask(host, argv)),
    );
    const paths = found.map(parsePath);
    if (!isLoaded(loaded)) return false;
    for (const path of paths) {
      if (path === undefined) return false;
      await ask(host, reapplyPreserving(path));
    }
  } catch (error) {
    // nmcli is asked the same, and says what is wrong.
    if (error instanceof CommandError) return false;
    throw error;
  }
  return areGone(host, steps, new Set(devices));
}

/** After the answer NetworkManager goes on: one address is gone within 50 ms, a thousand within some seconds. */
const STUCK_MS = 1500;

/** Waits as long as NetworkManager makes headway. */
async function areGone(host: Host, steps: readonly ManagerStep[], devices: ReadonlySet<string>): Promise<boolean> {
  if (!steps.some(({ kind }) => kind === 'remove-address')) return true;
  let before = Number.POSITIVE_INFINITY;
  for (let since = monotonicMs(); monotonicMs() - since < STUCK_MS; ) {
    const left = await countLeft(host, steps, devices);
    if (left === 0) return true;
    if (left < before) since = monotonicMs();
    before = left;
    await sleep(LOOK_MS);
  }
  return false;
}

/**
 * By nmcli. What is foreign on a NIC goes with what is in the profile when NetworkManager applies or forgets it: it is put back
 * right behind, 20 to 40 ms later, with 1,000 addresses 80 to 400, and once more when NetworkManager is done.
 */
async function applyWhole(host: Host, steps: readonly ManagerStep[], foreign: readonly Foreign[]): Promise<void> {
  // One thread serves all calls: when it answers it has done what it was asked for before.
  const isDone = async () => (foreign.length > 0 ? nmcli(host, IS_RUNNING) : undefined);
  const last = steps.at(-1);
  // It may have been at work when start wrote what is to hold for what it activates.
  if (steps.some((step) => step.kind === 'apply-profile' && !step.active)) await loadConfiguration(host);
  for (const step of steps) {
    await carryOut(host, step, steps);
    if (step.kind === 'apply-profile') await both(putBack(host, step.keep ?? []), step === last ? isDone() : undefined);
  }
  if (last?.kind !== 'apply-profile') await isDone();
}

function carryOut(host: Host, step: ManagerStep, steps: readonly ManagerStep[]): Promise<unknown> {
  switch (step.kind) {
    case 'load-profiles':
      return loadProfiles(host, step.paths).then(() => step.keep && isLetGo(host, step.keep, steps));
    case 'forget-profiles':
      return loadProfiles(host, step.paths);
    case 'apply-profile':
      return applyProfile(host, step);
    case 'release-device':
      return releaseDevice(host, step.device);
    case 'return-device':
      return returnDevice(host, step);
    // With a profile that is applied or let go.
    case 'add-address':
    case 'remove-address':
    case 'add-route':
    case 'remove-route':
    case 'add-subnet-route':
      return Promise.resolve();
  }
}

/** Side by side, each to its end. */
async function both(...work: (Promise<unknown> | undefined)[]): Promise<void> {
  for (const ended of await Promise.allSettled(work)) if (ended.status === 'rejected') throw ended.reason;
}

export const orphaned = (lost: readonly Foreign[]): string[] =>
  lost.map(
    (each) =>
      `${foreignText(each)} went with a change, and the kernel does not take it back: add it anew where it is still needed`,
  );

/** Reads files anew, all of them where none is named; profiles whose file is gone are forgotten. */
async function loadProfiles(host: Host, paths: readonly string[]): Promise<void> {
  // One that was built with /var/run knows them by no other name; what it does not know it passes over.
  const named = paths.flatMap((path) => (path.startsWith('/run/') ? [path, `/var${path}`] : [path]));
  await nmcli(host, paths.length === 0 ? ['connection', 'reload'] : ['connection', 'load', ...named]);
}

/**
 * nmcli does not wait for NICs whose profile is forgotten: 1,000 addresses are gone after some seconds, what is foreign before
 * them. The verification has more patience.
 */
const LET_GO_MS = 5000;
const LOOK_MS = 20;

async function isLetGo(host: Host, foreign: readonly Foreign[], steps: readonly ManagerStep[]): Promise<void> {
  const devices = new Set(foreign.map(({ device }) => device));
  const since = monotonicMs();
  while (monotonicMs() - since < LET_GO_MS) {
    await putBack(host, foreign);
    if ((await countLeft(host, steps, devices)) === 0) return;
    await sleep(LOOK_MS);
  }
}

/** How many of the addresses that these steps remove are on these devices still. */
async function countLeft(host: Host, steps: readonly ManagerStep[], devices: ReadonlySet<string>): Promise<number> {
  const going = new Set(
    steps.flatMap((step) =>
      step.kind === 'remove-address' ? [`${step.address.spec} dev ${step.address.device}`] : [],
    ),
  );
  const there = await readForeign(host, devices);
  return there.filter(({ words }) => going.has(/^.+? dev \S+/.exec(words)?.[0] ?? '')).length;
}

/**
 * reapply changes just what differs; it is refused on a device on which no profile is active, and where the profile is bound
 * to another MAC or name than before. `connection up` flushes every address first, so it comes last.
 */
async function applyProfile(host: Host, step: StepOf<'apply-profile'>): Promise<void> {
  const { device, uuid, active, standing } = step;
  if ((active || (standing && (await takeOver(host, device, uuid)))) && (await reapply(host, device))) return;
  // A device that has just come is activated by NetworkManager itself once the profile is loaded: a second time would take away
  // for 50 ms what the first has brought.
  if (!active && !standing && (await isActive(host, device, uuid)) && (await reapply(host, device))) return;
  try {
    await nmcli(host, ['--wait', '20', 'connection', 'up', 'uuid', uuid, 'ifname', device], {
      timeoutMs: ACTIVATE_TIMEOUT_MS,
    });
  } catch (error) {
    if (!(error instanceof CommandError) || error.exitCode !== UNKNOWN) throw error;
    throw failure(
      `NetworkManager did not read the profile of ${device}: journalctl -u NetworkManager says why; if it reads no ifcfg ` +
        'files, move /etc/sysconfig/network-scripts away (or use --renderer keyfile)',
      error,
    );
  }
}

async function isActive(host: Host, device: string, uuid: string): Promise<boolean> {
  const found = (await readManagers(host)).get(device);
  return found?.active === true && found.profile === uuid;
}

async function reapply(host: Host, device: string): Promise<boolean> {
  try {
    await nmcli(host, ['device', 'reapply', device]);
    return true;
  } catch (error) {
    if (error instanceof CommandError && error.exitCode === REFUSED) return false;
    throw error;
  }
}

/**
 * Let alone by hand a device keeps what is on it, and in that order only: the drop-in read first takes it away (NetworkManager
 * 1.42, test/bridge). The drop-in is for what is still to come: the bridge, and the next start.
 */
async function releaseDevice(host: Host, device: string): Promise<void> {
  await nmcli(host, ['device', 'set', device, 'managed', 'no']);
  await loadConfiguration(host);
}

async function returnDevice(host: Host, { device, uuid }: StepOf<'return-device'>): Promise<void> {
  await loadConfiguration(host);
  await loadProfiles(host, []);
  await takeOver(host, device, uuid);
}

/** Nothing is activated or applied by that. */
export async function loadConfiguration(host: Host): Promise<void> {
  if ((await host.which('busctl')) !== undefined) {
    try {
      await ask(host, READ_CONFIGURATION);
      return;
    } catch (error) {
      // nmcli is asked the same, and says what is wrong.
      if (!(error instanceof CommandError)) throw error;
    }
  }
  await nmcli(host, RELOAD_CONFIGURATION, { accept: [MISUSED] });
}

const RELOAD_CONFIGURATION = ['general', 'reload', 'conf'] as const;

const TAKE_OVER_MS = 8000;

/**
 * Lets a device that somebody else has set up, or that lost its profile with its carrier, alone, and manages it again: NetworkManager then
 * activates our profile by itself and finds its addresses there, so that none is removed. A run that is killed in between leaves the device unmanaged, hence
 * to `ip`, until the next boot.
 */
async function takeOver(host: Host, device: string, uuid: string): Promise<boolean> {
  for (const managed of ['no', 'yes']) await nmcli(host, ['device', 'set', device, 'managed', managed]);
  const since = monotonicMs();
  while (monotonicMs() - since < TAKE_OVER_MS) {
    if (await isActive(host, device, uuid)) return true;
    await sleep(LOOK_MS);
  }
  return false;
}

const nmcli = (host: Host, args: readonly string[], options?: AskOptions): Promise<string> =>
  ask(host, ['nmcli', ...args], options);

type AskOptions = { timeoutMs?: number; accept?: readonly number[] };

async function ask(
  host: Host,
  argv: Command,
  { timeoutMs = TIMEOUT_MS, ...options }: AskOptions = {},
): Promise<string> {
  try {
    return (await host.run(argv, { timeoutMs, ...options })).stdout;
  } catch (error) {
    if (error instanceof CommandError && error.exitCode === undefined)
      throw failure('NetworkManager does not answer: see systemctl status NetworkManager, restart it', error);
    if (error instanceof CommandError && error.exitCode === NOT_RUNNING)
      throw failure('NetworkManager ended while it was at work: see systemctl status NetworkManager', error);
    throw error;
  }
}

const failure = (message: string, cause: CommandError): AgentError =>
  new AgentError(`${message} (${cause.message})`, EXIT.failed, { cause });
