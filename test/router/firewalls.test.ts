// Real firewalld, with both of its backends, and real ufw: what is said is what becomes of packets between our NICs.

import assert from 'node:assert/strict';
import { after, before, describe, it } from 'node:test';
import { FIREWALLD_POLICY } from '../../src/installation/tree.ts';
import { payload } from '../../src/machine/payload.ts';
import { json, ok, shell, warningsOf } from '../confirm/router.ts';
import { createLab, type Lab } from '../lab/lab.ts';
import { BUS, BUS_CONFIGURATION } from '../lab/networkmanager.ts';
import { EIPS, elastic } from '../lab/table.ts';
import { createTraffic, type Traffic } from '../lab/traffic.ts';

const FIREWALLD = 'firewalld is running and lets nothing be forwarded ';
const CURE = 'kylin-vr install --firewalld makes a policy that does';
const BETWEEN = 'between eth0, eth1, eth2';
const ALL = { 'v to out': true, 'out to v': true, 'v to x': true };
const NONE = { 'v to out': false, 'out to v': false, 'v to x': false };
const INSIDE = 'from eth1 to eth0, eth1 to eth2, eth2 to eth0, eth2 to eth1';

describe('beside other firewalls', { concurrency: 3 }, () => {
  for (const backend of ['nftables', 'iptables'] as const)
    describe(`firewalld with ${backend}`, { concurrency: false }, () => {
      const { lab, said, passes } = routerWith(async (router) => {
        await router.router.write(BUS_CONFIGURATION, BUS);
        await shell(
          router,
          `sed -i 's/^FirewallBackend=.*/FirewallBackend=${backend}/' /etc/firewalld/firewalld.conf
           dbus-daemon --config-file=${BUS_CONFIGURATION} --fork --nopidfile`,
        );
      });
      const start = () =>
        shell(
          lab(),
          `/usr/sbin/firewalld --nofork --nopid > /run/firewalld.log 2>&1 < /dev/null &
           echo $! > /run/firewalld-of-test
           timeout 60 sh -c 'until firewall-cmd --state; do sleep 0.1; done' > /dev/null 2>&1 || { cat /run/firewalld.log >&2; exit 1; }`,
        );

      it('that is not running: nothing is said', async () => {
        assert.deepEqual([await said(), await passes()], [[], ALL]);
      });

      it('in its public zone: what begins inside is stopped, which is said, with the cure', async () => {
        await start();
        await ok(lab(), 'reload');
        const [only = '', ...more] = await said();
        assert.deepEqual([only.startsWith(`${FIREWALLD}${INSIDE} (`), more], [true, []], only);
        assert.ok(only.endsWith(`: ${CURE}`), only);
        assert.deepEqual(await passes(), { 'v to out': false, 'out to v': true, 'v to x': false });
        const live = await lab().kylin('explain', '--from', '10.10.1.11', '--to', '192.0.2.10:80', '--live');
        assert.equal(live.status, 2);
        assert.match(live.stdout, /^differs: .* stops it/m);
        const inward = await lab().kylin('explain', '--from', '192.0.2.10', '--to', `${EIPS.v}:80`, '--live');
        assert.equal(inward.status, 0, inward.stdout);
      });

      it('with our policy: nothing is said', async () => {
        // As install --firewalld would; that writes below /usr, which is this machine's.
        await lab().router.write(FIREWALLD_POLICY, payload['packaging/firewalld-policy.xml']);
        await shell(lab(), 'firewall-cmd --reload');
        await ok(lab(), 'reload');
        assert.deepEqual([await said(), await passes()], [[], ALL]);
      });

      it('that is stopped: nothing is said', async () => {
        await shell(
          lab(),
          `kill $(cat /run/firewalld-of-test); timeout 20 sh -c 'while firewall-cmd --state; do sleep 0.1; done' > /dev/null 2>&1`,
        );
        await ok(lab(), 'reload');
        assert.deepEqual([await said(), await passes()], [[], ALL]);
      });
    });

  describe('ufw', { concurrency: false }, () => {
    const { lab, said, passes } = routerWith(async () => undefined);

    it('with its own defaults: what it does not know comes to our rules', async () => {
      await shell(lab(), 'ufw --force enable');
      await ok(lab(), 'reload');
      assert.deepEqual([await said(), await passes()], [[], ALL]);
    });

    it('that rejects what is routed: nothing is forwarded but what it lets through itself, which is said', async () => {
      await shell(lab(), 'ufw default reject routed');
      await ok(lab(), 'reload');
      assert.deepEqual(await said(), [
        `a foreign rule in FORWARD blocks everything (ufw-reject-forward: -j REJECT --reject-with icmp-port-unreachable): nothing is forwarded ${BETWEEN}; let their traffic through before it, or take it away`,
      ]);
      assert.deepEqual(await passes(), NONE);
    });

    it('that lets what is routed through by a rule of its own: nothing is said', async () => {
      await shell(lab(), 'ufw route allow in on eth0; ufw route allow in on eth1; ufw route allow in on eth2');
      await ok(lab(), 'reload');
      assert.deepEqual([await said(), await passes()], [[], ALL]);
    });
  });

  describe('rules of an operator', { concurrency: false }, () => {
    const { lab, said, passes } = routerWith(async () => undefined);
    const cases: [what: string, make: string, undo: string, said: string[], passes: Record<string, boolean>][] = [
      [
        'an earlier rule that lets everything through',
        'iptables -I FORWARD -j REJECT; iptables -I FORWARD -i eth+ -j ACCEPT',
        'iptables -D FORWARD -j REJECT; iptables -D FORWARD -i eth+ -j ACCEPT',
        [],
        { 'v to out': true, 'out to v': true, 'v to x': true },
      ],
      [
        'what answers is let through, nothing else, in a table of nft',
        "nft 'table inet theirs { chain f { type filter hook forward priority 10; policy drop; ct state vmap { established : accept, related : accept }; }; }'",
        'nft delete table inet theirs',
        [
          `a foreign rule in table inet theirs, chain f blocks everything (its policy is drop): nothing is forwarded ${BETWEEN}; let their traffic through before it, or take it away`,
        ],
        { 'v to out': false, 'out to v': false, 'v to x': false },
      ],
      [
        'a list of addresses that are blocked, which iptables-save prints as all',
        "nft insert rule ip filter FORWARD ip saddr '{ 192.0.2.7, 192.0.2.8 }' drop",
        "nft -a list chain ip filter FORWARD | sed -n 's/.*192.0.2.7.*handle //p' | xargs nft delete rule ip filter FORWARD handle",
        [],
        { 'v to out': true, 'out to v': true, 'v to x': true },
      ],
      [
        'the same, by name, in mangle',
        "nft add set ip mangle bad '{ type ipv4_addr; }'; nft insert rule ip mangle FORWARD ip saddr @bad drop",
        "nft -a list chain ip mangle FORWARD | sed -n 's/.*@bad.*handle //p' | xargs nft delete rule ip mangle FORWARD handle; nft delete set ip mangle bad",
        [],
        { 'v to out': true, 'out to v': true, 'v to x': true },
      ],
      [
        'the policy of iptables-legacy, where ours are in nft',
        'iptables-legacy -P FORWARD DROP; iptables-legacy -A FORWARD -m conntrack --ctstate ESTABLISHED -j ACCEPT',
        'iptables-legacy -P FORWARD ACCEPT; iptables-legacy -F FORWARD',
        [
          `a foreign rule in FORWARD of iptables-legacy blocks everything (its policy is drop): nothing is forwarded ${BETWEEN}; let their traffic through before it, or take it away`,
        ],
        NONE,
      ],
      [
        'a rule in mangle of iptables-legacy',
        'iptables-legacy -t mangle -A FORWARD -j DROP',
        'iptables-legacy -t mangle -D FORWARD -j DROP',
        ['rules of others stop packets that are for us: mangle FORWARD of iptables-legacy: -j DROP'],
        NONE,
      ],
      [
        'between two of them, in a chain that another leads to',
        'iptables -N theirs; iptables -A theirs -o eth2 -j DROP; iptables -I FORWARD -i eth1 -g theirs',
        'iptables -D FORWARD -i eth1 -g theirs; iptables -F theirs; iptables -X theirs',
        [
          'a foreign rule in FORWARD blocks what begins (theirs: -o eth2 -j DROP): nothing is forwarded from eth1 to eth2; let their traffic through before it, or take it away',
        ],
        { 'v to out': true, 'out to v': true, 'v to x': false },
      ],
    ];
    for (const [what, make, undo, words, expected] of cases)
      it(what, async (t) => {
        t.after(() => shell(lab(), undo));
        await shell(lab(), make);
        assert.deepEqual([await said(), await passes()], [words, expected]);
      });
  });
});

function routerWith(prepare: (lab: Lab) => Promise<unknown>) {
  let lab: Lab;
  let traffic: Traffic;
  before(async () => {
    lab = await createLab();
    traffic = createTraffic(lab);
    for (const host of ['out', 'v', 'x'] as const) await traffic.listen(host, 'tcp', 80);
    await prepare(lab);
    await lab.configure(elastic.config);
    await ok(lab, 'reload');
  });
  after(() => lab?.close());
  const reaches = async (from: 'v' | 'out', to: string) =>
    (await traffic.probe({ from, to, port: 80, transport: 'tcp' })).reached;
  return {
    lab: () => lab,
    said: async () => warningsOf(await json(lab, 'status')),
    passes: async () => ({
      'v to out': await reaches('v', '203.0.113.1'),
      'out to v': await reaches('out', EIPS.v),
      'v to x': await reaches('v', '10.10.2.21'),
    }),
  };
}
