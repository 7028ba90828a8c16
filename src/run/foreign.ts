// What is not ours on the NICs of the configuration, and in the chains of nat that ours are called from: for `status`.

import { isOurJump, ONLY_NFT } from '../dialects/our-rules.ts';
import { readForeign } from '../machine/foreign.ts';
import type { Host } from '../machine/host.ts';
import { type Foreign, foreignText } from '../network/foreign.ts';
import { addressKey, ROUTE_PROTOCOL, routeTargetKey } from '../network/state.ts';
import type { Survey } from './survey.ts';

export type ForeignThing = {
  kind: Foreign['kind'] | 'rule';
  /** Of an address or a route. */
  device?: string;
  /** Of a rule in nat: the chain that it is in, and whether it is asked before ours. */
  chain?: string;
  beforeOurs?: boolean;
  /** As `ip` or `iptables` takes it. */
  text: string;
  /** Reload removes it. */
  goes: boolean;
};

function ruleText(text: string): string {
  if (text !== '' && !text.startsWith(ONLY_NFT)) return text;
  const [handle = '', ...rest] = text.slice(ONLY_NFT.length).split(' ');
  return [`(a rule that only nft can show${handle === '' ? '' : `, with handle ${handle}`})`, ...rest].join(' ');
}

/** Without what the kernel itself puts there: link-local IPv6, and the routes of addresses. */
export async function foreignThings(host: Host, found: Survey): Promise<ForeignThing[]> {
  const devices = new Set(
    found.binding.bound.flatMap(({ device, bridge }) => [device, ...(bridge === undefined ? [] : [bridge.name])]),
  );
  const all = await readForeign(host, devices, { addresses: found.machine.printedAddresses });
  return [
    ...[...devices].flatMap((device) =>
      all.filter((each) => each.device === device && isForeign(each, found)).map((each) => onNic(each, found)),
    ),
    ...found.observation.hooks.flatMap(({ table, hook, rules }) => {
      const ours = rules.findIndex(isOurJump);
      if (table !== 'nat' || ours === -1) return [];
      return rules.flatMap((text, index): ForeignThing[] =>
        isOurJump(text)
          ? []
          : [{ kind: 'rule', chain: hook, beforeOurs: index < ours, text: ruleText(text), goes: false }],
      );
    }),
  ];
}

function isForeign({ kind, family, device, words, target, protocol = '' }: Foreign, found: Survey): boolean {
  const { desired, observation } = found;
  if (kind === 'address') {
    if (/ scope link\b/.test(words)) return family === 4;
    const key = addressKey({ device, spec: specOf(words) });
    return !observation.owned.has(key) && !desired.addresses.some((address) => addressKey(address) === key);
  }
  if (protocol === 'kernel' || protocol === ROUTE_PROTOCOL) return false;
  return (
    target === undefined ||
    !(observation.ownedRoutes.has(target) || desired.routes.some((route) => routeTargetKey(route) === target))
  );
}

function onNic(foreign: Foreign, { steps }: Survey): ForeignThing {
  const { kind, device, words } = foreign;
  const goes = steps.some(
    (step) => step.kind === 'remove-address' && step.address.device === device && step.address.spec === specOf(words),
  );
  const text = foreignText(foreign)
    .slice(`${kind} `.length)
    .replace(` dev ${device}`, '')
    .replace(` label ${device}`, '');
  return { kind, device, text, goes: kind === 'address' && goes };
}

const specOf = (words: string): string => words.split(' dev ', 1)[0] ?? words;
