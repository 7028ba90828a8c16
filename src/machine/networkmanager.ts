// Everything that NetworkManager is asked for, by nmcli. Nothing here is called by a run that changes nothing.

import { LIST_DEVICES, type ManagedDevice, NOT_RUNNING, parseDevices, REFUSED, UNKNOWN } from '../dialects/nmcli.ts';
import { AgentError, CommandError, EXIT } from '../errors.ts';
import type { Step } from '../network/step.ts';
import type { Host } from './host.ts';

/**
 * For one call; `--wait` bounds only some of them. A NetworkManager that hangs makes most calls end after 25 s with the words
 * and statuses of other failures: ours comes first.
 */
const TIMEOUT_MS = 20_000;
/** An activation may take its time. */
const ACTIVATE_TIMEOUT_MS = 60_000;

const SYSTEM_BUS = '/run/dbus/system_bus_socket';

/** The devices that NetworkManager manages; none where it does not run or is not there. */
export async function readManagers(host: Host): Promise<Map<string, ManagedDevice>> {
  // Without the bus (a rescue shell, a container) nmcli ends 1, as it does for many a reason: not a status to go by.
  if ((await host.which('nmcli')) === undefined || (await host.info(SYSTEM_BUS)) === undefined) return new Map();
  return parseDevices(await nmcli(host, LIST_DEVICES, { accept: [NOT_RUNNING] }));
}

/** Reads files anew, all of them where none is named; profiles whose file is gone are forgotten. */
export async function loadProfiles(host: Host, paths: readonly string[]): Promise<void> {
  await nmcli(host, paths.length === 0 ? ['connection', 'reload'] : ['connection', 'load', ...paths]);
}

/**
 * reapply changes just what differs. `connection up` flushes every address first, so it is for a device on which our profile
 * is not active, and for changes that reapply refuses (a MAC or a name that the profile is bound to).
 */
export async function applyProfile(host: Host, step: Extract<Step, { kind: 'apply-profile' }>): Promise<void> {
  const { device, uuid, active } = step;
  if (active) {
    try {
      await nmcli(host, ['device', 'reapply', device]);
      return;
    } catch (error) {
      if (!(error instanceof CommandError) || error.exitCode !== REFUSED) throw error;
    }
  }
  try {
    await nmcli(host, ['--wait', '45', 'connection', 'up', 'uuid', uuid, 'ifname', device], {
      timeoutMs: ACTIVATE_TIMEOUT_MS,
    });
  } catch (error) {
    if (!(error instanceof CommandError) || error.exitCode !== UNKNOWN) throw error;
    throw failure(
      `NetworkManager did not read the profile of ${device}: its log says why; if it does not know the format, choose ` +
        'another one with --renderer',
      error,
    );
  }
}

async function nmcli(
  host: Host,
  args: readonly string[],
  { timeoutMs = TIMEOUT_MS, ...options }: { timeoutMs?: number; accept?: readonly number[] } = {},
): Promise<string> {
  try {
    return (await host.run(['nmcli', ...args], { timeoutMs, ...options })).stdout;
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
