// What came out, as a table for people and as JSON for comparison.

import type { Spread } from './measure.ts';

export type Sizes = {
  rounds: number;
  /** Numbers of EIPs are divided by this. */
  divisor: number;
};

export type Outcome = {
  row: string;
  work: string;
  /** `≤ 2.0 × node` */
  goal: string;
  /** `1.83 ×` */
  measured: string;
  /** Quartiles, in the unit of `measured`. */
  spread: string;
  /** Undefined: for comparison only. */
  met?: boolean;
  /** Everything that was measured: milliseconds, unless the name says otherwise. */
  data: Readonly<Record<string, unknown>>;
  /** Paired runs. */
  rounds?: number;
};

export const shown = (value: number): string =>
  value >= 100 ? value.toFixed(0) : value >= 10 ? value.toFixed(1) : value.toFixed(2);

export const spreadText = ({ low, high }: Spread): string => `${shown(low)}–${shown(high)}`;

export function tableOf(outcomes: readonly Outcome[]): string {
  const rows = [
    ['work', 'goal', 'measured', 'spread', 'met'],
    ...outcomes.map(({ work, goal, measured, spread, met }) => [
      work,
      goal,
      measured,
      spread,
      met === undefined ? '' : met ? 'yes' : 'NO',
    ]),
  ];
  const widths = rows[0]?.map((_, column) => Math.max(...rows.map((row) => row[column]?.length ?? 0))) ?? [];
  return rows
    .map((row) =>
      row
        .map((cell, column) => cell.padEnd(widths[column] ?? 0))
        .join('  ')
        .trimEnd(),
    )
    .join('\n');
}
