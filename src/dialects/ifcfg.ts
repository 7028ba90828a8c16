// ifcfg-* and route-* files of /etc/sysconfig/network-scripts, for NetworkManager's ifcfg-rh plugin and for initscripts,
// whose bash sources them: no value here can mean anything to a shell (the schema lets only addresses, numbers and MACs in,
// nics.ts only plain device names). Pure.

import type { BoundNic } from '../network/nics.ts';
import { FILE_MARK, type File } from '../network/state.ts';
import { type ProfileClaim, profileUuid, type Renderer, type Rendering } from './renderer.ts';

const FOLDER = '/etc/sysconfig/network-scripts';

const HEADER = `${FILE_MARK} from /etc/kylin-vr/kylin-vr.yaml: edits are lost with the next reload.`;

export const ifcfgRenderer: Renderer = {
  name: 'ifcfg',
  folder: FOLDER,
  render: (rendering) => rendering.nics.flatMap((nic) => filesOf(nic, rendering)),
  // NetworkManager passes over what editors and rpm leave behind, but not over .rpmsave.
  isProfile: (fileName) => /^(ifcfg|route)-/.test(fileName) && !IGNORED.test(fileName),
  passesOver: (device) => (IGNORED.test(device) || INITSCRIPTS_IGNORE.test(device) ? `ifcfg-${device}` : undefined),
  claim: claimOf,
};

const IGNORED = /(~|\.(bak|orig|rej|rpmnew|augnew|augtmp)|;[0-9a-f]{8})$/i;

/** `ifcfg-eth0-range0` is a range of addresses to them. */
const INITSCRIPTS_IGNORE = /\.(old|rpmorig|rpmsave)$|-range/;

function filesOf(nic: BoundNic, rendering: Rendering): File[] {
  const onDevice = ({ device }: { device: string }) => device === nic.device;
  const routes = rendering.routes.filter(onDevice).filter(({ dest }) => dest !== 'default');
  const files = [file(nic, 'ifcfg', ifcfg(nic, rendering))];
  if (routes.length > 0)
    files.push(
      file(
        nic,
        'route',
        routes.map(({ dest, via, device, metric }) => `${dest} via ${via} dev ${device} metric ${metric}`),
      ),
    );
  return files;
}

/** As NetworkManager reads it, which knows no such key: profiles of 1.0, which have none, say the same to it. */
export const asManagerReads = (content: string): string => content.replace(/^ARPUPDATE\d*=no\n/gm, '');

const file = ({ device }: BoundNic, kind: 'ifcfg' | 'route', lines: readonly string[]): File => ({
  device,
  path: `${FOLDER}/${kind}-${device}`,
  content: `${[HEADER, ...lines].join('\n')}\n`,
  mode: 0o644,
});

function ifcfg(nic: BoundNic, rendering: Rendering): string[] {
  const specs = rendering.addresses.filter(({ device }) => device === nic.device).map(({ spec }) => spec);
  const gateway = rendering.routes.find(({ dest, device }) => dest === 'default' && device === nic.device);
  const metric = gateway?.metric ?? 0;
  return [
    'TYPE=Ethernet',
    `DEVICE=${nic.device}`,
    `NAME=kylin-vr-${nic.device}`,
    `UUID=${profileUuid(nic.mac)}`,
    `HWADDR=${nic.mac.toUpperCase()}`,
    'ONBOOT=yes',
    'BOOTPROTO=none',
    `DEFROUTE=${gateway === undefined ? 'no' : 'yes'}`,
    'PEERDNS=no',
    'IPV6INIT=no',
    ...(nic.mtu === undefined ? [] : [`MTU=${nic.mtu}`]),
    ...(gateway === undefined ? [] : [`GATEWAY=${gateway.via}`]),
    // Of the default route, for initscripts and for NetworkManager, whose own choice another NIC's may beat.
    ...(metric === 0 ? [] : [`METRIC=${metric}`]),
    `IPV4_ROUTE_METRIC=${metric}`,
    // Before the profile that an image or an installer left behind (0).
    'AUTOCONNECT_PRIORITY=100',
    // The index has no gap: readers stop at the first. No probe for conflicts: it cost 38 s, and failed reloads. Nor does ifup-eth
    // announce them, which takes it a second each: the first reload does (left.ts).
    'ARPING_WAIT=0',
    'ACD_TIMEOUT=0',
    ...specs.flatMap((spec, index) => {
      const [address, prefix] = spec.split('/');
      const suffix = index === 0 ? '' : index;
      return [
        `IPADDR${suffix}=${address}`,
        `PREFIX${suffix}=${prefix}`,
        `ARPCHECK${suffix}=no`,
        `ARPUPDATE${suffix}=no`,
      ];
    }),
  ];
}

function claimOf(fileName: string, content: string): ProfileClaim | undefined {
  // What follows a colon is the name of an alias, whose address NetworkManager adds to the profile of its NIC.
  const [nameOf = ''] = fileName.replace(/^(ifcfg|route)-/, '').split(':');
  if (fileName.startsWith('route-')) return { device: nameOf };
  const mac = assigned(content, 'HWADDR')?.toLowerCase();
  const device = assigned(content, 'DEVICE')?.split(':')[0] ?? (mac === undefined ? nameOf : undefined);
  return { ...(mac !== undefined && { mac }), ...(device !== undefined && { device }) };
}

/** The value of the last assignment of a key, without its quotes. */
function assigned(content: string, key: string): string | undefined {
  const assignments = [...content.matchAll(new RegExp(`^[ \\t]*${key}=[ \\t]*(['"]?)([^'"\\n#]*)\\1`, 'gm'))];
  const value = assignments.at(-1)?.[2]?.trim();
  return value === '' ? undefined : value;
}
