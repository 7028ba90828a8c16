// A laboratory of network namespaces: an internet, a router, and two tenant subnets.
//
//   far ──── out ════ public ════ router ════ a ════ v, w
//                                        ════ b ════ x, y
//
// With `beyond` there are three more: a neighbour on the uplink's segment, z behind w, and a second provider's gateway, by
// which far is reached, too:
//
//   far ──── alt ════ second ════ router          neighbour ════ public          a ════ w ──── z
//
// `═` is a bridge in a namespace of its own, so that the hosts of one segment share one L2. `out` is the provider's
// gateway and reaches the EIPs on the segment itself, by ARP; `far` is behind it. Nothing of the lab is visible outside it.

import { join, resolve } from 'node:path';
import { createNamespace, type Namespace, type RunResult } from './namespace.ts';
import { underPromise, type Watch, type Witness, watchUplinks } from './witness.ts';

export type HostName = keyof typeof ADDRESSES;
export type Segment = 'public' | 'second' | 'a' | 'b';
export type Nic = { segment: Segment; device: string; mac: string };

export type LabOptions = {
  /** Which iptables the router has; nft when absent. */
  iptables?: 'nft' | 'legacy';
  /** `4.11`: an `ip` as that of CentOS 7 in the router (old-ip.sh), else the machine's own; as KYLIN_VR_IPROUTE says when absent. */
  iproute?: '4.11' | 'own';
  /** The router's NICs at first; all of `NICS` when absent. */
  nics?: readonly Nic[];
  /** Whether the router has /etc/sysconfig/network-scripts. */
  networkScripts?: boolean;
  /** The segments whose NICs are uplinks: `public` when absent, none where a witness would cost what is measured. */
  uplinks?: readonly Segment[];
  /** Whether there are neighbour, z and alt; the router's NIC on `second` is to be named in `nics`, or plugged. */
  beyond?: boolean;
};

export type LabHost = Pick<Namespace, 'pid' | 'run' | 'spawn'>;

export type Router = LabHost & {
  read(path: string): Promise<string | undefined>;
  write(path: string, text: string, mode?: number): Promise<void>;
  /** Puts a NIC in, as a hypervisor does; it is down. */
  plug(nic: Nic): Promise<void>;
  unplug(nic: Nic): Promise<void>;
};

export type Lab = {
  router: Router;
  host(name: HostName): LabHost;
  /** Takes the carrier from a NIC of the router, or gives it back. */
  wire(nic: Nic, state: 'up' | 'down'): Promise<void>;
  /** Writes the configuration of kylin-vr. */
  configure(yaml: string): Promise<void>;
  /** Runs kylin-vr in the router. */
  kylin(...args: string[]): Promise<RunResult>;
  /** Sees what leaves the router by an uplink. */
  witness: Witness;
  /** Ends the lab; throws when the witness has seen what kylin-vr promises not to happen. */
  close(): Promise<void>;
};

export const ADDRESSES = {
  far: '192.0.2.10',
  out: '203.0.113.1',
  router: '203.0.113.37',
  v: '10.10.1.11',
  w: '10.10.1.12',
  x: '10.10.2.21',
  y: '10.10.2.22',
  z: '172.24.0.9',
  alt: '198.18.0.1',
  neighbour: '203.0.113.9',
} as const;

/** The router's own addresses in the subnets. */
export const GATEWAYS = { a: '10.10.1.254', b: '10.10.2.254' } as const;

export const NICS = {
  public: { segment: 'public', device: 'eth0', mac: '52:54:84:00:08:46' },
  a: { segment: 'a', device: 'eth1', mac: '52:54:84:11:00:04' },
  b: { segment: 'b', device: 'eth2', mac: '52:54:84:11:00:05' },
} as const satisfies Partial<Record<Segment, Nic>>;

/** For the router, with `beyond`: its NIC on the second provider's segment, and its address there. */
export const SECOND = { segment: 'second', device: 'eth3', mac: '52:54:84:00:08:47' } as const satisfies Nic;
export const SECOND_ADDRESS = '198.18.0.37';
/** The network that z is in; w leads to it. */
export const BEHIND = '172.24.0.0/16';

/** The program under test, as `npm run build` makes it. */
export const PROGRAM = resolve(import.meta.dirname, '../../dist/kylin-vr.js');

const CONFIG = '/etc/kylin-vr/kylin-vr.yaml';
const VMS = [
  ['v', 'a'],
  ['w', 'a'],
  ['x', 'b'],
  ['y', 'b'],
] as const;

