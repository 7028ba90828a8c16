// NetworkManager keyfiles: /etc/NetworkManager/system-connections/kylin-vr-*.nmconnection, root's, 0600 (looser ones are
// ignored). Pure.

import type { BoundNic } from '../network/nics.ts';
import { FILE_MARK, type File } from '../network/state.ts';
import { type ProfileClaim, type ProfileFolder, profileUuid, type Renderer, type Rendering } from './renderer.ts';

const FOLDER = '/etc/NetworkManager/system-connections';

/** The mark is a comment: older NetworkManagers refuse a section that they do not know. */
const HEADER = `${FILE_MARK} from /etc/kylin-vr/kylin-vr.yaml: edits are lost with the next reload.`;

export const keyfileRenderer: Renderer = {
  name: 'keyfile',
  folder: FOLDER,
  render: (rendering) =>
    rendering.nics.map(
      (nic): File => ({
        device: nic.device,
        path: `${FOLDER}/kylin-vr-${nic.device}.nmconnection`,
        content: `${[HEADER, ...keyfile(nic, rendering)].join('\n')}\n`,
        mode: 0o600,
      }),
    ),
  // It needs no extension: a copy beside the file is a profile too. Passed over are what editors leave behind and certificates.
  isProfile: (fileName) => !/^\.|~$|\.(pem|der|[A-Za-z0-9]{6})$/i.test(fileName),
  claim: (_fileName, content) => claimOf(parse(content)),
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
};

function keyfile(nic: BoundNic, rendering: Rendering): string[] {
  const onDevice = ({ device }: { device: string }) => device === nic.device;
  const routes = rendering.routes.filter(onDevice);
  const gateway = routes.find(({ dest }) => dest === 'default');
  return [
    '[connection]',
    `id=kylin-vr-${nic.device}`,
    `uuid=${profileUuid(nic.mac)}`,
    // Bound to the MAC alone: a NIC that is renamed keeps its profile, active.
    'type=ethernet',
    // Before the profile that an image or an installer left behind (0). No number is before all: what claims our NIC with a higher one
    // is put aside before NetworkManager reads it (kylin-vr.service).
    'autoconnect-priority=100',
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
    '',
    '[ipv6]',
    // Neither set up nor switched off: an operator may be in over it.
    'method=ignore',
  ];
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

/** `section.key` → value. */
function parse(content: string): Map<string, string> {
  const settings = new Map<string, string>();
  let section = '';
  for (const line of content.split('\n')) {
    const [, name] = /^\s*\[([^\]]+)\]/.exec(line) ?? [];
    if (name !== undefined) section = name;
    const [, key, value] = /^\s*([^#=\s][^=]*?)\s*=\s*(.*?)\s*$/.exec(line) ?? [];
    if (key !== undefined && value !== undefined) settings.set(`${section}.${key}`, value);
  }
  return settings;
}
