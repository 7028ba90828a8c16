// One test in a lab of its own, with NetworkManager.

import { it } from 'node:test';
import { createManagedLab, type ManagedLab, type PathLabOptions } from '../lab/path.ts';

export const inLabsOn =
  (path: 'keyfile' | 'ifcfg') =>
  (name: string, test: (lab: ManagedLab) => Promise<void>, options: PathLabOptions = {}): void =>
    void it(name, async () => {
      const lab = await createManagedLab(path, options);
      try {
        await test(lab);
      } finally {
        await lab.close();
      }
    });
