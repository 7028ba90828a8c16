// What the network does once kylin-vr has run: who sends to whom, and what the other side sees.
// The tests check these rows and the demonstration shows them.

import { ADDRESSES, GATEWAYS, type HostName, NICS } from './lab.ts';
import type { Answer, Pong, Traffic, Transport } from './traffic.ts';

export type Row = {
  from: HostName;
  to: string;
  protocol: Transport | 'icmp';
  /** 0 for icmp. */
  port: number;
  expected: string;
};

/** What a configuration promises, each promise with its cases. */
export type Scenario = { name: string; config: string; promises: { promise: string; rows: Row[] }[] };

/** v's is in the uplink's network; those of x and y, in one subnet, in another that `out` reaches; w has none. */
export const EIPS = { v: '203.0.113.50', x: '198.51.100.20', y: '198.51.100.21' } as const;

/** EIPs that forward ports and belong to no VM, one in each network. */
export const NEAR = '203.0.113.60';
export const OTHER = '198.51.100.60';
const SNAT = '203.0.113.40';

const { far, out, router: uplink, v, w, x, y } = ADDRESSES;

const nics = `if_list:
  - { ipaddr: ${uplink}, prefix: 24, mac: '${NICS.public.mac}', gateway: ${out} }
  - { ipaddr: ${GATEWAYS.a}, prefix: 24, mac: '${NICS.a.mac}' }
  - { ipaddr: ${GATEWAYS.b}, prefix: 24, mac: '${NICS.b.mac}' }
`;

const eips = `eip_list:
  - { eip: ${EIPS.v}, vm-ip: ${v} }
  - { eip: ${EIPS.x}, vm-ip: ${x} }
  - { eip: ${EIPS.y}, vm-ip: ${y} }
`;

const forwards = `port_forward_list:
  - { eip: ${NEAR}, protocal: tcp, port: 8080, vm-port: 80, vm-ip: ${w} }
  - { eip: ${NEAR}, protocal: udp, port: 5353, vm-port: 53, vm-ip: ${w} }
  - { eip: ${NEAR}, protocal: tcp, port: 9000, end_port: 9002, vm-port: 9000, vm-ip: ${y} }
  - { eip: ${NEAR}, protocal: tcp, port: 7000, end_port: 7002, vm-port: 7100, vm-ip: ${w} }
  - { eip: ${NEAR}, protocal: udp, port: 7000, end_port: 7002, vm-port: 7100, vm-ip: ${w} }
  - { eip: ${OTHER}, protocal: tcp, port: 443, vm-port: 443, vm-ip: ${w} }
  - { eip: ${uplink}, protocal: tcp, port: 8443, vm-port: 443, vm-ip: ${w} }
`;

const CLOSED = 'closed';
const BEHIND = 'answered behind the router';
const ROUTER = 'answered by the router';
const reached = (by: HostName, port: number) => `${by}:${port} is reached`;
const sees = (by: HostName, port: number, source: string) => `${by}:${port} sees ${source}`;

const tcp = (from: HostName, to: string, port: number, expected: string) => row('tcp', from, to, port, expected);
const udp = (from: HostName, to: string, port: number, expected: string) => row('udp', from, to, port, expected);
const ping = (from: HostName, to: string, expected: string) => row('icmp', from, to, 0, expected);
const row = (protocol: Row['protocol'], from: HostName, to: string, port: number, expected: string) => ({
  from,
  to,
  protocol,
  port,
  expected,
});

const promise = (text: string, ...rows: Row[]) => ({ promise: text, rows });

