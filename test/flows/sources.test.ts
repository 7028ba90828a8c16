// As whom what is inside leaves, when the file says otherwise than before, or says anything for the first time: flows that never end
// take the new source with their next packets, and none is left in conntrack that keeps its private one.

import assert from 'node:assert/strict';
import { after, before, describe, it } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import type { Protocol } from '../lab/ipv4.ts';
import { ADDRESSES, createLab, type HostName, type Lab } from '../lab/lab.ts';
import { backendsOf, createLabOn, NAME_OF } from '../lab/path.ts';
import { type Arrivals, createRaw, type Raw, type RawFlow } from '../lab/raw.ts';
import { createTraffic, type Traffic } from '../lab/traffic.ts';
import { allIsRight, configOf, entries, nics, reload } from './lab.ts';

const { far, out, router: uplink, w, x } = ADDRESSES;
const [FIRST, SECOND] = ['203.0.113.40', '203.0.113.41'];
const [EIP, OTHER_EIP] = ['203.0.113.50', '198.51.100.50'];
const PORT = 7000;
const PROTOCOLS = ['udp', 'tcp', 'icmp', 'sctp', 'gre', 'esp', 'ipip'] as const satisfies Protocol[];

const snat = (to: string, source = '10.10.1.0/24') =>
  configOf({ rest: `snat_list:\n  - { source: ${source}, to: ${to} }\n` });
const none = configOf({ rest: 'snat_list: []\n' });
const ofW = (eip: string) => configOf({ eips: { [eip]: w } });

type Case = { what: string; from: string; as: string; to: string; now: string; others?: 'change' };
const CASES: Case[] = [
  { what: 'no source NAT, then the default', from: none, as: w, to: configOf({}), now: uplink, others: 'change' },
  { what: 'the default, then no source NAT', from: configOf({}), as: uplink, to: none, now: w, others: 'change' },
  { what: 'none, then an address', from: snat('none'), as: w, to: snat(FIRST), now: FIRST },
  { what: 'an address, then another', from: snat(FIRST), as: FIRST, to: snat(SECOND), now: SECOND },
  { what: 'an address, then none', from: snat(FIRST), as: FIRST, to: snat('none'), now: w },
  { what: 'the default, then an address', from: configOf({}), as: uplink, to: snat(FIRST), now: FIRST },
  { what: 'an address, then the default', from: snat(FIRST), as: FIRST, to: configOf({}), now: uplink },
  { what: 'the uplink, then an EIP of its own', from: configOf({}), as: uplink, to: ofW(EIP), now: EIP },
  { what: 'none, then an EIP of its own', from: snat('none'), as: w, to: ofW(EIP), now: EIP },
  { what: 'an EIP of its own, then the uplink', from: ofW(EIP), as: EIP, to: configOf({}), now: uplink },
  { what: 'an EIP, then another', from: ofW(EIP), as: EIP, to: ofW(OTHER_EIP), now: OTHER_EIP },
  {
    what: 'an address for one VM alone in a subnet that leaves as another',
    from: snat(FIRST),
    as: FIRST,
    to: `${snat(FIRST)}  - { source: ${w}/32, to: ${SECOND} }\n`,
    now: SECOND,
  },
  {
    what: 'another address for the uplink',
    from: configOf({}),
    as: uplink,
    to: configOf({}, nics.replace(`ipaddr: ${uplink},`, 'ipaddr: 203.0.113.38,')),
    now: '203.0.113.38',
    others: 'change',
  },
];

