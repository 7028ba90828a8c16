import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { stringify } from 'yaml';
import { formatIpv4, ipv4 } from '../../src/base/ipv4.ts';
import type { Config, Nic } from '../../src/config/config.ts';
import { parseConfig } from '../../src/config/parse.ts';
import { LONG } from '../quick.ts';
import { errorsOf } from './issues.ts';

/** A router in service, as 0.1 was given it. */
const FIELD = `if_list:
   - ipaddr: 10.90.3.37
     prefix: 24
     mac: 52:54:84:00:08:46
     gateway: 10.90.3.1
   - ipaddr: 192.168.100.254
     prefix: 24
     mac: 52:54:84:11:00:04
eip_list:
  - eip: 10.90.2.189
    vm-ip: 192.168.100.203
  - eip: 10.90.2.250
    vm-ip: 192.168.100.190
  - eip: 10.90.3.21
    vm-ip: 192.168.100.31
port_forward_list:
  # www.example.test
  - eip: 10.90.2.254
    protocal: tcp
    port: 80
    end_port: 82
    vm-port: 80
    vm-ip: 192.168.100.190
`;

test('a router in service loads without a word', () => {
  const parsed = parseConfig(FIELD);
  assert.ok(parsed.ok);
  assert.deepEqual(parsed.warnings, []);
  assert.deepEqual(parsed.config.nics[0], {
    ipaddr: '10.90.3.37',
    prefix: 24,
    mac: '52:54:84:00:08:46',
    gateway: '10.90.3.1',
  });
  assert.deepEqual(parsed.config.forwards, [
    { eip: '10.90.2.254', protocol: 'tcp', port: 80, endPort: 82, vmPort: 80, vmIp: '192.168.100.190' },
  ]);
});

test('the state in which a router image is shipped loads', () => {
  assert.equal(parseConfig('if_list: []\neip_list: []\nport_forward_list: []\n').ok, true);
});

test('a file that is cut off anywhere loads or is refused, and never throws', () => {
  for (let length = 0; length < FIELD.length; length++) {
    const parsed = parseConfig(FIELD.slice(0, length));
    if (!parsed.ok) assert.ok(parsed.errors.length > 0);
  }
});

test('issues come in the order of the file, errors and warnings apart', () => {
  const places = errorsOf(FIELD.replaceAll('192.168.100.190', 'x').replace('prefix: 24', 'prefix: 0')).map((line) =>
    Number.parseInt(line, 10),
  );
  assert.deepEqual(places, [3, 13, 23]);
});

test('10,000 EIPs take a time in proportion', () => {
  const nics = FIELD.slice(0, FIELD.indexOf('eip_list')).replace(
    '192.168.100.254\n     prefix: 24',
    '192.168.100.254\n     prefix: 16',
  );
  const eip = (n: number) =>
    `  - eip: ${formatIpv4(ipv4('10.91.0.0') + n)}\n    vm-ip: ${formatIpv4(ipv4('192.168.128.0') + n)}\n`;
  const text = `${nics}eip_list:\n${Array.from({ length: 10_000 }, (_, n) => eip(n)).join('')}`;
  const started = performance.now();
  const parsed = parseConfig(text);
  assert.ok(parsed.ok && parsed.config.eips.length === 10_000);
  assert.ok(performance.now() - started < 20_000);
});

test('40,000 EIPs may be written in any way', LONG, () => {
  const eips = Array.from({ length: 40_000 }, (_, n) => ({
    eip: formatIpv4(ipv4('198.18.0.0') + n),
    'vm-ip': formatIpv4(ipv4('10.0.0.0') + n),
  }));
  const uplink = { ipaddr: '203.0.113.2', prefix: 24, mac: '52:54:00:12:34:56', gateway: '203.0.113.1' };
  const file = { if_list: [uplink], eip_list: eips };
  const lines = (entry: (eip: string, vm: string) => string) =>
    `if_list: ${JSON.stringify(file.if_list)}\neip_list:\n${eips.map((each) => entry(each.eip, each['vm-ip'])).join('')}`;
  for (const text of [
    JSON.stringify(file),
    lines((eip, vm) => `- { eip: ${eip}, vm-ip: ${vm} }\n`),
    lines((eip, vm) => `- eip: "${eip}"\n  vm-ip: '${vm}'\n`),
  ])
    assert.deepEqual([text.length > 1_600_000, errorsOf(text).slice(0, 3)], [true, []]);
});

