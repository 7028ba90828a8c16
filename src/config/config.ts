// What the configuration file says, after parsing: legacy spellings folded, defaults filled in, values canonical.

/** A NIC of `if_list`. With a gateway it is an uplink, without one a subnet. */
export type Nic = {
  /** Lower case, colons. */
  mac: string;
  /** Dotted quad. */
  ipaddr: string;
  /** 1..32 */
  prefix: number;
  gateway?: string;
  /** A label for messages. */
  name?: string;
  /** Bytes. */
  mtu?: number;
  bridge?: { name: string; type: 'ovs' | 'linux' };
  /** Addresses of others that stay there: `10.0.0.5/32`, or, of any prefix length, `10.0.0.5`. */
  keepAddresses?: string[];
};

/** A 1:1 elastic IP of `eip_list`. */
export type Eip = { eip: string; vmIp: string };

export type Protocol = 'tcp' | 'udp';

/** A forward of `port_forward_list`: port..endPort of the EIP go to vmPort..vmPort+(endPort-port) of the VM. */
export type Forward = {
  eip: string;
  protocol: Protocol;
  port: number;
  /** Equal to `port` for a single port. */
  endPort: number;
  vmPort: number;
  vmIp: string;
};

/** A route of `route_list`. */
export type StaticRoute = { dest: string; via: string };

/** An entry of `snat_list`: what leaves by the uplink from `source` (CIDR) gets this source. */
export type Snat = { source: string; to: { address: string } | 'masquerade' | 'none' };

export type Config = {
  nics: Nic[];
  eips: Eip[];
  forwards: Forward[];
  routes: StaticRoute[];
  /** Undefined: every subnet leaves by the uplink's own address. An empty list: none does. */
  snats: Snat[] | undefined;
  /** Whether hosts on an uplink's segment may open connections to VMs by their private addresses. */
  fromUplink: 'drop' | 'forward';
  /** Where it is false, no run looks on the PCI bus for a NIC that is missing. */
  pciRescan?: false;
};

/** As the packaged file has it, until somebody writes one. */
export const NO_NICS = 'if_list is empty, so no NIC has an address of ours: write the file, then run kylin-vr reload';

/** What `if_list: []` means. */
export const NOTHING: Config = {
  nics: [],
  eips: [],
  forwards: [],
  routes: [],
  snats: undefined,
  fromUplink: 'forward',
};

/** The uplink: the first NIC with a gateway. Undefined: a router between its subnets, without NAT. */
export function uplinkOf(config: Config): Nic | undefined {
  return config.nics.find((nic) => nic.gateway !== undefined);
}
