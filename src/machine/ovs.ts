// Everything that Open vSwitch is asked for, by ovs-vsctl: only where the configuration, or our record, names a bridge of it,
// or a NIC may be a port of one.

import { AgentError, CommandError, EXIT, UnsupportedError } from '../base/errors.ts';
import { visible } from '../base/visible.ts';
import { LIST_BRIDGES, type OvsStep, parseBridges, transaction, withoutAdded } from '../dialects/ovs.ts';
import { isOfDatapath, type OpenVSwitch, type OvsBridge, ovsBridges } from '../network/bridges.ts';
import type { ObservedLink } from '../network/nics.ts';
import type { Host } from './host.ts';

/** Its own end comes first: what it was doing is said then. */
const READ_S = 5;
/** A change is waited for until ovs-vswitchd has made it. */
const CHANGE_S = 10;

/**
 * Where it is not installed or does not answer, that is said, and is no failure: at boot it may come later than we do. `linksOf`: of
 * the machine, which tell whether it is there all the same.
 */
export async function readOvs(
  host: Host,
  linksOf: () => Promise<readonly ObservedLink[]> = async () => [],
): Promise<OpenVSwitch> {
  if ((await host.which('ovs-vsctl')) === undefined) return { silent: await whyMissing(host, await linksOf()) };
  try {
    const bridges = parseBridges(await vsctl(host, READ_S, LIST_BRIDGES));
    return { bridges, ...(bridges.length > 0 && (await isDeserted(host)) && { deserted: true }) };
  } catch (error) {
    if (!(error instanceof CommandError)) throw error;
    return { silent: `it does not answer: see systemctl status ${UNIT} (${error.message})` };
  }
}

/**
 * Its database answers, and the kernel goes on with the flows that it knows, where ovs-vswitchd was stopped or killed. Both are started
 * with a pid file (ovs-ctl); in a container the number in it is another one than here.
 */
async function isDeserted(host: Host): Promise<boolean> {
  const pid = (await host.read(`${FOLDER}/ovs-vswitchd.pid`, { orNothing: true }))?.trim();
  if (pid === undefined) return (await host.info(`${FOLDER}/ovsdb-server.pid`)) !== undefined;
  if (!/^\d+$/.test(pid)) return false;
  if ((await host.read(`/proc/${pid}/comm`, { orNothing: true }))?.startsWith('ovs-vswitchd')) return false;
  if ((await host.which('ovs-appctl')) === undefined) return false;
  try {
    await host.run(['ovs-appctl', '--timeout=2', '-t', `${FOLDER}/ovs-vswitchd.${pid}.ctl`, 'version']);
    return false;
  } catch (error) {
    if (!(error instanceof CommandError)) throw error;
    return true;
  }
}

const FOLDER = '/run/openvswitch';

/** Kolla runs it in containers, with its sockets in the machine's own folder. */
async function whyMissing(host: Host, links: readonly ObservedLink[]): Promise<string> {
  const sign =
    links.find(({ device }) => isOfDatapath(device))?.device ??
    ((await host.info(SOCKET)) === undefined ? undefined : SOCKET);
  if (sign === undefined) return 'ovs-vsctl is missing: install openvswitch-switch (openvswitch on RPM systems)';
  return (
    `ovs-vsctl is not in /usr/bin, but Open vSwitch is at work here (${sign}), in a container as it seems: install no second one, but ` +
    `make /usr/bin/ovs-vsctl a script that calls the container's, mode 0755, with the two lines #!/bin/sh and ` +
    `exec docker exec openvswitch_vswitchd ovs-vsctl "$@" (podman and the container's name where they are others; ` +
    `ovs-vsctl of its own asks ${SOCKET})`
  );
}

const SOCKET = `${FOLDER}/db.sock`;

/** What it does not do goes out of its database again: it would try that at each start. */
export async function changeOvs(host: Host, steps: readonly OvsStep[]): Promise<void> {
  try {
    await vsctl(host, CHANGE_S, transaction(steps));
  } catch (error) {
    if (!(error instanceof CommandError) || error instanceof UnsupportedError) throw error;
    // Where nobody answers it is no refusal: who comes then carries it out.
    if (error.exitCode !== undefined) await forgetAdded(host, steps);
    throw new AgentError(`Open vSwitch did not do it: see systemctl status ${UNIT} (${error.message})`, EXIT.failed, {
      cause: error,
    });
  }
  const added = steps.filter(isAddition);
  if (added.length === 0) return;
  // ovs-vsctl ends 0 all the same.
  const refused = refusedOf(added, ovsBridges(await readOvs(host)));
  if (refused === undefined) return;
  await forgetAdded(host, added);
  const { name, error } = refused;
  const why = error === '' ? '' : ` (${visible(error)})`;
  throw new AgentError(
    `Open vSwitch did not get ${name} to work${why}: see /var/log/openvswitch/ovs-vswitchd.log; it may lack its module of the kernel: modprobe openvswitch`,
    EXIT.failed,
  );
}

const isAddition = ({ kind }: OvsStep): boolean => kind === 'add-bridge' || kind === 'add-port';

function refusedOf(added: readonly OvsStep[], bridges: readonly OvsBridge[]) {
  const refused = new Map(bridges.flatMap((bridge) => (bridge.refused ?? []).map((each) => [each.name, each])));
  for (const step of added) {
    const found = refused.get('port' in step ? step.port.device : step.bridge.name);
    if (found !== undefined) return found;
  }
  return undefined;
}

/** Takes out of its database what these steps have put there. Nobody need carry it out. */
async function forgetAdded(host: Host, steps: readonly OvsStep[]): Promise<void> {
  const back = withoutAdded(steps.filter(isAddition), ovsBridges(await readOvs(host)));
  if (back.length === 0) return;
  // What is left the rollback finds, and says.
  await vsctl(host, READ_S, ['--no-wait', ...transaction(back)]).catch((error: unknown) => {
    if (!(error instanceof CommandError)) throw error;
  });
}

const UNIT = 'openvswitch-switch (openvswitch on RPM systems)';

async function vsctl(host: Host, seconds: number, args: readonly string[]): Promise<string> {
  const { stdout } = await host.run(['ovs-vsctl', `--timeout=${seconds}`, ...args], {
    timeoutMs: (seconds + 5) * 1000,
  });
  return stdout;
}