test('what YAML makes much of is counted before it sees it; of less than that every mistake is listed', LONG, () => {
  const many = (piece: string, times: number) => `if_list: []\neip_list: [\n${piece.repeat(times)}`;
  const tooMany =
    'must not have more than 400000 commas, brackets, colons, dashes, quoted texts and lines together, has more from here on';
  for (const [piece, times, place] of [
    [',', 2_000_000, '3:399995'],
    ['"', 2_000_000, '3:799989'],
    ['- ', 1_000_000, '3:799989'],
    ['[\n', 1_000_000, '200000:1'],
  ] as const)
    assert.deepEqual(errorsOf(many(piece, times)), [`${place} ${tooMany}`]);
  assert.equal(errorsOf(`if_list: []\neip_list:\n${'- { eip: 1 }\n'.repeat(30_000)}`).length, 60_000);
});

test('100,000 mistakes on one line of any kind take a time in proportion', LONG, () => {
  for (const piece of ['&a ', '!a ', '* ', '& ', '? ', "'a' ", '!a x,']) {
    const started = performance.now();
    errorsOf(`if_list: [${piece.repeat(100_000)}`);
    // 20 to 60 s where each reads its line from its beginning.
    assert.ok(performance.now() - started < 15_000, piece);
  }
});

test('10,000 mistakes on one line take a time in proportion', LONG, () => {
  const started = performance.now();
  assert.equal(
    errorsOf(JSON.stringify({ if_list: [], eip_list: Array(10_000).fill({ eip: '🦊', 'vm-ip': 1 }) })).length,
    20_000,
  );
  assert.ok(performance.now() - started < 20_000);
});

// What the file would say for a Config, with keys and values in spellings of the field.

const nicOf = ({ bridge, keepAddresses, ...nic }: Nic) => ({
  ...nic,
  ...(keepAddresses && { 'keep-addresses': keepAddresses }),
  ...(bridge && { bridge: bridge.name, 'bridge-type': bridge.type }),
});

const fileOf = (config: Config, old: boolean): string =>
  stringify({
    if_list: config.nics.map((nic) =>
      old ? { ...nicOf(nic), mac: nic.mac.toUpperCase(), prefix: `${nic.prefix}` } : nicOf(nic),
    ),
    eip_list: config.eips.map(({ eip, vmIp }) => ({ eip, [old ? 'vm_ip' : 'vm-ip']: vmIp })),
    port_forward_list: config.forwards.map(({ eip, protocol, port, endPort, vmPort, vmIp }) => ({
      eip,
      [old ? 'protocal' : 'protocol']: old ? protocol.toUpperCase() : protocol,
      port: old ? `${port}` : port,
      ...(endPort === port ? {} : { [old ? 'end_port' : 'end-port']: endPort }),
      [old ? 'vm_port' : 'vm-port']: vmPort,
      [old ? 'vm_ip' : 'vm-ip']: vmIp,
    })),
    route_list: config.routes,
    ...(config.snats && {
      snat_list: config.snats.map(({ source, to }) => ({ source, to: typeof to === 'object' ? to.address : to })),
    }),
    // Absent, too, says that they are forwarded.
    ...((config.fromUplink === 'drop' || old) && { 'from-uplink': config.fromUplink }),
  });

