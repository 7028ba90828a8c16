// A random walk over configurations. What the flows of the soak need stays as it is: the NIC of subnet b, two elastic IPs and a
// forwarded port there. All else comes and goes; the number of entries stays within bounds, so that runs can be compared.

import { ADDRESSES, GATEWAYS, NICS } from '../lab/lab.ts';

/** Numbers from 0 to 1. */
export type Random = () => number;

export type Pair = readonly [name: string, value: string];

export type Net = {
  uplink: string;
  mtu: number | undefined;
  /** Whether the NIC of subnet a is wanted. */
  a: boolean;
  /** Each as `kylin-vr eip add` and its like take it: NAME=VALUE. */
  eips: readonly Pair[];
  forwards: readonly Pair[];
  routes: readonly Pair[];
  snat: string;
};

/** What became of a configuration; `args`: kylin-vr's own command that makes it so. */
export type Move = { what: string; net: Net; args?: readonly string[] };

export const KEPT = { x: '203.0.113.52', y: '203.0.113.53', forward: '203.0.113.60' } as const;

export const FIRST: Net = {
  uplink: ADDRESSES.router,
  mtu: undefined,
  a: true,
  eips: [['203.0.113.100', ADDRESSES.v]],
  forwards: [],
  routes: [],
  snat: '',
};

const SNATS = [
  '',
  'snat_list: []\n',
  'snat_list:\n  - { source: 10.10.2.0/24, to: none }\n',
  'snat_list:\n  - { source: 10.10.2.0/25, to: 203.0.113.40 }\n  - { source: 10.10.2.128/25, to: masquerade }\n',
];
const MOST = { eips: 16, forwards: 8, routes: 6 };

export function textOf({ uplink, mtu, a, eips, forwards, routes, snat }: Net): string {
  const entry = (words: string) => `  - { ${words} }\n`;
  const list = (name: string, entries: readonly string[]) =>
    entries.length === 0 ? '' : `${name}:\n${entries.join('')}`;
  const large = mtu === undefined ? '' : `, mtu: ${mtu}`;
  return [
    'if_list:   # written by the soak\n',
    entry(`ipaddr: ${uplink}, prefix: 24, mac: '${NICS.public.mac}', gateway: ${ADDRESSES.out}${large}`),
    entry(`ipaddr: ${GATEWAYS.b}, prefix: 24, mac: '${NICS.b.mac}'`),
    a ? entry(`ipaddr: ${GATEWAYS.a}, prefix: 24, mac: '${NICS.a.mac}'`) : '',
    'eip_list:\n',
    entry(`eip: ${KEPT.x}, vm-ip: ${ADDRESSES.x}`),
    entry(`eip: ${KEPT.y}, vm-ip: ${ADDRESSES.y}`),
    ...eips.map(([eip, vm]) => entry(`eip: ${eip}, vm-ip: ${vm}`)),
    'port_forward_list:\n',
    entry(`eip: ${KEPT.forward}, protocol: tcp, port: 8080, vm-port: 80, vm-ip: ${ADDRESSES.x}`),
    ...forwards.map(([name, value]) => {
      const [, eip, port, protocol] = /^(.*):(.*)\/(.*)$/.exec(name) ?? [];
      const [vm, vmPort] = value.split(':');
      return entry(`eip: ${eip}, protocol: ${protocol}, port: ${port}, vm-port: ${vmPort}, vm-ip: ${vm}`);
    }),
    list(
      'route_list',
      routes.map(([dest, via]) => entry(`dest: ${dest}, via: ${via}`)),
    ),
    snat,
  ].join('');
}

