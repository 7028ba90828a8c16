// A MAC that NetworkManager has given a NIC of ours when it activated its profile: our file of its configuration does not hold, and
// which one does instead.

import { basename, dirname, join } from 'node:path';
import { AgentError, EXIT } from '../base/errors.ts';
import { CONFIGURATION_FOLDERS, DEFAULTS_PATH, macIn } from '../dialects/defaults.ts';
import { MANAGER_FOLDER } from '../dialects/unmanaged.ts';
import type { BoundNic, ObservedLink } from '../network/nics.ts';
import type { Host } from './host.ts';

export type ClonedMac = { device: string; mac: string; own: string };

/** NICs that had their own MAC before, and have another now. A port has that of its bond. */
export function clonedMacs(
  bound: readonly BoundNic[],
  before: readonly ObservedLink[],
  now: readonly ObservedLink[],
): ClonedMac[] {
  return bound.flatMap(({ device, mac: own }) => {
    const was = before.find((link) => link.device === device);
    const is = now.find(({ index, device: name }) => index === was?.index && name === device);
    if (was?.mac !== own || is === undefined || is.mac === own || is.master !== undefined) return [];
    return [{ device, mac: is.mac, own }];
  });
}

export async function clonedMacError(host: Host, { device, mac, own }: ClonedMac): Promise<AgentError> {
  return new AgentError(
    `NetworkManager gave ${device} the MAC ${mac} in place of its own, ${own}, by ethernet.cloned-mac-address in its ` +
      `configuration${await findCause(host)}: take that away, run nmcli general reload, then kylin-vr reload`,
    EXIT.failed,
  );
}

/** The last word on it; nothing where no file is seen to have it. */
async function findCause(host: Host): Promise<string> {
  let cause = '';
  for (const folder of CONFIGURATION_FOLDERS) {
    const names = folder === MANAGER_FOLDER ? ['NetworkManager.conf'] : (await host.list(folder)).sort();
    for (const path of names.filter((name) => name.endsWith('.conf')).map((name) => join(folder, name))) {
      const value = macIn((await host.read(path, { orNothing: true })) ?? '');
      const isLater = folder === dirname(DEFAULTS_PATH) && path > DEFAULTS_PATH;
      if (value !== undefined)
        cause = ` (${value} in ${path}${isLater ? `, which is read after ${basename(DEFAULTS_PATH)}` : ''})`;
    }
  }
  return cause;
}
