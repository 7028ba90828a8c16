// What a NIC with the key `bridge` asks of this machine: what stands in its way, what has to wait, and what leaves a bridge
// behind. Pure.

import { AgentError, EXIT } from '../base/errors.ts';
import { visible } from '../base/visible.ts';
import type { Foreign } from './foreign.ts';
import type { BoundNic, NicBinding, ObservedLink } from './nics.ts';
import { movedKey } from './observation.ts';
import { type Bridge, type BridgeType, bridgeKey, type Port, portKey } from './state.ts';

/**
 * `uuid`: of its row, as long as it has that; `link`: the name of its link where somebody has given it another; `odd`: what is not
 * just a link that is a port; `refused`: interfaces that Open vSwitch has not got to work, and why, as far as it says.
 */
export type OvsBridge = {
  name: string;
  ports: string[];
  uuid?: string;
  link?: string;
  odd?: OddPort[];
  refused?: { name: string; error: string }[];
};

/** `device`: the name of the interface. `of`: its type, or the mirror that sends copies out by it. */
export type OddPort = { device: string; port: string } & (
  | { as: 'bond' | 'name' }
  | { as: 'type' | 'mirror'; of: string }
);

/** What Open vSwitch says; `silent`: why it says nothing; `deserted`: its database does, and nobody carries out what is in it. */
export type OpenVSwitch = { bridges: OvsBridge[]; deserted?: true } | { silent: string };

/** What tells a bridge from another of its name: a Linux one its number, in this boot; one of Open vSwitch its row. */
export type BridgeId = number | string;

/** A NIC that is not on its bridge yet, or is on one still. */
export type WaitingNic = { mac: string; reason: string };

export type BridgeView = {
  links: readonly ObservedLink[];
  /** Undefined: it was not asked. */
  ovs: OpenVSwitch | undefined;
};

/** Its database may answer where nobody carries out what is in it: none of its bridges is a link then. `renamed`: links, by bridges. */
export function carriedOut(
  ovs: OpenVSwitch,
  links: readonly ObservedLink[],
  renamed: ReadonlyMap<string, string> = new Map(),
): OpenVSwitch {
  if ('silent' in ovs || ovs.bridges.length === 0) return ovs;
  if (ovs.bridges.some(({ name }) => renamed.has(name)))
    return {
      bridges: ovs.bridges.map((bridge) => {
        const link = renamed.get(bridge.name);
        return link === undefined ? bridge : { ...bridge, link };
      }),
    };
  const there = links.filter(({ device }) => ovs.bridges.some(({ name }) => device === name));
  const names = ovs.bridges.map(({ name }) => name).join(', ');
  if (there.length > 0 && there.every(isDeserted))
    return { silent: `its database names ${names}, and nobody is at such a link: see systemctl status ovs-vswitchd` };
  if (there.length > 0 && ovs.deserted)
    return { silent: `its database names ${names}, and ovs-vswitchd does not run: see systemctl status ovs-vswitchd` };
  if (there.length > 0) return ovs;
  return { silent: `its database names ${names}, and no such link is there: see systemctl status ovs-vswitchd` };
}

/** The link of a bridge in user space stays when ovs-vswitchd is killed, and the NIC has what comes in again. */
const isDeserted = ({ kind, noCarrier }: ObservedLink): boolean => kind === 'tun' && noCarrier === true;

/** The kernel's datapath of Open vSwitch: the master of each port of its bridges. */
const OVS_MASTER = 'ovs-system';

/** The link that the datapath in user space has, whose ports have no master. */
const OVS_IN_USER_SPACE = 'ovs-netdev';

/** Whether such a link is there where Open vSwitch is at work. */
export const isOfDatapath = (device: string): boolean => device === OVS_MASTER || device === OVS_IN_USER_SPACE;

/** Whether a NIC may be a port of Open vSwitch. */
export const mayHavePorts = (links: readonly ObservedLink[]): boolean =>
  links.some(({ device, master }) => master === OVS_MASTER || device === OVS_IN_USER_SPACE);

/** Every bridge of the machine that can be seen. */
export function bridgesOf({ links, ovs }: BridgeView): Bridge[] {
  return [
    ...links.flatMap(({ device, kind }): Bridge[] => (kind === 'bridge' ? [{ name: device, type: 'linux' }] : [])),
    ...ovsBridges(ovs).map(({ name }): Bridge => ({ name, type: 'ovs' })),
  ];
}

