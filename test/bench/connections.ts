// New connections through the last of many EIPs: ours, one EIP alone, a native nft map, and the flat list that Neutron's and
// CloudStack's agents and kylin-vr 0.1 write, each on a router of its own, in turn.

import { ADDRESSES } from '../lab/lab.ts';
import { median, ratios, rounds, spreadOf } from './measure.ts';
import {
  type Bench,
  configOf,
  createBench,
  kylinVr,
  LAST_OF,
  type Pair,
  pairsOf,
  type Stopwatch,
  stopwatch,
} from './router.ts';
import { type Outcome, type Sizes, shown, spreadText } from './table.ts';

const BACKENDS = ['nft', 'legacy'] as const;
const PORT = 7;

/** Each flow from a port of its own, so that each is new. */
const FLOWS = { udp: 10_000, tcp: 3_000 } as const;
type Protocol = keyof typeof FLOWS;

/** Perl is everywhere, and fast enough that the router's rules show. */
const SENDER = `use Socket; my ($protocol, $to, $count) = @ARGV; my $peer = sockaddr_in(${PORT}, inet_aton($to));
for my $n (0 .. $count - 1) {
  socket(my $s, PF_INET, $protocol eq 'tcp' ? SOCK_STREAM : SOCK_DGRAM, 0) or die;
  setsockopt($s, SOL_SOCKET, SO_REUSEADDR, 1); setsockopt($s, SOL_SOCKET, SO_LINGER, pack('ii', 1, 0));
  bind($s, sockaddr_in(10000 + $n, INADDR_ANY)) or die "bind: $!";
  if ($protocol eq 'tcp') { connect($s, $peer) or die "connect: $!" } else { send($s, 'x', 0, $peer) or die "send: $!" }
}`;

/** Datagrams are left in its buffer. */
const RECEIVER = `use Socket; socket(my $u, PF_INET, SOCK_DGRAM, 0); bind($u, sockaddr_in(${PORT}, INADDR_ANY)) or die;
socket(my $t, PF_INET, SOCK_STREAM, 0); bind($t, sockaddr_in(${PORT}, INADDR_ANY)) or die; listen($t, 4096);
$| = 1; print "ready\\n"; while (accept(my $c, $t)) { close $c }`;

type Contestant = { bench: Bench; send: (protocol: Protocol, flows: number) => Promise<number> };

async function contestant(
  iptables: 'nft' | 'legacy',
  eips: number,
  rules: (pairs: Pair[]) => Rules,
): Promise<Contestant> {
  const bench = await createBench({ iptables });
  const { lab, router, time } = bench;
  try {
    const pairs = pairsOf(eips);
    const { ours, script } = rules(pairs);
    await lab.configure(configOf(ours));
    await time(kylinVr('reload'));
    // By standard input: an argument holds 128 KiB, which 4,000 EIPs need more than.
    if (script !== undefined) await router.run(['sh', '-e'], { check: true, input: script });
    await lab.host('out').run(['ip', 'route', 'add', '198.18.0.0/15', 'via', ADDRESSES.router], { check: true });
    const receiver = lab.host('v').spawn(['perl', '-e', RECEIVER]);
    await new Promise((resolve, reject) => {
      receiver.stdout?.once('data', resolve);
      receiver.once('exit', () => reject(new Error('the receiver ended')));
    });
    return { bench, send: sender(bench, stopwatch(lab.host('out')), LAST_OF(eips)) };
  } catch (error) {
    await bench.close();
    throw error;
  }
}

/** Gives new connections a second. */
function sender({ router }: Bench, time: Stopwatch, to: string): Contestant['send'] {
  return async (protocol, flows) => {
    await router.run(['conntrack', '-F']);
    const { ms } = await time(['perl', '-e', SENDER, protocol, to, String(flows)]);
    return (flows / ms) * 1000;
  };
}

/** The EIPs of kylin-vr, or none and what is there instead. */
type Rules = { ours: Pair[]; script?: string };

const addresses = (pairs: readonly Pair[]) =>
  `ip -batch - <<'END'\n${pairs.map(({ eip }) => `address add ${eip}/32 dev eth0\n`).join('')}END\n`;

const flat = (pairs: readonly Pair[]): Rules => ({
  ours: [],
  script: `${addresses(pairs)}iptables-restore --noflush <<'END'\n*nat\n${pairs
    .map(
      ({ eip, vmIp }) =>
        `-A PREROUTING -d ${eip}/32 -j DNAT --to-destination ${vmIp}\n-A POSTROUTING -s ${vmIp}/32 -o eth0 -j SNAT --to-source ${eip}\n`,
    )
    .join('')}COMMIT\nEND\n`,
});

