// What the tests of flows share: a flow in a line, what a configuration holds it against, and the entry that rules make of a packet.

import { hostPart } from '../../src/base/ipv4.ts';
import { type Config, uplinkOf } from '../../src/config/config.ts';
import type { Flow } from '../../src/network/flow.ts';
import { type FlowModel, type Former, type NatRules, type Way, waysOf } from '../../src/network/flows.ts';
import { bindNics, type ObservedLink } from '../../src/network/nics.ts';
import type { NetworkState } from '../../src/network/state.ts';
import { translationOf, type Ways } from '../../src/network/translation.ts';
import { onIpLink } from '../../src/planning/desired.ts';
import { desired, LINKS } from './fixtures.ts';
import { type Course, courseOf, type Packet } from './packet-trace.ts';

const NUMBERS: Readonly<Record<string, number>> = { icmp: 1, tcp: 6, udp: 17, gre: 47, unknown: 50, sctp: 132 };
const CLIENT_PORT = 40_000;

/**
 * `udp 203.0.113.200 → 198.51.100.5:9 ⇒ 192.0.2.5:9 sees 203.0.113.200`: who sends what where, and whom it reaches as whom. What is
 * not written after the arrow is as before it.
 */
export function flow(text: string, more: Partial<Flow> = {}): Flow {
  const match = /^(\w+) (\S+) → ([\d.]+)(?::(\d+))?(?: ⇒ ([\d.]+)(?::(\d+))?)?(?: sees (\S+))?$/.exec(text);
  if (match === null) throw new Error(`not a flow: ${text}`);
  const [, protocol = '', source = '', destination = '', port, to = destination, toPort = port, from = source] = match;
  return {
    protocol,
    protocolNumber: NUMBERS[protocol] ?? 0,
    source,
    destination,
    replySource: to,
    replyDestination: from,
    ...(port !== undefined && {
      sourcePort: CLIENT_PORT,
      destinationPort: Number(port),
      replySourcePort: Number(toPort),
      replyDestinationPort: CLIENT_PORT,
    }),
    unreplied: false,
    assured: false,
    mark: 0,
    zoned: false,
    ...more,
  };
}

/** What iptables-save shows of nat where nobody else has a rule. */
export const ONLY_OURS: NatRules = {
  PREROUTING: ['-j KYLIN-VR-DNAT'],
  INPUT: [],
  OUTPUT: ['-j KYLIN-VR-DNAT'],
  POSTROUTING: ['-j KYLIN-VR-POSTROUTING'],
};

type ModelOptions = {
  links?: readonly ObservedLink[];
  mode?: Ways;
  natRules?: NatRules;
  former?: Former;
  /** Routes of others, and addresses. */
  ways?: readonly Way[];
  addresses?: FlowModel['addresses'];
};

const NO_FORMER: Former = { addresses: [], networks: [] };

/** On a machine that has what the configuration wants, and what the options name. */
export function modelOf(
  wanted: Config,
  {
    links = LINKS,
    mode = 'today',
    natRules = ONLY_OURS,
    former = NO_FORMER,
    ways = [],
    addresses = [],
  }: ModelOptions = {},
): FlowModel {
  const state = desired(wanted, { links, ways: mode });
  const { bound } = bindNics(wanted.nics, links);
  const { ownSource: _, ...translation } = translationOf(wanted, bound.map(onIpLink), uplinkOf(wanted)?.mac, mode);
  return {
    ...translation,
    addresses: [...state.addresses.map(({ device, spec }) => ({ device, address: hostPart(spec) })), ...addresses],
    ways: [...waysOf(state), ...ways],
    natRules,
    former,
  };
}

/** Where the rules of a state lead a packet, with the address that MASQUERADE takes. */
export function courseBy(state: NetworkState, packet: Packet): Course {
  const course = courseOf(state, packet);
  if (!course.from.startsWith('address of ')) return course;
  const own = state.addresses.find(({ device }) => device === course.out);
  return { ...course, from: hostPart(own?.spec ?? '') };
}

/** The entry that conntrack has of it afterwards; none of a packet that does not get through. */
export function entryOf(state: NetworkState, packet: Packet): Flow | undefined {
  const { to, port, from, out, dropped } = courseBy(state, packet);
  if (out === undefined || dropped !== undefined) return undefined;
  const ported = (address: string, n: number | undefined) => (n === undefined ? address : `${address}:${n}`);
  return flow(
    `${packet.protocol} ${packet.from} → ${ported(packet.to, packet.port)} ⇒ ${ported(to, port)} sees ${from}`,
  );
}
