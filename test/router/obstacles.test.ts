// What keeps packets from a router that is as its file says: `status` says it, beside `in sync`, as long as it is there. And what is
// only somebody's policy is not said.

import assert from 'node:assert/strict';
import { after, before, describe, it } from 'node:test';
import { createLab, type Lab } from '../lab/lab.ts';
import { EIPS, elastic } from '../lab/table.ts';
import { createTraffic, type Traffic } from '../lab/traffic.ts';

const STOPPED = 'rules of others stop packets that are for us: ';

const OBSTACLES: [what: string, make: string, undo: string, said: string | RegExp][] = [
  [
    'a NIC without ARP',
    'ip link set dev eth0 arp off',
    'ip link set dev eth0 arp on',
    'eth0 answers no ARP, so nobody finds what is on it: turn that on with ip link set dev eth0 arp on',
  ],
  [
    'ARP for no address',
    'sysctl -w net.ipv4.conf.all.arp_ignore=8',
    'sysctl -w net.ipv4.conf.all.arp_ignore=0',
    'net.ipv4.conf.all.arp_ignore is 8: no NIC answers ARP, so nobody finds what is on them: sysctl -w net.ipv4.conf.all.arp_ignore=1',
  ],
  [
    'a drop in raw',
    `iptables -t raw -A PREROUTING -d ${EIPS.v} -m comment --comment 'a -j b' -j DROP`,
    'iptables -t raw -F',
    `${STOPPED}raw PREROUTING: -d ${EIPS.v}/32 -m comment --comment "a -j b" -j DROP`,
  ],
  [
    'no tracking',
    'iptables -t raw -A PREROUTING -i eth0 -j CT --notrack',
    'iptables -t raw -F',
    'rules of others stop packets that are for us: raw PREROUTING: -i eth0 -j CT --notrack',
  ],
  [
    'a drop in mangle, behind a rule that lets all go on',
    'iptables -t mangle -A FORWARD -j MARK --set-mark 0; iptables -t mangle -A FORWARD ! -i lo -j DROP',
    'iptables -t mangle -D FORWARD -j MARK --set-mark 0; iptables -t mangle -D FORWARD ! -i lo -j DROP',
    `${STOPPED}mangle FORWARD: ! -i lo -j DROP`,
  ],
  [
    'a drop of what comes in by a NIC',
    'iptables -t mangle -I PREROUTING -i eth0 -j DROP',
    'iptables -t mangle -D PREROUTING -i eth0 -j DROP',
    'rules of others stop packets that are for us: mangle PREROUTING: -i eth0 -j DROP',
  ],
  [
    'a policy in mangle',
    'iptables -t mangle -P POSTROUTING DROP',
    'iptables -t mangle -P POSTROUTING ACCEPT',
    `${STOPPED}mangle POSTROUTING: its policy is drop, and no rule lets anything pass`,
  ],
  [
    'a drop in a table of nft',
    `nft -f - <<'NFT'
      table inet theirs {
        chain onward {
          type filter hook forward priority -10
          ct state invalid counter drop
          ip daddr 192.0.2.1 drop
          iifname { "eth0", "eth9" } ip daddr { 192.0.2.0/24, 10.10.1.0-10.10.1.99 } counter drop
        }
      }
NFT`,
    'nft delete table inet theirs',
    `${STOPPED}table inet theirs, chain onward (forward): the rule with handle 6 (nft -a list ruleset)`,
  ],
  [
    'a policy in a table of nft, for ARP',
    `nft -f - <<'NFT'
      table arp theirs {
        chain asked { type filter hook input priority 0; policy drop; }
      }
NFT`,
    'nft delete table arp theirs',
    `${STOPPED}table arp theirs, chain asked (input): its policy is drop, and no rule lets anything pass`,
  ],
  [
    'a chain of theirs in the table filter of iptables',
    `nft -f - <<'NFT'
      table ip filter {
        chain forward {
          type filter hook forward priority 0; policy drop;
          ct state established,related accept
        }
      }
NFT`,
    'nft delete chain ip filter forward',
    'a foreign rule in table ip filter, chain forward blocks everything (its policy is drop): ' +
      'nothing is forwarded between eth0, eth1, eth2; let their traffic through before it, or take it away',
  ],
  [
    'a chain of theirs in the table mangle of iptables',
    `nft -f - <<'NFT'
      table ip mangle {
        chain theirs { type filter hook prerouting priority 10; policy drop; }
      }
NFT`,
    'nft delete chain ip mangle theirs',
    `${STOPPED}table ip mangle, chain theirs (prerouting): its policy is drop, and no rule lets anything pass`,
  ],
  [
    'a chain of theirs that has the name of one of iptables, which iptables-save prints as if it were empty',
    `nft delete table ip raw 2> /dev/null || true
     nft -f - <<'NFT'
      table ip raw {
        chain PREROUTING { type filter hook prerouting priority -200; policy drop; }
      }
NFT`,
    'nft delete table ip raw',
    `${STOPPED}table ip raw, chain PREROUTING (prerouting): its policy is drop, and no rule lets anything pass`,
  ],
  [
    'rules in raw that iptables cannot read',
    `nft delete table ip raw 2> /dev/null || true
     nft -f - <<'NFT'
      table ip raw {
        chain PREROUTING {
          type filter hook prerouting priority -300;
          meta mark set 5
          iifname "eth0" counter drop
        }
      }
NFT`,
    'nft delete table ip raw',
    /^rules of others stop packets that are for us: table ip raw, chain PREROUTING \(prerouting\): the rule with handle \d+ /,
  ],
  [
    'a policy of what comes in by a NIC',
    `nft -f - <<'NFT'
      table netdev theirs {
        chain entering { type filter hook ingress device "eth0" priority 0; policy drop; }
      }
NFT`,
    'nft delete table netdev theirs',
    `${STOPPED}table netdev theirs, chain entering (ingress): its policy is drop, and no rule lets anything pass`,
  ],
  [
    'a policy of what goes out by one of two NICs',
    `ip link add eth9x type veth peer name eth9y
     nft -f - <<'NFT'
      table netdev theirs {
        chain leaving { type filter hook egress devices = { "eth9x", "eth1" } priority 0; policy drop; }
      }
NFT`,
    'nft delete table netdev theirs; ip link del eth9x',
    `${STOPPED}table netdev theirs, chain leaving (egress): its policy is drop, and no rule lets anything pass`,
  ],
  [
    'a drop of an EIP where a NIC takes it in',
    `nft -f - <<'NFT'
      table netdev theirs {
        chain entering {
          type filter hook ingress device "eth0" priority 0
          ip daddr 203.0.113.50 counter drop
        }
      }
NFT`,
    'nft delete table netdev theirs',
    /^rules of others stop packets that are for us: table netdev theirs, chain entering \(ingress\): the rule with handle \d+ /,
  ],
  [
    'a drop of IPv4 where a NIC takes it in, in a table of both families',
    `nft -f - <<'NFT'
      table inet theirs {
        chain entering {
          type filter hook ingress device "eth0" priority 0
          meta protocol ip drop
        }
      }
NFT`,
    'nft delete table inet theirs',
    /table inet theirs, chain entering \(ingress\): the rule with handle \d+ /,
  ],
  [
    'a drop of a group of links',
    `nft -f - <<'NFT'
      table inet theirs {
        chain onward {
          type filter hook prerouting priority -200
          iifgroup default drop
        }
      }
NFT`,
    'nft delete table inet theirs',
    /table inet theirs, chain onward \(prerouting\): the rule with handle \d+ /,
  ],
  [
    'a drop of IPv4 of a NIC',
    `nft -f - <<'NFT'
      table inet theirs {
        chain onward {
          type filter hook prerouting priority -200
          meta protocol ip iif "eth0" drop
        }
      }
NFT`,
    'nft delete table inet theirs',
    /table inet theirs, chain onward \(prerouting\): the rule with handle \d+ /,
  ],
  [
    'a drop of questions of ARP',
    `nft -f - <<'NFT'
      table arp theirs {
        chain asked {
          type filter hook input priority 0
          arp operation request drop
        }
      }
NFT`,
    'nft delete table arp theirs',
    /table arp theirs, chain asked \(input\): the rule with handle \d+ /,
  ],
  [
    'a drop of ARP for an EIP',
    `nft -f - <<'NFT'
      table arp theirs {
        chain asked {
          type filter hook input priority 0
          arp daddr ip 203.0.113.50 drop
        }
      }
NFT`,
    'nft delete table arp theirs',
    /table arp theirs, chain asked \(input\): the rule with handle \d+ /,
  ],
  [
    'a drop in the table security of iptables',
    'iptables -t security -A FORWARD -j DROP',
    'iptables -t security -F',
    `${STOPPED}security FORWARD: -j DROP`,
  ],
  [
    'a table that is dormant',
    `nft 'table ip nat { flags dormant; }'`,
    'nft add table ip nat',
    'the table ip nat is dormant, so nothing in it has an effect: nft add table ip nat wakes it',
  ],
];

