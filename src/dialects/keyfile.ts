// NetworkManager keyfiles: /etc/NetworkManager/system-connections/kylin-vr-*.nmconnection, root's, 0600 (looser ones are
// ignored). Pure.

import type { BoundNic } from '../network/nics.ts';
import { type FoundKeys, takenKeys, withoutIpv6 } from '../network/profile-keys.ts';
import {
  NOT_AT_BOOT,
  PROFILE_HEADER,
  type ProfileClaim,
  type ProfileFolder,
  profileUuid,
  type Renderer,
  type Rendering,
} from '../network/renderer.ts';
import type { File } from '../network/state.ts';

const FOLDER = '/etc/NetworkManager/system-connections';

export const keyfileRenderer: Renderer = {
  name: 'keyfile',
  folder: FOLDER,
  render: (rendering) =>
    rendering.nics.map(
      (nic): File => ({
        device: nic.device,
        path: `${FOLDER}/kylin-vr-${nic.device}.nmconnection`,
        content: `${[PROFILE_HEADER, ...keyfile(nic, rendering)].join('\n')}\n`,
        mode: 0o600,
      }),
    ),
  // It needs no extension: a copy beside the file is a profile too. Passed over are what editors leave behind and certificates.
  isProfile: (fileName) => !/^\.|~$|\.(pem|der|[A-Za-z0-9]{6})$/i.test(fileName),
  claim: (_fileName, content) => claimOf(parse(content)),
  isOurs: (content) => isOurs(parse(content)),
  keys: (content) => keysOf(parse(content)),
  keepable: withoutIpv6,
  priority(content) {
    const settings = parse(content);
    if (settings.get('connection.autoconnect') === 'false') return NOT_AT_BOOT;
    return Number(settings.get('connection.autoconnect-priority')) || 0;
  },
};

/**
 * Profiles that end with the boot: netplan's, those of an initrd, `nmcli connection add … save no`. What NetworkManager makes for a NIC
 * that somebody else set up is there too, and says that it is its own.
 */
export const keyfilesOfBoot: ProfileFolder = {
  folder: '/run/NetworkManager/system-connections',
  isProfile: (fileName) => fileName.endsWith('.nmconnection'),
  claim(_fileName, content) {
    const settings = parse(content);
    return settings.get('.nmmeta.nm-generated') === 'true' ? undefined : claimOf(settings);
  },
  isOurs: keyfileRenderer.isOurs,
  keys: keyfileRenderer.keys,
  priority: keyfileRenderer.priority,
};

function keyfile(nic: BoundNic, rendering: Rendering): string[] {
  const onDevice = ({ device }: { device: string }) => device === nic.device;
  const routes = rendering.routes.filter(onDevice);
  const gateway = routes.find(({ dest }) => dest === 'default');
  const { zone, dns, dnsSearch, dnsOptions, dnsPriority } = rendering.keys.get(nic.device) ?? {};
  return [
    '[connection]',
    `id=kylin-vr-${nic.device}`,
    `uuid=${profileUuid(nic.mac)}`,
    // Bound to the MAC alone: a NIC that is renamed keeps its profile, active.
    'type=ethernet',
    // Before the profile that an image or an installer left behind (0). No number is before all: what claims our NIC with a higher one
    // is put aside before NetworkManager reads it (kylin-vr.service).
    'autoconnect-priority=100',
    ...(zone === undefined ? [] : [`zone=${zone}`]),
    '',
    '[ethernet]',
    `mac-address=${nic.mac.toUpperCase()}`,
    ...(nic.mtu === undefined ? [] : [`mtu=${nic.mtu}`]),
    '',
    '[ipv4]',
    'method=manual',
    ...rendering.addresses.filter(onDevice).map(({ spec }, index) => `address${index + 1}=${spec}`),
    // Said for every NIC: NetworkManager's own choice depends on which NIC came first, and another's may beat it.
    `route-metric=${gateway?.metric ?? 0}`,
    ...(gateway === undefined ? ['never-default=true'] : [`gateway=${gateway.via}`]),
    ...routes
      .filter((route) => route !== gateway)
      .map(({ dest, via, metric }, index) => `route${index + 1}=${dest},${via},${metric}`),
    // No probe for conflicts, whatever NetworkManager's configured default is.
    'dad-timeout=0',
    'ignore-auto-dns=true',
    ...listLine('dns', dns),
    ...listLine('dns-search', dnsSearch),
    ...listLine('dns-options', dnsOptions),
    ...(dnsPriority === undefined ? [] : [`dns-priority=${dnsPriority}`]),
    '',
    '[ipv6]',
    // Neither set up nor switched off: an operator may be in over it.
    'method=ignore',
  ];
}

const listLine = (key: string, values: readonly string[] = []): string[] =>
  values.length === 0 ? [] : [`${key}=${values.map((value) => `${value};`).join('')}`];

function isOurs(settings: ReadonlyMap<string, string>): boolean {
  const { mac } = claimOf(settings) ?? {};
  return mac !== undefined && settings.get('connection.uuid') === profileUuid(mac);
}

function keysOf(settings: ReadonlyMap<string, string>): FoundKeys {
  const list = (key: string) => ['ipv4', 'ipv6'].flatMap((of) => settings.get(`${of}.${key}`)?.split(/[;,]\s*/) ?? []);
  return takenKeys({
    zone: settings.get('connection.zone'),
    dns: list('dns'),
    dnsSearch: list('dns-search'),
    dnsOptions: list('dns-options'),
    dnsPriority: settings.get('ipv4.dns-priority'),
  });
}

/** A profile for another type of connection, or for no NIC in particular, claims none. */
function claimOf(settings: ReadonlyMap<string, string>): ProfileClaim | undefined {
  const type = settings.get('connection.type');
  if (type !== undefined && type !== 'ethernet' && type !== '802-3-ethernet') return undefined;
  const mac = (settings.get('ethernet.mac-address') ?? settings.get('802-3-ethernet.mac-address'))?.toLowerCase();
  const device = settings.get('connection.interface-name');
  if (mac === undefined && device === undefined) return undefined;
  return { ...(mac !== undefined && { mac }), ...(device !== undefined && { device }) };
}

/** `section.key` → value, without addresses: ours have thousands. */
function parse(content: string): Map<string, string> {
  const settings = new Map<string, string>();
  let section = '';
  for (const line of content.split('\n')) {
    if (line.startsWith('address')) continue;
    const [, name] = /^\s*\[([^\]]+)\]/.exec(line) ?? [];
    if (name !== undefined) section = name;
    const [, key, value] = /^\s*([^#=\s][^=]*?)\s*=\s*(.*?)\s*$/.exec(line) ?? [];
    if (key !== undefined && value !== undefined) settings.set(`${section}.${key}`, value);
  }
  return settings;
}
