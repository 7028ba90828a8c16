// What DevStack's stack.sh does to the uplink after us: its function of that name, as devstack/lib/neutron-legacy has it, without sudo.

import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { NICS } from '../lab/lab.ts';
import { createLabOn, NAME_OF, type Path } from '../lab/path.ts';
import { EIPS, elastic } from '../lab/table.ts';
import { type BridgeType, bridged, reload, shell } from './moves.ts';
import { addOvs } from './ovs.ts';

const { mac, device: NIC } = NICS.public;

const moveTo = (bridge: string, addPort: string) => `
  DEFAULT_ROUTE_GW=$(ip -f inet r | awk "/default.+${NIC} / { print \\$3; exit }")
  IP_BRD=$(ip -f inet a s dev ${NIC} scope global primary | grep inet | awk '{ print $2, $3, $4; exit }' | sed 's/ scope.*//')
  IP=$(echo $IP_BRD | awk '{ print $1; exit }' | grep -o -E '(.*)/' | cut -d "/" -f1)
  ip addr del $IP_BRD dev ${NIC}
  ip addr replace $IP_BRD dev ${bridge}
  ip link set ${bridge} up
  ${addPort}
  [ "$DEFAULT_ROUTE_GW" = '' ] || ip -f inet r replace default via $DEFAULT_ROUTE_GW dev ${bridge}
  arping -A -c 1 -w 5 -I ${bridge} $IP > /run/arping.log || true`;

const MAKE: Record<BridgeType, string> = {
  ovs: `ovs-vsctl --timeout=10 --may-exist add-br br-ex; ${moveTo('br-ex', `ovs-vsctl --timeout=10 --may-exist add-port br-ex ${NIC}`)}`,
  linux: `ip link add br-ex address ${mac} type bridge; ${moveTo('br-ex', `ip link set ${NIC} master br-ex`)}`,
};

const TAKE_OUT: Record<BridgeType, string> = {
  ovs: `ovs-vsctl del-port br-ex ${NIC}`,
  linux: `ip link set dev ${NIC} nomaster`,
};

/** The bridge, who is in it, and all that is on it and the NIC. */
const SEEN: Record<BridgeType, string> = {
  ovs: 'ovs-vsctl --timeout=10 --columns=_uuid,name list Port',
  linux: 'ip -o link show br-ex; ip -o link show master br-ex',
};

const RUNS: readonly (readonly string[])[] = [
  ['reload', '--trigger', 'timer'],
  ['reload', '--trigger', 'udev'],
  ['start'],
  ['reload'],
];

export function afterDevStack(path: Path): void {
  describe(`the uplink that stack.sh put into its bridge: ${NAME_OF[path]}`, { concurrency: 2 }, () => {
    // The machine that builds the NetworkManager of ifcfg files has no Open vSwitch.
    for (const type of path === 'ifcfg' ? (['linux'] as const) : (['ovs', 'linux'] as const))
      for (const record of path === 'ip' ? ['with our record', 'without it'] : ['with our record'])
        it(`${type}, ${record}: nothing is put on the NIC, and with the key all is taken over`, async (t) => {
          const lab = await createLabOn(path);
          if (type === 'ovs') await addOvs(lab);
          t.after(() => lab.close());
          await reload(lab, elastic.config);
          await shell(lab, MAKE[type]);
          if (record === 'without it') await shell(lab, 'rm -f /var/lib/kylin-vr/owned.json');
          const network = () => shell(lab, `ip -o address show scope global; ip route; ${SEEN[type]}`);
          const found = await network();
          assert.match(found, /default via \S+ dev br-ex/);
          for (const args of RUNS) {
            const { status, stdout } = await lab.kylin(...args, '--json');
            const { steps, warnings } = JSON.parse(stdout);
            assert.deepEqual(
              [
                status,
                steps.map(({ text }: { text: string }) => text),
                warnings.map(({ message }: { message: string }) => message),
              ],
              [
                0,
                [],
                [
                  `NIC ${mac} (${NIC}) is left as it is: somebody made it a port of the bridge br-ex, which takes what comes in by it: say bridge: br-ex and bridge-type: ${type} where that is meant, or take it out with ${TAKE_OUT[type]}`,
                ],
              ],
              args.join(' '),
            );
            assert.equal(await network(), found);
          }
          const status = JSON.parse((await lab.kylin('status', '--json')).stdout);
          assert.deepEqual([status.inSync, status.nics[0].state], [false, 'error']);
          const seen = await shell(lab, SEEN[type]);
          await reload(lab, bridged(elastic.config, type));
          assert.equal(await shell(lab, SEEN[type]), seen);
          assert.equal(await shell(lab, `ip -4 -o address show dev ${NIC}`), '');
          assert.match(
            await shell(lab, 'ip -4 route show default'),
            /^default via \S+ dev br-ex proto 175 \n(default via \S+ dev br-ex \n)?$/,
          );
          const { status: reached } = await lab.host('far').run(['ping', '-c', '3', '-i', '0.2', '-W', '1', EIPS.x]);
          assert.equal(reached, 0);
          assert.equal((await reload(lab, bridged(elastic.config, type))).result, 'unchanged');
          assert.equal((await lab.kylin('status')).status, 0);
        });
  });
}
