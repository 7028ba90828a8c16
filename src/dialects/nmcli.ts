// What `nmcli --terse` prints → which devices NetworkManager manages, and by which profile. Pure.

/** A device that NetworkManager manages. */
export type ManagedDevice = {
  /** Whether a profile is active on it: only then can it be reapplied. */
  active: boolean;
  /** UUID of the profile that is active or being activated. */
  profile?: string;
};

export const LIST_DEVICES = ['nmcli', '--terse', '--fields', 'DEVICE,STATE,CON-UUID', 'device', 'status'] as const;

/** nmcli ends 8 where NetworkManager does not run. */
export const NOT_RUNNING = 8;

/** Reads what LIST_DEVICES prints; devices that are left alone (unmanaged) are left out. */
export function parseDevices(text: string): Map<string, ManagedDevice> {
  const managed = new Map<string, ManagedDevice>();
  for (const line of text.split('\n')) {
    // A colon within a field is `\:`; the names of our NICs have none, and neither have states and UUIDs.
    const [, device, state = '', profile] = /^([^:]+):([^:]*):([0-9a-f-]*)$/.exec(line) ?? [];
    if (device === undefined || state === 'unmanaged') continue;
    managed.set(device, { active: state === 'connected', ...(profile && { profile }) });
  }
  return managed;
}
