// Host, what is mapped to VMs → which of it the kernel leads elsewhere than the file does: by a route, a rule or an address of somebody
// else that wins beside ours. The kernel is asked as it asks itself, for a packet from outside and for its answer.

import { contains, ipv4 } from '../base/ipv4.ts';
import { type Config, uplinkOf } from '../config/config.ts';
import { parseLed } from '../dialects/iproute.ts';
import { waysInside } from '../network/explain.ts';
import { type BoundNic, ipLinkOf } from '../network/nics.ts';
import type { Host } from './host.ts';

/** What the kernel was asked, and where it leads to. */
export type Led = { asked: string; answer: string };

/** `by`: the NIC that it is to leave by, and the gateway where there is one. */
type RouteQuestion = { to: string; from: string; iif: string; by: Leaves };
type Leaves = { dev: string; gateway?: string | undefined };

/** One in each half of the addresses, as `0.0.0.0/1` and `128.0.0.0/1` win over a default route. */
const OUTSIDE = [
  ['8.8.8.8', '9.9.9.9', '4.2.2.1'],
  ['192.33.4.12', '198.41.0.4', '193.0.14.129'],
];

/** By VM: the question that the kernel answers otherwise, and how. For VMs whose NIC and uplink are there. */
export async function ledElsewhere(
  host: Host,
  config: Config,
  bound: readonly BoundNic[],
  vmIps: ReadonlySet<string>,
): Promise<Map<string, Led>> {
  const asked = new Map([...vmIps].map((vmIp): [string, RouteQuestion[]] => [vmIp, questionsOf(config, bound, vmIp)]));
  const input = [...asked.values()].flat().map((question) => `${wordsOf(question)}\n`);
  if (input.length === 0) return new Map();
  // Of what it may not lead anywhere ip says so on standard error, and goes on.
  const { stdout } = await host.run(['ip', '-force', '-json', '-batch', '-'], {
    input: [...new Set(input)].join(''),
    accept: [1, 2],
  });
  const led = new Map<string, string>();
  for (const { dst, type, from = '', iif = '', dev = '', gateway } of parseLed(stdout))
    led.set(`${dst} ${from} ${iif}`, type === undefined || type === 'unicast' ? wordsOfWay({ dev, gateway }) : type);
  return new Map(
    [...asked].flatMap(([vmIp, questions]) => {
      const wrong = questions.find((question) => led.get(keyOf(question)) !== wordsOfWay(question.by));
      return wrong === undefined
        ? []
        : [[vmIp, { asked: wordsOf(wrong), answer: led.get(keyOf(wrong)) ?? 'unreachable' }] as const];
    }),
  );
}

const wordsOf = ({ to, from, iif }: RouteQuestion): string => `route get ${to} from ${from} iif ${iif}`;

const wordsOfWay = ({ dev, gateway }: Leaves): string => (gateway === undefined ? dev : `${dev} via ${gateway}`);

const keyOf = ({ to, from, iif }: RouteQuestion): string => `${to} ${from} ${iif}`;

function questionsOf(config: Config, bound: readonly BoundNic[], vmIp: string): RouteQuestion[] {
  const ways = waysInside(config);
  const way = ways.find(({ network }) => contains(network, ipv4(vmIp)));
  const inside = bound.find(({ mac }) => mac === way?.place.nic.mac);
  const uplink = bound.find(({ mac }) => mac === uplinkOf(config)?.mac);
  if (inside === undefined || uplink?.gateway === undefined || inside === uplink) return [];
  // The router's own, which check warns of.
  if (config.nics.some(({ ipaddr }) => ipaddr === vmIp)) return [];
  const [dev, out] = [ipLinkOf(inside), ipLinkOf(uplink)];
  const outside = OUTSIDE.flatMap(
    (half) => half.find((each) => !ways.some(({ network }) => contains(network, ipv4(each)))) ?? [],
  );
  return [
    {
      to: vmIp,
      from: uplink.gateway,
      iif: out,
      by: { dev, gateway: way?.place.kind === 'behind' ? way.place.via : undefined },
    },
    ...outside.map((to): RouteQuestion => ({ to, from: vmIp, iif: dev, by: { dev: out, gateway: uplink.gateway } })),
  ];
}
