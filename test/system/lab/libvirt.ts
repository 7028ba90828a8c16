// A hypervisor host with libvirt, in a namespace and with an /etc, /var and /run of its own; and on it a whole machine as a domain.

import { readFile } from 'node:fs/promises';
import { eventually } from '../../lab/eventually.ts';
import { createLab, type Lab, NICS, type Router } from '../../lab/lab.ts';
import type { RunResult } from '../../lab/namespace.ts';
import { type Agent, agentBy } from './agent.ts';
import { keepLogs } from './machine.ts';
import { outside, type Preparation, ROOT, SIDE } from './tree.ts';
import { BOOT_MS, CONSOLE, DISK, KERNEL, prepareDisk, tapOf, wire } from './vm.ts';

export type LibvirtHost = {
  lab: Lab;
  /** The domain, which is defined and off. */
  domain: string;
  virsh(...args: string[]): Promise<RunResult>;
  /** Of the domain, through libvirt. */
  agent: Agent;
  /** Until the domain has booted. */
  booted(): Promise<void>;
};

const DOMAIN = 'router-1';
const LOG = `${SIDE}/libvirtd.log`;
const READY_MS = 30_000;

export async function withLibvirt(options: Preparation, test: (host: LibvirtHost) => Promise<void>): Promise<void> {
  const lab = await createLab({ nics: [] });
  const { router } = lab;
  const virsh = (...args: string[]) => router.run(['virsh', '--quiet', ...args]);
  try {
    await prepareDisk(router, options);
    await startLibvirt(router);
    await eventually(async () => (await virsh('list')).stderr, '', READY_MS);
    for (const nic of options.nics ?? Object.values(NICS)) await wire(lab, nic);
    await router.write(`${SIDE}/domain.xml`, domainXml(options));
    await router.run(['virsh', 'define', `${SIDE}/domain.xml`], { check: true });
    const agent = agentBy(callBy(virsh), 500);
    const booted = async () => {
      await agent.ready(BOOT_MS);
      await agent.run(['systemctl', 'is-system-running', '--wait'], { timeoutMs: BOOT_MS });
    };
    await test({ lab, domain: DOMAIN, virsh, agent, booted });
  } catch (error) {
    const read = (path: string) => readFile(outside(router, path), 'utf8');
    await keepLogs('domain', { console: () => read(CONSOLE), journal: () => read(LOG) });
    throw error;
  } finally {
    await lab.close();
  }
}

/**
 * Everything as root, and without what needs more than a namespace: cgroups, device nodes of its own, a log daemon. libvirtd
 * 9.0 ends where the user is missing that it was built for, whatever the configuration says.
 */
async function startLibvirt(router: Router): Promise<void> {
  const settings = [
    ...['user = "root"', 'group = "root"', 'dynamic_ownership = 0', 'remember_owner = 0', 'security_driver = "none"'],
    ...['namespaces = []', 'cgroup_controllers = []', 'stdio_handler = "file"'],
  ];
  await router.write('/etc/libvirt/qemu.conf', `${settings.join('\n')}\n`);
  await router.write('/etc/libvirt/libvirtd.conf', `log_outputs = "3:file:${LOG}"\n`);
  const user = `
    getent passwd libvirt-qemu > /dev/null || echo libvirt-qemu:x:64055:64055::/:/usr/sbin/nologin >> /etc/passwd
    getent group libvirt-qemu > /dev/null || echo libvirt-qemu:x:64055: >> /etc/group`;
  await router.run(['sh', '-ec', user], { check: true });
  // It makes QEMU a daemon, which would outlive a test that is killed: it dies with the PID namespace. The shell is there to
  // reap: libvirtd waits until the QEMUs that it asked for their capabilities are gone, zombies too.
  const inNamespace = ['unshare', '--pid', '--fork', '--kill-child', '--mount-proc', 'sh', '-c', 'libvirtd; exit'];
  router.spawn(inNamespace, { stdio: 'ignore' });
}

const callBy =
  (virsh: LibvirtHost['virsh']): Agent['call'] =>
  async (execute, given, timeoutMs = 30_000) => {
    const question = JSON.stringify({ execute, arguments: given });
    const timeout = `--timeout=${Math.ceil(timeoutMs / 1000)}`;
    const { stdout, stderr } = await virsh('qemu-agent-command', timeout, '--domain', DOMAIN, '--cmd', question);
    if (stderr !== '') throw new Error(`${execute}: ${stderr.trim()}`);
    return (JSON.parse(stdout) as { return?: unknown }).return;
  };

/** The machine of vm.ts, as libvirt describes one. */
function domainXml({ nics = Object.values(NICS) }: Preparation): string {
  const interfaces = nics.map(
    (nic) => `
    <interface type="ethernet">
      <mac address="${nic.mac}"/>
      <target dev="${tapOf(nic)}" managed="no"/>
      <model type="virtio"/>
    </interface>`,
  );
  return `<domain type="qemu">
  <name>${DOMAIN}</name>
  <memory unit="MiB">1024</memory>
  <vcpu>2</vcpu>
  <os>
    <type arch="x86_64" machine="q35">hvm</type>
    <kernel>${ROOT}/boot/vmlinuz</kernel>
    <initrd>${ROOT}/boot/initrd</initrd>
    <cmdline>${KERNEL}</cmdline>
  </os>
  <cpu mode="custom" match="exact"><model>Nehalem</model></cpu>
  <features><acpi/></features>
  <devices>
    <disk type="file" device="disk">
      <driver name="qemu" type="raw" cache="unsafe"/>
      <source file="${DISK}"/>
      <target dev="vda" bus="virtio"/>
    </disk>${interfaces.join('')}
    <channel type="unix"><target type="virtio" name="org.qemu.guest_agent.0"/></channel>
    <serial type="file"><source path="${CONSOLE}"/></serial>
    <rng model="virtio"><backend model="random">/dev/urandom</backend></rng>
    <memballoon model="none"/>
  </devices>
</domain>
`;
}