export const elastic: Scenario = {
  name: 'elastic IPs and forwarded ports',
  config: nics + eips + forwards,
  promises: [
    promise(
      'from outside to an EIP: its VM is reached, the source is kept',
      tcp('out', EIPS.v, 80, sees('v', 80, out)),
      udp('out', EIPS.v, 53, sees('v', 53, out)),
      ping('out', EIPS.v, BEHIND),
      tcp('out', EIPS.v, 22, sees('v', 22, out)),
      tcp('far', EIPS.v, 80, sees('v', 80, far)),
      udp('far', EIPS.v, 53, sees('v', 53, far)),
      tcp('out', EIPS.x, 80, sees('x', 80, out)),
      udp('out', EIPS.x, 53, sees('x', 53, out)),
      ping('far', EIPS.x, BEHIND),
    ),
    promise(
      'a VM with an EIP to the outside: it leaves as its EIP',
      tcp('v', out, 80, sees('out', 80, EIPS.v)),
      udp('v', out, 53, sees('out', 53, EIPS.v)),
      tcp('v', far, 80, sees('far', 80, EIPS.v)),
      tcp('x', far, 80, sees('far', 80, EIPS.x)),
      udp('y', out, 53, sees('out', 53, EIPS.y)),
    ),
    promise(
      "a VM without one to the outside: it leaves as the uplink's address",
      tcp('w', out, 80, sees('out', 80, uplink)),
      udp('w', out, 53, sees('out', 53, uplink)),
      tcp('w', far, 80, sees('far', 80, uplink)),
      ping('w', far, BEHIND),
    ),
    promise(
      'between subnets by private addresses: no NAT',
      tcp('v', x, 80, sees('x', 80, v)),
      udp('v', x, 53, sees('x', 53, v)),
      tcp('x', w, 80, sees('w', 80, x)),
      udp('w', y, 53, sees('y', 53, w)),
      ping('y', v, BEHIND),
    ),
    promise(
      "a VM to another VM's EIP: reached; seen as its own EIP or else as the uplink's address",
      tcp('v', EIPS.x, 80, sees('x', 80, EIPS.v)),
      udp('v', EIPS.x, 53, sees('x', 53, EIPS.v)),
      tcp('x', EIPS.y, 80, sees('y', 80, EIPS.x)),
      udp('y', EIPS.x, 53, sees('x', 53, EIPS.y)),
      tcp('w', EIPS.v, 80, sees('v', 80, uplink)),
      udp('w', EIPS.v, 53, sees('v', 53, uplink)),
      tcp('w', EIPS.x, 80, sees('x', 80, uplink)),
      ping('w', EIPS.v, BEHIND),
    ),
    promise(
      'a VM to its own EIP: it reaches itself',
      tcp('v', EIPS.v, 80, sees('v', 80, EIPS.v)),
      udp('v', EIPS.v, 53, sees('v', 53, EIPS.v)),
      tcp('x', EIPS.x, 80, sees('x', 80, EIPS.x)),
      ping('v', EIPS.v, BEHIND),
    ),
    promise(
      'from outside to a forwarded port: the source is kept',
      tcp('out', NEAR, 8080, sees('w', 80, out)),
      udp('far', NEAR, 5353, sees('w', 53, far)),
      tcp('out', NEAR, 9000, sees('y', 9000, out)),
      tcp('out', NEAR, 9002, sees('y', 9002, out)),
      tcp('out', NEAR, 7000, sees('w', 7100, out)),
      tcp('far', NEAR, 7001, sees('w', 7101, far)),
      tcp('out', NEAR, 7002, sees('w', 7102, out)),
      udp('out', NEAR, 7000, sees('w', 7100, out)),
      udp('out', NEAR, 7002, sees('w', 7102, out)),
      tcp('out', OTHER, 443, sees('w', 443, out)),
      tcp('out', uplink, 8443, sees('w', 443, out)),
    ),
    promise(
      'from a subnet to a forwarded port, also of the same subnet',
      tcp('v', NEAR, 8080, sees('w', 80, EIPS.v)),
      udp('v', NEAR, 5353, sees('w', 53, EIPS.v)),
      tcp('x', NEAR, 8080, sees('w', 80, EIPS.x)),
      tcp('w', NEAR, 9001, sees('y', 9001, uplink)),
      tcp('w', NEAR, 8080, sees('w', 80, uplink)),
      udp('w', NEAR, 7001, sees('w', 7101, uplink)),
      tcp('y', NEAR, 9001, sees('y', 9001, EIPS.y)),
      tcp('y', OTHER, 443, sees('w', 443, EIPS.y)),
      tcp('v', uplink, 8443, sees('w', 443, EIPS.v)),
    ),
    promise(
      'from the router itself to an EIP or a forwarded port',
      tcp('router', EIPS.v, 80, reached('v', 80)),
      udp('router', EIPS.v, 53, reached('v', 53)),
      tcp('router', EIPS.x, 80, reached('x', 80)),
      tcp('router', NEAR, 8080, reached('w', 80)),
      udp('router', NEAR, 7001, reached('w', 7101)),
      tcp('router', uplink, 8443, reached('w', 443)),
    ),
    promise(
      "from the router itself to the outside: the uplink's address",
      tcp('router', out, 80, sees('out', 80, uplink)),
      udp('router', far, 53, sees('far', 53, uplink)),
    ),
    promise(
      "a port that is not forwarded: closed, the router's sshd too",
      tcp('out', NEAR, 22, CLOSED),
      tcp('out', OTHER, 22, CLOSED),
      tcp('far', NEAR, 22, CLOSED),
      tcp('w', NEAR, 22, CLOSED),
      tcp('x', OTHER, 22, CLOSED),
      tcp('out', NEAR, 9003, CLOSED),
      udp('out', NEAR, 7003, CLOSED),
      udp('out', NEAR, 8080, CLOSED),
      udp('v', NEAR, 53, CLOSED),
    ),
    promise('such an EIP answers ping', ping('out', NEAR, ROUTER), ping('far', OTHER, ROUTER), ping('w', NEAR, ROUTER)),
    promise(
      "the router's own services stay on its own addresses",
      tcp('out', uplink, 22, sees('router', 22, out)),
      tcp('w', GATEWAYS.a, 22, sees('router', 22, w)),
    ),
  ],
};