const map = (pairs: readonly Pair[]): Rules => ({
  ours: [],
  script: `${addresses(pairs)}nft -f - <<'END'
table ip bench {
  map in { type ipv4_addr : ipv4_addr; elements = { ${pairs.map(({ eip, vmIp }) => `${eip} : ${vmIp}`).join(', ')} } }
  map out { type ipv4_addr : ipv4_addr; elements = { ${pairs.map(({ eip, vmIp }) => `${vmIp} : ${eip}`).join(', ')} } }
  chain prerouting { type nat hook prerouting priority -100; dnat to ip daddr map @in; }
  chain postrouting { type nat hook postrouting priority 100; oifname "eth0" snat to ip saddr map @out; }
}
END
`,
});

const whole = (pairs: Pair[]): Rules => ({ ours: pairs });

const NAMES = ['one nft', 'ours nft', 'flat nft', 'one legacy', 'ours legacy', 'flat legacy', 'map'] as const;
type Name = (typeof NAMES)[number];

async function rates(
  eips: number,
  many: number,
  flowDivisor: number,
): Promise<Record<Protocol, Record<Name, number[]>>> {
  const made = new Map<Name, Contestant>();
  try {
    for (const name of NAMES) {
      const [kind, backend = 'nft'] = name.split(' ') as [
        'one' | 'ours' | 'flat' | 'map',
        'nft' | 'legacy' | undefined,
      ];
      const rules = { one: whole, ours: whole, flat, map }[kind];
      made.set(name, await contestant(backend, kind === 'one' ? 1 : eips, rules));
    }
    const of = (protocol: Protocol) => {
      const flows = Math.ceil(FLOWS[protocol] / flowDivisor);
      const turns = NAMES.map((name) => [
        name,
        () => made.get(name)?.send(protocol, flows) ?? Promise.resolve(Number.NaN),
      ]);
      return rounds(many, Object.fromEntries(turns) as Record<Name, () => Promise<number>>);
    };
    return { udp: await of('udp'), tcp: await of('tcp') };
  } finally {
    for (const { bench } of made.values()) await bench.close();
  }
}

const outcome = (
  work: string,
  taken: Record<Name, number[]>,
  name: Name,
  other: Name,
  goal: { least?: number; below?: number },
): Outcome => {
  const share = spreadOf(ratios(taken[name], taken[other]).map((ratio) => ratio * 100));
  const { least, below } = goal;
  return {
    row: 'connections',
    work,
    goal: least !== undefined ? `≥ ${least} %` : `fails (< ${below} %)`,
    measured: `${shown(share.median)} %`,
    spread: spreadText(share),
    met: least !== undefined ? share.median >= least : share.median < (below ?? 0),
    data: {
      share,
      perSecond: median(taken[name]),
      otherPerSecond: median(taken[other]),
      [name]: taken[name],
      [other]: taken[other],
    },
  };
};

export async function measureConnections({ rounds: many, divisor }: Sizes): Promise<Outcome[]> {
  const eips = Math.ceil(4000 / divisor);
  const taken = await rates(eips, many, divisor);
  return (['udp', 'tcp'] as const).flatMap((protocol) =>
    BACKENDS.flatMap((backend) => {
      const work = `${protocol.toUpperCase()} connections, last of ${eips} EIPs, ${backend}`;
      return [
        outcome(`${work}, of one EIP's rate`, taken[protocol], `ours ${backend}`, `one ${backend}`, { least: 80 }),
        outcome(`${work}, of an nft map's rate`, taken[protocol], `ours ${backend}`, 'map', { least: 85 }),
        outcome(`${work}, flat list, of one EIP's rate`, taken[protocol], `flat ${backend}`, `one ${backend}`, {
          below: 80,
        }),
      ];
    }),
  );
}

/** The share of one EIP's rate that is left of it as EIPs get many. */
export async function measureCurve({ rounds: many, divisor }: Sizes): Promise<Outcome[]> {
  const points: ({ eips: number } & Record<string, number>)[] = [];
  for (const count of [100, 1000, 4000]) {
    const eips = Math.ceil(count / divisor);
    const { udp } = await rates(eips, Math.max(2, Math.round(many / 3)), divisor);
    const share = (name: Name, other: Name) => 100 * median(ratios(udp[name], udp[other]));
    points.push({
      eips,
      oursNft: share('ours nft', 'one nft'),
      oursLegacy: share('ours legacy', 'one legacy'),
      flatNft: share('flat nft', 'one nft'),
      flatLegacy: share('flat legacy', 'one legacy'),
      map: share('map', 'one nft'),
    });
  }
  const shares = points.map(({ oursNft = 0 }) => oursNft);
  return [
    {
      row: 'connection-curve',
      work: `UDP connections, last of ${points.map(({ eips }) => eips).join(', ')} EIPs, nft`,
      goal: '',
      measured: shares.map((share) => `${shown(share)} %`).join(', '),
      spread: '',
      data: { points },
    },
  ];
}
