// What holds for our NICs where their profiles say nothing, whatever an image has made NetworkManager's default: a drop-in of its
// configuration. Not a matter of the profiles: one in which cloned-mac-address is new is not reapplied, and activated anew it would
// lose every address; and what it would be in an ifcfg file initscripts do not know. Pure.

import { FILE_MARK, type File } from '../network/state.ts';
import { MANAGER_FOLDER } from './unmanaged.ts';

/** Of sections of several files those of the last one win. Do not change: an upgrade would leave the old one behind. */
export const DEFAULTS_PATH = `${MANAGER_FOLDER}/conf.d/zz-kylin-vr.conf`;

/** `nics`: those of the file, there or not. `named`: devices without a MAC of their hardware, by which NetworkManager would know them. */
export function defaultsFile(nics: readonly { mac: string }[], named: readonly string[]): File {
  const devices = [...nics.map(({ mac }) => `mac:${mac}`), ...named.map((device) => `interface-name:=${device}`)];
  const lines = [
    `${FILE_MARK} from /etc/kylin-vr/kylin-vr.yaml: edits are lost with the next reload.`,
    '[connection-kylin-vr]',
    `match-device=${devices.join(';')}`,
    // By its MAC a NIC is known, here and to the cloud.
    'ethernet.cloned-mac-address=preserve',
    // 0: the main one, and no other is looked at.
    'ipv4.route-table=0',
  ];
  return { path: DEFAULTS_PATH, content: `${lines.join('\n')}\n`, mode: 0o644 };
}

/** Where NetworkManager reads its configuration, the last wins. */
export const CONFIGURATION_FOLDERS = [
  '/usr/lib/NetworkManager/conf.d',
  '/run/NetworkManager/conf.d',
  MANAGER_FOLDER,
  `${MANAGER_FOLDER}/conf.d`,
] as const;

/** What a file of its configuration makes the MAC of NICs, where it is not the one they have: `random`. */
export const macIn = (content: string): string | undefined =>
  [...content.matchAll(/^[ \t]*ethernet\.cloned-mac-address[ \t]*=[ \t]*(\S+)/gm)]
    .map(([, value = '']) => value)
    .findLast((value) => value !== 'preserve' && value !== 'permanent');
