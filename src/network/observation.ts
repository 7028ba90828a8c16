// What was found on the machine: the state that is ours or under our rule, and what planning must know beside it.

import { type Foreign, foreignKey } from './foreign.ts';
import type { ObservedLink } from './nics.ts';
import type { Address, NetworkState, Port, SubnetRoute, TableName } from './state.ts';

/** A device that NetworkManager manages. */
export type ManagedDevice = {
  /** Whether a profile is active on it, or is just being activated: only then can it be reapplied. */
  active: boolean;
  /** Somebody else has set the device up: NetworkManager only looks on. */
  external?: true;
  /** UUID of that profile. */
  profile?: string;
};

/** What has moved, wherever it is now. */
export const movedKey = (foreign: Foreign): string => foreignKey(foreign).replace(/ dev \S+/, '');

export type ObservedAddress = Address & {
  /** Will go by itself (DHCP): not an address that is there for good. */
  dynamic: boolean;
  /** The kernel makes no route to its network, also when the link comes up: who put it there does. */
  noprefixroute?: true;
  /** Who says that it is his (Linux 5.18). */
  protocol?: string;
};

/** The route to a network that is on a link itself. `kernel` is the protocol of those that come with an address. */
export type ObservedSubnetRoute = { device: string; dest: string; protocol: string };

/** `handles`: nft's, of each rule, where iptables-save prints only half of one that leads to a chain of ours. */
export type Hook = { table: TableName; hook: string; rules: readonly string[]; handles?: readonly number[] };

/** A foreign profile that claims a NIC of ours, and where it is put aside. */
export type Claim = { path: string; to: string; reason: string; content: string; mode: number };

/** A table that iptables cannot read, since somebody put rules into it that only nft can say: what of it is ours, as nft has it. */
export type Unreadable = {
  table: TableName;
  chains: readonly { name: string; empty: boolean; heldBy?: string }[];
  /** Rules of built-in chains that lead into ours, in our words. */
  jumps: readonly { chain: string; handle: number }[];
  /** Some of those that are not ours, in nft's words. */
  rules: readonly string[];
  /** Of the backend that is not in use; `unseen`: there is no nft to read it. */
  stray?: true;
  unseen?: true;
};

/** Our chains and jumps in the iptables backend that is not in use. */
export type Stray = {
  restore: string;
  chains: readonly { table: TableName; name: string; heldBy?: string }[];
  hooks: readonly Hook[];
};

export type Observation = {
  /** Every link of the machine. */
  links: readonly ObservedLink[];
  /**
   * Addresses: those of global scope on NICs of the configuration, and ours elsewhere. Routes: all through a gateway in the
   * main table. Links: NICs of the configuration. Chains, files: ours. Sysctls: those that are wanted.
   */
  state: NetworkState;
  /** The built-in chains, with foreign rules and ours. */
  hooks: readonly Hook[];
  /** Keys of the addresses of others that stay on NICs of the configuration. */
  kept: ReadonlySet<string>;
  /** Keys of the addresses that we put there, as recorded. */
  owned: ReadonlySet<string>;
  /** Keys (routeTargetKey) of the routes that we, or NetworkManager or initscripts by our profiles, put there, as recorded. */
  ownedRoutes: ReadonlySet<string>;
  /** Names of bridges that have a NIC of the file as their port, and not by us. */
  adopted: ReadonlySet<string>;
  /** Bridges that we made, as recorded, and that nothing else is on. */
  emptied: ReadonlySet<string>;
  /** Networks of foreign addresses on NICs that are to be ports. */
  portRoutes: readonly { device: string; dest: string }[];
  /** Networks of wanted addresses that are there, and that nothing leads to. */
  cutOff: readonly SubnetRoute[];
  /** Every address and route of NICs that are, or are to be, ports, and of their bridges; routes of IPv4 only where a NIC moves. */
  onBridges: readonly Foreign[];
  /** Every address of the machine, without its length; only where a NIC moves. */
  hosts?: ReadonlySet<string>;
  /** Ports of bridges of ours, as recorded, that are none any more. */
  formerPorts?: readonly Port[];
  /** What has moved to a bridge with a NIC, as recorded: `movedKey`. Of IPv4 only what does not tell by itself whose it is. */
  moved: ReadonlySet<string>;
  /** Ports and bridges that hear, or heard, what routers advertise: what the kernel makes of that is not moved, but made anew. */
  hearing: ReadonlySet<string>;
  claims: readonly Claim[];
  /** The devices that NetworkManager manages; empty where it does not run, or was not asked. */
  managers: ReadonlyMap<string, ManagedDevice>;
  strays: readonly Stray[];
  unreadable: readonly Unreadable[];
  /** Every address and route on those devices, without addresses that are ours. */
  onManaged: readonly Foreign[];
  /** What is foreign and a run before this one lost: it was killed while NetworkManager was at work, or made an MTU too small for IPv6. */
  lost: readonly Foreign[];
};
