// The witness itself: on a router that the test makes by hand with ip and iptables it sees each kind of leak, and nothing
// where there is none.

import assert from 'node:assert/strict';
import { after, afterEach, before, describe, it } from 'node:test';
import { ADDRESSES, createLab, GATEWAYS, type Lab, NICS, type Nic } from './lab.ts';

const { far, out, router: uplink, v } = ADDRESSES;
const SECOND: Nic = { segment: 'public', device: 'eth3', mac: '52:54:84:00:08:47' };

/** A router without NAT. */
const ROUTES = `
  ip link set eth0 up; ip link set eth1 up
  ip address add ${uplink}/24 dev eth0; ip address add ${GATEWAYS.a}/24 dev eth1
  ip route add default via ${out}
  sysctl -qw net.ipv4.ip_forward=1`;

describe('the witness', { concurrency: false }, () => {
  let lab: Lab;
  const sh = (script: string) => lab.router.run(['sh', '-ec', script], { check: true });
  const ping = async (from: 'v' | 'w' | 'far' | 'out' | 'router', to: string) =>
    void (await lab.host(from).run(['ping', '-n', '-c', '1', '-W', '0.2', to]));
  const seen = async () => {
    const leaks = await lab.witness.leaks();
    return leaks.map(({ kind, packet: { port, protocol, flags, source, destination } }) =>
      [kind, port, protocol, flags, source, '→', destination].join(' '),
    );
  };
  before(async () => {
    lab = await createLab();
    await sh(ROUTES);
    // Somebody has to know the way back to what is private.
    await lab.host('out').run(['ip', 'route', 'add', '10.10.1.0/24', 'via', uplink], { check: true });
    lab.witness.takenOver();
  });
  afterEach(() => lab.witness.forgive());
  after(() => lab?.close());

  it('sees a private source that leaves, and nothing of the answer that comes in', async () => {
    await ping('v', out);
    assert.deepEqual(await seen(), [`private source eth0 icmp 8/0 ${v} → ${out}`]);
  });

  it('sees nothing where the source is translated', async () => {
    await sh('iptables -t nat -A POSTROUTING -o eth0 -s 10.10.1.0/24 -j MASQUERADE');
    await ping('v', out);
    await ping('v', far);
    await ping('router', out);
    assert.deepEqual(await seen(), []);
  });

  it('sees a private destination that leaves', async () => {
    await sh(`ip route add 10.10.2.0/24 via ${out}`);
    await ping('router', '10.10.2.21');
    await sh('ip route delete 10.10.2.0/24');
    assert.deepEqual(await seen(), [`private destination eth0 icmp 8/0 ${uplink} → 10.10.2.21`]);
  });

  it('sees a packet that goes back to where it came from', async () => {
    await lab.host('out').run(['sysctl', '-qw', 'net.ipv4.conf.all.send_redirects=0']);
    await lab.host('out').run(['ip', 'route', 'add', '198.18.0.9/32', 'via', uplink], { check: true });
    await lab.host('out').run(['ping', '-n', '-c', '1', '-W', '0.2', '-t', '2', '198.18.0.9']);
    const bounced = `bounced eth0 icmp 8/0 ${out} → 198.18.0.9`;
    assert.deepEqual(await seen(), [bounced]);
  });

  it('sees nothing in a packet that is translated on its way back out', async () => {
    await sh(`
      iptables -t nat -A PREROUTING -d 198.18.0.9 -j DNAT --to ${far}
      iptables -t nat -A POSTROUTING -d ${far} -j MASQUERADE`);
    await ping('out', '198.18.0.9');
    assert.deepEqual(await seen(), []);
    await sh('iptables -t nat -F');
  });

  it('sees what leaves by a NIC that is plugged later', async () => {
    await lab.router.plug(SECOND);
    await sh(
      'ip link set eth3 up; ip address add 203.0.113.38/24 dev eth3; ip route replace default via 203.0.113.1 dev eth3',
    );
    await ping('v', far);
    await sh(`ip link set eth3 down; ip route replace default via ${out} dev eth0`);
    assert.deepEqual(await seen(), [`private source eth3 icmp 8/0 ${v} → ${far}`]);
    await lab.router.unplug(SECOND);
  });

  it('sees nothing in what a bridge of the router passes on for others', async () => {
    await sh(`
      ip link add br-ex type bridge; ip link set br-ex up; ip link set eth0 master br-ex
      ip link add guest type veth peer name tap; ip link set tap master br-ex up
      ip netns add guest; ip link set guest netns guest
      ip -n guest link set guest up; ip -n guest address add 10.10.1.77/24 dev guest
      ip -n guest route add ${out} dev guest; ip netns exec guest ping -n -c 1 -W 0.2 ${out} || true
      ip netns delete guest; ip link set eth0 nomaster; ip link delete br-ex`);
    assert.deepEqual(await seen(), []);
  });

  it('knows a network more, when it is told', async () => {
    lab.witness.inside('172.16.0.0/16');
    await sh('ip address add 172.16.3.4/32 dev lo');
    await lab.router.run(['ping', '-n', '-c', '1', '-W', '0.2', '-I', '172.16.3.4', out]);
    assert.deepEqual(await seen(), [`private source eth0 icmp 8/0 172.16.3.4 → ${out}`]);
  });

  it('misses none of many', async () => {
    const { stdout } = await lab.host('v').run(['ping', '-q', '-n', '-f', '-c', '5000', out]);
    assert.match(stdout, /5000 received/);
    assert.equal((await seen()).length, 5000);
  });
});

describe('a lab that is closed', () => {
  const withLeak = async (prepare: (lab: Lab) => Promise<void> | void) => {
    const lab = await createLab();
    await lab.router.run(['sh', '-ec', ROUTES], { check: true });
    await prepare(lab);
    await lab.host('v').run(['ping', '-n', '-c', '1', '-W', '0.2', out]);
    return lab;
  };

  it('throws, with the leaks in words', async () => {
    const lab = await withLeak((lab) => lab.witness.takenOver());
    await assert.rejects(
      lab.close(),
      /^AssertionError.*: packets left the uplink that must not:\n {2}\S+ private source: icmp 8\/0 10\.10\.1\.11 → 203\.0\.113\.1, ttl 63, id \d+, by eth0 from 52:54:84:00:08:46$/,
    );
  });

  it('does not where kylin-vr had not begun', async () => {
    await (await withLeak(() => {})).close();
  });

  it('does not where the test excuses it', async () => {
    const lab = await withLeak((lab) => {
      lab.witness.takenOver();
      lab.witness.excuse('there is no NAT', ({ kind }) => kind === 'private source');
    });
    await lab.close();
  });

  it('throws after a reload, and not after one that took the router down', async () => {
    const leaky = async (...configs: string[]) => {
      const lab = await createLab();
      for (const config of configs) {
        await lab.configure(config);
        assert.equal((await lab.kylin('reload')).status, 0);
      }
      await lab.router.run(['sh', '-c', `${ROUTES}; iptables -t nat -F`]);
      await lab.host('v').run(['ping', '-n', '-c', '1', '-W', '0.2', out]);
      return lab;
    };
    const router = `if_list:
  - { ipaddr: ${uplink}, prefix: 24, mac: '${NICS.public.mac}', gateway: ${out} }
  - { ipaddr: ${GATEWAYS.a}, prefix: 24, mac: '${NICS.a.mac}' }
`;
    await assert.rejects((await leaky(router)).close(), /private source/);
    await (await leaky(router, 'if_list: []\n')).close();
  });
});
