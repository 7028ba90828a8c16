// What is wanted, and the chains as they are to be and as they are → which EIPs, forwards and sources are broken, and where on the way of
// their packets: what the wanted chains say to one there, and those that are there do not. With how often their rules were used. Pure.

import { contains, ipv4, lastOf, type Network } from '../../base/ipv4.ts';
import type { Eip, Forward } from '../../config/config.ts';
import { linesOf } from '../../dialects/iptables.ts';
import type { Filter, FilterFound, Found, Gate, Part, SourceRule } from '../../network/filter.ts';
import type { TableName } from '../../network/state.ts';
import type { Paths, Reader } from '../engine.ts';
import { type CourseEnd, countedRules, coursesBy, type Passing, rulesByChain } from './course.ts';
import { MOST_SINGLE_PORTS } from './ports.ts';

type PartProbe = { part: Part; table: TableName; hook: string; passing: Passing };

export const readFilter: Reader['read'] = (filter, { wanted, found, counted }, paths): FilterFound => {
  const { uplink } = filter;
  const [asWanted, asFound] = [coursesBy(rulesByChain(wanted)), coursesBy(rulesByChain(found))];
  const differs = ({ table, hook, passing }: PartProbe): boolean =>
    asWanted(table, hook, passing)?.verdict !== asFound(table, hook, passing)?.verdict;
  const brokenOn = (probes: readonly PartProbe[]): Part[] => [
    ...new Set(probes.filter(differs).map(({ part }) => part)),
  ];
  const asCounted = counted === undefined ? undefined : coursesBy(countedRules('nat', linesOf('nat', counted)));
  /** Of rules that say what is wanted; each is counted once. */
  const used = (probes: readonly PartProbe[]): { since?: number } => {
    if (asCounted === undefined) return {};
    const ends = probes.map(({ table, hook, passing }): CourseEnd | undefined => {
      const end = asCounted(table, hook, passing);
      return end?.verdict === asWanted(table, hook, passing)?.verdict ? end : undefined;
    });
    const rules = new Set(ends.flatMap((end) => end ?? []));
    return { since: [...rules].reduce((sum, { packets }) => sum + packets, 0) };
  };
  const sources = sourceProbes(filter, paths);
  const foundSources = filter.sources.map((rule): Found<SourceRule> => {
    const probes = sources(rule);
    const broken = brokenOn(probes);
    return { ...rule, broken, ...used(probes.filter(({ part }) => part === 'leaves')) };
  });
  if (uplink === undefined) return { eips: [], forwards: [], sources: foundSources };

  const { senders, hairpin, inward, outward } = mappingProbes(filter, uplink, paths);
  // What all that is sent from one place goes by is asked once.
  const mappings = [...filter.eips, ...filter.forwards];
  const isCut = (sender: Sender): boolean =>
    mappings.length > 0 && mappings.every((mapping) => differs(hairpin(mapping, sender)));
  const isCutInside = senders.some(isCut);
  const isCutHere = isCut({ from: ipv4(uplink.ipaddr), local: true });
  // What the router sends to its own address has that for its source anyway.
  const cutFor = (eip: string): Part[] => (isCutInside || (isCutHere && eip !== uplink.ipaddr) ? ['hairpin'] : []);
  const foundOf = <T extends Eip>(mapping: T, ways: readonly PartProbe[]): Found<T> => ({
    ...mapping,
    broken: [...new Set([...brokenOn(ways), ...cutFor(mapping.eip)])],
    ...used(ways.filter(({ part }) => part === 'arrives')),
  });
  return {
    eips: filter.eips.map((eip) => foundOf(eip, [...inward(eip, TCP), ...outward(eip)])),
    forwards: filter.forwards.map((forward: Forward) =>
      foundOf(
        forward,
        portsAsked(forward).flatMap((port) => inward(forward, { protocol: forward.protocol, port })),
      ),
    ),
    sources: foundSources,
  };
};

type Sender = Pick<Passing, 'from' | 'local'>;

/** What forwarded packets come by on their way. */
const throughOf = (passing: Passing): PartProbe[] => [
  { part: 'forwarded', table: 'mangle', hook: 'FORWARD', passing },
  { part: 'forwarded', table: 'filter', hook: 'FORWARD', passing },
  { part: 'forwarded', table: 'mangle', hook: 'POSTROUTING', passing },
];

