// What is not ours survives, byte for byte; what may not stand beside ours is put aside, and said.

import assert from 'node:assert/strict';
import { after, before, describe, it } from 'node:test';
import { type Lab, NICS } from '../lab/lab.ts';
import type { RunResult } from '../lab/namespace.ts';
import { backendsOf, createLabOn, NAME_OF, type Path } from '../lab/path.ts';
import { networkOf } from '../lab/state.ts';

const [U, A, B] = [NICS.public.mac, NICS.a.mac, NICS.b.mac];
const config = `if_list:
  - { ipaddr: 203.0.113.37, prefix: 24, mac: '${U}', gateway: 203.0.113.1 }
  - { ipaddr: 10.10.1.254, prefix: 24, mac: '${A}' }
eip_list:
  - { eip: 203.0.113.50, vm-ip: 10.10.1.11 }
port_forward_list:
  - { eip: 203.0.113.60, protocal: tcp, port: 8080, vm-port: 80, vm-ip: 10.10.1.12 }
`;
const otherConfig = config.replace('.50', '.51').replace('8080', '8081');

export function foreign(path: Path): void {
  describe(`foreign things: ${NAME_OF[path]}`, { concurrency: true }, () => {
    for (const iptables of backendsOf(path)) {
      describe(iptables, { concurrency: false }, () => {
        let lab: Lab;
        before(async () => {
          lab = await createLabOn(path, { iptables, manager: { configuration: OPERATORS_OWN } });
          await lab.configure(config);
          await reload(lab);
        });
        after(() => lab?.close());
        survivals(() => lab, path);
        defaultRoutes(() => lab, path);
        jumps(() => lab);
        policies(() => lab, iptables);
        displaced(() => lab, path);
      });
    }
  });
}

function survivals(lab: () => Lab, path: Path): void {
  it('rules, chains, addresses, routes, neighbours, links and files of others survive every reload', async (t) => {
    await shell(lab(), path === 'keyfile' ? FOREIGN.replace(/.*sysconfig.*(\n|$)/g, '') : FOREIGN);
    t.after(() => shell(lab(), FOREIGN_GONE));
    const foreign = await foreignOf(lab());
    assert.match(foreign, /^198\.51\.100\.0\/24 via 192\.0\.2\.200 dev br-op proto static metric 50 $/m);
    for (const yaml of [otherConfig, 'if_list: []\n', config]) {
      await lab().configure(yaml);
      await reload(lab());
      assert.equal(await foreignOf(lab()), foreign);
    }
  });

  it('an address that keep-addresses names stays through changes of its NIC, and no other one does', async (t) => {
    const keeping = (yaml: string) => yaml.replace(`mac: '${A}'`, `mac: '${A}', keep-addresses: [10.0.0.5/32]`);
    t.after(() => shell(lab(), 'ip address del 10.0.0.5/32 dev eth1 || true'));
    await shell(lab(), 'ip address add 10.0.0.5/32 dev eth1; ip address add 10.0.0.6/32 dev eth1');
    const there = async () =>
      [...(await shell(lab(), 'ip -4 -o address show dev eth1')).matchAll(/inet (\S+)/g)].map(([, spec]) => spec);
    const mtu = (yaml: string) => yaml.replace(`prefix: 24, mac: '${A}'`, `prefix: 24, mtu: 1400, mac: '${A}'`);
    for (const yaml of [config, otherConfig, mtu(config), config.replace('10.10.1.254', '10.10.1.253'), config]) {
      await lab().configure(keeping(yaml));
      await reload(lab());
      const own = yaml.includes('10.10.1.253') ? '10.10.1.253/24' : '10.10.1.254/24';
      assert.deepEqual((await there()).toSorted(), ['10.0.0.5/32', own]);
    }
    await lab().configure(config);
    await reload(lab());
    assert.deepEqual(await there(), ['10.10.1.254/24']);
  });

  it('a default route by another NIC stays, and ours is the one in use', async (t) => {
    await shell(lab(), 'ip address add 192.0.2.5/25 dev eth2; ip link set eth2 up');
    t.after(() => shell(lab(), 'ip address flush dev eth2; ip link set eth2 down'));
    for (const metric of ['', ' metric 50', ' metric 200']) {
      const route = `default via 192.0.2.1 dev eth2${metric} `;
      await shell(lab(), `ip route append ${route}`);
      for (const yaml of [otherConfig, 'if_list: []\n', config]) {
        await lab().configure(yaml);
        await reload(lab());
        assert.ok((await shell(lab(), 'ip route show default')).split('\n').includes(route));
        if (yaml !== 'if_list: []\n')
          assert.match(await shell(lab(), 'ip route get 192.0.2.190'), / via 203\.0\.113\.1 dev eth0 /);
      }
      await shell(lab(), `ip route delete ${route}`);
    }
    await reload(lab());
  });
}

