// The rows of the table: what is measured, against what, and the goal.

import { killWaiters } from '../confirm/router.ts';
import { ADDRESSES } from '../lab/lab.ts';
import { createManagedLab } from '../lab/path.ts';
import { atVerification, recordTools } from '../lab/tools.ts';
import { measureConnections, measureCurve } from './connections.ts';
import { measureCuts, measureFlows, measureFullTable } from './flows.ts';
import { median, mediansOf, ratios, rounds, spreadOf } from './measure.ts';
import { measureOthers } from './others.ts';
import {
  BARE_NODE,
  type Bench,
  configOf,
  createBench,
  emptyRouter,
  kylinVr,
  NODE,
  ONE_MORE,
  pairsOf,
  UNWATCHED,
} from './router.ts';
import type { Sizes } from './table.ts';
import { type Outcome, shown, spreadText } from './table.ts';

export type Row = { name: string; run: (sizes: Sizes) => Promise<Outcome[]> };

const CONFIG = '/etc/kylin-vr/kylin-vr.yaml';
const PENDING = '/var/lib/kylin-vr/pending.json';

async function withBench<T>(
  options: Parameters<typeof createBench>[0],
  work: (bench: Bench) => Promise<T>,
): Promise<T> {
  const bench = await createBench(options);
  try {
    return await work(bench);
  } finally {
    await bench.close();
  }
}

/** Runs it twice: the first run makes the code cache, the second finds nothing to do. */
async function settle({ lab, time }: Bench, config: string): Promise<void> {
  await lab.configure(config);
  for (let run = 0; run < 2; run++) await time(kylinVr('reload'));
}

/** A command against a bare Node, as a share of whose start the goals are. */
function againstNode(row: string, work: string, most: number, taken: Record<'node' | 'ours', number[]>): Outcome {
  const spread = spreadOf(ratios(taken.ours, taken.node));
  return {
    row,
    work,
    goal: `≤ ${most} × node`,
    measured: `${shown(spread.median)} ×`,
    spread: spreadText(spread),
    met: spread.median <= most,
    data: { ratio: spread, medians: mediansOf(taken), taken },
  };
}

const quiet = (count: number, most: number): Row => ({
  name: `quiet-${count}`,
  run: ({ rounds: many, divisor }) =>
    withBench({}, async (bench) => {
      const eips = Math.ceil(count / divisor);
      await settle(bench, configOf(pairsOf(eips)));
      const taken = await rounds(many, {
        node: async () => (await bench.time(BARE_NODE)).ms,
        ours: async () => (await bench.time(kylinVr('reload'))).ms,
      });
      return [againstNode(`quiet-${count}`, `reload, nothing to do, ${eips} EIPs`, most, taken)];
    }),
});

/** What a reload takes to add one EIP; between the rounds it is taken away again, and a run finds nothing to do, as each minute's. */
async function addOne(bench: Bench, count: number): Promise<number> {
  const pairs = pairsOf(count);
  await bench.lab.configure(configOf([...pairs.slice(0, -1), ONE_MORE, ...pairs.slice(-1)]));
  const { ms } = await bench.time(kylinVr('reload'));
  await settle(bench, configOf(pairs));
  return ms;
}

const oneMore: Row = {
  name: 'one-more',
  run: ({ rounds: many, divisor }) =>
    withBench({}, async (bench) => {
      const eips = Math.ceil(1000 / divisor);
      await settle(bench, configOf(pairsOf(eips)));
      const taken = await rounds(many, {
        node: async () => (await bench.time(BARE_NODE)).ms,
        ours: () => addOne(bench, eips),
      });
      return [againstNode('one-more', `one EIP more among ${eips}`, 5, taken)];
    }),
};