/** Every port of such a bridge; without the bridge's own. */
export function portsOf({ links, ovs }: BridgeView): Port[] {
  const kinds = new Map(links.map(({ device, kind }) => [device, kind]));
  return [
    ...links.flatMap(({ device, master }): Port[] =>
      master !== undefined && kinds.get(master) === 'bridge' ? [{ device, bridge: master, type: 'linux' }] : [],
    ),
    ...ovsBridges(ovs).flatMap(({ name, ports }) =>
      ports.map((device): Port => ({ device, bridge: name, type: 'ovs' })),
    ),
  ];
}

export const ovsBridges = (ovs: OpenVSwitch | undefined): readonly OvsBridge[] =>
  ovs !== undefined && 'bridges' in ovs ? ovs.bridges : [];

export const isSilent = (ovs: OpenVSwitch | undefined): boolean => ovs !== undefined && 'silent' in ovs;

/** By bridgeKey. */
export const bridgeIds = ({ links, ovs }: BridgeView): Map<string, BridgeId> =>
  new Map([
    ...links.flatMap(({ device, kind, index }): [string, BridgeId][] =>
      kind === 'bridge' && index !== undefined ? [[bridgeKey({ name: device, type: 'linux' }), index]] : [],
    ),
    ...ovsBridges(ovs).flatMap(({ name, uuid }): [string, BridgeId][] =>
      uuid === undefined ? [] : [[bridgeKey({ name, type: 'ovs' }), uuid]],
    ),
  ]);

/**
 * The binding with each NIC as it can be brought up now. While Open vSwitch is silent a NIC that is a port already stays one;
 * another has its addresses on itself until then. One without the key that somebody else gave a master is held. Throws AgentError
 * (65) where something else has a NIC with the key, or the name.
 */
export function bindBridges(
  binding: NicBinding,
  view: BridgeView,
  recorded: readonly Port[],
): { binding: NicBinding; waiting: WaitingNic[] } {
  const waiting: WaitingNic[] = [];
  const held = [...binding.held];
  const ports = portsOf(view);
  const silent = view.ovs !== undefined && 'silent' in view.ovs ? view.ovs.silent : undefined;
  const bound = binding.bound.map((nic): BoundNic => {
    const left = silent ? recorded.find(({ device, type }) => device === nic.device && type === 'ovs') : undefined;
    if (left !== undefined && view.links.some((link) => link.device === left.bridge && !isDeserted(link))) {
      waiting.push({
        mac: nic.mac,
        reason: `${nic.device} stays as it is, a port of ${left.bridge}: Open vSwitch is silent: ${silent}`,
      });
      return { ...nic, bridge: { name: left.bridge, type: 'ovs' } };
    }
    if (nic.bridge === undefined) {
      const reason = takenBy(nic, view, ports, recorded);
      if (reason !== undefined) held.push({ nic, reason });
      return nic;
    }
    const fault = faultOf(nic, nic.bridge, view, ports, recorded);
    if (fault !== undefined) throw new AgentError(`NIC ${nic.mac} (${nic.device}): ${fault}`, EXIT.config);
    if (nic.bridge.type === 'linux' || silent === undefined) return nic;
    const { bridge, ...plain } = nic;
    if (isUnseenPort(nic.device, view) && !isRecorded(nic.device, recorded)) {
      const reason = `it is a port of Open vSwitch, which does not say whether of ${bridge.name}`;
      held.push({ nic: plain, reason });
      return plain;
    }
    waiting.push({
      mac: nic.mac,
      reason: `bridge ${bridge.name} is pending, and its addresses are on ${nic.device} until then: Open vSwitch is silent: ${silent}`,
    });
    return { ...plain, waitsFor: bridge.name };
  });
  return { binding: { ...binding, bound, held }, waiting };
}

