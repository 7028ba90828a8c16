// Many flows at once, in a table that holds more, with new ones coming all the time: what is stale goes in bounded time and memory, by
// the kernel's own interface or by conntrack alone, and nothing else goes with it.

import assert from 'node:assert/strict';
import { after, before, describe, it } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import type { Flow } from '../../src/network/flow.ts';
import { ADDRESSES, createLab, type Lab } from '../lab/lab.ts';
import { createRaw, type Raw } from '../lab/raw.ts';
import { allIsRight, configOf, cutsOf, entries, reload, tryReload } from './lab.ts';

const { out, v, w, x } = ADDRESSES;
const [EIP, NEAR] = ['203.0.113.50', '203.0.113.60'];
const RANGE = [20_000, 20_999] as const;
const COUNT = RANGE[1] - RANGE[0] + 1;
const [BEFORE, AFTERWARDS] = [30_000, 40_000];
const range = (vmPort: number) => configOf({ forwards: { [`${NEAR} udp ${RANGE.join('-')}`]: `${v} ${vmPort}` } });
const PER_SECOND = 200;
/** Nothing is measured: what takes longer waits for something. */
const SANE_MS = 30_000;

const hide = (...commands: string[]): string =>
  commands.map((name) => `f=$(command -v ${name}) && mount --bind /dev/null "$(readlink -f "$f")" || true\n`).join('');
const WAYS: [way: string, by: 'netlink' | 'conntrack', hidden: string][] = [
  ['perl', 'netlink', ''],
  ['python', 'netlink', hide('perl')],
  ['conntrack alone', 'conntrack', hide('perl', 'python3', 'python2', 'python')],
];

for (const iptables of ['nft', 'legacy'] as const)
  for (const [way, by, hidden] of WAYS)
    describe(`many flows: ${iptables}, ${way}`, { concurrency: false }, () => {
      let lab: Lab;
      let raw: Raw;
      before(async () => {
        lab = await createLab({ iptables });
        raw = createRaw(lab);
        await raw.silence('v', 'udp');
        // An entry lasts as long as the test.
        await lab.router.run(['sh', '-c', `sysctl -qw net.netfilter.nf_conntrack_udp_timeout=600\n${hidden}`], {
          check: true,
        });
      });
      after(() => lab?.close());

      it('1,000 flows of a range that leads elsewhere are cut, and none of those that come meanwhile', async (t) => {
        await reload(lab, range(BEFORE));
        const ask = (n: number, sourcePort: number) =>
          raw.send('far', {
            protocol: 'udp',
            destination: NEAR,
            sourcePort,
            destinationPort: RANGE[0] + (n % COUNT),
          });
        await ask(0, 9999);
        for (let n = 0; n < COUNT; n++) await ask(n, 10_000 + n);
        const old = await entries(lab, '-p', 'udp', '-d', NEAR);
        assert.ok(old.length >= COUNT, `${old.length}`);
        assert.ok(old.every(({ replySourcePort = 0 }) => isIn(replySourcePort, BEFORE)));

        const arrivals = await raw.arrivals('v', 'udp');
        let clients = 0;
        const began = Date.now();
        const coming = setInterval(() => {
          const due = Math.floor(((Date.now() - began) / 1000) * PER_SECOND);
          for (; clients < due; clients++) ask(clients * 7, 11_001 + (clients % 50_000)).catch(() => {});
        }, 5);
        t.after(() => clearInterval(coming));
        await sleep(300);
        const started = performance.now();
        const report = await reload(lab, range(AFTERWARDS));
        const tookMs = performance.now() - started;
        t.diagnostic(`${Math.round(tookMs)} ms with ${clients} clients: ${cutsOf(report).join('; ')}`);
        assert.ok(tookMs < SANE_MS, `${tookMs}`);
        const cut = Number(
          new RegExp(`^- (\\d+) established flows of ${NEAR.replaceAll('.', '\\.')}$`).exec(
            cutsOf(report).join('\n'),
          )?.[1],
        );
        if (by === 'netlink') {
          assert.deepEqual(report.warnings, []);
          assert.ok(cut > COUNT, `${cut}`);
        } else {
          // As many as there is time for: each call reads the whole table.
          const [, left] = LEFT.exec(report.warnings.join('\n')) ?? [];
          assert.ok(
            cut + Number(left ?? 0) > COUNT && (left !== undefined || report.warnings.length === 0),
            report.warnings.join(),
          );
          await sleep(500);
          clearInterval(coming);
          for (let runs = 0; runs < 100 && (await reload(lab)).warnings.length > 0; runs++);
        }
        await sleep(500);
        clearInterval(coming);
        const left = await entries(lab, '-p', 'udp', '-d', NEAR);
        assert.ok(left.length > 50, `${left.length} have come`);
        assert.deepEqual(
          left.filter(({ replySourcePort = 0 }) => !isIn(replySourcePort, AFTERWARDS)),
          [],
        );
        // Each of them sent one packet, and is known by it as long as its entry is there.
        const known = new Set(left.map(({ sourcePort }) => sourcePort));
        const led = arrivals.seen().filter(({ destinationPort }) => isIn(destinationPort, AFTERWARDS));
        assert.ok(led.length > 50, `${led.length} have come`);
        assert.deepEqual(
          led.filter(({ sourcePort }) => !known.has(sourcePort)),
          [],
        );
        arrivals.stop();
        await allIsRight(lab);
      });

      it('of 20,000 entries those of one elastic IP are cut, and the others stay', async (t) => {
        await reload(lab, configOf({ eips: { [EIP]: w } }));
        await lab.router.run(['conntrack', '-F']);
        const inserted = Array.from({ length: 20_000 }, (_, n) => {
          const [client, sport] = [`192.0.2.${20 + (n % 200)}`, 1024 + Math.floor(n / 200)];
          const common = `-I -p udp -t 3600 --sport ${sport} --dport 53 --reply-port-src 53 --reply-port-dst ${sport}`;
          // 100 of the EIP, 10,000 between the subnets, the others from inside to the outside.
          if (n < 100) return `${common} -s ${client} -d ${EIP} -r ${w} -q ${client}`;
          if (n % 2)
            return `${common} -s 10.10.1.${20 + (n % 200)} -d 10.10.2.${20 + (n % 200)} -r 10.10.2.${20 + (n % 200)} -q 10.10.1.${20 + (n % 200)}`;
          return `${common} -s 10.10.2.${20 + (n % 200)} -d 192.0.2.99 -r 192.0.2.99 -q ${ADDRESSES.router} --dport ${1 + (n % 200)} --reply-port-src ${1 + (n % 200)}`;
        });
        await lab.router.run(['sh', '-ec', 'cat > /run/batch; conntrack -R /run/batch; rm /run/batch'], {
          input: inserted.join('\n').concat('\n'),
          check: true,
        });
        const ids = (table: Flow[]) =>
          table
            .filter(({ destination }) => destination !== EIP)
            .map(({ id = 0 }) => id)
            .sort((a, b) => a - b);
        const old = await entries(lab, '-p', 'udp');
        assert.ok(old.length >= 19_900, `${old.length}`);
        assert.equal(old.filter(({ destination }) => destination === EIP).length, 100);
        await lab.router.run(
          [
            'conntrack',
            '-I',
            ...`-p udp -t 3600 -s ${w} -d ${out} -r ${out} -q ${EIP} --sport 9 --dport 9 --reply-port-src 9 --reply-port-dst 9`.split(
              ' ',
            ),
          ],
          { check: true },
        );
        const started = performance.now();
        const report = await reload(lab, configOf({}));
        t.diagnostic(`${Math.round(performance.now() - started)} ms: ${cutsOf(report).join('; ')}`);
        assert.deepEqual([cutsOf(report), report.warnings], [[`- 101 established flows of ${EIP}`], []]);
        const left = await entries(lab, '-p', 'udp');
        assert.deepEqual(ids(left), ids(old));
        assert.deepEqual(
          left.filter(({ destination, replyDestination }) => destination === EIP || replyDestination === EIP),
          [],
        );
      });
    });

