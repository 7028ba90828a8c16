// The rendered rules on the real iptables, both backends, each in a network namespace of its own. Needs root.

import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { describe, it } from 'node:test';
import { parseSave, renderRestore, renderStrayRemoval } from '../../src/dialects/iptables.ts';
import { engine } from '../../src/engines/in-use.ts';
import { emptyState } from '../../src/network/state.ts';
import { planSteps } from '../../src/planning/plan.ts';
import { desired } from '../network/fixtures.ts';
import { FULL_ROUTER, restoreOf } from '../network/full-router.ts';
import { emptyObservation, isFirewallStep } from '../network/machine.ts';
import { sample } from './samples.ts';

const skip = process.getuid?.() === 0 ? false : 'needs root';
const WANTED = desired(FULL_ROUTER);
const FOREIGN = withoutOurs(sample('iptables-nft-save.iptables-1.8.9.txt'));

/** Runs restores one after the other in one new namespace; gives what iptables-save then prints. */
function restoreAll(backend: string, ...inputs: { options?: string; text: string }[]): string {
  const script = inputs
    .map(({ options = '--noflush', text }) => `iptables-${backend}-restore --wait 10 ${options} <<'END'\n${text}END\n`)
    .join('');
  const { status, stdout, stderr } = spawnSync('unshare', ['--net', '--mount', 'sh', '-e'], {
    input: `${script}for table in mangle filter nat; do iptables-${backend}-save -t $table; done`,
    encoding: 'utf8',
  });
  assert.deepEqual([status, stderr.replace(/^# Warning.*\n/gm, '')], [0, '']);
  return stdout;
}

function withoutOurs(save: string): string {
  return save
    .split('\n')
    .filter((line) => !line.includes('KYLIN-VR'))
    .join('\n');
}

const sorted = (text: string) =>
  text
    .split('\n')
    .filter((line) => /^[*:-]/.test(line))
    .map((line) => line.replace(/\[.*\]/, ''))
    .sort();
const known = ({ ours, hooks }: ReturnType<typeof parseSave>) => ({
  ours: ours.map(({ table, name, rules }) => [table, name, ...rules]).sort(),
  hooks: hooks
    .filter(({ rules }) => rules.length > 0)
    .map(({ table, hook, rules }) => [table, hook, ...rules])
    .sort(),
});

for (const backend of ['nft', 'legacy'])
  describe(`iptables-${backend}`, { skip, concurrency: true }, () => {
    it('takes all rules in a test', () => {
      const saved = parseSave(restoreAll(backend, { options: '--noflush --test', text: restoreOf(WANTED) }));
      assert.deepEqual(saved.ours, []);
    });

    it('prints them as we write them: planned again there is nothing to do', () => {
      const { ours, hooks } = parseSave(restoreAll(backend, { text: restoreOf(WANTED) }));
      const rules = { ...emptyState, chains: WANTED.chains, jumps: WANTED.jumps };
      assert.deepEqual(
        planSteps(rules, { ...emptyObservation, hooks, state: { ...emptyState, chains: ours } }, engine),
        [],
      );
      assert.equal(ours.length, WANTED.chains.length);
    });

    it('prints the same when what it printed is restored', () => {
      const text = restoreAll(backend, { options: '', text: FOREIGN }, { text: restoreOf(WANTED) });
      const again = restoreAll(backend, { options: '', text });
      assert.deepEqual(known(parseSave(again)), known(parseSave(text)));
    });

    it('has only foreign rules again when ours are taken away, here or as those of the other backend', () => {
      const text = restoreAll(backend, { options: '', text: FOREIGN }, { text: restoreOf(WANTED) });
      const { ours: chains, hooks } = parseSave(text);
      const steps = planSteps(emptyState, { ...emptyObservation, hooks, state: { ...emptyState, chains } }, engine);
      const before = restoreAll(backend, { options: '', text: FOREIGN });
      const removals = [
        renderRestore(steps.filter(isFirewallStep)),
        renderStrayRemoval({ restore: '', chains, hooks }),
      ];
      assert.deepEqual(
        removals.map((removal) => sorted(restoreAll(backend, { options: '', text }, { text: removal }))),
        [sorted(before), sorted(before)],
      );
    });

    it('takes changes of single rules, and removes just one of two that are equal', () => {
      const rule = '-d 198.51.100.5/32 -j DROP';
      const name = 'KYLIN-VR-INPUT';
      const saved = restoreAll(
        backend,
        {
          text: `*filter\n:${name} - [0:0]\n-A ${name} ${rule}\n-A ${name} ${rule}\n-A INPUT -j ${name}\n-A INPUT -i lo -j ACCEPT\n-A INPUT -j ${name}\nCOMMIT\n`,
        },
        {
          text: renderRestore([
            { kind: 'edit-chain', table: 'filter', name, remove: [rule], add: ['-d 198.51.100.6/32 -j DROP'] },
            { kind: 'remove-jump', jump: { table: 'filter', hook: 'INPUT', rule: `-j ${name}`, place: 'first' } },
          ]),
        },
      );
      assert.deepEqual(known(parseSave(saved)), {
        ours: [['filter', name, rule, '-d 198.51.100.6/32 -j DROP']],
        hooks: [['filter', 'INPUT', '-i lo -j ACCEPT', `-j ${name}`]],
      });
    });
  });