for (const path of ['ip', 'keyfile'] as const)
  describe(`as whom what is inside leaves: ${NAME_OF[path]}`, { concurrency: true }, () => {
    for (const iptables of backendsOf(path))
      describe(iptables, { concurrency: false }, () => {
        let lab: Lab;
        let raw: Raw;
        let traffic: Traffic;
        let came: Arrivals;
        /** The file lets private sources out until then. */
        let untranslated = true;
        before(async () => {
          lab = await createLabOn(path, { iptables });
          raw = createRaw(lab);
          traffic = createTraffic(lab);
          lab.witness.excuse('the file says so', ({ kind }) => kind === 'private source' && untranslated);
          await lab.host('out').run(['ip', 'route', 'add', '10.10.0.0/16', 'via', uplink], { check: true });
          came = await raw.arrivals('out', ...PROTOCOLS);
          for (const protocol of PROTOCOLS) await raw.answer('out', protocol, hasPorts(protocol) ? PORT : undefined);
          await traffic.listen('far', 'tcp', 80);
        });
        after(() => lab?.close());

        for (const { what, from, as, to, now, others } of CASES)
          it(what, async (t) => {
            untranslated = true;
            await reload(lab, from);
            await lab.router.run(['conntrack', '-F']);
            const began = Date.now();
            const flows = await Promise.all(PROTOCOLS.map((protocol) => start(raw, 'w', protocol)));
            // Without an answer, too.
            flows.push(await start(raw, 'w', 'udp', 7001));
            const beside = await start(raw, 'x', 'udp');
            t.after(() => Promise.all([...flows, beside].map((flow) => flow.stop())));
            const stream = await traffic.openStream({ from: 'w', to: far, port: 80 });
            const besideStream = await traffic.openStream({ from: 'x', to: far, port: 80 });
            t.after(() => Promise.all([stream, besideStream].map((each) => each.close())));
            await Promise.all(flows.slice(0, -1).map((flow) => flow.answered()));
            await beside.answered();
            assert.deepEqual(
              sourcesOf(came, began, 'w'),
              Object.fromEntries([...PROTOCOLS, 'udp, no answer'].map((name) => [name, [as]])),
            );
            const ofX = async () => (await entries(lab, '-s', x)).map(({ id }) => id).sort();
            const known = await ofX();

            await lab.witness.leaks();
            await lab.witness.forgive();
            untranslated = now === w;
            await reload(lab, to);
            const since = Date.now() + 250;
            await seenAll(came, since);
            assert.deepEqual(
              sourcesOf(came, since, 'w'),
              Object.fromEntries([...PROTOCOLS, 'udp, no answer'].map((name) => [name, [now]])),
            );
            const table = await entries(lab, '-s', w);
            assert.deepEqual(new Set(table.map(({ replyDestination }) => replyDestination)), new Set([now]));
            assert.equal(await stream.carries(false), false);
            if (others === undefined) {
              assert.deepEqual(await ofX(), known);
              assert.ok(await besideStream.carries());
              const { sent, received, turns } = await beside.stop();
              assert.deepEqual([received, turns.length], [sent, 1]);
            }
            await allIsRight(lab);
          });
      });
  });