export const snat: Scenario = {
  name: 'source NAT by snat_list',
  config: `${nics}eip_list:
  - { eip: ${EIPS.v}, vm-ip: ${v} }
snat_list:
  - { source: 10.10.1.0/24, to: ${SNAT} }
`,
  promises: [
    promise(
      'a subnet with an entry leaves as the entry says',
      tcp('w', out, 80, sees('out', 80, SNAT)),
      udp('w', far, 53, sees('far', 53, SNAT)),
    ),
    promise('a subnet without one leaves as before', tcp('x', out, 80, sees('out', 80, uplink))),
    promise('an EIP goes before the entry', tcp('v', out, 80, sees('out', 80, EIPS.v))),
  ],
};

/** What the lab's people call an address. */
export function nameOf(address: string): string {
  const named = (names: Record<string, string>) => Object.keys(names).find((name) => names[name] === address);
  const owner = named(EIPS);
  if (owner !== undefined) return `${owner}'s EIP`;
  if (address === NEAR || address === OTHER) return 'forwarding EIP';
  if (address === uplink) return 'the uplink';
  return named(ADDRESSES) ?? 'the router';
}

/** Every host, the router too, listens on every port that a row names: a packet that goes astray is answered and seen. */
export async function listen(traffic: Traffic): Promise<void> {
  const ports = new Map<string, [Transport, number]>();
  for (const { protocol, port, expected } of [elastic, snat].flatMap(({ promises }) =>
    promises.flatMap(({ rows }) => rows),
  )) {
    const arrival = Number(/:(\d+) /.exec(expected)?.[1] ?? port);
    if (protocol !== 'icmp') for (const each of [port, arrival]) ports.set(`${protocol} ${each}`, [protocol, each]);
  }
  const hosts: HostName[] = ['far', 'out', 'router', 'v', 'w', 'x', 'y'];
  await Promise.all(
    hosts.flatMap((host) => [...ports.values()].map(([transport, port]) => traffic.listen(host, transport, port))),
  );
}

/** Sends what the row says; gives what happened, in the words of `expected`. */
export async function observe(traffic: Traffic, row: Row): Promise<string> {
  const { from, to, protocol, port } = row;
  if (protocol === 'icmp') return pinged(from, await traffic.ping(from, to));
  return answered(row, await traffic.probe({ from, to, transport: protocol, port }));
}

/** Beyond the router's distance from the sender, the answer passed it. */
function pinged(from: HostName, pong: Pong): string {
  if (!pong.reached) return 'no answer';
  const distance = from === 'far' ? 1 : 0;
  return pong.hops > distance ? BEHIND : ROUTER;
}

function answered({ to, expected }: Row, answer: Answer): string {
  if (!answer.reached) return expected === CLOSED ? CLOSED : `no answer: ${answer.why}`;
  const { by, port, seenSource, answeredFrom } = answer;
  if (answeredFrom !== to) return `${by}:${port} answers as ${answeredFrom}`;
  return expected === reached(by, port) ? expected : sees(by, port, seenSource);
}