/** An uplink in 198.51.0.0/16, subnets 10.n.0.0/16, EIPs in 203.0.0.0/16: no two things can meet. */
const configs: fc.Arbitrary<Config> = fc
  .record({
    subnets: fc.integer({ min: 1, max: 5 }),
    mtu: fc.option(fc.integer({ min: 1280, max: 65535 }), { nil: undefined }),
    name: fc.option(fc.stringMatching(/^[A-Za-z._-][A-Za-z0-9 ._-]{0,20}[A-Za-z]$/), { nil: undefined }),
    bridge: fc.option(
      fc.constantFrom({ name: 'br-ex', type: 'ovs' as const }, { name: 'br0.7', type: 'linux' as const }),
      { nil: undefined },
    ),
    eips: fc.uniqueArray(fc.integer({ min: 1, max: 30_000 }), { maxLength: 20 }),
    forwards: fc.uniqueArray(fc.integer({ min: 1, max: 600 }), { maxLength: 20 }),
    range: fc.integer({ min: 0, max: 99 }),
    protocol: fc.constantFrom('tcp' as const, 'udp' as const),
    routes: fc.uniqueArray(fc.integer({ min: 16, max: 31 }), { maxLength: 5 }),
    snats: fc.option(fc.uniqueArray(fc.integer({ min: 1, max: 250 }), { maxLength: 5 }), { nil: undefined }),
    to: fc.constantFrom('masquerade' as const, 'none' as const, { address: '203.0.255.1' }),
    fromUplink: fc.constantFrom('drop' as const, 'forward' as const),
  })
  .map(({ subnets, mtu, name, bridge, eips, forwards, range, protocol, routes, snats, to, fromUplink }) => ({
    nics: [
      {
        ipaddr: '198.51.0.10',
        prefix: 16,
        mac: '52:54:00:ab:cd:00',
        gateway: '198.51.0.1',
        ...(mtu && { mtu }),
        ...(name && { name }),
        ...(bridge && { bridge }),
      },
      ...Array.from({ length: subnets }, (_, n) => ({
        ipaddr: `10.${n}.0.1`,
        prefix: 16,
        mac: `52:54:00:ab:cd:0${n + 1}`,
      })),
    ],
    eips: eips.map((n) => ({ eip: formatIpv4(ipv4('203.0.0.0') + n), vmIp: formatIpv4(ipv4('10.0.1.0') + n) })),
    forwards: forwards.map((n) => ({
      eip: '203.0.254.1',
      protocol,
      port: n * 100,
      endPort: n * 100 + range,
      vmPort: n,
      vmIp: '10.0.0.7',
    })),
    routes: routes.map((n) => ({ dest: `172.${n}.0.0/16`, via: '10.0.0.9' })),
    snats: snats?.map((n) => ({ source: `172.16.${n}.0/24`, to })),
    fromUplink,
  }));

test('what a file says in either spelling is what its Config says', () => {
  fc.assert(
    fc.property(configs, fc.boolean(), (config, old) => {
      const { notes, ...parsed } = { notes: [], ...parseConfig(fileOf(config, old)) };
      assert.deepEqual(parsed, { ok: true, config, warnings: [] });
      // Each route leads through a subnet, to a network of its own.
      assert.ok(notes.length <= config.routes.length);
    }),
  );
});

test('a file with any piece cut out or put in never throws, and its issues have places in the file', () => {
  const piece = fc.oneof(
    fc.string(),
    fc.constantFrom(
      '\n',
      '\t',
      '- ',
      ': ',
      '[',
      '}',
      '"',
      "'",
      '&a ',
      '*a',
      '!!set ',
      '---\n',
      '|',
      '#',
      'null',
      '0',
      '🦊',
    ),
  );
  fc.assert(
    fc.property(configs, fc.nat(), fc.nat({ max: 30 }), piece, (config, at, cut, put) => {
      const text = fileOf(config, true);
      const start = at % text.length;
      const mutated = text.slice(0, start) + put + text.slice(start + cut);
      const parsed = parseConfig(mutated);
      const lines = mutated.split('\n');
      for (const { line = 0, column = 0, endColumn = 0 } of [...(parsed.ok ? [] : parsed.errors), ...parsed.warnings]) {
        assert.ok(line >= 1 && line <= lines.length && column >= 1 && endColumn > column);
        assert.ok(column <= [...(lines[line - 1] ?? '')].length + 1);
      }
    }),
    { numRuns: 500 },
  );
});

test('no text and no bytes make it throw', LONG, () => {
  fc.assert(fc.property(fc.string({ unit: 'binary' }), (text) => typeof parseConfig(text).ok === 'boolean'));
  fc.assert(fc.property(fc.uint8Array(), (bytes) => typeof parseConfig(bytes).ok === 'boolean'));
  const yaml = fc.json().map((json) => `if_list: ${json}\neip_list: [${json}]\nsnat_list:\n  - ${json}\n`);
  fc.assert(fc.property(yaml, (text) => typeof parseConfig(text).ok === 'boolean'));
});
