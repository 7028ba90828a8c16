// Everything that Open vSwitch is asked for, by ovs-vsctl: only where the configuration, or our record, names a bridge of it,
// or a NIC may be a port of one.

import { LIST_BRIDGES, type OvsStep, parseBridges, transaction } from '../dialects/ovs.ts';
import { AgentError, CommandError, EXIT, UnsupportedError } from '../errors.ts';
import type { OpenVSwitch } from '../network/bridges.ts';
import type { Host } from './host.ts';

/** Its own end comes first: what it was doing is said then. */
const READ_S = 5;
/** A change is waited for until ovs-vswitchd has made it. */
const CHANGE_S = 10;

/** Where it is not installed or does not answer, that is said, and is no failure: at boot it may come later than we do. */
export async function readOvs(host: Host): Promise<OpenVSwitch> {
  if ((await host.which('ovs-vsctl')) === undefined)
    return { silent: 'ovs-vsctl is missing: install openvswitch-switch (openvswitch on RPM systems)' };
  try {
    return { bridges: parseBridges(await vsctl(host, READ_S, LIST_BRIDGES)) };
  } catch (error) {
    if (!(error instanceof CommandError)) throw error;
    return { silent: `it does not answer: see systemctl status ${UNIT} (${error.message})` };
  }
}

export async function changeOvs(host: Host, steps: readonly OvsStep[]): Promise<void> {
  try {
    await vsctl(host, CHANGE_S, transaction(steps));
  } catch (error) {
    if (!(error instanceof CommandError) || error instanceof UnsupportedError) throw error;
    throw new AgentError(`Open vSwitch did not do it: see systemctl status ${UNIT} (${error.message})`, EXIT.failed, {
      cause: error,
    });
  }
}

const UNIT = 'openvswitch-switch (openvswitch on RPM systems)';

async function vsctl(host: Host, seconds: number, args: readonly string[]): Promise<string> {
  const { stdout } = await host.run(['ovs-vsctl', `--timeout=${seconds}`, ...args], {
    timeoutMs: (seconds + 5) * 1000,
  });
  return stdout;
}
