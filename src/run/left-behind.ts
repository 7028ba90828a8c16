// What is others' and does not go along where a NIC becomes a port of a bridge, or is none any more: policy rules that name it, routes
// and objects of next hops that stay with an address of theirs, and those whose source goes.

import type { Host } from '../machine/host.ts';
import { orphaned } from '../machine/networkmanager.ts';
import { foreignText } from '../network/foreign.ts';
import { nexthopMoves } from '../network/nexthop-moves.ts';
import type { Observation } from '../network/observation.ts';
import { coursesOf, routeMoves } from '../network/route-moves.ts';
import type { NetworkState } from '../network/state.ts';
import type { Step } from '../network/step.ts';

export async function leftBehind(
  host: Host,
  desired: NetworkState,
  observation: Observation,
  steps: readonly Step[],
): Promise<string[]> {
  const courses = coursesOf(desired, observation).filter(({ from, to }) =>
    steps.some(
      (step) =>
        (step.kind === 'add-port' && step.port.device === from && step.port.bridge === to) ||
        (step.kind === 'remove-port' && step.port.bridge === from),
    ),
  );
  const going = steps.flatMap((step) => (step.kind === 'remove-address' ? [step.address] : []));
  const { staying, ending } = routeMoves(desired, observation, going);
  const nexthops = nexthopMoves(desired, observation, going).staying;
  const rules = courses.length === 0 ? [] : await readRules(host);
  return [
    ...courses.flatMap(({ from, to }) =>
      rules
        .filter((rule) => names(rule, from))
        .map(
          (rule) =>
            `the rule "${rule}" stays as it is, and packets come and leave by ${to} in place of ${from}: add one for ${to}`,
        ),
    ),
    ...few(staying.map(foreignText)).map(
      (text) => `${text}: stays with an address of others, and does not work there: move both, or take them away`,
    ),
    ...few(nexthops.map(foreignText)).map(
      (text) =>
        `${text}: stays there, and the routes by it do not work: ip nexthop replace, with the device that they are to go by`,
    ),
    ...orphaned(ending),
  ];
}

/** Of both families, each once. */
async function readRules(host: Host): Promise<string[]> {
  const printed = await Promise.all(
    ['-4', '-6'].map((family) => host.run(['ip', family, 'rule', 'show'], { accept: [1, 2, 255] })),
  );
  const rules = printed.flatMap(({ stdout }) => stdout.split('\n').map((line) => line.replace(/^\d+:\s+/, '').trim()));
  return [...new Set(rules)];
}

const names = (rule: string, device: string): boolean => {
  const words = rule.split(/\s+/);
  return words.some((word, n) => word === device && /^[io]if$/.test(words[n - 1] ?? ''));
};

const MOST_NAMED = 3;

function few(texts: readonly string[]): string[] {
  if (texts.length <= MOST_NAMED) return [...texts];
  return [`${texts.slice(0, MOST_NAMED).join(', ')} and ${texts.length - MOST_NAMED} more`];
}
