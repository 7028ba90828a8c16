// Traffic all the time, from one configuration to the other, there and back, taken back and killed in the middle: whatever goes on,
// nothing leaves the uplink as it must not. The witness sees it, outside the router.

import assert from 'node:assert/strict';
import { once } from 'node:events';
import { after, before, describe, it } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { ADDRESSES, type HostName, type Lab, PROGRAM } from '../lab/lab.ts';
import { backendsOf, createLabOn, NAME_OF, type Path } from '../lab/path.ts';
import { createRaw, type RawFlowOptions } from '../lab/raw.ts';
import type { Leak } from '../lab/witness.ts';
import { CONFIGS, type Name, walkOn } from './transitions.ts';

const { far, out } = ADDRESSES;
const EIPS = ['203.0.113.50', '203.0.113.51', '203.0.113.70', '198.51.100.20', '203.0.113.37'];
const PER_SECOND = 50;
/** What is under way when a run has ended. */
const AFTERWARDS_MS = 150;

/** In which of them 10.10.2.0/24 is the network of an uplink, and nothing is translated but by EIPs. */
const IS_UPLINK: Name = 'two uplinks';

export function nothingLeaves(path: Path, backends = backendsOf(path)): void {
  for (const iptables of backends)
    describe(`nothing leaves as it must not, whatever changes: ${NAME_OF[path]}, ${iptables}`, {
      concurrency: false,
    }, () => {
      let lab: Lab;
      let between: Name[] = [];
      /** Of several in a row nothing may have left. */
      const change = async (to: Name, ...args: string[]) => {
        between.push(to);
        await lab.configure(CONFIGS[to]);
        const { status, stderr } = await lab.kylin('reload', ...args);
        assert.equal(status, 0, stderr);
      };
      const nothingLeft = async () => {
        await sleep(AFTERWARDS_MS);
        const leaks = await lab.witness.leaks();
        await lab.witness.forgive();
        between = between.slice(-1);
        assert.deepEqual([leaks.length, leaks.slice(0, 5).map(({ words }) => words)], [0, []]);
      };
      before(async () => {
        lab = await createLabOn(path, { iptables });
        lab.witness.excuse(
          'it is not inside there, or in what was before',
          (leak) => between.includes(IS_UPLINK) && isOfB(leak),
        );
        // For seconds: what waits for a neighbour that does not answer, from a subnet that goes meanwhile.
        lab.witness.excuse(
          'the router tells a host that is not inside any more that nobody was there',
          ({ kind, packet }) => kind === 'private destination' && packet.flags === '3/1' && packet.ttl === 64,
        );
        await sendForEver(lab);
        await change('nothing');
      });
      after(() => lab?.close());

      for (const [from, to] of walkOn(path, iptables))
        it(`${from} → ${to}`, async () => {
          await change(to);
          await nothingLeft();
        });

      for (const [from, to] of PAIRS) {
        it(`${from} → ${to}, which is taken back`, async () => {
          await change(from);
          await change(to, '--confirm-within', '60');
          const { status, stderr } = await lab.kylin('rollback');
          assert.equal(status, 0, stderr);
          await nothingLeft();
        });

        it(`${from} → ${to}, killed in the middle`, async () => {
          for (let afterMs = 30; afterMs <= MOST_MS; afterMs += STEP_MS) {
            await change(from);
            await lab.configure(CONFIGS[to]);
            const run = lab.router.spawn([process.execPath, PROGRAM, 'reload'], { stdio: 'ignore' });
            const ended = once(run, 'exit');
            await sleep(afterMs);
            run.kill('SIGKILL');
            await ended;
            await sleep(AFTERWARDS_MS);
            await change(to);
          }
          await nothingLeft();
        });
      }
    });
}

/** Between them NICs, EIPs, the uplink go and come. */
const PAIRS: [Name, Name][] = [
  ['EIPs', 'one subnet'],
  ['one subnet', 'EIPs'],
  ['other EIPs', 'no uplink'],
  ['EIPs', 'another uplink NIC'],
];
const MOST_MS = 250;
const STEP_MS = 60;

const isOfB = ({ packet }: Leak): boolean =>
  [packet.source, packet.destination].some((address) => address?.startsWith('10.10.2.'));

/** From inside to the outside, to the gateway and to an EIP, and from outside to EIPs, those of before and of afterwards. */
async function sendForEver(lab: Lab): Promise<void> {
  const raw = createRaw(lab);
  const start = (from: HostName, options: Omit<RawFlowOptions, 'perSecond'>) =>
    raw.start(from, { ...options, perSecond: PER_SECOND });
  for (const vm of ['v', 'w', 'x', 'y'] as const) {
    for (const protocol of ['udp', 'tcp', 'icmp', 'gre'] as const) await start(vm, { protocol, to: far });
    await start(vm, { protocol: 'udp', to: out });
    await start(vm, { protocol: 'udp', to: EIPS[0] as string });
  }
  for (const eip of EIPS)
    for (const protocol of ['udp', 'tcp', 'icmp'] as const) await start('out', { protocol, to: eip, port: 2000 });
  for (const eip of EIPS) await start('far', { protocol: 'udp', to: eip, port: 2000 });
}
