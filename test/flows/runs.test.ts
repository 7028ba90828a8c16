// What cuts, and when: the next run after one that was killed before its cuts, a run that finds nothing else to do, a change that is
// taken back; and what is spared: a connection of the router itself.

import assert from 'node:assert/strict';
import { once } from 'node:events';
import { join } from 'node:path';
import { after, before, describe, it } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { ADDRESSES, type HostName, type Lab, PROGRAM } from '../lab/lab.ts';
import { backendsOf, createLabOn, NAME_OF } from '../lab/path.ts';
import { createRaw, type Raw, type RawFlow } from '../lab/raw.ts';
import { atVerification, recordTools, type Tools } from '../lab/tools.ts';
import { createTraffic, type Traffic } from '../lab/traffic.ts';
import { allIsRight, configOf, cutsOf, entries, reload, shown, tryReload } from './lab.ts';

const { far, out, router: uplink, v, w } = ADDRESSES;
const [E, NEW] = ['203.0.113.50', '203.0.113.51'];
const PORT = 7000;
const HOOK = join(import.meta.dirname, '../reliability/kill-hook.cjs');
const toV = configOf({ eips: { [E]: v } });
const toW = configOf({ eips: { [E]: w } });
/** With an address that comes, too. */
const more = configOf({ eips: { [E]: w, [NEW]: v } });