function mappingProbes(filter: Filter, uplink: Gate, { deviceTo }: Paths) {
  const out = uplink.device;
  const outside = outsideOf(filter);
  const vms = vmsOf(filter);
  const senders = filter.networks.map((network): Sender => ({ from: senderIn(network, vms) }));
  const own = filter.ownSource;

  /** What was sent to it from inside, where it leaves to the VM. */
  const hairpin = ({ eip, vmIp }: Eip, sender: Sender): PartProbe => {
    const vm = ipv4(vmIp);
    const by = deviceTo(vm);
    const passing = { ...TCP, ...sender, to: vm, askedFor: ipv4(eip), ...(by !== undefined && { out: by }) };
    return { part: 'hairpin', table: 'nat', hook: 'POSTROUTING', passing };
  };

  /** What is sent to it, and what answers. */
  const inward = (mapping: Eip, asked: Pick<Passing, 'protocol' | 'port'>): PartProbe[] => {
    const [to, vm] = [ipv4(mapping.eip), ipv4(mapping.vmIp)];
    const by = deviceTo(vm);
    const sent = { ...asked, from: outside, to };
    const through =
      by === undefined
        ? []
        : [
            ...throughOf({ ...sent, to: vm, askedFor: to, in: out, out: by }),
            ...throughOf({ ...TCP, state: 'ESTABLISHED', from: vm, to: outside, askedFor: outside, in: by, out }),
          ];
    return [
      { part: 'arrives', table: 'nat', hook: 'PREROUTING', passing: { ...sent, in: out } },
      { part: 'own', table: 'nat', hook: 'OUTPUT', passing: { ...sent, local: true } },
      { part: 'guarded', table: 'filter', hook: 'INPUT', passing: { ...sent, in: out } },
      ...through,
      ...senders.slice(0, 1).map((sender) => hairpin(mapping, sender)),
    ];
  };

  /** What its VM sends, where it is the VM's own. */
  const outward = (mapping: Eip): PartProbe[] => {
    if (own.get(mapping.vmIp) !== mapping.eip) return [];
    const from = ipv4(mapping.vmIp);
    const by = deviceTo(from);
    const passing = { ...TCP, from, to: outside, out };
    return [
      { part: 'leaves', table: 'nat', hook: 'POSTROUTING', passing },
      ...(by === undefined ? [] : throughOf({ ...passing, in: by })),
      hairpin(mapping, { from }),
    ];
  };

  return { senders, hairpin, inward, outward };
}

/** What somebody there sends who has no EIP, by each gate, and what answers. */
function sourceProbes(filter: Filter, { deviceTo }: Paths): (rule: SourceRule) => PartProbe[] {
  const gates = [filter.uplink, ...filter.others].flatMap((gate) => gate?.device ?? []);
  const outside = outsideOf(filter);
  return (rule) => {
    const from = senderOf(rule, filter);
    if (from === undefined) return [];
    const by = deviceTo(from);
    return gates.flatMap((out): PartProbe[] => {
      const passing = { ...TCP, from, to: outside, out };
      const answer: Passing = { ...TCP, state: 'ESTABLISHED', isTranslated: true, from: outside, to: from, in: out };
      const isInside = by !== undefined && !gates.includes(by);
      return [
        { part: 'leaves', table: 'nat', hook: 'POSTROUTING', passing },
        ...(isInside ? [...throughOf({ ...passing, in: by }), ...throughOf({ ...answer, out: by })] : []),
      ];
    });
  };
}

/** Any: an EIP has all ports. */
const TCP = { protocol: 'tcp', port: 1 } as const;

/** Each may have a rule of its own; in a long range none has. */
const portsAsked = ({ port, endPort }: Pick<Forward, 'port' | 'endPort'>): number[] =>
  endPort - port < MOST_SINGLE_PORTS
    ? Array.from({ length: endPort - port + 1 }, (_, offset) => port + offset)
    : [port, endPort];

const vmsOf = ({ eips, forwards }: Filter): Set<number> =>
  new Set([...eips, ...forwards].map(({ vmIp }) => ipv4(vmIp)));

/** An address that no network of the file, nor a mapping, has. */
function outsideOf({ networks, eips, forwards }: Filter): number {
  const taken = new Set([...eips, ...forwards].map(({ eip }) => ipv4(eip)));
  let address = ipv4('198.51.100.1');
  for (;;) {
    const network = networks.find((each) => contains(each, address));
    if (network !== undefined) address = lastOf(network) + 1;
    else if (taken.has(address)) address++;
    else return address;
  }
}

/** Without an EIP of its own. */
function senderIn({ base, prefix }: Network, vms: ReadonlySet<number>): number {
  const last = lastOf({ base, prefix });
  for (let address = base; address < last; address++) if (!vms.has(address)) return address;
  return last;
}

/** An address that this rule decides of; undefined: others decide of all of them. */
function senderOf({ network }: SourceRule, { sources, ownSource }: Filter): number | undefined {
  const own = new Set([...ownSource.keys()].map(ipv4));
  const narrower = sources.filter((each) => each.network.prefix > network.prefix).map((each) => each.network);
  const last = lastOf(network);
  for (let address = network.base; address <= last; ) {
    const taken = narrower.find((each) => contains(each, address));
    if (taken !== undefined) address = lastOf(taken) + 1;
    else if (own.has(address)) address++;
    else return address;
  }
  return undefined;
}
