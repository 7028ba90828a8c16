// What NetworkManager is asked over D-Bus, by `busctl`: in a moment, and with words that nmcli has not. Pure.

const SERVICE = 'org.freedesktop.NetworkManager';
const ROOT = '/org/freedesktop/NetworkManager';

export type Command = readonly [string, ...string[]];

const call = (path: string, part: '' | '.Settings' | '.Device', method: string, ...args: string[]): Command => [
  'busctl',
  // One that does not run is not started.
  '--auto-start=no',
  'call',
  SERVICE,
  path,
  `${SERVICE}${part}`,
  method,
  ...args,
];

/** Makes it read its configuration anew, not the profiles: nmcli of a NetworkManager before 1.22 has no word for that. */
export const READ_CONFIGURATION: Command = call(ROOT, '', 'Reload', 'u', '1');

/** Makes it read these files, or notice that they are gone. */
export const loadFiles = (paths: readonly string[]): Command =>
  call(`${ROOT}/Settings`, '.Settings', 'LoadConnections', 'as', String(paths.length), ...paths);

/** Reads what loadFiles prints: whether it is done, and how many of the files are not read. */
export const isLoaded = (text: string): boolean => text.trim() === 'bas true 0';

export const findProfile = (uuid: string): Command =>
  call(`${ROOT}/Settings`, '.Settings', 'GetConnectionByUuid', 's', uuid);

export const flagsOf = (path: string): Command => [
  'busctl',
  '--auto-start=no',
  'get-property',
  SERVICE,
  path,
  `${SERVICE}.Settings.Connection`,
  'Flags',
];

/** NM_SETTINGS_CONNECTION_FLAG_NM_GENERATED and _VOLATILE, NetworkManager 1.12; what it makes for DHCP on a new NIC is not the latter. */
const MADE_UP = 0x2 | 0x4;

/** Reads what flagsOf prints: whether the profile is made up from what was found, and goes with it. */
export function isMadeUp(text: string): boolean {
  const [, flags = '0'] = /^u (\d+)$/.exec(text.trim()) ?? [];
  return (Number(flags) & MADE_UP) === MADE_UP;
}

export const findDevice = (device: string): Command => call(ROOT, '', 'GetDeviceByIpIface', 's', device);

/** Reads what findDevice and findProfile print: the path of it. */
export const parsePath = (text: string): string | undefined => /^o "([\w/]+)"$/.exec(text.trim())?.[1];

/** NM_DEVICE_REAPPLY_FLAGS_PRESERVE_EXTERNAL_IP, NetworkManager 1.42; an older one refuses the call. */
const PRESERVE_EXTERNAL_IP = '1';

/** Without settings of its own it is the active profile that is applied; version 0 is any. */
export const reapplyPreserving = (path: string): Command =>
  call(path, '.Device', 'Reapply', 'a{sa{sv}}tu', '0', '0', PRESERVE_EXTERNAL_IP);
