// Config, NICs, links, rules of ours and the steps that are still to be done → which EIPs, forwards and sources a packet would get through by.
// Rules of others are not in here. Pure.

import { contains, ipv4, type Network } from '../base/ipv4.ts';
import type { Config, Nic } from '../config/config.ts';
import { uplinkOf } from '../config/config.ts';
import { type WayInside, waysInside } from './explain.ts';
import { holds, type StepWith } from './kinds.ts';
import { type BoundNic, faultyNics, ipLinkOf, type NicBinding, type ObservedLink } from './nics.ts';
import { ANSWERS_NOBODY } from './obstacles.ts';
import type { Step } from './step.ts';

export type State = 'active' | 'pending' | 'error';

export type Facts = {
  binding: NicBinding;
  links: readonly ObservedLink[];
  steps: readonly Step[];
  /** What the kernel answers ARP for, on all NICs. */
  arpIgnore: string | undefined;
};

export type Reach = {
  /** Of what is mapped to a VM. `isBroken`: the packet filter is, on its way. */
  mapping(eip: string, vmIp: string, isBroken: boolean): State;
  /** Of those in a network, as they leave. `by`: the address that they leave by, where that is an elastic one. */
  source(network: Network, by: string | undefined, isBroken: boolean): State;
};

export function reachOf(config: Config, found: Facts): Reach {
  const uplink = uplinkOf(config);
  const ways = waysInside(config);
  const states = new Map(config.nics.map((nic) => [nic.mac, stateOfNic(nic, found)]));
  const outward = uplink === undefined ? 'error' : worse(states.get(uplink.mac), outwardOf(uplink, found));
  const stateOfWay = (way: WayInside | undefined): State =>
    way === undefined ? 'active' : worse(states.get(way.place.nic.mac), routeTo(way, found));
  const barring = found.steps.filter(isBarring);
  const through = (inside: number, by: string | undefined, isBroken: boolean): State => {
    const inward = stateOfWay(ways.find(({ network }) => contains(network, inside)));
    const led = isBroken || barring.some((step) => concerns(step, by)) ? 'error' : 'active';
    return worse(worse(outward, inward), led);
  };
  return {
    mapping: (eip, vmIp, isBroken) => through(ipv4(vmIp), eip, isBroken),
    source: ({ base }, by, isBroken) => through(base, by, isBroken),
  };
}

const RANK: readonly State[] = ['active', 'pending', 'error'];

const worse = (a: State = 'active', b: State = 'active'): State => (RANK.indexOf(a) < RANK.indexOf(b) ? b : a);

/** Whether packets come in and go out by it. */
function stateOfNic({ mac }: Nic, { binding, links, steps, arpIgnore }: Facts): State {
  if (faultyNics(binding).some((nic) => nic.mac === mac)) return 'error';
  const nic = binding.bound.find((each) => each.mac === mac);
  if (nic === undefined) return 'pending';
  const isDead = links.some(
    ({ device, up, noCarrier, noArp, blocked }) =>
      (device === nic.device && (!up || noCarrier || blocked !== undefined)) ||
      (device === ipLinkOf(nic) && (!up || noCarrier || noArp)),
  );
  return isDead || arpIgnore === ANSWERS_NOBODY || steps.some((step) => isBarring(step) && bars(step, nic))
    ? 'error'
    : 'active';
}

type Barring = StepWith<'bars', true>;

const isBarring = (step: Step): step is Barring => holds(step, 'bars');

/** Whether nothing comes or goes by a NIC until the step is done. */
function bars(step: Barring, nic: BoundNic): boolean {
  const ipLink = ipLinkOf(nic);
  switch (step.kind) {
    case 'add-address':
      return step.address.device === ipLink && step.address.spec === `${nic.ipaddr}/${nic.prefix}`;
    case 'add-subnet-route':
      return step.route.device === ipLink;
    case 'add-bridge':
      return step.bridge.name === ipLink;
    case 'add-port':
      return step.port.device === nic.device;
    case 'set-sysctl':
      return (
        step.key === `net/ipv4/conf/${ipLink}/forwarding` ||
        (step.key === `net/ipv4/conf/${ipLink}/arp_ignore` && step.was === ANSWERS_NOBODY)
      );
    case 'add-route':
      return false;
  }
}

/** What leaves by the uplink needs its default route. */
function outwardOf({ mac }: Nic, { binding, steps }: Facts): State {
  const ipLinks = binding.bound.filter((nic) => nic.mac === mac).map(ipLinkOf);
  return steps.some(
    (step) => step.kind === 'add-route' && step.route.dest === 'default' && ipLinks.includes(step.route.device),
  )
    ? 'error'
    : 'active';
}

function routeTo({ place }: WayInside, { steps }: Facts): State {
  if (place.kind === 'link') return 'active';
  const dest = place.dest === '0.0.0.0/0' ? 'default' : place.dest;
  return steps.some((step) => step.kind === 'add-route' && step.route.dest === dest && step.route.via === place.via)
    ? 'error'
    : 'active';
}

/** Whether a step that is still to be done keeps an EIP from working. */
function concerns(step: Barring, eip: string | undefined): boolean {
  switch (step.kind) {
    case 'add-address':
      return step.address.spec === `${eip}/32`;
    case 'set-sysctl':
      return step.key === 'net/ipv4/ip_forward';
    case 'add-subnet-route':
    case 'add-bridge':
    case 'add-port':
    case 'add-route':
      return false;
  }
}
