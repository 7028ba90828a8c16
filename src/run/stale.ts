// Flows that are under way, held against the file: entries of conntrack that it would translate otherwise are found, and cut. After a
// change, and where somebody asks for a reload. Never a reason to take a change back.

import { AgentError, UnsupportedError } from '../base/errors.ts';
import { ipv4, withinAny } from '../base/ipv4.ts';
import { deleteFlowOptions, parseFlows } from '../dialects/conntrack.ts';
import { foreignRules, localNetworks, mayMatch } from '../dialects/policy-rules.ts';
import { readForeignNat } from '../engines/foreign-nat.ts';
import { hasNoFlows } from '../machine/flow-record.ts';
import { deleteFlows, readFlows } from '../machine/flows.ts';
import type { Host } from '../machine/host.ts';
import { answersGone, displacedBy, type HeldPorts, hasOtherPort, hold, nothingHeld } from '../network/displaced.ts';
import { type Flow, flowKey } from '../network/flow.ts';
import { type FlowModel, hasMapping, type Judgement, judgeOf, outerAddresses } from '../network/flows.ts';
import { type Cut, NO_CUT } from './cut.ts';

/** Together they bound how long the lock is held for it: what is left then is for the next run, which the timer brings. */
const MOST_MS = 5_000;
/** For the cuts of a look that took all of it. */
const LEAST_MS = 1_000;
/** Packets that were on their way while rules changed are found at the second look; by the rules that are there now none comes. */
const MOST_CUTS = 3;
/** What is kept of one look, in memory: more are for the next one. */
const MOST_AT_ONCE = 50_000;

/** Cuts what is stale, and tells what was. `spentMs`: by cuts of the same run before. */
export async function cutStale(host: Host, model: FlowModel, spentMs = 0): Promise<Cut> {
  const cut: Cut = { ...NO_CUT, steps: [], warnings: [], clean: false, goesOn: true };
  const done: Judgement[] = [];
  const began = performance.now();
  try {
    cut.warnings.push(...(await cutInLooks(host, model, { cut, done, end: began + MOST_MS - spentMs })));
  } catch (error) {
    if (!(error instanceof AgentError)) throw error;
    cut.goesOn = !(error instanceof UnsupportedError);
    cut.warnings.push(
      `established flows of before may live on: ${error.message}; they end by themselves when they are idle`,
    );
  }
  if (cut.clean) cut.goesOn = false;
  cut.steps.push(...countedSteps(done));
  cut.tookMs = performance.now() - began;
  return cut;
}

type Cutting = { cut: Cut; done: Judgement[]; end: number };

/** Gives warnings; adds to `done` what was cut, and says in `cut` whether that was all. */
async function cutInLooks(host: Host, model: FlowModel, { cut, done, end }: Cutting): Promise<string[]> {
  const held = nothingHeld();
  for (let cuts = 0; ; ) {
    const stale = await findStale(host, model, held);
    const [doomed, spared] = [stale.filter((each) => !each.spared), stale.filter((each) => each.spared)];
    if (doomed.length === 0) {
      cut.clean = true;
      return sparedWarnings(spared);
    }
    if (cuts === MOST_CUTS) {
      // They have come since the rules are there, again and again: no cut ends that.
      cut.clean = true;
      const decided = doomed.filter(({ displaced }) => !displaced);
      return [...sparedWarnings(spared), ...(decided.length === 0 ? [] : [decidedElsewhere(decided)])];
    }
    const flows = doomed.map(({ flow }) => flow);
    const deadlineMs = Math.max(LEAST_MS, end - performance.now());
    const { left, because } = await deleteFlows(host, flows, { deadlineMs, groups: groupsOf(doomed, spared) });
    // They go in their order.
    done.push(...doomed.slice(0, doomed.length - left));
    hold(held, flows);
    if (left > 0) return [noTime(left, because)];
    // What time does not let us look at again the next run does.
    if (performance.now() > end) return [];
    // One look may not have had room for all of them.
    if (doomed.length < MOST_AT_ONCE) cuts++;
  }
}

const noTime = (left: number, because: string | undefined): string =>
  `${left} established flows that the file translates otherwise may live on: there was no time to cut them all` +
  `${because === undefined ? '' : ` (${because}: conntrack -D reads the whole table for each)`}; the next run goes on`;

function decidedElsewhere(stale: readonly Judgement[]): string {
  const of = [...new Set(stale.map((each) => each.of))];
  const shown = of.slice(0, 3).join(', ');
  return (
    `new flows of ${shown}${of.length > 3 ? ', …' : ''} are translated otherwise than the file says, with its rules in force: ` +
    'somebody else decides over them; look at nft list ruleset and ip rule'
  );
}

/** What would be cut after that; for who only looks. */
export async function plannedCuts(host: Host, model: FlowModel): Promise<Cut> {
  const cut: Cut = { ...NO_CUT, steps: [], warnings: [] };
  try {
    if (await hasNoFlows(host)) return cut;
    const stale = await findStale(host, model);
    cut.steps.push(...countedSteps(stale.filter((each) => !each.spared)));
    cut.warnings.push(...sparedWarnings(stale.filter((each) => each.spared)));
  } catch (error) {
    if (!(error instanceof AgentError)) throw error;
    cut.warnings.push(`established flows were not looked at: ${error.message}`);
  }
  return cut;
}