/** One change. By `edit` it is one that kylin-vr's own commands can make. */
export function nextMove(net: Net, random: Random, edit: boolean): Move {
  const kinds = [
    'eips',
    'eips',
    'eips',
    'forwards',
    'routes',
    'a',
    ...(edit ? [] : (['uplink', 'mtu', 'snat'] as const)),
  ] as const;
  const kind = pick(kinds, random);
  switch (kind) {
    case 'uplink': {
      const uplink = net.uplink === ADDRESSES.router ? '203.0.113.38' : ADDRESSES.router;
      return { what: `uplink ${uplink}`, net: { ...net, uplink } };
    }
    case 'mtu': {
      const mtu = pick([undefined, 1400, 1450], random);
      return { what: `mtu ${mtu}`, net: { ...net, mtu } };
    }
    case 'snat': {
      const snat = pick(SNATS, random);
      return { what: snat === '' ? 'no snat_list' : snat.replace(/\s+/g, ' '), net: { ...net, snat } };
    }
    case 'a': {
      const { mac } = NICS.a;
      if (!net.a)
        return { what: '+ NIC of a', net: { ...net, a: true }, args: ['nic', 'add', `${mac}=${GATEWAYS.a}/24`] };
      // What is in the subnet goes with it.
      const isElsewhere = ([, value]: Pair) => !value.startsWith('10.10.1.');
      const [eips, forwards, routes] = [net.eips, net.forwards, net.routes].map((list) => list.filter(isElsewhere));
      const to = { ...net, a: false, eips: eips ?? [], forwards: forwards ?? [], routes: routes ?? [] };
      const isEmpty = textOf({ ...to, a: true }) === textOf(net);
      return { what: '- NIC of a', net: to, ...(isEmpty && { args: ['nic', 'remove', mac] }) };
    }
    default:
      return changeList(net, kind, random);
  }
}

const NOUN = { eips: 'eip', forwards: 'forward', routes: 'route' } as const;

function changeList(net: Net, kind: keyof typeof NOUN, random: Random): Move {
  const list = net[kind];
  const noun = NOUN[kind];
  const going = list.length > 0 && random() < list.length / MOST[kind] ? pick(list, random) : undefined;
  // Sometimes a whole handful.
  const times = going === undefined && random() < 0.1 ? 5 : 1;
  if (going !== undefined) {
    const [name, value] = going;
    const rest = list.filter((each) => each !== going);
    // Half of them go to another VM, which the commands do as two.
    const other = random() < 0.5 ? made(net, kind, random) : undefined;
    if (other !== undefined && kind === 'eips')
      return {
        what: `${noun} ${name} from ${value} to ${other[1]}`,
        net: { ...net, [kind]: [...rest, [name, other[1]]] },
      };
    return { what: `- ${noun} ${name}`, net: { ...net, [kind]: rest }, args: [noun, 'remove', name] };
  }
  let to = net;
  const added: string[] = [];
  for (let n = 0; n < times; n++) {
    const [name, value] = made(to, kind, random);
    added.push(`${name}=${value}`);
    to = { ...to, [kind]: [...to[kind], [name, value]] };
  }
  return { what: `+ ${noun} ${added.join(' ')}`, net: to, args: [noun, 'add', ...added] };
}

/** An entry whose name, and for an elastic IP whose VM too, no other has. */
function made(net: Net, kind: keyof typeof NOUN, random: Random): Pair {
  const between = (from: number, to: number) => from + Math.floor(random() * (to - from + 1));
  for (;;) {
    const vm = net.a && random() < 0.5 ? `10.10.1.${between(11, 60)}` : `10.10.2.${between(30, 90)}`;
    const pair: Pair =
      kind === 'eips'
        ? [random() < 0.5 ? `203.0.113.${between(100, 140)}` : `198.51.100.${between(10, 50)}`, vm]
        : kind === 'forwards'
          ? [`203.0.113.${between(61, 63)}:${between(1000, 1020)}/${pick(['tcp', 'udp'], random)}`, `${vm}:80`]
          : [`172.${between(16, 31)}.0.0/16`, vm];
    const isTaken = net[kind].some(([name, value]) => name === pair[0] || (kind === 'eips' && value === pair[1]));
    if (!isTaken) return pair;
  }
}

export function pick<T>(choices: readonly T[], random: Random): T {
  return choices[Math.floor(random() * choices.length)] as T;
}