for (const path of ['ip', 'keyfile'] as const)
  describe(`the runs that cut: ${NAME_OF[path]}`, { concurrency: true }, () => {
    for (const iptables of backendsOf(path))
      describe(iptables, { concurrency: false }, () => {
        let lab: Lab;
        let raw: Raw;
        let tools: Tools;
        let traffic: Traffic;
        before(async () => {
          lab = await createLabOn(path, { iptables });
          raw = createRaw(lab);
          traffic = createTraffic(lab);
          tools = await recordTools(lab.router);
          for (const host of ['v', 'w', 'far'] as const) await raw.answer(host, 'udp', PORT);
        });
        after(() => lab?.close());

        /** From outside to the EIP, and out of v. */
        async function start(): Promise<RawFlow[]> {
          await reload(lab, toV);
          const flows = await Promise.all([
            raw.start('out', { protocol: 'udp', to: E, port: PORT, perSecond: 50 }),
            raw.start('v', { protocol: 'udp', to: far, port: PORT, perSecond: 50 }),
            // One that comes later, in the middle of a run.
            raw.start('far', { protocol: 'udp', to: E, port: PORT, perSecond: 50 }),
          ]);
          await isOf(flows, 'v', E);
          return flows;
        }

        async function isOf(flows: readonly RawFlow[], vm: HostName, source: string): Promise<void> {
          const [asked, leaving, late] = flows;
          const saw = async (flow: RawFlow | undefined, by: HostName, seenSource: string) => {
            const is = await flow?.answered((turn) => turn.by === by && turn.seenSource === seenSource);
            return is ? '' : `not ${by}, which sees ${seenSource}: ${JSON.stringify(flow?.count().turns)}`;
          };
          assert.deepEqual(
            [await saw(asked, vm, out), await saw(leaving, 'far', source), await saw(late, vm, far)],
            ['', '', ''],
            (await entries(lab)).map(shown).join('\n'),
          );
        }

        const stopped = (flows: readonly RawFlow[]) => Promise.all(flows.map((flow) => flow.stop()));

        for (const [when, at] of [
          ['before it has read the table', 'before run conntrack -L -f ipv4 -o id'],
          ['before it has cut what it found', 'after run conntrack -L -f ipv4 -o id'],
        ] as const)
          for (const [how, trigger] of [
            ['the timer', ['--trigger', 'timer']],
            ['hand', []],
          ] as const)
            it(`a run that was killed ${when}: the next one, by ${how}, cuts`, async (t) => {
              const flows = await start();
              t.after(() => stopped(flows));
              await lab.configure(toW);
              await lab.router.run(['sh', '-c', 'rm -f /run/trace; touch /run/trace'], { check: true });
              const child = lab.router.spawn([process.execPath, '--require', HOOK, PROGRAM, 'reload'], {
                env: { KYLIN_VR_KILL: JSON.stringify({ trace: '/run/trace', whom: 'all', at }) },
                stdio: 'ignore',
              });
              const [, signal] = await once(child, 'exit');
              assert.equal(signal, 'SIGKILL', await lab.router.read('/run/trace'));
              // By the rules they are w's, and by their entries v's.
              await sleep(200);
              assert.equal(flows[0]?.count().turns.at(-1)?.by, 'v');
              const { result, steps, warnings } = await reload(lab, undefined, ...trigger);
              assert.deepEqual([result, warnings], ['changed', []]);
              assert.deepEqual(
                steps.map(({ text }) => text),
                [`- 3 established flows of ${E}`],
              );
              await isOf(flows, 'w', uplink);
              const next = await reload(lab, undefined, '--trigger', 'timer');
              assert.deepEqual([next.result, next.steps], ['unchanged', []]);
              await allIsRight(lab);
            });

        it('a run of the timer with nothing to do does not read the table, and one that somebody asks for cuts what is stale', async (t) => {
          await reload(lab, toW);
          await lab.router.run(['conntrack', '-F']);
          await allIsRight(lab);
          await reload(lab, undefined, '--trigger', 'timer');
          const stale = `-I -p udp -t 600 -s ${far} -d ${E} -r ${v} -q ${far} --sport 5 --dport 6 --reply-port-src 6 --reply-port-dst 5`;
          t.after(() => lab.router.run(['conntrack', '-F']));
          for (const runs of ['a first', 'a second']) {
            await lab.router.run(['conntrack', ...stale.split(' ')], { check: true });
            const there = async () => (await entries(lab, '-s', far, '-d', E)).map(shown);
            await tools.taken();
            const quiet = await reload(lab, undefined, '--trigger', 'timer');
            const calls = (await tools.taken()).map(({ command }) => command);
            assert.deepEqual(
              [quiet.result, calls.filter((command) => command.startsWith('conntrack'))],
              ['unchanged', []],
            );
            assert.equal((await there()).length, 1, runs);
            const asked = await reload(lab);
            assert.deepEqual(
              [asked.result, cutsOf(asked), asked.warnings],
              ['changed', [`- 1 established flow of ${E}`], []],
            );
            assert.deepEqual(await there(), [], runs);
          }
        });

        it('a change that is taken back since it failed: flows go back to where the file before says', async (t) => {
          const flows = await start();
          t.after(() => stopped(flows));
          // The verifying survey fails, and before that what is new by the new rules goes by them.
          await tools.before('ip', atVerification(`conntrack -D -s ${far} > /dev/null 2>&1; sleep 0.5; exit 4`));
          t.after(() => tools.before('ip'));
          const { status, report } = await tryReload(lab, more);
          await tools.before('ip');
          assert.deepEqual([status, report.result], [69, 'rolled-back']);
          assert.ok(
            flows[2]?.count().turns.some(({ by }) => by === 'w'),
            'it went by the new rules',
          );
          await isOf(flows, 'v', E);
          await reload(lab, toV);
          await allIsRight(lab);
        });

        it('a change that nobody confirms: flows go there, and back', async (t) => {
          const flows = await start();
          t.after(() => stopped(flows));
          await reload(lab, toW, '--confirm-within', '2');
          await isOf(flows, 'w', uplink);
          await sleep(2500);
          await isOf(flows, 'v', E);
          await lab.configure(toV);
          await reload(lab);
          await allIsRight(lab);
        });

        it('rollback by hand: flows go back', async (t) => {
          const flows = await start();
          t.after(() => stopped(flows));
          await reload(lab, toW, '--confirm-within', '300');
          await isOf(flows, 'w', uplink);
          const { status, stdout, stderr } = await lab.kylin('rollback');
          assert.equal(status, 0, stdout + stderr);
          await isOf(flows, 'v', E);
          await reload(lab, toV);
          await allIsRight(lab);
        });

        it('an established connection of the router itself stays, with a warning, and one that was never answered goes', async (t) => {
          await reload(lab, toV);
          await lab.router.run(['conntrack', '-F']);
          const sh = (host: HostName, script: string) => lab.host(host).run(['sh', '-ec', script], { check: true });
          // A host outside has the address that is to be an EIP.
          await sh('out', `ip address add ${NEW}/32 dev eth0`);
          t.after(() => sh('out', `ip address delete ${NEW}/32 dev eth0`));
          await traffic.listen('out', 'tcp', 80);
          await traffic.listen('router', 'tcp', 22);
          const outward = await traffic.openStream({ from: 'router', to: NEW, port: 80 });
          const inward = await traffic.openStream({ from: 'far', to: uplink, port: 22 });
          t.after(() => Promise.all([outward.close(), inward.close()]));
          for (const host of ['out', 'w'] as const) await raw.silence(host, 'tcp', 81);
          await raw
            .start('router', { protocol: 'tcp', to: NEW, port: 81, perSecond: 20 })
            .then((flow) => t.after(() => flow.stop()));
          const unanswered = async () =>
            (await entries(lab, '-p', 'tcp'))
              .filter(({ destinationPort }) => destinationPort === 81)
              .map(({ replySource }) => replySource);
          await sleep(200);
          assert.deepEqual(await unanswered(), [NEW]);
          const ids = async () =>
            (await entries(lab, '-p', 'tcp'))
              .filter(({ destinationPort = 0 }) => [22, 80].includes(destinationPort))
              .map(({ id }) => id)
              .sort();
          const known = await ids();
          assert.equal(known.length, 2);
          const config = configOf({ eips: { [E]: v, [NEW]: w }, forwards: { [`${uplink} tcp 22`]: `${v} 22` } });
          const report = await reload(lab, config);
          assert.deepEqual(cutsOf(report), [`- 1 established flow of ${NEW}`]);
          const [warning = '', ...others] = report.warnings;
          assert.deepEqual(others, []);
          assert.match(
            warning,
            /^the router's own connection \S+ → \S+ and 1 more goes on as before, though the file leads it elsewhere now: /,
          );
          assert.deepEqual(await ids(), known);
          assert.ok(await inward.carries());
          await sleep(200);
          assert.deepEqual(await unanswered(), [w]);
          // Said as long as it is so; a new one goes where the file says.
          assert.deepEqual((await reload(lab)).warnings.length, 1);
          await reload(lab, toV);
          await lab.router.run(['conntrack', '-F']);
        });
      });
  });
