// Config, NICs → the packets that show whether an EIP or a forward is mapped, hook by hook. What the desired rules say to one and those
// that are there do not keeps it from working. Pure.

import { contains, ipv4, lastOf, type Network } from '../../base/ipv4.ts';
import type { Config, Eip, Forward } from '../../config/config.ts';
import { insideNetworks } from '../../config/inside.ts';
import type { Courses, Passing } from '../../network/course.ts';
import { waysInside } from '../../network/explain.ts';
import { type BoundNic, ipLinkOf } from '../../network/nics.ts';
import type { TableName } from '../../network/state.ts';
import { MOST_SINGLE_PORTS } from './ports.ts';

type Probe = { table: TableName; hook: string; passing: Passing };

/** Whether rules and jumps on the way of one are missing, or are others. */
export function brokenBy(
  config: Config,
  bound: readonly BoundNic[],
  uplink: BoundNic | undefined,
  wanted: Courses,
  found: Courses,
): { eip(eip: Eip): boolean; forward(forward: Forward): boolean } {
  if (uplink === undefined) return { eip: () => false, forward: () => false };
  const differs = ({ table, hook, passing }: Probe): boolean =>
    wanted(table, hook, passing)?.verdict !== found(table, hook, passing)?.verdict;
  const { senders, hairpin, inward, outward } = probesOf(config, bound, uplink);
  // What all that is sent from one place goes by is asked once.
  const mappings = [...config.eips, ...config.forwards];
  const isCut = (sender: Sender): boolean =>
    mappings.length > 0 && mappings.every((mapping) => differs(hairpin(mapping, sender)));
  const isCutInside = senders.some(isCut);
  const isCutHere = isCut({ from: ipv4(uplink.ipaddr), local: true });
  // What the router sends to its own address has that for its source anyway.
  const isCutFor = (eip: string): boolean => isCutInside || (isCutHere && eip !== uplink.ipaddr);

  return {
    eip: (eip) => isCutFor(eip.eip) || [...inward(eip, TCP), ...outward(eip)].some(differs),
    forward: (forward) =>
      isCutFor(forward.eip) ||
      portsAsked(forward.port, forward.endPort).some((port) =>
        inward(forward, { protocol: forward.protocol, port }).some(differs),
      ),
  };
}

type Sender = Pick<Passing, 'from' | 'local'>;

function probesOf(config: Config, bound: readonly BoundNic[], uplink: BoundNic) {
  const out = ipLinkOf(uplink);
  const outside = outsideOf(config);
  const ways = waysInside(config);
  const vms = new Set([...config.eips, ...config.forwards].map(({ vmIp }) => ipv4(vmIp)));
  const senders = insideNetworks(config).map(({ network }): Sender => ({ from: senderIn(network, vms) }));
  const own = new Map<string, string>();
  for (const { eip, vmIp } of config.eips) if (!own.has(vmIp)) own.set(vmIp, eip);

  /** Undefined: its NIC is not there. */
  const deviceTo = (address: number): string | undefined => {
    const way = ways.find(({ network }) => contains(network, address));
    if (way === undefined) return out;
    const nic = bound.find(({ mac }) => mac === way.place.nic.mac);
    return nic && ipLinkOf(nic);
  };

  /** What was sent to it from inside, where it leaves to the VM. */
  const hairpin = ({ eip, vmIp }: Eip, sender: Sender): Probe => {
    const vm = ipv4(vmIp);
    const by = deviceTo(vm);
    const passing = { ...TCP, ...sender, to: vm, askedFor: ipv4(eip), ...(by !== undefined && { out: by }) };
    return { table: 'nat', hook: 'POSTROUTING', passing };
  };

  /** What is sent to it, and what answers. */
  const inward = (mapping: Eip, asked: Pick<Passing, 'protocol' | 'port'>): Probe[] => {
    const [to, vm] = [ipv4(mapping.eip), ipv4(mapping.vmIp)];
    const by = deviceTo(vm);
    const sent = { ...asked, from: outside, to };
    const through: Probe[] =
      by === undefined
        ? []
        : [
            { table: 'filter', hook: 'FORWARD', passing: { ...sent, to: vm, askedFor: to, in: out, out: by } },
            { table: 'filter', hook: 'FORWARD', passing: { ...TCP, from: vm, to: outside, in: by, out } },
          ];
    return [
      { table: 'nat', hook: 'PREROUTING', passing: { ...sent, in: out } },
      { table: 'nat', hook: 'OUTPUT', passing: { ...sent, local: true } },
      { table: 'filter', hook: 'INPUT', passing: { ...sent, in: out } },
      ...through,
      ...senders.slice(0, 1).map((sender) => hairpin(mapping, sender)),
    ];
  };

  /** What its VM sends, where it is the VM's own. */
  const outward = (mapping: Eip): Probe[] => {
    if (own.get(mapping.vmIp) !== mapping.eip) return [];
    const from = ipv4(mapping.vmIp);
    return [
      { table: 'nat', hook: 'POSTROUTING', passing: { ...TCP, from, to: outside, out } },
      hairpin(mapping, { from }),
    ];
  };

  return { senders, hairpin, inward, outward };
}

/** Any: an EIP has all ports. */
const TCP = { protocol: 'tcp', port: 1 } as const;

/** Each may have a rule of its own; in a long range none has. */
export const portsAsked = (port: number, endPort: number): number[] =>
  endPort - port < MOST_SINGLE_PORTS
    ? Array.from({ length: endPort - port + 1 }, (_, offset) => port + offset)
    : [port, endPort];

/** An address that no network of the file, nor a mapping, has. */
function outsideOf(config: Config): number {
  const networks = insideNetworks(config).map(({ network }) => network);
  const taken = new Set([...config.eips, ...config.forwards].map(({ eip }) => ipv4(eip)));
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
