// Which established flows a change of the NAT rules concerns: they would live on by the old rules, since NAT rules are
// asked for the first packet of a flow only (OSSN-0020). Pure: reads rules as iptables prints them.

import { formatIpv4 } from './ipv4.ts';
import { CHAIN_PREFIX, type Chain, chainKey } from './state.ts';

/**
 * Flows in conntrack; fields that are set must all match. Ports are those of the original destination, inclusive.
 * A filter never matches a flow that the new rules make, so that cutting comes to an end.
 */
export type FlowFilter = {
  originalSource?: string;
  originalDestination?: string;
  /** Who answers: the VM that the flow was translated to. */
  replySource?: string;
  replyDestination?: string;
  protocol?: 'tcp' | 'udp';
  ports?: { from: number; to: number };
};

/** What one NAT rule of ours does, with the flows that exist because of it. */
type Mapping = {
  key: string;
  of: string;
  eip: string;
  filter: FlowFilter;
  incoming: boolean;
  /** Of an incoming one: by how much the VM's port is higher than the one asked for. */
  shift?: number;
};

export type FlowCut = { of: string; filters: FlowFilter[] };

/**
 * The flows to cut when the rules change from `observed` to `desired`: those of mappings that are gone or lead elsewhere,
 * and the UDP flows that a new mapping on an address that was here before (`present`) would not get: a sender that
 * keeps sending keeps its untranslated entry alive. TCP flows to the router itself are left: one may be the operator's.
 * Flows that another rule now leads to where they went before go on: a range of ports may grow.
 * `removed` are addresses of ours that go: everything of theirs goes with them.
 */
export function flowCuts(
  desired: readonly Chain[],
  observed: readonly Chain[],
  removed: readonly string[],
  present: ReadonlySet<string>,
): FlowCut[] {
  const cuts = new Map<string, FlowCut>();
  const cut = (of: string, ...filters: FlowFilter[]) => {
    const existing = cuts.get(of);
    if (existing === undefined) cuts.set(of, { of, filters });
    else existing.filters.push(...filters);
  };
  for (const address of removed) cut(address, { originalDestination: address }, { replyDestination: address });

  // Most changes cut nothing, and the chains that differ show that: of 1,000 EIPs all take a tenth of what starting Node takes.
  const isNew = (mapping: Mapping, earlier: ReadonlyMap<string, Mapping>) =>
    !earlier.has(mapping.key) && mapping.incoming && present.has(mapping.eip) && mapping.filter.protocol !== 'tcp';
  const [from, to] = [natMappings(without(observed, desired)), natMappings(without(desired, observed))];
  if ([...from.keys()].every((key) => to.has(key)) && ![...to.values()].some((mapping) => isNew(mapping, from)))
    return [...cuts.values()];

  const [before, after] = [natMappings(observed), natMappings(desired)];
  const gone = new Set(removed);
  const afterByEip = byEip(after.values());
  for (const mapping of before.values()) {
    if (after.has(mapping.key) || gone.has(mapping.eip)) continue;
    const filters = ledElsewhere(mapping, afterByEip.get(mapping.eip) ?? []);
    if (filters.length > 0) cut(mapping.of, ...filters);
  }
  for (const mapping of after.values())
    if (isNew(mapping, before))
      cut(`${mapping.of} (UDP)`, { ...mapping.filter, replySource: mapping.eip, protocol: 'udp' });
  return [...cuts.values()];
}

/** The chains that the others do not have as they are. */
function without(chains: readonly Chain[], others: readonly Chain[]): Chain[] {
  const rulesOf = new Map(others.map((chain) => [chainKey(chain), chain.rules]));
  return chains.filter((chain) => {
    const rules = rulesOf.get(chainKey(chain));
    return (
      rules === undefined || rules.length !== chain.rules.length || rules.some((rule, n) => rule !== chain.rules[n])
    );
  });
}

