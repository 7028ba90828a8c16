// `npm run bench`: measures every row of the table and prints it. As root, on a machine that does nothing else.
// `npm run bench -- NAME…`: these rows only.
//   --quick        small sizes and few rounds: a look, no measurement
//   --rounds N     paired runs of each (default 15)
//   --json FILE    writes the figures there
//   --save         writes them to results/bench.json, beside those of other rows there, and the curves of the manual to docs

import { mkdir, readFile, writeFile } from 'node:fs/promises';
import { cpus } from 'node:os';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { type Curve, svgOf } from './curves.ts';
import { ROWS } from './rows.ts';
import { type Outcome, type Sizes, tableOf } from './table.ts';

const RESULTS = join(import.meta.dirname, 'results');
const DOCS = join(import.meta.dirname, '../../docs');

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    quick: { type: 'boolean', default: false },
    rounds: { type: 'string' },
    json: { type: 'string' },
    save: { type: 'boolean', default: false },
  },
});
const unknown = positionals.find((name) => !ROWS.some((row) => row.name === name));
if (unknown !== undefined) {
  console.error(`${unknown} is no row, known are ${ROWS.map(({ name }) => name).join(', ')}`);
  process.exit(64);
}
const sizes: Sizes = {
  rounds: Number(values.rounds ?? (values.quick ? 2 : 15)),
  divisor: values.quick ? 100 : 1,
};
const wanted = ROWS.filter(({ name }) => positionals.length === 0 || positionals.includes(name));

const outcomes: Outcome[] = [];
for (const row of wanted) {
  console.error(`${row.name} …`);
  outcomes.push(...(await row.run(sizes)).map((outcome) => ({ ...outcome, rounds: sizes.rounds })));
}
console.log(tableOf(outcomes));

const machine = { cpus: cpus().length, cpu: cpus()[0]?.model, node: process.version };
const figuresOf = (all: readonly Outcome[]) => `${JSON.stringify({ machine, outcomes: all }, null, 1)}\n`;
if (values.json !== undefined) await writeFile(values.json, figuresOf(outcomes));
if (values.save) {
  await mkdir(RESULTS, { recursive: true });
  await writeFile(join(RESULTS, 'bench.json'), figuresOf(inOrder([...(await savedOthers()), ...outcomes])));
  for (const [name, picture] of pictures()) await writeFile(join(DOCS, name), picture);
}

/** What is saved of rows that were not measured now; of another machine nothing. */
async function savedOthers(): Promise<Outcome[]> {
  const text = await readFile(join(RESULTS, 'bench.json'), 'utf8').catch(() => '{}');
  const saved = JSON.parse(text) as { machine?: object; outcomes: Outcome[] };
  if (JSON.stringify(saved.machine) !== JSON.stringify(machine)) return [];
  return saved.outcomes.filter(({ row }) => !wanted.some(({ name }) => name === row));
}

function inOrder(all: readonly Outcome[]): Outcome[] {
  const place = ({ row }: Outcome) => ROWS.findIndex(({ name }) => name === row);
  return all.toSorted((a, b) => place(a) - place(b));
}

/** Of the rows that were measured. */
function pictures(): Map<string, string> {
  const drawn = new Map<string, string>();
  const pointsOf = (row: string) =>
    outcomes.find((outcome) => outcome.row === row && 'points' in outcome.data)?.data.points as
      | ({ eips: number } & Record<string, number>)[]
      | undefined;
  const draw = (row: string, file: string, title: string, unit: string, names: Readonly<Record<string, string>>) => {
    const points = pointsOf(row);
    if (points === undefined) return;
    const curves = Object.entries(names).map(
      ([key, name]): Curve => ({ name, points: points.map((point) => [point.eips, point[key] ?? 0]) }),
    );
    drawn.set(file, svgOf(title, unit, curves));
  };
  draw('growth', 'reload.svg', 'A reload with nothing to do', 'ms', { quiet: 'kylin-vr', node: 'node -e 0' });
  draw('growth', 'one-more.svg', 'One EIP more', 'ms', { oneMore: 'kylin-vr', node: 'node -e 0' });
  draw('connection-curve', 'connections.svg', "New UDP flows through the last EIP, of one EIP's rate", '%', {
    oursNft: 'kylin-vr, nft',
    oursLegacy: 'kylin-vr, legacy',
    flatNft: 'flat list, nft',
    flatLegacy: 'flat list, legacy',
    map: 'native nft map',
  });
  return drawn;
}
