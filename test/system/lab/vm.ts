// A whole machine under QEMU, without KVM: the router of a laboratory, with PCI, a kernel and an initrd of its own. Its NICs
// are taps in the router's namespace, each bridged to the wire that leads to the NIC's segment.

import type { ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { readFile } from 'node:fs/promises';
import { setTimeout as sleep } from 'node:timers/promises';
import { createLab, type Lab, NICS, type Nic, type Router } from '../../lab/lab.ts';
import { guestAgent } from './agent.ts';
import { keepLogs, type Machine, useMachine } from './machine.ts';
import { openQmp, type Qmp } from './qmp.ts';
import { outside, type Preparation, prepareTree, ROOT, SIDE } from './tree.ts';

export type Vm = Machine & { qmp(command: string, given?: object): Promise<unknown> };

export const DISK = `${SIDE}/disk`;
export const CONSOLE = `${SIDE}/console`;
/**
 * Its command line. With `maxcpus=1` the kernel boots on one of its CPUs, and the end of the initrd starts the other: QEMU
 * before 8.1 can keep a stale translation of code that one CPU runs while another patches it, and the kernel, which patches
 * itself while it boots, then traps at the same place for ever (mended there by deba78709ae8). On a busy host that was 2 of
 * 250 boots, and one more had "IO-APIC + timer doesn't work!", a test with a time limit: `no_timer_check`.
 */
export const KERNEL = 'root=/dev/vda rw console=ttyS0 net.ifnames=0 mitigations=off maxcpus=1 no_timer_check quiet';
export const BOOT_MS = 480_000;
const END_MS = 150_000;
const UNPLUG_MS = 30_000;
/** As many NICs as a guest can have: hot plug needs a port of its own for each. */
const PORTS = 8;

/** Boots a machine, runs the test on it, and ends it. */
export async function withVm(options: Preparation, test: (machine: Vm) => Promise<void>) {
  const vm = await createVm(options);
  await useMachine('vm', vm, () => test(vm));
}

export async function createVm(options: Preparation = {}): Promise<Vm> {
  const lab = await createLab({ nics: [] });
  try {
    await prepareDisk(lab.router, options);
    return await vmIn(lab, options.nics ?? Object.values(NICS));
  } catch (error) {
    await lab.close();
    throw error;
  }
}

export async function prepareDisk(router: Router, options: Preparation): Promise<void> {
  await prepareTree(router, options);
  const image = ['mke2fs', '-q', '-t', 'ext4', '-m', '0', '-d', ROOT, DISK, '2G'];
  await router.run(image, { check: true, timeoutMs: 120_000 });
}

async function vmIn(lab: Lab, firstNics: readonly Nic[]): Promise<Vm> {
  const { router } = lab;
  const agent = guestAgent(outside(router, `${SIDE}/agent`));
  const ports: (Nic | undefined)[] = Array.from({ length: PORTS }, () => undefined);
  let qemu: ChildProcess | undefined;
  let qmp: Qmp | undefined;

  const running = () => {
    if (qmp === undefined) throw new Error('the machine is off');
    return qmp;
  };
  const connect = async (nic: Nic) => {
    const port = ports.indexOf(undefined);
    if (port < 0) throw new Error(`the machine has no port left for ${nic.device}`);
    await wire(lab, nic);
    ports[port] = nic;
    return port;
  };
  const booted = async () => {
    await agent.ready(BOOT_MS);
    const { stdout } = await agent.run(['systemctl', 'is-system-running', '--wait'], { timeoutMs: BOOT_MS });
    if (!/^(running|degraded)/.test(stdout)) throw new Error(`the machine has not booted: ${stdout.trim()}`);
  };
  const boot = async () => {
    if (qemu !== undefined) throw new Error('the machine runs already');
    await router.run(['rm', '-f', `${SIDE}/qmp`, `${SIDE}/agent`]);
    qemu = router.spawn(['qemu-system-x86_64', ...qemuArguments(ports)], { stdio: ['ignore', 'ignore', 'pipe'] });
    let complaint = '';
    qemu.stderr?.setEncoding('utf8').on('data', (words: string) => {
      complaint += words;
    });
    const failed = once(qemu, 'exit').then(() => Promise.reject(new Error(`QEMU has ended: ${complaint}`)));
    failed.catch(() => {});
    qmp = await Promise.race([openQmp(outside(router, `${SIDE}/qmp`), 20_000), failed]);
    await Promise.race([booted(), failed]);
  };
  const ended = async () => {
    if (qemu === undefined) return;
    const child = qemu;
    if (!hasEnded(child)) await Promise.race([once(child, 'exit'), sleep(END_MS, undefined, { ref: false })]);
    if (!hasEnded(child)) throw new Error(`the machine has not ended after ${END_MS} ms`);
    qemu = undefined;
    qmp = undefined;
  };
  // Not waited for: the agent may be the first to end.
  const systemctl = (verb: string) => agent.call('guest-exec', { path: 'systemctl', arg: ['--no-block', verb] });
  const powerCut = async () => {
    await qmp?.execute('quit').catch(() => {});
    qemu?.kill('SIGKILL');
    await ended();
  };

  const vm: Vm = {
    lab,
    agent,
    qmp: (command, given) => running().execute(command, given),
    run: agent.run,
    async read(path) {
      const { status, stdout } = await agent.run(['cat', path]);
      return status === 0 ? stdout : undefined;
    },
    async write(path, content, mode = 0o644) {
      await agent.run(['install', '-D', '-m', mode.toString(8), '/dev/null', path], { check: true });
      await agent.write(path, content);
    },
    async plug(nic) {
      const port = await connect(nic);
      if (qmp === undefined) return;
      const { device, mac } = nic;
      const netdev = { type: 'tap', id: `net-${device}`, ifname: tapOf(nic), script: 'no', downscript: 'no' };
      await qmp.execute('netdev_add', netdev);
      const driver = 'virtio-net-pci';
      await qmp.execute('device_add', { driver, id: `nic-${device}`, netdev: netdev.id, mac, bus: `port${port}` });
    },
    async unplug(nic) {
      const port = ports.findIndex((each) => each?.device === nic.device);
      if (port < 0) throw new Error(`${nic.device} is not plugged in`);
      if (qmp !== undefined) {
        const id = `nic-${nic.device}`;
        const gone = qmp.event('DEVICE_DELETED', UNPLUG_MS, ({ data }) => data?.device === id);
        await Promise.all([gone, qmp.execute('device_del', { id })]);
        await qmp.execute('netdev_del', { id: `net-${nic.device}` });
      }
      ports[port] = undefined;
      await unwire(lab, nic);
    },
    async journal(...args) {
      const journalctl = ['journalctl', '--no-pager', '--quiet', ...args];
      if (qmp !== undefined) {
        const answers = await agent.ready(5000).then(
          () => true,
          () => false,
        );
        if (answers) return (await agent.run(journalctl)).stdout;
      }
      // From the disk of a machine that is off, or stuck.
      const script = `rm -rf "$1/log"; mkdir "$1/log"; debugfs -R "rdump /var/log/journal $1/log" "$2" 2> /dev/null`;
      await router.run(['sh', '-c', script, 'sh', SIDE, DISK]);
      return (await router.run([...journalctl, `--directory=${SIDE}/log/journal`])).stdout;
    },
    console: () => readFile(outside(router, CONSOLE), 'utf8'),
    async reboot() {
      const reset = running().event('RESET', END_MS);
      await Promise.all([reset, systemctl('reboot')]);
      await booted();
    },
    async powerOff() {
      await systemctl('poweroff');
      await ended();
    },
    powerCut,
    boot,
    async close() {
      await powerCut().catch(() => {});
      await lab.close();
    },
  };
  try {
    for (const nic of firstNics) await connect(nic);
    await boot();
    return vm;
  } catch (error) {
    await keepLogs('vm', vm);
    await vm.close();
    throw error;
  }
}

function qemuArguments(ports: readonly (Nic | undefined)[]): string[] {
  return [
    ...['-machine', 'q35', '-accel', 'tcg,thread=multi,tb-size=512', '-cpu', 'Nehalem', '-smp', '2', '-m', '1024'],
    ...['-nodefaults', '-display', 'none'],
    ...['-kernel', `${ROOT}/boot/vmlinuz`, '-initrd', `${ROOT}/boot/initrd`, '-append', KERNEL],
    ...['-drive', `file=${DISK},if=none,id=disk,format=raw,cache=unsafe`, '-device', 'virtio-blk-pci,drive=disk'],
    ...['-device', 'virtio-rng-pci'],
    ...['-chardev', `file,id=console,path=${CONSOLE},append=on`, '-serial', 'chardev:console'],
    ...['-qmp', `unix:${SIDE}/qmp,server=on,wait=off`],
    ...['-chardev', `socket,id=agent,path=${SIDE}/agent,server=on,wait=off`, '-device', 'virtio-serial-pci'],
    ...['-device', 'virtserialport,chardev=agent,name=org.qemu.guest_agent.0'],
    ...ports.flatMap((nic, port) => [
      ...['-device', `pcie-root-port,id=port${port},chassis=${port + 1},slot=${port + 1}`],
      ...(nic === undefined ? [] : nicArguments(nic, port)),
    ]),
  ];
}

const nicArguments = (nic: Nic, port: number) => [
  ...['-netdev', `tap,id=net-${nic.device},ifname=${tapOf(nic)},script=no,downscript=no`],
  ...['-device', `virtio-net-pci,id=nic-${nic.device},netdev=net-${nic.device},mac=${nic.mac},bus=port${port}`],
];

export const tapOf = ({ device }: Nic) => `tap-${device}`;

/** The wire's end must not have the NIC's own MAC: the bridge would keep its frames. */
export async function wire({ router }: Lab, nic: Nic): Promise<void> {
  const { device } = nic;
  await router.plug({ ...nic, mac: nic.mac.replace(/^../, 'fe') });
  const commands = [
    `link add name br-${device} type bridge mcast_snooping 0`,
    `tuntap add dev ${tapOf(nic)} mode tap`,
    ...[`br-${device}`, tapOf(nic), device].map((link) => `link set dev ${link} addrgenmode none up`),
    ...[tapOf(nic), device].map((link) => `link set dev ${link} master br-${device}`),
  ];
  await router.run(['ip', '-batch', '-'], { input: commands.join('\n'), check: true });
}

async function unwire({ router }: Lab, nic: Nic): Promise<void> {
  await router.unplug(nic);
  const commands = [`link delete dev br-${nic.device}`, `tuntap delete dev ${tapOf(nic)} mode tap`];
  await router.run(['ip', '-batch', '-'], { input: commands.join('\n'), check: true });
}

const hasEnded = (child: ChildProcess) => child.exitCode !== null || child.signalCode !== null;
