// A real NetworkManager in the router of a laboratory, on a D-Bus of its own. Both live in the router's namespaces, see
// only its NICs, /etc, /run and /var, and end with it.

import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { text } from 'node:stream/consumers';
import type { Router } from './lab.ts';

export type NetworkManagerOptions = {
  /** Settings beside those of the laboratory, as in NetworkManager.conf: `[connection]\nipv4.dad-timeout=3000`. */
  configuration?: string;
  /** Where the profiles are read from; the first one writes new ones. Keyfiles when absent, with `prefix` ifcfg files too. */
  plugins?: 'keyfile' | 'ifcfg-rh,keyfile' | 'keyfile,ifcfg-rh';
  /** A NetworkManager that is not the machine's, as `networkManagerIfcfg()` builds it: `PREFIX/sbin/NetworkManager`. */
  prefix?: string;
};

export type NetworkManager = {
  /** The daemon; another one after `restart`. */
  readonly pid: number;
  /** Ends it by a signal, SIGTERM when absent, and waits for the end. */
  stop(signal?: NodeJS.Signals): Promise<void>;
  /** Ends it without a chance to tidy up. */
  kill(): Promise<void>;
  /** Stops it if it runs, and starts it. */
  restart(): Promise<void>;
  /** What the daemons wrote until now. */
  log(): string;
};

const BUS_SOCKET = '/run/dbus/system_bus_socket';
export const BUS_CONFIGURATION = '/run/dbus/system.conf';
const CONFIGURATION = '/etc/NetworkManager/NetworkManager.conf';
const CONFIGURATION_OF_TEST = '/etc/NetworkManager/conf.d/90-laboratory.conf';
const READY_WITHIN_MS = 20_000;

/** Everybody may say and own everything, and nothing is started on demand: no polkit, no dispatcher. */
export const BUS = `<!DOCTYPE busconfig PUBLIC "-//freedesktop//DTD D-Bus Bus Configuration 1.0//EN"
 "http://www.freedesktop.org/standards/dbus/1.0/busconfig.dtd">
<busconfig>
  <type>system</type>
  <listen>unix:path=${BUS_SOCKET}</listen>
  <auth>EXTERNAL</auth>
  <policy context="default">
    <allow user="*"/>
    <allow own="*"/>
    <allow send_destination="*" eavesdrop="true"/>
    <allow eavesdrop="true"/>
  </policy>
</busconfig>
`;

/** Without `managed` and `unmanaged-devices` NetworkManager leaves a veth alone. */
const configuration = (plugins: string) => `[main]
plugins=${plugins}
no-auto-default=*
dns=none
auth-polkit=false

[device]
match-device=*
managed=1

[keyfile]
unmanaged-devices=none
`;

/**
 * Needs a router without a NetworkManager. Its profiles may be there before, in /etc/NetworkManager/system-connections
 * (owner root, mode 0600) or /etc/sysconfig/network-scripts.
 */
export async function startNetworkManager(
  router: Router,
  options: NetworkManagerOptions = {},
): Promise<NetworkManager> {
  const { prefix, plugins = prefix === undefined ? 'keyfile' : 'ifcfg-rh,keyfile' } = options;
  const binary = prefix === undefined ? '/usr/sbin/NetworkManager' : join(prefix, 'sbin/NetworkManager');
  if (!existsSync('/usr/sbin/NetworkManager') || !existsSync('/usr/bin/dbus-daemon'))
    await script('networkmanager-install.sh');

  // With a writable /sys NetworkManager takes the machine for one with udev, and waits for it to announce every NIC.
  await router.run(['mount', '-o', 'remount,bind,ro', '/sys'], { check: true });
  await router.write(BUS_CONFIGURATION, BUS);
  await router.write(CONFIGURATION, configuration(plugins));
  await router.write(CONFIGURATION_OF_TEST, options.configuration ?? '');

  let output = '';
  const daemon = (argv: readonly string[]): ChildProcess => {
    const child = router.spawn(argv, { stdio: ['ignore', 'pipe', 'pipe'] });
    for (const stream of [child.stdout, child.stderr])
      stream?.setEncoding('utf8').on('data', (words: string) => {
        output += words;
      });
    return child;
  };

  const bus = daemon([
    'dbus-daemon',
    `--config-file=${BUS_CONFIGURATION}`,
    '--nofork',
    '--nopidfile',
    '--print-address',
  ]);
  if (bus.stdout === null) throw new Error('dbus-daemon has no output');
  await Promise.race([once(bus.stdout, 'data'), once(bus, 'exit')]);
  if (hasEnded(bus)) throw new Error(`starting dbus-daemon: ${output}`);

  const start = async () => {
    const child = daemon([binary, '--no-daemon', '--debug', `--config=${CONFIGURATION}`]);
    const deadline = Date.now() + READY_WITHIN_MS;
    while (!(await isReady(router))) {
      if (hasEnded(child)) throw new Error(`NetworkManager ended while it started: ${output}`);
      if (Date.now() > deadline) throw new Error(`NetworkManager is not ready after ${READY_WITHIN_MS} ms: ${output}`);
    }
    return child;
  };
  const stop = async (signal: NodeJS.Signals = 'SIGTERM') => {
    if (hasEnded(current)) return;
    const ended = once(current, 'exit');
    current.kill(signal);
    // One that hangs by SIGSTOP hears no other signal.
    current.kill('SIGCONT');
    await ended;
  };

  let current = await start();
  return {
    get pid() {
      if (current.pid === undefined) throw new Error('NetworkManager has not started');
      return current.pid;
    },
    stop,
    kill: () => stop('SIGKILL'),
    async restart() {
      await stop();
      current = await start();
    },
    log: () => output,
  };
}

/**
 * The folder of a NetworkManager that reads ifcfg files, of the machine's own version. Builds it unless it is in the
 * cache already: a minute or two.
 */
export async function networkManagerIfcfg(): Promise<string> {
  return (await script('networkmanager-ifcfg.sh')).trim();
}

/** What a script beside this file prints; its progress goes to our standard error. */
async function script(name: string): Promise<string> {
  const child = spawn('bash', [join(import.meta.dirname, name)], { stdio: ['ignore', 'pipe', 'inherit'] });
  const [output, [status]] = await Promise.all([text(child.stdout), once(child, 'close')]);
  if (status !== 0) throw new Error(`${name}: status ${status}`);
  return output;
}

/** The name on the bus comes first; an answer means that the NICs and profiles have been read too. */
async function isReady(router: Router): Promise<boolean> {
  const { status, stdout } = await router.run(['nmcli', '--terse', '--get-values', 'RUNNING', 'general']);
  return status === 0 && stdout.trim() === 'running';
}

const hasEnded = (child: ChildProcess) => child.exitCode !== null || child.signalCode !== null;