const first: Row = {
  name: 'first',
  run: ({ rounds: many, divisor }) =>
    withBench({}, async (bench) => {
      const { lab, time } = bench;
      const eips = Math.ceil(1000 / divisor);
      await lab.configure(configOf(pairsOf(eips)));
      await time(kylinVr('reload'));
      await emptyRouter(bench);
      const content = await contentOfFirst(configOf(pairsOf(eips)));
      const taken = await rounds(many, {
        node: async () => (await time(BARE_NODE)).ms,
        version: async () => (await time(kylinVr('--version'))).ms,
        check: async () => (await time(kylinVr('check', CONFIG))).ms,
        ours: async () => {
          const { ms } = await time(kylinVr('reload'));
          await emptyRouter(bench);
          return ms;
        },
        raw: async () => {
          let ms = 0;
          for (const { command, input } of content) ms += (await time(command.split(' '), { input })).ms;
          await emptyRouter(bench);
          return ms;
        },
      });
      // The parse: what `check` takes more than a command that reads nothing.
      const limits = taken.node.map(
        (node, n) => 3 * node + (taken.check[n] ?? 0) - (taken.version[n] ?? 0) + 1.5 * (taken.raw[n] ?? 0),
      );
      const share = spreadOf(ratios(taken.ours, limits).map((ratio) => ratio * 100));
      return [
        {
          row: 'first',
          work: `first apply of ${eips} EIPs`,
          goal: '≤ 3 × node + parse + 1.5 × raw',
          measured: `${shown(share.median)} % of it`,
          spread: spreadText(share),
          met: share.median <= 100,
          data: { share, limit: median(limits), medians: mediansOf(taken), taken },
        },
      ];
    }),
};

/** The commands of a first apply that are fed, with what they are fed. */
function contentOfFirst(config: string): Promise<{ command: string; input: string }[]> {
  return withBench({}, async ({ lab, router, time }) => {
    const tools = await recordTools(router);
    await lab.configure(config);
    await time(kylinVr('reload'));
    return (await tools.taken()).flatMap(({ command, input }) =>
      input === undefined || input === ''
        ? []
        : [{ command: command.replace(/^iptables-\w+-restore/, 'iptables-restore'), input }],
    );
  });
}

const check: Row = {
  name: 'check',
  run: ({ rounds: many, divisor }) =>
    withBench({}, async (bench) => {
      const eips = Math.ceil(1000 / divisor);
      await settle(bench, configOf(pairsOf(eips)));
      const taken = await rounds(many, {
        node: async () => (await bench.time(BARE_NODE)).ms,
        ours: async () => (await bench.time(kylinVr('check'))).ms,
      });
      return [againstNode('check', `check of ${eips} EIPs`, 9, taken)];
    }),
};

const edit: Row = {
  name: 'edit',
  run: ({ rounds: many, divisor }) =>
    withBench({}, async (bench) => {
      const eips = Math.ceil(20_000 / divisor);
      await bench.lab.configure(configOf(pairsOf(eips)));
      const taken = await rounds(many, {
        check: async () => (await bench.time(kylinVr('check'))).ms,
        add: async () =>
          (await bench.time(kylinVr('eip', 'add', `${ONE_MORE.eip}=${ONE_MORE.vmIp}`, '--no-reload'))).ms,
        remove: async () => (await bench.time(kylinVr('eip', 'remove', ONE_MORE.eip, '--no-reload'))).ms,
      });
      return (['add', 'remove'] as const).map((verb): Outcome => {
        const spread = spreadOf(ratios(taken[verb], taken.check));
        return {
          row: 'edit',
          work: `eip ${verb} --no-reload among ${eips} EIPs`,
          goal: '≤ 2.0 × check',
          measured: `${shown(spread.median)} ×`,
          spread: spreadText(spread),
          met: spread.median <= 2,
          data: { ratio: spread, medians: mediansOf(taken), taken },
        };
      });
    }),
};

const help: Row = {
  name: 'help',
  run: ({ rounds: many }) =>
    withBench({}, async (bench) => {
      await settle(bench, configOf(pairsOf(1)));
      const taken = await rounds(many, {
        node: async () => (await bench.time(BARE_NODE)).ms,
        version: async () => (await bench.time(kylinVr('--version'))).ms,
        help: async () => (await bench.time(kylinVr('--help'))).ms,
      });
      return (['version', 'help'] as const).map((word) =>
        againstNode('help', `--${word}`, 1.5, { node: taken.node, ours: taken[word] }),
      );
    }),
};