const POLICIES: [what: string, make: string, undo: string][] = [
  [
    'drops of somebody else, of some packets, and behind what lets pass',
    `iptables -t raw -A PREROUTING -s 192.0.2.66 -j DROP
     iptables -t raw -A PREROUTING -d ${EIPS.v} -p tcp --dport 23 -j DROP
     iptables -t raw -A PREROUTING -i eth9 -j DROP
     iptables -t raw -A PREROUTING -i eth+ -j ACCEPT
     iptables -t raw -A PREROUTING -j DROP`,
    'iptables -t raw -F',
  ],
  [
    'chains of theirs in tables of iptables that let pass, or are not asked',
    `nft -f - <<'NFT'
      table ip filter {
        chain forward { type filter hook forward priority 10; policy drop; accept; }
        chain input { type filter hook input priority 10; ip saddr 192.0.2.66 drop; }
        chain unused { drop; }
      }
NFT`,
    'nft delete chain ip filter forward; nft delete chain ip filter input; nft delete chain ip filter unused',
  ],
  [
    'drops where NICs take in and send, of other NICs, addresses and kinds',
    `ip link add eth9x type veth peer name eth9y
     nft delete table ip raw 2> /dev/null || true
     nft -f - <<'NFT'
      table netdev theirs {
        chain entering { type filter hook ingress device "eth9x" priority 0; policy drop; }
        chain leaving {
          type filter hook egress device "eth1" priority 0
          ip daddr 192.0.2.0/24 drop
          ether type ip6 drop
          vlan id 5 drop
        }
      }
      table inet theirs {
        chain onward {
          type filter hook prerouting priority -200
          iifgroup 7 drop
          iifgroup != default drop
          meta protocol ip6 iif "eth0" drop
        }
      }
      table bridge theirs {
        chain entering { type filter hook input priority 0; policy drop; }
      }
      table ip raw {
        chain PREROUTING {
          type filter hook prerouting priority -300
          ip saddr { 192.0.2.66, 192.0.2.67 } drop
        }
      }
NFT`,
    'for of in netdev inet bridge; do nft delete table $of theirs; done; nft delete table ip raw; ip link del eth9x',
  ],
  [
    'a firewall in a table of nft',
    `nft -f - <<'NFT'
      table inet theirs {
        set bad { type ipv4_addr; flags interval; elements = { 192.0.2.0/24 } }
        chain onward {
          type filter hook forward priority -10; policy drop
          ip saddr @bad drop
          ip daddr 192.0.2.0/24 drop
          iifname "eth9" drop
          meta l4proto tcp tcp dport 23 drop
          limit rate over 1000/second drop
          ip saddr 192.0.2.0/24 ip daddr 10.10.1.0/24 drop
          accept
        }
        chain not-ours { type filter hook input priority 0; policy drop; accept; }
      }
NFT`,
    'nft delete table inet theirs',
  ],
];

