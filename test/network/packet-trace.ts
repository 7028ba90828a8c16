// What happens to the first packet of a flow: walks it through the hooks and chains of a network state as the kernel would.
// Knows the matches and targets that we use, and throws on any other.

import { contains, formatIpv4, ipv4, networkOf, parseCidr } from '../../src/base/ipv4.ts';
import type { Chain, Jump, NetworkState } from '../../src/network/state.ts';

export type Packet = {
  from: string;
  to: string;
  protocol: 'tcp' | 'udp' | 'icmp' | 'sctp' | 'gre';
  /** Destination port; none for ICMP and GRE. */
  port?: number;
  /** The NIC that it comes in by; undefined: the router itself sends it. */
  in?: string;
  /** What conntrack says of it; NEW where nothing is said. NAT leaves other packets alone. */
  state?: 'NEW' | 'INVALID' | 'ESTABLISHED';
  /** A frame on a bridge, which br_netfilter shows to the packet filter: it goes by the device that it came in by. */
  bridged?: true;
  /** The direction in which it has an IPsec policy. */
  policy?: 'in' | 'out';
};

/** Foreign rules in built-in chains of filter, and the policy of FORWARD. */
export type Surroundings = { INPUT?: string[]; FORWARD?: string[]; forwardPolicy?: 'ACCEPT' | 'DROP' };

/** What becomes of a packet: as NAT would have it, also where it is dropped on the way. */
export type Course = {
  to: string;
  port?: number;
  from: string;
  /** The device that it leaves by; `lo`: it is for the router itself; undefined: no route. */
  out: string | undefined;
  /** The hook in which it ends. */
  dropped?: 'INPUT' | 'FORWARD' | 'POSTROUTING';
};

/** In words: `eth1: 192.0.2.5:80 sees 203.0.113.200`, `the router: …`, `dropped in INPUT`, `no route`. */
export function trace(state: NetworkState, packet: Packet, around: Surroundings = {}): string {
  const { to, port, from, out, dropped } = courseOf(state, packet, around);
  if (out === undefined) return 'no route';
  if (dropped !== undefined) return `dropped in ${dropped}`;
  return `${out === 'lo' ? 'the router' : out}: ${to}${port === undefined ? '' : `:${port}`} sees ${from}`;
}

export function courseOf(state: NetworkState, packet: Packet, around: Surroundings = {}): Course {
  const addresses = new Set(state.addresses.map(({ spec }) => spec.split('/')[0] ?? ''));
  const walk = walker(state, around, (address) => addresses.has(address));
  const isNew = (packet.state ?? 'NEW') === 'NEW';
  let now: Walking = { state: 'NEW', ...packet, destinationChanged: false, askedFor: packet.to };
  const course = (dropped: Course['dropped'] | false): Course => ({
    to: now.to,
    ...(now.port !== undefined && { port: now.port }),
    from: now.from,
    out: now.out,
    ...(dropped && { dropped }),
  });

  if (isNew) now = walk(now, `nat ${packet.in === undefined ? 'OUTPUT' : 'PREROUTING'}`).packet;
  if (addresses.has(now.to)) {
    now.out = 'lo';
    if (now.in !== undefined) return course(walk(now, 'filter INPUT').verdict === 'DROP' && 'INPUT');
    if (isNew) now = walk(now, 'nat POSTROUTING').packet;
    return course(false);
  }
  const out = packet.bridged ? packet.in : routeTo(state, now.to);
  if (out === undefined) return course(false);
  now.out = out;
  const forwarding = now.in === undefined ? 'ACCEPT' : (walk(now, 'filter FORWARD').verdict ?? around.forwardPolicy);
  const guarded = now.in === undefined ? undefined : walk(now, 'mangle FORWARD').verdict;
  const leaving = walk(now, 'mangle POSTROUTING').verdict;
  if (isNew) now = walk(now, 'nat POSTROUTING').packet;
  return course(guarded === 'DROP' || forwarding === 'DROP' ? 'FORWARD' : leaving === 'DROP' && 'POSTROUTING');
}

/** Where these chains lead what comes to `chain`: `192.0.2.5:80`, or undefined where no rule matches. */
export function destinationOf(chains: readonly Chain[], chain: string): (packet: Packet) => string | undefined {
  const walk = walker({ chains, jumps: [] }, {}, () => false);
  return (packet) => {
    const sent = { state: 'NEW', ...packet, destinationChanged: false, askedFor: packet.to } as const;
    const { packet: after } = walk(sent, `nat ${chain}`);
    return after.destinationChanged ? `${after.to}:${after.port}` : undefined;
  };
}

/** `out`: once it is routed. `askedFor`: its destination before it was translated. */
type Walking = Packet & { out?: string; destinationChanged: boolean; askedFor: string };
type Verdict = 'ACCEPT' | 'DROP' | 'RETURN' | undefined;

/** The device of the longest prefix, among equals that of the lowest metric. */
function routeTo(state: Pick<NetworkState, 'addresses' | 'routes'>, to: string): string | undefined {
  const connected = state.addresses.map(({ device, spec }) => ({ dest: spec, device, metric: 0 }));
  const routes = [...connected, ...state.routes].map(({ dest, device, metric }) => {
    const [address = '', prefix = '32'] = (dest === 'default' ? '0.0.0.0/0' : dest).split('/');
    return { network: networkOf(ipv4(address), Number(prefix)), device, metric };
  });
  return routes
    .filter(({ network }) => contains(network, ipv4(to)))
    .sort((a, b) => b.network.prefix - a.network.prefix || a.metric - b.metric)[0]?.device;
}

