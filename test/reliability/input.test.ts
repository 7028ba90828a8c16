// Any input: configurations that are valid are reached, those that are not change nothing, and whatever a tool prints is
// understood or refused. What a configuration's text may hold is in test/config/parse.test.ts, the planning of any
// change in test/network/plan-model.test.ts; here it is the whole program on the real kernel.

import assert from 'node:assert/strict';
import { readdirSync, readFileSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { after, before, describe, it } from 'node:test';
import fc from 'fast-check';
import { AgentError } from '../../src/base/errors.ts';
import { parseConfig } from '../../src/config/parse.ts';
import { isLoaded, parsePath } from '../../src/dialects/busctl.ts';
import { parseFlows } from '../../src/dialects/conntrack.ts';
import { ifcfgRenderer } from '../../src/dialects/ifcfg.ts';
import { parseAddresses, parseRoutes } from '../../src/dialects/iproute.ts';
import { parseSave } from '../../src/dialects/iptables.ts';
import { keyfileRenderer } from '../../src/dialects/keyfile.ts';
import { parseDevices } from '../../src/dialects/nmcli.ts';
import { createLab, type Lab, NICS } from '../lab/lab.ts';
import { networkOf } from '../lab/state.ts';

const SEED = Number(process.env.KYLIN_VR_SEED ?? Date.now() % 1_000_000);

const list = (key: string, lines: readonly string[]) =>
  lines.length === 0 ? '' : `${key}:\n${lines.map((line) => `  - { ${line} }\n`).join('')}`;

/** In the laboratory's networks; no two things in one can meet. */
const texts: fc.Arbitrary<string> = fc
  .record({
    uplink: fc.integer({ min: 2, max: 250 }),
    prefix: fc.integer({ min: 8, max: 30 }),
    subnets: fc.subarray([NICS.a, NICS.b]),
    hasUplink: fc.boolean(),
    mtu: fc.option(fc.integer({ min: 576, max: 1500 }), { nil: undefined }),
    name: fc.option(fc.stringMatching(/^[A-Za-z][A-Za-z0-9 ._-]{0,10}[A-Za-z]$/), { nil: undefined }),
    eips: fc.uniqueArray(fc.integer({ min: 1, max: 250 }), { maxLength: 12 }),
    forwards: fc.uniqueArray(fc.integer({ min: 1, max: 600 }), { maxLength: 12 }),
    range: fc.integer({ min: 0, max: 99 }),
    shift: fc.integer({ min: 0, max: 5 }),
    protocol: fc.constantFrom('tcp', 'udp'),
    routes: fc.uniqueArray(fc.integer({ min: 16, max: 31 }), { maxLength: 3 }),
    snats: fc.option(fc.uniqueArray(fc.integer({ min: 1, max: 250 }), { maxLength: 3 }), { nil: undefined }),
    to: fc.constantFrom('masquerade', 'none', '198.51.100.251'),
  })
  .map((of) => {
    const mtu = of.mtu === undefined ? '' : `, mtu: ${of.mtu}`;
    const name = of.name === undefined ? '' : `, name: '${of.name}'`;
    const gateway = of.prefix <= 24 ? ', gateway: 203.0.113.1' : '';
    const uplink = `ipaddr: 203.0.113.${of.uplink}, prefix: ${of.prefix}, mac: '${NICS.public.mac}'${gateway}${mtu}${name}`;
    const subnets = of.subnets.map(
      ({ mac, segment }) => `ipaddr: 10.10.${segment === 'a' ? 1 : 2}.254, prefix: 24, mac: '${mac}'`,
    );
    const nics = [...(of.hasUplink ? [uplink] : []), ...subnets];
    const snats = of.snats?.map((n) => `source: 172.24.${n}.0/24, to: ${of.to}`);
    return (
      (nics.length === 0 ? 'if_list: []\n' : list('if_list', nics)) +
      list(
        'eip_list',
        of.eips.map((n) => `eip: 198.51.100.${n}, vm-ip: 10.10.1.${n}`),
      ) +
      list(
        'port_forward_list',
        of.forwards.map(
          (n) =>
            `eip: 198.51.100.254, protocal: ${of.protocol}, port: ${n * 100}, end_port: ${n * 100 + of.range}, vm-port: ${n * 100 + of.shift}, vm-ip: 10.10.1.9`,
        ),
      ) +
      (of.subnets.includes(NICS.a)
        ? list(
            'route_list',
            of.routes.map((n) => `dest: 172.${n}.0.0/16, via: 10.10.1.9`),
          )
        : '') +
      (snats === undefined ? '' : snats.length === 0 ? 'snat_list: []\n' : list('snat_list', snats))
    );
  });

const pieces = fc.oneof(
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
    '---\n',
    '#',
    'null',
    '-1',
    '🦊',
    '$(reboot)',
  ),
);
const mutated = fc
  .tuple(texts, fc.nat(), fc.nat({ max: 30 }), pieces)
  .map(([text, at, cut, put]) => text.slice(0, at % text.length) + put + text.slice((at % text.length) + cut));

