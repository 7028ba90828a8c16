// Whatever is on a machine: what is read of it in words is what is read of it in JSON, but for what an old ip does not say. On the real
// ip, in a network namespace for each machine; needs root.

import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { join } from 'node:path';
import { it } from 'node:test';
import fc from 'fast-check';
import { parseForeignAddresses, parseForeignNeighbours } from '../../src/dialects/foreign.ts';
import { asJson, inText } from '../../src/dialects/ip-text.ts';
import { parseAddresses, parseGroups, parseNics, parseRoutes, parseWays } from '../../src/dialects/iproute.ts';

const OLD_IP = join(import.meta.dirname, '../lab/old-ip.sh');
const skip = process.getuid?.() === 0 ? false : 'needs root';

const NICS = ['address show', 'route show table main'];
const NEIGHBOURS = ['neighbour show nud permanent nud noarp', 'neighbour show proxy'];

const oneOf = (...values: string[]) => fc.constantFrom(...values);
/** `a` and `b` are always there, one wire. Kinds that every kernel has; of others see the samples. */
const device = oneOf('a', 'b', 'a', 'b', 'c@d', 'state', 'dynamic', 'via', 'b\\s', 'e\\');
const host = fc.integer({ min: 1, max: 20 });

const links = fc.array(
  fc
    .tuple(
      device,
      oneOf(
        'type bridge',
        'type bridge stp_state 1 forward_delay 400',
        'link b type macvlan mode bridge',
        'type vxlan id 42 dstport 4789',
        'type veth peer name peer0',
        'type ifb',
      ),
      oneOf('', 'mtu 1300'),
    )
    .map(([name, type, mtu]) => `link add name ${name} ${mtu} ${type}`),
  { maxLength: 5, size: 'max' },
);
const settings = fc.array(
  fc
    .tuple(
      device,
      oneOf(
        'up',
        'down',
        'master state',
        'master via',
        'arp off',
        'promisc on',
        'group 7',
        'alias \\bond_slave',
        'alias a"b',
      ),
    )
    .map(([name, change]) => `link set dev ${name} ${change}`),
  { maxLength: 10, size: 'max' },
);
const addresses = fc.array(
  fc
    .tuple(
      host,
      device,
      oneOf('/24', '/32', '/25', ' peer 192.0.2.200/32'),
      oneOf(
        '',
        'noprefixroute',
        'broadcast +',
        'valid_lft 3000 preferred_lft 2000',
        'valid_lft 3000 preferred_lft 0',
        'metric 50',
        'proto 7',
      ),
      oneOf('', 'scope link', 'scope host', 'scope 77'),
      oneOf('', ':1', ':old'),
    )
    .map(
      ([n, name, length, more, scope, label]) =>
        `address add 192.0.2.${n}${length} dev ${name} ${more} ${scope}${label === '' ? '' : ` label ${name}${label}`}`,
    ),
  { maxLength: 12, size: 'max' },
);
const addresses6 = fc.array(
  fc
    .tuple(
      host,
      device,
      oneOf('/64', '/128', ' peer 2001:db8::99/128'),
      oneOf('', 'home', 'noprefixroute', 'nodad', 'valid_lft 900 preferred_lft 800'),
    )
    .map(([n, name, length, more]) => `address add 2001:db8::${n}${length} dev ${name} ${more}`),
  { maxLength: 4, size: 'max' },
);
const routes = fc.array(
  fc
    .tuple(
      oneOf('172.16.0.0/16', '172.17.0.7', 'default', '10.0.0.0/8'),
      oneOf(
        'via 192.0.2.9 dev a onlink',
        'dev b',
        'via inet6 fe80::1 dev a',
        'via 192.0.2.9 dev a onlink mtu lock 1400',
        'nexthop via 192.0.2.9 dev a onlink nexthop via 192.0.2.8 dev b weight 3 onlink',
      ),
      oneOf('', 'metric 50', 'proto 175', 'proto dhcp', 'tos 0x10', 'src 192.0.2.1'),
    )
    .map(([dest, way, more]) => `route add ${dest} ${more} ${way}`),
  { maxLength: 6, size: 'max' },
);
const nowhere = fc.array(
  fc
    .tuple(oneOf('blackhole', 'unreachable', 'prohibit', 'throw'), host)
    .map(([type, n]) => `route add ${type} 10.${n}.0.0/16`),
  { maxLength: 2, size: 'max' },
);
const neighbours = fc.array(
  fc
    .tuple(host, device, fc.boolean())
    .map(([n, name, proxy]) =>
      proxy
        ? `neighbour add proxy 192.0.2.${n} dev ${name}`
        : `neighbour add 192.0.2.${n} lladdr 02:00:00:00:00:01 dev ${name} nud permanent`,
    ),
  { maxLength: 3, size: 'max' },
);

const machine = fc
  .tuple(links, settings, addresses, addresses6, routes, nowhere, neighbours)
  .map((parts) => parts.flat());

const START = ['link add name a type veth peer name b', ...['a', 'b'].map((name) => `link set dev ${name} up`)];

/** In one namespace: what it is made of, and both answers to both questions. */
function askBoth(lines: readonly string[]): { json: string[]; words: string[] } {
  const asked = (questions: readonly string[]) => questions.map((line) => `${line}\\n`).join('');
  const old = (questions: readonly string[], details: string) =>
    `printf '${asked(questions)}' | env -i PATH=/usr/sbin:/usr/bin sh ${OLD_IP} -oneline ${details} -batch -; echo =`;
  const script = [
    // One by one: a batch ends at a line that ip does not understand.
    'while read -r line; do ip $line 2>/dev/null; done',
    `printf '${asked(NICS)}' | ip -json -details -batch -; echo =`,
    `printf '${asked(NEIGHBOURS)}' | ip -json -batch -; echo =`,
    old(inText({ lines: NICS }), '-details'),
    old(NEIGHBOURS, ''),
  ].join('\n');
  const { stdout } = spawnSync('unshare', ['--net', 'sh', '-c', script], {
    input: `${[...START, ...lines].join('\n')}\n`,
    encoding: 'utf8',
  });
  const [nics = '', around = '', nicsInWords = '', aroundInWords = ''] = stdout.split(/^=\n/m);
  return {
    json: [nics, around],
    words: [asJson({ lines: NICS }, nicsInWords), asJson({ lines: NEIGHBOURS }, aroundInWords)],
  };
}

/** All that is read of it; without what 4.11 does not say. */
function everything([nics = '', around = '']: readonly string[]) {
  const printed = parseNics(nics);
  const { links, addresses } = parseAddresses(printed.addresses);
  const devices = new Set(links.map(({ device }) => device));
  return {
    links: links.map(({ permanentMac: _, ...link }) => link),
    addresses: addresses.map(({ protocol: _, ...address }) => address),
    groups: [...parseGroups(printed.addresses)],
    foreign: parseForeignAddresses(printed.addresses, devices).map(({ protocol: _, words, ...each }) => ({
      ...each,
      words: words.replace(/ (metric|proto) \S+/g, ''),
    })),
    ...parseRoutes(printed.routes),
    ways: parseWays(printed.routes),
    neighbours: parseForeignNeighbours(around, devices),
  };
}

it('says the same in words as in JSON', { skip }, () => {
  let found = 0;
  fc.assert(
    fc.property(machine, (lines) => {
      const { json, words } = askBoth(lines);
      const [wanted, read] = [everything(json), everything(words)];
      assert.deepEqual(read, wanted);
      found += read.addresses.length + read.routes.length + read.neighbours.length;
    }),
    { numRuns: 40 },
  );
  assert.ok(found > 50, `${found}`);
});
