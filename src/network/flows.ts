// Entries of conntrack held against what the file says now: NAT rules are asked for the first packet of a flow only, and from
// then on the entry decides (OSSN-0020). Which entries today's file would translate otherwise. Pure.
//
// The answer comes from the configuration, not from rules. An entry does not say by which device it leaves: that is where the
// kernel would send it now. What somebody else may have decided (a NAT rule of theirs, a rule of policy routing) is left alone.

import { contains, formatNetwork, ipv4, type Network, parseCidr, parseIpv4, withinAny } from '../base/ipv4.ts';
import type { Gate, SourceRule, Translation } from './filter.ts';
import type { Flow, FlowSelector } from './flow.ts';
import type { NetworkState } from './state.ts';
import { sourceRuleFor } from './translation.ts';

/** A route of the main table; without a device where it leads to several, or nowhere. */
export type Way = { network: Network; device?: string; metric: number };

/** What an entry is held against. Survives JSON. */
export type FlowModel = Omit<Translation, 'ownSource'> & {
  /** Of the router, all of them. */
  addresses: readonly { device: string; address: string }[];
  ways: readonly Way[];
  /** Of others and ours; the engine reads them. */
  natRules: NatRules;
  former: Former;
};

/** The rules of NAT by their chains, as the packet filter prints them. */
export type NatRules = Readonly<Record<string, readonly string[]>>;

/** The first packet of a flow, as NAT would see it. */
export type FirstPacket = {
  protocol: string;
  source: number;
  destination: number;
  sourcePort?: number | undefined;
  destinationPort?: number | undefined;
  /** Those that it may have come in by, and the one that it leaves by, where that is known. */
  in?: readonly string[] | undefined;
  out?: string | undefined;
};

export type NatHook = 'PREROUTING' | 'OUTPUT' | 'POSTROUTING';

/** What rules of others do to flows. */
export type ForeignNat = {
  /** Whether there are any. */
  isThere: boolean;
  /**
   * Whether one of them may decide over such a flow; `oursDecides`: our rules do where they are asked, so that those behind them are
   * not. Where that cannot be told, it may.
   */
  mayDecide(hook: NatHook, packet: FirstPacket, oursDecides: boolean): boolean;
};

/** What was ours, or inside, since the entries were last held against the file: theirs may be under way still. Survives JSON. */
export type Former = { addresses: readonly string[]; networks: readonly Network[] };

export type StaleFlow = {
  flow: Flow;
  /** In words, for the step: the address that was asked for, or what it comes from. */
  of: string;
  /** By the direction that is translated otherwise. */
  wrong: 'destination' | 'source';
  /** Fits this entry, and others only where today's file would translate those otherwise, too. */
  alike: FlowSelector;
};

/**
 * `spared`: an established TCP connection of the router itself: it may be the operator's, who must say `confirm`. `displaced`: right by
 * itself, but made by what was under way of one that was cut.
 */
export type Judgement = StaleFlow & { spared: boolean; displaced?: true };