/** Some of them, the same ones for one seed. */
const some = (arbitrary: fc.Arbitrary<string>, count: number, fits: (text: string) => boolean): string[] =>
  fc.sample(arbitrary.filter(fits), { numRuns: count, seed: SEED });

for (const iptables of ['nft', 'legacy'] as const)
  describe(`any configuration, on the real kernel: ${iptables} (seed ${SEED})`, { concurrency: false }, () => {
    let lab: Lab;
    before(async () => {
      lab = await createLab({ iptables, networkScripts: true });
    });
    after(() => lab?.close());

    for (const text of some(texts, 12, (text) => parseConfig(text).ok))
      it(`valid: is reached, and then there is nothing left to do: ${JSON.stringify(text).slice(0, 60)}…`, async () => {
        await lab.configure(text);
        const { status, stdout, stderr } = await lab.kylin('reload');
        assert.equal(status, 0, `${text}\n${stdout}${stderr}`);
        const plan = await lab.kylin('plan', '--exit-code');
        assert.deepEqual([plan.stdout, plan.status], ['in sync\n', 0], text);
      });

    it('not valid: ends 65, says where, and changes nothing', async () => {
      const network = await networkOf(lab.router);
      for (const text of some(mutated, 8, (text) => !parseConfig(text).ok)) {
        await lab.configure(text);
        const { status, stdout, stderr } = await lab.kylin('reload', '--json');
        assert.equal(status, 65, `${text}\n${stderr}`);
        assert.ok(JSON.parse(stdout).errors.length > 0, text);
        assert.equal(await networkOf(lab.router), network, text);
      }
    });

    it('an automatic run waits for an invalid file to settle once, not each time', async () => {
      await lab.configure('if_list: nonsense\n');
      const times: number[] = [];
      for (let n = 0; n < 4; n++) {
        const started = performance.now();
        assert.equal((await lab.kylin('reload', '--trigger', 'timer')).status, 65);
        times.push(performance.now() - started);
      }
      const [first = 0, ...others] = times;
      assert.ok(first > 2000 && Math.min(...others) < first - 1000, `${times} ms`);
    });
  });

const SAMPLES = resolve(import.meta.dirname, '../dialects/samples');
const samples = fc.constantFrom(...readdirSync(SAMPLES).map((name) => readFileSync(join(SAMPLES, name), 'utf8')));
/** Anything; and real output with a piece cut out or put in, or from which the end is missing. */
const output = fc.oneof(
  fc.string({ unit: 'binary' }),
  fc.json(),
  fc
    .tuple(samples, fc.nat(), fc.nat({ max: 200 }), pieces)
    .map(([text, at, cut, put]) => text.slice(0, at % text.length) + put + text.slice((at % text.length) + cut)),
  fc.tuple(samples, fc.nat()).map(([text, at]) => text.slice(0, at % text.length)),
);

const READERS: Record<string, (text: string) => unknown> = {
  'ip address': parseAddresses,
  'ip route': parseRoutes,
  'iptables-save': parseSave,
  'conntrack -L': parseFlows,
  'nmcli device': parseDevices,
  'busctl, a path': parsePath,
  'busctl, files read': isLoaded,
  'an ifcfg file': (text) => ifcfgRenderer.claim('ifcfg-x', text),
  'a route file': (text) => ifcfgRenderer.claim('route-x', text),
  'a keyfile': (text) => keyfileRenderer.claim('x.nmconnection', text),
};

describe('whatever a tool prints', () => {
  for (const [name, read] of Object.entries(READERS))
    it(`${name}: is read, or refused in words`, () => {
      fc.assert(
        fc.property(output, (text) => {
          try {
            read(text);
          } catch (error) {
            assert.ok(error instanceof AgentError, String(error));
            assert.match(error.message, /is not understood/);
          }
        }),
        { numRuns: 500 },
      );
    });

  it('iptables-save: an output that was cut short is refused, so that nothing is added twice', () => {
    const text = readFileSync(join(SAMPLES, 'iptables-nft-save.iptables-1.8.9.txt'), 'utf8');
    const first = text.indexOf('*');
    const closed = (end: number) =>
      !text.slice(0, end).includes('*') || /COMMIT\n?(#[^\n]*\n?)*$/.test(text.slice(0, end));
    for (let end = first + 1; end < text.length; end++)
      if (!closed(end)) assert.throws(() => parseSave(text.slice(0, end)), AgentError, `cut at ${end}`);
  });
});
