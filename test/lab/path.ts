// The three ways in which the router's NICs may be set up, and a laboratory on each: the same scenarios hold on all of them.

import { createLab, type Lab, type LabOptions } from './lab.ts';
import {
  type NetworkManager,
  type NetworkManagerOptions,
  networkManagerIfcfg,
  startNetworkManager,
} from './networkmanager.ts';

/** `ip` where no NetworkManager runs; else NetworkManager, which reads keyfiles or ifcfg files. */
export type Path = 'ip' | 'keyfile' | 'ifcfg';

export const NAME_OF: Record<Path, string> = {
  ip: 'plain ip',
  keyfile: 'NetworkManager with keyfiles',
  ifcfg: 'NetworkManager with ifcfg files',
};

export type PathLabOptions = Omit<LabOptions, 'networkScripts'> & { manager?: NetworkManagerOptions };
export type ManagedLab = Lab & { manager: NetworkManager };

export const createLabOn = (path: Path, options: PathLabOptions = {}): Promise<Lab> =>
  path === 'ip' ? createLab({ ...options, networkScripts: true }) : createManagedLab(path, options);

export async function createManagedLab(
  path: 'keyfile' | 'ifcfg',
  { manager = {}, ...options }: PathLabOptions = {},
): Promise<ManagedLab> {
  const prefix = path === 'ifcfg' ? { prefix: await networkManagerIfcfg() } : {};
  const lab = await createLab({ ...options, networkScripts: path === 'ifcfg' });
  try {
    // As NetworkManager's package has it.
    await lab.router.run(['mkdir', '-p', '-m', '700', '/etc/NetworkManager/system-connections'], { check: true });
    return { ...lab, manager: await startNetworkManager(lab.router, { ...prefix, ...manager }) };
  } catch (error) {
    await lab.close();
    throw error;
  }
}

/** What the iptables backends do differently has nothing to do with who sets up NICs: beside plain ip one will do. */
export const backendsOf = (path: Path): readonly ('nft' | 'legacy')[] => (path === 'ip' ? ['nft', 'legacy'] : ['nft']);
