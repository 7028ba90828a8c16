// A container with systemd, udev, NetworkManager and the guest agent, booted in a second: the router of a laboratory.
// It shares the router's network namespace, so that the traffic probes of the laboratory work on it and through it.

import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { openSync } from 'node:fs';
import { readFile } from 'node:fs/promises';
import { setTimeout as sleep } from 'node:timers/promises';
import { createLab, type Lab, NICS, type Nic } from '../../lab/lab.ts';
import type { RunOptions } from '../../lab/namespace.ts';
import { guestAgent } from './agent.ts';
import { keepLogs, type Machine, useMachine } from './machine.ts';
import { outside, type Preparation, prepareTree, ROOT, SIDE } from './tree.ts';

const ENVIRONMENT = { PATH: '/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin', HOME: '/root' };
const CONSOLE = `${SIDE}/console`;
const SOCKET = '/lab/agent';
const BOOT_MS = 120_000;
const END_MS = 60_000;
/** How systemd-nspawn ends when the container wants to be started again. */
const REBOOT = 133;

/** Settings that a container needs and a VM does not. */
const OWN_FILES = {
  // The real agent, on a socket instead of a virtio port.
  '/etc/systemd/system/qemu-guest-agent.service': `[Unit]
Description=QEMU Guest Agent
[Service]
ExecStart=/usr/sbin/qemu-ga -m unix-listen -p ${SOCKET} -t /run
Restart=always
RestartSec=0
[Install]
WantedBy=multi-user.target
`,
  // Events of NICs only: the other devices in /sys are those of the machine that runs the test.
  '/etc/systemd/system/systemd-udev-trigger.service.d/laboratory.conf': `[Service]
ExecStart=
ExecStart=-udevadm trigger --action=add --subsystem-match=net
`,
};

/**
 * The first process: /proc/sys is read-only but for the network, which alone is the container's own. (nspawn's own way
 * to say so makes /sys read-only too, and udev does not start then.)
 */
const INIT = `#!/bin/sh
mount --rbind /proc/sys /proc/sys
mount --bind /proc/sys/net /proc/sys/net
mount -o remount,bind,ro /proc/sys
exec /lib/systemd/systemd systemd.unit=multi-user.target
`;

/** A cgroup of its own in a hierarchy of the second version, whatever the machine has mounted. */
const START = `
  mkdir -p "$1"
  echo $$ > "$1/cgroup.procs"
  shift
  exec systemd-nspawn "$@"
`;

/** The settings of a network that nobody has touched; those of the NICs go and come with them. */
const REMEMBER = `sysctl -a 2> /dev/null | grep '^net\\.' | grep -v '\\.eth[0-9]' > ${SIDE}/sysctl`;

/** The namespace outlives the container; what a reboot of a machine takes from the kernel is taken from it. */
const FORGET = `
  chroot ${ROOT} nft flush ruleset
  for table in $(cat /proc/net/ip_tables_names); do
    iptables-legacy -t $table -F
    iptables-legacy -t $table -X
    for chain in INPUT FORWARD OUTPUT; do iptables-legacy -t $table -P $chain ACCEPT 2> /dev/null || true; done
  done
  chroot ${ROOT} ipset destroy
  conntrack -F 2> /dev/null
  ip neighbour flush all
  sysctl -q -e -p ${SIDE}/sysctl > /dev/null 2>&1 || true
`;

/**
 * Kills what is in the cgroup, and removes it, when the test ends or is killed: systemd outlives a killed nspawn.
 */
const SWEEP = `
  cat > /dev/null
  [ -e "$1" ] || exit 0
  echo 1 > "$1/cgroup.kill"
  for i in $(seq 100); do
    find "$1" -depth -type d -exec rmdir {} + 2> /dev/null && exit 0
    sleep 0.05
  done
`;

/** Boots a container, runs the test on it, and ends it. */
export async function withContainer(options: Preparation, test: (machine: Machine) => Promise<void>) {
  await useMachine('container', await createContainer(options), test);
}

export async function createContainer(options: Preparation = {}): Promise<Machine> {
  const lab = await createLab({ nics: [] });
  try {
    await prepareTree(lab.router, options);
    const place = (path: string, text: string, mode?: number) => lab.router.write(`${ROOT}${path}`, text, mode);
    for (const [path, text] of Object.entries(OWN_FILES)) await place(path, text);
    await place('/sbin/lab-init', INIT, 0o755);
    await lab.router.run(['chroot', ROOT, 'systemctl', 'enable', 'qemu-guest-agent.service'], { check: true });
    await lab.router.run(['mount', '-t', 'cgroup2', 'cgroup2', '/sys/fs/cgroup'], { check: true });
    await lab.router.run(['sh', '-c', REMEMBER], { check: true });
    return await containerIn(lab, options.nics ?? Object.values(NICS));
  } catch (error) {
    await lab.close();
    throw error;
  }
}

