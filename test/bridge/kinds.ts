import { createLab } from '../lab/lab.ts';
import type { Kind } from './moves.ts';
import { createOvsLab } from './ovs.ts';

export const KINDS = {
  linux: {
    type: 'linux',
    createLab,
    make: 'ip link add br-ex type bridge',
    remove: 'ip link delete br-ex',
    addPort: (device) => `ip link set ${device} master br-ex`,
    removePort: (device) => `ip link set ${device} nomaster`,
    ports: `ip -o link show | sed -En 's/^[0-9]+: ([^@:]+).* master br-ex .*/\\1/p' | sort`,
    gapMs: 100,
  },
  ovs: {
    type: 'ovs',
    createLab: createOvsLab,
    make: 'ovs-vsctl --timeout=10 add-br br-ex',
    remove: 'ovs-vsctl --timeout=10 del-br br-ex',
    addPort: (device) => `ovs-vsctl --timeout=10 add-port br-ex ${device}`,
    removePort: (device) => `ovs-vsctl --timeout=10 del-port br-ex ${device}`,
    ports: 'ovs-vsctl --timeout=10 br-exists br-ex && ovs-vsctl --timeout=10 list-ports br-ex | sort || true',
    gapMs: 1000,
  },
} satisfies Record<string, Kind>;
