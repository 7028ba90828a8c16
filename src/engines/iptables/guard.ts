// What is wanted → what may not pass, whatever NAT does: what comes back out of the uplink that it came in by, what leaves an
// uplink for a private destination, and what would leave with a private source because NAT is not asked about it. Pure.
//
//   mangle FORWARD ─▶ GUARD ─▶ BOUNCE    (in by an uplink, and out by it again)
//                          └─▶ ENTERING  (in by an uplink; from-uplink: drop)
//   mangle POSTROUTING ─▶ LEAVING ─▶ UPLINK  (leaves by a NIC with a gateway)
//                                      ├─▶ NOWHERE       (for what is inside)
//                                      └─▶ UNTRANSLATED  (NAT is not asked)
//
// In mangle: before whatever others let through in filter. POSTROUTING, because what the router itself sends to an EIP is led inside by
// nat OUTPUT, and filter OUTPUT is still told the device that it would have left by before; NAT of sources comes after it.

import { contains, coverOf, formatNetwork, ipv4, type Network } from '../../base/ipv4.ts';
import type { Filter, Guard } from '../../network/filter.ts';
import { CHAIN_PREFIX, type Chain, type FilterParts } from '../../network/state.ts';
import { sourceRuleFor } from '../../network/translation.ts';
import type { Abilities } from '../engine.ts';

const GUARD = `${CHAIN_PREFIX}GUARD`;
const BOUNCE = `${CHAIN_PREFIX}BOUNCE`;
const ENTERING = `${CHAIN_PREFIX}ENTERING`;
export const LEAVING = `${CHAIN_PREFIX}LEAVING`;
export const UPLINK = `${CHAIN_PREFIX}UPLINK`;
export const NOWHERE = `${CHAIN_PREFIX}NOWHERE`;
export const UNTRANSLATED = `${CHAIN_PREFIX}UNTRANSLATED`;

export function guardRules(filter: Filter, guard: Guard, abilities: Abilities): FilterParts {
  const { gates } = guard;
  const devices = gates.map(({ device }) => device);
  const drops = guard.entering === 'drop';
  const bounces = gates.filter((gate) => isTold(gate, abilities)).map(({ device }) => device);
  return {
    chains: [
      ordered('mangle', GUARD, [
        ...bounces.map((device) => `-i ${device} -o ${device} -j ${BOUNCE}`),
        ...(drops ? devices.map((device) => `-i ${device} ! -o ${device} -j ${ENTERING}`) : []),
      ]),
      ...(bounces.length === 0 ? [] : [bounceChain(guard, abilities)]),
      ...(drops ? [enteringChain(devices, filter.networks, abilities)] : []),
      ordered(
        'mangle',
        LEAVING,
        devices.map((device) => `-o ${device} -j ${UPLINK}`),
      ),
      {
        ...ordered('mangle', UPLINK, [
          ...(hasBridged(guard, abilities) ? [IS_BRIDGED] : []),
          ...(abilities.policy ? ['-m policy --dir out --pol ipsec -j RETURN'] : []),
          `-j ${NOWHERE}`,
          ...abilities.exemptions.exempt,
          `-m conntrack --ctstate INVALID -j ${UNTRANSLATED}`,
        ]),
        meanwhile: abilities.exemptions.all ? [`${BEGAN_SO} -j ${UNTRANSLATED}`] : [],
      },
      nowhereChain(filter.networks, guard.outside),
      untranslatedChain(filter),
    ],
    jumps: [
      { table: 'mangle', hook: 'FORWARD', rule: `-j ${GUARD}`, place: 'anywhere' },
      { table: 'mangle', hook: 'POSTROUTING', rule: `-j ${LEAVING}`, place: 'anywhere' },
    ],
  };
}

/**
 * Frames that are bridged on an uplink's bridge pass FORWARD with the bridge as both devices where br_netfilter is at work; on one
 * of the kernel that has to be told from what is routed. Where it is not at work, naming physdev would load it, and it may
 * come later: then nothing is said of such an uplink. Open vSwitch's frames do not come by here.
 */
const isTold = ({ isLinuxBridge }: Guard['gates'][number], { bridged }: Abilities): boolean =>
  !isLinuxBridge || bridged;

