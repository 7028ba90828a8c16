// Addresses that `start` leaves to initscripts, which bring them up and tell no neighbour (ARPUPDATE=no in dialects/ifcfg.ts): the
// first reload that finds them there announces them. Only for the holder of the lock.

import { AgentError } from '../base/errors.ts';
import { hostPart } from '../base/ipv4.ts';
import { PATHS } from '../base/paths.ts';
import { array, object, string } from '../base/shape.ts';
import { applySteps } from '../machine/apply.ts';
import type { Host } from '../machine/host.ts';
import { fitting } from '../machine/kept-shapes.ts';
import { readManagers } from '../machine/networkmanager.ts';
import { bootOf } from '../machine/pending.ts';
import { type Address, addressKey } from '../network/state.ts';
import type { Step } from '../network/step.ts';
import type { Survey } from './survey.ts';

const record = object({ boot: string, addresses: array(object({ device: string, spec: string })) });

type Announced = { steps: Step[]; warnings: string[] };

/** By a start: notes what it leaves. By a reload: announces of that what is there and what it has not announced itself. */
export async function settleLeft(host: Host, found: Survey, done: readonly Step[]): Promise<Announced> {
  try {
    if (found.whole) return await announceLeft(host, found, done);
    await noteLeft(host, found.left);
    return { steps: [], warnings: [] };
  } catch (error) {
    // Neighbours ask again by themselves, in a while.
    if (!(error instanceof AgentError)) throw error;
    return { steps: [], warnings: [error.message] };
  }
}

async function noteLeft(host: Host, left: readonly Address[]): Promise<void> {
  if (left.length === 0) return;
  const known = (await readLeft(host)) ?? [];
  await writeLeft(host, [...new Map([...known, ...left].map((address) => [addressKey(address), address])).values()]);
  // By what it was told of the machine alone the next reload would find nothing to do.
  await host.remove(PATHS.quiet);
}

async function announceLeft(host: Host, { machine, desired }: Survey, done: readonly Step[]): Promise<Announced> {
  const left = await readLeft(host);
  if (left === undefined) return { steps: [], warnings: [] };
  const open = withoutAnnounced(left, desired.addresses, done);
  const there = new Set(machine.addresses.map(addressKey));
  const reachable = machine.links.filter(({ up, noCarrier }) => up && noCarrier === undefined);
  const isDue = (address: Address) =>
    there.has(addressKey(address)) && reachable.some(({ device }) => device === address.device);
  // NetworkManager announces what it brings up.
  const managers = open.some(isDue) ? await readManagers(host) : new Map();
  const steps = reachable.flatMap(({ device, mac }): Step[] => {
    const due = open.filter((address) => address.device === device && isDue(address));
    if (due.length === 0 || managers.has(device)) return [];
    return [{ kind: 'announce-addresses', device, mac, addresses: due.map(({ spec }) => hostPart(spec)) }];
  });
  const { announced, warnings } = await applySteps(host, steps);
  await announced;
  const remaining = open.filter((address) => !isDue(address));
  if (remaining.length === 0) await host.remove(PATHS.left);
  else if (remaining.length < left.length) await writeLeft(host, remaining);
  return { steps, warnings };
}

/** What is wanted still, and was there when this run began to look. */
function withoutAnnounced(left: readonly Address[], wanted: readonly Address[], done: readonly Step[]): Address[] {
  const keys = new Set(wanted.map(addressKey));
  const announced = new Set(
    done.flatMap((step) =>
      step.kind === 'announce-addresses' ? step.addresses.map((address) => `${step.device} ${address}`) : [],
    ),
  );
  return left.filter(
    (address) => keys.has(addressKey(address)) && !announced.has(`${address.device} ${hostPart(address.spec)}`),
  );
}

/** Undefined where there is no record; nothing where it is of another boot, or damaged. */
async function readLeft(host: Host): Promise<Address[] | undefined> {
  const text = await host.read(PATHS.left, { orNothing: true });
  if (text === undefined) return undefined;
  const known = fitting(record, text);
  return known?.boot === (await bootOf(host)) ? known.addresses : [];
}

async function writeLeft(host: Host, addresses: readonly Address[]): Promise<void> {
  const boot = await bootOf(host);
  const plain = addresses.map(({ device, spec }) => ({ device, spec }));
  await host.write(PATHS.left, `${JSON.stringify({ boot, addresses: plain })}\n`, 0o600);
}