const networkManager: Row = {
  name: 'networkmanager',
  run: ({ rounds: many, divisor }) =>
    withBench(
      () => createManagedLab('keyfile', UNWATCHED),
      async (bench) => {
        const { router, time } = bench;
        const eips = Math.ceil(1000 / divisor);
        await settle(bench, configOf(pairsOf(eips)));
        const file = '/etc/NetworkManager/system-connections/kylin-vr-eth0.nmconnection';
        const before = (await router.read(file)) ?? '';
        const after = before.replace(
          /^address\d+=198\.18\.0\.0\/32.*$/m,
          (line) => `${line}\naddress9999=198.19.255.2/32`,
        );
        const byHand = async (content: string) => {
          await router.write(file, content, 0o600);
          const loaded = await time(['nmcli', 'connection', 'load', file]);
          return loaded.ms + (await time(['nmcli', 'device', 'reapply', 'eth0'])).ms;
        };
        const taken = await rounds(many, {
          node: async () => (await time(BARE_NODE)).ms,
          nmcli: async () => {
            const ms = await byHand(after);
            await byHand(before);
            return ms;
          },
          ours: () => addOne(bench, eips),
        });
        const over = spreadOf(taken.ours.map((ms, n) => (ms - (taken.nmcli[n] ?? 0)) / (taken.node[n] ?? Number.NaN)));
        return [
          {
            row: 'networkmanager',
            work: `through NetworkManager, one EIP more among ${eips}`,
            goal: '≤ its nmcli calls + 5 × node',
            measured: `nmcli + ${shown(over.median)} ×`,
            spread: spreadText(over),
            met: over.median <= 5,
            data: { over, medians: mediansOf(taken), taken },
          },
        ];
      },
    ),
};

const memory: Row = {
  name: 'memory',
  run: ({ divisor }) =>
    withBench({}, async (bench) => {
      const { router, time } = bench;
      const eips = Math.ceil(1000 / divisor);
      const hook = '/run/peak.cjs';
      const script = "process.on('exit', () => console.error(['peak', process.resourceUsage().maxRSS].join(' ')));";
      const peak = async () => {
        await router.write(hook, script);
        const { stderr } = await time([NODE, '--require', hook, ...kylinVr('reload').slice(1)]);
        return Number(/^peak (\d+)$/m.exec(stderr)?.[1]) / 1024;
      };
      await settle(bench, configOf(pairsOf(1)));
      await bench.lab.configure(configOf(pairsOf(eips)));
      const works = { 'first apply': await peak(), 'nothing to do': await peak() };
      const most = Math.max(...Object.values(works));
      return [
        {
          row: 'memory',
          work: `peak memory, ${eips} EIPs`,
          goal: '≤ 90 MiB',
          measured: `${shown(most)} MiB`,
          spread: `${shown(Math.min(...Object.values(works)))}–${shown(most)}`,
          met: most <= 90,
          data: works,
        },
      ];
    }),
};

/** Routes of a routing daemon, through the uplink. */
const foreignRoutes = (count: number): string =>
  Array.from(
    { length: count },
    (_, n) => `route add 100.${64 + (n >> 14)}.${(n >> 6) & 255}.${(n & 63) << 2}/30 via ${ADDRESSES.out} proto bgp\n`,
  ).join('');

/** What a change costs that is taken back, against one that stays. */
const takeBack: Row = {
  name: 'take-back',
  run: ({ rounds: many, divisor }) =>
    withBench({}, async (bench) => {
      const { lab, router, time } = bench;
      const routes = Math.ceil(50_000 / divisor);
      const [before, after] = [configOf(pairsOf(1)), configOf([...pairsOf(1), ONE_MORE])];
      await settle(bench, before);
      await router.run(['ip', '-batch', '-'], { input: foreignRoutes(routes), check: true });
      // Each is slowed down by it.
      const tools = await recordTools(router);
      const change = async () => {
        await settle(bench, before);
        await lab.configure(after);
      };
      const pending = async () => {
        await change();
        await time(kylinVr('reload', '--confirm-within', '600'));
        await killWaiters(lab);
      };
      const taken = await rounds(Math.max(3, Math.round(many / 3)), {
        plain: async () => {
          await change();
          return (await time(kylinVr('reload'))).ms;
        },
        rollback: async () => {
          await pending();
          return (await time(kylinVr('rollback'))).ms;
        },
        lapse: async () => {
          await pending();
          const { run, ...waiting } = JSON.parse((await router.read(PENDING)) ?? '');
          await router.write(PENDING, JSON.stringify({ run, ...waiting, deadline: 0 }), 0o600);
          return (await time(kylinVr('rollback', '--unconfirmed', run))).ms;
        },
        failed: async () => {
          await change();
          await tools.before('ip', atVerification('exit 4'));
          const { ms } = await time(['sh', '-c', '"$@"; [ $? = 69 ]', 'sh', ...kylinVr('reload')]);
          await tools.before('ip');
          return ms;
        },
      });
      const medians = mediansOf(taken);
      const works = { rollback: 'rollback', lapse: 'a change that lapses', failed: 'a reload that fails' } as const;
      return (['rollback', 'lapse', 'failed'] as const).map((name) => {
        const share = spreadOf(ratios(taken[name], taken.plain));
        return {
          row: 'take-back',
          work: `${works[name]}, ${routes} foreign routes`,
          goal: '≤ 2 × the reload',
          measured: `${shown(share.median)} ×`,
          spread: spreadText(share),
          met: share.median <= 2,
          data: { share, medians: { plain: medians.plain, [name]: medians[name] }, taken: taken[name] },
        };
      });
    }),
};

