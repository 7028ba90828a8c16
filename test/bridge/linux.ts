// A bridge of the kernel.

import { createLab } from '../lab/lab.ts';
import type { Kind } from './moves.ts';

export const LINUX: Kind = {
  type: 'linux',
  createLab,
  make: 'ip link add br-ex type bridge',
  remove: 'ip link delete br-ex',
  addPort: (device) => `ip link set ${device} master br-ex`,
  removePort: (device) => `ip link set ${device} nomaster`,
  ports: `ip -o link show | sed -En 's/^[0-9]+: ([^@:]+).* master br-ex .*/\\1/p' | sort`,
  gapMs: 100,
};
