// The devices that NetworkManager is to leave alone: a drop-in of its configuration. Pure.

import { FILE_MARK, type File } from '../network/state.ts';

/** Where NetworkManager is installed. */
export const MANAGER_FOLDER = '/etc/NetworkManager';

/** Do not change: an upgrade would leave the old one behind. */
export const UNMANAGED_PATH = `${MANAGER_FOLDER}/conf.d/90-kylin-vr-bridges.conf`;

/** NICs that are ports, and their bridges: NetworkManager would set up a port as a NIC of its own. None where there are none. */
export function unmanagedFiles(devices: readonly string[]): File[] {
  if (devices.length === 0) return [];
  const content = `${FILE_MARK} from /etc/kylin-vr/kylin-vr.yaml: edits are lost with the next reload.
[keyfile]
unmanaged-devices+=${devices.map((device) => `interface-name:=${device}`).join(';')}
`;
  return [{ path: UNMANAGED_PATH, content, mode: 0o644 }];
}

/** The devices that such a file names. */
export const unmanagedIn = (content: string): string[] =>
  [...content.matchAll(/interface-name:=([^;\s]+)/g)].map(([, device = '']) => device);