/** Who has a NIC that is to be a port of nothing, and how to say what is meant. */
function takenBy(
  { device }: BoundNic,
  { links, ovs }: BridgeView,
  ports: readonly Port[],
  recorded: readonly Port[],
): string | undefined {
  const ours = recorded.filter((each) => each.device === device);
  const port = ports.find((each) => each.device === device);
  if (port !== undefined && ours.some((each) => portKey(each) === portKey(port))) return undefined;
  const odd = oddOn(device, ovs);
  if (odd !== undefined) return `it ${odd}`;
  if (port !== undefined)
    return (
      `somebody made it a port of the bridge ${port.bridge}, which takes what comes in by it: say bridge: ${port.bridge} and ` +
      `bridge-type: ${port.type} where that is meant, or take it out with ${takeOut(port)}`
    );
  if (isUnseenPort(device, { links, ovs }))
    return isRecorded(device, recorded)
      ? undefined
      : 'somebody made it a port of Open vSwitch, which does not say of which bridge: say bridge: NAME where that is meant, or take it ' +
          `out with ovs-vsctl del-port ${device}`;
  const master = links.find((link) => link.device === device)?.master;
  return master === undefined
    ? undefined
    : `it belongs to ${master}, which takes what comes in by it: take it out with ip link set dev ${device} nomaster`;
}

/** Whether it is a port of Open vSwitch, of which that does not say it: one in user space it takes in all of, and gives no master. */
export function isUnseenPort(device: string, { links, ovs }: BridgeView): boolean {
  const link = links.find((each) => each.device === device);
  if (link?.master !== undefined) return link.master === OVS_MASTER;
  return link?.promiscuous === true && isSilent(ovs) && links.some((each) => each.device === OVS_IN_USER_SPACE);
}

const isRecorded = (device: string, recorded: readonly Port[]): boolean =>
  recorded.some((port) => port.device === device && port.type === 'ovs');

/** What a NIC is to Open vSwitch where that is no port of its own, with the cure. */
function oddOn(device: string, ovs: OpenVSwitch | undefined): string | undefined {
  const found = ovsBridges(ovs).flatMap(({ name, odd = [] }) =>
    odd.flatMap((each) => (each.device === device ? [{ bridge: visible(name), each }] : [])),
  )[0];
  if (found === undefined) return undefined;
  const { bridge, each } = found;
  const port = visible(each.port);
  const out = `take it out with ovs-vsctl del-port ${bridge} ${port}`;
  switch (each.as) {
    case 'bond':
      return `is in the bond ${port} of the bridge ${bridge}: take it out with ovs-vsctl del-bond-iface ${port} ${device}, or the bond with ovs-vsctl del-port ${bridge} ${port}`;
    case 'name':
      return `is in the bridge ${bridge} as the port ${port}, which has another name: ${out}`;
    case 'type':
      return `has the name of a port of the bridge ${bridge} that is no link of the machine (its type is ${visible(each.of)}): ${out}`;
    case 'mirror': {
      const mirror = visible(each.of);
      return `is where the mirror ${mirror} of the bridge ${bridge} sends its copies, and carries nothing else: take that away with ovs-vsctl -- --id=@m get Mirror ${mirror} -- remove Bridge ${bridge} mirrors @m`;
    }
  }
}

const takeOut = ({ type, bridge, device }: Port): string =>
  type === 'ovs' ? `ovs-vsctl del-port ${bridge} ${device}` : `ip link set dev ${device} nomaster`;

/** What the operator has to settle, with the cure. */
function faultOf(
  { device }: BoundNic,
  bridge: Bridge,
  { links, ovs }: BridgeView,
  ports: readonly Port[],
  recorded: readonly Port[],
): string | undefined {
  const { name, type } = bridge;
  const there = links.find((link) => link.device === name);
  const isLinux = there?.kind === 'bridge';
  const isOvs = ovsBridges(ovs).some((each) => each.name === name);
  if (type === 'linux' && there !== undefined && !isLinux)
    return `${name} is there and is no Linux bridge: choose another name, or another bridge-type`;
  if (type === 'ovs' && isLinux)
    return `${name} is there as a Linux bridge: say bridge-type: linux, or remove it with ip link delete ${name}`;
  const renamed = type === 'ovs' ? ovsBridges(ovs).find((each) => each.name === name)?.link : undefined;
  if (renamed !== undefined)
    return `the link of the bridge ${name} has the name ${visible(renamed)} now: give it its own again: ip link set dev ${visible(renamed)} name ${name}`;
  if (type === 'ovs' && there !== undefined && ovs !== undefined && 'bridges' in ovs && !isOvs)
    return `${name} is there and is no bridge of Open vSwitch: choose another name`;
  const odd = oddOn(device, ovs);
  if (odd !== undefined) return odd;
  const ours = (port: Port) => recorded.some((each) => each.device === port.device && each.bridge === port.bridge);
  const other = ports.find((port) => port.device === device && (port.bridge !== name || port.type !== type));
  if (other !== undefined && !ours(other))
    return (
      `is a port of the bridge ${other.bridge} already: take it out with ${takeOut(other)}, ` +
      `or say bridge: ${other.bridge} and bridge-type: ${other.type}`
    );
  const master = links.find((link) => link.device === device)?.master;
  const known = ports.some((port) => port.device === device);
  if (master === undefined || known || master === OVS_MASTER) return undefined;
  return `belongs to ${master}: take it out with ip link set dev ${device} nomaster, or take bridge away`;
}

