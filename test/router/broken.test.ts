// `status` on a router of which somebody has taken one rule away: each rule and each jump of ours in turn, on the real iptables. What is
// expected is said here chain by chain, by hand.

import assert from 'node:assert/strict';
import { after, before, describe, it } from 'node:test';
import { contains, ipv4, parseCidr } from '../../src/base/ipv4.ts';
import type { Status } from '../../src/run/status.ts';
import { ADDRESSES, createLab, type Lab } from '../lab/lab.ts';
import { elastic } from '../lab/table.ts';
import { LONG } from '../quick.ts';

const CROWDED = '203.0.113.61';
const forwards = Array.from(
  { length: 17 },
  (_, n) => `  - { eip: ${CROWDED}, protocol: tcp, port: ${8080 + n}, vm-port: 81, vm-ip: ${ADDRESSES.w} }\n`,
);
const CONFIG = `${elastic.config.replace('port_forward_list:\n', `$&${forwards.join('')}`)}snat_list:
  - { source: 10.10.2.0/24, to: 203.0.113.40 }
  - { source: 10.10.1.0/24, to: ${ADDRESSES.router} }
  - { source: 10.10.1.99/32, to: none }
`;

/** One of the three, by what rules tell it apart. */
type Thing = {
  name: string;
  kind: 'EIP' | 'forward' | 'source';
  /** What it is reached by; of a source, by what it leaves. */
  outer: string;
  /** The VM; of a source, somebody there. */
  inner: string;
  protocol?: string;
  ports?: [first: number, last: number];
};

const thingsOf = ({ eips, forwards: mapped, sources }: Status): (Thing & { state: string })[] => [
  ...eips.map(({ eip, vmIp, state }) => ({ name: eip, kind: 'EIP' as const, outer: eip, inner: vmIp, state })),
  ...mapped.map(({ eip, vmIp, protocol, port, endPort, state }) => ({
    name: `${eip}:${port}/${protocol}`,
    kind: 'forward' as const,
    ...{ outer: eip, inner: vmIp, protocol, ports: [port, endPort] as [number, number], state },
  })),
  ...sources.map(({ source, to, state }) => ({
    name: source,
    kind: 'source' as const,
    ...{ outer: to, inner: source.replace(/\/.*/, ''), state },
  })),
];

const isOn = (address: string, network: string | undefined): boolean => {
  const parsed = network === undefined ? undefined : parseCidr(network.includes('/') ? network : `${network}/32`);
  return parsed !== undefined && contains(parsed, ipv4(address));
};

const deviceOf = (inner: string): string => (isOn(inner, '10.10.1.0/24') ? 'eth1' : 'eth2');

/** Whether what comes to a rule of ours has to come by it for this thing to work. */
function isBehind({ kind, outer, inner, protocol, ports, name }: Thing, table: string, chain: string, rule: string) {
  const value = (option: string) => new RegExp(`(?:^| )${option} (\\S+)`).exec(rule)?.[1];
  const isMapped = kind !== 'source';
  // What leaves as it is does so without a rule, too.
  const isTranslated = outer !== 'none';
  const to = value('-d') ?? value('--ctorigdst');
  const from = value('-s');
  const [first = 0, last = first] = (value('--dport') ?? '').split(':').map(Number);
  const isLocal = rule.includes('--src-type LOCAL');
  // What the router sends to its own address has that for its source anyway.
  const isAtOwn = isLocal && outer === ADDRESSES.router;
  const kindOfChain = chain.replace('KYLIN-VR-', '');
  switch (true) {
    // Guards against what is not ours: nothing of ours goes by them.
    case table === 'mangle':
      return false;
    case ['PREROUTING', 'OUTPUT'].includes(chain):
      return isMapped;
    case chain === 'POSTROUTING':
      return isTranslated;
    case chain === 'FORWARD':
      return true;
    case chain === 'INPUT':
      return isMapped && outer !== ADDRESSES.router;
    case /^(DNAT$|[DH]\d|TRANSLATED$)/.test(kindOfChain):
      return isMapped && isOn(outer, to);
    case /^I(NPUT$|\d)/.test(kindOfChain):
      return isMapped && outer !== ADDRESSES.router && isOn(outer, to);
    case /^P-/.test(kindOfChain):
      return (
        kind === 'forward' &&
        (kindOfChain.includes(outer) || kindOfChain.includes(hexOf(outer))) &&
        protocol === value('-p') &&
        ports !== undefined &&
        first <= ports[1] &&
        ports[0] <= last
      );
    case /^S(OURCE$|\d)/.test(kindOfChain):
      return kind === 'EIP' && isOn(inner, from);
    case kindOfChain === 'POSTROUTING':
      return rule.includes('DNAT') ? isMapped : isTranslated && kind !== 'forward';
    case kindOfChain === 'OUTBOUND':
      return from === undefined ? kind === 'EIP' : kind === 'source' && name === from;
    case kindOfChain === 'HAIRPIN':
      return isMapped && !isAtOwn;
    case kindOfChain === 'HAIRPIN-SOURCE':
      return from === undefined && !isLocal ? kind === 'EIP' : isMapped && !isAtOwn;
    case table === 'filter': {
      const device = value('-i') ?? value('-o');
      return device === 'eth0' || device === deviceOf(inner);
    }
  }
  return assert.fail(`a chain that this test does not know: ${table} ${chain}`);
}

const hexOf = (address: string) => ipv4(address).toString(16).padStart(8, '0').toUpperCase();

for (const iptables of ['nft', 'legacy'] as const)
  describe(`a rule that is gone, iptables-${iptables}`, { ...LONG, concurrency: false }, () => {
    let lab: Lab;
    before(async () => {
      lab = await createLab({ iptables });
      await lab.configure(CONFIG);
      const { status, stderr } = await lab.kylin('reload');
      assert.equal(status, 0, stderr);
    });
    after(() => lab?.close());

    it('what is behind it is in error, and nothing else', async () => {
      const run = async (argv: string[], input = '') => (await lab.router.run(argv, { check: true, input })).stdout;
      const look = async () => thingsOf(JSON.parse((await lab.kylin('status', '--json')).stdout));
      const sound = await look();
      assert.deepEqual(
        sound.filter(({ state }) => state !== 'active'),
        [],
      );
      assert.ok((['EIP', 'forward', 'source'] as const).every((kind) => sound.some((each) => each.kind === kind)));
      const saved = await run(['iptables-save']);
      let table = '';
      let gone = 0;
      for (const line of saved.split('\n')) {
        if (line.startsWith('*')) table = line.slice(1);
        const [, chain, rule] = /^-A (\S+) (.*)$/.exec(line) ?? [];
        if (chain === undefined || rule === undefined) continue;
        await run(['iptables-restore', '--noflush'], `*${table}\n-D ${chain} ${rule}\nCOMMIT\n`);
        const found = await look();
        await run(['iptables-restore'], saved);
        gone++;
        assert.deepEqual(
          found.filter(({ state }) => state === 'error').map(({ name }) => name),
          sound.filter((each) => isBehind(each, table, chain, rule)).map(({ name }) => name),
          `${table} ${chain} ${rule}`,
        );
      }
      assert.ok(gone > 100, `only ${gone} rules`);
    });
  });