async function containerIn(lab: Lab, firstNics: readonly Nic[]): Promise<Machine> {
  const { router } = lab;
  const cgroup = `/sys/fs/cgroup/kylin-vr-${router.pid}`;
  const sweep = spawn('nsenter', ['-t', `${router.pid}`, '--mount', 'sh', '-c', SWEEP, 'sh', cgroup], {
    stdio: ['pipe', 'ignore', 'ignore'],
    detached: true,
  });
  const consoleFile = openSync(outside(router, CONSOLE), 'a');
  const plugged = new Map<string, Nic>();
  const plug = async (nic: Nic) => {
    await router.plug(nic);
    plugged.set(nic.device, nic);
  };
  let nspawn: ChildProcess | undefined;
  let systemd = 0;

  const run = (argv: readonly string[], options: RunOptions = {}) => {
    if (systemd === 0) throw new Error(`${argv.join(' ')}: the container is off`);
    const enter = ['nsenter', `--target=${systemd}`, '--mount', '--net', '--pid', '--uts', '--ipc', '--cgroup', '--'];
    return router.run([...enter, ...argv], { ...options, env: { ...ENVIRONMENT, ...options.env } });
  };
  const boot = async () => {
    if (nspawn !== undefined) throw new Error('the container runs already');
    await Promise.all([...plugged.values()].map(router.unplug));
    await router.run(['sh', '-ec', FORGET], { check: true });
    for (const nic of plugged.values()) await router.plug(nic);
    nspawn = startNspawn(lab, cgroup, consoleFile);
    await booted(nspawn, (pid) => {
      systemd = pid;
      return run(['systemctl', 'is-system-running', '--wait']);
    });
  };
  const ended = async (expected?: number) => {
    if (nspawn === undefined) return;
    const child = nspawn;
    if (!hasEnded(child)) await Promise.race([once(child, 'exit'), sleep(END_MS, undefined, { ref: false })]);
    if (!hasEnded(child)) throw new Error(`the container has not ended after ${END_MS} ms`);
    nspawn = undefined;
    systemd = 0;
    if (expected !== undefined && child.exitCode !== expected)
      throw new Error(`the container ended with ${child.exitCode ?? child.signalCode} instead of ${expected}`);
  };
  const powerCut = async () => {
    if (nspawn === undefined) return;
    await router.run(['sh', '-c', 'echo 1 > "$1/cgroup.kill"', 'sh', cgroup], { check: true });
    await ended();
  };

  const machine: Machine = {
    lab,
    agent: guestAgent(outside(router, `${SIDE}/agent`)),
    run,
    async read(path) {
      const { status, stdout } = await run(['cat', path]);
      return status === 0 ? stdout : undefined;
    },
    async write(path, content, mode = 0o644) {
      const script = 'install -D -m "$1" /dev/null "$2" && base64 -d > "$2"';
      const input = Buffer.from(content).toString('base64');
      await run(['sh', '-c', script, 'sh', mode.toString(8), path], { input, check: true });
    },
    plug,
    async unplug(nic) {
      await router.unplug(nic);
      plugged.delete(nic.device);
    },
    async journal(...args) {
      // Also of one that is off.
      const { stdout } = await router.run([
        'journalctl',
        `--directory=${ROOT}/var/log/journal`,
        '--no-pager',
        '--quiet',
        ...args,
      ]);
      return stdout;
    },
    console: () => readFile(outside(router, CONSOLE), 'utf8'),
    async reboot() {
      await run(['systemctl', '--no-block', 'reboot'], { check: true });
      await ended(REBOOT);
      await boot();
    },
    async powerOff() {
      await run(['systemctl', '--no-block', 'poweroff'], { check: true });
      await ended(0);
    },
    powerCut,
    boot,
    async close() {
      await powerCut().catch(() => {});
      sweep.stdin?.end();
      await (hasEnded(sweep) || once(sweep, 'exit'));
      await lab.close();
    },
  };
  try {
    for (const nic of firstNics) await plug(nic);
    await boot();
    return machine;
  } catch (error) {
    await keepLogs('container', machine);
    await machine.close();
    throw error;
  }
}

function startNspawn({ router }: Lab, cgroup: string, consoleFile: number): ChildProcess {
  const nspawn = [
    `--directory=${ROOT}`,
    '--machine=router',
    '--register=no',
    '--keep-unit',
    '--settings=no',
    '--link-journal=no',
    '--resolv-conf=off',
    '--timezone=off',
    '--console=pipe',
    '--capability=all',
    '--kill-signal=SIGRTMIN+3',
    `--bind=${SIDE}:/lab`,
    '/sbin/lab-init',
  ];
  return router.spawn(['unshare', '--mount', 'sh', '-ec', START, 'sh', cgroup, ...nspawn], {
    stdio: ['ignore', consoleFile, consoleFile],
    env: { SYSTEMD_NSPAWN_UNIFIED_HIERARCHY: '1', SYSTEMD_NSPAWN_API_VFS_WRITABLE: '1', SYSTEMD_NSPAWN_LOCK: '0' },
  });
}

/** Waits for systemd, then until it says that it has booted: `running`, or `degraded` with a unit that failed. */
async function booted(
  nspawn: ChildProcess,
  question: (systemd: number) => Promise<{ stdout: string; stderr: string }>,
): Promise<void> {
  const deadline = Date.now() + BOOT_MS;
  let answer = '';
  while (Date.now() < deadline) {
    if (hasEnded(nspawn)) throw new Error(`the container ended with ${nspawn.exitCode ?? nspawn.signalCode}`);
    const systemd = await systemdBelow(nspawn.pid ?? 0);
    if (systemd !== undefined) {
      const { stdout, stderr } = await question(systemd);
      answer = stdout.trim() || stderr.trim();
      if (answer === 'running' || answer === 'degraded') return;
    }
    await sleep(20);
  }
  throw new Error(`the container has not booted after ${BOOT_MS} ms: ${answer}`);
}

async function systemdBelow(pid: number): Promise<number | undefined> {
  const read = (path: string) => readFile(path, 'utf8').catch(() => '');
  for (const child of (await read(`/proc/${pid}/task/${pid}/children`)).trim().split(' ')) {
    if ((await read(`/proc/${child}/comm`)).trim() === 'systemd') return Number(child);
  }
  return undefined;
}

const hasEnded = (child: ChildProcess) => child.exitCode !== null || child.signalCode !== null;
