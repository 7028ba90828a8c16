// Waits for what does not come at once: what NetworkManager was asked for, and the carrier of a port.

import { setTimeout as sleep } from 'node:timers/promises';
import { AgentError, EXIT } from '../base/errors.ts';
import type { Answers } from '../machine/known/early.ts';
import type { Machine } from '../machine/observe.ts';
import { monotonicMs } from '../machine/process.ts';
import { deadPorts, mtusApart } from '../network/bridges.ts';
import { linkOf } from '../network/kinds.ts';
import type { Port } from '../network/state.ts';
import type { Step } from '../network/step.ts';
import type { Survey } from './survey.ts';

/**
 * NetworkManager goes on working after nmcli has returned: on 1,000 new addresses half a second, on their removal three. By the clock:
 * a look at many addresses takes longer than the pause before it.
 */
const SETTLE_MS = 8000;
const LOOK_MS = 100;

/**
 * Looks again until there is nothing left of what NetworkManager was asked for by these steps, for NICs as they were then, or it has made
 * no headway for a while. What is left to others, or is of a NIC that came meanwhile, does not come by waiting.
 */
export async function settled<T extends Looked>(
  look: (rules?: Answers) => Promise<T>,
  steps: readonly Step[],
  links: Links,
  rules?: Answers,
): Promise<T> {
  const asked = new Map(devicesAsked(steps).map((device) => [device, indexOf(links, device)]));
  const isAsked = (device: string | undefined, { links }: Looked['machine']) =>
    asked.has(device) && asked.get(device) === indexOf(links, device);
  const loaded = new Set(pathsLoaded(steps));
  const leftOf = ({ steps, machine }: T) =>
    devicesAsked(steps).filter((device) => isAsked(device, machine)).length +
    pathsLoaded(steps).filter((path) => loaded.has(path)).length;
  let found = await look(rules);
  for (let left = leftOf(found), since = monotonicMs(); left > 0 && monotonicMs() - since < SETTLE_MS; ) {
    await sleep(LOOK_MS);
    found = await look();
    const before = left;
    left = leftOf(found);
    if (left < before) since = monotonicMs();
  }
  return found;
}

export type Links = Machine['links'];
type Looked = { steps: Step[]; machine: Pick<Machine, 'links'> };

/** By the kernel's number: a NIC that went and came back meanwhile has the same name, and nothing of what it had. */
export const indexOf = (links: Links, device: string | undefined): number | undefined =>
  links.find((link) => link.device === device)?.index;

/** Profiles that it was made to read: a moment later it may not know one yet, beside a device that it takes over. */
const pathsLoaded = (steps: readonly Step[]): string[] =>
  steps.flatMap((step) => (step.kind === 'load-profiles' ? step.paths : []));

/** One for each step that NetworkManager carries out on a device. */
export const devicesAsked = (steps: readonly Step[]): (string | undefined)[] =>
  steps.flatMap((step) =>
    step.kind === 'apply-profile' || ('by' in step && step.by !== undefined) ? [linkOf(step)] : [],
  );

/** Open vSwitch follows the MTU of a port when it gets to it. */
const FOLLOW_MS = 1000;

export async function followed(steps: readonly Step[], found: Survey, look: () => Promise<Survey>): Promise<Survey> {
  if (!steps.some(({ kind }) => kind === 'set-mtu') || found.desired.bridges.length === 0) return found;
  const isApart = ({ binding, machine }: Survey) =>
    mtusApart(binding.bound, machine).some(({ bridge, holders }) => bridge.type === 'ovs' && holders.length === 0);
  let next = found;
  for (const since = monotonicMs(); isApart(next) && monotonicMs() - since < FOLLOW_MS; ) {
    await sleep(LOOK_MS);
    next = await look();
  }
  return next;
}

/** A NIC that was just brought up takes a moment to find its carrier. */
const CARRIER_MS = 5000;

/** Ports that these steps added and whose wire carries nothing: their network would be cut off, and was not before. */
export async function deadAfter(steps: readonly Step[], found: Survey, look: () => Promise<Survey>): Promise<Port[]> {
  const added = steps.flatMap((step) => (step.kind === 'add-port' ? [step.port] : []));
  let dead = deadPorts(added, found.machine.links);
  const since = monotonicMs();
  while (dead.length > 0 && monotonicMs() - since < CARRIER_MS) {
    await sleep(LOOK_MS);
    dead = deadPorts(added, (await look()).machine.links);
  }
  return dead;
}

export function deadPortError([port]: readonly Port[]): AgentError {
  return new AgentError(
    `${port?.device}, now a port of ${port?.bridge}, has no carrier: plug it in, or take bridge away`,
    EXIT.failed,
  );
}