function defaultRoutes(lab: () => Lab, path: Path): void {
  const maker = path === 'ip' ? '175' : 'static';

  it('a default route by DHCP stays, behind ours, and ours goes without it', async () => {
    const defaults = () => shell(lab(), 'ip route show default');
    await shell(lab(), 'ip route add default via 203.0.113.2 dev eth0 proto dhcp metric 100');
    await reload(lab());
    assert.equal(
      await defaults(),
      `default via 203.0.113.1 dev eth0 proto ${maker} \ndefault via 203.0.113.2 dev eth0 proto dhcp metric 100 \n`,
    );
    await lab().configure(config.replace(', gateway: 203.0.113.1', '').replace(/eip_list[\s\S]*/, ''));
    await reload(lab());
    assert.equal(await defaults(), 'default via 203.0.113.2 dev eth0 proto dhcp metric 100 \n');
    await shell(lab(), 'ip route delete default');
    await lab().configure(config);
    await reload(lab());
  });

  it('a foreign default route of the same metric stays, and ours is the one in use', async () => {
    await shell(lab(), 'ip route delete default; ip route add default via 203.0.113.2 dev eth0');
    await reload(lab());
    assert.equal(
      await shell(lab(), 'ip route show default; ip route get 192.0.2.10 | head -1'),
      `default via 203.0.113.1 dev eth0 proto ${maker} \ndefault via 203.0.113.2 dev eth0 \n` +
        '192.0.2.10 via 203.0.113.1 dev eth0 src 203.0.113.37 uid 0 \n',
    );
    await shell(lab(), 'ip route delete default via 203.0.113.2');
  });
}

function jumps(lab: () => Lab): void {
  const first = '-A INPUT ! -p icmp -m conntrack --ctstate INVALID,NEW -j KYLIN-VR-INPUT';
  const last = '-A FORWARD -j KYLIN-VR-FORWARD';

  for (const [what, script] of [
    ['iptables -F', 'iptables -F'],
    ['iptables -t nat -F', 'iptables -t nat -F'],
    [
      'both tables were flushed and our chains deleted',
      'for table in filter nat; do iptables -t $table -F; iptables -t $table -X; done',
    ],
    [
      'a wipe by `iptables-restore` of an empty table',
      "printf '*nat\\nCOMMIT\\n*filter\\nCOMMIT\\n' | iptables-restore",
    ],
  ] as const)
    it(`after ${what} status says so and the next reload puts all back`, async () => {
      const before = await networkOf(lab().router);
      await shell(lab(), script);
      assert.notEqual(await networkOf(lab().router), before);
      const { status, stdout } = await lab().kylin('status', '--json');
      assert.deepEqual([status, JSON.parse(stdout).inSync], [2, false]);
      await reload(lab());
      assert.equal(await networkOf(lab().router), before);
    });

  it('our rule in INPUT goes before a foreign one that was inserted before it', async () => {
    await shell(lab(), 'iptables -I INPUT 1 -p tcp --dport 22 -j ACCEPT');
    await reload(lab());
    assert.equal(await hook(lab(), 'INPUT'), `${first}\n-A INPUT -p tcp -m tcp --dport 22 -j ACCEPT\n`);
    await shell(lab(), 'iptables -D INPUT -p tcp --dport 22 -j ACCEPT');
  });

  it('our rule in FORWARD goes behind a foreign one that was appended after it', async () => {
    await shell(lab(), 'iptables -A FORWARD -s 10.10.1.99/32 -j DROP');
    await reload(lab());
    assert.equal(await hook(lab(), 'FORWARD'), `-A FORWARD -s 10.10.1.99/32 -j DROP\n${last}\n`);
    await shell(lab(), 'iptables -D FORWARD -s 10.10.1.99/32 -j DROP');
  });

  it('jumps that are there twice are there once afterwards', async () => {
    await shell(lab(), 'iptables -A FORWARD -j KYLIN-VR-FORWARD; iptables -t nat -A PREROUTING -j KYLIN-VR-DNAT');
    await reload(lab());
    assert.equal(await hook(lab(), 'FORWARD'), `${last}\n`);
    assert.equal(await hook(lab(), 'PREROUTING', 'nat'), '-A PREROUTING -j KYLIN-VR-DNAT\n');
  });

  it('a rule of ours that was deleted, one that was added to our chain, and a spare chain of ours', async () => {
    const before = await networkOf(lab().router);
    await shell(
      lab(),
      `
      iptables -t nat -F KYLIN-VR-OUTBOUND
      iptables -I KYLIN-VR-FORWARD-TO -o eth0 -j DROP
      iptables -N KYLIN-VR-OLD
      iptables -A KYLIN-VR-OLD -j RETURN
      iptables -A FORWARD -j KYLIN-VR-OLD`,
    );
    await reload(lab());
    assert.equal(await networkOf(lab().router), before);
  });
}

