// What the flows under way cost: a reload that looks at 20,000 of them, and one that cuts 1,000.

import { median, mediansOf, rounds, spreadOf } from './measure.ts';
import { BARE_NODE, type Bench, configOf, createBench, kylinVr, NODE, ONE_MORE, type Pair, pairsOf } from './router.ts';
import { type Outcome, shown, spreadText } from './table.ts';

const FLOWS = 20_000;
const DUMP = ['conntrack', '-L', '-f', 'ipv4'];

type Sizes = { rounds: number; divisor: number };

/** As the file wants them: nothing of them is cut. */
export async function measureFlows({ rounds: many, divisor }: Sizes): Promise<Outcome[]> {
  const bench = await createBench();
  try {
    const pairs = pairsOf(Math.ceil(1000 / divisor));
    await settle(bench, configOf(pairs));
    await fill(bench, rightFlows(pairs, Math.ceil(FLOWS / divisor)));
    const withOne = configOf([...pairs.slice(0, -1), ONE_MORE, ...pairs.slice(-1)]);
    const taken = await rounds(many, {
      node: async () => (await bench.time(BARE_NODE)).ms,
      dump: async () => (await bench.time(DUMP)).ms,
      quiet: async () => (await bench.time(kylinVr('reload'))).ms,
      timer: async () => (await bench.time(kylinVr('reload', '--trigger', 'timer'))).ms,
      oneMore: async () => {
        await bench.lab.configure(withOne);
        const { ms } = await bench.time(kylinVr('reload'));
        await settle(bench, configOf(pairs));
        return ms;
      },
    });
    const over = (which: 'quiet' | 'oneMore') =>
      spreadOf(taken[which].map((ms, n) => (ms - (taken.dump[n] ?? 0)) / (taken.node[n] ?? Number.NaN)));
    const row = (work: string, spread: ReturnType<typeof spreadOf>, most: number): Outcome => ({
      row: 'flows',
      work,
      goal: `≤ one dump + ${most} × node`,
      measured: `dump + ${shown(spread.median)} ×`,
      spread: spreadText(spread),
      met: spread.median <= most,
      data: { over: spread, medians: mediansOf(taken), taken },
    });
    const count = Math.ceil(FLOWS / divisor);
    return [
      row(`reload, nothing to do, ${pairs.length} EIPs, ${count} flows`, over('quiet'), 8),
      row(`one EIP more among ${pairs.length}, ${count} flows`, over('oneMore'), 12),
    ];
  } finally {
    await bench.close();
  }
}

/** A range of ports that moves on its VM, with flows in each port of it, and the others beside them. */
export async function measureCuts({ rounds: many, divisor }: Sizes): Promise<Outcome[]> {
  const bench = await createBench();
  try {
    const [cut, beside] = [Math.ceil(1000 / divisor), Math.ceil(FLOWS / divisor)];
    const pairs = pairsOf(10);
    const withRange = (base: number) =>
      `${configOf(pairs)}port_forward_list:
  - { eip: 203.0.113.60, protocol: udp, port: 10000, end_port: ${10_000 + cut - 1}, vm-port: ${base}, vm-ip: 10.10.1.11 }\n`;
    let base = 20_000;
    await settle(bench, withRange(base));
    await fill(bench, rightFlows(pairs, beside));
    const taken = await rounds(many, {
      node: async () => (await bench.time(BARE_NODE)).ms,
      dump: async () => (await bench.time(DUMP)).ms,
      ours: async () => {
        await fill(bench, rangeFlows(cut, base));
        base = base === 20_000 ? 40_000 : 20_000;
        await bench.lab.configure(withRange(base));
        const { ms, stdout } = await bench.time(kylinVr('reload'));
        if (!stdout.includes(`- ${cut} established flow`)) throw new Error(`not cut: ${stdout}`);
        return ms;
      },
    });
    const spread = spreadOf(taken.ours.map((ms, n) => (ms - 2 * (taken.dump[n] ?? 0)) / (taken.node[n] ?? Number.NaN)));
    return [
      {
        row: 'cuts',
        work: `a range moves, ${cut} flows of it are cut among ${beside}`,
        goal: '≤ two dumps + 12 × node',
        measured: `2 dumps + ${shown(spread.median)} × (${shown(median(taken.ours))} ms)`,
        spread: spreadText(spread),
        met: spread.median <= 12,
        data: { over: spread, medians: mediansOf(taken), taken },
      },
    ];
  } finally {
    await bench.close();
  }
}

/** A table that is nearly full: a removal then, and what memory that takes. */
export async function measureFullTable({ divisor }: Sizes): Promise<Outcome[]> {
  const bench = await createBench();
  try {
    const [count, pairs] = [Math.ceil(240_000 / divisor), pairsOf(10)];
    await settle(bench, configOf(pairs));
    await fill(bench, rightFlows(pairs, count));
    const hook = '/run/peak.cjs';
    const script = "process.on('exit', () => console.error(['peak', process.resourceUsage().maxRSS].join(' ')));";
    await bench.router.write(hook, script);
    await bench.lab.configure(configOf(pairs.slice(1)));
    const dump = (await bench.time(DUMP)).ms;
    const { ms, stderr } = await bench.time([NODE, '--require', hook, ...kylinVr('reload').slice(1)]);
    const peak = Number(/^peak (\d+)$/m.exec(stderr)?.[1]) / 1024;
    const { stdout: left } = await bench.time(['conntrack', '-C']);
    return [
      {
        row: 'full-table',
        work: `an EIP goes, with a tenth of ${count} flows`,
        goal: '≤ 5 s, ≤ 256 MiB',
        measured: `${shown(ms / 1000)} s, ${shown(peak)} MiB`,
        spread: `one dump ${shown(dump / 1000)} s`,
        met: ms <= 5000 && peak <= 256 && Number(left) <= count * 0.9 + 100,
        data: { ms, peak, dump, left: Number(left) },
      },
    ];
  } finally {
    await bench.close();
  }
}

async function settle({ lab, time }: Bench, config: string): Promise<void> {
  await lab.configure(config);
  for (let run = 0; run < 2; run++) await time(kylinVr('reload'));
}

async function fill({ router, time }: Bench, lines: readonly string[]): Promise<void> {
  await router.write('/run/flows', `${lines.join('\n')}\n`);
  await time(['conntrack', '-R', '/run/flows']);
}

const entry = (source: string, eip: string, vmIp: string, ports: readonly [from: number, to: number, at: number]) =>
  `-I -p udp -t 600 -s ${source} -d ${eip} --sport ${ports[0]} --dport ${ports[1]} ` +
  `-r ${vmIp} -q ${source} --reply-port-src ${ports[2]} --reply-port-dst ${ports[0]}`;

const outside = (n: number) => `100.64.${(n >> 8) & 255}.${n & 255}`;

const rightFlows = (pairs: readonly Pair[], count: number): string[] =>
  Array.from({ length: count }, (_, n) => {
    const { eip, vmIp } = pairs[n % pairs.length] ?? ONE_MORE;
    return entry(outside(n), eip, vmIp, [1024 + (n >> 4), 9000, 9000]);
  });

const rangeFlows = (count: number, base: number): string[] =>
  Array.from({ length: count }, (_, n) =>
    entry(outside(n), '203.0.113.60', '10.10.1.11', [5000, 10_000 + n, base + n]),
  );