describe('what keeps packets from a router that is in sync', { concurrency: false }, () => {
  let lab: Lab;
  let traffic: Traffic;
  const shell = (script: string) => lab.router.run(['sh', '-ec', script], { check: true });
  const said = async () => {
    const { status, stdout } = await lab.kylin('status', '--json');
    const { inSync, warnings } = JSON.parse(stdout) as { inSync: boolean; warnings: { message: string }[] };
    return { status, inSync, warnings: warnings.map(({ message }) => message) };
  };
  const isReached = async () => {
    await lab.host('out').run(['ip', 'neigh', 'flush', 'all'], { check: true });
    const pong = await traffic.ping('out', EIPS.v);
    return pong.reached && pong.hops > 0;
  };
  const quiet = { status: 0, inSync: true, warnings: [] };
  before(async () => {
    lab = await createLab();
    traffic = createTraffic(lab);
    await lab.configure(elastic.config);
    assert.equal((await lab.kylin('reload')).status, 0);
  });
  after(() => lab?.close());

  for (const [what, make, undo, message] of OBSTACLES)
    it(`${what} is said while it is there`, async (t) => {
      assert.deepEqual([await said(), await isReached()], [quiet, true]);
      t.after(() => shell(undo));
      await shell(make);
      const { warnings, ...rest } = await said();
      if (typeof message === 'string') assert.deepEqual(warnings, [message]);
      else assert.match(warnings.join('\n'), message);
      assert.deepEqual([{ ...rest, warnings: [] }, await isReached()], [quiet, false]);
    });

  it('the table filter that is dormant is said, and what nft has besides, though nft prints half of its list', async (t) => {
    t.after(() => shell('nft add table ip filter; nft delete table ip theirs'));
    await shell(`nft -f - <<'NFT'
      table ip theirs {
        chain onward { type filter hook prerouting priority 0; policy drop; }
      }
      table ip filter {
        flags dormant;
      }
NFT`);
    assert.deepEqual((await said()).warnings, [
      'the table ip filter is dormant, so nothing in it has an effect: nft add table ip filter wakes it',
      `${STOPPED}table ip theirs, chain onward (prerouting): its policy is drop, and no rule lets anything pass`,
    ]);
    const { stdout } = await lab.kylin('explain', '--live', '--from', '192.0.2.10', '--to', `${EIPS.v}:80/tcp`);
    assert.match(stdout, /the table ip filter is dormant/);
    assert.match(stdout, /table ip theirs, chain onward/);
  });

  for (const [what, make, undo] of POLICIES)
    it(`${what}: nothing is said`, async (t) => {
      t.after(() => shell(undo));
      await shell(make);
      assert.deepEqual([await said(), await isReached()], [quiet, true]);
    });
});