function countedSteps(stale: readonly Judgement[]): Cut['steps'] {
  const counts = new Map<string, number>();
  for (const { of } of stale) counts.set(of, (counts.get(of) ?? 0) + 1);
  return [...counts].map(([of, count]) => ({ kind: 'cut-flows', of, count }) as const);
}

/** What the file would translate otherwise, without what somebody else may have decided. */
export async function findStale(host: Host, model: FlowModel, held: HeldPorts = nothingHeld()): Promise<Judgement[]> {
  const judge = judgeOf(model, readForeignNat);
  const found: Judgement[] = [];
  const shifted: Flow[] = [];
  const answers: Flow[] = [];
  const outer = new Set(outerAddresses(model));
  const isOurs = ({ zoned, destination, replyDestination }: Flow) =>
    !zoned && (outer.has(destination) || outer.has(replyDestination));
  await readFlows(host, (flow) => {
    const judgement = found.length < MOST_AT_ONCE ? judge(flow) : undefined;
    if (judgement !== undefined) found.push(judgement);
    else if (!flow.zoned && answersGone(held, flow)) answers.push(flow);
    else if (hasOtherPort(flow) && shifted.length < MOST_AT_ONCE && isOurs(flow)) shifted.push(flow);
  });
  const stale = found.length === 0 ? [] : await withoutOthers(host, model, found);
  const doomed = stale.filter(({ spared }) => !spared).map(({ flow }) => flow);
  const displaced = displacedBy(held, doomed, shifted);
  held.before ??= new Set(shifted.map(flowKey));
  return [...stale, ...[...answers, ...displaced].map(asDisplaced)];
}

const asDisplaced = (flow: Flow): Judgement => ({
  flow,
  of: flow.replySource === flow.destination ? flow.replyDestination : flow.destination,
  wrong: 'source',
  spared: false,
  displaced: true,
  alike: flow,
});

/** Asked only where something is found. */
async function withoutOthers(host: Host, model: FlowModel, found: readonly Judgement[]): Promise<Judgement[]> {
  const bySource = found.some(({ wrong }) => wrong === 'source');
  const [rules, local, expected] = await Promise.all([
    bySource ? host.run(['ip', 'rule', 'show']) : { stdout: '' },
    bySource ? host.run(['ip', '-4', 'route', 'show', 'table', 'local']) : { stdout: '' },
    host.run(['conntrack', '-L', '-f', 'ipv4', '-u', 'EXPECTED'], { accept: [1] }),
  ]);
  const policy = foreignRules(rules.stdout);
  const isTaken = withinAny(localNetworks(local.stdout));
  const helpers = new Set(parseFlows(expected.stdout).map(flowKey));
  const leftByUplink = leavesByUplink(model);
  const mayBeRouted = (flow: Flow) => !leftByUplink(flow) && policy.some((rule) => mayMatch(rule, flow));
  return found.filter(
    ({ flow, wrong }) =>
      !(wrong === 'source' && (isTaken(ipv4(flow.replySource)) || mayBeRouted(flow))) &&
      !(helpers.has(flowKey(flow)) && hasMapping(model, flow)),
  );
}

/**
 * What has a source that only the uplink gives was not led elsewhere by a rule of policy routing: one that asks for a mark, as
 * wg-quick's does, may else be about any flow.
 */
function leavesByUplink(model: FlowModel): (flow: Flow) => boolean {
  const elsewhere = new Set(
    model.addresses.filter(({ device }) => device !== model.uplink?.device).map(({ address }) => address),
  );
  const uplinks = new Set([...outerAddresses(model), ...model.former.addresses].filter((each) => !elsewhere.has(each)));
  return ({ source, replyDestination }) => replyDestination !== source && uplinks.has(replyDestination);
}

/** Those that one call of `conntrack -D` takes together; where one that is spared would go with them, one by one. */
function groupsOf(stale: readonly Judgement[], spared: readonly Judgement[]): { options: string[]; flows: Flow[] }[] {
  const groups = new Map<string, { options: string[]; flows: Flow[] }>();
  const optionsOf = ({ alike }: Judgement) => deleteFlowOptions(alike);
  const apart = new Set(spared.map((each) => optionsOf(each).join(' ')));
  for (const each of stale) {
    const together = optionsOf(each);
    const { flow } = each;
    const options = apart.has(together.join(' ')) ? deleteFlowOptions(flow) : together;
    const key = options.join(' ');
    const group = groups.get(key);
    if (group === undefined) groups.set(key, { options, flows: [flow] });
    else group.flows.push(flow);
  }
  return [...groups.values()];
}

function sparedWarnings(spared: readonly Judgement[]): string[] {
  const [first] = spared;
  if (first === undefined) return [];
  const { flow } = first;
  const more = spared.length === 1 ? '' : ` and ${spared.length - 1} more`;
  return [
    `the router's own connection ${flow.source}:${flow.sourcePort} → ${flow.destination}:${flow.destinationPort}${more} goes on as ` +
      'before, though the file leads it elsewhere now: it may be yours; it ends when it is closed',
  ];
}
