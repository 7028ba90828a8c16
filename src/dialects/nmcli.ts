// What `nmcli --terse` prints → which devices NetworkManager manages, and by which profile. Pure.

import { UnsupportedError } from '../base/errors.ts';
import type { ManagedDevice } from '../network/observation.ts';

export const LIST_DEVICES = ['--terse', '--fields', 'DEVICE,STATE,CON-UUID', 'device', 'status'] as const;

/** Answered where it runs and where it does not. */
export const IS_RUNNING = ['--terse', '--get-values', 'RUNNING', 'general'] as const;

/** nmcli ends 8 where NetworkManager does not run. */
export const NOT_RUNNING = 8;

/** nmcli's status where it does not know the words: `general reload` before 1.22. */
export const MISUSED = 2;

/** nmcli's status where the daemon refuses to do what it was asked. */
export const REFUSED = 6;

/** nmcli's status where a profile or a device is not known. */
export const UNKNOWN = 10;

/**
 * Reads what LIST_DEVICES prints. Left out are devices that NetworkManager leaves alone: unmanaged ones, and those without
 * a carrier (unavailable), on which it activates nothing.
 */
export function parseDevices(text: string): Map<string, ManagedDevice> {
  const managed = new Map<string, ManagedDevice>();
  for (const line of text.split('\n')) {
    if (line.trim() !== '' && !line.includes(':'))
      throw new UnsupportedError(
        `nmcli printed something that is not understood: ${line.slice(0, 100)} (please report it, with nmcli --version)`,
      );
    // A colon within a field is `\:`; the names of our NICs have none, and neither have states and UUIDs.
    const [, device, state = '', profile] = /^([^:]+):([^:]*):([0-9a-f-]*)$/.exec(line) ?? [];
    if (device === undefined || state === 'unmanaged' || state === 'unavailable') continue;
    // `connected (externally)`: the profile is made up from what was found, and reapply puts back just that.
    const external = state.includes('(externally)');
    const active = /^connect(ed|ing)\b/.test(state) && !external;
    managed.set(device, { active, ...(active && profile && { profile }), ...(external && { external }) });
  }
  return managed;
}
