// What a test does with a machine under test, be it a container or a whole VM: the router of a laboratory.

import { mkdtemp, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { Lab, Nic } from '../../lab/lab.ts';
import type { RunOptions, RunResult } from '../../lab/namespace.ts';
import type { Agent } from './agent.ts';

export type Machine = {
  lab: Lab;
  /** As the hypervisor's management talks to it. */
  agent: Agent;
  run(argv: readonly string[], options?: RunOptions): Promise<RunResult>;
  read(path: string): Promise<string | undefined>;
  /** Makes the folders above it, too. */
  write(path: string, content: string | Buffer, mode?: number): Promise<void>;
  /** Puts a NIC in, as a hypervisor does. */
  plug(nic: Nic): Promise<void>;
  unplug(nic: Nic): Promise<void>;
  /** What `journalctl` prints with these arguments, as `-b`, `-u`, `kylin-vr`. */
  journal(...args: string[]): Promise<string>;
  /** What came on the console so far, of every boot. */
  console(): Promise<string>;
  /** In order; back when it has booted. Files and NICs stay. */
  reboot(): Promise<void>;
  powerOff(): Promise<void>;
  /** At once, whatever runs. */
  powerCut(): Promise<void>;
  /** After `powerOff` or `powerCut`; back when it has booted. */
  boot(): Promise<void>;
  /** Ends the machine and its laboratory. */
  close(): Promise<void>;
};

/**
 * Runs a test on a machine, which ends with it. If it fails, console and journal stay in a folder whose path is printed.
 */
export async function useMachine(name: string, machine: Machine, test: (machine: Machine) => Promise<void>) {
  try {
    await test(machine);
  } catch (error) {
    await keepLogs(name, machine);
    throw error;
  } finally {
    await machine.close();
  }
}

/** Lines of each, where nobody can look into the folder afterwards. */
const TAIL = 40;

export async function keepLogs(name: string, machine: Pick<Machine, 'console' | 'journal'>): Promise<void> {
  const folder = await mkdtemp(join(process.env.KYLIN_VR_LOGS ?? tmpdir(), `kylin-vr-failed-${name}-`));
  const [journal, console] = await Promise.allSettled([machine.journal('-o', 'short-precise'), machine.console()]);
  for (const [file, result] of Object.entries({ journal, console })) {
    const text = result.status === 'fulfilled' ? result.value : `${result.reason}\n`;
    await writeFile(join(folder, file), text);
    const tail = text.trimEnd().split('\n').slice(-TAIL);
    process.stderr.write(`The end of the ${name}'s ${file}:\n${tail.map((line) => `  ${line}\n`).join('')}`);
  }
  process.stderr.write(`The ${name}'s console and journal are in ${folder}\n`);
}