/** Gives undefined for an entry that is as the file says, or is not for us to judge. */
export function judgeOf(
  model: FlowModel,
  foreignNat: (rules: NatRules, isLocal: (address: number) => boolean) => ForeignNat,
): (flow: Flow) => Judgement | undefined {
  const { uplink, others, eips, inside, sources, former } = model;
  const local = new Set(model.addresses.map(({ address }) => address));
  const localValues = new Set([...local].map((address) => parseIpv4(address)));
  const wayTo = wayFinder(model.ways);
  const foreign = foreignNat(model.natRules, (address) => localValues.has(address));
  const mayDecide = foreign.mayDecide;
  const ledTo = destinationFinder(model);
  const ownSource = new Map<string, string>();
  for (const { eip, vmIp } of eips) if (!ownSource.has(vmIp)) ownSource.set(vmIp, eip);
  const outer = new Set(outerAddresses(model));
  const ours = new Set([...outer, ...former.addresses]);
  const gone = new Set(former.addresses.filter((address) => !outer.has(address) && !local.has(address)));
  const isInside = withinAny(inside);
  const wasInside = withinAny([...inside, ...former.networks, ...sources.map(({ network }) => network)]);
  const vms = new Set([...eips, ...model.forwards].map(({ vmIp }) => vmIp));
  const isOther = new Set(others.map(({ device }) => device));
  // Those that MASQUERADE may take: an EIP is not one of them.
  const masquerades = new Map(
    [uplink, ...others].flatMap((gate): [string, string[]][] =>
      gate === undefined
        ? []
        : [[gate.device, [gate.ipaddr, ...addressesOf(model, gate.device).filter((each) => !outer.has(each))]]],
    ),
  );
  const addressesOn = ({ device }: Gate) => masquerades.get(device) ?? [];
  const gates = [uplink, ...others].flatMap((gate) => gate?.device ?? []);
  return (flow) => {
    if (flow.zoned) return undefined;
    const [source, destination] = [parseIpv4(flow.source), parseIpv4(flow.destination)];
    if (source === undefined || destination === undefined) return undefined;
    const wanted = ledTo(flow);
    const first: FirstPacket = {
      protocol: flow.protocol,
      source,
      destination,
      sourcePort: flow.sourcePort,
      destinationPort: flow.destinationPort,
    };
    const fromRouter = local.has(flow.source);
    const hook = fromRouter ? 'OUTPUT' : 'PREROUTING';
    if (!fromRouter) first.in = comingBy(wayTo(source));

    if (wanted !== undefined) {
      const isLed =
        flow.replySource === wanted.to &&
        (flow.replySourcePort === undefined || wanted.port === undefined || flow.replySourcePort === wanted.port);
      if (!isLed) return mayDecide(hook, first, true) ? undefined : destinationWrong(flow);
    } else if (isRedirected(flow)) {
      const byUs = ours.has(flow.destination) && (vms.has(flow.replySource) || wasInside(ipv4(flow.replySource)));
      if (byUs && !mayDecide(hook, first, false)) return destinationWrong(flow);
      // Somebody else's: so is its source.
      return undefined;
    }

    const isTranslated = flow.replyDestination !== flow.source;
    const wasForUs = fromRouter || wasInside(source);
    // With the router itself, by an address that has gone: there is nobody at that end.
    if (!isTranslated && (gone.has(flow.source) || (gone.has(flow.destination) && !wasForUs)))
      return { ...sourceWrong(flow, source), of: gone.has(flow.source) ? flow.source : flow.destination };
    const to = ipv4(flow.replySource);
    const last: FirstPacket = { ...first, destination: to, destinationPort: flow.replySourcePort };
    delete last.in;
    // By an address that has gone: wherever it leads.
    if (isTranslated && gone.has(flow.replyDestination) && wasForUs)
      return mayDecide('POSTROUTING', last, false) ? undefined : sourceWrong(flow, source);
    if (staysHere(to)) return undefined;
    const out = local.has(flow.replySource) ? 'lo' : wayTo(to);
    if (out === undefined) return undefined;
    const want = sourceOf(flow, source, out, wanted !== undefined);
    if (want.length === 0 || want.includes(flow.replyDestination)) return undefined;
    // What it has become is nobody's that we know of; and where nothing is said of its source, that has to be one that was ours to translate.
    if (isTranslated && !ours.has(flow.replyDestination) && !local.has(flow.replyDestination)) return undefined;
    const isKept = want.length === 1 && want[0] === flow.source;
    if (isKept && !(ours.has(flow.replyDestination) && wasForUs)) return undefined;
    return mayDecide('POSTROUTING', { ...last, out }, !isKept) ? undefined : sourceWrong(flow, source);
  };

  /** What is outside may come in by any uplink, whichever it is reached by. */
  function comingBy(device: string | undefined): readonly string[] | undefined {
    if (device === undefined) return undefined;
    return device === uplink?.device || isOther.has(device) ? gates : [device];
  }

  /** The addresses that may be its source when it leaves. */
  function sourceOf(flow: Flow, source: number, out: string, translated: boolean): readonly string[] {
    const bySources = (gate: Gate, byUplink: readonly string[]): readonly string[] | undefined => {
      const rule = sourceRuleFor(sources, source);
      if (rule === undefined || rule.to === 'none') return undefined;
      if (rule.to === 'uplink') return byUplink;
      return rule.to === 'masquerade' ? addressesOn(gate) : [rule.to.address];
    };
    const own = ownSource.get(flow.source);
    if (out === uplink?.device && own !== undefined) return [own];
    const other = isOther.has(out) ? others.find(({ device }) => device === out) : undefined;
    const bySource =
      out === uplink?.device ? bySources(uplink, [uplink.ipaddr]) : other && bySources(other, addressesOn(other));
    if (bySource !== undefined) return bySource;
    // What comes in for the router itself leaves by nothing: its source stays.
    if (!translated || (out === 'lo' && !local.has(flow.source))) return [flow.source];
    if (own !== undefined) return [own];
    return uplink !== undefined && (isInside(source) || local.has(flow.source)) ? [uplink.ipaddr] : [flow.source];
  }

  function destinationWrong(flow: Flow): Judgement {
    const { destination, replySource, destinationPort, replySourcePort, protocol, protocolNumber } = flow;
    const isAlways =
      !eips.some(({ eip, vmIp }) => eip === destination && vmIp === replySource) &&
      !model.forwards.some(({ eip, vmIp }) => eip === destination && vmIp === replySource) &&
      destination !== replySource;
    const hasPorts = destinationPort !== undefined && protocol !== 'unknown';
    const replyPort = replySourcePort ?? destinationPort;
    return {
      flow,
      of: destination,
      wrong: 'destination',
      spared: isSpared(flow),
      // Entries that are theirs may differ from ours in anything.
      alike: foreign.isThere
        ? flow
        : {
            ...{ destination, replySource },
            ...(!isAlways && { protocol, protocolNumber }),
            ...(!isAlways && hasPorts && { destinationPort, replySourcePort: replyPort }),
          },
    };
  }

  function sourceWrong(flow: Flow, source: number): Judgement {
    const { replyDestination, destination } = flow;
    const isTranslated = replyDestination !== flow.source;
    const network = [...inside, ...sources.map((rule) => rule.network), ...former.networks].find((each) =>
      contains(each, source),
    );
    return {
      flow,
      of: isTranslated ? replyDestination : network === undefined ? flow.source : formatNetwork(network),
      wrong: 'source',
      spared: isSpared(flow),
      alike: foreign.isThere
        ? flow
        : { source: flow.source, destination, replySource: flow.replySource, replyDestination },
    };
  }

  /** The router is at its end, and it was answered. */
  function isSpared(flow: Flow): boolean {
    if (flow.protocol !== 'tcp' || flow.unreplied) return false;
    const isOwn = local.has(flow.source) || (local.has(flow.replySource) && !isRedirected(flow));
    return isOwn && (flow.state === 'ESTABLISHED' || flow.state === 'CLOSE_WAIT' || flow.state === 'FIN_WAIT');
  }
}

