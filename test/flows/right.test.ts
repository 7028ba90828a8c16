// The other way round: whatever the rules in force did with a flow, the file says so. Everybody sends everything to everybody by each
// configuration, and a run that looks at all of it finds nothing to cut.

import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import type { Protocol } from '../lab/ipv4.ts';
import { ADDRESSES, createLab, GATEWAYS, type HostName, NICS } from '../lab/lab.ts';
import { createRaw } from '../lab/raw.ts';
import { EIPS, elastic, NEAR, OTHER, snat } from '../lab/table.ts';
import { configOf, entries, nics, reload, shown } from './lab.ts';

const { far, out, v, w, x } = ADDRESSES;
const HOSTS: readonly HostName[] = ['far', 'out', 'router', 'v', 'w', 'x', 'y'];
const PROTOCOLS = ['udp', 'tcp', 'icmp', 'sctp', 'gre', 'esp'] as const satisfies Protocol[];
const BEHIND = '172.24.0.9';
const DESTINATIONS = [
  ...HOSTS.map((host) => ADDRESSES[host]),
  ...Object.values(EIPS),
  ...Object.values(GATEWAYS),
  ...[NEAR, OTHER, '203.0.113.40', '198.18.0.1', BEHIND],
];
const PORTS = [80, 53, 5353, 8080, 443, 7001, 8443, 9001];

/** b's gateway is a second uplink. */
const second = nics.replace(
  `{ ipaddr: ${GATEWAYS.b}, prefix: 24, mac: '${NICS.b.mac}' }`,
  `{ ipaddr: ${GATEWAYS.b}, prefix: 24, mac: '${NICS.b.mac}', gateway: ${x} }`,
);
const lists = elastic.config.slice(nics.length);
const route = (via: string) => `route_list:\n  - { dest: 172.24.0.0/16, via: ${via} }\n`;
const SECOND_ROUTES = 'ip route add 198.18.0.0/15 via 10.10.2.21; ip route add 192.0.2.0/24 via 10.10.2.21';

const CASES: [what: string, config: string, setup?: string][] = [
  ['elastic IPs and forwards', elastic.config],
  ['an entry of snat_list', snat.config],
  ['no source NAT', `${elastic.config}snat_list: []\n`],
  ['none for a subnet', `${elastic.config}snat_list:\n  - { source: 10.10.1.0/24, to: none }\n`],
  ['everything as one address', `${elastic.config}snat_list:\n  - { source: 0.0.0.0/0, to: 203.0.113.40 }\n`],
  [
    'the outer network itself as one address',
    `${elastic.config}snat_list:\n  - { source: 203.0.113.0/24, to: 203.0.113.40 }\n`,
  ],
  ['by masquerade', `${elastic.config}snat_list:\n  - { source: 10.10.1.0/24, to: masquerade }\n`],
  ['hosts behind a VM', `${elastic.config}${route(w)}`],
  ['hosts behind the gateway', `${elastic.config}${route(out)}`],
  ['two EIPs on a VM', configOf({ eips: { [EIPS.v]: v, [EIPS.x]: v, [EIPS.y]: x } })],
  [
    'an EIP and forwards on one VM',
    configOf({
      eips: { [EIPS.v]: w },
      forwards: { [`${NEAR} tcp 80`]: `${w} 80`, [`${ADDRESSES.router} udp 53`]: `${w} 53` },
    }),
  ],
  ['a second uplink', second + lists],
  ['a second uplink that some of it leaves by', second + lists, SECOND_ROUTES],
  ['a second uplink, and no source NAT', `${second + lists}snat_list: []\n`, SECOND_ROUTES],
  [
    'a second uplink, and an address',
    `${second + lists}snat_list:\n  - { source: 10.10.1.0/24, to: 203.0.113.40 }\n`,
    SECOND_ROUTES,
  ],
  [
    'a second uplink by a rule of policy routing',
    second + lists,
    'ip route add default via 10.10.2.21 dev eth2 table 100; ip rule add from 10.10.1.0/24 table 100 pref 1000; ip rule add from 10.10.1.0/24 to 10.10.1.0/24 table main pref 999',
  ],
  [
    'an EIP and a forward of hosts outside',
    configOf({ eips: { [EIPS.v]: v, [EIPS.x]: far }, forwards: { [`${NEAR} udp 53`]: `${far} 53` } }),
  ],
  [
    'an EIP and a forward of hosts outside, and no source NAT',
    configOf({
      eips: { [EIPS.v]: v, [EIPS.x]: far },
      forwards: { [`${NEAR} udp 53`]: `${far} 53` },
      rest: 'snat_list: []\n',
    }),
  ],
  ['nothing new from the uplink', `${elastic.config}from-uplink: drop\n`],
  ['elastic IPs only', configOf({ eips: { [EIPS.v]: v } })],
];

for (const iptables of ['nft', 'legacy'] as const)
  describe(`the file says what the rules do: ${iptables}`, { concurrency: false }, () => {
    for (const [what, config, setup = ''] of CASES)
      it(what, async (t) => {
        const lab = await createLab({ iptables });
        t.after(() => lab.close());
        // A file may let them out; and who is inside behind a second uplink is not a private source.
        lab.witness.excuse('that is not the point here', () => true);
        await lab
          .host('out')
          .run(
            ['sh', '-ec', 'ip route add 10.10.0.0/16 via 203.0.113.37; ip route add 172.24.0.0/16 via 203.0.113.37'],
            { check: true },
          );
        const raw = createRaw(lab);
        await reload(lab, config);
        await lab.router.run(['sh', '-ec', setup], { check: true });
        // The routes are known to a run.
        await reload(lab);
        await lab.router.run(['conntrack', '-F']);
        let sourcePort = 20_000;
        for (const from of HOSTS)
          for (const destination of DESTINATIONS)
            for (const protocol of PROTOCOLS)
              for (const destinationPort of ['udp', 'tcp'].includes(protocol) ? PORTS : [80]) {
                sourcePort = sourcePort === 60_000 ? 20_000 : sourcePort + 1;
                const flags = { icmp: '8/0', tcp: 'S', sctp: 'INIT' }[protocol as string] ?? '';
                // Where there is no way it cannot be sent.
                await raw
                  .send(from, { protocol, destination, sourcePort, destinationPort, flags, tag: 1, text: 'some text' })
                  .catch(() => {});
              }
        await sleep(300);
        const table = await entries(lab);
        assert.ok(table.length > 300, `${table.length}`);
        const before = new Map(table.map((flow) => [flow.id, flow]));
        const { result, steps } = await reload(lab);
        const left = new Set((await entries(lab)).map(({ id }) => id));
        const gone = [...before].filter(
          ([id, { protocol, state }]) => !left.has(id) && !(protocol === 'tcp' && state === 'CLOSE'),
        );
        assert.deepEqual(
          { result, steps },
          { result: 'unchanged', steps: [] },
          gone.map(([, flow]) => shown(flow)).join('\n'),
        );
      });
  });