function policies(lab: () => Lab, iptables: 'nft' | 'legacy'): void {
  it('a foreign rule that blocks everything in FORWARD is kept, and said', async () => {
    await shell(lab(), 'iptables -A FORWARD -j REJECT');
    const { warnings } = await reload(lab());
    const words =
      'a foreign rule in FORWARD blocks everything (-j REJECT --reject-with icmp-port-unreachable): nothing is forwarded ' +
      'between eth0, eth1; let their traffic through before it, or take it away';
    assert.deepEqual(warnings, [{ message: words }]);
    assert.equal(
      await hook(lab(), 'FORWARD'),
      '-A FORWARD -j REJECT --reject-with icmp-port-unreachable\n-A FORWARD -j KYLIN-VR-FORWARD\n',
    );
    await shell(lab(), 'iptables -D FORWARD -j REJECT');
  });

  it('with policy DROP our NICs forward to each other, and nothing else is forwarded', async () => {
    await shell(lab(), 'iptables -P FORWARD DROP');
    // eth2 is in no configuration: an operator's own.
    await shell(lab(), 'ip address add 10.10.2.254/24 dev eth2; ip link set eth2 up');
    await reload(lab());
    assert.equal(await pings(lab(), 'v', '203.0.113.1'), 'answered');
    assert.equal(await pings(lab(), 'out', '203.0.113.50'), 'answered');
    assert.equal(await pings(lab(), 'v', '10.10.2.21'), 'no answer');
    assert.equal(await pings(lab(), 'x', '203.0.113.1'), 'no answer');
    assert.match(await shell(lab(), 'iptables -S FORWARD'), /^-P FORWARD DROP\n/);
    await shell(lab(), 'iptables -P FORWARD ACCEPT; ip address flush dev eth2; ip link set eth2 down');
  });

  it('our chains that another backend holds go, and foreign ones there stay', async () => {
    const other = iptables === 'nft' ? 'legacy' : 'nft';
    const choose = (backend: string) =>
      `for tool in iptables iptables-save iptables-restore; do
         ln -sfn /usr/sbin/$(echo $tool | sed s/tables/tables-${backend}/) /etc/alternatives/$tool
       done`;
    const before = await networkOf(lab().router);
    await shell(lab(), 'iptables -t nat -A PREROUTING -d 192.0.2.99/32 -j DNAT --to-destination 10.10.1.99');
    await shell(lab(), choose(other));
    const { steps } = await reload(lab());
    assert.deepEqual(
      steps.filter(({ kind }) => kind === 'remove-stray-rules'),
      [
        {
          kind: 'remove-stray-rules',
          text: `- our chains in the other iptables backend (iptables-${iptables}-restore)`,
        },
      ],
    );
    const backends = new RegExp(`^(${iptables})`, 'gm');
    const switched = (await networkOf(lab().router)).split('\n').filter((line) => /KYLIN/.test(line));
    assert.deepEqual(
      switched,
      before
        .replace(backends, other)
        .split('\n')
        .filter((line) => /KYLIN/.test(line)),
    );
    assert.equal(
      await shell(lab(), `iptables-${iptables} -t nat -S PREROUTING`),
      '-P PREROUTING ACCEPT\n-A PREROUTING -d 192.0.2.99/32 -j DNAT --to-destination 10.10.1.99\n',
    );
    await shell(lab(), `${choose(iptables)}; iptables -t nat -D PREROUTING 1`);
    await reload(lab());
    assert.equal(await networkOf(lab().router), before);
  });
}