const addressesOf = ({ addresses }: Pick<FlowModel, 'addresses'>, device: string): string[] =>
  addresses.filter((each) => each.device === device).map(({ address }) => address);

/** Multicast, the broadcast of every segment, and loopback: the main table, with its default route, does not say where they go. */
const staysHere = (address: number): boolean => address >= FIRST_MULTICAST || address >>> 24 === 127;

const FIRST_MULTICAST = 0xe0000000;

export const protocolName = ({ protocol, protocolNumber }: Flow): string =>
  protocol === 'unknown' ? `${protocolNumber}` : protocol;

/** Whether the mapping by which a helper (FTP, SIP) came to expect this flow is in force still. */
export function hasMapping(model: FlowModel, flow: Flow): boolean {
  const vm = isRedirected(flow) ? flow.replySource : flow.source;
  const outer = isRedirected(flow) ? flow.destination : flow.replyDestination;
  if ([...model.eips, ...model.forwards].some(({ eip, vmIp }) => eip === outer && vmIp === vm)) return true;
  if (model.eips.some(({ vmIp }) => vmIp === vm)) return false;
  const rule = sourceRuleFor(model.sources, ipv4(vm));
  return rule !== undefined && sourcesBy(rule, model).includes(outer);
}

/** An EIP is a source of its VM only. */
function sourcesBy({ to }: SourceRule, model: FlowModel): string[] {
  if (typeof to === 'object') return [to.address];
  if (to === 'none') return [];
  const gates = [model.uplink, ...model.others].filter((gate) => gate !== undefined);
  const mapped = new Set(outerAddresses(model));
  const others = model.addresses.filter(
    ({ device, address }) => !mapped.has(address) && gates.some((gate) => gate.device === device),
  );
  return [...gates.map(({ ipaddr }) => ipaddr), ...others.map(({ address }) => address)];
}

