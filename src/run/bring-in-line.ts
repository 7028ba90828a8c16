// What a run does that has to look closely: the machine brought in line with a configuration. Apart from the rest of a run, since one
// that finds what the last one found loads none of it.

import { sameBytes } from '../base/hash.ts';
import { isAutomatic } from '../base/trigger.ts';
import { NO_NICS } from '../config/config.ts';
import type { Checkpoint } from '../machine/checkpoint.ts';
import { waysFor } from '../machine/flow-record.ts';
import { readLastGood } from '../machine/history.ts';
import type { Host } from '../machine/host.ts';
import { attentive } from '../machine/known/memory.ts';
import { converge } from './converge.ts';
import type { Convergence, InLine, Return } from './convergence.ts';
import type { ReadOrder } from './order.ts';
import { type Ahead, rememberQuiet, silences } from './quiet.ts';
import type { Heading } from './report.ts';
import { type ChangeRequest, withinOf } from './request.ts';
import { type Aim, chooseRenderer, scopeOf } from './survey.ts';
import { newWays } from './upgrade.ts';

/** What is known of the machine before a run looks at it. */
export type SeenBefore = { ahead?: Ahead | undefined; seen?: Return['seen'] };

export async function bringInLine(
  host: Host,
  request: ChangeRequest,
  order: ReadOrder,
  heading: Heading,
  { ahead, seen }: SeenBefore,
): Promise<InLine> {
  const { host: asked, heard } = attentive(host, ahead?.answers);
  const { config, bytes } = order;
  const warnings: string[] = [];
  const renderer = await chooseRenderer(asked, request.renderer);
  const aim = { config, renderer, scope: scopeOf(request.command), ways: await waysFor(asked, request.trigger) };
  if (request.command === 'start' && config.nics.length === 0) warnings.push(NO_NICS);
  const isAsked = !isAutomatic(request.trigger);
  if (isAsked) warnings.push(...(await newWays(asked, config)));
  const keeps = async () => !isAsked && (order.kind === 'stand-in' || (await isLastGood(host, bytes)));
  let before: Pick<InLine, 'chains' | 'change'> = {};
  const beforeChange = async (found: Checkpoint): Promise<void> => {
    const within = withinOf(request);
    const change =
      within && (await (await import('./waiting.ts')).beginChange(host, within, order.bytes, heading, found));
    before = { chains: found.state.chains, change };
  };
  const tried = await converge(host, aim, { beforeChange, asked, isAsked, keeps, seen });
  const convergence =
    request.command === 'start' && tried.isUnwritable === true ? await bringUpWithoutFiles(host, aim, tried) : tried;
  // What was seen before was not asked.
  if (order.kind === 'file' && seen === undefined) await rememberQuiet(host, request, { ...order, convergence, heard });
  // Later, since another run is not to say it again where it holds no more; and behind what may be its cause.
  const silent = isAsked ? await silences(host, convergence) : [];
  return { ...convergence, ...before, warnings: [...warnings, ...convergence.warnings, ...silent] };
}

async function isLastGood(host: Host, bytes: Uint8Array): Promise<boolean> {
  const lastGood = await readLastGood(host);
  return lastGood !== undefined && sameBytes(lastGood, bytes);
}

/** At boot, what cannot be written keeps no router from being one; and what was written before is there for whoever reads it next. */
async function bringUpWithoutFiles(host: Host, aim: Aim, tried: Convergence): Promise<Convergence> {
  const renderer = await chooseRenderer(host, 'none');
  const {
    result,
    steps,
    warnings,
    error = tried.error,
  } = await converge(host, { ...aim, renderer, leavesFiles: true });
  return {
    ...tried,
    result,
    steps: [...tried.steps, ...steps],
    warnings: [...tried.warnings, ...warnings],
    ...(error && { error }),
  };
}