/** The flows of a mapping, but for the ports that one of the others leads to the same port of the same VM. */
function ledElsewhere({ filter, shift }: Mapping, others: readonly Mapping[]): FlowFilter[] {
  if (filter.ports === undefined) return [filter];
  let left = [filter.ports];
  for (const other of others) {
    const { replySource, protocol = filter.protocol, ports = ALL_PORTS } = other.filter;
    if (replySource !== filter.replySource || protocol !== filter.protocol || other.shift !== shift) continue;
    left = left
      .flatMap(({ from, to }) => [
        { from, to: Math.min(to, ports.from - 1) },
        { from: Math.max(from, ports.to + 1), to },
      ])
      .filter(({ from, to }) => from <= to);
  }
  return left.map((ports) => ({ ...filter, ports }));
}

const ALL_PORTS = { from: 0, to: 65535 };

function byEip(mappings: Iterable<Mapping>): Map<string, Mapping[]> {
  const groups = new Map<string, Mapping[]>();
  for (const mapping of mappings) {
    const group = groups.get(mapping.eip);
    if (group === undefined) groups.set(mapping.eip, [mapping]);
    else group.push(mapping);
  }
  return groups;
}

const ONE_TO_ONE = /^-d ([\d.]+)\/32 -j DNAT --to-destination ([\d.]+)$/;
const OWN_SOURCE = /^-s ([\d.]+)\/32 -j SNAT --to-source ([\d.]+)$/;
const FORWARD = /^-p (tcp|udp) -m (?:tcp|udp) --dport (\d+)(?::(\d+))? -j DNAT --to-destination (\S+)$/;
const PORTS_CHAIN = new RegExp(`^${CHAIN_PREFIX}-P-(?:([\\d]+\\.[\\d.]+)|([0-9A-F]{8})-[TU][0-9A-F]+)$`);

function natMappings(chains: readonly Chain[]): Map<string, Mapping> {
  const mappings = new Map<string, Mapping>();
  const add = (mapping: Mapping) => mappings.set(mapping.key, mapping);
  for (const chain of chains) {
    if (chain.table !== 'nat') continue;
    const forwardedEip = eipOfPortsChain(chain.name);
    for (const rule of chain.rules) {
      if (forwardedEip !== undefined) {
        const [, protocol, from, to = from, destination] = FORWARD.exec(rule) ?? [];
        if (destination === undefined || (protocol !== 'tcp' && protocol !== 'udp')) continue;
        const ports = { from: Number(from), to: Number(to) };
        add({
          key: `${forwardedEip} ${protocol} ${from}-${to} ${destination}`,
          of: `${forwardedEip}:${from === to ? from : `${from}-${to}`}/${protocol}`,
          eip: forwardedEip,
          filter: { originalDestination: forwardedEip, replySource: vmOf(destination), protocol, ports },
          incoming: true,
          shift: shiftOf(destination, Number(from)),
        });
        continue;
      }
      const toVm = ONE_TO_ONE.exec(rule);
      if (toVm !== null) {
        const [, eip = '', vmIp = ''] = toVm;
        add({
          key: `${eip} to ${vmIp}`,
          of: eip,
          eip,
          filter: { originalDestination: eip, replySource: vmIp },
          incoming: true,
          shift: 0,
        });
      }
      const asEip = OWN_SOURCE.exec(rule);
      if (asEip !== null) {
        const [, source = '', to = ''] = asEip;
        add({
          key: `${source} as ${to}`,
          of: to,
          eip: to,
          filter: { originalSource: source, replyDestination: to },
          incoming: false,
        });
      }
    }
  }
  return mappings;
}

/** `10.0.0.5:80-90/8000` → `10.0.0.5` */
const vmOf = (destination: string): string => destination.split(':', 1)[0] ?? destination;

/** `10.0.0.5:80-90/8000` → -7920, where the first port asked for is 8000. */
function shiftOf(destination: string, from: number): number {
  const [, port, base = from] = /:(\d+)(?:-\d+\/(\d+))?$/.exec(destination) ?? [];
  return port === undefined ? 0 : Number(port) - Number(base);
}

function eipOfPortsChain(name: string): string | undefined {
  const [, dotted, hex] = PORTS_CHAIN.exec(name) ?? [];
  return dotted ?? (hex === undefined ? undefined : formatIpv4(Number.parseInt(hex, 16)));
}