/** Bridges that may go, without those that somebody gave an IPv6 address; one that a router advertised comes again elsewhere. */
export function withoutGiven(
  emptied: ReadonlySet<string>,
  foreign: readonly Foreign[],
  moved: ReadonlySet<string>,
): Set<string> {
  const given = foreign.filter(
    (each) =>
      each.kind === 'address' &&
      each.family === 6 &&
      each.global === true &&
      !/ (valid_lft|mngtmpaddr)\b/.test(each.words) &&
      !moved.has(movedKey(each)),
  );
  const types: readonly BridgeType[] = ['linux', 'ovs'];
  const busy = new Set(given.flatMap(({ device }) => types.map((type) => bridgeKey({ name: device, type }))));
  return new Set([...emptied].filter((key) => !busy.has(key)));
}

/** Of NICs on a bridge: a port that forwards nothing, and an MTU that is not what the file says. */
export function worksWarnings(bound: readonly BoundNic[], view: BridgeView): string[] {
  return bound
    .flatMap(({ device, bridge }) => {
      const blocked = view.links.find((link) => link.device === device)?.blocked;
      return bridge === undefined || blocked === undefined
        ? []
        : [`nothing passes by ${device} as long as STP of ${bridge.name} has it ${blocked}: see bridge link`];
    })
    .concat(mtusApart(bound, view).map(mtuText));
}

/** A bridge whose MTU is not that of its NIC. `holders`: ports that have no more than the bridge, which it follows. */
type MtuApart = { port: ObservedLink; wanted: number; bridge: Bridge; mtu: number; holders: string[] };

export function mtusApart(bound: readonly BoundNic[], view: BridgeView): MtuApart[] {
  const links = new Map(view.links.map((link) => [link.device, link]));
  return bound.flatMap(({ device, mtu: asked, bridge }): MtuApart[] => {
    const port = links.get(device);
    const mtu = bridge && links.get(bridge.name)?.mtu;
    if (bridge === undefined || port === undefined || mtu === undefined) return [];
    const wanted = asked ?? Math.min(port.mtu, mtu);
    // What is to be set yet is a step.
    if (mtu === wanted || port.mtu < wanted) return [];
    const holders = portsOf(view).flatMap((other) =>
      other.bridge === bridge.name && other.device !== device && (links.get(other.device)?.mtu ?? mtu + 1) <= mtu
        ? [other.device]
        : [],
    );
    return [{ port, wanted, bridge, mtu, holders: mtu < wanted ? holders : [] }];
  });
}

function mtuText({ port, wanted, bridge: { name, type }, mtu, holders }: MtuApart): string {
  const [holder] = holders;
  if (holder !== undefined)
    return (
      `${name} has an MTU of ${mtu}, and not the ${wanted} of the file: its port ${visible(holder)} has no more; where it can have more, ` +
      `ip link set dev ${visible(holder)} mtu ${wanted}, else say mtu: ${mtu}`
    );
  const cure =
    type === 'ovs' ? `ovs-vsctl set Interface ${name} mtu_request=${wanted}` : `ip link set dev ${name} mtu ${wanted}`;
  return mtu < wanted
    ? `${name} has an MTU of ${mtu}, and not the ${wanted} of the file, since somebody set it: ${cure}`
    : `${name} has an MTU of ${mtu}, and its port ${port.device} has ${port.mtu}: packets in between are lost: ${cure}`;
}

/** Ports whose wire carries nothing. */
export function deadPorts(added: readonly Port[], links: readonly ObservedLink[]): Port[] {
  return added.filter(({ device }) => links.some((link) => link.device === device && link.noCarrier));
}