function walker(
  { chains, jumps }: { chains: readonly Chain[]; jumps: readonly Jump[] },
  around: Surroundings,
  isLocal: (address: string) => boolean,
) {
  const rulesOf = new Map(chains.map(({ table, name, rules }) => [`${table} ${name}`, rules.map(parseRule)]));
  for (const hook of ['INPUT', 'FORWARD'] as const) rulesOf.set(`filter ${hook}`, (around[hook] ?? []).map(parseRule));
  for (const { table, hook, rule, place } of jumps) {
    const there = rulesOf.get(`${table} ${hook}`) ?? [];
    const parsed = parseRule(rule);
    rulesOf.set(`${table} ${hook}`, place === 'last' ? [...there, parsed] : [parsed, ...there]);
  }

  return function walk(packet: Walking, chain: string): { packet: Walking; verdict: Verdict } {
    const [table] = chain.split(' ', 1);
    for (const rule of rulesOf.get(chain) ?? []) {
      if (!rule.matches.every((matches) => matches(packet, isLocal))) continue;
      const { target } = rule;
      if (rulesOf.has(`${table} ${target}`)) {
        const below = walk(packet, `${table} ${target}`);
        if (below.verdict !== undefined) return below;
      } else if (target === 'ACCEPT' || target === 'DROP') return { packet, verdict: target };
      else if (target === 'RETURN') return { packet, verdict: undefined };
      else if (target === 'DNAT')
        return { packet: { ...translated(packet, rule.to), destinationChanged: true }, verdict: 'ACCEPT' };
      else if (target === 'SNAT') return { packet: { ...packet, from: rule.to }, verdict: 'ACCEPT' };
      else if (target === 'MASQUERADE')
        return { packet: { ...packet, from: `address of ${packet.out}` }, verdict: 'ACCEPT' };
      else throw new Error(`${chain}: no chain and no known target: ${target}`);
    }
    return { packet, verdict: undefined };
  };
}

type Match = (packet: Walking, isLocal: (address: string) => boolean) => boolean;
type Rule = { matches: Match[]; target: string; to: string };

function parseRule(text: string): Rule {
  const rule: Rule = { matches: [], target: '', to: '' };
  const words = text.split(' ');
  for (let word = words.shift(); word !== undefined; word = words.shift()) {
    const negated = word === '!';
    const option = negated ? words.shift() : word;
    const value = words.shift();
    if (option === '--physdev-is-bridged') {
      rule.matches.push(({ bridged }) => bridged === true);
      words.unshift(value ?? '');
      continue;
    }
    if (value === undefined) throw new Error(`a rule that ends too early: ${text}`);
    if (option === '-j') rule.target = value;
    else if (option === '--to-source' || option === '--to-destination') rule.to = value;
    else if (option !== '-m') {
      const matches = matchOf(option ?? '', value, text);
      rule.matches.push(negated ? (packet, isLocal) => !matches(packet, isLocal) : matches);
    }
  }
  return rule;
}

function matchOf(option: string, value: string, text: string): Match {
  switch (option) {
    case '-s':
    case '-d': {
      const network = parseCidr(value);
      if (network === undefined) throw new Error(`not as iptables-save prints it: ${text}`);
      return ({ from, to }) => contains(network, ipv4(option === '-s' ? from : to));
    }
    case '--ctorigdst': {
      const network = parseCidr(value.includes('/') ? value : `${value}/32`);
      if (network === undefined) throw new Error(`not as iptables-save prints it: ${text}`);
      return ({ askedFor }) => contains(network, ipv4(askedFor));
    }
    case '--dir':
      return ({ policy }) => policy === value;
    case '--pol':
      if (value === 'ipsec') return ({ policy }) => policy !== undefined;
      break;
    // The first packet of a flow, or one that goes the same way.
    case '--ctdir':
      return () => value === 'ORIGINAL';
    // A later one of a flow that was let by as it was.
    case '--ctstatus':
      if (value === 'CONFIRMED') return ({ state }) => state === 'ESTABLISHED';
      break;
    case '-i':
      return (packet) => packet.in === value;
    case '-o':
      return (packet) => packet.out === value;
    case '-p':
      return ({ protocol }) => protocol === value;
    case '--dport': {
      const [from = 0, to = from] = value.split(':').map(Number);
      return ({ port }) => port !== undefined && from <= port && port <= to;
    }
    case '--ctstate':
      return ({ state = 'NEW', destinationChanged }) =>
        value.split(',').some((wanted) => (wanted === 'DNAT' ? destinationChanged : wanted === state));
    case '--src-type':
      if (value === 'LOCAL') return ({ from }, isLocal) => isLocal(from);
  }
  throw new Error(`a match that the tracer does not know: ${option} ${value} in ${text}`);
}

/** `ADDRESS`, `ADDRESS:PORT`, or `ADDRESS:FIRST-LAST/BASE`: port BASE goes to FIRST, the next to the next. */
function translated(packet: Walking, to: string): Walking {
  const [address = '', ports] = to.split(':');
  if (formatIpv4(ipv4(address)) !== address) throw new Error(`not an address: ${to}`);
  if (ports === undefined || packet.port === undefined) return { ...packet, to: address };
  const [range = '', base] = ports.split('/');
  const [first = 0, last = first] = range.split('-').map(Number);
  const port = base === undefined ? first : first + packet.port - Number(base);
  if (port > last) throw new Error(`port ${packet.port} is past the range ${to}`);
  return { ...packet, to: address, port };
}
