// What may be written in the file: the keys, their spellings, and the values each takes on its own.
// What is wrong between values is in rules.ts. `fileSchema` is fit for z.toJSONSchema(…, { io: 'input' }).

import * as z from 'zod/mini';
import {
  formatNetwork,
  hasHostBits,
  ipv4,
  isUnicast,
  lastOf,
  type Network,
  networkOf,
  parseCidr,
} from '../base/ipv4.ts';
import type { Config, Eip, Forward, Nic, Snat, StaticRoute } from './config.ts';

/** Other spellings that files in the field use, each with the key it stands for. */
export const SPELLINGS: ReadonlyMap<string, string> = new Map([
  ['protocal', 'protocol'],
  ['vm_ip', 'vm-ip'],
  ['vm_port', 'vm-port'],
  ['end-port', 'end_port'],
  ['bridge_type', 'bridge-type'],
  ['keep_addresses', 'keep-addresses'],
]);

/** A mapping, as the entries of one list are: its keys, and what turns one with these keys into its part of the Config. */
export type EntrySchema<T> = {
  keys: readonly string[];
  /** Those of the keys whose values are lists. */
  lists: readonly string[];
  schema: z.ZodMiniType<T>;
};

const described = <T extends z.ZodMiniType>(schema: T, description: string, example?: unknown): T =>
  schema.check(z.meta({ description, ...(example !== undefined && { example }) }));

/** YAML takes unquoted digits for a number: where text is wanted, quotes are the cure. */
const text = (rule: string) =>
  z.string({
    error: ({ input }) => (typeof input === 'number' || typeof input === 'boolean' ? `${rule}, in quotes` : rule),
  });

/** A whole number, or one in quotes: 0.1 took both. */
function whole(least: number, most: number, what: string) {
  const error = `must be ${what} from ${least} to ${most}`;
  const number = z.int({ error }).check(z.minimum(least, { error }), z.maximum(most, { error }));
  const digits = z.string().check(z.regex(/^\d{1,9}$/));
  return z.union([number, z.pipe(z.pipe(digits, z.transform(Number)), number)], { error });
}

const UNICAST = 'must be an address that a machine can have, not one of 0.0.0.0/8, 127.0.0.0/8 or 224.0.0.0/3';

const address = z
  .ipv4({ error: 'must be an IPv4 address', abort: true })
  .check(z.refine((dotted) => isUnicast(networkOf(ipv4(dotted), 32)), { error: UNICAST }));

/** CIDR; `bare` makes one of an address without a prefix length. */
function network(rule: string, bare: (dotted: string) => string) {
  const cidrOf = (written: string) => (written.includes('/') ? written : bare(written));
  const parsed = (written: unknown): Network | undefined => parseCidr(cidrOf(String(written)));
  const written = z.string({ error: rule }).check(
    z.refine((cidr) => parsed(cidr) !== undefined, { error: rule, abort: true }),
    z.refine((cidr) => !hasHostBits(cidrOf(cidr)), {
      error: ({ input }) =>
        `must have no host bits: its network is ${formatNetwork(parsed(input) ?? { base: 0, prefix: 0 })}`,
      abort: true,
    }),
    z.refine((cidr) => isUnicast(parsed(cidr) ?? { base: 0, prefix: 0 }), { error: UNICAST }),
  );
  return z.pipe(written, z.transform(cidrOf));
}

const KEPT = 'must be an IPv4 address, such as 192.0.2.5 or 192.0.2.5/32';

/** With a prefix length, or, for any, without. Host bits may stand, and are the point of it. */
const kept = z.pipe(
  z.string({ error: KEPT }).check(
    z.refine((written) => parseCidr(written.includes('/') ? written : `${written}/32`) !== undefined, {
      error: KEPT,
      abort: true,
    }),
    z.refine((written) => isAddress(written), {
      error: ({ input }) => `must be an address, not the network or broadcast address of ${input}`,
      abort: true,
    }),
    z.refine((written) => isUnicast(networkOf(ipv4(written.split('/', 1)[0] ?? ''), 32)), { error: UNICAST }),
  ),
  z.transform(String),
);

function isAddress(written: string): boolean {
  const [dotted = '', length = '32'] = written.split('/');
  const network = networkOf(ipv4(dotted), Number(length));
  return network.prefix > 30 || ![network.base, lastOf(network)].includes(ipv4(dotted));
}

const MAC = 'must be a MAC address, six pairs of hex digits with colons';

