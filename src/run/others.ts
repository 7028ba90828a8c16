// What others have on NICs of ours beside addresses: read before a change, and brought back with it where it is taken back, in the
// words of `ip`. What they have changed meanwhile is theirs.

import { parseForeignNeighbours, parseForeignRoutes } from '../dialects/foreign.ts';
import type { Others } from '../machine/checkpoint.ts';
import {
  keepLost,
  type Lost,
  putBack,
  readStanding,
  readStandingAgain,
  stillMissing,
  withBeside,
} from '../machine/foreign.ts';
import type { Host } from '../machine/host.ts';
import { orphaned } from '../machine/networkmanager.ts';
import { type Foreign, foreignKey } from '../network/foreign.ts';
import { holds } from '../network/kinds.ts';
import type { Observation } from '../network/observation.ts';
import type { StepOf } from '../network/step.ts';
import { goneSince, type Standing, wayKey, withoutDevices } from '../planning/return.ts';
import type { Survey } from './survey.ts';

/** Before the first change. What only adds takes nothing from others, and is not kept waiting by two commands. */
export async function readOthers(host: Host, { binding, observation, steps }: Survey): Promise<Others> {
  const bound = binding.bound.flatMap(({ device, bridge }) => [device, ...(bridge === undefined ? [] : [bridge.name])]);
  const owned = [...observation.owned].map((key) => key.slice(0, key.indexOf(' ')));
  const devices = [...new Set([...bound, ...owned])];
  return steps.some((step) => holds(step, 'mayTake')) ? { devices, standing: await readStanding(host) } : { devices };
}

/** When the change is verified. */
export async function takenFrom(host: Host, others: Others, ours: Observation): Promise<Others> {
  const { devices, standing } = others;
  if (standing === undefined) return others;
  const after = await readStanding(host);
  const gone = await withBeside(host, goneSince(standing, after, devices, ours, true));
  return { devices, gone: withTwins(gone, parseForeignNeighbours(after.neighbours, new Set(devices))) };
}

/** With neighbours that went along with their NIC: of routes what is by another device is in the same place. */
const withTwins = (gone: readonly Lost[], neighbours: readonly Foreign[]): Lost[] =>
  gone.map((each) => {
    const twins = each.kind === 'neighbour' ? neighbours.filter((other) => wayKey(other) === wayKey(each)) : [];
    return twins.length === 0 ? each : { ...each, beside: [...(each.beside ?? []), ...twins.map(foreignKey)] };
  });

type NamedLinks = readonly { device: string }[];

/** `linksBefore`: when the return began. */
type Look = { ours: Observation; linksBefore: NamedLinks; links: NamedLinks; sameMain: boolean };

const twinsOf = ({ beside = [], ...foreign }: Lost): string[] =>
  beside.filter((key) => withoutDevices(key) === wayKey(foreign));

const hasMoved = (lost: Lost): boolean => twinsOf(lost).length > 0;

/** Without what went along with its NIC, and is not there any more by its bridge, which is: somebody has taken it away. */
function withoutTaken(gone: readonly Lost[], { routes, neighbours }: Standing, links: NamedLinks): Lost[] {
  if (!gone.some(hasMoved)) return [...gone];
  const devices = new Set(links.map(({ device }) => device));
  const standing = [...parseForeignRoutes(routes.join('\n'), 4), ...parseForeignNeighbours(neighbours, devices)];
  const there = new Set(standing.map(foreignKey));
  return gone.filter((each) => {
    const twins = twinsOf(each);
    const isOf = (key: string) => [...key.matchAll(/ dev (\S+)/g)].every(([, device = '']) => devices.has(device));
    return twins.length === 0 || twins.some((key) => there.has(key) || !isOf(key));
  });
}

/**
 * When all else is back. `before`: when the return began; undefined where it takes nothing from others. `sameMain`: see readStandingAgain. What went with the return
 * itself comes again where it can: the gateway of another one was in a network of the change. `touched`: they were put back, or tried.
 */
export async function returnOthers(
  host: Host,
  others: Others | undefined,
  before: Standing | undefined,
  { ours, linksBefore, links, sameMain }: Look,
): Promise<{ back: StepOf<'put-back'>[]; lost: StepOf<'put-back'>[]; warnings: string[]; touched: boolean }> {
  const { devices = [], standing, gone = [] } = others ?? {};
  const then = before ?? (gone.some(hasMoved) || standing !== undefined ? await readStanding(host) : undefined);
  const went =
    then === undefined
      ? gone
      : standing === undefined
        ? withoutTaken(gone, then, linksBefore)
        : goneSince(standing, then, devices, ours, true);
  const due = await stillMissing(host, went, links);
  const now = before && (await readStandingAgain(host, before, sameMain));
  const along = before === undefined || now === undefined ? [] : goneSince(before, now, devices, ours);
  const missing = new Set((await putBack(host, [...due, ...along])).map(foreignKey));
  const isLost = (foreign: Lost) => missing.has(foreignKey(foreign));
  const lost = due.filter(isLost);
  const orphans = due.length === 0 ? [] : await keepLost(host, due, lost);
  const step = ({ beside: _, ...foreign }: Lost): StepOf<'put-back'> => ({ kind: 'put-back', foreign });
  return {
    back: [...due, ...along].filter((foreign) => !isLost(foreign)).map(step),
    lost: lost.filter((foreign) => !orphans.includes(foreign)).map(step),
    warnings: orphaned(orphans),
    touched: due.length + along.length > 0,
  };
}
