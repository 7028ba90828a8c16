// What the tests of waiting, confirming and rolling back share: configurations, and short questions to a router.

import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';
import { ADDRESSES, type Lab } from '../lab/lab.ts';
import { namespaceOf, processesIn, type RunResult } from '../lab/namespace.ts';
import { networkOf } from '../lab/state.ts';
import { eip, nics } from '../scenarios/change.ts';

export const { v, w, x } = ADDRESSES;

export const one = `${nics}eip_list:\n${eip('203.0.113.50', v)}${eip('198.51.100.20', x)}`;
/** From `one`: an EIP goes, one comes, and one is another VM's. */
export const other = `${nics}eip_list:\n${eip('203.0.113.51', w)}${eip('198.51.100.20', v)}`;
/** Without the NIC of subnet b. */
export const small = one.replace(/.*52:54:84:11:00:05.*\n/, '').replace(/.*198\.51\.100\.20.*\n/, '');

export const FILE = '/etc/kylin-vr/kylin-vr.yaml';
export const LIB = '/var/lib/kylin-vr';
export const LAST_GOOD = `${LIB}/last-good.yaml`;

export type Report = {
  id: string;
  result: string;
  steps: { kind: string; text: string }[];
  warnings: { message: string }[];
  errors: { message: string }[];
  pending?: { secondsLeft: number; deadline: string };
  advice?: string;
};

/** Runs it with --json; gives the exit status, and what it printed. */
export async function json<T = Report>(lab: Lab, ...args: string[]): Promise<T & { status: number }> {
  const { status, stdout, stderr } = await lab.kylin(...args, '--json');
  assert.match(stdout, /^\{/, `${args.join(' ')}: ${stderr}`);
  return { ...JSON.parse(stdout), status };
}

export async function ok(lab: Lab, ...args: string[]): Promise<RunResult> {
  const ended = await lab.kylin(...args);
  assert.equal(ended.status, 0, `${args.join(' ')}: ${ended.stdout}${ended.stderr}`);
  return ended;
}

export async function apply(lab: Lab, config: string, ...args: string[]): Promise<RunResult> {
  await lab.configure(config);
  return ok(lab, 'reload', ...args);
}

export async function shell(lab: Lab, script: string): Promise<string> {
  return (await lab.router.run(['sh', '-ec', script], { check: true })).stdout;
}

/** The network with the settings of the kernel that we touch. */
export async function everything(lab: Lab): Promise<string> {
  const settings = 'rp_filter|promote_secondaries|send_redirects|arp_ignore|arp_announce|arp_notify';
  const sysctls = await shell(lab, `sysctl -a -r '^net.ipv4.(ip_forward|conf.*(${settings}))$' 2> /dev/null | sort`);
  return `${await networkOf(lab.router)}${sysctls}`;
}

export const warningsOf = ({ warnings }: Report): string[] => warnings.map(({ message }) => message);

export async function until(what: string, condition: () => Promise<boolean>, withinMs = 30_000): Promise<void> {
  const from = performance.now();
  while (!(await condition())) {
    if (performance.now() - from > withinMs) throw new Error(`waited ${withinMs} ms in vain: ${what}`);
    await sleep(50);
  }
}

export const isPending = async (lab: Lab): Promise<boolean> =>
  (await lab.router.read(`${LIB}/pending.json`)) !== undefined;

/** The processes that wait for the time to run out. */
export function waiters(lab: Lab): number[] {
  return processesIn(namespaceOf(lab.router.pid) ?? '').filter((pid) => {
    try {
      return readFileSync(`/proc/${pid}/cmdline`, 'utf8').includes('\0--unconfirmed\0');
    } catch {
      return false;
    }
  });
}

/** Nothing happens by itself any more: the process that waits is killed. */
export async function killWaiters(lab: Lab): Promise<void> {
  for (const pid of waiters(lab)) process.kill(pid, 'SIGKILL');
  await until('the end of those who wait', async () => waiters(lab).length === 0);
}

/** As after a reboot, for the program: another boot id, and a clock of the boot that begins anew; the latter alone in a container. */
export const reboot = (lab: Lab, of: 'machine' | 'container'): Promise<string> =>
  shell(
    lab,
    `
    if [ ${of} = machine ]; then
      cat /proc/sys/kernel/random/uuid > /run/boot-id
      mount --bind /run/boot-id /proc/sys/kernel/random/boot_id
    fi
    echo '10.00 10.00' > /run/uptime
    mount --bind /run/uptime /proc/uptime
    rm -rf /run/kylin-vr`,
  );

/** Moves the clock of the boot on. */
export const pass = (lab: Lab, seconds: number): Promise<string> =>
  shell(
    lab,
    `
    read -r now rest < /proc/uptime
    echo "$((\${now%.*} + ${seconds})).00 $rest" > /run/uptime
    mountpoint -q /proc/uptime || mount --bind /run/uptime /proc/uptime`,
  );

/** From here on the clock runs again. */
export const resume = (lab: Lab): Promise<string> => shell(lab, 'umount /proc/uptime');