export async function createLab(options: LabOptions = {}): Promise<Lab> {
  const made: Namespace[] = [];
  const kill = () => {
    for (const namespace of made) namespace.kill();
  };
  let watch: Watch | undefined;
  const close = async () => {
    try {
      await watch?.verdict();
    } finally {
      watch = undefined;
      process.off('exit', kill);
      await Promise.all(made.map((namespace) => namespace.end()));
    }
  };
  process.on('exit', kill);

  try {
    const make = async (setup?: string) => {
      const namespace = await createNamespace(setup);
      made.push(namespace);
      return namespace;
    };
    // The router alone first: it is the one that can fail.
    const space = await make(routerSetup(options));
    const [wires, far, out, v, w, x, y] = await Promise.all([make(), make(), make(), make(), make(), make(), make()]);
    const more = options.beyond
      ? await Promise.all([make(), make(), make()]).then(([z, alt, neighbour]) => ({ z, alt, neighbour }))
      : { z: undefined, alt: undefined, neighbour: undefined };
    const { nics = Object.values(NICS), uplinks = ['public'] } = options;
    const macs = Object.values(NICS).map(({ mac }) => mac);
    watch = watchUplinks(wires, { router: space.pid, macs, hasUplinks: uplinks.length > 0 });
    const { witness, ready, indexFor } = watch;
    const router = underPromise(space, witness);
    const wireFor = (nic: Nic) =>
      routerWire(nic, router, uplinks.includes(nic.segment) ? indexFor(nic.device) : undefined);
    const spaces = { far, out, router, v, w, x, y };

    await batch(wires, [
      // A bridge that snoops says so by IGMP within its first seconds: packets that counters of a test would see.
      ...['public', 'a', 'b', ...(options.beyond ? ['second'] : [])].map(
        (segment) => `link add name ${segment} up type bridge mcast_snooping 0`,
      ),
      wire('public', 'out', `eth0 netns ${out.pid}`),
      ...VMS.map(([name, segment]) => wire(segment, name, `eth0 netns ${spaces[name].pid}`)),
      ...nics.map(wireFor),
    ]);
    await Promise.all([
      ready,
      internet(out, far),
      batch(router, ['link set lo up']),
      ...VMS.map(([name, segment]) => vm(spaces[name], `${ADDRESSES[name]}/24`, GATEWAYS[segment])),
    ]);
    if (more.z !== undefined) await beyond({ wires, far, w, ...more });
    return { ...labOf({ ...spaces, ...more }, wires, routerOf(router, wires, wireFor)), witness, close };
  } catch (error) {
    await close();
    throw error;
  }
}

/**
 * A private /etc and /var over the machine's, an empty /run, and a /sys that shows the namespace's NICs.
 * /mnt only carries the tmpfs into the overlays: they keep it when it is unmounted.
 * A new namespace takes its IPv4 settings from the machine's first one: back to the kernel's defaults.
 */
function routerSetup({ iptables = 'nft', networkScripts = false, iproute }: LabOptions): string {
  const isOld = (iproute ?? process.env.KYLIN_VR_IPROUTE) === '4.11';
  return `
    mount -t sysfs sysfs /sys
    mount -t tmpfs tmpfs /mnt
    for top in etc var; do
      mkdir -p /mnt/$top/upper /mnt/$top/work
      mount -t overlay overlay -o lowerdir=/$top,upperdir=/mnt/$top/upper,workdir=/mnt/$top/work /$top
    done
    ${isOld ? WITH_OLD_IP : ''}
    umount /mnt
    mount -t tmpfs -o mode=755 tmpfs /run
    mkdir /run/lock
    rm -rf /etc/kylin-vr /var/lib/kylin-vr /var/log/kylin-vr /etc/NetworkManager /etc/sysconfig/network-scripts
    ${networkScripts ? 'mkdir -p /etc/sysconfig/network-scripts' : ''}
    for tool in iptables iptables-save iptables-restore ip6tables ip6tables-save ip6tables-restore; do
      ln -sfn /usr/sbin/$(echo $tool | sed s/tables/tables-${iptables}/) /etc/alternatives/$tool
    done
    for setting in forwarding rp_filter promote_secondaries; do
      echo 0 > /proc/sys/net/ipv4/conf/all/$setting
      echo 0 > /proc/sys/net/ipv4/conf/default/$setting
    done`;
}

const WITH_OLD_IP = `
    mkdir -p /mnt/sbin/upper /mnt/sbin/work
    mount -t overlay overlay -o lowerdir=/usr/sbin,upperdir=/mnt/sbin/upper,workdir=/mnt/sbin/work /usr/sbin
    rm /usr/sbin/ip
    install -m 755 '${join(import.meta.dirname, 'old-ip.sh')}' /usr/sbin/ip`;