const mac = text(MAC).check(
  z.regex(/^[0-9A-Fa-f]{2}(:[0-9A-Fa-f]{2}){5}$/, { error: MAC, abort: true }),
  z.toLowerCase(),
  z.refine((hex) => hex !== '00:00:00:00:00:00', { error: 'must be the MAC address of a NIC, not zero', abort: true }),
  // The lowest bit of the first byte: group addresses, broadcast among them.
  z.refine((hex) => Number.parseInt(hex.slice(0, 2), 16) % 2 === 0, {
    error: 'must be the MAC address of one NIC, not multicast or broadcast',
  }),
);

const NAME = 'must be 1 to 64 letters, digits, spaces, dots, dashes or underscores, with no space at an end';
// Renderers write it in quotes: bare, a space would end an assignment of the shell.
const name = text(NAME).check(z.regex(/^(?! )[A-Za-z0-9 ._-]{1,64}$(?<! )/, { error: NAME }));

const BRIDGE = 'must be the name of a link: 1 to 15 letters, digits, dots, dashes or underscores, no dot or dash first';
const bridge = text(BRIDGE).check(
  z.regex(/^[A-Za-z0-9_][A-Za-z0-9_.-]{0,14}$/, { error: BRIDGE, abort: true }),
  // net.ipv4.conf.all and .default are not links, and lo is one already.
  z.refine((link) => !['all', 'default', 'lo'].includes(link), { error: 'must not be all, default or lo' }),
  z.refine((link) => !OF_OPEN_VSWITCH.test(link), {
    error: 'must be another name than those that Open vSwitch has for itself, such as br-ex',
  }),
);

/** Of its datapaths, and how links of its tunnels begin: it makes no bridge that is called so, and a link of others is in its way. */
const OF_OPEN_VSWITCH =
  /^(ovs-(system|netdev)$|(bareudp|erspan|genev|gre|gtpu|ip6erspan|ip6gre|lisp|srv6|stt|vxlan)_sys)/;

const BRIDGE_TYPE = 'must be ovs or linux';
const PROTOCOL = 'must be tcp or udp';
const TARGET = 'must be an IPv4 address, masquerade or none';

const protocol = z.pipe(
  z
    .string({ error: PROTOCOL })
    .check(z.regex(/^([Tt][Cc][Pp]|[Uu][Dd][Pp])$/, { error: PROTOCOL, abort: true }), z.toLowerCase()),
  z.enum(['tcp', 'udp']),
);

const KEPT_LIST = 'must be a list of addresses, such as [192.0.2.5/32]';

const port = whole(1, 65535, 'a port');

const nicKeys = z.object({
  ipaddr: described(address, "The NIC's own IPv4 address.", '10.90.3.37'),
  prefix: described(whole(1, 32, 'a whole number'), 'Length of its network, in bits.', 24),
  mac: described(mac, 'MAC address that finds the NIC, in any case.', '52:54:84:00:08:46'),
  gateway: z.exactOptional(
    described(
      address,
      'Next hop to the outside: makes the NIC an uplink. Without it, the NIC is a subnet.',
      '10.90.3.1',
    ),
  ),
  name: z.exactOptional(described(name, 'A label for messages.', 'public')),
  // The kernel takes 68 and more; below 576, what every IPv4 host must take, it is a slip.
  mtu: z.exactOptional(described(whole(576, 65535, 'a whole number'), 'Largest packet, in bytes.', 1450)),
  bridge: z.exactOptional(
    described(bridge, 'Bridge that the NIC becomes a port of; the addresses live on the bridge.', 'br-ex'),
  ),
  'bridge-type': z.exactOptional(
    described(z.enum(['ovs', 'linux'], { error: BRIDGE_TYPE }), 'Kind of the bridge: ovs (default) or linux.', 'ovs'),
  ),
  'keep-addresses': z.exactOptional(
    described(
      z.array(kept, { error: KEPT_LIST }),
      'Addresses that others put on the NIC and that stay there: of keepalived, for one.',
      ['10.90.3.200/32'],
    ),
  ),
});

const eipKeys = z.object({
  eip: described(address, 'The elastic IP.', '10.90.2.250'),
  'vm-ip': described(address, 'The VM it stands for, 1:1.', '192.168.100.190'),
});