function displaced(lab: () => Lab, path: Path): void {
  it('a foreign global address on a NIC of ours goes after ours came, and that is said', async () => {
    await shell(
      lab(),
      'ip address flush dev eth1; ip address add 10.10.1.77/24 dev eth1; ip address add 169.254.9.9/16 scope link dev eth1',
    );
    const { steps } = await reload(lab());
    assert.deepEqual(
      steps.map(({ text }) => text).filter((text) => text.includes('address')),
      ['+ address 10.10.1.254/24 on eth1', '- address 10.10.1.77/24 on eth1 (foreign)'],
    );
    const there = await shell(lab(), "ip -4 -o address show dev eth1 | awk '{ print $4 }' | sort");
    assert.equal(there, '10.10.1.254/24\n169.254.9.9/16\n');
    await shell(lab(), 'ip address delete 169.254.9.9/16 dev eth1');
  });

  const { folder, mode, own, append, profiles, kept, foreign } = PROFILES[path === 'keyfile' ? 'keyfile' : 'ifcfg'];
  const backup = '/var/lib/kylin-vr/backup';

  it('foreign profiles of a NIC of ours, by MAC, device or name, are moved to the backup, and that is said', async () => {
    for (const [name, { text }] of Object.entries(profiles)) await lab().router.write(`${folder}/${name}`, text, mode);
    for (const [name, text] of Object.entries(kept)) await lab().router.write(`${folder}/${name}`, text, mode);
    const { steps } = await reload(lab());
    assert.deepEqual(
      steps.map(({ text }) => text).filter((text) => text.includes('kept as')),
      Object.entries(profiles).map(
        ([name, { device }]) => `- file ${folder}/${name} (a foreign profile of ${device}), kept as ${backup}/${name}`,
      ),
    );
    for (const [name, { text }] of Object.entries(profiles)) {
      assert.equal(await lab().router.read(`${folder}/${name}`), undefined);
      assert.equal(await lab().router.read(`${backup}/${name}`), text);
    }
    for (const [name, text] of Object.entries(kept)) assert.equal(await lab().router.read(`${folder}/${name}`), text);
    const log = (await lab().router.read('/var/log/kylin-vr/kylin-vr.log')) ?? '';
    assert.match(log, /- file \S+public\S* \(a foreign profile of eth0\), kept as/);
    assert.equal(
      await lab()
        .kylin('plan')
        .then(({ stdout }) => stdout),
      'in sync\n',
    );
  });

  it('a foreign profile where ours belongs is moved, and ours is there', async () => {
    const ours = await lab().router.read(`${folder}/${own}`);
    await lab().router.write(`${folder}/${own}`, foreign('dhcp'), mode);
    await reload(lab());
    assert.equal(await lab().router.read(`${folder}/${own}`), ours);
    assert.equal(await lab().router.read(`${backup}/${own}`), foreign('dhcp'));
  });

  it('a second foreign profile of that name is kept beside the first, and one that comes again is not', async () => {
    for (const method of ['dhcp', 'static', 'dhcp', 'none']) {
      await lab().router.write(`${folder}/${own}`, foreign(method), mode);
      await reload(lab());
    }
    assert.deepEqual(
      await Promise.all(
        [own, `${own}.1`, `${own}.2`, `${own}.3`].map((name) => lab().router.read(`${backup}/${name}`)),
      ),
      [foreign('dhcp'), foreign('static'), foreign('none'), undefined],
    );
  });

  it('an edit of our own profile is taken back', async () => {
    const ours = await lab().router.read(`${folder}/${own}`);
    await shell(lab(), `echo ${append} >> ${folder}/${own}; chmod 0640 ${folder}/${own}`);
    await reload(lab());
    assert.equal(await lab().router.read(`${folder}/${own}`), ours);
    assert.equal(await shell(lab(), `stat -c %a ${folder}/${own}`), `${mode.toString(8)}\n`);
  });
}

const dhcpKeyfile = (lines: string) => `[connection]\nid=x\ntype=ethernet\n${lines}\n[ipv4]\nmethod=auto\n`;

