// Open vSwitch in the router's own namespace, with its datapath in user space: the kernel needs no module.

import { createLab, type Lab, NICS } from '../lab/lab.ts';
import type { Kind } from './moves.ts';

/** Where Debian has it, for who looks for more than a socket. */
const START = `
  mkdir -p /etc/openvswitch /run/openvswitch /var/log/openvswitch
  rm -f /etc/openvswitch/conf.db /etc/openvswitch/.conf.db.~lock~
  ovsdb-tool create /etc/openvswitch/conf.db /usr/share/openvswitch/vswitch.ovsschema
  ovs-daemons
  rm -f /run/ovs-vsctl.log`;

/** Each keeps its process, and so ends with the namespace. */
const DAEMONS = `#!/bin/sh -e
ovsdb-server /etc/openvswitch/conf.db --remote=punix:/run/openvswitch/db.sock --pidfile --detach --no-chdir --log-file -vconsole:off
ovs-vsctl --no-wait --timeout=10 init
ovs-vswitchd --pidfile --detach --no-chdir --log-file -vconsole:off
`;

/** Bridges get their datapath in user space: that is this machine's matter, and nothing that kylin-vr has a key for. */
export const userSpaceVsctl = (real: string): string => `#!/bin/sh
echo "$*" >> /run/ovs-vsctl.log
bridge=
last=
for word; do
  [ "$last" = add-br ] && bridge=$word
  last=$word
done
[ -z "$bridge" ] || set -- "$@" -- set Bridge "$bridge" datapath_type=netdev
exec ${real} "$@"
`;

/** ovs-vswitchd answers when it begins to end, and takes its links away after that: 10 to 60 ms were seen. Its pid file goes last. */
const stop = (daemon: string, ...options: string[]): string => `
  ovs-appctl -t ${daemon} exit ${options.join(' ')}
  timeout 30 sh -c 'while [ -e /run/openvswitch/${daemon}.pid ]; do sleep 0.01; done'`;

const STOP_SWITCH = stop('ovs-vswitchd', '--cleanup');

const STOP_DATABASE = stop('ovsdb-server');

export type OvsLab = Lab & {
  stopOvs(): Promise<void>;
  stopSwitch(): Promise<void>;
  stopDatabase(): Promise<void>;
  startOvs(): Promise<void>;
  calls(): Promise<string[]>;
};

export const createOvsLab = async (): Promise<OvsLab> => addOvs(await createLab());

/** Closes the lab where it fails. */
export async function addOvs<L extends Lab>(lab: L): Promise<L & OvsLab> {
  try {
    const shell = (script: string) => lab.router.run(['sh', '-ec', script], { check: true });
    await shell(`
      mkdir -p /run/real
      cp /usr/bin/ovs-vsctl /run/real/
      mount -t tmpfs tmpfs /mnt
      mkdir /mnt/upper /mnt/work
      mount -t overlay overlay -o lowerdir=/usr/bin,upperdir=/mnt/upper,workdir=/mnt/work /usr/bin
      umount /mnt`);
    // Not through a link to the machine's own file.
    await shell('rm /usr/bin/ovs-vsctl');
    await lab.router.write('/usr/bin/ovs-vsctl', userSpaceVsctl('/run/real/ovs-vsctl'), 0o755);
    await lab.router.write('/usr/bin/ovs-daemons', DAEMONS, 0o755);
    await shell(START);
    // Checksums that the sender's NIC was to fill in are missing behind a datapath in user space.
    await lab.host('out').run(['ethtool', '-K', 'eth0', 'tx', 'off'], { check: true });
    return {
      ...lab,
      async stopOvs() {
        await shell(STOP_SWITCH + STOP_DATABASE);
      },
      async stopSwitch() {
        await shell(STOP_SWITCH);
      },
      async stopDatabase() {
        await shell(STOP_DATABASE);
      },
      async startOvs() {
        await shell('ovs-daemons');
      },
      async calls() {
        const { stdout } = await lab.router.run([
          'sh',
          '-c',
          'cat /run/ovs-vsctl.log 2> /dev/null; rm -f /run/ovs-vsctl.log',
        ]);
        return stdout.split('\n').filter((line) => line !== '');
      },
    };
  } catch (error) {
    await lab.close();
    throw error;
  }
}

export const OVS: Kind = {
  type: 'ovs',
  createLab: createOvsLab,
  make: 'ovs-vsctl --timeout=10 add-br br-ex',
  remove: 'ovs-vsctl --timeout=10 del-br br-ex',
  addPort: (device) => `ovs-vsctl --timeout=10 add-port br-ex ${device}`,
  removePort: (device) => `ovs-vsctl --timeout=10 del-port br-ex ${device}`,
  ports: 'ovs-vsctl --timeout=10 br-exists br-ex && ovs-vsctl --timeout=10 list-ports br-ex | sort || true',
  gapMs: 1000,
};

export { NICS };
