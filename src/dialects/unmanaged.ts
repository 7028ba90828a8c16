// The devices that NetworkManager is to leave alone: a drop-in of its configuration. Pure.

import { FILE_MARK, type File } from '../network/state.ts';

/** Where NetworkManager is installed. */
export const MANAGER_FOLDER = '/etc/NetworkManager';

/** Do not change: an upgrade would leave the old one behind. */
export const UNMANAGED_PATH = `${MANAGER_FOLDER}/conf.d/90-kylin-vr-bridges.conf`;

/**
 * NICs that are ports, and their bridges: NetworkManager would set up a port as a NIC of its own. None where there are none.
 * `returning`: what it is to have again; named until it has.
 */
export function unmanagedFiles(devices: readonly string[], returning: readonly string[] = []): File[] {
  if (devices.length + returning.length === 0) return [];
  const lines = [
    `${FILE_MARK} from /etc/kylin-vr/kylin-vr.yaml: edits are lost with the next reload.`,
    ...(devices.length === 0 ? [] : ['[keyfile]', `unmanaged-devices+=${devices.map(matching).join(';')}`]),
    ...returning.map((device) => `# ${matching(device)} is NetworkManager's again`),
  ];
  return [{ path: UNMANAGED_PATH, content: `${lines.join('\n')}\n`, mode: 0o644 }];
}

const matching = (device: string): string => `interface-name:=${device}`;

/** The devices that such a file names. */
export const unmanagedIn = (content: string): string[] =>
  [...content.matchAll(/interface-name:=([^;\s]+)/g)].map(([, device = '']) => device);