/** What is ours on uplinks, with or without NAT now. */
export function outerAddresses({
  uplink,
  others,
  eips,
  forwards,
  sources,
}: Pick<FlowModel, 'uplink' | 'others' | 'eips' | 'forwards' | 'sources'>): string[] {
  return [
    ...[uplink, ...others].flatMap((gate) => (gate === undefined ? [] : [gate.ipaddr])),
    ...[...eips, ...forwards].map(({ eip }) => eip),
    ...sources.flatMap(({ to }) => (typeof to === 'object' ? [to.address] : [])),
  ];
}

const isRedirected = (flow: Flow): boolean =>
  flow.replySource !== flow.destination || flow.replySourcePort !== flow.destinationPort;

/** Where our rules lead the first packet of such a flow. */
function destinationFinder({ eips, forwards }: Pick<FlowModel, 'eips' | 'forwards'>) {
  const vmOf = new Map(eips.map(({ eip, vmIp }) => [eip, vmIp]));
  const forwardsOf = new Map<string, FlowModel['forwards'][number][]>();
  for (const forward of forwards) {
    const key = `${forward.protocol} ${forward.eip}`;
    const list = forwardsOf.get(key);
    if (list === undefined) forwardsOf.set(key, [forward]);
    else list.push(forward);
  }
  for (const list of forwardsOf.values()) list.sort((a, b) => a.port - b.port);
  return ({ destination, destinationPort: port, protocol }: Flow): { to: string; port?: number } | undefined => {
    const vm = vmOf.get(destination);
    if (vm !== undefined) return { to: vm, ...(port !== undefined && { port }) };
    if (port === undefined) return undefined;
    const list = forwardsOf.get(`${protocol} ${destination}`);
    const forward = list?.findLast((each) => each.port <= port);
    if (forward === undefined || forward.endPort < port) return undefined;
    return { to: forward.vmIp, port: forward.vmPort + port - forward.port };
  };
}

/** What leads where once the network is so. */
export function waysOf({ addresses, routes }: Pick<NetworkState, 'addresses' | 'routes'>): Way[] {
  // Nothing is behind an EIP.
  const networks = addresses.filter(({ spec }) => !spec.endsWith('/32'));
  return [...networks.map(({ device, spec }) => ({ device, dest: spec, metric: 0 })), ...routes].flatMap(
    ({ device, dest, metric }): Way[] => {
      const network = parseCidr(dest === 'default' ? '0.0.0.0/0' : dest);
      return network === undefined ? [] : [{ network, device, metric }];
    },
  );
}

/** The device by which the main table leads somewhere: the longest prefix, among equals the lowest metric. */
function wayFinder(ways: readonly Way[]): (address: number) => string | undefined {
  const byPrefix = new Map<number, Map<number, Way>>();
  for (const way of ways) {
    const { base, prefix } = way.network;
    const level = byPrefix.get(prefix) ?? new Map<number, Way>();
    byPrefix.set(prefix, level);
    const rival = level.get(base);
    if (rival === undefined || way.metric < rival.metric) level.set(base, way);
  }
  const levels = [...byPrefix].sort(([a], [b]) => b - a);
  return (address) => {
    for (const [prefix, level] of levels) {
      const way = level.get(prefix === 0 ? 0 : (address & (0xffffffff << (32 - prefix))) >>> 0);
      if (way !== undefined) return way.device;
    }
    return undefined;
  };
}