describe('what there was no time for', { concurrency: false }, () => {
  it('is said, and the next run goes on, also one of the timer', async (t) => {
    const lab = await createLab();
    t.after(() => lab.close());
    await reload(lab, configOf({ eips: { [EIP]: w, '203.0.113.51': x } }));
    const lines = Array.from({ length: 300 }, (_, n) => {
      const client = `192.0.2.${20 + (n % 200)}`;
      const [sport, dport] = [1024 + Math.floor(n / 200), 1 + n];
      // Each has to be asked for by itself where an EIP moves and takes the half of them along.
      return `-I -p udp -t 3600 -s ${client} -d ${EIP} -r ${w} -q ${client} --sport ${sport} --dport ${dport} --reply-port-src ${dport} --reply-port-dst ${sport}`;
    });
    await lab.router.run(
      ['sh', '-ec', `cat > /run/batch; conntrack -R /run/batch; ${hide('perl', 'python3', 'python2', 'python')}`],
      {
        input: lines.join('\n').concat('\n'),
        check: true,
      },
    );
    // Takes its time.
    await lab.router.run(
      [
        'sh',
        '-ec',
        `cp /usr/sbin/conntrack /run/conntrack; printf '#!/bin/sh\\ncase "$*" in -D*) sleep 1;; esac\\nexec /run/conntrack "$@"\\n' > /run/slow; chmod +x /run/slow; mount --bind /run/slow /usr/sbin/conntrack`,
      ],
      { check: true },
    );
    // A forward in its place that leads to the same VM at other ports: what is stale differs port by port.
    const { status, report } = await tryReload(
      lab,
      configOf({ eips: { '203.0.113.51': x }, forwards: { [`${EIP} udp 1-300`]: `${w} 10001` } }),
    );
    assert.equal(status, 0);
    assert.match(report.warnings.join('\n'), LEFT);
    const some = (await entries(lab, '-d', EIP)).length;
    assert.ok(some > 0);
    await lab.router.run(['umount', '-l', '/usr/sbin/conntrack'], { check: true });
    for (let runs = 0; runs < 20 && (await entries(lab, '-d', EIP)).length > 0; runs++) {
      const { status, stderr, stdout } = await lab.kylin('reload', '--trigger', 'timer');
      assert.equal(status, 0, stderr + stdout);
    }
    assert.deepEqual(await entries(lab, '-d', EIP), []);
    await allIsRight(lab);
  });
});

const LEFT =
  /^(\d+) established flows that the file translates otherwise may live on: there was no time to cut them all \(neither perl nor python is there: conntrack -D reads the whole table for each\); the next run goes on$/;

const isIn = (port: number, from: number): boolean => from <= port && port < from + COUNT;