/** `own` is ours of subnet A; `foreign` may stand in its place. */
const PROFILES = {
  ifcfg: {
    folder: '/etc/sysconfig/network-scripts',
    mode: 0o644,
    own: 'ifcfg-eth1',
    append: 'IPADDR9=192.0.2.9',
    profiles: {
      'ifcfg-Wired_connection_1': { device: 'eth1', text: `# by hand\nHWADDR="${A.toUpperCase()}"\nBOOTPROTO=dhcp\n` },
      'ifcfg-eth1:0': { device: 'eth1', text: 'DEVICE=eth1:0\nIPADDR=10.10.1.99\nPREFIX=32\n' },
      'ifcfg-public': { device: 'eth0', text: 'DEVICE=eth0\nIPADDR=203.0.113.99\n' },
      'route-eth1': { device: 'eth1', text: '172.16.0.0/16 via 10.10.1.1\n' },
    },
    kept: {
      'ifcfg-lo': 'DEVICE=lo\nIPADDR=127.0.0.1\n',
      'ifcfg-eth9': `HWADDR=${B}\nONBOOT=no\n`,
      'ifcfg-eth1.bak': 'DEVICE=eth1\n',
      'ifup-local': '#!/bin/sh\n',
    },
    foreign: (method: string) => `DEVICE=eth1\nBOOTPROTO=${method}\n`,
  },
  keyfile: {
    folder: '/etc/NetworkManager/system-connections',
    mode: 0o600,
    own: 'kylin-vr-eth1.nmconnection',
    append: 'address9=192.0.2.9/32',
    profiles: {
      'Wired connection 1.nmconnection': {
        device: 'eth1',
        text: dhcpKeyfile(`[ethernet]\nmac-address=${A.toUpperCase()}`),
      },
      'eth1.nmconnection.bak': { device: 'eth1', text: dhcpKeyfile('interface-name=eth1') },
      'public.nmconnection': { device: 'eth0', text: dhcpKeyfile('interface-name=eth0') },
    },
    kept: {
      'other.nmconnection': dhcpKeyfile(`autoconnect=false\n[ethernet]\nmac-address=${B}`),
      'bridge.nmconnection': '[connection]\nid=b\ntype=bridge\nautoconnect=false\ninterface-name=eth1\n',
      'eth1.nmconnection~': dhcpKeyfile('interface-name=eth1'),
    },
    foreign: (method: string) => dhcpKeyfile(`interface-name=eth1\nid=${method}`),
  },
} as const;

/** As DOCKER, fail2ban and an operator leave it. */
const FOREIGN = `
  iptables -t nat -N DOCKER
  iptables -t nat -A PREROUTING -m addrtype --dst-type LOCAL -j DOCKER
  iptables -t nat -A DOCKER -p tcp --dport 5000 -j DNAT --to-destination 172.17.0.2:5000
  iptables -t nat -A POSTROUTING -s 172.17.0.0/16 ! -o docker0 -j MASQUERADE
  iptables -N f2b-sshd
  iptables -A INPUT -p tcp -m multiport --dports 22 -j f2b-sshd
  iptables -A f2b-sshd -s 192.0.2.66/32 -j REJECT
  iptables -A f2b-sshd -j RETURN
  iptables -I FORWARD 1 -s 10.10.1.99/32 -m comment --comment "quarantine, before -j KYLIN-VR-FORWARD" -j DROP
  iptables -P OUTPUT ACCEPT
  iptables -t mangle -A PREROUTING -i eth1 -j MARK --set-mark 7
  ip6tables -A INPUT -p tcp --dport 22 -j DROP
  ip link add br-op type bridge
  ip address add 192.0.2.129/25 dev br-op
  ip address add 203.0.113.50/32 dev br-op
  ip link set br-op up
  ip address add 192.0.2.5/25 dev eth2
  ip link set eth2 up
  ip -6 address add 2001:db8::1/64 dev eth0 nodad
  ip -6 address add 2001:db8:1::1/64 dev eth1 nodad
  ip -6 route add 2001:db8:2::/64 via 2001:db8:1::2 dev eth1
  ip -6 route add 2001:db8:3::/64 via 2001:db8:1::3 dev eth1 proto static metric 7
  ip address add 169.254.7.7/16 scope link dev eth0
  ip address add 192.0.2.254/32 scope link label eth0:op dev eth0
  ip route add 198.51.100.0/24 via 203.0.113.2 dev eth0 proto dhcp metric 100
  ip route add 172.17.0.0/16 via 203.0.113.3 dev eth0 proto static metric 77
  ip route add 172.18.0.0/16 dev eth0 proto 99 mtu lock 1300 src 169.254.7.7
  ip route add 172.19.0.0/16 via 203.0.113.3 dev eth0 table 100
  ip route add 198.51.100.0/24 via 192.0.2.200 dev br-op proto static metric 50
  ip route add 172.16.0.0/16 dev br-op proto bird
  ip route add blackhole 172.31.0.0/16
  ip route add default via 192.0.2.200 dev br-op table 100
  ip rule add from 192.0.2.129 table 100
  ip neigh add 192.0.2.201 lladdr 52:54:84:99:00:01 dev br-op nud permanent
  mkdir -p /etc/sysconfig/network-scripts
  echo 'DEVICE=br-op' > /etc/sysconfig/network-scripts/ifcfg-br-op
  echo 'default via 192.0.2.200 table 100' > /etc/sysconfig/network-scripts/route-br-op
  echo 'x' > /etc/sysconfig/network`;