it('on a bridge of ours, drops of what its ports take in and send are said', async (t) => {
  const lab = await createLab();
  t.after(() => lab.close());
  const traffic = createTraffic(lab);
  await lab.configure(elastic.config.replace(/gateway: [\d.]+/, '$&, bridge: br-ex, bridge-type: linux'));
  assert.equal((await lab.kylin('reload')).status, 0);
  const reaches = async () => {
    await lab.host('out').run(['ip', 'neigh', 'flush', 'all'], { check: true });
    const pong = await traffic.ping('out', EIPS.v);
    return pong.reached && pong.hops > 0;
  };
  const warnings = async () => {
    const { stdout } = await lab.kylin('status', '--json');
    return JSON.parse(stdout).warnings.map(({ message }: { message: string }) => message);
  };
  assert.deepEqual([await warnings(), await reaches()], [[], true]);
  for (const [table, said] of [
    [
      'table bridge theirs {\nchain entering { type filter hook input priority 0; policy drop; }\n}\n',
      /table bridge theirs, chain entering \(input\): its policy is drop/,
    ],
    [
      'table bridge theirs {\nchain leaving { type filter hook output priority 0; policy drop; }\n}\n',
      /table bridge theirs, chain leaving \(output\): its policy is drop/,
    ],
    [
      'table bridge theirs {\nchain whole {\ntype filter hook prerouting priority 0\niifname "eth0" drop\n}\n}\n',
      /table bridge theirs, chain whole \(prerouting\): the rule with handle/,
    ],
    [
      'table netdev theirs {\nchain entering { type filter hook ingress device "eth0" priority 0; policy drop; }\n}\n',
      /table netdev theirs, chain entering \(ingress\): its policy is drop/,
    ],
  ] as const) {
    await lab.router.run(['nft', '-f', '-'], { input: table, check: true });
    const [first = '', second, ...more] = await warnings();
    assert.match(first, said);
    assert.match(second ?? '', /^the gateway 203\.0\.113\.1 does not answer by ARP on br-ex, so that nothing passes: /);
    assert.deepEqual([more, await reaches()], [[], false]);
    await lab.router.run(['nft', 'delete', 'table', ...table.split(' ').slice(1, 3)], { check: true });
  }
});
