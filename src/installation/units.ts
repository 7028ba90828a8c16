// The units in the words of the systemd that reads them. One of before 236 (EL 7 has 219) passes over what it does not know, with a
// line in the journal for each at every daemon-reload, and what we need of that has another name there. Pure.

import type { Source } from './sources.ts';
import type { Wanted } from './tree.ts';

/** `219`: what systemd 219 knows, for all before 236. */
export type UnitSet = 'today' | '219';

/** LogLevelMax= came last of what a run needs or is quieter with. What came later is of the sandbox, and is missed by none. */
const FIRST_OF_TODAY = 236;

export const unitSetFor = (systemd: number | undefined): UnitSet =>
  systemd !== undefined && systemd < FIRST_OF_TODAY ? '219' : 'today';

/** Reads what `systemctl --version` prints. */
export function parseSystemd(text: string): number | undefined {
  const [, version] = /^systemd (\d+)/.exec(text) ?? [];
  return version === undefined ? undefined : Number(version);
}

/** As systemd before 230 has it, and no later one: what there is to tell by in an image. */
export const ONLY_OLD = ['/usr/lib/systemd/systemd-activate', '/lib/systemd/systemd-activate'];

/** The text of a file of ours for guests with these units; of what is no unit, as it is. */
export const textFor = (set: UnitSet, source: Source, text: string): string =>
  set === '219' && source.startsWith('systemd/') ? in219(text) : text;

/** What is made there by who installs: StateDirectory= and its like are unknown. */
export const foldersFor = (set: UnitSet): Wanted[] =>
  set === 'today' ? [] : FOLDERS.map(([path, mode]) => ({ path, entry: { kind: 'folder', mode } }));

export const FOLDERS: readonly (readonly [path: string, mode: number])[] = [
  ['/var/lib/kylin-vr', 0o700],
  ['/var/log/kylin-vr', 0o750],
  ['/var/cache/kylin-vr', 0o700],
];

/** Of the sandbox, the folders and the log. SystemCallFilter= is known, but its sets, @system-service, came with 231. */
const UNKNOWN = new Set([
  'StateDirectory',
  'StateDirectoryMode',
  'LogsDirectory',
  'LogsDirectoryMode',
  'CacheDirectory',
  'CacheDirectoryMode',
  'LogLevelMax',
  'PrivateMounts',
  'ProtectKernelTunables',
  'ProtectKernelModules',
  'ProtectKernelLogs',
  'ProtectControlGroups',
  'ProtectClock',
  'ProtectHostname',
  'LockPersonality',
  'KeyringMode',
  'RestrictRealtime',
  'RestrictSUIDSGID',
  'RestrictNamespaces',
  'IPAddressDeny',
  'SystemCallFilter',
  'SystemCallErrorNumber',
]);

/** By whole lines: of what is to be said in other words. */
const OTHERWISE: Readonly<Record<string, readonly string[]>> = {
  'ProtectSystem=strict': ['ProtectSystem=full'],
  // It reads no `+`. What is without privileges is ExecStart= alone then.
  'ExecStartPre=+-/sbin/modprobe -q ip_tables': [
    'PermissionsStartOnly=yes',
    'ExecStartPre=-/sbin/modprobe -q ip_tables',
  ],
};

const LIMIT = 'StartLimitIntervalSec=0';

function in219(text: string): string {
  const unlimited = text.includes(`\n${LIMIT}\n`);
  const lines = text.split('\n').flatMap((line): readonly string[] => {
    const [, name = '', value = ''] = /^(\w+)=(.*)$/.exec(line) ?? [];
    if (line === LIMIT || UNKNOWN.has(name)) return [];
    // A path unit has no limit there.
    if (line === '[Service]' && unlimited) return [line, 'StartLimitInterval=0'];
    // Only /usr, /boot and /etc are read-only, and what is not there is no name for it.
    if (name === 'ReadWritePaths') return writable(value);
    return OTHERWISE[line] ?? [line];
  });
  return ['# For systemd before 236, in which much of the sandbox is unknown.', ...lines].join('\n');
}

function writable(value: string): string[] {
  const folders = value.split(' ').filter((path) => path.startsWith('-/etc/'));
  return folders.length === 0 ? [] : [`ReadWriteDirectories=${folders.join(' ')}`];
}
