// Rules that change, and what leaves → which of them wait. What leaves takes a while: addresses go after the rules, and entries of conntrack
// lead where they led until they are cut. What guards an uplink meanwhile, or gives a source, stays as long. Pure.

import { contains, type Network, overlap, parseCidr } from '../../base/ipv4.ts';
import { WIDEST } from '../../config/inside.ts';
import { leadsTo } from '../../dialects/our-rules.ts';
import type { Observation } from '../../network/observation.ts';
import {
  addressKey,
  CHAIN_PREFIX,
  type Chain,
  chainKey,
  isOurRoute,
  jumpKey,
  type NetworkState,
  sameList,
} from '../../network/state.ts';
import { asLate, type LateStep, type Step, type StepOf } from '../../network/step.ts';
import { LEAVING, NOWHERE, UNTRANSLATED, UPLINK } from './guard.ts';

/**
 * `now`: with what stays for a while. `late`: without it; for when all else is done, and flows are cut.
 * `isMoving`: the uplink's addresses go from a NIC to its bridge, or back. `isEnd`: nobody is to leave any more.
 */
export function holdBack(
  rules: readonly Step[],
  desired: NetworkState,
  observation: Observation,
  isMoving: boolean,
): { now: Step[]; late: LateStep[]; isEnd: boolean } {
  if (rules.length === 0) return { now: [], late: [], isEnd: false };
  // Once the addresses have gone nobody does: until then all stays as it is.
  const isEnd = rules.some((step) => step.kind === 'remove-chain' && step.name === LEAVING);
  const isKept = keeper(desired, observation, isMoving);
  const moved = new Set(rules.flatMap((step) => (step.kind === 'add-jump' ? [jumpKey(step.jump)] : [])));
  const found = new Map(observation.state.chains.map((chain) => [chainKey(chain), chain.rules]));
  const now: Step[] = [];
  const late: LateStep[] = [];
  const led: string[] = [];
  for (const step of withGuard(rules, desired, found)) {
    if (changesOrdered(step)) {
      const { chain } = step;
      const there = found.get(chainKey(chain)) ?? [];
      const kept = there.filter((rule) => !chain.rules.includes(rule) && isKept(chain, rule));
      const held = merged(there, chain.rules, kept);
      const guards = step.guards ? (chain.meanwhile ?? []).filter((rule) => !held.includes(rule)) : [];
      const meanwhile = [...held, ...guards];
      if (!sameList(meanwhile, there) || step.kind === 'add-chain')
        now.push({ kind: step.kind, chain: { ...chain, rules: meanwhile } });
      if (!sameList(meanwhile, chain.rules)) late.push({ kind: 'replace-chain', chain });
      led.push(...kept.flatMap((rule) => targetsOf({ table: chain.table, rules: [rule] })));
    } else if (isEnd && isRemoval(step) && !(step.kind === 'remove-jump' && moved.has(jumpKey(step.jump))))
      late.push(step);
    else now.push(step);
  }
  const going = new Set(rules.flatMap((step) => (step.kind === 'remove-chain' ? [chainKey(step)] : [])));
  const isNeeded = below(
    led,
    observation.state.chains.filter((chain) => going.has(chainKey(chain))),
  );
  const waits = (step: Step) => step.kind === 'remove-chain' && isNeeded(step);
  return {
    now: now.filter((step) => !waits(step)),
    late: [...late, ...now.filter(isRemoval).filter(waits)].map(asLate),
    isEnd,
  };
}

type Ordered = StepOf<'add-chain' | 'replace-chain'> & { guards?: boolean };

const changesOrdered = (step: Step | Ordered): step is Ordered =>
  (step.kind === 'replace-chain' || step.kind === 'add-chain') && step.chain.ordered && step.chain.table !== 'filter';

/**
 * Where something is to be translated that was not, flows that were let by as they are go on so until they are cut: they are stopped as
 * long. Not where nothing of ours is there yet, or what 1.0 made: then nobody has promised anything.
 */
function withGuard(
  rules: readonly Step[],
  { chains }: NetworkState,
  found: ReadonlyMap<string, readonly string[]>,
): readonly (Step | Ordered)[] {
  const comes = rules.some(
    (step) =>
      changesOrdered(step) &&
      step.chain.name === UNTRANSLATED &&
      isMore(step.chain.rules, found.get(chainKey(step.chain)) ?? []),
  );
  const uplink = chains.find(({ table, name }) => table === 'mangle' && name === UPLINK);
  const isNew =
    [...found.keys()].every((key) => !key.startsWith('mangle ')) && found.has(`nat ${CHAIN_PREFIX}POSTROUTING`);
  if (!comes || found.size === 0 || isNew || !uplink?.meanwhile?.length) return rules;
  const guard = (step: Ordered): Ordered => ({ ...step, guards: true });
  const isUplink = (step: Step): step is Ordered => changesOrdered(step) && step.chain.name === UPLINK;
  return rules.some(isUplink)
    ? rules.map((step) => (isUplink(step) ? guard(step) : step))
    : [guard({ kind: 'replace-chain', chain: uplink }), ...rules];
}