/** An address of a routed block that is not in the file would go to and fro between the gateway and us until its TTL is gone. */
function bounceChain({ gates, bounce }: Guard, abilities: Abilities): Chain {
  const between = bounce.between.map(formatNetwork);
  return ordered('mangle', BOUNCE, [
    ...(hasBridged({ gates }, abilities) ? [IS_BRIDGED] : []),
    '-m conntrack --ctstate SNAT,DNAT -j RETURN',
    ...(abilities.policy ? ['in', 'out'].map((way) => `-m policy --dir ${way} --pol ipsec -j RETURN`) : []),
    ...between.map((network) => `-d ${network} -j RETURN`),
    ...between.map((network) => `-s ${network} -j RETURN`),
    ...bounce.from.map((network) => (network.prefix === 0 ? '-j RETURN' : `-s ${formatNetwork(network)} -j RETURN`)),
    '-j DROP',
  ]);
}

const hasBridged = ({ gates }: Pick<Guard, 'gates'>, { bridged }: Abilities): boolean =>
  bridged && gates.some(({ isLinuxBridge }) => isLinuxBridge);

const IS_BRIDGED = '-m physdev --physdev-is-bridged -j RETURN';

/** What we translated has been let in by the file; what answers, too. */
function enteringChain(devices: readonly string[], inside: readonly Network[], { policy, bridged }: Abilities): Chain {
  return ordered('mangle', ENTERING, [
    ...(bridged ? [IS_BRIDGED] : []),
    '-m conntrack --ctstate RELATED,ESTABLISHED,UNTRACKED,SNAT,DNAT -j RETURN',
    ...(policy ? ['-m policy --dir in --pol ipsec -j RETURN'] : []),
    ...inside.map((network) => `-d ${formatNetwork(network)} -j DROP`),
    ...(devices.length > 1 ? devices.map((device) => `-o ${device} -j DROP`) : []),
  ]);
}

/** What is inside does not leave; the longest prefix says whose a destination is. */
function nowhereChain(inside: readonly Network[], outside: readonly Network[]): Chain {
  const verdicts = [
    ...outside.map((network) => ({ network, verdict: 'RETURN' })),
    ...inside.map((network) => ({ network, verdict: 'DROP' })),
  ];
  return ordered('mangle', NOWHERE, [
    ...new Set(
      verdicts
        .sort((a, b) => b.network.prefix - a.network.prefix)
        .map(({ network, verdict }) => `-d ${formatNetwork(network)} -j ${verdict}`),
    ),
  ]);
}

/**
 * A flow whose first packet was let by as it was: its entry says so, and NAT is not asked again, whatever the file says now. Until it is
 * cut: an entry does not tell that a rule translates a source to what it is already. In two matches: one that names a
 * state takes what has no entry for a match (xt_conntrack).
 */
const BEGAN_SO =
  '-m addrtype ! --src-type LOCAL -m conntrack --ctstatus CONFIRMED --ctdir ORIGINAL -m conntrack ! --ctstate SNAT';

/** What NAT leaves alone: of that, what it would have translated. EIPs are sources by the uplink only. */
function untranslatedChain({ ownSource, sources, uplink, others }: Filter): Chain {
  const isKept = (address: number) => (sourceRuleFor(sources, address)?.to ?? 'none') === 'none';
  const byUplink = others.length === 0 ? '' : `-o ${uplink?.device} `;
  const gates = [uplink, ...others].flatMap((gate) => (gate === undefined ? [] : [gate.ipaddr]));
  // What has that source already stays as it is.
  const same = sources.flatMap(({ network, to }) =>
    (typeof to === 'object' ? [to.address] : gates).map(ipv4).filter((address) => contains(network, address)),
  );
  return ordered('mangle', UNTRANSLATED, [
    ...coverOf([...new Set(same)]).map((network) => `-s ${formatNetwork(network)} -j RETURN`),
    ...coverOf([...ownSource.keys()].map(ipv4).filter(isKept)).map(
      (vms) => `-s ${formatNetwork(vms)} ${byUplink}-j DROP`,
    ),
    ...sources.map(({ network, to }) => {
      const verdict = to === 'none' ? '-j RETURN' : '-j DROP';
      return network.prefix === 0 ? verdict : `-s ${formatNetwork(network)} ${verdict}`;
    }),
  ]);
}

const ordered = (table: Chain['table'], name: string, rules: string[]): Chain => ({
  table,
  name,
  rules,
  ordered: true,
});
