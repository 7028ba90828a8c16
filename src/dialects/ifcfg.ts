// ifcfg-* and route-* files of /etc/sysconfig/network-scripts, for NetworkManager's ifcfg-rh plugin and for initscripts,
// whose bash sources them: no value here can mean anything to a shell (the schema lets only addresses, numbers and MACs in,
// nics.ts only plain device names). Pure.

import type { BoundNic } from '../network/nics.ts';
import { type FoundKeys, takenKeys } from '../network/profile-keys.ts';
import {
  NOT_AT_BOOT,
  PROFILE_HEADER,
  type ProfileClaim,
  profileUuid,
  type Renderer,
  type Rendering,
} from '../network/renderer.ts';
import type { File } from '../network/state.ts';

const FOLDER = '/etc/sysconfig/network-scripts';

export const ifcfgRenderer: Renderer = {
  name: 'ifcfg',
  folder: FOLDER,
  render: (rendering) => rendering.nics.flatMap((nic) => filesOf(nic, rendering)),
  // NetworkManager passes over what editors and rpm leave behind, but not over .rpmsave.
  isProfile: (fileName) => /^(ifcfg|route)-/.test(fileName) && !IGNORED.test(fileName),
  passesOver: (device) => (IGNORED.test(device) || INITSCRIPTS_IGNORE.test(device) ? `ifcfg-${device}` : undefined),
  claim: claimOf,
  isOurs(content) {
    const mac = assigned(content, 'HWADDR')?.toLowerCase();
    return mac !== undefined && assigned(content, 'UUID') === profileUuid(mac);
  },
  keys: keysOf,
  priority: (content) =>
    assigned(content, 'ONBOOT') === 'no' ? NOT_AT_BOOT : Number(assigned(content, 'AUTOCONNECT_PRIORITY')) || 0,
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

const file = ({ device }: BoundNic, kind: 'ifcfg' | 'route', lines: readonly string[]): File => ({
  device,
  path: `${FOLDER}/${kind}-${device}`,
  content: `${[PROFILE_HEADER, ...lines].join('\n')}\n`,
  mode: 0o644,
});

function ifcfg(nic: BoundNic, rendering: Rendering): string[] {
  const specs = rendering.addresses.filter(({ device }) => device === nic.device).map(({ spec }) => spec);
  const gateway = rendering.routes.find(({ dest, device }) => dest === 'default' && device === nic.device);
  const metric = gateway?.metric ?? 0;
  const { zone, dns = [], dnsSearch = [], dnsOptions = [], dnsPriority } = rendering.keys.get(nic.device) ?? {};
  return [
    'TYPE=Ethernet',
    `DEVICE=${nic.device}`,
    `NAME=kylin-vr-${nic.device}`,
    `UUID=${profileUuid(nic.mac)}`,
    `HWADDR=${nic.mac.toUpperCase()}`,
    'ONBOOT=yes',
    'BOOTPROTO=none',
    `DEFROUTE=${gateway === undefined ? 'no' : 'yes'}`,
    // With it initscripts leave the resolver alone.
    ...(dns.length + dnsSearch.length === 0 ? ['PEERDNS=no'] : []),
    'IPV6INIT=no',
    ...(nic.mtu === undefined ? [] : [`MTU=${nic.mtu}`]),
    ...(gateway === undefined ? [] : [`GATEWAY=${gateway.via}`]),
    // Of the default route, for initscripts and for NetworkManager, whose own choice another NIC's may beat.
    ...(metric === 0 ? [] : [`METRIC=${metric}`]),
    `IPV4_ROUTE_METRIC=${metric}`,
    // Before the profile that an image or an installer left behind (0).
    'AUTOCONNECT_PRIORITY=100',
    ...(zone === undefined ? [] : [`ZONE=${zone}`]),
    ...dns.map((server, index) => `DNS${index + 1}=${server}`),
    ...(dnsSearch.length === 0 ? [] : [`DOMAIN="${dnsSearch.join(' ')}"`]),
    ...(dnsOptions.length === 0 ? [] : [`RES_OPTIONS="${dnsOptions.join(' ')}"`]),
    ...(dnsPriority === undefined ? [] : [`IPV4_DNS_PRIORITY=${dnsPriority}`]),
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

function keysOf(content: string): FoundKeys {
  const values = new Map<string, { plain: boolean; text: string }>();
  for (const [, key = '', raw = ''] of content.matchAll(KEPT_KEYS)) values.set(key, wordOf(raw.trim()));
  const text = (key: string) => values.get(key)?.text;
  const list = (key: string) => {
    const value = values.get(key);
    return value === undefined ? [] : value.plain ? value.text.split(/[ \t,]+/) : [value.text];
  };
  const servers = [...values.keys()].flatMap((key) => /^DNS(\d+)$/.exec(key)?.[1] ?? []);
  return takenKeys({
    zone: text('ZONE'),
    dns: servers.sort((one, other) => Number(one) - Number(other)).flatMap((number) => text(`DNS${number}`) ?? []),
    dnsSearch: list('DOMAIN'),
    dnsOptions: list('RES_OPTIONS'),
    dnsPriority: text('IPV4_DNS_PRIORITY'),
  });
}

const KEPT_KEYS = /^[ \t]*(ZONE|DNS\d{1,3}|DOMAIN|RES_OPTIONS|IPV4_DNS_PRIORITY)=([^\n]*)$/gm;

/** What is more than plain text to the shell stays as it is written, and fits nothing. */
function wordOf(raw: string): { plain: boolean; text: string } {
  const [plain, inDouble, inSingle, bare] = PLAIN.exec(raw) ?? [];
  return { plain: plain !== undefined, text: inDouble ?? inSingle ?? bare ?? raw };
}

const PLAIN = /^(?:"([^"$`\\]*)"|'([^']*)'|([\w.:/-][\w.:/#-]*|))(?:[ \t]+#.*)?$/;

/** The value of the last assignment of a key, without its quotes. */
function assigned(content: string, key: string): string | undefined {
  const assignments = [...content.matchAll(new RegExp(`^[ \\t]*${key}=[ \\t]*(['"]?)([^'"\\n#]*)\\1`, 'gm'))];
  const value = assignments.at(-1)?.[2]?.trim();
  return value === '' ? undefined : value;
}