const wire = (segment: string, port: string, peer: string) =>
  `link add name ${port} master ${segment} up type veth peer name ${peer}`;

/** `index` where the witness looks at it: from its first frame on. */
const routerWire = ({ segment, device, mac }: Nic, router: Namespace, index?: number) =>
  wire(
    segment,
    `${device}${index === undefined ? '' : ` index ${index}`}`,
    `${device} address ${mac} netns ${router.pid}`,
  );

async function internet(out: Namespace, far: Namespace): Promise<void> {
  await batch(out, [
    'link set lo up',
    `address add ${ADDRESSES.out}/24 dev eth0`,
    'link set eth0 up',
    'route add 198.51.100.0/24 dev eth0',
    `link add eth1 up type veth peer name eth0 netns ${far.pid}`,
    'address add 192.0.2.1/24 dev eth1',
  ]);
  await Promise.all([
    out.run(['sysctl', '-qw', 'net.ipv4.ip_forward=1'], { check: true }),
    batch(far, [
      'link set lo up',
      `address add ${ADDRESSES.far}/24 dev eth0`,
      'link set eth0 up',
      'route add default via 192.0.2.1',
    ]),
  ]);
}

type Beyond = Record<'wires' | 'far' | 'w' | 'z' | 'alt' | 'neighbour', Namespace>;

async function beyond({ wires, far, w, z, alt, neighbour }: Beyond): Promise<void> {
  await batch(wires, [
    wire('second', 'alt', `eth0 netns ${alt.pid}`),
    wire('public', 'neighbour', `eth0 netns ${neighbour.pid}`),
  ]);
  await Promise.all([
    vm(neighbour, `${ADDRESSES.neighbour}/24`, ADDRESSES.out),
    batch(alt, [
      'link set lo up',
      `address add ${ADDRESSES.alt}/24 dev eth0`,
      'link set eth0 up',
      `link add eth1 up type veth peer name eth1 netns ${far.pid}`,
      'address add 198.18.1.1/24 dev eth1',
    ]),
    batch(w, [`link add eth1 up type veth peer name eth0 netns ${z.pid}`, `address add 172.24.0.1/16 dev eth1`]),
  ]);
  await Promise.all([
    batch(far, [
      'address add 198.18.1.10/24 dev eth1',
      'link set eth1 up',
      `route add 198.18.0.0/24 via 198.18.1.1 src ${ADDRESSES.far}`,
    ]),
    batch(alt, [`route add ${ADDRESSES.far} via 198.18.1.10`]),
    vm(z, `${ADDRESSES.z}/16`, '172.24.0.1'),
    ...[alt, w].map((space) => space.run(['sysctl', '-qw', 'net.ipv4.ip_forward=1'], { check: true })),
  ]);
}

const vm = (space: Namespace, address: string, gateway: string) =>
  batch(space, [
    'link set lo up',
    `address add ${address} dev eth0`,
    'link set eth0 up',
    `route add default via ${gateway}`,
  ]);

function labOf(
  spaces: Record<HostName, Namespace | undefined>,
  wires: Namespace,
  router: Router,
): Omit<Lab, 'witness' | 'close'> {
  return {
    router,
    host(name) {
      const space = spaces[name];
      if (space === undefined) throw new Error(`the lab has no ${name}: it was made without beyond`);
      return space;
    },
    wire: ({ device }, state) => batch(wires, [`link set dev ${device} ${state}`]),
    async configure(yaml) {
      await router.run(['mkdir', '-p', '-m', '700', '/etc/kylin-vr'], { check: true });
      await router.write(CONFIG, yaml, 0o600);
    },
    kylin: (...args) => router.run([process.execPath, PROGRAM, ...args]),
  };
}

function routerOf(space: Namespace, wires: Namespace, wireFor: (nic: Nic) => string): Router {
  return {
    ...space,
    async read(path) {
      const { status, stdout } = await space.run(['cat', path]);
      return status === 0 ? stdout : undefined;
    },
    async write(path, text, mode = 0o644) {
      const script = 'install -D -m "$1" /dev/null "$2" && cat > "$2"';
      await space.run(['sh', '-c', script, 'sh', mode.toString(8), path], { input: text, check: true });
    },
    plug: (nic) => batch(wires, [wireFor(nic)]),
    unplug: ({ device }) => batch(wires, [`link delete dev ${device}`]),
  };
}

async function batch(space: Namespace, commands: readonly string[]): Promise<void> {
  await space.run(['ip', '-batch', '-'], { input: commands.join('\n'), check: true });
}