for (const iptables of ['nft', 'legacy'] as const)
  describe(`a machine that forwards already: ${iptables}`, { concurrency: true }, () => {
    for (const [what, setup, command] of [
      ['and knows its flows', 'iptables -A FORWARD -m conntrack --ctstate INVALID -j LOG', 'reload'],
      ['and knows its flows, at boot', 'iptables -A FORWARD -m conntrack --ctstate INVALID -j LOG', 'start'],
      ['and does not', '', 'reload'],
      [
        'with a forward policy of DROP',
        'iptables -P FORWARD DROP; iptables -I FORWARD -m conntrack --ctstate ESTABLISHED -j ACCEPT',
        'start',
      ],
    ] as const)
      it(what, async (t) => {
        const lab = await createLab({ iptables });
        t.after(() => lab.close());
        const raw = createRaw(lab);
        const script = `
          ip address add ${uplink}/24 dev eth0; ip address add 10.10.1.254/24 dev eth1; ip address add 10.10.2.254/24 dev eth2
          for nic in eth0 eth1 eth2; do ip link set $nic up; done
          ip route add default via ${out}; sysctl -qw net.ipv4.ip_forward=1; ${setup}`;
        await lab.router.run(['sh', '-ec', script], { check: true });
        const came = await raw.arrivals('out', ...PROTOCOLS);
        for (const protocol of PROTOCOLS) await raw.silence('out', protocol);
        await Promise.all(PROTOCOLS.map((protocol) => start(raw, 'w', protocol)));
        await Promise.all((['udp', 'tcp', 'icmp', 'sctp'] as const).map((protocol) => start(raw, 'x', protocol)));
        await sleep(300);
        await run(lab, command);
        const since = Date.now() + 250;
        await seenAll(came, since, PROTOCOLS.length);
        assert.deepEqual(sourcesOf(came, since, 'w'), Object.fromEntries(PROTOCOLS.map((name) => [name, [uplink]])));
        assert.deepEqual(
          new Set(
            (await entries(lab))
              .filter(({ destination }) => destination === out)
              .map(({ replyDestination }) => replyDestination),
          ),
          new Set([uplink]),
        );
        await allIsRight(lab);
      });

    it('start, and the first reload, of a machine that does not: from its first packet on', async (t) => {
      for (const command of ['start', 'reload']) {
        const lab = await createLab({ iptables });
        t.after(() => lab.close());
        lab.witness.takenOver();
        const raw = createRaw(lab);
        const came = await raw.arrivals('out', ...PROTOCOLS);
        for (const protocol of PROTOCOLS) await raw.silence('out', protocol);
        await Promise.all(PROTOCOLS.map((protocol) => start(raw, 'w', protocol)));
        await Promise.all((['udp', 'tcp', 'icmp', 'sctp'] as const).map((protocol) => start(raw, 'x', protocol)));
        await run(lab, command);
        await seenAll(came, 0, PROTOCOLS.length);
        assert.deepEqual(sourcesOf(came, 0, 'w'), Object.fromEntries(PROTOCOLS.map((name) => [name, [uplink]])));
        const inside = new Set<string>([w, x]);
        assert.deepEqual(
          came.seen().filter(({ source }) => inside.has(source)),
          [],
        );
      }
    });

    async function run(lab: Lab, command: string): Promise<void> {
      await lab.configure(configOf({}));
      const { status, stdout, stderr } = await lab.kylin(command);
      assert.equal(status, 0, stdout + stderr);
    }
  });

const hasPorts = (protocol: Protocol): boolean => ['udp', 'tcp', 'sctp'].includes(protocol);

/** By the sender's port; those without one are w's alone. */
let ports = 20_000;
const owners = new Map<number, string>();

function start(raw: Raw, from: HostName, protocol: Protocol, port = PORT): Promise<RawFlow> {
  const sourcePort = ports++;
  owners.set(sourcePort, `${from} ${port === PORT ? protocol : `${protocol}, no answer`}`);
  return raw.start(from, { protocol, to: out, port, sourcePort, perSecond: 50 });
}

/** Each of w's, and a while longer. */
async function seenAll(came: Arrivals, since: number, count = PROTOCOLS.length + 1): Promise<void> {
  for (let waited = 0; waited < 20_000 && Object.keys(sourcesOf(came, since, 'w')).length < count; waited += 50)
    await sleep(50);
  await sleep(300);
}

/** As whom each of its flows is seen. */
function sourcesOf(came: Arrivals, since: number, from: HostName): Record<string, string[]> {
  const seen = new Map<string, Set<string>>();
  for (const { at, protocol, source, sourcePort } of came.seen()) {
    const [host, ...rest] = (owners.get(sourcePort) ?? `w ${protocol}`).split(' ');
    if (at <= since || host !== from) continue;
    const name = rest.join(' ');
    seen.set(name, (seen.get(name) ?? new Set()).add(source));
  }
  return Object.fromEntries([...seen].map(([name, sources]) => [name, [...sources]]));
}
