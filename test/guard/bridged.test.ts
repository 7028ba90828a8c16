// An uplink on a Linux bridge that has guests of its own: their frames are bridged, and pass FORWARD where br_netfilter is at work;
// what is routed is guarded all the same.

import assert from 'node:assert/strict';
import { before, it } from 'node:test';
import { ADDRESSES, type Lab } from '../lab/lab.ts';
import { EIPS } from '../lab/table.ts';
import { asked, BASE, onEachEngine, reload, sh } from './router.ts';

const { far, out, router: uplink, v } = ADDRESSES;
/** On the bridge itself, and none of kylin-vr's matter; its second address looks like one of a VM. */
const [GUEST, DISGUISED] = ['203.0.113.77', '10.10.1.77'];
const bridged = BASE.replace(`gateway: ${out}`, `gateway: ${out}, bridge: br-ex, bridge-type: linux`);
const eips = `eip_list:\n  - { eip: ${EIPS.v}, vm-ip: ${v} }\n`;

onEachEngine('guests on the bridge of the uplink', {}, (on) => {
  const guest = (script: string) => sh(on, 'router', `nsenter --net=/run/guest sh -ec '${script}'`);
  before(async () => {
    for (const host of ['out', 'far', 'v'] as const) await on.traffic.listen(host, 'tcp', 80);
    await reload(on, bridged + eips);
    await addGuest(on.lab);
  });

  for (const fromUplink of ['forward', 'drop'])
    for (const filtered of ['1', '0'])
      it(`from-uplink: ${fromUplink}, bridge-nf-call-iptables=${filtered}: they and the outside reach each other, and the EIP`, async () => {
        await sh(on, 'router', `sysctl -qw net.bridge.bridge-nf-call-iptables=${filtered}`);
        await reload(on, `${bridged}${eips}from-uplink: ${fromUplink}\n`);
        await guest(
          `ping -qn -c 3 -i 0.05 -W 1 ${out}; ping -qn -c 1 -W 1 ${far}; ping -qn -c 1 -W 1 ${EIPS.v}; ping -qn -c 1 -W 1 ${uplink}`,
        );
        assert.deepEqual(
          [(await on.traffic.ping('out', GUEST)).reached, (await on.traffic.ping('far', GUEST)).reached],
          [true, true],
        );
        // Their addresses are their own matter, also where they look like those of VMs.
        assert.equal((await on.traffic.ping('out', DISGUISED)).reached, true);
        // Fragments, which br_netfilter puts together.
        await guest(`ping -qn -c 1 -W 1 -s 4000 ${out}`);
        assert.equal(await asked(on, 'far', EIPS.v), `v:80 sees ${far}`);
        assert.equal(await asked(on, 'v', far), `far:80 sees ${EIPS.v}`);
      });

  it('what is routed and would leave by the bridge again does not, where frames can be told apart', async () => {
    await sh(on, 'router', 'sysctl -qw net.bridge.bridge-nf-call-iptables=1');
    await reload(on, bridged + eips);
    await sh(on, 'out', `ip route replace 198.18.9.0/24 via ${uplink}`);
    await on.raw.send('far', { protocol: 'udp', destination: '198.18.9.1', sourcePort: 1, destinationPort: 1 });
    await guest(`ip route replace 198.18.8.0/24 via ${uplink}; ping -qn -c 1 -W 0.2 198.18.8.1 || true`);
    assert.deepEqual(await on.lab.witness.leaks(), []);
  });

  it('and a VM whose subnet is not there is not sought on the bridge', async () => {
    await sh(on, 'router', 'ip link set eth1 down');
    assert.equal(await asked(on, 'far', EIPS.v), 'no answer');
    assert.equal(await asked(on, 'router', EIPS.v), 'no answer');
    assert.deepEqual(await on.lab.witness.leaks(), []);
    await reload(on, bridged + eips);
    assert.equal(await asked(on, 'far', EIPS.v), `v:80 sees ${far}`);
  });
});

async function addGuest({ router, host }: Lab): Promise<void> {
  const script = `
    touch /run/guest; unshare --net=/run/guest true
    ip link add tap up master br-ex type veth peer name guest0
    ip link set guest0 netns /run/guest
    nsenter --net=/run/guest ip -batch - <<'END'
link set lo up
address add ${GUEST}/24 dev guest0
address add ${DISGUISED}/32 dev guest0
link set guest0 up
route add default via ${out}
END`;
  await router.run(['sh', '-ec', script], { check: true });
  await host('out').run(['ip', 'route', 'add', `${DISGUISED}/32`, 'dev', 'eth0'], { check: true });
}