const GROWTH = [100, 300, 1000, 3000, 10_000];

const growth: Row = {
  name: 'growth',
  run: async ({ rounds: many, divisor }) => {
    const points: { eips: number; node: number; quiet: number; oneMore: number; kernelBytes: number }[] = [];
    for (const count of GROWTH) {
      const eips = Math.ceil(count / divisor);
      await withBench({}, async (bench) => {
        await settle(bench, configOf(pairsOf(eips)));
        const taken = await rounds(Math.max(3, Math.round(many / 3)), {
          node: async () => (await bench.time(BARE_NODE)).ms,
          quiet: async () => (await bench.time(kylinVr('reload'))).ms,
          oneMore: () => addOne(bench, eips),
        });
        const tools = await recordTools(bench.router);
        const pairs = pairsOf(eips);
        await bench.lab.configure(configOf([...pairs.slice(0, -1), ONE_MORE, ...pairs.slice(-1)]));
        await tools.taken();
        await bench.time(kylinVr('reload'));
        const kernelBytes = (await tools.taken()).reduce((sum, { input = '' }) => sum + input.length, 0);
        const { node, quiet, oneMore } = taken;
        points.push({ eips, node: median(node), quiet: median(quiet), oneMore: median(oneMore), kernelBytes });
      });
    }
    const [from, to] = [points[0], points.at(-1)];
    if (from === undefined || to === undefined) throw new Error('no points');
    const sizes = points.map(({ kernelBytes }) => kernelBytes);
    const slope = ((to.oneMore - from.oneMore) / (to.eips - from.eips)) * 1000;
    // Linear at most: no step of the curve is steeper than twice the whole.
    const steps = points.slice(1).map((point, n) => {
      const before = points[n] ?? point;
      return ((point.oneMore - before.oneMore) / (point.eips - before.eips)) * 1000;
    });
    return [
      {
        row: 'growth',
        work: `one EIP more, kernel work, ${from.eips} to ${to.eips} EIPs`,
        goal: 'constant',
        measured: `${Math.max(...sizes)} bytes`,
        spread: `${Math.min(...sizes)}–${Math.max(...sizes)}`,
        met: Math.max(...sizes) <= 1.2 * Math.min(...sizes),
        data: { points },
      },
      {
        row: 'growth',
        work: `one EIP more, whole, ${from.eips} to ${to.eips} EIPs`,
        goal: 'at most linear',
        measured: `${shown(slope)} ms / 1,000 EIPs`,
        spread: steps.map(shown).join(', '),
        met: (steps.at(-1) ?? 0) <= 2 * Math.max(slope, 1),
        data: { slope, steps },
      },
    ];
  },
};

export const ROWS: readonly Row[] = [
  quiet(10, 2),
  quiet(1000, 2.5),
  quiet(4000, 5),
  oneMore,
  first,
  check,
  edit,
  help,
  networkManager,
  memory,
  takeBack,
  { name: 'flows', run: measureFlows },
  { name: 'cuts', run: measureCuts },
  { name: 'full-table', run: measureFullTable },
  growth,
  { name: 'connections', run: measureConnections },
  { name: 'connection-curve', run: measureCurve },
  { name: 'others', run: measureOthers },
];