/** An operator's own links; on a NIC of ours NetworkManager keeps by itself no address and no route by hand. */
const OPERATORS_OWN = '[keyfile]\nunmanaged-devices=interface-name:br-op;interface-name:eth2\n';

const FOREIGN_GONE = `
  iptables -t nat -F PREROUTING; iptables -t nat -F POSTROUTING; iptables -t nat -F DOCKER; iptables -t nat -X DOCKER
  iptables -F INPUT; iptables -F FORWARD; iptables -F f2b-sshd; iptables -X f2b-sshd; iptables -t mangle -F
  ip link delete br-op; ip address flush dev eth2; ip link set eth2 down
  ip route delete 198.51.100.0/24 via 203.0.113.2
  for net in 172.17.0.0/16 172.18.0.0/16; do ip route delete $net; done
  ip route flush table 100; ip rule delete table 100
  ip address delete 169.254.7.7/16 dev eth0; ip address delete 192.0.2.254/32 dev eth0
  rm -f /etc/sysconfig/network-scripts/*-br-op`;

/**
 * All that is not ours, of every kind. What the kernel itself puts with our addresses is ours. A gateway that no address of
 * the NIC reaches any more, because ours went, may be marked so. Addresses are sorted: those that NetworkManager took away
 * come back in whatever order; within one subnet `secondary` would show it.
 */
async function foreignOf(lab: Lab): Promise<string> {
  return shell(
    lab,
    `
    for table in filter nat mangle; do echo $table; iptables-save -t $table; done | grep -v -e '^#' -e -j.KYLIN -e '^:KYLIN' -e '^-A KYLIN' | sed 's/ \\[.*\\]//'
    ip6tables-save | grep -v '^#' | sed 's/\\[.*\\]//'
    ip -4 -o address show | grep -e br-op -e eth2 -e 'scope link' -e ' lo ' | sort
    ip -6 -o address show scope global | sort
    ip -4 route show table all | grep -v -e 'proto 175' -e 'dev eth[01].*proto kernel' -e 'dev eth[01] proto static *$' | sed 's/onlink //'
    ip -6 route show | grep 2001 || true
    ip rule show
    ip neigh show nud permanent
    ip -o link show | sed 's/ state .*//' | grep -v eth[01]
    grep -r . /etc/sysconfig --exclude 'ifcfg-eth[01]' || true`,
  );
}

const hook = async (lab: Lab, name: string, table = 'filter') =>
  (await shell(lab, `iptables -t ${table} -S ${name}`)).replace(/^-P .*\n/, '');

async function pings(lab: Lab, from: 'v' | 'x' | 'out', to: string): Promise<string> {
  const { status } = await lab.host(from).run(['ping', '-n', '-q', '-c', '1', '-W', '1', to]);
  return status === 0 ? 'answered' : 'no answer';
}

async function shell(lab: Lab, script: string): Promise<string> {
  return (await lab.router.run(['sh', '-ec', script], { check: true })).stdout;
}

type Report = { result: string; steps: { kind: string; text: string }[]; warnings: { message: string }[] };

async function reload(lab: Lab): Promise<Report> {
  const ended: RunResult = await lab.kylin('reload', '--json');
  assert.equal(ended.status, 0, ended.stdout + ended.stderr);
  return JSON.parse(ended.stdout);
}