/** Whether anything is stopped that was not. */
const isMore = (wanted: readonly string[], found: readonly string[]): boolean =>
  wanted.some((rule) => rule.endsWith(' DROP') && !found.includes(rule)) ||
  found.some((rule) => rule.endsWith(' RETURN') && !wanted.includes(rule));

const isRemoval = (step: Step): step is StepOf<'remove-chain' | 'remove-jump'> =>
  step.kind === 'remove-chain' || step.kind === 'remove-jump';

const targetsOf = ({ table, rules }: Pick<Chain, 'table' | 'rules'>): string[] =>
  rules.flatMap((rule) => {
    const name = leadsTo(rule);
    return name === undefined ? [] : [chainKey({ table, name })];
  });

/** Whether a rule that stays leads to a chain that goes, by others that go or not. */
function below(led: readonly string[], going: readonly Chain[]): (chain: Pick<Chain, 'table' | 'name'>) => boolean {
  const needed = new Set(led);
  // A set hands on what is added meanwhile.
  for (const key of needed) {
    const chain = going.find((each) => chainKey(each) === key);
    for (const target of chain === undefined ? [] : targetsOf(chain)) needed.add(target);
  }
  return (chain) => needed.has(chainKey(chain));
}

/** Whether a rule that goes is needed as long as anything is under way. */
function keeper(desired: NetworkState, observation: Observation, isMoving: boolean) {
  const { state, owned, ownedRoutes } = observation;
  const wantedOn = new Set(desired.addresses.map(addressKey));
  // What is in a network that stays inside, or of a NIC, is led by that. A route by an uplink leads out what is still under way inside.
  const gates = new Set(gateDevices(desired.chains));
  const staying = networksOf({
    addresses: desired.addresses,
    routes: desired.routes.filter(({ device }) => !gates.has(device)),
  });
  const outside = networksOf({ addresses: desired.addresses.filter(({ device }) => gates.has(device)), routes: [] });
  const isLed = (network: Network) =>
    staying.some((each) => each.prefix <= network.prefix && contains(each, network.base)) ||
    outside.some(({ base }) => contains(network, base));
  const going = state.addresses.filter((each) => owned.has(addressKey(each)) && !wantedOn.has(addressKey(each)));
  const routes = state.routes.filter((route) => isOurRoute(route, ownedRoutes));
  const leaving = networksOf({ addresses: going, routes }).filter((network) => !isLed(network));
  const devices = new Set(going.filter(isOfNetwork).map(({ device }) => device));
  return ({ name, meanwhile = [] }: Chain, rule: string): boolean => {
    const device = deviceIn(rule);
    if (device !== undefined) return isMoving || devices.has(device);
    if (meanwhile.includes(rule)) return true;
    if (name === NOWHERE) return networkIn(rule, DROPPED).some((network) => !isLed(network));
    return networkIn(rule, BY_SOURCE).some((source) => leaving.some((network) => overlap(network, source)));
  };
}

/** Those that somebody leaves by. */
export const gateDevices = (chains: readonly Chain[]): string[] =>
  chains.flatMap(({ name, rules }) => (name === LEAVING ? rules.flatMap((rule) => deviceIn(rule) ?? []) : []));

const deviceIn = (rule: string): string | undefined => /^-[io] (\S+) /.exec(rule)?.[1];

const DROPPED = /^-d (\S+) -j DROP$/;
const BY_SOURCE = /^-s (\S+) /;

function networkIn(rule: string, pattern: RegExp): Network[] {
  const network = parseCidr(pattern.exec(rule)?.[1] ?? '');
  return network === undefined ? [] : [network];
}

/** Those that addresses and routes lead to, without what is everywhere. */
const networksOf = ({ addresses, routes }: Pick<NetworkState, 'addresses' | 'routes'>): Network[] =>
  [...addresses.filter(isOfNetwork).map(({ spec }) => spec), ...routes.map(({ dest }) => dest)].flatMap((text) => {
    const network = parseCidr(text);
    return network === undefined || network.prefix < WIDEST ? [] : [network];
  });

const isOfNetwork = ({ spec }: { spec: string }): boolean => !spec.endsWith('/32');

/** `wanted` with some of `found`, each behind what was before it. */
function merged(found: readonly string[], wanted: readonly string[], kept: readonly string[]): string[] {
  const rules = [...wanted];
  for (const rule of kept) {
    const before = found.slice(0, found.indexOf(rule)).findLast((each) => rules.includes(each));
    rules.splice(before === undefined ? 0 : rules.indexOf(before) + 1, 0, rule);
  }
  return rules;
}
