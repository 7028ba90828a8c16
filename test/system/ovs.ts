// A guest with Open vSwitch, and where its uplink is.

import { userSpaceVsctl } from '../bridge/ovs.ts';
import { ADDRESSES, type Router } from '../lab/lab.ts';
import type { installed } from './guest.ts';
import type { Machine } from './lab/machine.ts';

type Installed = ReturnType<typeof installed>;

const prepared = (preparation: Installed, change: (router: Router, root: string) => Promise<void>): Installed => ({
  ...preparation,
  async prepare(router, root) {
    await preparation.prepare?.(router, root);
    await change(router, root);
  },
});

/** Enabled, as its package leaves it. */
export const withOvs = (preparation: Installed): Installed =>
  prepared(preparation, async (router, root) => {
    await router.run(['chroot', root, 'systemctl', 'enable', 'openvswitch-switch'], { check: true });
  });

/** With its datapath in user space, for a container; not enabled. */
export const withUserSpaceOvs = (preparation: Installed): Installed =>
  prepared(preparation, async (router, root) => {
    await router.run(['mv', `${root}/usr/bin/ovs-vsctl`, `${root}/usr/bin/ovs-vsctl.real`], { check: true });
    await router.write(`${root}/usr/bin/ovs-vsctl`, userSpaceVsctl('/usr/bin/ovs-vsctl.real'), 0o755);
  });

export async function uplinkOf(machine: Machine): Promise<string> {
  const script = `
    ip -4 -o address | awk '$4 == "${ADDRESSES.router}/24" { print "address on", $2 }'
    nmcli -t -f DEVICE,STATE device | sed -n 's/^eth0:/eth0 is /p'
    ovs-vsctl --timeout=10 port-to-br eth0 2> /dev/null | sed 's/^/a port of /'
    ip -o link show dev eth0 | grep -o 'master [^ ]*'`;
  const { stdout } = await machine.run(['sh', '-c', script]);
  return stdout.trim().replaceAll('\n', ', ');
}