const forwardKeys = z.object({
  eip: described(address, "The elastic IP, or the uplink's own address.", '10.90.2.254'),
  protocol: described(protocol, 'tcp or udp.', 'tcp'),
  port: described(port, 'The port outside, or the first of a range.', 80),
  end_port: z.exactOptional(described(port, 'The last port of the range.', 82)),
  'vm-port': described(port, 'The port on the VM, or the first of the range there.', 8080),
  'vm-ip': described(address, 'The VM.', '192.168.100.190'),
});

const routeKeys = z.object({
  dest: described(
    network('must be a network, such as 192.0.2.0/24', String),
    'Network behind the next hop, as CIDR.',
    '172.16.0.0/16',
  ),
  via: described(address, 'Next hop, in the network of a NIC.', '192.168.100.1'),
});

const snatKeys = z.object({
  source: described(
    network('must be a network, such as 192.0.2.0/24, or an address', (dotted) => `${dotted}/32`),
    'Network, as CIDR, or address inside.',
    '172.24.4.0/24',
  ),
  to: described(
    z.union([z.enum(['masquerade', 'none']), address], {
      error: ({ input }) => (parseCidr(`${input}/32`) ? UNICAST : TARGET),
    }),
    "Source address it leaves with; masquerade: the uplink's; none: its own.",
    'masquerade',
  ),
});

export const nicSchema = entry(
  nicKeys,
  ({ bridge, 'bridge-type': type = 'ovs', 'keep-addresses': keepAddresses, ...nic }): Nic => ({
    ...nic,
    ...(bridge !== undefined && { bridge: { name: bridge, type } }),
    ...(keepAddresses !== undefined && { keepAddresses }),
  }),
  ['keep-addresses'],
);

export const eipSchema = entry(eipKeys, ({ eip, 'vm-ip': vmIp }): Eip => ({ eip, vmIp }));

export const forwardSchema = entry(
  forwardKeys,
  ({ eip, protocol, port, end_port: endPort = port, 'vm-port': vmPort, 'vm-ip': vmIp }): Forward => ({
    eip,
    protocol,
    port,
    endPort,
    vmPort,
    vmIp,
  }),
);

export const routeSchema = entry(routeKeys, (route): StaticRoute => route);

export const snatSchema = entry(
  snatKeys,
  ({ source, to }): Snat => ({
    source,
    to: to === 'masquerade' || to === 'none' ? to : { address: to },
  }),
);

const FROM_UPLINK = 'must be drop or forward';

export const fromUplinkSchema: z.ZodMiniType<Config['fromUplink']> = z.enum(['drop', 'forward'], {
  error: FROM_UPLINK,
});

export const pciRescanSchema: z.ZodMiniType<boolean> = z.boolean({ error: 'must be true or false' });

const lists = {
  if_list: described(z.array(nicSchema.schema), 'The NICs, found by MAC. The first with a gateway is the uplink.'),
  eip_list: z.exactOptional(described(z.array(eipSchema.schema), 'Elastic IPs, each mapped 1:1 to a VM.')),
  port_forward_list: z.exactOptional(
    described(z.array(forwardSchema.schema), 'Ports of elastic IPs that lead to VMs.'),
  ),
  route_list: z.exactOptional(described(z.array(routeSchema.schema), 'Networks behind other routers.')),
  snat_list: z.exactOptional(
    described(
      z.array(snatSchema.schema),
      'Source NAT where it is not the default, which is that every subnet leaves as the uplink. []: none.',
    ),
  ),
};

const settings = {
  'from-uplink': z.exactOptional(
    described(
      fromUplinkSchema,
      "New connections from the uplink's side to private addresses of VMs: forward (default) or drop.",
      'drop',
    ),
  ),
  'pci-rescan': z.exactOptional(
    described(
      pciRescanSchema,
      'On aarch64, whether a reload that somebody asks for may look on the PCI bus for a NIC that is missing: true (default) or false.',
      false,
    ),
  ),
};

export const fileSchema = z.object({ ...lists, ...settings });

export type ListName = keyof typeof lists;
/** A key at top level that is no list. */
export type SettingName = keyof typeof settings;

function entry<Shape extends Readonly<Record<string, z.ZodMiniType>>, T>(
  keys: z.ZodMiniObject<Shape>,
  toConfig: (written: z.output<z.ZodMiniObject<Shape>>) => T,
  lists: readonly string[] = [],
): EntrySchema<T> {
  return {
    keys: Object.keys(keys.shape),
    lists,
    schema: z.pipe(keys, z.transform(toConfig)) as unknown as z.ZodMiniType<T>,
  };
}
