// What `install` puts on a guest: the same paths as the package, so that neither hides the other. Pure.

import { PATHS } from '../base/paths.ts';
import type { Source } from './sources.ts';

/** What is at a path. Content is one character a byte, so that a record of it gives back every byte. */
export type TreeEntry =
  | { kind: 'absent' }
  | { kind: 'file'; content: string; mode: number }
  | { kind: 'link'; target: string }
  | { kind: 'folder'; mode: number }
  /** Nothing that is read, or that could be put back: `what` says why. */
  | { kind: 'other'; what: string };

/** `forGood`: not to be taken back, so not recorded. */
export type Wanted = { path: string; entry: TreeEntry; reason?: string; forGood?: true };

export const ABSENT: TreeEntry = { kind: 'absent' };

export const UNIT_FOLDER = PATHS.units;
export const PROGRAM = '/usr/bin/kylin-vr';

/** Where units look for `node`: the PATH that systemd gives them. */
export const UNIT_PATH = ['/usr/local/sbin', '/usr/local/bin', '/usr/sbin', '/usr/bin'];

/**
 * The program's first line: Node gets an environment with nothing in it but what we ask for, since NODE_OPTIONS, say, makes it run any
 * code as root before a line of ours, and no flag of Node's keeps it from that. env(1) costs next to nothing; a shell would
 * itself heed what is in the environment. Its -S came with coreutils 8.30, which every system has that Node 20 runs on (glibc 2.28).
 * Linux before 5.1 reads 127 characters of it.
 */
export const firstLine = (node: string): string =>
  `#!/usr/bin/env -S -i ${node.startsWith('/') ? '' : `PATH=${UNIT_PATH.join(':')} `}TERM=\${TERM} NO_COLOR=\${NO_COLOR} ${node}`;

export const CONFIG_TEMPLATE: Source = 'packaging/kylin-vr.yaml';

/**
 * The files that a guest gets, packaged or not; the configuration and the program aside. A path that was ever in a list of this file
 * stays one that a record may name (machine/tree.ts).
 */
export const FILES: readonly { path: string; mode: number; source: Source }[] = [
  { path: `${UNIT_FOLDER}/kylin-vr.service`, mode: 0o644, source: 'systemd/kylin-vr.service' },
  { path: `${UNIT_FOLDER}/kylin-vr-reload.service`, mode: 0o644, source: 'systemd/kylin-vr-reload.service' },
  { path: `${UNIT_FOLDER}/kylin-vr-reload.path`, mode: 0o644, source: 'systemd/kylin-vr-reload.path' },
  { path: `${UNIT_FOLDER}/kylin-vr-reload.timer`, mode: 0o644, source: 'systemd/kylin-vr-reload.timer' },
  { path: `${UNIT_FOLDER}/kylin-vr-firewalld.service`, mode: 0o644, source: 'systemd/kylin-vr-firewalld.service' },
  { path: `${UNIT_FOLDER}/kylin-vr-mark.service`, mode: 0o644, source: 'systemd/kylin-vr-mark.service' },
  { path: '/usr/lib/udev/rules.d/90-kylin-vr.rules', mode: 0o644, source: 'udev/90-kylin-vr.rules' },
  { path: '/usr/lib/tmpfiles.d/kylin-vr.conf', mode: 0o644, source: 'packaging/tmpfiles.conf' },
  { path: '/usr/lib/NetworkManager/conf.d/90-kylin-vr.conf', mode: 0o644, source: 'packaging/networkmanager.conf' },
  { path: '/etc/logrotate.d/kylin-vr', mode: 0o644, source: 'packaging/logrotate.conf' },
  { path: '/usr/bin/kylin-vr.py', mode: 0o755, source: 'packaging/kylin-vr.py' },
  { path: '/usr/local/bin/kylin-vr.py', mode: 0o755, source: 'packaging/kylin-vr.py' },
];

export const NETWORKMANAGER_FILE = '/usr/lib/NetworkManager/conf.d/90-kylin-vr.conf';
export const FIREWALLD_POLICY = PATHS.firewalldPolicy;

/** What kylin-vr.py 0.1 left in /etc, where it would stand in for ours or run beside it. */
export const LEFTOVERS: readonly { path: string; is01: (content: string) => boolean }[] = [
  { path: '/etc/udev/rules.d/80-kylin-vr.rules', is01: () => true },
  // One that an operator put there to override ours stays.
  { path: '/etc/systemd/system/kylin-vr.service', is01: (content) => content.includes('kylin-vr.py') },
];

/** The links that `systemctl enable kylin-vr.service` makes, read from the units themselves. */
export function enablingLinks(units: Readonly<Record<string, string>>): { path: string; target: string }[] {
  return Object.entries(units).flatMap(([name, text]) =>
    [...text.matchAll(/^WantedBy=(.+)$/gm)].flatMap(([, wanted = '']) =>
      wanted.split(' ').map((by) => ({
        path: `/etc/systemd/system/${by}.wants/${name}`,
        target: `${UNIT_FOLDER}/${name}`,
      })),
    ),
  );
}

/** A text as an entry's content. */
export const contentOf = (text: string | Uint8Array): string => Buffer.from(text).toString('latin1');
export const bytesOf = (content: string): Uint8Array => Buffer.from(content, 'latin1');
export const textOf = (content: string): string => Buffer.from(content, 'latin1').toString('utf8');
